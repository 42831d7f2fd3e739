// What each role, service and right may do: read from the hub, whose own table enforces it.

import { useState } from "preact/hooks";
import type { RoleTable as Table } from "../access-api.ts";
import { actionWords } from "../duties.ts";
import { RIGHTS, ROLE_NAMES } from "../rights.ts";
import { ProblemNote } from "./problem.tsx";
import { capital } from "./terms-form.tsx";
import { useTask } from "./use-task.ts";

export function RoleTable({ load }: { load: () => Promise<Table> }) {
  const task = useTask();
  const [table, setTable] = useState<Table | null>(null);
  const open = (event: Event) => (event.currentTarget as HTMLDetailsElement).open && !table && void task.run(async () => setTable(await load()));
  return (
    <details class="panel" onToggle={open}>
      <summary><h2>What each role may do</h2></summary>
      <ProblemNote problem={task.problem} />
      {task.busy && <p class="quiet late" role="status">Loading…</p>}
      {table && (
        <>
          <p class="quiet after-summary">Roles are about the hub. What somebody may do to a device is shared with them on its page.</p>
          <dl class="facts duties">
            {table.roles.map((each) => (
              <div key={each.role}>
                <dt>{ROLE_NAMES[each.role] ?? each.role}{each.vendor && <span class="quiet"> (of a maker)</span>}</dt>
                <dd><Duties list={each.hub.map(actionWords)} none={each.most_in_support ? "" : "Nothing to the hub: only uses what is shared with them."} />{each.most_in_support && <p>Nothing, except while a support session is open: then at most “{RIGHTS[each.most_in_support].does}”, for the devices named in it.</p>}</dd>
              </div>
            ))}
          </dl>
          <h3 class="sub">Rights to a device</h3>
          <dl class="facts duties">
            {table.privileges.map((each) => <div key={each.privilege}><dt>{capital(RIGHTS[each.privilege]?.does ?? each.privilege)}</dt><dd><Duties list={each.device.map(actionWords)} none="Nothing." /></dd></div>)}
          </dl>
          {table.scopes.length > 0 && (
            <>
              <h3 class="sub">What a service can be made for</h3>
              <dl class="facts duties">
                {table.scopes.map((each) => <div key={each.scope}><dt>{capital(actionWords(each.scope))}</dt><dd><Duties list={[each.hub].flat().map(actionWords)} none="Nothing." /></dd></div>)}
              </dl>
            </>
          )}
        </>
      )}
    </details>
  );
}

function Duties({ list, none }: { list: string[]; none: string }) {
  if (list.length === 0) return none ? <p>{none}</p> : null;
  return <ul class="bullets">{list.map((each) => <li key={each}>{capital(each)}</li>)}</ul>;
}
