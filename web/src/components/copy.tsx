// A long value that people carry elsewhere, with a button that copies it.

import { useRef, useState } from "preact/hooks";

export function Copyable({ label, text, wrap = false, lines = false }: { label: string; text: string; wrap?: boolean; lines?: boolean }) {
  const [said, say] = useState("");
  const value = useRef<HTMLElement>(null);
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      // No permission, or an old browser: select it, so that one key press copies it.
      if (value.current) getSelection()?.selectAllChildren(value.current);
      say("Selected: press Ctrl+C");
    }
    setTimeout(() => say(""), 4000);
  }
  return (
    <div class="copyable">
      <code ref={value} class={`code${wrap ? " code-tall" : ""}${lines ? " code-lines" : ""}`} tabIndex={wrap ? 0 : undefined} role={wrap ? "group" : undefined} aria-label={wrap ? label : undefined}>{text}</code>
      <button type="button" class="button small" aria-label={`Copy ${label}`} onClick={() => void copy()}>
        <span aria-live="polite">{said || "Copy"}</span>
      </button>
    </div>
  );
}
