// A page's heading and title.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { hub } from "../store.ts";

export function Page({ title, back, actions, children }: { title: string; back?: string; actions?: ComponentChildren; children: ComponentChildren }) {
  useTitle(title);
  return (
    <>
      <header class="page-head">
        <div>
          {back && <a class="back" href={back}>‹ All devices</a>}
          <h1 tabIndex={-1}>{title}</h1>
        </div>
        {actions}
      </header>
      {children}
    </>
  );
}

export function useTitle(title: string) {
  const name = hub.value?.name || "Hearthkey";
  useEffect(() => {
    document.title = `${title} · ${name}`;
  }, [title, name]);
}
