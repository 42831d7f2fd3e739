// Labelled fields. Hints and errors belong to their input (`aria-describedby`), and an error keeps the hint's place.

import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";

interface FieldProps {
  label: string;
  name?: string;
  value: string;
  onText: (text: string) => void;
  autocomplete?: string;
  hint?: ComponentChildren;
  error?: string;
}

interface TextFieldProps extends FieldProps {
  type?: "text" | "datetime-local" | "date";
  optional?: boolean;
  /** A code or a name for machines: never corrected, never capitalised. */
  exact?: boolean;
  mono?: boolean;
  maxLength?: number;
  list?: string;
  placeholder?: string;
  inputMode?: "numeric" | "url";
  onLeave?: () => void;
}

export function TextField({ label, name, value, onText, autocomplete = "off", hint, error, type = "text", optional, exact, mono, maxLength, list, placeholder, inputMode, onLeave }: TextFieldProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}{optional && <span class="quiet"> (optional)</span>}</label>
      <input
        id={id}
        name={name}
        type={type as "text"}
        class={mono ? "mono" : undefined}
        value={value}
        onInput={(event) => onText(event.currentTarget.value)}
        onBlur={onLeave}
        autocomplete={autocomplete}
        {...(exact ? { autocapitalize: "off" as const, autocorrect: "off", spellcheck: false } : {})}
        maxLength={maxLength}
        list={list}
        placeholder={placeholder}
        inputMode={inputMode}
        aria-describedby={`${id}-hint`}
        aria-invalid={error ? true : undefined}
      />
      <Hint id={`${id}-hint`} hint={hint} error={error} />
    </div>
  );
}

export function PasswordField({ label, name, value, onText, autocomplete = "off", hint, error }: FieldProps) {
  const id = useId();
  const [shown, show] = useState(false);
  const described = { "aria-describedby": `${id}-hint`, "aria-invalid": error ? true : undefined } as const;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <div class="joined">
        <input
          id={id}
          name={name}
          type={(shown ? "text" : "password") as "text"}
          value={value}
          onInput={(event) => onText(event.currentTarget.value)}
          autocomplete={autocomplete}
          autocapitalize="off"
          spellcheck={false}
          {...described}
        />
        <button type="button" class="joined-button" aria-pressed={shown} aria-label="Show the password" onClick={() => show(!shown)}>
          {shown ? "Hide" : "Show"}
        </button>
      </div>
      <Hint id={`${id}-hint`} hint={hint} error={error} />
    </div>
  );
}

export function Hint({ id, hint, error }: { id: string; hint?: ComponentChildren; error?: string | undefined }) {
  return <p id={id} class={error ? "hint hint-bad" : "hint"} aria-live="polite">{error || hint}</p>;
}
