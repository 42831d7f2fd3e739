// Adding a device nearby: its code or its name in a list, the Wi-Fi it gets, and then how far it has come.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { adding } from "../add-api.ts";
import { change, draft, toBegin } from "../add-draft.ts";
import { parseClaimCode } from "../claim-code.ts";
import { nameOf } from "../components/badges.tsx";
import { ClaimInput } from "../components/claim-input.tsx";
import { TextField } from "../components/field.tsx";
import { NearbyList } from "../components/nearby-list.tsx";
import { Page } from "../components/page.tsx";
import { PairingProgress } from "../components/pairing-progress.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { Rooms } from "../components/rooms.tsx";
import { ScanLabel } from "../components/scan-label.tsx";
import { useTask } from "../components/use-task.ts";
import { WifiChoice } from "../components/wifi-choice.tsx";
import { IMPROV_WARNING, isOver, passphraseError, radioServes, radioWords, ssidError, standing } from "../pairing.ts";
import { go } from "../route.ts";
import { devices, pairings, takePairing } from "../store.ts";
import type { Radio } from "../types.ts";

const STAGES = ["Device", "Wi-Fi", "Progress"];

export function AddPage({ id }: { id: string }) {
  const [stage, setStage] = useState(0);
  const [radio, setRadio] = useState<Radio | null>(null);
  const at = id ? 2 : stage;
  return (
    <Page title="Add a device" back="#/">
      <ol class="trail" aria-label="Steps">
        {STAGES.map((name, index) => <li key={name} class={index < at ? "past" : undefined} aria-current={index === at ? "step" : undefined}>{name}</li>)}
      </ol>
      {at === 2 && <PairingProgress id={id} />}
      {at === 0 && <Finding radio={radio} onRadio={setRadio} onNext={() => setStage(1)} />}
      {at === 1 && <Giving radio={radio} onBack={() => setStage(0)} />}
    </Page>
  );
}

function Finding({ radio, onRadio, onNext }: { radio: Radio | null; onRadio: (radio: Radio) => void; onNext: () => void }) {
  return (
    <>
      <Underway />
      <RadioNote radio={radio} />
      <div class="panels">
        <WithCode radio={radio} onNext={onNext} />
        <section class="panel" aria-labelledby="nearby-heading">
          <h2 id="nearby-heading">What is nearby</h2>
          <NearbyList onRadio={onRadio} onImprov={(thing) => { change({ thing }); onNext(); }} />
        </section>
      </div>
      <div class="after quiet">
        <p>Is it in the network already? Then <a href="#/claim">claim it with its code</a>; no radio is needed.</p>
        <p>Does it speak MQTT and have no label, such as one with ESPHome or Tasmota? Then <a href="#/add-mqtt">give it a credential by hand</a>.</p>
      </div>
    </>
  );
}

function WithCode({ radio, onNext }: { radio: Radio | null; onNext: () => void }) {
  const { code } = draft.value;
  const [tried, setTried] = useState(false);
  const target = code.deviceId ? devices.value?.get(code.deviceId) : undefined;
  const take = (next: typeof code) => change({ code: next, thing: null });

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (parseClaimCode(code.text).kind !== "whole") return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>("[name=code]")?.focus();
    if (!radioServes(radio)) return document.getElementById("radio-note")?.focus();
    change({ thing: null });
    onNext();
  }

  return (
    <section class="panel" aria-labelledby="code-heading">
      <h2 id="code-heading">The code on its label</h2>
      <p class="quiet">Type it, or show the label's QR code: both do the same.</p>
      <form noValidate onSubmit={submit}>
        <p class="chip-place" aria-live="polite">
          {code.deviceId && (
            <span class="chip">
              <span>{target ? `${nameOf(target)} ` : "Device "}<span class="mono">{code.deviceId}</span></span>
              <button type="button" aria-label="Another device" title="Another device" onClick={() => take({ ...code, deviceId: null })}>×</button>
            </span>
          )}
        </p>
        <ClaimInput value={code} onChange={take} ask={tried} />
        <ScanLabel onFound={take} />
        {target?.state === "waiting" && target.online && (
          <div class="note note-accent slim-note"><p>It is in the network already. <a href={`#/claim?device=${encodeURIComponent(target.id)}`}>Claim it</a> without the radio.</p></div>
        )}
        <details class="inner">
          <summary>The label names a device id</summary>
          <TextField label="Device id" name="device-id" optional exact mono maxLength={64} value={code.deviceId ?? ""} onText={(text) => take({ ...code, deviceId: text.trim() || null })} hint="Needed only when the hub does not know the device by its code alone. The QR code holds it." />
        </details>
        <button class="button primary wide">Continue</button>
      </form>
    </section>
  );
}

/** What the radio lacks, in plain words, and what to do about it. */
function RadioNote({ radio }: { radio: Radio | null }) {
  const words = radio && radioWords(radio);
  return (
    <div role="status" class="note-place" id="radio-note" tabIndex={-1}>
      {words && (
        <div class={`note note-${words.tone}`}>
          <p>{words.message}</p>
          <p class="note-next">{words.next}</p>
        </div>
      )}
    </div>
  );
}

/** What is being added already: a way back to it. */
function Underway() {
  useEffect(() => void adding.pairings().then((list) => list.forEach(takePairing), () => {}), []);
  const running = [...pairings.value.values()].filter((each) => !isOver(each));
  if (running.length === 0) return null;
  return (
    <ul class="underway" aria-label="Being added">
      {running.map((each) => (
        <li key={each.id}>
          <a class="note note-accent plain" href={`#/add/${encodeURIComponent(each.id)}`}>
            <strong>{each.name || each.device_id || "A device"}</strong> is being added. {standing(each)}
          </a>
        </li>
      ))}
    </ul>
  );
}

function Giving({ radio, onBack }: { radio: Radio | null; onBack: () => void }) {
  const task = useTask();
  const { thing, code, name, room, wifi } = draft.value;
  const [tried, setTried] = useState(false);
  const [known, setKnown] = useState(false);
  const system = radio?.wifi.system && radio.wifi.allowed ? radio.wifi.ssid : null;
  // A hub that may not give its own Wi-Fi any more leaves what can be typed.
  const chosen = wifi && !(wifi.use === "system" && system === null) ? wifi : { use: system !== null ? "system" as const : "given" as const, ssid: wifi?.ssid ?? "", passphrase: wifi?.passphrase ?? "" };

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    const form = event.currentTarget as HTMLFormElement;
    const wrong = ssidError(chosen) ? "ssid" : passphraseError(chosen) ? "passphrase" : thing && !known ? "known" : "";
    if (wrong) return form.querySelector<HTMLElement>(`[name=${wrong}]`)?.focus();
    void task.run(async () => {
      change({ wifi: chosen });
      const pairing = await adding.begin(toBegin(draft.value));
      takePairing(pairing);
      change({ pairing: pairing.id });
      go(`#/add/${encodeURIComponent(pairing.id)}`);
    });
  }

  return (
    <Stage title={thing ? `The Wi-Fi for ${thing.name || "it"}` : "The Wi-Fi it gets"}>
      <form noValidate onSubmit={submit}>
        <p class="quiet lead-in">{thing ? "It has no label and proves nothing: it gets your Wi-Fi, and no more." : <>For the device with the code <span class="mono">{code.text}</span></>}</p>
        <WifiChoice radio={radio} value={chosen} tried={tried} none={!thing} onChange={(next) => { change({ wifi: next }); task.clear(); }} />
        {thing ? (
          <div class="note note-warn">
            <p><strong>Improv itself is not encrypted.</strong> {IMPROV_WARNING}</p>
            <label class="tick"><input type="checkbox" name="known" checked={known} aria-describedby="known-hint" aria-invalid={tried && !known ? true : undefined} onChange={(event) => setKnown(event.currentTarget.checked)} /><span>I know, and send it anyway</span></label>
            <p id="known-hint" class="hint hint-bad" aria-live="polite">{tried && !known ? "Tick this to go on, or go back." : ""}</p>
          </div>
        ) : (
          <>
            <TextField label="Name" name="name" optional maxLength={64} value={name} onText={(text) => change({ name: text })} />
            <TextField label="Room" name="room" optional maxLength={64} list="rooms" value={room} onText={(text) => change({ room: text })} />
            <Rooms id="rooms" />
          </>
        )}
        <ProblemNote problem={task.problem} />
        <div class="buttons">
          <button type="button" class="button" disabled={task.busy} onClick={onBack}>Back</button>
          <button class="button primary" disabled={task.busy}>{task.busy ? "Beginning…" : thing ? "Send the Wi-Fi" : "Add it"}</button>
        </div>
      </form>
    </Stage>
  );
}

/** One step of several on this page: it begins at its heading. */
function Stage({ title, children }: { title: string; children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  return (
    <section class="panel narrow" aria-labelledby="stage-heading">
      <h2 id="stage-heading" tabIndex={-1} ref={heading}>{title}</h2>
      {children}
    </section>
  );
}
