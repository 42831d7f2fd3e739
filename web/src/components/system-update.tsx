// The system of the box, where RAUC updates it as a whole: bring a bundle, install it, restart. Nothing is shown where there is none.

import { useEffect, useState } from "preact/hooks";
import { announcement } from "../store.ts";
import { updates, type SystemUpdate } from "../update-api.ts";
import { fateWords, isDoing } from "../update-words.ts";
import { FilePicker } from "./file-picker.tsx";
import { PasswordStep } from "./password-step.tsx";

export function SystemPanel({ fresh }: { fresh: unknown }) {
  const [view, setView] = useState<SystemUpdate | null>(null);
  const load = () => updates.system().then(setView, () => {});
  const doing = view && isDoing(view);
  useEffect(() => void load(), [fresh]);
  useEffect(() => {
    if (!doing) return;
    const timer = setInterval(load, 1_500);
    return () => clearInterval(timer);
  }, [doing]);
  if (!view) return null;
  const { bundle, tried } = view;
  const older = bundle && (bundle.age === "older" || bundle.age === "unknown");
  return (
    <section class="panel" aria-labelledby="system-heading">
      <h2 id="system-heading">System of the box: {view.version}</h2>
      {tried && <div class={`note note-${tried.fate === "fell_back" ? "bad" : "accent"}`}><p>{fateWords(tried)}</p></div>}
      {view.problem && <div class="note note-warn after-summary"><p class="sentence">{view.problem}</p></div>}
      {doing && <div role="status"><p>{doing}</p><progress class="bar" aria-label="System" value={view.phase === "installing" ? view.percent : undefined} max={100} /></div>}
      <dl class="facts after-summary">
        {view.slots.map((slot) => <div key={slot.name}><dt>Slot {slot.name}</dt><dd>{slot.version ?? "as delivered"}, {slot.boot_status}{slot.booted && ", runs"}{slot.next && ", starts next"}</dd></div>)}
      </dl>
      {!doing && tried?.fate === "waits" && <PasswordStep button="Restart the box" busy="One moment…" onGo={async (password) => setView(await updates.restart(password))} />}
      {!doing && bundle && (
        <>
          {older && <div class="note note-bad"><p>Version {bundle.version} is older than what runs, or cannot be compared with it.</p></div>}
          <PasswordStep danger={Boolean(older)} button={`Install ${bundle.version}${older ? " all the same" : ""}`} busy="One moment…" onGo={async (password) => { setView(await updates.install(password, Boolean(older))); announcement.value = "It begins."; }} />
        </>
      )}
      {!doing && <FilePicker<{ version: string }> label="Bundle (.raucb)" hint={`For ${view.compatible}, signed by who built it.`} path="/update/system/bundle" checks="The box checks it…" say={(taken) => `Version ${taken.version} is here.`} onTaken={load} />}
    </section>
  );
}
