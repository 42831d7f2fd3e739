// The control for one value, whichever its type: for twin attributes and for the arguments of commands.

import { useEffect, useId, useRef, useState } from "preact/hooks";
import { formatValue, humanise, type Control } from "../controls.ts";
import type { Attribute, Json } from "../types.ts";
import { Switch } from "./switch.tsx";

interface ValueProps {
  label: string;
  attribute: Attribute;
  control: Exclude<Control, { kind: "reading" }>;
  value: Json | undefined;
  disabled?: boolean;
  describedBy: string;
  onChange: (value: Json) => void;
}

export function ValueInput(props: ValueProps) {
  const { control, value, label, disabled = false, describedBy, onChange } = props;
  switch (control.kind) {
    case "switch":
      return <Switch label={label} on={value === true} disabled={disabled} describedBy={describedBy} onChange={onChange} />;
    case "slider":
      return <Slider {...props} control={control} />;
    case "select": {
      const known = typeof value === "string" && control.values.includes(value);
      return (
        <select aria-label={label} aria-describedby={describedBy} disabled={disabled} value={known ? value : ""} onChange={(event) => onChange(event.currentTarget.value)}>
          {!known && <option value="" disabled>Choose…</option>}
          {control.values.map((each) => <option key={each} value={each}>{humanise(each)}</option>)}
        </select>
      );
    }
    case "number":
    case "text":
      return <Entry {...props} control={control} />;
  }
}

/** Shows the value while it is dragged, and asks for it once the hand (or the key) rests. */
function Slider({ label, attribute, control, value, disabled, describedBy, onChange }: ValueProps & { control: Extract<Control, { kind: "slider" }> }) {
  const { min, max, step } = control;
  const [draft, setDraft] = useState<number | null>(null);
  const rest = useRef<ReturnType<typeof setTimeout>>(undefined);
  const track = useRef<HTMLInputElement>(null);
  const shown = draft ?? (typeof value === "number" ? value : min);
  useEffect(() => track.current?.style.setProperty("--share", `${((shown - min) / (max - min)) * 100}%`), [shown, min, max]);
  useEffect(() => () => clearTimeout(rest.current), []);
  function settle(next: number) {
    clearTimeout(rest.current);
    rest.current = setTimeout(() => {
      setDraft(null);
      onChange(next);
    }, 250);
  }
  return (
    <div class="slider">
      <input
        ref={track}
        type="range"
        aria-label={label}
        aria-describedby={describedBy}
        aria-valuetext={formatValue(attribute, shown)}
        min={min}
        max={max}
        step={step}
        value={shown}
        disabled={disabled}
        onInput={(event) => {
          clearTimeout(rest.current);
          setDraft(event.currentTarget.valueAsNumber);
        }}
        onChange={(event) => settle(event.currentTarget.valueAsNumber)}
      />
      <output>{draft === null && typeof value !== "number" ? "–" : formatValue(attribute, shown)}</output>
    </div>
  );
}

function Entry({ label, attribute, control, value, disabled, describedBy, onChange }: ValueProps & { control: Extract<Control, { kind: "number" | "text" }> }) {
  const id = useId();
  const [draft, setDraft] = useState<string | null>(null);
  const shown = draft ?? (value === undefined || value === null ? "" : String(value));
  const field = useRef<HTMLInputElement>(null);
  function set() {
    if (draft === null) return;
    if (!field.current?.reportValidity()) return;
    if (control.kind === "number" && draft.trim() === "") return setDraft(null);
    onChange(control.kind === "number" ? Number(draft) : draft);
    setDraft(null);
  }
  return (
    <div class="joined">
      <input
        ref={field}
        id={id}
        aria-label={label}
        aria-describedby={describedBy}
        disabled={disabled}
        value={shown}
        onInput={(event) => setDraft(event.currentTarget.value)}
        onKeyDown={(event) => event.key === "Enter" && set()}
        {...(control.kind === "number"
          ? { type: "number", inputMode: "decimal" as const, step: control.step, ...(control.min === undefined ? {} : { min: control.min }), ...(control.max === undefined ? {} : { max: control.max }) }
          : { type: "text", maxLength: control.maxLength })}
      />
      {attribute.unit && <span class="joined-unit">{attribute.unit}</span>}
      <button type="button" class="joined-button" disabled={disabled || draft === null} onClick={set}>Set</button>
    </div>
  );
}
