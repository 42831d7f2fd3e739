// Signing in. The hub answers with a cookie that scripts cannot read.

import { useState } from "preact/hooks";
import { api } from "../api.ts";
import { PasswordField, TextField } from "../components/field.tsx";
import { Gate } from "../components/gate.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { useTask } from "../components/use-task.ts";
import { notice, signedIn } from "../store.ts";

export function SignInPage() {
  const task = useTask();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");

  function submit(event: Event) {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    // Password managers may fill without an input event: read the form itself.
    const given = new FormData(form);
    const name = String(given.get("username") ?? "").trim();
    const secret = String(given.get("password") ?? "");
    const empty = !name ? "username" : !secret ? "password" : null;
    if (empty) return form.querySelector<HTMLInputElement>(`[name=${empty}]`)?.focus();
    void task.run(async () => signedIn((await api.signIn(name, secret)).user));
  }

  return (
    <Gate title="Sign in" lead="To see and use what this home has entrusted to you.">
      <p class="note-place" role="status">{notice.value && <span class="note">{notice.value}</span>}</p>
      <form noValidate onSubmit={submit}>
        <TextField label="User name" name="username" autocomplete="username" exact value={username} onText={setUsername} />
        <PasswordField label="Password" name="password" autocomplete="current-password" value={password} onText={setPassword} />
        <ProblemNote problem={task.problem} />
        <button class="button primary wide" disabled={task.busy}>{task.busy ? "Signing in…" : "Sign in"}</button>
      </form>
      <p class="quiet after">No account yet? An owner of this home can add you under “People”.</p>
    </Gate>
  );
}
