// One's own account: name, password, what else guards it, where one is signed in, and one's data.

import { useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { api } from "../api.ts";
import { TextField } from "../components/field.tsx";
import { OwnData } from "../components/own-data.tsx";
import { Page } from "../components/page.tsx";
import { PasswordChange } from "../components/password-change.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { RecoveryCode } from "../components/recovery-code.tsx";
import { SecondFactor } from "../components/second-factor.tsx";
import { Sessions } from "../components/sessions.tsx";
import { SettingsNav } from "../components/settings-nav.tsx";
import { useTask } from "../components/use-task.ts";
import { ROLE_NAMES } from "../rights.ts";
import { announcement, me, people, signedOut } from "../store.ts";

export function SettingsPage() {
  const task = useTask();
  const user = me.value;
  if (!user) return null;
  return (
    <Page title="Settings">
      <SettingsNav />
      <section class="panel" aria-labelledby="you-heading">
        <h2 id="you-heading">You</h2>
        <div class="split">
          <p><strong>{user.display_name || user.username}</strong><br /><span class="quiet">{user.username} · {ROLE_NAMES[user.role].toLowerCase()}{user.brand && ` of ${user.brand}`}</span></p>
          <button type="button" class="button" disabled={task.busy} onClick={() => void task.run(async () => { await api.signOut(); signedOut("You are signed out."); })}>Sign out</button>
        </div>
        <ProblemNote problem={task.problem} />
        <Naming />
        <PasswordChange />
      </section>
      <section class="panel" aria-labelledby="guard-heading">
        <h2 id="guard-heading">What else guards your account</h2>
        <SecondFactor />
        {user.role === "owner" && <RecoveryCode />}
      </section>
      <Sessions />
      <OwnData />
    </Page>
  );
}

function Naming() {
  const task = useTask();
  const [name, setName] = useState(me.value?.display_name ?? "");
  const changed = name.trim() !== (me.value?.display_name ?? "");
  function submit(event: Event) {
    event.preventDefault();
    void task.run(async () => {
      const user = await access.rename(name.trim());
      me.value = user;
      people.value = people.value.map((each) => (each.id === user.id ? user : each));
      announcement.value = "Your name is changed.";
    });
  }
  return (
    <details class="inner">
      <summary>Change your name</summary>
      <form class="slim" noValidate onSubmit={submit}>
        <TextField label="Name" autocomplete="name" maxLength={64} value={name} onText={setName} hint="As others in this home see it. You go on signing in with your user name." />
        <ProblemNote problem={task.problem} />
        <button class="button" disabled={!changed || task.busy}>{task.busy ? "Saving…" : "Save"}</button>
      </form>
    </details>
  );
}
