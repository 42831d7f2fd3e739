// Who lives and visits here, adding somebody, and what ended with an account.

import { useEffect, useState } from "preact/hooks";
import { api } from "../api.ts";
import { nameOf } from "../components/badges.tsx";
import { PasswordField, TextField } from "../components/field.tsx";
import { Page } from "../components/page.tsx";
import { PASSWORD_HINT, passwordError } from "../components/password.ts";
import { Person, type Ended } from "../components/person.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { useTask } from "../components/use-task.ts";
import { calledOf, RIGHTS } from "../rights.ts";
import { announcement, devices, loadPeople, people } from "../store.ts";
import type { Role, User } from "../types.ts";

const ROLES: { role: Role; means: string }[] = [
  { role: "member", means: "Claims devices and uses those shared with them." },
  { role: "guest", means: "Only uses what is shared with them." },
  { role: "owner", means: "May do everything on this hub, as you do." },
];

export function PeoplePage() {
  const task = useTask();
  const [ended, setEnded] = useState<Ended | null>(null);
  useEffect(() => void task.run(loadPeople), []);
  return (
    <Page title="People">
      <ProblemNote problem={task.problem} />
      {people.value.length === 0 && !task.problem && <p class="quiet late" role="status">Loading…</p>}
      {ended && <Gone ended={ended} />}
      <ul class="people">
        {people.value.map((user) => <Person key={user.id} user={user} onEnded={setEnded} />)}
      </ul>
      <AddPerson onAdded={(user) => (people.value = [...people.value.filter((each) => each.id !== user.id), user])} />
    </Page>
  );
}

/** What ended with an account, so that whoever ended it can give it anew. */
function Gone({ ended: { user, bindings } }: { ended: Ended }) {
  const device = (id: string) => {
    const known = devices.value?.get(id);
    return known ? nameOf(known) : id;
  };
  return (
    <div class="note ended">
      <p>The account of {user.display_name || user.username} has ended.</p>
      {bindings.length > 0 && (
        <>
          <p class="note-next">With it ended what they had given to others:</p>
          <ul>
            {bindings.map((each) => <li key={each.device_id + each.user}>{calledOf(each, people.value)} {RIGHTS[each.privilege].does}: <a href={`#/device/${encodeURIComponent(each.device_id)}`}>{device(each.device_id)}</a></li>)}
          </ul>
        </>
      )}
    </div>
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
