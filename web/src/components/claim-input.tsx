// The field for a claim code: it groups what is typed, and says at once when it cannot be right.

import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { caretAfterFormat, formatTyped, parseClaimCode, parseLabel, SYMBOLS, type ClaimCode } from "../claim-code.ts";

export interface Claimed {
  text: string;
  deviceId: string | null;
}

export function ClaimInput({ value, onChange, ask }: { value: Claimed; onChange: (value: Claimed) => void; ask: boolean }) {
  const id = useId();
  const field = useRef<HTMLInputElement>(null);
  const caret = useRef<number | null>(null);
  const [, redraw] = useState(0);
  useLayoutEffect(() => {
    if (caret.current !== null) field.current?.setSelectionRange(caret.current, caret.current);
    caret.current = null;
  });

  function typed(input: HTMLInputElement) {
    const label = parseLabel(input.value);
    if (label) return onChange({ text: label.code, deviceId: label.deviceId });
    // The beginning of a QR text that is typed by hand stays as it is until it is whole.
    if (/^\s*HK1:/i.test(input.value)) return onChange({ text: input.value, deviceId: value.deviceId });
    caret.current = caretAfterFormat(input.value, input.selectionStart ?? input.value.length);
    onChange({ text: formatTyped(input.value), deviceId: value.deviceId });
    redraw((n) => n + 1);
  }

  /** Backspace over a hyphen takes the symbol before it: the hyphen itself would come back at once. */
  function erase(event: KeyboardEvent) {
    const input = event.currentTarget as HTMLInputElement;
    const at = input.selectionStart ?? 0;
    if (event.key === "Backspace" && at === input.selectionEnd && input.value.charAt(at - 1) === "-") input.setSelectionRange(at - 1, at - 1);
  }

  const state = parseClaimCode(value.text);
  const [tone, text] = say(state, value.text, ask);
  return (
    <div class="field">
      <label for={id}>Claim code</label>
      <input
        ref={field}
        id={id}
        name="code"
        class="mono claim-code"
        autocomplete="off"
        autocapitalize="characters"
        autocorrect="off"
        spellcheck={false}
        enterkeyhint="done"
        placeholder="ABC-DEF-…"
        value={value.text}
        aria-describedby={`${id}-hint`}
        aria-invalid={tone === "bad" ? true : undefined}
        onInput={(event) => typed(event.currentTarget)}
        onKeyDown={erase}
      />
      <div class={`meter ${tone}`} aria-hidden="true"><span ref={(bar) => bar?.style.setProperty("--share", `${share(state)}%`)} /></div>
      <p id={`${id}-hint`} class={`hint hint-${tone}`} aria-live="polite">{text}</p>
    </div>
  );
}

function say(state: ClaimCode, text: string, ask: boolean): ["plain" | "good" | "bad", string] {
  if (/^\s*HK1:/i.test(text)) return ["plain", "Go on: the whole text of the QR code."];
  switch (state.kind) {
    case "empty":
      return ask ? ["bad", "Type the code from the label."] : ["plain", "21 letters and digits from the label, or the text of its QR code."];
    case "stray":
      return ["bad", state.character === "U" ? "No code has a U. Is it a V?" : `No code has the character “${state.character}”.`];
    case "short":
      return [ask ? "bad" : "plain", `${state.typed} of ${SYMBOLS}${ask ? ": some are missing." : ""}`];
    case "long":
      return ["bad", `${state.typed - SYMBOLS} too many: a code has ${SYMBOLS}.`];
    case "mistyped":
      return ["bad", "There is a typing error: the symbols do not fit together. Compare them with the label."];
    case "whole":
      return ["good", "The code is complete and free of typing errors."];
  }
}

function share(state: ClaimCode): number {
  if (state.kind === "short") return (state.typed / SYMBOLS) * 100;
  return state.kind === "empty" ? 0 : 100;
}
