// What people choose about firmware, for a model or for one device: by itself, with a yes, or not; when; to whom first; when to stop.

import { useId, useState } from "preact/hooks";
import { MODES, policyErrors } from "../firmware-words.ts";
import type { Mode, Policy } from "../firmware-api.ts";
import { announcement, hubClock } from "../store.ts";
import { Hint, TextField } from "./field.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";
import { WindowFields } from "./window-fields.tsx";

const NIGHT = { days: ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], from: "02:00", to: "05:00" };

/** `whole`: for all devices of a model, and so also to whom first and when to stop. */
export function PolicyForm({ policy, whole, onSave }: { policy: Policy; whole: boolean; onSave: (policy: Policy) => Promise<unknown> }) {
  const id = useId();
  const task = useTask();
  const [mode, setMode] = useState<Mode>(policy.mode);
  const [window, setWindow] = useState(policy.window);
  const [percent, setPercent] = useState(String(policy.percent));
  const [after, setAfter] = useState(String(policy.stop.after));
  const [failed, setFailed] = useState(String(policy.stop.percent));
  const [tried, setTried] = useState(false);
  const number = (text: string) => (/^\d{1,7}$/.test(text.trim()) ? Number(text) : NaN);
  // While it is held the rest does not show, and stays as it is.
  const chosen: Policy = mode === "hold" ? { ...policy, mode } : { mode, window, percent: number(percent), stop: { after: number(after), percent: number(failed) } };
  const errors = policyErrors(chosen);
  const zone = hubClock.value?.time_zone;
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    const form = event.currentTarget as HTMLFormElement;
    const wrong = errors.window ? "[type=checkbox]" : errors.percent ? "[name=percent]" : errors.stop ? "[name=after]" : "";
    if (wrong) return form.querySelector<HTMLInputElement>(wrong)?.focus();
    void task.run(async () => {
      await onSave(chosen);
      announcement.value = "Saved.";
    });
  }
  return (
    <form class="right-form" noValidate onSubmit={submit}>
      <fieldset class="choices">
        <legend>A new version</legend>
        {(Object.keys(MODES) as Mode[]).map((each) => (
          <label key={each}>
            <input type="radio" name={`${id}-mode`} checked={mode === each} onChange={() => setMode(each)} />
            <span><strong>{MODES[each].label}</strong><span class="quiet">{MODES[each].means}</span></span>
          </label>
        ))}
      </fieldset>
      {mode !== "hold" && (
        <>
          <fieldset class="weekly" aria-describedby={`${id}-window`}>
            <legend>When it is installed</legend>
            <label class="tick"><input type="checkbox" checked={window === null} onChange={(event) => setWindow(event.currentTarget.checked ? null : NIGHT)} /><span>At any time</span></label>
            {window && <WindowFields window={window} set={setWindow} />}
            <Hint id={`${id}-window`} hint={window ? `Installing begins then, by the clock of this home${zone ? ` (${zone.replace(/_/g, " ")})` : ""}; the file is fetched before.` : ""} error={tried ? errors.window : ""} />
          </fieldset>
          {whole && (
            <>
              <TextField label="Devices that get it first, in percent" name="percent" exact inputMode="numeric" value={percent} onText={setPercent} hint="Always the same share for one version: raise it when all is well." error={tried ? errors.percent : ""} />
              <div class="two">
                <TextField label="Stop after so many tries" name="after" exact inputMode="numeric" value={after} onText={setAfter} hint="Not before." error={tried ? errors.stop : ""} />
                <TextField label="when more than so many percent fail" name="failed" exact inputMode="numeric" value={failed} onText={setFailed} hint="Nobody else is offered it then." />
              </div>
            </>
          )}
        </>
      )}
      <ProblemNote problem={task.problem} />
      <div class="buttons"><button class="button primary" disabled={task.busy}>{task.busy ? "Saving…" : "Save"}</button></div>
    </form>
  );
}
