// The version of the hub itself: what runs, what there is, installing it, how far that is, going back, and how it ended last.

import { useEffect, useState } from "preact/hooks";
import { asProblem, type Problem } from "../api.ts";
import { ago, now } from "../clock.ts";
import { Page } from "../components/page.tsx";
import { PasswordStep } from "../components/password-step.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { SettingsNav } from "../components/settings-nav.tsx";
import { SystemPanel } from "../components/system-update.tsx";
import { useTask } from "../components/use-task.ts";
import { live } from "../live.ts";
import { moment } from "../rights.ts";
import { share, sizeWords } from "../sizes.ts";
import { announcement, hub, news } from "../store.ts";
import { updates, type HubUpdate } from "../update-api.ts";
import { habitWords, lastWords, phaseWords } from "../update-words.ts";

/** How often the page asks while something goes on. */
const BUSY_MS = 1_500;

/** The version that this page came from, as far as it knows. */
let loadedFrom = "";

export function UpdatePage() {
  const [view, setView] = useState<HubUpdate | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  // Since it was told to start again it may be out of reach for a moment, which is no problem.
  const [leaving, setLeaving] = useState(false);
  const busy = leaving || (view !== null && view.phase !== "idle");
  const take = (found: HubUpdate) => {
    setView(found);
    setProblem(null);
    setLeaving(found.phase === "switching");
  };
  const load = () =>
    updates.view().then(take, (error) => {
      const found = asProblem(error);
      if (!(leaving && (found.status === 0 || found.status >= 500))) setProblem(found);
    });
  const fresh = news.value.get("update");
  // A hub that was away may have come back as another one.
  const here = live.value === "live";
  useEffect(() => {
    if (here || !view) void load();
  }, [fresh, here]);
  useEffect(() => {
    if (!busy) return;
    const timer = setInterval(() => document.hidden || void load(), BUSY_MS);
    return () => clearInterval(timer);
  }, [busy, leaving]);
  const none = problem?.status === 409;
  const runs = view?.version ?? hub.value?.version;
  if (view) loadedFrom ||= view.version;
  const old = Boolean(view && view.version !== loadedFrom);
  return (
    <Page title="Update of the hub">
      <SettingsNav />
      {!none && <ProblemNote problem={problem} />}
      {!view && !problem && <p class="quiet late" role="status">Loading…</p>}
      {old && (
        <div class="note note-accent page-note" role="status">
          <p>The hub is now version {view?.version}. This page is still that of version {loadedFrom}.</p>
          <p class="note-next"><button type="button" class="button primary" onClick={() => location.reload()}>Load the new page</button></p>
        </div>
      )}
      {(view || none) && (
        <section class="panel" aria-labelledby="version-heading">
          <h2 id="version-heading">Version {runs}</h2>
          {none && <p>This hub does not update itself: whoever set it up does, with the system it runs on.</p>}
          {view && <Standing view={view} leaving={leaving} onFound={take} />}
        </section>
      )}
      <SystemPanel fresh={[fresh, here].join()} />
      {view?.offered && <Offered view={view} busy={busy} onAsked={take} />}
      {view?.back_to && <Back view={view} busy={busy} onAsked={take} />}
    </Page>
  );
}

function Standing({ view, leaving, onFound }: { view: HubUpdate; leaving: boolean; onFound: (view: HubUpdate) => void }) {
  const task = useTask();
  const doing = phaseWords(leaving ? { ...view, phase: "switching" } : view);
  const last = view.last && lastWords(view.last, now.value);
  const look = () =>
    void task.run(async () => {
      const found = await updates.check();
      onFound(found);
      announcement.value = found.offered ? `Version ${found.offered.version} is there.` : "There is nothing newer.";
    });
  return (
    <>
      {doing && (
        <div class="note note-accent">
          <p role="status"><strong>{doing.title}</strong></p>
          {doing.next && <p class="note-next">{doing.next}</p>}
          <progress class="bar" aria-label="Update" value={view.phase === "downloading" && view.offered ? share(view.done, view.offered.size) : undefined} max={100} />
        </div>
      )}
      {view.problem && <div class="note note-warn after-summary"><p class="sentence">{view.problem}</p></div>}
      {last && (
        <div class={`note note-${last.tone} after-summary`}>
          <p>{last.title}</p>
          {last.next && <p class="note-next">{last.next}</p>}
        </div>
      )}
      <dl class="facts after-summary">
        <div><dt>New versions</dt><dd>{habitWords(view)}</dd></div>
        {view.configured && <div><dt>Last looked</dt><dd>{view.checked_at ? ago(view.checked_at, now.value) : "not yet"}</dd></div>}
        {!view.offered && view.checked_at && <div><dt>There is</dt><dd>nothing newer</dd></div>}
      </dl>
      {!view.supervised && <p class="quiet after-summary">Nobody would start another version here: run the hub with <code>hearthkey run</code>, which also goes back when a version does not serve.</p>}
      <ProblemNote problem={task.problem} />
      {view.configured && <div class="buttons"><button type="button" class="button" disabled={task.busy || view.phase !== "idle"} onClick={look}>{task.busy ? "Looking…" : "Look now"}</button></div>}
    </>
  );
}

function Offered({ view, busy, onAsked }: { view: HubUpdate; busy: boolean; onAsked: (view: HubUpdate) => void }) {
  const { offered } = view;
  if (!offered) return null;
  return (
    <section class="panel" aria-labelledby="offered-heading">
      <h2 id="offered-heading">Version {offered.version} is there</h2>
      <p class="quiet">Made {moment(offered.made_at, now.value)}, {sizeWords(offered.size)}. {offered.by_itself ? "" : "Its vendor has not yet given it to every hub."}</p>
      {offered.failed && <div class="note note-bad"><p>It was tried here, and did not serve.</p><p class="note-next">Wait for the next one, unless its vendor tells you otherwise.</p></div>}
      {offered.notes && <p class="as-written after-summary">{offered.notes}</p>}
      {view.supervised && !busy && (
        <>
          <p class="after-summary">The hub is away for some seconds. If the new version is not well, this one comes back by itself.</p>
          <PasswordStep button={`Install version ${offered.version}`} busy="One moment…" onGo={async (password) => { onAsked(await updates.apply(password)); announcement.value = "It begins."; }} />
        </>
      )}
    </section>
  );
}

function Back({ view, busy, onAsked }: { view: HubUpdate; busy: boolean; onAsked: (view: HubUpdate) => void }) {
  return (
    <details class="panel">
      <summary><h2>Go back to version {view.back_to}</h2></summary>
      <p>If this version does not do what it should. The hub then has its records as they were before the update: what was changed since is undone, but what was revoked stays revoked, and the activity stays whole.</p>
      {busy ? <p class="quiet">Not while something else goes on.</p> : <PasswordStep danger button={`Go back to ${view.back_to}`} busy="One moment…" onGo={async (password) => { onAsked(await updates.rollBack(password)); announcement.value = "The hub goes back."; }} />}
    </details>
  );
}
