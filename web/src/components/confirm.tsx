// A button that asks once more, in place, before something that cannot be taken back.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

interface ConfirmProps {
  label: string;
  /** For screen readers, where several stand on a page. */
  spoken?: string;
  question: ComponentChildren;
  yes: string;
  no?: string;
  /** As a link among others, not as a button of its own. */
  quiet?: boolean;
  busy: boolean;
  onYes: () => void;
}

export function Confirm({ label, spoken = label, question, yes, no = "Keep it", quiet, busy, onYes }: ConfirmProps) {
  const [open, setOpen] = useState(false);
  const first = useRef<HTMLButtonElement>(null);
  const opener = useRef<HTMLButtonElement>(null);
  const wasOpen = useRef(false);
  useEffect(() => {
    if (open) first.current?.focus();
    else if (wasOpen.current) opener.current?.focus();
    wasOpen.current = open;
  }, [open]);
  if (!open) return <button ref={opener} type="button" class={quiet ? "text-button" : "button danger"} aria-label={spoken} disabled={busy} onClick={() => setOpen(true)}>{label}</button>;
  return (
    <div class="confirm" role="group" aria-label={spoken} onKeyDown={(event) => event.key === "Escape" && setOpen(false)}>
      <div>{question}</div>
      <div class="buttons">
        <button ref={first} type="button" class="button" onClick={() => setOpen(false)}>{no}</button>
        <button type="button" class="button danger solid" disabled={busy} onClick={onYes}>{yes}</button>
      </div>
    </div>
  );
}
