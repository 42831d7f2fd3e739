// Where one is signed in, with a way to end each.

import { useEffect, useState } from "preact/hooks";
import { access, type SessionInfo } from "../access-api.ts";
import { agentName } from "../agent.ts";
import { ago, fullTime } from "../clock.ts";
import { announcement, signedOut } from "../store.ts";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

export function Sessions() {
  const loading = useTask();
  const [sessions, setSessions] = useState<SessionInfo[] | null>(null);
  useEffect(() => void loading.run(async () => setSessions(await access.sessions())), []);
  const sorted = [...(sessions ?? [])].sort((a, b) => Number(b.current) - Number(a.current) || (b.last_seen ?? b.created_at) - (a.last_seen ?? a.created_at));
  return (
    <section class="panel" aria-labelledby="sessions-heading">
      <h2 id="sessions-heading">Where you are signed in</h2>
      <ProblemNote problem={loading.problem} />
      {!sessions && !loading.problem && <p class="quiet late" role="status">Loading…</p>}
      <ul class="rights">
        {sorted.map((session) => <Session key={session.id} session={session} onEnd={() => setSessions(sorted.filter((each) => each.id !== session.id))} />)}
      </ul>
    </section>
  );
}

function Session({ session, onEnd }: { session: SessionInfo; onEnd: () => void }) {
  const task = useTask();
  const name = agentName(session.agent);
  const seen = session.last_seen ?? session.created_at;
  function end() {
    void task.run(async () => {
      await access.endSession(session.id);
      if (session.current) return signedOut("You are signed out.");
      announcement.value = `${name} is signed out.`;
      onEnd();
    });
  }
  return (
    <li>
      <div class="right">
        <p><strong>{name}</strong>{session.current && <span class="badge good inline">This one</span>}</p>
        <p class="quiet">{session.source && `From ${session.source}, `}<time dateTime={new Date(seen).toISOString()} title={fullTime(seen)}>{session.current ? "now" : `last used ${ago(seen)}`}</time>, signed in {ago(session.created_at)}</p>
      </div>
      <button type="button" class="text-button" disabled={task.busy} aria-label={`Sign out ${name}${session.current ? ", which is this one" : ""}`} onClick={end}>{task.busy ? "Signing out…" : "Sign out"}</button>
      <ProblemNote problem={task.problem} />
    </li>
  );
}
