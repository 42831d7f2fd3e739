// What happened, newest first: the hub's audit record, told in sentences. It can be narrowed, taken along, and checked.

import { useEffect, useRef, useState } from "preact/hooks";
import { access, exportAddress, type AuditCheck, type AuditFilter } from "../access-api.ts";
import { asProblem, type Problem } from "../api.ts";
import { ActivityFilter, filterOf, NO_FILTER, type Chosen } from "../components/activity-filter.tsx";
import { AuditRow } from "../components/audit-row.tsx";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { useTask } from "../components/use-task.ts";
import { fullTime } from "../clock.ts";
import { announcement, loadPeople } from "../store.ts";
import type { AuditEntry } from "../types.ts";

export function ActivityPage() {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [entries, setEntries] = useState<AuditEntry[] | null>(null);
  const [next, setNext] = useState<number | null>(null);
  const [chosen, setChosen] = useState<Chosen>(NO_FILTER);
  const [names, setNames] = useState<Record<string, string>>({});
  const latest = useRef(0);
  const filter = filterOf(chosen);
  /** The answer to what was asked last is the one that shows. */
  async function load(filter: AuditFilter, before?: number) {
    const turn = ++latest.current;
    setBusy(true);
    setProblem(null);
    try {
      // Names belong to the first look: without them the record would show ids for a moment. A hub that does not tell
      // them still has its record.
      const first = entries === null;
      const [page, known] = await Promise.all([access.audit(filter, before), first ? loadNames() : names, first && loadPeople().catch(() => {})]);
      if (turn !== latest.current) return;
      setNames(known);
      setEntries(before === undefined ? page.entries : [...(entries ?? []), ...page.entries]);
      setNext(page.next);
    } catch (error) {
      if (turn === latest.current) setProblem(asProblem(error));
    } finally {
      if (turn === latest.current) setBusy(false);
    }
  }
  useEffect(() => void load(filter), [chosen]);
  const some = Object.keys(filter).length > 0;
  // What does not fit leaves at once; what fits and is not here yet comes with the hub's answer.
  const shown = entries?.filter((entry) => !chosen.outcome || entry.outcome === chosen.outcome);
  return (
    <Page title="Activity" actions={<button type="button" class="button" disabled={busy} onClick={() => void load(filter)}>Refresh</button>}>
      <ActivityFilter chosen={chosen} others={names} onChoose={setChosen} />
      <ProblemNote problem={problem} />
      {!entries && !problem && <p class="quiet late" role="status">Loading…</p>}
      {shown?.length === 0 && !busy && <p class="quiet none" role="status">{some ? "Nothing fits what you chose. Choose less, or look at everything." : "Nothing has happened yet."}</p>}
      {shown && shown.length > 0 && <ol class="log" aria-busy={busy}>{shown.map((entry) => <AuditRow key={entry.seq} entry={entry} others={names} />)}</ol>}
      {next !== null && <button type="button" class="button wide" disabled={busy} onClick={() => void load(filter, next)}>{busy ? "Loading…" : "Load older"}</button>}
      <Keeping filter={filter} some={some} />
    </Page>
  );
}

/** What apps and services are called, by `app:<id>` and `service:<id>`. */
async function loadNames(): Promise<Record<string, string>> {
  const [apps, services] = await Promise.all([access.allApps().catch(() => []), access.services().catch(() => [])]);
  return Object.fromEntries([...apps.map((each) => [`app:${each.id}`, each.name]), ...services.map((each) => [`service:${each.id}`, each.name])]);
}

function Keeping({ filter, some }: { filter: AuditFilter; some: boolean }) {
  const task = useTask();
  const [check, setCheck] = useState<AuditCheck | null>(null);
  function verify() {
    void task.run(async () => {
      const found = await access.verifyAudit();
      setCheck(found);
      announcement.value = found.whole ? "The record is whole." : "The record is not whole.";
    });
  }
  return (
    <section class="panel keeping" aria-labelledby="keeping-heading">
      <h2 id="keeping-heading">The record itself</h2>
      <p class="quiet">Each entry is chained to the one before it, so that none can be changed or taken out unseen.</p>
      <div class="buttons">
        <a class="button" href={exportAddress(filter)} download="hearthkey-activity.jsonl">{some ? "Export what is shown" : "Export all of it"}</a>
        <button type="button" class="button" disabled={task.busy} onClick={verify}>{task.busy ? "Checking…" : "Check it"}</button>
      </div>
      <ProblemNote problem={task.problem} />
      {check && (
        <div class={check.whole ? "note note-good" : "note note-bad"}>
          <p>{check.whole ? `The record is whole: ${count(check.entries, "entry", "entries")}${check.first === null ? "" : `, from number ${check.first} to ${check.newest}`}.` : "The record is not whole: an entry was changed or is missing."}</p>
          {check.gaps.length > 0 && <p class="note-next">Older entries made room, as they should: {check.gaps.map((gap) => `${gap.from} to ${gap.to}`).join(", ")}.</p>}
          {!check.whole && <p class="note-next">Export it, keep the file, and compare it with an earlier export. Somebody may have had the hub's disk in their hands.</p>}
          <p class="note-next">Its newest hash, at {fullTime(Date.now())}: <code class="code-tall">{check.hash}</code></p>
        </div>
      )}
    </section>
  );
}

function count(n: number, one: string, more: string): string {
  return `${n.toLocaleString()} ${n === 1 ? one : more}`;
}
