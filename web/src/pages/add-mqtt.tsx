// A device that speaks MQTT and has no label: it is given a credential by hand, which shows once.

import { useEffect, useRef, useState } from "preact/hooks";
import { adding, type StockDevice } from "../add-api.ts";
import { nameOf, TRUST } from "../components/badges.tsx";
import { Copyable } from "../components/copy.tsx";
import { TextField } from "../components/field.tsx";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { Rooms } from "../components/rooms.tsx";
import { useTask } from "../components/use-task.ts";
import { go, route } from "../route.ts";
import { announcement, takeDevice } from "../store.ts";

export function AddMqttPage() {
  const task = useTask();
  const [name, setName] = useState(route.value.query.get("name") ?? "");
  const [room, setRoom] = useState("");
  const [tried, setTried] = useState(false);
  const [made, setMade] = useState<StockDevice | null>(null);
  const nameError = name.trim() ? "" : "Give it a name.";

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (nameError) return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>("[name=name]")?.focus();
    void task.run(async () => {
      const stock = await adding.stock({ name: name.trim(), ...(room.trim() ? { room: room.trim() } : {}) });
      takeDevice(stock.device);
      announcement.value = "Its credential is shown now.";
      setMade(stock);
    });
  }

  return (
    <Page title="Add an MQTT device" back="#/">
      {made ? (
        <Credential stock={made} />
      ) : (
        <div class="panel narrow">
          <form noValidate onSubmit={submit}>
            <p class="quiet lead-in">For a device without a label that speaks MQTT over TLS, such as one with ESPHome or Tasmota. It gets a user name and a password of its own.</p>
            <TextField label="Name" name="name" maxLength={64} value={name} onText={setName} error={tried ? nameError : ""} />
            <TextField label="Room" name="room" optional maxLength={64} list="rooms" value={room} onText={setRoom} />
            <Rooms id="rooms" />
            <div class="note explains">
              <p><strong>{TRUST.unattested.label}.</strong> {TRUST.unattested.means} {TRUST.unattested.limits}</p>
            </div>
            <ProblemNote problem={task.problem} />
            <button class="button primary wide" disabled={task.busy}>{task.busy ? "Making its credential…" : "Make its credential"}</button>
          </form>
        </div>
      )}
      {!made && <p class="quiet after">Has it a label with a code? Then <a href="#/add">add it with that</a>.</p>}
    </Page>
  );
}

function Credential({ stock }: { stock: StockDevice }) {
  const [kept, keep] = useState(false);
  const top = useRef<HTMLDivElement>(null);
  useEffect(() => top.current?.focus(), []);
  const { device, username, password, host, port, ca, settings } = stock;
  const facts: [label: string, spoken: string, text: string][] = [
    ["Host", "the host", host],
    ["Port", "the port", String(port)],
    ["User name", "the user name", username],
    ["Password", "the password", password],
  ];
  return (
    <div class="link-card apart-card credential" tabIndex={-1} ref={top} role="group" aria-label={`The credential of ${nameOf(device)}`}>
      <h2>The credential of “{nameOf(device)}”</h2>
      <p>Put it into the device now: it is not shown again. Whoever has it can pose as this device.</p>
      <dl class="facts">
        {facts.map(([label, spoken, text]) => <div key={label}><dt>{label}</dt><dd><Copyable label={spoken} text={text} /></dd></div>)}
      </dl>
      <Settings title="For ESPHome" label="the ESPHome settings" text={settings.esphome} />
      <Settings title="For Tasmota" label="the Tasmota settings" text={settings.tasmota} />
      <Settings title="The hub's CA certificate" label="the CA certificate" text={ca} />
      <p class="quiet">The device trusts this certificate and no other: so it speaks to this hub alone.</p>
      <label class="tick"><input type="checkbox" checked={kept} onChange={(event) => keep(event.currentTarget.checked)} /><span>I have it. It is not shown again.</span></label>
      <div class="buttons"><button type="button" class="button primary" disabled={!kept} onClick={() => go(`#/device/${encodeURIComponent(device.id)}`)}>Open the device</button></div>
    </div>
  );
}

function Settings({ title, label, text }: { title: string; label: string; text: string }) {
  return (
    <details class="inner">
      <summary>{title}</summary>
      <Copyable label={label} text={text} wrap lines />
    </details>
  );
}
