// Where backups go, when they are made, how many are kept, and a passphrase that opens them. The password is asked for again:
// whoever chose the place could have them.

import { useState } from "preact/hooks";
import { backups, type BackupEdit, type Backups, type Target } from "../backup-api.ts";
import { clockOf, minuteOf, targetErrors } from "../backup-words.ts";
import { announcement } from "../store.ts";
import { PasswordField, TextField } from "./field.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

const KINDS: [kind: Target["kind"], label: string, means: string][] = [
  ["folder", "A folder", "On the hub, best on another disk or a drive of your network."],
  ["usb", "A stick or disk", "Only written while it is plugged in, so that the hub's own disk does not fill up."],
  ["s3", "A store", "A bucket that speaks S3. What it gets is encrypted: it can read nothing."],
];
const EVERY: [days: number, label: string][] = [[1, "Every day"], [2, "Every two days"], [7, "Every week"], [0, "Only when asked for"]];

export function BackupForm({ view, onSaved }: { view: Backups; onSaved: () => unknown }) {
  const task = useTask();
  const [moving, setMoving] = useState(!view.target);
  const [kind, setKind] = useState<Target["kind"]>(view.target?.kind ?? "usb");
  const [path, setPath] = useState("");
  const [store, setStore] = useState({ endpoint: "", region: "", bucket: "", prefix: "hearthkey/", access_key: "", secret_key: "", path_style: true });
  const [every, setEvery] = useState(view.schedule ? view.schedule.every_days : view.target ? 0 : 1);
  const [time, setTime] = useState(clockOf(view.schedule?.minute ?? 210));
  const [full, setFull] = useState(String(view.schedule?.full_every_days ?? 7));
  const [keep, setKeep] = useState({ daily: String(view.retention.daily), weekly: String(view.retention.weekly), monthly: String(view.retention.monthly) });
  const [passphrase, setPassphrase] = useState("");
  const [without, setWithout] = useState(false);
  const [password, setPassword] = useState("");
  const [tried, setTried] = useState(false);

  const whole = (text: string, most: number) => (/^\d{1,4}$/.test(text.trim()) && Number(text) <= most ? Number(text) : NaN);
  const target: Target = kind === "s3" ? { kind, ...store } : { kind, path: path.trim() };
  const errors: Partial<Record<string, string>> = {
    ...(moving ? targetErrors(target) : {}),
    ...(every > 0 && Number.isNaN(minuteOf(time)) ? { time: "Choose a time." } : {}),
    ...(every > 0 && Number.isNaN(whole(full, 366)) ? { full: "A number from 0 to 366." } : {}),
    ...(Object.values(keep).some((each) => Number.isNaN(whole(each, 1000))) ? { daily: "Numbers from 0 to 1000." } : {}),
    ...(passphrase && [...passphrase].length < 12 ? { passphrase: "At least 12 characters; several words are good." } : {}),
    ...(password ? {} : { current: "Type your password." }),
  };
  const error = (field: string) => (tried ? errors[field] : "") ?? "";
  const retention = { daily: whole(keep.daily, 1000), weekly: whole(keep.weekly, 1000), monthly: whole(keep.monthly, 1000) };

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    const form = event.currentTarget as HTMLFormElement;
    const [wrong] = Object.keys(errors);
    if (wrong) return form.querySelector<HTMLInputElement>(`[name=${wrong}]`)?.focus();
    const edit: BackupEdit = {
      ...(moving ? { target } : {}),
      schedule: every > 0 ? { minute: minuteOf(time), every_days: every, full_every_days: whole(full, 366) } : null,
      retention,
      ...(passphrase ? { passphrase } : without ? { passphrase: null } : {}),
    };
    void task.run(async () => {
      await backups.set(password, edit);
      setPassword("");
      setPassphrase("");
      setStore({ ...store, secret_key: "" });
      setWithout(false);
      setMoving(false);
      setTried(false);
      announcement.value = "Saved.";
      await onSaved();
    });
  }
  const typed = (field: "endpoint" | "region" | "bucket" | "prefix" | "access_key", label: string, hint: string, optional = false) => (
    <TextField label={label} name={field} exact optional={optional} maxLength={1024} value={store[field]} onText={(text) => setStore({ ...store, [field]: text })} hint={hint} error={error(field)} />
  );
  return (
    <form class="right-form" noValidate onSubmit={submit}>
      {!moving ? (
        <div class="care">
          <p>They go to: {view.target?.text}.</p>
          <button type="button" class="button" onClick={() => setMoving(true)}>Another place</button>
        </div>
      ) : (
        <>
          <fieldset class="choices">
            <legend>Where they go</legend>
            {KINDS.map(([each, label, means]) => (
              <label key={each}>
                <input type="radio" name="backup-kind" checked={kind === each} onChange={() => setKind(each)} />
                <span><strong>{label}</strong><span class="quiet">{means}</span></span>
              </label>
            ))}
          </fieldset>
          {kind !== "s3" ? (
            <TextField label={kind === "usb" ? "Where it is mounted" : "Folder"} name="path" exact mono maxLength={1024} value={path} onText={setPath} placeholder={kind === "usb" ? "/media/stick" : "/mnt/disk/backups"} hint={kind === "usb" ? "The path of the stick itself, as the hub has it." : "The whole path, as the hub has it."} error={error("path")} />
          ) : (
            <>
              {typed("endpoint", "Address of the store", "Begins with https://.")}
              <div class="two">
                {typed("bucket", "Bucket", "")}
                {typed("region", "Region", "Any word, where it has none.")}
                {typed("access_key", "Access key", "")}
                {typed("prefix", "Names begin with", "", true)}
              </div>
              <PasswordField label="Secret key" name="secret_key" value={store.secret_key} onText={(secret_key) => setStore({ ...store, secret_key })} hint="Give it a key that reaches this bucket alone." error={error("secret_key")} />
              <label class="tick"><input type="checkbox" checked={store.path_style} onChange={(event) => setStore({ ...store, path_style: event.currentTarget.checked })} /><span>The bucket's name is in the path, as most stores but Amazon's want it</span></label>
            </>
          )}
        </>
      )}
      <fieldset class="pills spaced">
        <legend>How often</legend>
        {EVERY.map(([days, label]) => (
          <label key={days}>
            <input class="visually-hidden" type="radio" name="backup-every" checked={every === days} onChange={() => setEvery(days)} />
            <span>{label}</span>
          </label>
        ))}
        {!EVERY.some(([days]) => days === every) && <label><input class="visually-hidden" type="radio" name="backup-every" checked /><span>Every {every} days</span></label>}
      </fieldset>
      {every > 0 && (
        <div class="two">
          <div class="field times"><label>At <input type="time" name="time" required value={time} onInput={(event) => setTime(event.currentTarget.value)} /></label>{error("time") && <p class="hint hint-bad">{error("time")}</p>}</div>
          <TextField label="A full one after so many days" name="full" exact inputMode="numeric" value={full} onText={setFull} hint="Between, only what is new. 0: always a full one." error={error("full")} />
        </div>
      )}
      <fieldset class="plain-set">
        <legend>How many are kept</legend>
        <div class="three">
          {([["daily", "Days"], ["weekly", "Weeks"], ["monthly", "Months"]] as const).map(([field, label]) => (
            <TextField key={field} label={label} name={field} exact inputMode="numeric" value={keep[field]} onText={(text) => setKeep({ ...keep, [field]: text })} error={field === "daily" ? error("daily") : ""} />
          ))}
        </div>
      </fieldset>
      <PasswordField label={view.by_passphrase ? "Another passphrase for backups" : "A passphrase for backups"} name="passphrase" autocomplete="new-password" value={passphrase} onText={setPassphrase} hint={`Opens those made from now on, ${view.by_code ? "beside the recovery code of this home" : "since there is no recovery code yet"}. Empty: as it is.`} error={error("passphrase")} />
      {view.by_passphrase && !passphrase && <label class="tick"><input type="checkbox" checked={without} onChange={(event) => setWithout(event.currentTarget.checked)} /><span>Without a passphrase from now on</span></label>}
      <PasswordField label="Your password" name="current" autocomplete="current-password" value={password} onText={(text) => { setPassword(text); task.clear(); }} error={error("current")} />
      <ProblemNote problem={task.problem} />
      <div class="buttons"><button class="button primary" disabled={task.busy}>{task.busy ? "Saving…" : "Save"}</button></div>
    </form>
  );
}
