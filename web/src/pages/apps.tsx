// What acts with a part of one's rights: apps one has agreed to, and tokens one has made. Owners see those of everybody.

import { useEffect, useState } from "preact/hooks";
import { access, type AppInfo } from "../access-api.ts";
import { ago, fullTime, now } from "../clock.ts";
import { Confirm } from "../components/confirm.tsx";
import { OAuthClients } from "../components/oauth-clients.tsx";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { SettingsNav } from "../components/settings-nav.tsx";
import { TokenForm } from "../components/token-form.tsx";
import { useTask } from "../components/use-task.ts";
import { humanise } from "../controls.ts";
import { lasting, RIGHTS } from "../rights.ts";
import { announcement, me } from "../store.ts";
import { limits } from "../terms.ts";

export function AppsPage() {
  const loading = useTask();
  const [mine, setMine] = useState<AppInfo[] | null>(null);
  const load = () => loading.run(async () => setMine(await access.myApps()));
  useEffect(() => void load(), []);
  return (
    <Page title="Apps">
      <SettingsNav />
      <section class="panel" aria-labelledby="apps-heading">
        <h2 id="apps-heading">Your apps and tokens</h2>
        <p class="quiet">Each does what you have let it do, and never more than you may do yourself.</p>
        <ProblemNote problem={loading.problem} />
        {!mine && !loading.problem && <p class="quiet late" role="status">Loading…</p>}
        {mine?.length === 0 && <p class="quiet none">Nothing acts for you.</p>}
        <Apps apps={mine ?? []} end={access.endMyApp} onEnd={(id) => setMine((mine ?? []).filter((each) => each.id !== id))} />
        <TokenForm onMade={() => void load()} />
      </section>
      {me.value?.role === "owner" && <Everybodys />}
      {me.value?.role === "owner" && <OAuthClients />}
    </Page>
  );
}

function Everybodys() {
  const task = useTask();
  const [apps, setApps] = useState<AppInfo[] | null>(null);
  useEffect(() => void task.run(async () => setApps(await access.allApps())), []);
  const others = (apps ?? []).filter((each) => each.user !== me.value?.id);
  return (
    <section class="panel" aria-labelledby="all-apps-heading">
      <h2 id="all-apps-heading">Those of others</h2>
      <ProblemNote problem={task.problem} />
      {apps && others.length === 0 && <p class="quiet">Nothing acts for anybody else here.</p>}
      <Apps apps={others} end={access.endApp} onEnd={(id) => setApps((apps ?? []).filter((each) => each.id !== id))} />
    </section>
  );
}

function Apps({ apps, end, onEnd }: { apps: AppInfo[]; end: (id: string) => Promise<void>; onEnd: (id: string) => void }) {
  return <ul class="rights">{apps.map((app) => <App key={app.id} app={app} end={end} onEnd={() => onEnd(app.id)} />)}</ul>;
}

function App({ app, end, onEnd }: { app: AppInfo; end: (id: string) => Promise<void>; onEnd: () => void }) {
  const task = useTask();
  return (
    <li>
      <div class="right">
        <p><strong>{app.name}</strong> <span class="quiet">{app.kind === "token" ? "token" : "app"}{app.username && ` of ${app.username}`}</span></p>
        <ul class="bullets">
          {app.devices.map((device) => <li key={device.id}><a class="named" href={`#/device/${encodeURIComponent(device.id)}`}>{device.name || device.id}</a>: {[RIGHTS[device.privilege].does, ...limits({ only: device.only ?? null }, humanise)].join(", ")}</li>)}
        </ul>
        <p class="quiet">Since <time title={fullTime(app.created_at)}>{ago(app.created_at)}</time>, {lasting({ from: null, until: app.expires }, now.value)}, {app.last_used ? <>last used <time title={fullTime(app.last_used)}>{ago(app.last_used)}</time></> : "not used yet"}</p>
      </div>
      <Confirm quiet label="End it" spoken={`End ${app.name}`} question={`End “${app.name}”? What it has open ends at once.`} yes={task.busy ? "Ending…" : "End it"} busy={task.busy} onYes={() => void task.run(async () => { await end(app.id); announcement.value = `${app.name} has ended.`; onEnd(); })} />
      <ProblemNote problem={task.problem} />
    </li>
  );
}
