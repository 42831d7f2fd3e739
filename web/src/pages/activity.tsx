// What happened, newest first: the hub's audit record.

import { useEffect, useState } from "preact/hooks";
import { api } from "../api.ts";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { useTask } from "../components/use-task.ts";
import { ago, fullTime } from "../clock.ts";
import type { AuditEntry } from "../types.ts";

const TONE = { allowed: "good", done: "plain", denied: "bad" } as const;

export function ActivityPage() {
  const task = useTask();
  const [entries, setEntries] = useState<AuditEntry[] | null>(null);
  const [next, setNext] = useState<number | null>(null);
  const load = (before?: number) =>
    void task.run(async () => {
      const page = await api.audit(before);
      setEntries(before === undefined ? page.entries : [...(entries ?? []), ...page.entries]);
      setNext(page.next);
    });
  useEffect(() => load(), []);
  return (
    <Page title="Activity" actions={<button type="button" class="button" disabled={task.busy} onClick={() => load()}>Refresh</button>}>
      <ProblemNote problem={task.problem} />
      {!entries && !task.problem && <p class="quiet late" role="status">Loading…</p>}
      {entries?.length === 0 && <p class="quiet">Nothing has happened yet.</p>}
      {entries && entries.length > 0 && (
        <ol class="log">
          {entries.map((entry) => <Entry key={entry.seq} entry={entry} />)}
        </ol>
      )}
      {next !== null && <button type="button" class="button wide" disabled={task.busy} onClick={() => load(next)}>{task.busy ? "Loading…" : "Older entries"}</button>}
    </Page>
  );
}

function Entry({ entry }: { entry: AuditEntry }) {
  const detail = entry.detail === null || entry.detail === undefined || entry.detail === "" ? "" : typeof entry.detail === "string" ? entry.detail : JSON.stringify(entry.detail);
  return (
    <li>
      <time dateTime={new Date(entry.at).toISOString()} title={fullTime(entry.at)}>{ago(entry.at)}</time>
      <div>
        <p><strong>{entry.actor}</strong> {entry.action} <span class="mono">{entry.object}</span></p>
        {(entry.reason || detail || entry.via) && <p class="quiet">{[entry.reason, detail, entry.via && `via ${entry.via}`].filter(Boolean).join(" · ")}</p>}
      </div>
      <span class={`badge ${TONE[entry.outcome] ?? "plain"}`}>{entry.outcome}</span>
    </li>
  );
}
