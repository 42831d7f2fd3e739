// Who lives and visits here, and adding somebody.

import { useEffect, useState } from "preact/hooks";
import { api } from "../api.ts";
import { PasswordField, TextField } from "../components/field.tsx";
import { Page } from "../components/page.tsx";
import { PASSWORD_HINT, passwordError } from "../components/password.ts";
import { ProblemNote } from "../components/problem.tsx";
import { useTask } from "../components/use-task.ts";
import { announcement, loadPeople, me, people } from "../store.ts";
import type { Role, User } from "../types.ts";

const ROLES: { role: Role; means: string }[] = [
  { role: "member", means: "Claims devices and uses those shared with them." },
  { role: "guest", means: "Only uses what is shared with them." },
  { role: "owner", means: "May do everything on this hub, as you do." },
];

export function PeoplePage() {
  const task = useTask();
  useEffect(() => void task.run(loadPeople), []);
  return (
    <Page title="People">
      <ProblemNote problem={task.problem} />
      {people.value.length === 0 && !task.problem && <p class="quiet late" role="status">Loading…</p>}
      <ul class="people">
        {people.value.map((user) => (
          <li key={user.id}>
            <span class="avatar" aria-hidden="true">{initial(user)}</span>
            <div><strong>{user.display_name || user.username}</strong><span class="quiet">{user.username}{user.id === me.value?.id && " · you"}</span></div>
            <span class={user.role === "owner" ? "badge accent" : "badge plain"}>{user.role}</span>
          </li>
        ))}
      </ul>
      <AddPerson onAdded={(user) => (people.value = [...people.value.filter((each) => each.id !== user.id), user])} />
    </Page>
  );
}

function AddPerson({ onAdded }: { onAdded: (user: User) => void }) {
  const task = useTask();
  const [username, setUsername] = useState("");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [role, setRole] = useState<Role>("member");
  const [tried, setTried] = useState(false);
  const errors = { username: username.trim() ? "" : "Choose a user name.", password: passwordError(password) };

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    const wrong = Object.entries(errors).find(([, error]) => error);
    if (wrong) return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>(`[name=${wrong[0]}]`)?.focus();
    void task.run(async () => {
      const display = name.trim();
      const user = await api.addUser({ username: username.trim(), password, role, ...(display ? { display_name: display } : {}) });
      onAdded(user);
      announcement.value = `${user.display_name || user.username} is added.`;
      setUsername("");
      setName("");
      setPassword("");
      setTried(false);
    });
  }

  return (
    <section class="panel narrow" aria-labelledby="add-heading">
      <h2 id="add-heading">Add a person</h2>
      <form noValidate onSubmit={submit}>
        <TextField label="User name" name="username" exact value={username} onText={setUsername} hint="What they sign in with." error={tried ? errors.username : ""} />
        <TextField label="Name" name="display" optional value={name} onText={setName} />
        <PasswordField label="Password" name="password" autocomplete="new-password" value={password} onText={setPassword} hint={PASSWORD_HINT} error={tried ? errors.password : ""} />
        <fieldset class="choices">
          <legend>Role</legend>
          {ROLES.map((each) => (
            <label key={each.role}>
              <input type="radio" name="role" value={each.role} checked={role === each.role} onChange={() => setRole(each.role)} />
              <span><strong>{each.role}</strong><span class="quiet">{each.means}</span></span>
            </label>
          ))}
        </fieldset>
        <ProblemNote problem={task.problem} />
        <button class="button primary" disabled={task.busy}>{task.busy ? "Adding…" : "Add"}</button>
      </form>
    </section>
  );
}

function initial(user: User): string {
  return ([...(user.display_name || user.username)][0] ?? "?").toUpperCase();
}
