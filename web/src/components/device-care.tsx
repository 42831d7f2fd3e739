// Name and room, suspending and resuming, removing: what a device's own people and the owners may do to it.

import { useEffect, useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { mayAtLeast } from "../controls.ts";
import { go } from "../route.ts";
import { announcement, dropDevice, me, takeDevice } from "../store.ts";
import type { Device } from "../types.ts";
import { nameOf } from "./badges.tsx";
import { Confirm } from "./confirm.tsx";
import { TextField } from "./field.tsx";
import { MovingOn } from "./moving-on.tsx";
import { ProblemNote } from "./problem.tsx";
import { Rooms } from "./rooms.tsx";
import { useTask } from "./use-task.ts";
import { Refusal } from "./why.tsx";

export function DeviceCare({ device }: { device: Device }) {
  const owner = me.value?.role === "owner";
  const waiting = device.state === "waiting";
  const manages = mayAtLeast(device.privilege, "manage");
  const removes = mayAtLeast(device.privilege, "administer") && !waiting;
  if (!manages && !removes && !(owner && !waiting)) return null;
  return (
    <details class="panel">
      <summary><h2>{removes ? "Name, room, handing over, removal" : "Name, room and more"}</h2></summary>
      {manages && <Naming device={device} />}
      {owner && !waiting && device.state !== "quarantined" && <Suspension device={device} />}
      {removes && <MovingOn device={device} />}
      {removes && <Removal device={device} />}
    </details>
  );
}

function Naming({ device }: { device: Device }) {
  const task = useTask();
  const [name, setName] = useState(device.name ?? "");
  const [room, setRoom] = useState(device.room ?? "");
  useEffect(() => setName(device.name ?? ""), [device.name]);
  useEffect(() => setRoom(device.room ?? ""), [device.room]);
  const changed = name.trim() !== (device.name ?? "") || room.trim() !== (device.room ?? "");
  function submit(event: Event) {
    event.preventDefault();
    void task.run(async () => {
      takeDevice(await access.editDevice(device.id, { name: name.trim(), room: room.trim() }));
      announcement.value = "Saved.";
    });
  }
  return (
    <form class="care" noValidate onSubmit={submit}>
      <div class="two">
        <TextField label="Name" maxLength={64} value={name} placeholder={device.title} onText={setName} />
        <TextField label="Room" maxLength={64} list="care-rooms" value={room} onText={setRoom} />
      </div>
      <Rooms id="care-rooms" />
      <Refusal problem={task.problem} device={device} action="manage" />
      <button class="button" disabled={!changed || task.busy}>Save</button>
    </form>
  );
}

function Suspension({ device }: { device: Device }) {
  const task = useTask();
  const held = device.state === "suspended";
  return (
    <div class="care">
      <p>{held ? "Resuming lets it sign in and be used again." : "Suspending ends its connection at once and keeps it out until an owner resumes it."}</p>
      <ProblemNote problem={task.problem} />
      <button type="button" class="button" disabled={task.busy} onClick={() => void task.run(async () => takeDevice(await (held ? access.resume : access.suspend)(device.id)))}>
        {held ? "Resume" : "Suspend"}
      </button>
    </div>
  );
}

function Removal({ device }: { device: Device }) {
  const task = useTask();
  function remove() {
    void task.run(async () => {
      await access.removeDevice(device.id);
      announcement.value = `${nameOf(device)} is removed.`;
      // An owner goes on seeing it as waiting, which an event tells; until then it is gone.
      dropDevice(device.id);
      go("#/");
    });
  }
  return (
    <div class="care">
      <p>Removing ends everybody's access and erases its state. It then waits to be claimed again with the code on its label.</p>
      <Refusal problem={task.problem} device={device} action="administer" />
      <Confirm label="Remove this device" question={`Remove “${nameOf(device)}” for everybody?`} yes={task.busy ? "Removing…" : "Remove it"} busy={task.busy} onYes={remove} />
    </div>
  );
}
