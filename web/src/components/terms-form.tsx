// The terms of a right as a part of a form: how far it goes, for how long, and what limits it beside.

import { useId, useState } from "preact/hooks";
import type { TermsToGive } from "../access-api.ts";
import { present } from "../clock.ts";
import { humanise } from "../controls.ts";
import { ENDINGS, endOf, lasting, localTime, mayGive, RIGHTS, type Ending } from "../rights.ts";
import { hubClock } from "../store.ts";
import { usesOf, windowError } from "../terms.ts";
import type { Model, Privilege, Terms, Window } from "../types.ts";
import { Hint, TextField } from "./field.tsx";
import { WindowFields } from "./window-fields.tsx";

/** Terms as they are being chosen. */
export interface Draft {
  privilege: Privilege;
  ending: Ending;
  until: string;
  begins: string;
  windows: Window[];
  uses: string;
  only: string[] | null;
}

/** What a giver has: nobody gives more, nor for longer. */
export type Bounds = Pick<Terms, "privilege" | "until"> & Partial<Pick<Terms, "from">>;

export function draftOf(own: Bounds, changes?: Terms): Draft {
  return {
    privilege: changes?.privilege ?? (own.privilege === "view" ? "view" : "operate"),
    ending: changes?.until || own.until ? "until" : "good",
    until: localTime(changes?.until ?? own.until ?? present() + 3_600_000),
    begins: changes?.from ? localTime(changes.from) : "",
    windows: changes?.windows ?? [],
    uses: changes?.uses === null || changes?.uses === undefined ? "" : String(changes.uses),
    only: changes?.only ?? null,
  };
}

const FOR_A_THING: Record<Privilege, string> = {
  view: "It hears what this device reports, and can change nothing.",
  operate: "It also works it, except what is critical, such as opening a door.",
  manage: "It works all of it, also what is critical. Say below what exactly.",
  administer: "It may do all of this, and give rights to others. Things hardly ever need this.",
};

export interface Read {
  terms: TermsToGive;
  end: number | null;
  /** What is wrong, by field. */
  errors: { until: string; begins: string; windows: string; uses: string; only: string };
}

export function readDraft(draft: Draft, own: Bounds, now: number): Read {
  const end = endOf(draft.ending, now, draft.until);
  const typed = draft.begins ? new Date(draft.begins).getTime() : null;
  const from = typed ?? (own.from && own.from > now ? own.from : null);
  const uses = usesOf(draft.uses);
  const errors = {
    until: Number.isNaN(end)
      ? "Choose a time that is still to come."
      : own.until !== null && (end === null || end > own.until)
        ? `Your own right lasts ${lasting({ from: null, until: own.until }, now)}: nobody gets it for longer.`
        : "",
    begins: Number.isNaN(from) ? "Choose a day and a time, or leave it empty." : from !== null && end !== null && from >= end ? "It has to begin before it ends." : "",
    windows: draft.windows.map(windowError).find(Boolean) ?? "",
    uses: Number.isNaN(uses) ? "A number from 1 to 10000, or nothing for any number." : "",
    only: draft.only?.length === 0 ? "Choose at least one function, or all of them." : "",
  };
  const terms: TermsToGive = {
    privilege: draft.privilege,
    ...(from === null ? {} : { from }),
    ...(end === null ? {} : { until: end }),
    ...(draft.windows.length > 0 ? { windows: draft.windows } : {}),
    ...(uses === null ? {} : { uses }),
    ...(draft.only ? { only: draft.only } : {}),
  };
  return { terms, end, errors };
}

export function firstError({ errors }: Read): keyof Read["errors"] | undefined {
  return (Object.keys(errors) as (keyof Read["errors"])[]).find((each) => errors[each]);
}

export function TermsFields({ draft, set, own, model, tried, thing }: {
  draft: Draft;
  set: (draft: Draft) => void;
  own: Bounds;
  model?: Model | undefined;
  tried: boolean;
  /** The holder is no person. */
  thing?: boolean;
}) {
  const id = useId();
  const read = readDraft(draft, own, present());
  const error = (field: keyof Read["errors"]) => (tried ? read.errors[field] : "");
  const limited = draft.windows.length > 0 || draft.uses !== "" || draft.only !== null || draft.begins !== "";
  // A fold that holds something wrong is open.
  const [opened, setOpened] = useState(limited);
  const wrong = tried && Boolean(read.errors.begins || read.errors.windows || read.errors.uses || read.errors.only);
  return (
    <>
      <fieldset class="choices">
        <legend>{thing ? "What it may do" : "What they may do"}</legend>
        {mayGive(own.privilege).map((each) => (
          <label key={each}>
            <input type="radio" name={`${id}-privilege`} checked={draft.privilege === each} onChange={() => set({ ...draft, privilege: each })} />
            <span><strong>{capital(RIGHTS[each].does)}</strong><span class="quiet">{thing ? FOR_A_THING[each] : RIGHTS[each].means}</span></span>
          </label>
        ))}
      </fieldset>
      <fieldset class="pills" aria-describedby={`${id}-ends`}>
        <legend>For how long</legend>
        {(Object.keys(ENDINGS) as Ending[]).map((each) => (
          <label key={each}>
            <input class="visually-hidden" type="radio" name={`${id}-ending`} checked={draft.ending === each} onChange={() => set({ ...draft, ending: each })} />
            <span>{ENDINGS[each]}</span>
          </label>
        ))}
      </fieldset>
      {draft.ending === "until"
        ? <TextField label="Ends" name="until" type="datetime-local" value={draft.until} onText={(until) => set({ ...draft, until })} error={error("until")} />
        : <Hint id={`${id}-ends`} hint={read.end === null ? "Until somebody takes it away." : capital(`${lasting({ from: null, until: read.end }, present())}.`)} error={error("until")} />}
      <details class="inner limits" open={opened || wrong} onToggle={(event) => setOpened(event.currentTarget.open)}>
        <summary>More limits{limited ? " (some are set)" : ""}</summary>
        <Weekly windows={draft.windows} set={(windows) => set({ ...draft, windows })} error={error("windows")} />
        <div class="two">
          <TextField label="Number of uses" name="uses" optional exact value={draft.uses} onText={(uses) => set({ ...draft, uses })} hint="Each command and each setting counts." error={error("uses")} />
          <TextField label="Begins" name="begins" optional type="datetime-local" value={draft.begins} onText={(begins) => set({ ...draft, begins })} hint="At once, if left empty." error={error("begins")} />
        </div>
        <Functions model={model} only={draft.only} set={(only) => set({ ...draft, only })} error={error("only")} />
      </details>
    </>
  );
}

function Weekly({ windows, set, error }: { windows: Window[]; set: (windows: Window[]) => void; error: string }) {
  const id = useId();
  const zone = hubClock.value?.time_zone;
  const change = (at: number, window: Window) => set(windows.map((each, index) => (index === at ? window : each)));
  return (
    <fieldset class="weekly" aria-describedby={`${id}-hint`}>
      <legend>Only at these times of the week</legend>
      {windows.map((window, at) => (
        <div class="window" key={at} role="group" aria-label={`Time ${at + 1}`}>
          <WindowFields window={window} set={(next) => change(at, next)}>
            <button type="button" class="text-button" aria-label={`Leave out time ${at + 1}`} onClick={() => set(windows.filter((_, index) => index !== at))}>Leave out</button>
          </WindowFields>
        </div>
      ))}
      {windows.length < 14 && <button type="button" class="button small" onClick={() => set([...windows, { days: ["mon", "tue", "wed", "thu", "fri"], from: "08:00", to: "18:00" }])}>{windows.length === 0 ? "Choose days and times" : "Another time"}</button>}
      <Hint id={`${id}-hint`} hint={windows.length === 0 ? "At any time, if none is chosen." : `By the clock of this home${zone ? ` (${zone.replace(/_/g, " ")})` : ""}.`} error={error} />
    </fieldset>
  );
}

/** The attributes and commands of the device, to choose some. */
function Functions({ model, only, set, error }: { model: Model | undefined; only: string[] | null; set: (only: string[] | null) => void; error: string }) {
  const id = useId();
  const all = [...Object.entries(model?.attributes ?? {}), ...Object.entries(model?.commands ?? {})].map(([name, each]) => ({ name, title: each.title ?? humanise(name) }));
  if (all.length === 0 && !only) return null;
  // A name that the model does not know (any more) stays to be seen and taken out.
  for (const name of only ?? []) if (!all.some((each) => each.name === name)) all.push({ name, title: humanise(name) });
  return (
    <fieldset class="weekly" aria-describedby={`${id}-hint`}>
      <legend>Only these functions</legend>
      <label class="tick">
        <input type="checkbox" checked={only === null} onChange={(event) => set(event.currentTarget.checked ? null : [])} />
        <span>All of them</span>
      </label>
      {only && (
        <div class="ticks">
          {all.map(({ name, title }) => (
            <label class="tick" key={name}>
              <input type="checkbox" checked={only.includes(name)} onChange={(event) => set(event.currentTarget.checked ? [...only, name] : only.filter((each) => each !== name))} />
              <span>{title}</span>
            </label>
          ))}
        </div>
      )}
      <Hint id={`${id}-hint`} error={error} />
    </fieldset>
  );
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
