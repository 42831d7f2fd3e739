// A step that takes one's password first, so that an unlocked screen alone does not suffice.

import { useState } from "preact/hooks";
import { PasswordField } from "./field.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

export function PasswordStep({ button, busy, danger, onGo }: { button: string; busy: string; danger?: boolean; onGo: (password: string) => Promise<unknown> }) {
  const task = useTask();
  const [password, setPassword] = useState("");
  const [tried, setTried] = useState(false);
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (!password) return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>("[name=current]")?.focus();
    void task.run(async () => {
      await onGo(password);
      setPassword("");
      setTried(false);
    });
  }
  return (
    <form class="slim" noValidate onSubmit={submit}>
      <PasswordField label="Your password" name="current" autocomplete="current-password" value={password} onText={(text) => { setPassword(text); task.clear(); }} error={tried && !password ? "Type your password." : ""} />
      <ProblemNote problem={task.problem} />
      <button class={danger ? "button danger solid" : "button"} disabled={task.busy}>{task.busy ? busy : button}</button>
    </form>
  );
}
