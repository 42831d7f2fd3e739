// One entry of the audit: a sentence, when it was, and the hub's own words in a fold.

import type { Part } from "../audit/names.ts";
import { tell } from "../audit/telling.ts";
import { ago, fullTime } from "../clock.ts";
import { devices, models, people } from "../store.ts";
import type { AuditEntry } from "../types.ts";

export function AuditRow({ entry, others }: { entry: AuditEntry; others: Readonly<Record<string, string>> }) {
  const { parts, why } = tell(entry, { people: people.value, devices: devices.value ?? new Map(), models: models.value, others });
  return (
    <li>
      <time dateTime={new Date(entry.at).toISOString()} title={fullTime(entry.at)}>{ago(entry.at)}</time>
      <div>
        <p>{parts.map((part, at) => <Piece key={at} part={part} />)}</p>
        {why && <p class="quiet">{why}</p>}
        <Raw entry={entry} />
      </div>
      {entry.outcome === "denied" && <span class="badge bad">Refused</span>}
    </li>
  );
}

function Piece({ part }: { part: Part }) {
  if (typeof part === "string") return <>{part}</>;
  if ("device" in part) return <a class="named" href={`#/device/${encodeURIComponent(part.device)}`}>{part.name}</a>;
  return <strong>{part.name}</strong>;
}

function Raw({ entry }: { entry: AuditEntry }) {
  const facts: [string, unknown][] = [
    ["Entry", entry.seq],
    ["When", fullTime(entry.at)],
    ["Actor", entry.actor],
    ["For", entry.behalf],
    ["Action", entry.action],
    ["Object", entry.object],
    ["Outcome", entry.outcome],
    ["Reason", entry.reason],
    ["Detail", entry.detail],
    ["Through", entry.via],
    ["Erased", entry.erased ? "what was personal" : null],
  ];
  return (
    <details class="raw">
      <summary>Details</summary>
      <dl class="facts">
        {facts.filter(([, fact]) => fact !== null && fact !== undefined && fact !== "").map(([label, fact]) => <div key={label}><dt>{label}</dt><dd class="mono">{typeof fact === "object" ? JSON.stringify(fact) : String(fact)}</dd></div>)}
      </dl>
    </details>
  );
}
