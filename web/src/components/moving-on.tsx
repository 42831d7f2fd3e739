// A device changes hands, or is replaced by another one that takes over its place.

import { useId, useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { parseClaimCode } from "../claim-code.ts";
import { go } from "../route.ts";
import { announcement, devices, dropDevice, loadDevices, me, people, takeDevice } from "../store.ts";
import type { Device } from "../types.ts";
import { nameOf } from "./badges.tsx";
import { ClaimInput } from "./claim-input.tsx";
import { Confirm } from "./confirm.tsx";
import { TextField } from "./field.tsx";
import { useTask } from "./use-task.ts";
import { Refusal } from "./why.tsx";

export function MovingOn({ device }: { device: Device }) {
  return (
    <>
      <Transfer device={device} />
      <Replacement device={device} />
    </>
  );
}

function Transfer({ device }: { device: Device }) {
  const id = useId();
  const task = useTask();
  const [username, setUsername] = useState("");
  const to = username.trim();
  const title = nameOf(device);
  function transfer() {
    void task.run(async () => {
      await access.transfer(device.id, to);
      announcement.value = `${to} administers ${title} now.`;
      // An owner goes on seeing that it is there.
      if (me.value?.role === "owner") return takeDevice({ ...device, privilege: null });
      dropDevice(device.id);
      go("#/");
    });
  }
  return (
    <details class="care">
      <summary>Hand it over to somebody</summary>
      <p class="quiet">They administer it then, and your own right ends. What others may do with it stays.</p>
      <TextField label="User name" exact list={`${id}-people`} value={username} onText={(text) => { setUsername(text); task.clear(); }} hint="What they sign in with." />
      <datalist id={`${id}-people`}>{people.value.filter((user) => user.id !== me.value?.id).map((user) => <option key={user.id} value={user.username}>{user.display_name}</option>)}</datalist>
      <Refusal problem={task.problem} device={device} action="administer" />
      {to && <Confirm label="Hand it over" question={`Hand “${title}” over to ${to}? Only they can share it with you again.`} yes={task.busy ? "Handing over…" : "Hand it over"} busy={task.busy} onYes={transfer} />}
    </details>
  );
}

function Replacement({ device }: { device: Device }) {
  const id = useId();
  const task = useTask();
  const [by, setBy] = useState("");
  const [code, setCode] = useState<{ text: string; deviceId: string | null }>({ text: "", deviceId: null });
  const [tried, setTried] = useState(false);
  const others = [...(devices.value?.values() ?? [])].filter((each) => each.id !== device.id && (each.state === "waiting" || each.privilege === "administer"));
  const typed = by === "typed";
  const target = typed ? (code.deviceId ?? "") : by;
  const waiting = typed || devices.value?.get(by)?.state === "waiting";
  const parsed = parseClaimCode(code.text);
  const title = nameOf(device);
  const ready = target !== "" && (!waiting || parsed.kind === "whole");
  function replace() {
    setTried(true);
    if (!ready) return;
    void task.run(async () => {
      const next = await access.replace(device.id, target, waiting && parsed.kind === "whole" ? parsed.code : undefined);
      await loadDevices();
      dropDevice(device.id);
      takeDevice(next);
      announcement.value = `${nameOf(next)} has taken its place.`;
      go(`#/device/${encodeURIComponent(next.id)}`);
    });
  }
  return (
    <details class="care">
      <summary>Replace it by another device</summary>
      <p class="quiet">The new one takes over name, room, and everybody's rights, also those it has on other devices. This one is removed.</p>
      <div class="field">
        <label for={`${id}-by`}>The new device</label>
        <select id={`${id}-by`} value={by} onChange={(event) => { setBy(event.currentTarget.value); task.clear(); }}>
          <option value="">Choose…</option>
          {others.map((each) => <option key={each.id} value={each.id}>{nameOf(each)}{each.state === "waiting" ? ` ${each.id}, waiting` : ""}</option>)}
          <option value="typed">Another, by its label</option>
        </select>
        <p class="hint" />
      </div>
      {typed && <TextField label="Device" exact mono value={code.deviceId ?? ""} onText={(deviceId) => setCode({ ...code, deviceId: deviceId.trim() || null })} hint="The device's id, as on its label." />}
      {waiting && <ClaimInput value={code} onChange={(next) => setCode({ text: next.text, deviceId: next.deviceId ?? code.deviceId })} ask={tried} />}
      <Refusal problem={task.problem} device={device} action="administer" />
      {by && <Confirm label="Replace it" question={`Replace “${title}”? It is removed, and the new one takes its place.`} yes={task.busy ? "Replacing…" : "Replace it"} busy={task.busy} onYes={replace} />}
    </details>
  );
}
