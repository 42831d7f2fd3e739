// What happened, newest first: the hub's audit record, told in sentences. The hub's own words are one tap away.

import { useEffect, useState } from "preact/hooks";
import { api } from "../api.ts";
import { AuditRow } from "../components/audit-row.tsx";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { useTask } from "../components/use-task.ts";
import { loadPeople } from "../store.ts";
import type { AuditEntry } from "../types.ts";

const SHOWN = [
  { label: "Everything", denied: false },
  { label: "Refused only", denied: true },
];

export function ActivityPage() {
  const task = useTask();
  const [entries, setEntries] = useState<AuditEntry[] | null>(null);
  const [next, setNext] = useState<number | null>(null);
  const [denied, setDenied] = useState(false);
  const load = (before?: number) =>
    void task.run(async () => {
      // Names belong to the first look: without them the record would show ids for a moment. A hub that does not tell
      // them still has its record.
      const [page] = await Promise.all([api.audit(before), before === undefined && loadPeople().catch(() => {})]);
      setEntries(before === undefined ? page.entries : [...(entries ?? []), ...page.entries]);
      setNext(page.next);
    });
  useEffect(() => load(), []);
  const shown = entries?.filter((entry) => !denied || entry.outcome === "denied");
  return (
    <Page title="Activity" actions={<button type="button" class="button" disabled={task.busy} onClick={() => load()}>Refresh</button>}>
      <div class="filter" role="group" aria-label="What to show">
        {SHOWN.map((each) => <button key={each.label} type="button" aria-pressed={denied === each.denied} onClick={() => setDenied(each.denied)}>{each.label}</button>)}
      </div>
      <ProblemNote problem={task.problem} />
      {!entries && !task.problem && <p class="quiet late" role="status">Loading…</p>}
      {shown?.length === 0 && <p class="quiet none">{denied && entries?.length ? `Nothing was refused among the latest ${entries.length} entries.` : "Nothing has happened yet."}</p>}
      {shown && shown.length > 0 && <ol class="log">{shown.map((entry) => <AuditRow key={entry.seq} entry={entry} />)}</ol>}
      {next !== null && <button type="button" class="button wide" disabled={task.busy} onClick={() => load(next)}>{task.busy ? "Loading…" : "Load older"}</button>}
    </Page>
  );
}
