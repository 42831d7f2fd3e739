// The firmware of one device: what it runs, how far an update is, the yes that it waits for, what holds for it alone, and what was.

import { useEffect, useState } from "preact/hooks";
import { asProblem } from "../api.ts";
import { ago, fullTime, now } from "../clock.ts";
import { mayAtLeast } from "../controls.ts";
import { firmware, type DeviceFirmware as View, type Release } from "../firmware-api.ts";
import { endWords, policyWords, standsAt } from "../firmware-words.ts";
import { share, sizeWords } from "../sizes.ts";
import { announcement, news } from "../store.ts";
import type { Device } from "../types.ts";
import { PolicyForm } from "./policy-form.tsx";
import { useTask } from "./use-task.ts";
import { Refusal } from "./why.tsx";

export function DeviceFirmware({ device }: { device: Device }) {
  const task = useTask();
  const [view, setView] = useState<View | null>(null);
  const fresh = `${news.value.get(`firmware/${device.id}`)}/${news.value.get("firmware/")}`;
  const load = () =>
    firmware.of(device.id).then(setView, (error) => {
      // What is not there to see is not shown; what could not be loaded this time stays as it was.
      if ([403, 404].includes(asProblem(error).status)) setView(null);
    });
  useEffect(() => void load(), [device.id, device.online, fresh]);
  if (!view || silent(view)) return null;

  const manages = mayAtLeast(device.privilege, "manage");
  const newer = view.newer ?? [];
  const named = (rel: number) => newer.find((each) => each.rel === rel)?.version ?? (rel === view.rel && view.version ? view.version : `release ${rel}`);
  const stands = standsAt(view, named, now.value, manages);
  const { progress, verdict } = view;
  const wanted = askable(view);
  const release = newer.find((each) => each.rel === (verdict.rel ?? progress.rel));
  const yes = (rel: number) =>
    void task.run(async () => {
      await firmware.approve(device.id, rel);
      announcement.value = `${named(rel)} may be installed.`;
      await load();
    });
  return (
    <section class="panel" aria-labelledby="firmware-heading">
      <h2 id="firmware-heading">Firmware</h2>
      {view.behind && (
        <div class="note note-bad" role="status">
          <p><strong>It is behind: it can do nothing but update.</strong></p>
          <p class="note-next">It runs {view.version ?? "a version"}, which its maker calls unsafe. Nobody can see or use it until it runs a newer one.{view.policy.mode === "hold" ? " Its updates are held: choose otherwise below." : newer.length === 0 ? " This hub has no newer one: bring the maker's file, or link a cloud that has it." : " Leave it its power, and connected."}</p>
        </div>
      )}
      <div class={`note note-${stands.tone} after-summary`}>
        <div role="status">
          <p>{stands.title}</p>
          {stands.next && <p class="note-next">{stands.next}</p>}
        </div>
        {progress.offer && progress.state === "downloading" && (
          <>
            <progress class="bar" aria-label="Download" value={share(progress.offset, progress.size)} max={100} />
            <p class="note-next">{sizeWords(progress.offset ?? 0)}{progress.size ? ` of ${sizeWords(progress.size)}` : ""}. It may be interrupted, and goes on where it was.</p>
          </>
        )}
        {progress.offer && progress.state === "installing" && <progress class="bar" aria-label="Installing" />}
      </div>
      <dl class="facts after-summary">
        <div><dt>Version</dt><dd>{view.version ?? "not said"}{view.rel !== null && <span class="quiet"> (release {view.rel})</span>}</dd></div>
        <div><dt>Chosen</dt><dd>{policyWords(view.policy)}{view.own_policy && <span class="quiet"> For this device alone.</span>}</dd></div>
      </dl>
      {release?.notes && <details class="inner"><summary>What is new in {release.version}</summary><p class="as-written">{release.notes}</p></details>}
      {manages && wanted !== null && (
        <>
          <Refusal problem={task.problem} device={device} action="manage" />
          <div class="buttons"><button type="button" class="button primary" disabled={task.busy} onClick={() => yes(wanted)}>{task.busy ? "One moment…" : verdict.why === "gave_up" || verdict.why === "backoff" ? `Try ${named(wanted)} again` : `Install ${named(wanted)}`}</button></div>
        </>
      )}
      {mayAtLeast(device.privilege, "administer") && <Choice device={device} view={view} onChange={load} />}
      {view.history.length > 0 && <History view={view} newer={newer} />}
    </section>
  );
}

/** A device that has never said what it runs, and is offered nothing, has no firmware to speak of. */
function silent({ rel, verdict, history, newer = [] }: View): boolean {
  return rel === null && verdict.state === "not_known" && history.length === 0 && newer.length === 0;
}

/** The release to which a yes can be said now; null when none waits for one. */
function askable({ verdict, progress }: View): number | null {
  if (verdict.state !== "waits" || verdict.rel === undefined || progress.state === "installing") return null;
  return ["ask", "stage", "backoff", "gave_up"].includes(verdict.why ?? "") ? verdict.rel : null;
}

function Choice({ device, view, onChange }: { device: Device; view: View; onChange: () => unknown }) {
  const task = useTask();
  return (
    <details class="inner">
      <summary>Choose for this device</summary>
      <PolicyForm key={`${view.own_policy}/${view.policy.version}`} policy={view.policy} whole={false} onSave={async (policy) => { await firmware.setDevicePolicy(device.id, policy); await onChange(); }} />
      {view.own_policy && (
        <div class="care">
          <p>It has a choice of its own.</p>
          <Refusal problem={task.problem} device={device} action="administer" />
          <button type="button" class="button" disabled={task.busy} onClick={() => void task.run(async () => { await firmware.asItsModel(device.id); announcement.value = "As its model."; await onChange(); })}>As all of its model</button>
        </div>
      )}
    </details>
  );
}

function History({ view, newer }: { view: View; newer: Release[] }) {
  return (
    <details class="inner">
      <summary>What was</summary>
      <ul class="evidence">
        {view.history.map((ended) => {
          const { tone, text } = endWords(ended);
          return (
            <li key={ended.offer}>
              <p>{newer.find((each) => each.rel === ended.rel)?.version ?? (ended.rel === view.rel ? view.version : null) ?? `Release ${ended.rel}`}: <span class={tone === "bad" ? "holds-not" : ""}>{text}</span></p>
              <p class="quiet"><time dateTime={new Date(ended.at_ms).toISOString()} title={fullTime(ended.at_ms)}>{ago(ended.at_ms, now.value)}</time></p>
            </li>
          );
        })}
      </ul>
    </details>
  );
}
