// How far a device has come, step by step, as the hub tells it; and what there is to answer, to cancel or to try again.

import { useEffect, useRef, useState } from "preact/hooks";
import { adding } from "../add-api.ts";
import { draft, forget, change, toBegin } from "../add-draft.ts";
import { Problem } from "../api.ts";
import { live } from "../live.ts";
import { isOver, passphraseError, progressOf, queueWords, safeAddress, sentShare, ssidError, standing, wifiToGive, type WifiDraft } from "../pairing.ts";
import { go } from "../route.ts";
import { announcement, pairings, takePairing } from "../store.ts";
import type { Pairing, Radio } from "../types.ts";
import { TRUST } from "./badges.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";
import { WifiChoice } from "./wifi-choice.tsx";

/** Events tell of each step; this is for those that get lost. */
const CHECK_MS = 8_000;

export function PairingProgress({ id }: { id: string }) {
  const loading = useTask();
  const task = useTask();
  const pairing = pairings.value.get(id);
  const over = pairing !== undefined && isOver(pairing);
  const connection = live.value;
  const load = () => void loading.run(async () => takePairing(await adding.pairing(id)));
  useEffect(load, [id, connection === "live"]);
  useEffect(() => {
    if (over) return;
    const timer = setInterval(load, CHECK_MS);
    return () => clearInterval(timer);
  }, [id, over]);
  const said = pairing && standing(pairing);
  useEffect(() => {
    if (said) announcement.value = said;
  }, [said]);
  useEffect(() => {
    if (pairing?.step === "done" && draft.peek().pairing === id) forget();
  }, [pairing?.step]);

  if (!pairing)
    return loading.problem ? (
      <ProblemNote problem={loading.problem}><div class="buttons"><a class="button" href="#/add">Add a device</a></div></ProblemNote>
    ) : (
      <p class="quiet late" role="status">Loading…</p>
    );
  const ended = over && pairing.step !== "done";
  const cancel = () => void task.run(async () => takePairing(await adding.cancel(id)));
  return (
    <section class="panel narrow" aria-labelledby="progress-heading">
      <h2 id="progress-heading">{pairing.name || pairing.device_id || (pairing.kind === "improv" ? "A thing with Improv" : "A new device")}</h2>
      {pairing.step === "queued" && <p class="quiet">{queueWords(pairing.position)}</p>}
      {(!ended || pairing.reached !== "queued") && <Steps pairing={pairing} reached={pairing.reached} />}
      {!pairing.encrypted && !over && <p class="quiet">What is sent to it is not encrypted.</p>}
      {pairing.step === "confirming" && <Confirming pairing={pairing} onNo={cancel} />}
      {pairing.step === "done" && <Done pairing={pairing} />}
      {ended && <Ended pairing={pairing} />}
      <ProblemNote problem={task.problem} />
      {!over && pairing.step !== "confirming" && (
        <div class="buttons"><button type="button" class="button" disabled={task.busy} onClick={cancel}>{task.busy ? "Cancelling…" : "Cancel"}</button></div>
      )}
    </section>
  );
}

const SPOKEN = { past: "Done: ", now: "Now: ", todo: "", failed: "Ended here: " };

function Steps({ pairing, reached }: { pairing: Pairing; reached: Pairing["step"] }) {
  const share = pairing.step === "sending" ? sentShare(pairing) : null;
  return (
    <ol class="pairing-steps">
      {progressOf(pairing, reached).map(({ step, state, text, hint }) => (
        <li key={step} class={state} aria-current={state === "now" ? "step" : undefined}>
          <span class="visually-hidden">{SPOKEN[state]}</span>
          <span>{text}{state === "now" && share !== null && `, ${share}\u00a0%`}</span>
          {hint && <p class="quiet">{hint}</p>}
          {state === "now" && share !== null && <progress aria-label="Sent" max={100} value={share} />}
        </li>
      ))}
    </ol>
  );
}

/** A device that has shown its maker's word and not yet its key: a person decides. */
function Confirming({ pairing, onNo }: { pairing: Pairing; onNo: () => void }) {
  const task = useTask();
  const top = useRef<HTMLDivElement>(null);
  const [radio, setRadio] = useState<Radio | null>(null);
  const [wifi, setWifi] = useState<WifiDraft | null>(null);
  const [tried, setTried] = useState(false);
  useEffect(() => {
    top.current?.focus();
    adding.radio().then(setRadio, () => {});
  }, []);
  function yes() {
    setTried(true);
    if (wifi && (ssidError(wifi) || passphraseError(wifi))) return;
    void task.run(async () => takePairing(await adding.confirm(pairing.id, wifi ? wifiToGive(wifi) : undefined)));
  }
  return (
    <div class="note note-warn" role="group" aria-labelledby="confirm-heading" tabIndex={-1} ref={top}>
      <p id="confirm-heading"><strong>Is this the device in your hand?</strong></p>
      <p>Its maker vouches for it and the code is right. But this hub cannot check yet that it holds the key its maker gave it, so a copy could pose as it. If you add it, it is <strong>provisional</strong>:</p>
      <ul class="bullets">
        <li>it gets the Wi-Fi you chose only because you confirm it;</li>
        <li>it takes no critical command, such as opening a door;</li>
        <li>no other device can be bound to it.</li>
      </ul>
      <p>This ends by itself once its key is checked. The hub waits two minutes for your answer.</p>
      <details class="inner" onToggle={(event) => setWifi(event.currentTarget.open ? { use: radio?.wifi.system && radio.wifi.allowed ? "system" : "given", ssid: "", passphrase: "" } : null)}>
        <summary>Give it another Wi-Fi, or none</summary>
        {wifi && <WifiChoice radio={radio} value={wifi} tried={tried} none onChange={setWifi} />}
      </details>
      <ProblemNote problem={task.problem} />
      <div class="buttons">
        <button type="button" class="button" disabled={task.busy} onClick={onNo}>Do not add it</button>
        <button type="button" class="button primary" disabled={task.busy} onClick={yes}>{task.busy ? "Confirming…" : "Add it"}</button>
      </div>
    </div>
  );
}

function Done({ pairing }: { pairing: Pairing }) {
  const top = useRef<HTMLDivElement>(null);
  useEffect(() => top.current?.focus(), []);
  const address = safeAddress(pairing.result_url);
  const mqtt = new URLSearchParams(pairing.name ? { name: pairing.name } : {}).toString();
  if (pairing.kind === "improv")
    return (
      <div class="note note-good" tabIndex={-1} ref={top}>
        <p><strong>It is in the Wi-Fi.</strong></p>
        {address && <p>It says where to go on: <a class="host" href={address} target="_blank" rel="noreferrer noopener">{address}</a></p>}
        {!address && pairing.result_url && <p>It says: <code>{pairing.result_url}</code></p>}
        <p>It is not a device of this hub yet. If it speaks MQTT, it can become one.</p>
        <div class="buttons">
          <a class="button primary" href={`#/add-mqtt${mqtt && `?${mqtt}`}`}>Add as an MQTT device</a>
          <a class="button" href="#/add">Add another</a>
        </div>
      </div>
    );
  return (
    <div class="note note-good" tabIndex={-1} ref={top}>
      <p><strong>It is yours now.</strong> {pairing.trust && `${TRUST[pairing.trust].label}: ${lower(TRUST[pairing.trust].means)}`}</p>
      <div class="buttons">
        <a class="button primary" href={pairing.device_id ? `#/device/${encodeURIComponent(pairing.device_id)}` : "#/"}>{pairing.device_id ? "Open it" : "All devices"}</a>
        <a class="button" href="#/add">Add another</a>
      </div>
    </div>
  );
}

function Ended({ pairing }: { pairing: Pairing }) {
  const task = useTask();
  // After a reload of the page nothing of the code is left here, and it is typed again.
  const again = draft.value.pairing === pairing.id;
  function retry() {
    void task.run(async () => {
      const next = await adding.begin(toBegin(draft.value));
      takePairing(next);
      change({ pairing: next.id });
      go(`#/add/${encodeURIComponent(next.id)}`);
    });
  }
  const { problem } = pairing;
  return (
    <>
      {pairing.step === "cancelled" ? (
        <div class="note"><p>Cancelled. Nothing has changed, here or on the device.</p></div>
      ) : (
        <ProblemNote problem={new Problem(0, problem?.code ?? "", "", problem?.detail ?? "It did not work, and the hub does not say why.", problem?.next ?? "Try again, near the hub.")} />
      )}
      <ProblemNote problem={task.problem} />
      <div class="buttons">
        {again ? (
          <>
            <button type="button" class="button primary" disabled={task.busy} onClick={retry}>{task.busy ? "Trying…" : "Try again"}</button>
            <a class="button" href="#/add">Change something</a>
          </>
        ) : (
          <a class="button primary" href="#/add">Try again</a>
        )}
      </div>
    </>
  );
}

function lower(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
