// One account in the list of people: its role, a way back in for who has lost their password, signing out, ending it.

import { useState } from "preact/hooks";
import { access, type Code } from "../access-api.ts";
import { networksError, networksOf } from "../networks.ts";
import { ROLE_NAMES, VENDOR_ROLES } from "../rights.ts";
import { announcement, me, people } from "../store.ts";
import type { Binding, Role, User } from "../types.ts";
import { Confirm } from "./confirm.tsx";
import { LinkCard } from "./link-card.tsx";
import { NetworksField } from "./networks-field.tsx";
import { ProblemNote } from "./problem.tsx";
import { RoleChoice } from "./role-choice.tsx";
import { useTask } from "./use-task.ts";

/** An account that has ended, and the rights of others that ended with it. */
export interface Ended {
  user: User;
  bindings: Binding[];
}

export function Person({ user, onEnded }: { user: User; onEnded: (ended: Ended) => void }) {
  const name = user.display_name || user.username;
  const mine = user.id === me.value?.id;
  return (
    <li>
      <span class="avatar" aria-hidden="true">{([...name][0] ?? "?").toUpperCase()}</span>
      <div class="person"><strong>{name}</strong><span class="quiet">{user.username}{mine && " · you"}{user.brand && ` · ${user.brand}`}</span></div>
      <span class={user.role === "owner" ? "badge accent" : "badge plain"}>{ROLE_NAMES[user.role]}</span>
      {!mine && (
        <details class="person-care">
          <summary aria-label={`Manage ${name}`}>Manage</summary>
          <Care user={user} name={name} onEnded={onEnded} />
        </details>
      )}
    </li>
  );
}

function Care({ user, name, onEnded }: { user: User; name: string; onEnded: (ended: Ended) => void }) {
  const task = useTask();
  const [code, setCode] = useState<Code | null>(null);
  const [said, say] = useState("");
  const maker = VENDOR_ROLES.includes(user.role);
  return (
    <div class="care-list">
      {maker ? <Networks user={user} /> : <RoleChange user={user} />}
      {code ? (
        <LinkCard code={code} title={`New password for ${name}`} onDone={() => setCode(null)}>
          <p>Give it to {name} and nobody else: whoever opens it chooses the password.</p>
        </LinkCard>
      ) : (
        <div class="buttons">
          <button type="button" class="button small" disabled={task.busy} aria-label={`Make a reset link for ${name}`} onClick={() => void task.run(async () => setCode(await access.resetLink(user.id)))}>Reset link</button>
          <button type="button" class="button small" disabled={task.busy} aria-label={`Sign out ${name} everywhere`} onClick={() => void task.run(async () => { await access.endSessionsOf(user.id); say(`${name} is signed out everywhere.`); announcement.value = `${name} is signed out everywhere.`; })}>Sign out everywhere</button>
        </div>
      )}
      {said && <p class="hint hint-good">{said}</p>}
      <ProblemNote problem={task.problem} />
      <Ending user={user} name={name} onEnded={onEnded} />
    </div>
  );
}

function RoleChange({ user }: { user: User }) {
  const task = useTask();
  const [role, setRole] = useState<Role>(user.role);
  function change() {
    void task.run(async () => {
      took(await access.editUser(user.id, { role }));
      announcement.value = `${user.display_name || user.username} is ${ROLE_NAMES[role].toLowerCase()} now.`;
    });
  }
  return (
    <div>
      <RoleChoice role={role} onChoose={setRole} />
      <ProblemNote problem={task.problem} />
      {role !== user.role && <button type="button" class="button" disabled={task.busy} onClick={change}>{task.busy ? "Changing…" : `Make them ${ROLE_NAMES[role].toLowerCase()}`}</button>}
    </div>
  );
}

function Networks({ user }: { user: User }) {
  const task = useTask();
  const before = (user.networks ?? []).join("\n");
  const [text, setText] = useState(before);
  const [tried, setTried] = useState(false);
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (networksError(text)) return (event.currentTarget as HTMLFormElement).querySelector("textarea")?.focus();
    void task.run(async () => {
      took(await access.editUser(user.id, { networks: networksOf(text) }));
      announcement.value = "The networks are changed.";
    });
  }
  return (
    <form noValidate onSubmit={submit}>
      <NetworksField value={text} onText={setText} error={tried ? networksError(text) : ""} />
      <ProblemNote problem={task.problem} />
      {text !== before && <button class="button" disabled={task.busy}>{task.busy ? "Changing…" : "Change networks"}</button>}
    </form>
  );
}

function Ending({ user, name, onEnded }: { user: User; name: string; onEnded: (ended: Ended) => void }) {
  const task = useTask();
  const [keep, setKeep] = useState(false);
  const [erase, setErase] = useState(false);
  function end() {
    void task.run(async () => {
      const bindings = await access.endUser(user.id, keep, erase);
      announcement.value = `The account of ${name} has ended.`;
      people.value = people.value.filter((each) => each.id !== user.id);
      onEnded({ user, bindings });
    });
  }
  const question = (
    <>
      <p>End the account of {name}? They are signed out everywhere at once, and their rights to all devices end.</p>
      <label class="tick">
        <input type="checkbox" checked={keep} onChange={(event) => setKeep(event.currentTarget.checked)} />
        <span>Let the rights stand that they gave to others</span>
      </label>
      <label class="tick">
        <input type="checkbox" checked={erase} onChange={(event) => setErase(event.currentTarget.checked)} />
        <span>Erase what is personal too, in the activity as well</span>
      </label>
    </>
  );
  return (
    <>
      <Confirm quiet label="End this account" spoken={`End the account of ${name}`} question={question} yes={task.busy ? "Ending…" : "End it"} busy={task.busy} onYes={end} />
      <ProblemNote problem={task.problem} />
    </>
  );
}

function took(user: User): void {
  people.value = people.value.map((each) => (each.id === user.id ? user : each));
}
