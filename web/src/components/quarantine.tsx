// Two things act as one device: what the hub has seen, and an owner's way out.

import { useEffect, useState } from "preact/hooks";
import { access, type EvidenceEntry } from "../access-api.ts";
import { fullTime } from "../clock.ts";
import { humanise } from "../controls.ts";
import { announcement, me, takeDevice } from "../store.ts";
import type { Device } from "../types.ts";
import { nameOf } from "./badges.tsx";
import { Confirm } from "./confirm.tsx";
import { TextField } from "./field.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

const KINDS: Record<string, string> = {
  counter_lost: "It signed in with an old counter, as after a reset, and proved itself.",
  contested: "Something signed in with its identity while it was still there.",
  proved: "Two things have each proved to have its key.",
  quarantined: "It was quarantined.",
  lifted: "An owner ended the quarantine.",
};

export function Quarantine({ device }: { device: Device }) {
  const loading = useTask();
  const lifting = useTask();
  const [entries, setEntries] = useState<EvidenceEntry[] | null>(null);
  const [note, setNote] = useState("");
  const owner = me.value?.role === "owner";
  useEffect(() => void loading.run(async () => setEntries((await access.evidence(device.id)).entries)), [device.id]);
  function lift() {
    void lifting.run(async () => {
      takeDevice(await access.lift(device.id, note.trim()));
      announcement.value = `The quarantine of ${nameOf(device)} has ended.`;
    });
  }
  return (
    <section class="note note-bad quarantine" aria-labelledby="quarantine-heading">
      <h2 id="quarantine-heading">Quarantined: two things act as this device</h2>
      <p>One of them may be a copy with a stolen key. Until an owner has looked at it, only owners can use it.{device.warning && ` ${device.warning.charAt(0).toUpperCase()}${device.warning.slice(1).replace(/\.$/, "")}.`}</p>
      <details class="inner">
        <summary>What the hub has seen</summary>
        <ProblemNote problem={loading.problem} />
        {!entries && !loading.problem && <p class="quiet late" role="status">Loading…</p>}
        {entries?.length === 0 && <p class="quiet">Nothing is kept of it any more.</p>}
        <ol class="evidence">
          {entries?.map((each, at) => (
            <li key={at}>
              <time dateTime={new Date(each.at).toISOString()}>{fullTime(each.at)}</time>
              <p>{KINDS[each.kind] ?? `${humanise(each.kind)}.`} {each.detail}</p>
              {(each.source || each.session) && <p class="quiet">{[each.source && `from ${each.source}`, each.session && `connection ${each.session}`].filter(Boolean).join(", ")}</p>}
            </li>
          ))}
        </ol>
      </details>
      {owner ? (
        <>
          <ol class="steps">
            <li>Find the device, and switch off whatever else uses its identity: a copy, or an old board that was replaced.</li>
            <li>If you do not know the other one, remove the device below, and ask its maker for another key.</li>
            <li>When only the right one is left, end the quarantine. It signs in again.</li>
          </ol>
          <TextField label="Note" optional maxLength={200} value={note} onText={setNote} hint="What it was. It is kept in the activity." />
          <ProblemNote problem={lifting.problem} />
          <Confirm label="End the quarantine" question={`Is only one “${nameOf(device)}” left? Everything that uses its identity now is signed out.`} yes={lifting.busy ? "Ending…" : "End it"} no="Not yet" busy={lifting.busy} onYes={lift} />
        </>
      ) : (
        <p class="note-next">Ask an owner of this home to look at this page.</p>
      )}
    </section>
  );
}
