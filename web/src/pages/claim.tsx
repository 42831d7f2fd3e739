// Making a device one's own: the code on its label is the proof of having it in hand.

import { useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { nameOf } from "../components/badges.tsx";
import { ClaimInput } from "../components/claim-input.tsx";
import { TextField } from "../components/field.tsx";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { Rooms } from "../components/rooms.tsx";
import { ScanLabel } from "../components/scan-label.tsx";
import { useTask } from "../components/use-task.ts";
import { parseClaimCode } from "../claim-code.ts";
import { go, route } from "../route.ts";
import { announcement, devices, loadModel, loadTwin, takeDevice } from "../store.ts";

export function ClaimPage() {
  const task = useTask();
  const [code, setCode] = useState({ text: "", deviceId: route.value.query.get("device") });
  const [name, setName] = useState("");
  const [room, setRoom] = useState("");
  const [tried, setTried] = useState(false);
  const parsed = parseClaimCode(code.text);
  const target = code.deviceId ? devices.value?.get(code.deviceId) : undefined;

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (parsed.kind !== "whole") return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>("[name=code]")?.focus();
    void task.run(async () => {
      const device = await access.claim({
        code: parsed.code,
        ...(code.deviceId ? { device_id: code.deviceId } : {}),
        ...(name.trim() ? { name: name.trim() } : {}),
        ...(room.trim() ? { room: room.trim() } : {}),
      });
      takeDevice(device);
      void Promise.allSettled([loadModel(device), loadTwin(device)]);
      announcement.value = `${nameOf(device)} is yours now.`;
      go(`#/device/${encodeURIComponent(device.id)}`);
    });
  }

  return (
    <Page title="Claim a device" back="#/">
      <div class="panel narrow">
        <form noValidate onSubmit={submit}>
          <p class="chip-place" aria-live="polite">
            {code.deviceId && (
              <span class="chip">
                <span>{target ? `${nameOf(target)} ` : "Device "}<span class="mono">{code.deviceId}</span></span>
                <button type="button" aria-label="Another device" title="Another device" onClick={() => setCode({ ...code, deviceId: null })}>×</button>
              </span>
            )}
          </p>
          <ClaimInput value={code} onChange={(next) => { setCode(next); task.clear(); }} ask={tried} />
          <ScanLabel onFound={(found) => { setCode(found); task.clear(); }} />
          <TextField label="Name" name="name" optional maxLength={64} value={name} placeholder={target?.title ?? ""} onText={setName} />
          <TextField label="Room" name="room" optional maxLength={64} list="rooms" value={room} onText={setRoom} />
          <Rooms id="rooms" />
          <ProblemNote problem={task.problem} />
          <button class="button primary wide" disabled={task.busy}>{task.busy ? "Claiming…" : "Claim"}</button>
        </form>
      </div>
      <p class="quiet after">Keep the label. Whoever holds the code and the device can claim it once you have removed it.</p>
    </Page>
  );
}
