// One device: what it reports, what may be asked of it, and who it is.

import { useEffect, useRef } from "preact/hooks";
import { AttributeRow } from "../components/attribute-row.tsx";
import { Badges, nameOf, Presence, STATE, TRUST } from "../components/badges.tsx";
import { CommandRow } from "../components/command-row.tsx";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { useTask, type Task } from "../components/use-task.ts";
import { api } from "../api.ts";
import { controlOf, formatValue, humanise } from "../controls.ts";
import { later } from "../later.tsx";
import { RIGHTS } from "../rights.ts";
import { devices, loadModel, loadTwin, me, modelKey, models, takeDevice, twins } from "../store.ts";
import type { Device } from "../types.ts";

const DeviceCare = later(() => import("../components/device-care.tsx").then((piece) => piece.DeviceCare));
const DeviceFirmware = later(() => import("../components/device-firmware.tsx").then((piece) => piece.DeviceFirmware));
const Quarantine = later(() => import("../components/quarantine.tsx").then((piece) => piece.Quarantine));
const Sharing = later(() => import("../components/sharing.tsx").then((piece) => piece.Sharing));

export function DevicePage({ id }: { id: string }) {
  const task = useTask();
  const device = devices.value?.get(id);
  const state = device?.state;
  const privilege = device?.privilege;
  const wasHere = useRef(false);
  wasHere.current ||= device !== undefined;
  const gone = !device && wasHere.current;
  useEffect(() => {
    if (!gone) void task.run(() => load(id));
  }, [id, state, privilege]);
  if (gone) return <Page title="Not here" back="#/"><Gone /></Page>;
  if (!device)
    return (
      <Page title={task.problem ? "Not here" : "Device"} back="#/">
        {task.problem ? <ProblemNote problem={task.problem} /> : <p class="quiet late" role="status">{devices.value && !task.busy ? "This device is no longer here." : "Loading…"}</p>}
      </Page>
    );
  return (
    <Page title={nameOf(device)} back="#/">
      <div class="device-line">
        <Presence device={device} />
        {device.room && <span>{device.room}</span>}
        <Badges device={device} />
      </div>
      <Standing device={device} />
      <Trusted device={device} />
      {device.state !== "waiting" && <Live device={device} task={task} />}
      {device.state !== "waiting" && device.privilege !== null && <DeviceFirmware key={device.id} device={device} />}
      {device.state !== "waiting" && <Sharing key={device.id} device={device} />}
      <Facts device={device} />
      <DeviceCare device={device} />
    </Page>
  );
}

function Gone() {
  return (
    <div class="note" role="status">
      <p>You do not see this device any more: your right to it was taken away or has ended, or the device was removed.</p>
      <p class="note-next">Ask somebody who administers it to share it with you again. It then comes back by itself.</p>
    </div>
  );
}

async function load(id: string): Promise<void> {
  if (!devices.value?.has(id)) takeDevice(await api.device(id));
  const device = devices.value?.get(id);
  if (!device || device.state === "waiting" || device.privilege === null) return;
  await Promise.all([loadModel(device), loadTwin(device)]);
}

/** What stands between this device and being used, and what helps. */
function Standing({ device }: { device: Device }) {
  if (device.state === "ready") return null;
  if (device.state === "quarantined" && (me.value?.role === "owner" || device.privilege === "administer")) return <Quarantine device={device} />;
  const { tone, means } = STATE[device.state];
  return (
    <div class={`note note-${tone}`}>
      <p>{means}</p>
      {device.state === "waiting" && <p class="note-next"><a class="button primary" href={`#/claim?device=${encodeURIComponent(device.id)}`}>Claim it</a></p>}
      {device.state === "claimed" && <p class="note-next">{device.online ? "It is connected and does so by itself. This takes a few seconds." : "It is not connected. Power it and see that it is in the network; it then does so by itself."}</p>}
    </div>
  );
}

/** What a device that has proved no key is not good for. */
function Trusted({ device }: { device: Device }) {
  const trust = TRUST[device.trust];
  if (!trust?.limits || device.state !== "ready") return null;
  return (
    <div class={`note trusted note-${trust.tone}`}>
      <p><strong>{trust.label}.</strong> {trust.means}</p>
      <p class="note-next">{trust.limits}</p>
    </div>
  );
}

function Live({ device, task }: { device: Device; task: Task }) {
  const found = models.value.get(modelKey(device));
  const twin = twins.value.get(device.id);
  if (device.privilege === null) return <p class="quiet">You have no right to this device: you may see that it is here, but not its state.</p>;
  if (task.problem) return <ProblemNote problem={task.problem} />;
  if (!found || !twin) return <p class="quiet late" role="status">Loading its state…</p>;
  const model = found === "missing" ? undefined : found;
  // A right to a part shows that part.
  const covered = ([name]: [string, unknown]) => !device.only || device.only.includes(name);
  const attributes = Object.entries(model?.attributes ?? {}).filter(covered);
  const readings = attributes.filter(([, attribute]) => controlOf(attribute).kind === "reading");
  const settings = attributes.filter(([, attribute]) => controlOf(attribute).kind !== "reading");
  const commands = Object.entries(model?.commands ?? {}).filter(covered);
  const row = ([name, attribute]: (typeof attributes)[number]) => <AttributeRow key={name} device={device} name={name} attribute={attribute} />;
  return (
    <div class="panels">
      {(readings.length > 0 || commands.length > 0) && (
        <section class="panel" aria-labelledby="now-heading">
          <h2 id="now-heading">{commands.length > 0 ? "Now" : "Readings"}</h2>
          <ul class="rows">{readings.map(row)}</ul>
          {commands.length > 0 && <ul class="commands" aria-label="Commands">{commands.map(([name, command]) => <CommandRow key={name} device={device} name={name} command={command} />)}</ul>}
        </section>
      )}
      {settings.length > 0 && (
        <section class="panel" aria-labelledby="settings-heading">
          <h2 id="settings-heading">Settings</h2>
          <ul class="rows">{settings.map(row)}</ul>
        </section>
      )}
      {!model && (
        <section class="panel" aria-labelledby="raw-heading">
          <h2 id="raw-heading">Reported</h2>
          <p class="quiet">This hub has no model for it, so values show as they come.</p>
          <ul class="rows">
            {Object.entries(twin.reported).map(([name, value]) => <li key={name} class="row reading"><span class="row-label">{humanise(name)}</span><span class="row-value">{formatValue(undefined, value)}</span></li>)}
          </ul>
        </section>
      )}
    </div>
  );
}

function Facts({ device }: { device: Device }) {
  const facts: [string, string][] = [
    ["Device", device.id],
    ["Brand", device.brand],
    ["Model", device.title ? `${device.title} (${device.model})` : device.model],
    ["Hardware", device.hardware],
    ["Serial number", device.serial],
    ["Trust", TRUST[device.trust]?.means ?? device.trust],
    ["You may", device.privilege ? RIGHTS[device.privilege].you : "see that it is here, and nothing more"],
  ];
  return (
    <details class="panel">
      <summary><h2>About this device</h2></summary>
      <dl class="facts">{facts.filter(([, fact]) => fact).map(([label, fact]) => <div key={label}><dt>{label}</dt><dd>{fact}</dd></div>)}</dl>
    </details>
  );
}
