// A button that asks once more, in place, before something that cannot be taken back.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

export function Confirm({ label, question, yes, busy, onYes }: { label: string; question: ComponentChildren; yes: string; busy: boolean; onYes: () => void }) {
  const [open, setOpen] = useState(false);
  const first = useRef<HTMLButtonElement>(null);
  const opener = useRef<HTMLButtonElement>(null);
  const wasOpen = useRef(false);
  useEffect(() => {
    if (open) first.current?.focus();
    else if (wasOpen.current) opener.current?.focus();
    wasOpen.current = open;
  }, [open]);
  if (!open) return <button ref={opener} type="button" class="button danger" disabled={busy} onClick={() => setOpen(true)}>{label}</button>;
  return (
    <div class="confirm" role="group" aria-label={label} onKeyDown={(event) => event.key === "Escape" && setOpen(false)}>
      <p>{question}</p>
      <div class="buttons">
        <button ref={first} type="button" class="button" onClick={() => setOpen(false)}>Keep it</button>
        <button type="button" class="button danger solid" disabled={busy} onClick={onYes}>{yes}</button>
      </div>
    </div>
  );
}
