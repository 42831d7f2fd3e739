// While somebody of a maker may do something here, every page says so, and one tap ends it.

import { useEffect } from "preact/hooks";
import { api } from "../api.ts";
import { fullTime, now, present } from "../clock.ts";
import { moment, RIGHTS, ROLE_NAMES } from "../rights.ts";
import { announcement, loadSupport, me, support } from "../store.ts";
import type { SupportSession } from "../types.ts";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

export function SupportBanner() {
  return <>{support.value.filter((each) => each.until > now.value).map((session) => <Open key={session.id} session={session} />)}</>;
}

function Open({ session }: { session: SupportSession }) {
  const task = useTask();
  const user = me.value;
  const own = session.user === user?.id;
  const name = own ? "You" : session.name;
  const ends = user?.role === "owner" || own;
  const devices = session.devices.map((each) => each.name || each.id).join(", ");
  // It ends by its time without an event.
  useEffect(() => {
    const timer = setTimeout(() => void loadSupport(), Math.min(Math.max(0, session.until - present()) + 500, 86_400_000));
    return () => clearTimeout(timer);
  }, [session.until]);
  function end() {
    void task.run(async () => {
      await api.endSupport(session.id);
      support.value = support.value.filter((each) => each.id !== session.id);
      announcement.value = "The support session has ended.";
    });
  }
  return (
    <section class="support-banner" aria-label="Support session">
      <div>
        <p><strong>Support session.</strong> {name} ({session.role ? ROLE_NAMES[session.role].toLowerCase() : "support"}{session.brand && ` of ${session.brand}`}) {own ? `may ${RIGHTS[session.privilege].you}` : RIGHTS[session.privilege].does}: {devices}.</p>
        <p class="support-facts">Until <time dateTime={new Date(session.until).toISOString()} title={fullTime(session.until)}>{moment(session.until, now.value)}</time>. {session.reason && `Reason: ${session.reason.replace(/\.$/, "")}. `}{session.opened_by_name && `Opened by ${session.opened_by_name}.`}</p>
        <ProblemNote problem={task.problem} />
      </div>
      {ends && <button type="button" class="button" disabled={task.busy} onClick={end}>{task.busy ? "Ending…" : "End it now"}</button>}
    </section>
  );
}
