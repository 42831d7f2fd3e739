// Codes to keep on paper: shown once, to print or copy. Printing prints nothing else of the page.

import { useEffect, useRef, useState } from "preact/hooks";
import { hub } from "../store.ts";

export function Sheet({ title, lead, lines, file, onDone }: { title: string; lead: string; lines: string[]; file: string; onDone: () => void }) {
  const [kept, keep] = useState(false);
  const top = useRef<HTMLDivElement>(null);
  const [said, say] = useState("");
  async function copy() {
    try {
      await navigator.clipboard.writeText(lines.join("\n"));
      say("Copied. Paste it where only you look.");
    } catch {
      say("This browser does not let the page copy. Print it, or write it down.");
    }
  }
  useEffect(() => top.current?.focus(), []);
  return (
    <div class="sheet" tabIndex={-1} ref={top} role="group" aria-label={title}>
      <h3>{title}</h3>
      <p class="sheet-file">{hub.value?.name || "Hearthkey"} · hub {hub.value?.hub_id} · {file}</p>
      <p>{lead}</p>
      {lines.length > 1 ? <ol class="codes">{lines.map((line) => <li key={line}><code>{line}</code></li>)}</ol> : <p class="code-alone"><code>{lines[0]}</code></p>}
      <div class="no-print">
        <div class="buttons">
          <button type="button" class="button" onClick={() => window.print()}>Print</button>
          <button type="button" class="button" onClick={() => void copy()}>Copy</button>
        </div>
        <p class="hint" role="status">{said}</p>
        <label class="tick"><input type="checkbox" checked={kept} onChange={(event) => keep(event.currentTarget.checked)} /><span>{lines.length > 1 ? "I have kept them. They are" : "I have kept it. It is"} not shown again.</span></label>
        <button type="button" class="button" disabled={!kept} onClick={onDone}>Done</button>
      </div>
    </div>
  );
}
