// The very first page: the hub has no owner yet. Its one-time code proves that you are the one who stands before it.

import { useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { TextField } from "../components/field.tsx";
import { Gate } from "../components/gate.tsx";
import { NewPasswordField, useNewPassword } from "../components/new-password.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { useTask } from "../components/use-task.ts";
import { signedIn } from "../store.ts";

export function SetupPage() {
  const task = useTask();
  const [code, setCode] = useState("");
  const [name, setName] = useState("");
  const [username, setUsername] = useState("");
  const [tried, setTried] = useState(false);
  const password = useNewPassword(username.trim());
  const errors = {
    code: code.trim() ? "" : "Type the code that the hub printed.",
    username: username.trim() ? "" : "Choose a user name.",
    password: password.error,
  };

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    const wrong = Object.entries(errors).find(([, error]) => error);
    if (wrong) return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>(`[name=${wrong[0]}]`)?.focus();
    void task.run(async () => {
      const display = name.trim();
      const { user } = await access.setup({ code: code.trim(), username: username.trim(), password: password.text, ...(display ? { display_name: display } : {}) });
      location.hash = "#/";
      signedIn(user);
    });
  }

  return (
    <Gate title="Welcome home" lead="This hub has no owner yet. The first account becomes its owner.">
      <div class="note explains">
        <p><strong>The setup code</strong> proves that the hub is yours. The hub prints it when it starts: look at the console where <code>hearthkey hub</code> runs, or in its log. It works once.</p>
        <p><strong>An owner</strong> adds people, decides which makers to trust, and may suspend or remove any device. There can be more than one.</p>
      </div>
      <form noValidate onSubmit={submit}>
        <TextField
          label="Setup code"
          name="code"
          mono
          autocomplete="one-time-code"
          exact
          value={code}
          onText={setCode}
          hint="Three groups of four letters and digits."
          error={tried ? errors.code : ""}
        />
        <TextField label="Your name" name="name" optional autocomplete="name" value={name} onText={setName} hint="As others in this home will see it." />
        <TextField
          label="User name"
          name="username"
          autocomplete="username"
          exact
          value={username}
          onText={setUsername}
          hint="What you sign in with."
          error={tried ? errors.username : ""}
        />
        <NewPasswordField password={password} tried={tried} />
        <ProblemNote problem={task.problem} />
        <button class="button primary wide" disabled={task.busy}>{task.busy ? "Setting up…" : "Set up this hub"}</button>
      </form>
      <p class="quiet after">Next: have the label of your first device at hand. It carries the code that makes it yours.</p>
    </Gate>
  );
}
