// The firmware of one model: its versions, what was chosen for its devices, and how each of them stands.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { now } from "../clock.ts";
import { count } from "../cloud-mark.ts";
import { firmware, type DeviceFirmware, type ModelFirmware, type Release } from "../firmware-api.ts";
import { fromWords, policyWords, standsAt, triedWords } from "../firmware-words.ts";
import { sizeWords } from "../sizes.ts";
import { announcement, devices, news } from "../store.ts";
import type { Device } from "../types.ts";
import { nameOf } from "./badges.tsx";
import { Confirm } from "./confirm.tsx";
import { PolicyForm } from "./policy-form.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

export function FirmwareModel({ model, onChange }: { model: ModelFirmware; onChange: () => unknown }) {
  const id = `fw-${model.brand}-${model.model}`;
  const theirs = [...(devices.value?.values() ?? [])].filter((each) => each.brand === model.brand && each.model === model.model && each.privilege !== null && each.state !== "waiting");
  const floor = model.releases.find((each) => each.rel === model.floor)?.version;
  return (
    <section class="panel" aria-labelledby={id}>
      <h2 id={id}>{model.title || model.model} <span class="quiet by">{model.brand}</span></h2>
      {(model.behind ?? 0) > 0 && (
        <div class="note note-bad after-summary">
          <p>{count(model.behind ?? 0, "device runs", "devices run")} a version that its maker calls unsafe, and can do nothing but update.</p>
          {model.policy.mode === "hold" && <p class="note-next">Updates are held: choose otherwise, and they begin.</p>}
        </div>
      )}
      <dl class="facts after-summary">
        <div><dt>Devices</dt><dd>{model.devices === 0 ? "none that takes updates" : model.devices}</dd></div>
        {model.floor > 0 && <div><dt>Oldest safe version</dt><dd>{floor ?? `release ${model.floor}`}</dd></div>}
        <div><dt>Chosen</dt><dd>{policyWords(model.policy)}</dd></div>
      </dl>
      <details class="inner">
        <summary>Choose what happens with a new version</summary>
        <PolicyForm key={model.policy.version} policy={model.policy} whole onSave={async (policy) => { await firmware.setPolicy(model.brand, model.model, policy); await onChange(); }} />
      </details>
      {theirs.length > 0 && <Fold summary="How its devices stand"><ul class="rights">{theirs.map((device) => <DeviceRow key={device.id} device={device} releases={model.releases} />)}</ul></Fold>}
      <h3 class="sub">Versions</h3>
      {model.releases.length === 0 && <p class="quiet">None is here yet: bring the maker's file, or link a cloud that has it.</p>}
      <ul class="rights">{model.releases.map((release, at) => <ReleaseRow key={release.rel} model={model} release={release} newest={at === 0} onChange={onChange} />)}</ul>
    </section>
  );
}

/** What is in it is there, and asks the hub, only while it is open. */
function Fold({ summary, children }: { summary: string; children: ComponentChildren }) {
  const [open, setOpen] = useState(false);
  return <details class="inner" onToggle={(event) => setOpen(event.currentTarget.open)}><summary>{summary}</summary>{open && children}</details>;
}

function DeviceRow({ device, releases }: { device: Device; releases: Release[] }) {
  const task = useTask();
  const [view, setView] = useState<DeviceFirmware | null>(null);
  const fresh = `${news.value.get(`firmware/${device.id}`)}/${news.value.get("firmware/")}`;
  useEffect(() => void task.run(async () => setView(await firmware.of(device.id))), [device.id, fresh]);
  const stands = view && standsAt(view, (rel) => releases.find((each) => each.rel === rel)?.version ?? `release ${rel}`, now.value, false);
  return (
    <li>
      <div class="right">
        <p><a href={`#/device/${encodeURIComponent(device.id)}`}>{nameOf(device)}</a>{view?.version && <span class="quiet"> {view.version}</span>}{view?.behind && <span class="badge bad inline">Behind</span>}</p>
        <p class="quiet">{stands ? stands.title : task.problem ? "" : "Loading…"}</p>
      </div>
      <ProblemNote problem={task.problem} />
    </li>
  );
}

function ReleaseRow({ model, release, newest, onChange }: { model: ModelFirmware; release: Release; newest: boolean; onChange: () => unknown }) {
  const task = useTask();
  const { brand } = model;
  const goOn = () =>
    void task.run(async () => {
      await firmware.goOn(brand, model.model, release.rel);
      announcement.value = `${release.version} goes on.`;
      await onChange();
    });
  const remove = () =>
    void task.run(async () => {
      await firmware.removeImage(brand, model.model, release.rel);
      announcement.value = `The file of ${release.version} is removed.`;
      await onChange();
    });
  return (
    <li>
      <div class="right">
        <p>
          <strong>{release.version}</strong>
          {newest && <span class="badge accent inline">Newest</span>}
          {release.stopped && <span class="badge bad inline">Stopped</span>}
          {release.withdrawn && <span class="badge bad inline">Withdrawn by its maker</span>}
          {!release.cached && <span class="badge warn inline">File not here</span>}
        </p>
        <p class="quiet">Release {release.rel}, {sizeWords(release.size)}, {fromWords(release, now.value)}; {triedWords(release)}.</p>
        {release.stopped && <p class="holds-not">Nobody else is offered it, because it failed on too many devices. Ask the maker before you let it go on.</p>}
        {release.notes && <details class="inner notes"><summary>What is new</summary><p class="as-written">{release.notes}</p></details>}
      </div>
      {release.stopped && <Confirm quiet label="Go on" spoken={`Go on with ${release.version}`} question={`Offer ${release.version} to the other devices, although it failed?`} yes="Go on" no="Leave it stopped" busy={task.busy} onYes={goOn} />}
      {release.cached && !release.stopped && <Confirm quiet label="Remove the file" spoken={`Remove the file of ${release.version}`} question={`Remove the file of ${release.version} from this hub? Devices get it no more, until it is brought again.`} yes="Remove it" busy={task.busy} onYes={remove} />}
      <ProblemNote problem={task.problem} />
    </li>
  );
}
