// The home's time, who may join it, and whether devices get its Wi-Fi: everybody may read it, owners change it.

import { useEffect, useState } from "preact/hooks";
import { access, type HubSettings } from "../access-api.ts";
import { fullTime, now } from "../clock.ts";
import { announcement, hub, hubClock, me } from "../store.ts";
import { ProblemNote } from "./problem.tsx";
import { Switch } from "./switch.tsx";
import { useTask } from "./use-task.ts";

const GRADES = { none: "not known", ntp: "from the network", vouched: "confirmed by an owner" };

export function Household() {
  const loading = useTask();
  const [settings, setSettings] = useState<HubSettings | null>(null);
  useEffect(() => void loading.run(async () => setSettings(await access.settings())), []);
  const owner = me.value?.role === "owner";
  const clock = hubClock.value;
  return (
    <section class="panel" aria-labelledby="household-heading">
      <h2 id="household-heading">Time, newcomers and Wi-Fi</h2>
      <ProblemNote problem={loading.problem} />
      {clock && (
        <dl class="facts">
          <div><dt>Time</dt><dd>{clock.grade === "none" ? "" : `${fullTime(now.value)}, `}{clock.contradicted ? "in doubt" : GRADES[clock.grade]}</dd></div>
          {!owner && <div><dt>Time zone</dt><dd>{clock.time_zone.replace(/_/g, " ")}</dd></div>}
        </dl>
      )}
      {settings && owner && <Zone settings={settings} onChange={setSettings} />}
      {settings && owner && <Newcomers settings={settings} onChange={setSettings} />}
      {settings && owner && <WifiForDevices settings={settings} onChange={setSettings} />}
      {settings && !owner && <p class="quiet">{settings.open_registration ? "Anybody in this network may make a guest's account." : "New people join by an invitation from an owner."}</p>}
    </section>
  );
}

function Zone({ settings, onChange }: { settings: HubSettings; onChange: (settings: HubSettings) => void }) {
  const task = useTask();
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const zones = new Set([...Intl.supportedValuesOf("timeZone"), "UTC", settings.time_zone, here]);
  const change = (time_zone: string) =>
    void task.run(async () => {
      onChange(await access.changeSettings({ time_zone }));
      if (hubClock.value) hubClock.value = { ...hubClock.value, time_zone };
      announcement.value = "The time zone is changed.";
    });
  return (
    <div class="field">
      <label for="zone">Time zone</label>
      <div class="buttons zone">
        <select id="zone" value={settings.time_zone} disabled={task.busy} aria-describedby="zone-hint" onChange={(event) => change(event.currentTarget.value)}>
          {[...zones].sort().map((zone) => <option key={zone} value={zone}>{zone.replace(/_/g, " ")}</option>)}
        </select>
        {settings.time_zone !== here && <button type="button" class="button" disabled={task.busy} onClick={() => change(here)}>Use {here.replace(/_/g, " ")}</button>}
      </div>
      <p id="zone-hint" class="hint">Weekly times of rights go by the clock of this home.</p>
      <ProblemNote problem={task.problem} />
    </div>
  );
}

function Newcomers({ settings, onChange }: { settings: HubSettings; onChange: (settings: HubSettings) => void }) {
  const task = useTask();
  const open = settings.open_registration;
  return (
    <div class="row">
      <div class="row-label">
        Open registration
        <p class="hint" id="newcomers-hint">{open ? "Anybody in this network can make a guest's account. Switch it off when they have." : "Off: new people need an invitation."}</p>
      </div>
      <div class="row-control">
        <Switch label="Open registration" on={open} disabled={task.busy} describedBy="newcomers-hint" onChange={(on) => void task.run(async () => {
          onChange(await access.changeSettings({ open_registration: on }));
          if (hub.value) hub.value = { ...hub.value, open_registration: on };
        })} />
      </div>
      {task.problem && <div class="row-problem"><ProblemNote problem={task.problem} /></div>}
    </div>
  );
}

function WifiForDevices({ settings, onChange }: { settings: HubSettings; onChange: (settings: HubSettings) => void }) {
  const task = useTask();
  const on = settings.share_wifi;
  return (
    <div class="row">
      <div class="row-label">
        Devices may get this hub's Wi-Fi
        <p class="hint" id="share-wifi-hint">{on ? "Who adds a device can give it the Wi-Fi the hub is in, without typing or seeing its passphrase." : "Off: who adds a device types the Wi-Fi's name and passphrase."}</p>
      </div>
      <div class="row-control">
        <Switch label="Devices may get this hub's Wi-Fi" on={on} disabled={task.busy} describedBy="share-wifi-hint" onChange={(share_wifi) => void task.run(async () => onChange(await access.changeSettings({ share_wifi })))} />
      </div>
      {task.problem && <div class="row-problem"><ProblemNote problem={task.problem} /></div>}
    </div>
  );
}
