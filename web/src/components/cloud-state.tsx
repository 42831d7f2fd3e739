// How the hub and its cloud stand: in a sentence, with what to do; for owners also what waits, what was refused, and what the
// cloud had to tell.

import { useEffect, useState } from "preact/hooks";
import { actorPart } from "../audit/names.ts";
import { explain } from "../audit/reasons.ts";
import { plainText } from "../audit/telling.ts";
import { Problem } from "../api.ts";
import { clouds } from "../cloud-api.ts";
import { ago, fullTime, now } from "../clock.ts";
import { isRetired, RETIRED, spanWords } from "../cloud-mark.ts";
import { consentToSend, inFours, pendingWords, retryWords, staleWords, standing, successWords, verbWords } from "../cloud-words.ts";
import { announcement, cloud, devices, hub, loadCloud, me, models, people } from "../store.ts";
import type { CloudState, Consent } from "../types.ts";
import { nameOf } from "./badges.tsx";
import { Confirm } from "./confirm.tsx";
import { ConsentFields, ConsentList } from "./consent-fields.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

export function CloudStanding({ view }: { view: CloudState }) {
  const task = useTask();
  const owner = me.value?.role === "owner";
  const retired = hub.value?.retired === true || isRetired(view);
  const stands = retired ? { tone: "bad", ...RETIRED } : standing(view.state);
  const retry = retryWords(view.state?.retry_at, now.value);
  const age = view.policy_age_ms;
  const stale = typeof age === "number" ? staleWords(age) : "";
  const sync = () =>
    void task.run(async () => {
      await clouds.sync();
      announcement.value = "The hub asks the cloud now.";
      await loadCloud();
    });
  return (
    <section class="panel" aria-labelledby="standing-heading">
      <h2 id="standing-heading">How they stand</h2>
      <div class={`note note-${stands.tone}`} role="status">
        <p><strong>{stands.title}</strong></p>
        {stands.detail && <p class="note-next sentence">{stands.detail}</p>}
        {stands.next && <p class="note-next">{stands.next} {retry}</p>}
        {stands.tone === "bad" && !retired && <p class="note-next">At home, everything goes on as ever meanwhile.</p>}
      </div>
      {stale && <div class="note note-warn after-summary"><p>{stale}</p></div>}
      <dl class="facts after-summary">
        {view.name && <div><dt>Cloud</dt><dd>{view.name}{view.region && `, region ${view.region}`}</dd></div>}
        {view.url && <div><dt>Address</dt><dd>{view.url}</dd></div>}
        {view.fingerprint && <div><dt>Fingerprint</dt><dd class="mono">{inFours(view.fingerprint)}</dd></div>}
        <div><dt>Last success</dt><dd>{view.last_success ? <time dateTime={new Date(view.last_success).toISOString()} title={fullTime(view.last_success)}>{successWords(view.last_success, now.value)}</time> : successWords(null, now.value)}</dd></div>
        {typeof age === "number" && <div><dt>Revocations</dt><dd>What the hub knows of those made outside is {spanWords(age)} old.</dd></div>}
        {view.pending && <div><dt>Waits to be sent</dt><dd>{pendingWords(view.pending)}</dd></div>}
        {owner && view.state?.connected !== undefined && <div><dt>Wake-up</dt><dd>{view.state.connected ? "The cloud can wake this hub at once." : "It does not stand: the hub asks from time to time, and hears of a revocation later."}</dd></div>}
        {owner && view.consent && <ConsentList consent={view.consent} />}
      </dl>
      <ProblemNote problem={task.problem} />
      {owner && !retired && <div class="buttons"><button type="button" class="button" disabled={task.busy} onClick={sync}>{task.busy ? "One moment…" : "Sync now"}</button></div>}
    </section>
  );
}

export function CloudNotices({ view }: { view: CloudState }) {
  const notices = [...(view.notices ?? [])].sort((a, b) => b.at - a.at);
  if (notices.length === 0) return null;
  return (
    <section class="panel" aria-labelledby="notices-heading">
      <h2 id="notices-heading">What the cloud has told</h2>
      <ul class="evidence">
        {notices.map((notice) => (
          <li key={`${notice.at}${notice.code}${notice.device ?? ""}`}>
            <p>{notice.device && <><DeviceLink id={notice.device} />: </>}{notice.text || notice.code}{notice.seen === false && <span class="badge accent inline">New</span>}</p>
            <time dateTime={new Date(notice.at).toISOString()} title={fullTime(notice.at)}>{ago(notice.at, now.value)}</time>
          </li>
        ))}
      </ul>
    </section>
  );
}

export function CloudRefused({ view }: { view: CloudState }) {
  const refused = [...(view.refused ?? [])].sort((a, b) => b.at - a.at);
  if (refused.length === 0) return null;
  const known = { people: people.value, devices: devices.value ?? new Map(), models: models.value };
  const who = (by: string) => plainText([actorPart(known, by.includes(":") || by === "cloud" || by === "" ? by || "?" : `user:${by}`)]);
  return (
    <section class="panel" aria-labelledby="refused-heading">
      <h2 id="refused-heading">What this hub refused from outside</h2>
      <ul class="evidence">
        {refused.map((each) => (
          <li key={`${each.at}${each.by}${each.verb}${each.device ?? ""}`}>
            <p>{who(each.by)} {verbWords(each.verb)}{each.device ? <> <DeviceLink id={each.device} /></> : ""}.</p>
            <p class="quiet sentence">{whyRefused(each.verb, each.code, each.detail)}</p>
            <time dateTime={new Date(each.at).toISOString()} title={fullTime(each.at)}>{ago(each.at, now.value)}</time>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** A revocation's detail names by ids what was to end. */
function whyRefused(verb: string, code: string, detail: string): string {
  return (verb === "revoke" && explain(code)) || detail || explain(code) || code;
}

function DeviceLink({ id }: { id: string }) {
  const device = devices.value?.get(id);
  return device ? <a class="named" href={`#/device/${encodeURIComponent(id)}`}>{nameOf(device)}</a> : <span class="mono">{id}</span>;
}

export function CloudConsent({ view, hasCode }: { view: CloudState; hasCode: boolean }) {
  const task = useTask();
  const told = (view.consent ?? []).join(" ");
  const [chosen, setChosen] = useState<Consent[]>(view.consent ?? []);
  // Somebody else may change it meanwhile; what is being chosen here stays until the hub says something new.
  useEffect(() => setChosen(view.consent ?? []), [told]);
  const next = consentToSend(chosen);
  const changed = next.join(" ") !== consentToSend(view.consent ?? []).join(" ");
  const needsCode = next.includes("bundle") && !hasCode;
  function submit(event: Event) {
    event.preventDefault();
    void task.run(async () => {
      if (needsCode) throw new Problem(0, "recovery_code_first", "", "The recovery copy is sealed with a code that does not exist yet.", "Make the recovery code of this home first, on this page.");
      await clouds.consent(next);
      await loadCloud();
      announcement.value = "Saved. The cloud is told.";
    });
  }
  return (
    <details class="panel">
      <summary><h2>What is mirrored and let in</h2></summary>
      <form class="right-form after-summary" noValidate onSubmit={submit}>
        <ConsentFields chosen={chosen} onChoose={(next) => { setChosen(next); task.clear(); }} />
        <p class="hint">What is no longer mirrored is erased at the cloud.</p>
        <ProblemNote problem={task.problem} />
        <div class="buttons"><button class="button primary" disabled={!changed || task.busy}>{task.busy ? "Saving…" : "Save"}</button></div>
      </form>
    </details>
  );
}

export function Unlink({ view }: { view: CloudState }) {
  const task = useTask();
  const name = view.name || "the cloud";
  function unlink() {
    void task.run(async () => {
      await clouds.unlink();
      cloud.value = { linked: false };
      announcement.value = `This hub is no longer linked to ${name}.`;
      await loadCloud();
    });
  }
  return (
    <section class="panel" aria-labelledby="unlink-heading">
      <h2 id="unlink-heading">Unlink</h2>
      <p class="quiet">Everything at home stays as it is. The cloud erases what it holds of this home, also the recovery copy; what was revoked stays revoked.</p>
      <ProblemNote problem={task.problem} />
      <Confirm
        label="Unlink this hub"
        question={`Unlink this hub from ${name}? Nobody uses anything from away any more, and should this hub break before it is linked again, every device has to be added anew.`}
        yes={task.busy ? "Unlinking…" : "Unlink it"}
        no="Stay linked"
        busy={task.busy}
        onYes={unlink}
      />
    </section>
  );
}
