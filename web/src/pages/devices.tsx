// All devices one may see, by room, as they are at this moment.

import { Badges, nameOf, Presence } from "../components/badges.tsx";
import { Icon, KindIcon } from "../components/icon.tsx";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { Switch } from "../components/switch.tsx";
import { useTask } from "../components/use-task.ts";
import { cardReadings, formatValue, obstacle, quickSwitch, shownValue } from "../controls.ts";
import { mayClaim } from "../rights.ts";
import { asked, desire, devices, devicesProblem, me, modelKey, models, twins } from "../store.ts";
import type { Device } from "../types.ts";

export function DevicesPage() {
  const all = devices.value;
  const claims = mayClaim(me.value);
  const waiting = [...(all?.values() ?? [])].filter((device) => device.state === "waiting").sort(byName);
  const rooms = byRoom([...(all?.values() ?? [])].filter((device) => device.state !== "waiting"));
  return (
    <Page title="Devices" actions={claims && <Ways />}>
      <ProblemNote problem={devicesProblem.value} />
      {!all && !devicesProblem.value && <p class="quiet late" role="status">Loading devices…</p>}
      {waiting.length > 0 && claims && (
        <section class="room waiting-room" aria-labelledby="waiting-heading">
          <h2 id="waiting-heading">Waiting to be claimed</h2>
          <p class="quiet">This hub recognises them. The code on the label makes them yours.</p>
          <ul class="waiting">
            {waiting.map((device) => (
              <li key={device.id}>
                <KindIcon kind={device.kind} />
                <div><a class="plain" href={link(device)}>{nameOf(device)}</a><span class="quiet mono">{device.id}</span></div>
                <Presence device={device} />
                <a class="button small" href={`#/claim?device=${encodeURIComponent(device.id)}`} aria-label={`Claim ${nameOf(device)} ${device.id}`}>Claim</a>
              </li>
            ))}
          </ul>
        </section>
      )}
      <div class="rooms">
        {rooms.map(([room, list]) => (
          <section class={`room span-${Math.min(list.length, 3)}`} key={room}>
            <h2>{room || "No room yet"}</h2>
            <ul class="cards">{list.map((device) => <Card key={device.id} device={device} />)}</ul>
          </section>
        ))}
      </div>
      {all && rooms.length === 0 && <Empty claims={claims} waiting={waiting.length > 0} />}
    </Page>
  );
}

/** A device nearby comes in over Bluetooth; one that is in the network already needs its code only. */
function Ways() {
  return (
    <div class="head-actions">
      <a class="button" href="#/claim">Claim a device</a>
      <a class="button primary" href="#/add"><Icon name="plus" />Add a device</a>
    </div>
  );
}

const HELD: Partial<Record<Device["state"], string>> = {
  claimed: "Waiting for the device to fetch its key.",
  suspended: "Kept out by an owner.",
  quarantined: "An owner has to look at it.",
};

function Card({ device }: { device: Device }) {
  const model = models.value.get(modelKey(device));
  const known = model === "missing" ? undefined : model;
  const twin = twins.value.get(device.id);
  const readings = device.state === "ready" ? cardReadings(known, twin) : [];
  return (
    <li class={device.online ? "card" : "card away"}>
      <div class="card-top">
        <span class="card-icon"><KindIcon kind={device.kind} /></span>
        <QuickSwitch device={device} />
      </div>
      <h3><a href={link(device)}>{nameOf(device)}</a></h3>
      <Presence device={device} />
      {device.state === "ready" ? (
        <dl class="readings">
          {readings.map(({ label, text }) => <div key={label}><dt>{label}</dt><dd>{text}</dd></div>)}
        </dl>
      ) : (
        <p class="readings quiet">{HELD[device.state]}</p>
      )}
      <Badges device={device} />
    </li>
  );
}

function QuickSwitch({ device }: { device: Device }) {
  const task = useTask();
  const model = models.value.get(modelKey(device));
  if (!model || model === "missing") return null;
  const name = quickSwitch(model);
  const attribute = name ? model.attributes?.[name] : undefined;
  if (!name || !attribute) return null;
  const shown = shownValue(name, twins.value.get(device.id), asked.value.get(`${device.id}/${name}`));
  const blocked = obstacle(device, attribute, false);
  return (
    <span class="quick" title={task.problem?.detail ?? blocked ?? undefined}>
      <span class="quiet" role="status">{task.problem ? "Failed" : formatValue(attribute, shown.value)}</span>
      <Switch small label={`${nameOf(device)}: ${attribute.title ?? name}`} on={shown.value === true} disabled={blocked !== null} onChange={(on) => void task.run(() => desire(device.id, name, on))} />
    </span>
  );
}

function Empty({ claims, waiting }: { claims: boolean; waiting: boolean }) {
  if (!claims)
    return (
      <div class="empty">
        <h2>Nothing is shared with you yet</h2>
        <p>Ask somebody of this home to give you access to a device. It then appears here by itself.</p>
      </div>
    );
  return (
    <div class="empty">
      <span class="card-icon"><Icon name="thing" /></span>
      <h2>No device is yours yet</h2>
      <ol>
        {me.value?.role === "owner" && !waiting && <li>Give the hub the list of devices your maker supplied: <a href="#/hub">import a batch file or a voucher</a>. It names the devices this hub may trust.</li>}
        <li>Power the device, and find the label on it or its box.</li>
        <li><a href="#/add">Add it with its code</a>: the hub gives it your Wi-Fi. If it is in the network already, <a href="#/claim">claim it</a>.</li>
      </ol>
    </div>
  );
}

function link(device: Device): string {
  return `#/device/${encodeURIComponent(device.id)}`;
}

function byName(a: Device, b: Device): number {
  return nameOf(a).localeCompare(nameOf(b)) || a.id.localeCompare(b.id);
}

function byRoom(list: Device[]): [string, Device[]][] {
  const rooms = new Map<string, Device[]>();
  for (const device of list.sort(byName)) {
    const room = device.room?.trim() ?? "";
    rooms.set(room, [...(rooms.get(room) ?? []), device]);
  }
  return [...rooms].sort(([a], [b]) => Number(a === "") - Number(b === "") || a.localeCompare(b));
}
