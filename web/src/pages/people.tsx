// Who lives and visits here, inviting and adding somebody, a maker's people, and what each role may do.

import { useEffect, useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { nameOf } from "../components/badges.tsx";
import { AddPerson } from "../components/add-person.tsx";
import { Invitations } from "../components/invitations.tsx";
import { Page } from "../components/page.tsx";
import { Person, type Ended } from "../components/person.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { RoleTable } from "../components/role-table.tsx";
import { useTask } from "../components/use-task.ts";
import { calledOf, RIGHTS, VENDOR_ROLES } from "../rights.ts";
import { devices, loadPeople, people } from "../store.ts";

export function PeoplePage() {
  const task = useTask();
  const [ended, setEnded] = useState<Ended | null>(null);
  useEffect(() => void task.run(loadPeople), []);
  const house = people.value.filter((user) => !VENDOR_ROLES.includes(user.role));
  const makers = people.value.filter((user) => VENDOR_ROLES.includes(user.role));
  return (
    <Page title="People">
      <ProblemNote problem={task.problem} />
      {people.value.length === 0 && !task.problem && <p class="quiet late" role="status">Loading…</p>}
      {ended && <Gone ended={ended} />}
      <ul class="people">{house.map((user) => <Person key={user.id} user={user} onEnded={setEnded} />)}</ul>
      {makers.length > 0 && (
        <section aria-labelledby="makers-heading">
          <h2 id="makers-heading" class="list-heading">A maker's people</h2>
          <p class="quiet list-lead">They may do nothing here, except while you have opened a <a href="#/support">support session</a> for them.</p>
          <ul class="people">{makers.map((user) => <Person key={user.id} user={user} onEnded={setEnded} />)}</ul>
        </section>
      )}
      <div class="panels">
        <Invitations />
        <AddPerson onAdded={(user) => (people.value = [...people.value.filter((each) => each.id !== user.id), user])} />
      </div>
      <RoleTable load={access.roles} />
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
            {bindings.map((each) => <li key={each.device_id + each.subject}>{calledOf(each, people.value)} {RIGHTS[each.privilege].does}: <a href={`#/device/${encodeURIComponent(each.device_id)}`}>{device(each.device_id)}</a></li>)}
          </ul>
        </>
      )}
    </div>
  );
}
