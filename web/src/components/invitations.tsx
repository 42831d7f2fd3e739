// Inviting somebody by a link, and the invitations nobody has taken up yet.

import { useEffect, useState } from "preact/hooks";
import { access, type Code, type Invitation } from "../access-api.ts";
import { fullTime, now } from "../clock.ts";
import { moment, RIGHTS, ROLE_NAMES } from "../rights.ts";
import { announcement, devices } from "../store.ts";
import type { Privilege, Role } from "../types.ts";
import { nameOf } from "./badges.tsx";
import { Confirm } from "./confirm.tsx";
import { DevicePicks, type Picks } from "./device-picks.tsx";
import { TextField } from "./field.tsx";
import { LinkCard } from "./link-card.tsx";
import { ProblemNote } from "./problem.tsx";
import { RoleChoice } from "./role-choice.tsx";
import { useTask } from "./use-task.ts";

const DAY = 86_400_000;
const LASTING: [label: string, ms: number][] = [["A day", DAY], ["A week", 7 * DAY], ["A month", 30 * DAY]];

export function Invitations() {
  const loading = useTask();
  const [open, setOpen] = useState<Invitation[]>([]);
  const [code, setCode] = useState<{ code: Code; name: string } | null>(null);
  const load = () => loading.run(async () => setOpen(await access.invitations()));
  useEffect(() => void load(), []);
  return (
    <section class="panel" aria-labelledby="invite-heading">
      <h2 id="invite-heading">Invite somebody</h2>
      {code ? (
        <LinkCard code={code.code} title={`Invitation${code.name ? ` for ${code.name}` : ""}`} onDone={() => setCode(null)}>
          <p>Show it or send it. They open it on their phone and choose their own password.</p>
        </LinkCard>
      ) : (
        <InviteForm onMade={(made) => { setCode(made); void load(); }} />
      )}
      <ProblemNote problem={loading.problem} />
      {open.length > 0 && (
        <>
          <h3 class="sub">Not taken up yet</h3>
          <ul class="rights">{open.map((each) => <Open key={each.id} invitation={each} onGone={() => setOpen(open.filter((other) => other.id !== each.id))} />)}</ul>
        </>
      )}
    </section>
  );
}

function InviteForm({ onMade }: { onMade: (made: { code: Code; name: string }) => void }) {
  const task = useTask();
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("guest");
  const [lasts, setLasts] = useState(7 * DAY);
  const [picks, setPicks] = useState<Picks>(new Map());
  const mine = [...(devices.value?.values() ?? [])].filter((device) => device.privilege === "administer" && device.state !== "waiting");
  function submit(event: Event) {
    event.preventDefault();
    void task.run(async () => {
      const display = name.trim();
      const code = await access.invite({
        role,
        expires_in_ms: lasts,
        ...(display ? { display_name: display } : {}),
        ...(picks.size > 0 ? { grants: [...picks].map(([device_id, privilege]) => ({ device_id, privilege })) } : {}),
      });
      onMade({ code, name: display });
    });
  }
  return (
    <form noValidate onSubmit={submit}>
      <TextField label="Name" name="invited" optional maxLength={64} value={name} onText={setName} hint="For whom it is. They may change it." />
      <RoleChoice role={role} onChoose={setRole} />
      {mine.length > 0 && (
        <details class="inner">
          <summary>Share devices with them at once{picks.size > 0 ? ` (${picks.size})` : ""}</summary>
          <DevicePicks devices={mine.map((device) => ({ id: device.id, name: nameOf(device), privilege: "administer" as Privilege }))} first="operate" picks={picks} onPick={setPicks} />
        </details>
      )}
      <fieldset class="pills">
        <legend>The invitation works for</legend>
        {LASTING.map(([label, ms]) => (
          <label key={ms}>
            <input class="visually-hidden" type="radio" name="lasts" checked={lasts === ms} onChange={() => setLasts(ms)} />
            <span>{label}</span>
          </label>
        ))}
      </fieldset>
      <ProblemNote problem={task.problem} />
      <div class="buttons"><button class="button primary" disabled={task.busy}>{task.busy ? "Making it…" : "Make an invitation"}</button></div>
    </form>
  );
}

function Open({ invitation, onGone }: { invitation: Invitation; onGone: () => void }) {
  const task = useTask();
  const { role, display_name, grants, by_name, expires } = invitation;
  const what = grants.map((grant) => {
    const device = devices.value?.get(grant.device_id);
    return `${device ? nameOf(device) : grant.device_id} (${RIGHTS[grant.privilege].does})`;
  });
  const name = display_name || "whoever opens it";
  return (
    <li>
      <div class="right">
        <p><strong>For {name}</strong>{role && <span class="quiet"> · {ROLE_NAMES[role].toLowerCase()}</span>}</p>
        <p class="quiet">{[...what, `by ${by_name}`].join(", ")}, works until <time dateTime={new Date(expires).toISOString()} title={fullTime(expires)}>{moment(expires, now.value)}</time></p>
      </div>
      <Confirm quiet label="Withdraw" spoken={`Withdraw the invitation for ${name}`} question={`Withdraw the invitation for ${name}? It then does not work any more.`} yes={task.busy ? "Withdrawing…" : "Withdraw it"} busy={task.busy} onYes={() => void task.run(async () => { await access.withdraw(invitation.id); announcement.value = "The invitation is withdrawn."; onGone(); })} />
      <ProblemNote problem={task.problem} />
    </li>
  );
}
