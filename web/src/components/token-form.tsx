// Making a token for a program of one's own: which devices, how far, for how long. It is shown once.

import { useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { fullTime } from "../clock.ts";
import { devices } from "../store.ts";
import { nameOf } from "./badges.tsx";
import { Copyable } from "./copy.tsx";
import { DevicePicks, type Picks } from "./device-picks.tsx";
import { TextField } from "./field.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

const DAY = 86_400_000;
const LASTING: [label: string, days: number][] = [["A day", 1], ["30 days", 30], ["90 days", 90], ["A year", 365]];

export function TokenForm({ onMade }: { onMade: () => void }) {
  const task = useTask();
  const [name, setName] = useState("");
  const [picks, setPicks] = useState<Picks>(new Map());
  const [days, setDays] = useState(90);
  const [tried, setTried] = useState(false);
  const [made, setMade] = useState<{ token: string; expires: number; name: string } | null>(null);
  const mine = [...(devices.value?.values() ?? [])].flatMap((device) => (device.privilege && device.state !== "waiting" ? [{ id: device.id, name: nameOf(device), privilege: device.privilege }] : []));
  const nameError = name.trim() ? "" : "Say what it is for.";

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (nameError || picks.size === 0) return (event.currentTarget as HTMLFormElement).querySelector<HTMLElement>(nameError ? "[name=token-name]" : ".picks input")?.focus();
    void task.run(async () => {
      const { token, expires } = await access.makeToken({ name: name.trim(), devices: [...picks].map(([id, privilege]) => ({ id, privilege })), expires_in_ms: days * DAY });
      setMade({ token, expires, name: name.trim() });
      setName("");
      setPicks(new Map());
      setTried(false);
      onMade();
    });
  }

  if (made)
    return (
      <div class="link-card" role="status">
        <p><strong>The token “{made.name}”</strong></p>
        <p>Copy it now: it is not shown again. Whoever has it does what you let it do, until {fullTime(made.expires)}.</p>
        <Copyable label="the token" text={made.token} wrap />
        <p class="quiet">Programs send it as <code>Authorization: Bearer</code>, or as the password of MQTT.</p>
        <div class="buttons"><button type="button" class="button" onClick={() => setMade(null)}>I have it</button></div>
      </div>
    );
  return (
    <details class="inner">
      <summary>Make a token</summary>
      {mine.length === 0 ? (
        <p class="quiet">You may use no device yet, so there is nothing a token could do.</p>
      ) : (
        <form class="right-form" noValidate onSubmit={submit}>
          <TextField label="What it is for" name="token-name" maxLength={64} value={name} onText={setName} hint="A name to know it by, such as “Solar logger”." error={tried ? nameError : ""} />
          <p class="sub">Devices</p>
          <DevicePicks devices={mine} most="manage" picks={picks} onPick={setPicks} />
          <p class={tried && picks.size === 0 ? "hint hint-bad" : "hint"} aria-live="polite">{tried && picks.size === 0 ? "Choose at least one device." : "It only sees, unless you choose more."}</p>
          <fieldset class="pills">
            <legend>For how long</legend>
            {LASTING.map(([label, each]) => (
              <label key={each}>
                <input class="visually-hidden" type="radio" name="token-lasts" checked={days === each} onChange={() => setDays(each)} />
                <span>{label}</span>
              </label>
            ))}
          </fieldset>
          <ProblemNote problem={task.problem} />
          <div class="buttons"><button class="button primary" disabled={task.busy}>{task.busy ? "Making it…" : "Make the token"}</button></div>
        </form>
      )}
    </details>
  );
}
