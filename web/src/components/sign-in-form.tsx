// Signing in: name and password, and the second factor where one is asked for. The hub answers with a cookie that scripts cannot read.

import { useEffect, useRef, useState } from "preact/hooks";
import { api, asProblem } from "../api.ts";
import { announcement, signedIn } from "../store.ts";
import { PasswordField, TextField } from "./field.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

export function SignInForm() {
  const task = useTask();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  /** Name and password that were right, while the second factor is missing. */
  const [half, setHalf] = useState<{ name: string; secret: string } | null>(null);
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    if (half) form.current?.querySelector<HTMLInputElement>("[name=code]")?.focus();
  }, [half]);

  function signIn(name: string, secret: string, second?: string) {
    void task.run(async () => {
      try {
        signedIn((await api.signIn(name, secret, second)).user);
      } catch (error) {
        if (asProblem(error).code !== "second_factor_required") throw error;
        setHalf({ name, secret });
        announcement.value = "Name and password are right. Now the code from your authenticator app.";
      }
    });
  }

  function submit(event: Event) {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    if (half) {
      const given = code.replace(/\s/g, "");
      if (!given) return form.querySelector<HTMLInputElement>("[name=code]")?.focus();
      return signIn(half.name, half.secret, given);
    }
    // Password managers may fill without an input event: read the form itself.
    const given = new FormData(form);
    const name = String(given.get("username") ?? "").trim();
    const secret = String(given.get("password") ?? "");
    const empty = !name ? "username" : !secret ? "password" : null;
    if (empty) return form.querySelector<HTMLInputElement>(`[name=${empty}]`)?.focus();
    signIn(name, secret);
  }

  function again() {
    setHalf(null);
    setCode("");
    setPassword("");
    task.clear();
  }

  return (
    <form noValidate onSubmit={submit} ref={form}>
      {half ? (
        <TextField label="Second factor" name="code" mono exact autocomplete="one-time-code" value={code} onText={setCode} hint="The code from your authenticator app, or one of your recovery codes." />
      ) : (
        <>
          <TextField label="User name" name="username" autocomplete="username" exact value={username} onText={setUsername} />
          <PasswordField label="Password" name="password" autocomplete="current-password" value={password} onText={setPassword} />
        </>
      )}
      <ProblemNote problem={task.problem} />
      <button class="button primary wide" disabled={task.busy}>{task.busy ? "Signing in…" : "Sign in"}</button>
      {half && <button type="button" class="text-button" onClick={again}>Use another name or password</button>}
    </form>
  );
}
