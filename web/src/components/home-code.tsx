// The recovery code of the home: shown once, to print, and asked for once from the paper, so that it is there on the day this hub
// breaks. A new one ends the old one.

import { useEffect, useRef, useState } from "preact/hooks";
import { clouds, type HomeCode } from "../cloud-api.ts";
import { ago, fullTime, now } from "../clock.ts";
import { copyWords, endOfCode, sameSymbols } from "../cloud-words.ts";
import { announcement, cloud, hub } from "../store.ts";
import type { Recovery } from "../types.ts";
import { Confirm } from "./confirm.tsx";
import { TextField } from "./field.tsx";
import { Qr } from "./link-card.tsx";
import { PasswordStep } from "./password-step.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

export function HomeRecovery({ recovery, onMade }: { recovery: Recovery | null; onMade: () => void }) {
  const copied = cloud.value?.linked === true && cloud.value.consent?.includes("bundle") === true;
  return (
    <section class="panel" aria-labelledby="recovery-heading">
      <h2 id="recovery-heading">If this hub breaks or is stolen</h2>
      <p class="quiet">With the recovery code of this home, a new hub takes this one's place: with its people, rights and devices, and nothing has to be added again. It is not the recovery code of your account.</p>
      {recovery && (
        <dl class="facts">
          <div><dt>Recovery code</dt><dd>{recovery.made_at ? <>made <time title={fullTime(recovery.made_at)}>{ago(recovery.made_at, now.value)}</time></> : "there is none yet"}</dd></div>
          <div><dt>Recovery copy</dt><dd>{copyWords(recovery, copied, now.value)}</dd></div>
        </dl>
      )}
      {recovery?.too_large && <div class="note note-warn after-summary"><p>This home is too large for a recovery copy.</p><p class="note-next">Back the hub up by hand: <code>hearthkey backup</code>.</p></div>}
      {recovery?.made_at && !recovery.too_large && (
        <details class="inner">
          <summary>Keep the recovery copy yourself</summary>
          <p class="quiet">A file, sealed with your code: keep it on another computer or a stick, and take a new one when much has changed. You need it if no cloud keeps it for you.</p>
          <a class="button" href="/api/v1/recovery/bundle" download="hearthkey-recovery-bundle.age">Save the recovery copy</a>
        </details>
      )}
      {recovery && <HomeCodeMaker again={recovery.made_at !== null} onKept={onMade} />}
    </section>
  );
}

/** After this hub has taken another's place: the rights of all but owners rest until somebody knows that they still stand. */
export function Review({ recovery, onDone }: { recovery: Recovery | null; onDone: () => void }) {
  const task = useTask();
  const restored = recovery?.restored;
  if (!restored?.review_pending) return null;
  function finish() {
    void task.run(async () => {
      await clouds.finishReview();
      announcement.value = "All rights hold again.";
      onDone();
    });
  }
  return (
    <section class="panel" aria-labelledby="review-heading">
      <h2 id="review-heading">This hub has taken the place of another</h2>
      <div class="note note-warn">
        <p>It knows the home as it was on {fullTime(restored.bundle_at)}. Rights that were taken away after that may have come back with it, so those of everybody but owners rest.</p>
        <p class="note-next">They hold again by themselves once the cloud has told what was revoked. Or look through <a href="#/people">the people</a> and who may use which device, take away what is not to be, and let the others hold.</p>
      </div>
      <ProblemNote problem={task.problem} />
      <div class="after-summary">
        <Confirm label="Let the rights hold again" question="Have you looked through all people and devices? From now on everybody may do again what stands there." yes={task.busy ? "One moment…" : "Let them hold"} no="Not yet" busy={task.busy} onYes={finish} />
      </div>
    </section>
  );
}

/** Makes a code, shows it, and takes its end back. `again`: there is one that ends; `onBack`: the way back before it is made. */
export function HomeCodeMaker({ again, onBack, onKept }: { again: boolean; onBack?: () => void; onKept: () => void }) {
  const [made, setMade] = useState<HomeCode | null>(null);
  const [sure, setSure] = useState(false);
  const step = useRef<HTMLDivElement>(null);
  // Who said yes goes on at the password.
  useEffect(() => void (sure && step.current?.querySelector("input")?.focus()), [sure]);
  const make = async (password: string) => setMade(await clouds.makeCode(password));
  if (made)
    return (
      <HomeCodeSheet
        made={made}
        onKept={() => {
          setMade(null);
          setSure(false);
          announcement.value = "The recovery code is kept.";
          onKept();
        }}
      />
    );
  if (again && !sure)
    return (
      <div class="inner">
        <Confirm label="Make a new recovery code" question="Make a new recovery code? The one you have on paper then opens nothing any more, and is to be destroyed." yes="Make a new one" no="Keep the old one" busy={false} onYes={() => setSure(true)} />
      </div>
    );
  return (
    <div class="inner" ref={step}>
      <PasswordStep button={again ? "Make it, and end the old one" : "Make the recovery code"} busy="Making it…" onGo={make} />
      {(again || onBack) && <button type="button" class="text-button" onClick={() => (again ? setSure(false) : onBack?.())}>{again ? "Keep the old one" : "Back"}</button>}
    </div>
  );
}

function HomeCodeSheet({ made, onKept }: { made: HomeCode; onKept: () => void }) {
  const [hidden, hide] = useState(false);
  const [said, say] = useState("");
  const top = useRef<HTMLDivElement>(null);
  // Back from the paper, its heading comes first again.
  useEffect(() => void (hidden || top.current?.focus()), [hidden]);
  async function copy() {
    try {
      await navigator.clipboard.writeText(`${made.code}\nhub ${made.hub}`);
      say("Copied. Paste it where only you look, and not only on a phone that may be lost with the hub.");
    } catch {
      say("This browser does not let the page copy. Print it, or write it down.");
    }
  }
  if (hidden) return <TypeItBack code={made.code} onBack={() => hide(false)} onKept={onKept} />;
  const url = made.url ?? cloud.value?.url;
  return (
    <div class="sheet" tabIndex={-1} ref={top} role="group" aria-label="Recovery code of this home">
      <h3>Recovery code of this home</h3>
      <p class="sheet-file">{hub.value?.name || "Hearthkey"} · made {fullTime(now.value)}</p>
      <p>Whoever has it can put another hub in the place of this one. Keep it on paper, where you keep your passport, and not beside the hub. It is shown only now.</p>
      <div class="link-card-row">
        <Qr svg={made.qr} alt="QR code of the recovery code" />
        <div>
          <p class="code-groups">{made.code.split(/[\s-]+/).map((group, at) => <code key={at}>{group}</code>)}</p>
          <dl class="facts">
            <div><dt>Hub id</dt><dd class="mono">{made.hub}</dd></div>
            {url && <div><dt>Cloud</dt><dd>{url}</dd></div>}
          </dl>
        </div>
      </div>
      <div class="no-print">
        <div class="buttons">
          <button type="button" class="button" onClick={() => window.print()}>Print</button>
          <button type="button" class="button" onClick={() => void copy()}>Copy</button>
          <button type="button" class="button primary" onClick={() => hide(true)}>I have it on paper</button>
        </div>
        <p class="hint" role="status">{said}</p>
      </div>
    </div>
  );
}

function TypeItBack({ code, onBack, onKept }: { code: string; onBack: () => void; onKept: () => void }) {
  const end = endOfCode(code);
  const [typed, type] = useState("");
  const [tried, setTried] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  const focus = () => form.current?.querySelector("input")?.focus();
  useEffect(focus, []);
  const right = sameSymbols(typed, end.text);
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (right) onKept();
    else focus();
  }
  return (
    <form class="right-form" ref={form} noValidate onSubmit={submit}>
      <TextField label={`Type ${end.asked} of the code, from your paper`} name="code-end" mono exact value={typed} onText={(text) => { type(text); setTried(false); }} hint="So that you know it can be read on the day you need it." error={tried && !right ? "This is not the end of the code. Look at the paper again, or have the code shown once more." : ""} />
      <div class="buttons">
        <button type="button" class="button" onClick={onBack}>Show the code again</button>
        <button class="button primary">Done</button>
      </div>
    </form>
  );
}
