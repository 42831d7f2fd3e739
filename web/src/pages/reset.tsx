// A new password for who has lost theirs: with the code of a reset link, or with a recovery code. Without one, who can help.

import { useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { TextField } from "../components/field.tsx";
import { Gate } from "../components/gate.tsx";
import { NewPasswordField, useNewPassword } from "../components/new-password.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { useTask } from "../components/use-task.ts";
import { givenCode, go } from "../route.ts";
import { signedOut } from "../store.ts";

export function ResetPage() {
  const task = useTask();
  const [typed, setTyped] = useState("");
  const [tried, setTried] = useState(false);
  const password = useNewPassword("");
  const linked = givenCode.value !== "";
  const code = linked ? givenCode.value : typed.trim();
  const codeError = code ? "" : "Type the code.";

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (codeError || password.error) return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>(codeError ? "[name=code]" : "[name=password]")?.focus();
    void task.run(async () => {
      await access.resetPassword(code, password.text);
      givenCode.value = "";
      signedOut("Your password is changed, and you are signed out everywhere. Sign in with the new one.");
      go("#/");
    });
  }

  return (
    <Gate title={linked ? "Choose a new password" : "Forgot your password?"} lead={linked ? "Then sign in with it. Wherever you are signed in now, you are signed out." : "Nothing is lost. Somebody in this home can help, or a code that you kept."}>
      {!linked && (
        <div class="note explains">
          <p><strong>An owner</strong> can make a link for you: they open “People”, find your name, and choose “Reset link”. It works once, for a day.</p>
          <p><strong>You are the owner?</strong> Type your recovery code below. It is the one that you printed or wrote down in “Settings”.</p>
          <p><strong>No code, no owner?</strong> Whoever holds the hub's box can run <code>hearthkey hub reset-password</code> there. It prints a code for below.</p>
        </div>
      )}
      <form noValidate onSubmit={submit}>
        {!linked && <TextField label="Recovery code or reset code" name="code" mono exact autocomplete="one-time-code" value={typed} onText={setTyped} hint="Capital or small letters, with or without hyphens." error={tried ? codeError : ""} />}
        <NewPasswordField label="New password" password={password} tried={tried} />
        <ProblemNote problem={task.problem} />
        <button class="button primary wide" disabled={task.busy}>{task.busy ? "Changing…" : "Change password"}</button>
      </form>
      <ul class="ways">
        {linked && <li><button type="button" class="text-button" onClick={() => (givenCode.value = "")}>Type another code</button></li>}
        <li><a href="#/">Back to sign-in</a></li>
      </ul>
    </Gate>
  );
}
