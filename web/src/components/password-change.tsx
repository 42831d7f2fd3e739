// A new password for oneself; it takes the present one.

import { useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { announcement, me } from "../store.ts";
import { PasswordField } from "./field.tsx";
import { NewPasswordField, useNewPassword } from "./new-password.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

const DONE = "Your password is changed. Wherever else you were signed in, you are signed out.";

export function PasswordChange() {
  const task = useTask();
  const [current, setCurrent] = useState("");
  const next = useNewPassword(me.value?.username ?? "");
  const [tried, setTried] = useState(false);
  const [done, setDone] = useState(false);
  const errors = {
    current: current ? "" : "Type your present password.",
    new: next.error || (next.text === current ? "This is your present password." : ""),
  };
  // The hub names the field that is wrong; it is said there.
  const wrong = task.problem?.status === 422 && task.problem.detail.startsWith("current:");

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    setDone(false);
    const first = Object.entries(errors).find(([, error]) => error);
    if (first) return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>(`[name=${first[0]}]`)?.focus();
    void task.run(async () => {
      await access.changePassword(current, next.text);
      setCurrent("");
      next.set("");
      setTried(false);
      setDone(true);
      announcement.value = DONE;
    });
  }

  return (
    <details class="inner">
      <summary>Change your password</summary>
      <form class="slim" noValidate onSubmit={submit}>
        <PasswordField label="Present password" name="current" autocomplete="current-password" value={current} onText={(text) => { setCurrent(text); if (wrong) task.clear(); }} error={wrong ? "This is not your present password." : tried ? errors.current : ""} />
        <NewPasswordField label="New password" name="new" password={next} tried={tried} error={tried ? errors.new : ""} />
        <ProblemNote problem={wrong ? null : task.problem} />
        {done && <div class="note note-good"><p>{DONE}</p></div>}
        <button class="button" disabled={task.busy}>{task.busy ? "Changing…" : "Change password"}</button>
      </form>
    </details>
  );
}
