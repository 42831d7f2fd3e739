// The networks somebody or something may come from, one a line.

import { useId } from "preact/hooks";
import { Hint } from "./field.tsx";

export function NetworksField({ value, onText, error }: { value: string; onText: (text: string) => void; error?: string }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>Networks</label>
      <textarea id={id} name="networks" class="mono" rows={2} spellcheck={false} autocapitalize="off" value={value} placeholder="192.0.2.0/24" aria-describedby={`${id}-hint`} aria-invalid={error ? true : undefined} onInput={(event) => onText(event.currentTarget.value)} />
      <Hint id={`${id}-hint`} hint="From where they may come, one a line. From anywhere else they are refused." error={error} />
    </div>
  );
}
