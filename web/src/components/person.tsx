// One account in the list of people, and ending it.

import { useState } from "preact/hooks";
import { api } from "../api.ts";
import { announcement, me, people } from "../store.ts";
import type { Binding, User } from "../types.ts";
import { Confirm } from "./confirm.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

/** An account that has ended, and the rights of others that ended with it. */
export interface Ended {
  user: User;
  bindings: Binding[];
}

export function Person({ user, onEnded }: { user: User; onEnded: (ended: Ended) => void }) {
  const task = useTask();
  const [keep, setKeep] = useState(false);
  const name = user.display_name || user.username;
  const mine = user.id === me.value?.id;
  function end() {
    void task.run(async () => {
      const bindings = await api.endUser(user.id, keep);
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
    </>
  );
  return (
    <li>
      <span class="avatar" aria-hidden="true">{([...name][0] ?? "?").toUpperCase()}</span>
      <div class="person"><strong>{name}</strong><span class="quiet">{user.username}{mine && " · you"}</span></div>
      <span class={user.role === "owner" ? "badge accent" : "badge plain"}>{user.role}</span>
      {!mine && (
        <div class="person-care">
          <Confirm quiet label="End this account" spoken={`End the account of ${name}`} question={question} yes={task.busy ? "Ending…" : "End it"} busy={task.busy} onYes={end} />
          <ProblemNote problem={task.problem} />
        </div>
      )}
    </li>
  );
}
