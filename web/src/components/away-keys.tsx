// What one uses from away from home: keys of one's own, made here, shown once, and ended here or from away.

import { useEffect, useState } from "preact/hooks";
import { clouds, type AwayKey } from "../cloud-api.ts";
import { now, present } from "../clock.ts";
import { lasting } from "../rights.ts";
import { announcement, cloud } from "../store.ts";
import { Confirm } from "./confirm.tsx";
import { Copyable } from "./copy.tsx";
import { TextField } from "./field.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

const DAY = 86_400_000;
const LASTING: [label: string, days: number][] = [["A week", 7], ["30 days", 30], ["90 days", 90], ["A year", 365]];

interface Made {
  name: string;
  token: string;
  url: string;
  until: number;
}

export function AwayKeys() {
  const loading = useTask();
  const [keys, setKeys] = useState<AwayKey[] | null>(null);
  const [made, setMade] = useState<Made | null>(null);
  const load = () => loading.run(async () => setKeys(await clouds.awayKeys()));
  // A key may also be ended from away, which arrives with what the cloud brings.
  useEffect(() => void load(), [cloud.value?.last_success]);
  const consent = cloud.value?.consent;
  return (
    <section class="panel" aria-labelledby="away-heading">
      <h2 id="away-heading">Use from away</h2>
      <p class="quiet">An app on your phone reaches your devices through the cloud with a key of its own, and does there no more than you may do, and than owners let in. Make one for each app, and end it when you lose the phone.</p>
      {consent && !consent.includes("requests") && <p class="note away-note">Owners of this home let nothing be used from away. With a key you see what is mirrored, and change nothing.</p>}
      <ProblemNote problem={loading.problem} />
      {!keys && !loading.problem && <p class="quiet late" role="status">Loading…</p>}
      {keys?.length === 0 && <p class="quiet none">You have none.</p>}
      <ul class="rights">{keys?.map((key) => <Key key={key.id} away={key} onEnd={() => { setKeys(keys.filter((each) => each.id !== key.id)); setMade(null); }} />)}</ul>
      {made ? (
        <div class="link-card" role="status">
          <p><strong>The key “{made.name}”</strong></p>
          <p>Give both to the app now: the key is not shown again. Whoever has it does from away what you may do, {lasting({ from: null, until: made.until }, now.value)}.</p>
          <p class="sub">Address</p>
          <Copyable label="the address" text={made.url} wrap />
          <p class="sub">Key</p>
          <Copyable label="the key" text={made.token} wrap />
          <div class="buttons"><button type="button" class="button" onClick={() => setMade(null)}>I have it</button></div>
        </div>
      ) : (
        <MakeKey onMade={(fresh) => { setMade(fresh); void load(); }} />
      )}
    </section>
  );
}

function Key({ away, onEnd }: { away: AwayKey; onEnd: () => void }) {
  const task = useTask();
  function end() {
    void task.run(async () => {
      await clouds.endAwayKey(away.id);
      announcement.value = `${away.name} has ended.`;
      onEnd();
    });
  }
  return (
    <li>
      <div class="right">
        <p><strong>{away.name}</strong></p>
        <p class="quiet">{lasting({ from: null, until: away.until }, now.value)}</p>
      </div>
      <Confirm quiet label="End it" spoken={`End ${away.name}`} question={`End “${away.name}”? Here it ends at once, and at the cloud as soon as the hub reaches it.`} yes={task.busy ? "Ending…" : "End it"} busy={task.busy} onYes={end} />
      <ProblemNote problem={task.problem} />
    </li>
  );
}

function MakeKey({ onMade }: { onMade: (made: Made) => void }) {
  const task = useTask();
  const [name, setName] = useState("");
  const [days, setDays] = useState(90);
  const [tried, setTried] = useState(false);
  const error = name.trim() ? "" : "Say what it is for.";
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (error) return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>("[name=away-name]")?.focus();
    void task.run(async () => {
      const { token, url, until = present() + days * DAY } = await clouds.makeAwayKey(name.trim(), days);
      onMade({ name: name.trim(), token, url, until });
    });
  }
  return (
    <details class="inner">
      <summary>Make a key</summary>
      <form class="right-form" noValidate onSubmit={submit}>
        <TextField label="What it is for" name="away-name" maxLength={64} value={name} onText={setName} hint="A name to know it by, such as “My phone”." error={tried ? error : ""} />
        <fieldset class="pills">
          <legend>For how long</legend>
          {LASTING.map(([label, each]) => (
            <label key={each}>
              <input class="visually-hidden" type="radio" name="away-lasts" checked={days === each} onChange={() => setDays(each)} />
              <span>{label}</span>
            </label>
          ))}
        </fieldset>
        <ProblemNote problem={task.problem} />
        <div class="buttons"><button class="button primary" disabled={task.busy}>{task.busy ? "Making it…" : "Make the key"}</button></div>
      </form>
    </details>
  );
}
