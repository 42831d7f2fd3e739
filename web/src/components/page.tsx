// A page's heading and title.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { hub } from "../store.ts";

export function Page({ title, back, actions, children }: { title: string; back?: string; actions?: ComponentChildren; children: ComponentChildren }) {
  const heading = useFirstLook(title);
  return (
    <>
      <header class="page-head">
        <div>
          {back && <a class="back" href={back}>‹ All devices</a>}
          <h1 tabIndex={-1} ref={heading}>{title}</h1>
        </div>
        {actions}
      </header>
      {children}
    </>
  );
}

/** A new page begins at its heading, for eyes and for screen readers; at once, so that no later moment takes the focus from a field. */
export function useFirstLook(title: string) {
  const heading = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => heading.current?.focus({ preventScroll: true }), []);
  useTitle(title);
  return heading;
}

export function useTitle(title: string) {
  const name = hub.value?.name || "Hearthkey";
  useEffect(() => {
    document.title = `${title} · ${name}`;
  }, [title, name]);
}
