// The frame of the pages before sign-in.

import type { ComponentChildren } from "preact";
import { hub } from "../store.ts";
import { CloudMark } from "./cloud-mark.tsx";
import { Logo } from "./icon.tsx";
import { useTitle } from "./page.tsx";

export function Gate({ title, lead, children }: { title: string; lead: string; children: ComponentChildren }) {
  useTitle(title);
  return (
    <main class="gate">
      <div class="gate-brand"><Logo /><span>{hub.value?.name || "Hearthkey"}</span></div>
      <CloudMark />
      <h1>{title}</h1>
      <p class="lead">{lead}</p>
      {children}
      {hub.value && <p class="gate-foot quiet">Hub <code>{hub.value.hub_id}</code></p>}
    </main>
  );
}
