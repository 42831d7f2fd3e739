// Letting somebody of a maker in: for some devices, for a while, for a reason that everybody in the house sees.

import { useEffect, useState } from "preact/hooks";
import { access, type RoleTable } from "../access-api.ts";
import { now } from "../clock.ts";
import { nameOf } from "../components/badges.tsx";
import { TextField } from "../components/field.tsx";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { SettingsNav } from "../components/settings-nav.tsx";
import { capital } from "../components/terms-form.tsx";
import { useTask } from "../components/use-task.ts";
import { mayGive, RIGHTS, ROLE_NAMES, VENDOR_ROLES } from "../rights.ts";
import { announcement, devices, loadPeople, loadSupport, people, support } from "../store.ts";
import type { Privilege, Role, User } from "../types.ts";

const MINUTES: [label: string, minutes: number][] = [["15 minutes", 15], ["One hour", 60], ["4 hours", 240], ["8 hours", 480]];
/** What a hub without a table of roles is taken to allow. */
const MOST: Partial<Record<Role, Privilege>> = { product_manager: "view", support: "operate", developer: "manage" };

export function SupportPage() {
  const loading = useTask();
  const [table, setTable] = useState<RoleTable | null>(null);
  useEffect(() => {
    void loading.run(async () => {
      await Promise.all([loadPeople(), loadSupport(), access.roles().then(setTable, () => {})]);
    });
  }, []);
  const makers = people.value.filter((user) => VENDOR_ROLES.includes(user.role));
  const open = support.value.filter((each) => each.until > now.value);
  return (
    <Page title="Support">
      <SettingsNav />
      <ProblemNote problem={loading.problem} />
      {open.length === 0 && <p class="quiet list-lead">No support session is open: nobody of a maker may do anything here.</p>}
      <section class="panel" aria-labelledby="open-support-heading">
        <h2 id="open-support-heading">Open a support session</h2>
        {makers.length === 0 ? (
          <p class="quiet">Nobody of a maker has an account here. Add one under <a href="#/people">People</a>, “Somebody of a maker”.</p>
        ) : (
          <OpenForm makers={makers} most={(role) => table?.roles.find((each) => each.role === role)?.most_in_support ?? MOST[role] ?? "view"} />
        )}
      </section>
    </Page>
  );
}

function OpenForm({ makers, most }: { makers: User[]; most: (role: Role) => Privilege }) {
  const task = useTask();
  const [username, setUsername] = useState(makers[0]?.username ?? "");
  const [chosen, setChosen] = useState<string[]>([]);
  const [privilege, setPrivilege] = useState<Privilege>("view");
  const [minutes, setMinutes] = useState(60);
  const [reason, setReason] = useState("");
  const [tried, setTried] = useState(false);
  const person = makers.find((each) => each.username === username);
  const theirs = [...(devices.value?.values() ?? [])].filter((device) => device.privilege === "administer" && device.state !== "waiting" && (!person?.brand || device.brand === person.brand));
  const may = mayGive(person ? most(person.role) : "view");
  const far = may.includes(privilege) ? privilege : "view";
  const errors = { devices: chosen.length > 0 ? "" : "Choose at least one device.", reason: reason.trim() ? "" : "Say why: it stands on every page meanwhile." };

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (errors.devices || errors.reason) return (event.currentTarget as HTMLFormElement).querySelector<HTMLElement>(errors.devices ? ".ticks input" : "[name=reason]")?.focus();
    void task.run(async () => {
      await access.openSupport({ username, devices: chosen, privilege: far, minutes, reason: reason.trim() });
      await loadSupport();
      announcement.value = "The support session is open. A banner on every page says so, and ends it.";
      setChosen([]);
      setReason("");
      setTried(false);
      window.scrollTo(0, 0);
    });
  }

  return (
    <form class="right-form" noValidate onSubmit={submit}>
      <div class="field">
        <label for="support-who">For whom</label>
        <select id="support-who" value={username} onChange={(event) => { setUsername(event.currentTarget.value); setChosen([]); }}>
          {makers.map((each) => <option key={each.id} value={each.username}>{each.display_name || each.username} ({ROLE_NAMES[each.role].toLowerCase()}{each.brand ? ` of ${each.brand}` : ""})</option>)}
        </select>
        <p class="hint" />
      </div>
      <fieldset class="plain-set">
        <legend>Which devices</legend>
        {theirs.length === 0 && <p class="quiet">You administer no device of {person?.brand ?? "their brand"}.</p>}
        <div class="ticks">
          {theirs.map((device) => (
            <label class="tick" key={device.id}>
              <input type="checkbox" checked={chosen.includes(device.id)} onChange={(event) => setChosen(event.currentTarget.checked ? [...chosen, device.id] : chosen.filter((each) => each !== device.id))} />
              <span>{nameOf(device)}</span>
            </label>
          ))}
        </div>
        <p class={tried && errors.devices ? "hint hint-bad" : "hint"} aria-live="polite">{tried ? errors.devices : ""}</p>
      </fieldset>
      <fieldset class="pills">
        <legend>How far</legend>
        {may.map((each) => (
          <label key={each}>
            <input class="visually-hidden" type="radio" name="support-far" checked={far === each} onChange={() => setPrivilege(each)} />
            <span>{capital(RIGHTS[each].does)}</span>
          </label>
        ))}
      </fieldset>
      <fieldset class="pills spaced">
        <legend>For how long</legend>
        {MINUTES.map(([label, each]) => (
          <label key={each}>
            <input class="visually-hidden" type="radio" name="support-long" checked={minutes === each} onChange={() => setMinutes(each)} />
            <span>{label}</span>
          </label>
        ))}
      </fieldset>
      <TextField label="Reason" name="reason" maxLength={200} value={reason} onText={setReason} hint="Everybody in the house sees it, and it stays in the activity." error={tried ? errors.reason : ""} />
      <ProblemNote problem={task.problem} />
      <div class="buttons"><button class="button primary" disabled={task.busy || theirs.length === 0}>{task.busy ? "Opening…" : "Open it"}</button></div>
    </form>
  );
}
