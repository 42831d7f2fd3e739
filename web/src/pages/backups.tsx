// Backups of the hub: how they stand, one now, where they go and when, what there is, and how one becomes a hub again.

import { useEffect, useState } from "preact/hooks";
import { asProblem, type Problem } from "../api.ts";
import { backups, type Backups } from "../backup-api.ts";
import { backupStanding, listedWords, optionOf, retentionWords, scheduleWords, waysWords } from "../backup-words.ts";
import { fullTime, now } from "../clock.ts";
import { spanWords } from "../cloud-mark.ts";
import { BackupForm } from "../components/backup-form.tsx";
import { Page } from "../components/page.tsx";
import { PasswordStep } from "../components/password-step.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { RehearsalPanel } from "../components/rehearsal.tsx";
import { SettingsNav } from "../components/settings-nav.tsx";
import { sizeWords } from "../sizes.ts";
import { announcement, news } from "../store.ts";

/** How often the page asks while one is being made. */
const BUSY_MS = 1_500;

export function BackupsPage() {
  const [view, setView] = useState<Backups | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const load = () =>
    backups.all().then(
      (found) => {
        setView(found);
        setProblem(null);
      },
      (error) => setProblem(asProblem(error)),
    );
  const fresh = news.value.get("backup");
  const running = view?.run.running === true || view?.rehearsing === true;
  useEffect(() => void load(), [fresh]);
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(() => document.hidden || void load(), BUSY_MS);
    return () => clearInterval(timer);
  }, [running]);
  const stands = view && backupStanding(view, now.value);
  return (
    <Page title="Backups">
      <SettingsNav />
      <ProblemNote problem={problem} />
      {!view && !problem && <p class="quiet late" role="status">Loading…</p>}
      {view && stands && (
        <section class="panel" aria-labelledby="backup-heading">
          <h2 id="backup-heading">How they stand</h2>
          <div class={`note note-${stands.tone}`} role="status">
            <p><strong>{stands.title}</strong></p>
            {stands.next && <p class="note-next">{stands.next}</p>}
          </div>
          <dl class="facts after-summary">
            <div><dt>Last good one</dt><dd>{view.good ? <>{fullTime(view.good.at)}, {sizeWords(view.good.bytes)}</> : "none"}</dd></div>
            {view.failed && <div><dt>Failed since</dt><dd>{fullTime(view.failed.at)}<span class="holds-not why">{view.failed.detail}</span></dd></div>}
            <div><dt>Where</dt><dd>{view.target?.text ?? "nowhere yet"}</dd></div>
            <div><dt>When</dt><dd>{scheduleWords(view.schedule)}{view.next_at && view.next_at > now.value ? <span class="quiet">; the next in {spanWords(view.next_at - now.value)}</span> : ""}</dd></div>
            <div><dt>Kept</dt><dd>{retentionWords(view.retention)}</dd></div>
            <div><dt>Opened by</dt><dd>{waysWords(view)}</dd></div>
          </dl>
          <MakeNow view={view} onAsked={load} />
        </section>
      )}
      {view && <RehearsalPanel view={view} onAsked={load} />}
      {view && <Listed view={view} />}
      {view && (
        <details class="panel">
          <summary><h2>Where, when and how many</h2></summary>
          <BackupForm view={view} onSaved={load} />
        </details>
      )}
      {view && <Restoring view={view} />}
    </Page>
  );
}

function MakeNow({ view, onAsked }: { view: Backups; onAsked: () => unknown }) {
  const [full, setFull] = useState(false);
  const { running, rows, outcome } = view.run;
  if (running)
    return (
      <div class="after-summary">
        <p role="status">A backup is being made. The hub goes on as ever.</p>
        <progress class="bar" aria-label="A backup is being made" />
        {rows > 0 && <p class="quiet">{rows.toLocaleString("en")} entries so far.</p>}
      </div>
    );
  if (!view.target || !(view.by_code || view.by_passphrase)) return null;
  return (
    <>
      {outcome?.outcome === "good" && <p class="hint hint-good" role="status">Made: {outcome.name}, {sizeWords(outcome.bytes)}.</p>}
      <details class="inner">
        <summary>Make one now</summary>
        <label class="tick"><input type="checkbox" checked={full} onChange={(event) => setFull(event.currentTarget.checked)} /><span>A full one, also where what is new would do</span></label>
        <PasswordStep
          button="Make a backup"
          busy="One moment…"
          onGo={async (password) => {
            await backups.make(password, full);
            announcement.value = "A backup is being made.";
            await onAsked();
          }}
        />
      </details>
    </>
  );
}

function Listed({ view }: { view: Backups }) {
  if (!view.target) return null;
  return (
    <section class="panel" aria-labelledby="listed-heading">
      <h2 id="listed-heading">What there is</h2>
      {view.listed_at === 0 ? <p class="quiet">The hub has not looked there yet.</p> : view.backups.length === 0 && <p class="quiet">Nothing yet.</p>}
      <ul class="rights">
        {view.backups.map((each) => (
          <li key={each.name}>
            <div class="right">
              <p class="mono">{each.name}{!each.good && <span class="badge bad inline">Not good</span>}</p>
              <p class="quiet">{each.made_at ? <time dateTime={new Date(each.made_at).toISOString()} title={fullTime(each.made_at)}>{listedWords(each, now.value)}</time> : listedWords(each, now.value)}</p>
              {each.problem && <p class="holds-not">{each.problem}</p>}
            </div>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Restoring({ view }: { view: Backups }) {
  const where = optionOf(view.target);
  return (
    <details class="panel">
      <summary><h2>How a backup becomes a hub again</h2></summary>
      <p>It is done at the box itself, since whoever does it holds the whole home.{view.by_code || view.by_passphrase ? ` Have ${waysWords(view)} at hand.` : ""}</p>
      <ol class="steps">
        <li><strong>Rehearse it</strong>, now and once a year: above, or with <code>hearthkey backup rehearse {where}</code> on this machine or another.</li>
        <li><strong>Restore it</strong> on a new box: install the hub, do not start it, and run <code>hearthkey backup restore {where} --data-dir /var/lib/hearthkey</code>. It asks for the code or the passphrase, and says why if it refuses. Never switch the old box on again.</li>
        <li><strong>Start the hub.</strong> Devices come back by themselves. What was revoked since stays revoked where its journal lies there; else the rights of everybody but owners rest until you have looked through them: the page Cloud shows it.</li>
      </ol>
      {view.target?.kind === "s3" && <p class="quiet">Keep what the store needs (address, bucket and keys) in a file such as bucket.toml, away from this hub.</p>}
      <p class="quiet">Keep the recovery code on paper, and not beside the backups: whoever has both has the home.</p>
    </details>
  );
}
