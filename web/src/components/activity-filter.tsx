// Narrowing the activity: who, which device, what, how it ended, when.

import { useId } from "preact/hooks";
import type { AuditFilter } from "../access-api.ts";
import { ACTS } from "../audit/acts.ts";
import { devices, people } from "../store.ts";
import { nameOf } from "./badges.tsx";
import { TextField } from "./field.tsx";

export interface Chosen {
  actor: string;
  object: string;
  action: string;
  outcome: string;
  since: string;
  until: string;
}

export const NO_FILTER: Chosen = { actor: "", object: "", action: "", outcome: "", since: "", until: "" };

/** What is sent to the hub; a day that cannot be read is left out, and the last day counts whole. */
export function filterOf({ since, until, ...words }: Chosen): AuditFilter {
  const from = since ? new Date(`${since}T00:00`).getTime() : NaN;
  const to = until ? new Date(`${until}T00:00`) : null;
  const end = to ? to.setDate(to.getDate() + 1) : NaN;
  return {
    ...Object.fromEntries(Object.entries(words).filter(([, value]) => value !== "")),
    ...(Number.isNaN(from) ? {} : { since: from }),
    ...(Number.isNaN(end) ? {} : { until: end }),
  };
}

const SHOWN = [
  { label: "Everything", outcome: "" },
  { label: "Refused only", outcome: "denied" },
];

export function ActivityFilter({ chosen, others, onChoose }: { chosen: Chosen; others: Record<string, string>; onChoose: (chosen: Chosen) => void }) {
  const set = (field: keyof Chosen) => (value: string) => onChoose({ ...chosen, [field]: value });
  const { outcome, ...rest } = chosen;
  const narrowed = Object.values(rest).filter(Boolean).length;
  const actors = [...people.value.map((user) => [`user:${user.id}`, user.display_name || user.username] as const), ...Object.entries(others), ["hub", "The hub"] as const];
  const things = [...(devices.value?.values() ?? [])].map((device) => [device.id, nameOf(device)] as const).sort((a, b) => a[1].localeCompare(b[1]));
  return (
    <div class="filters">
      <div class="filter" role="group" aria-label="What to show">
        {SHOWN.map((each) => <button key={each.label} type="button" aria-pressed={outcome === each.outcome} onClick={() => set("outcome")(each.outcome)}>{each.label}</button>)}
      </div>
      <details class="inner">
        <summary>Narrow it down{narrowed > 0 ? ` (${narrowed})` : ""}</summary>
        <div class="two">
          <Select label="Who" value={chosen.actor} all="Anybody" choices={actors} onChange={set("actor")} />
          <Select label="Device" value={chosen.object} all="Any device" choices={things} onChange={set("object")} />
          <Select label="What" value={chosen.action} all="Anything" choices={Object.entries(ACTS)} onChange={set("action")} />
          <div class="two dates">
            <TextField label="From day" type="date" value={chosen.since} onText={set("since")} />
            <TextField label="To day" type="date" value={chosen.until} onText={set("until")} />
          </div>
        </div>
        {narrowed > 0 && <button type="button" class="text-button" onClick={() => onChoose({ ...NO_FILTER, outcome })}>Look at everything again</button>}
      </details>
    </div>
  );
}

function Select({ label, value, all, choices, onChange }: { label: string; value: string; all: string; choices: readonly (readonly [string, string])[]; onChange: (value: string) => void }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        <option value="">{all}</option>
        {choices.map(([each, name]) => <option key={each} value={each}>{name}</option>)}
      </select>
      <p class="hint" />
    </div>
  );
}
