// The second factor: an authenticator app that shows a code, and ten codes on paper for the day it is lost.

import { useEffect, useRef, useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { announcement, me } from "../store.ts";
import { Copyable } from "./copy.tsx";
import { TextField } from "./field.tsx";
import { Qr } from "./link-card.tsx";
import { PasswordStep } from "./password-step.tsx";
import { ProblemNote } from "./problem.tsx";
import { Sheet } from "./sheet.tsx";
import { useTask } from "./use-task.ts";

export function SecondFactor() {
  const [begun, setBegun] = useState<{ secret: string; uri: string; qr: string } | null>(null);
  const [codes, setCodes] = useState<string[] | null>(null);
  const [ended, setEnded] = useState(false);
  const on = me.value?.second_factor;
  const fold = useRef<HTMLDetailsElement>(null);
  if (codes)
    return (
      <Sheet title="Recovery codes" lead="Your second factor is in force. Each of these codes stands in for it once, if your phone is lost. Keep them on paper, not on the phone." lines={codes} file={`User: ${me.value?.username}`} onDone={() => setCodes(null)} />
    );
  return (
    <>
      <details class="inner" ref={fold}>
        <summary>{on ? "Set the second factor up again" : "Set up a second factor"}</summary>
        {begun ? (
          <Confirming begun={begun} onDone={(codes) => { setBegun(null); setCodes(codes); setEnded(false); mark(true); announcement.value = "Your second factor is in force."; }} onCancel={() => setBegun(null)} />
        ) : (
          <>
            <p class="quiet">When you sign in, the hub then also asks for a code that an authenticator app on your phone shows. It works without the Internet.</p>
            <PasswordStep button="Set it up" busy="One moment…" onGo={async (password) => setBegun(await access.beginSecondFactor(password))} />
          </>
        )}
      </details>
      {on !== false && <details class="inner">
        <summary>Switch the second factor off</summary>
        <p class="quiet">Your password alone then suffices. Its recovery codes end.</p>
        {on === undefined && ended && <div class="note note-good slim-note"><p>The second factor is off.</p></div>}
        <PasswordStep button="Switch it off" busy="Switching off…" onGo={async (password) => { await access.endSecondFactor(password); setEnded(true); mark(false); announcement.value = "The second factor is off."; }} />
      </details>}
      {on === false && ended && <div class="note note-good slim-note"><p>The second factor is off.</p></div>}
    </>
  );
}

/** What the page knows of it, where the hub tells. */
function mark(on: boolean): void {
  if (me.value?.second_factor !== undefined) me.value = { ...me.value, second_factor: on };
}

function Confirming({ begun, onDone, onCancel }: { begun: { secret: string; uri: string; qr: string }; onDone: (codes: string[]) => void; onCancel: () => void }) {
  const task = useTask();
  const [code, setCode] = useState("");
  const [tried, setTried] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => form.current?.querySelector("input")?.focus(), []);
  const digits = code.replace(/\s/g, "");
  const error = /^\d{6}$/.test(digits) ? "" : "Six digits.";
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (error) return form.current?.querySelector("input")?.focus();
    void task.run(async () => onDone((await access.confirmSecondFactor(digits)).recovery_codes));
  }
  return (
    <form ref={form} noValidate onSubmit={submit}>
      <div class="link-card-row">
        <Qr svg={begun.qr} alt="QR code for the authenticator app" />
        <div>
          <p>Scan it with an authenticator app, or <a href={begun.uri}>open it in one on this phone</a>. Then type the code that the app shows.</p>
          <p class="quiet">To type it in by hand:</p>
          <Copyable label="the secret" text={begun.secret.replace(/(.{4})(?=.)/g, "$1 ")} />
        </div>
      </div>
      <div class="slim">
        <TextField label="Code from the app" name="second" mono exact autocomplete="one-time-code" value={code} onText={setCode} error={tried ? error : ""} />
        <ProblemNote problem={task.problem} />
        <div class="buttons">
          <button class="button primary" disabled={task.busy}>{task.busy ? "Checking…" : "Confirm"}</button>
          <button type="button" class="button" onClick={onCancel}>Not now</button>
        </div>
      </div>
    </form>
  );
}
