// The recovery code of the home: shown once, to print, and asked for once from the paper, so that it is there on the day this hub
// breaks. A new one ends the old one.

import { useEffect, useRef, useState } from "preact/hooks";
import { clouds, type HomeCode, type Recovery } from "../cloud-api.ts";
import { ago, fullTime, now } from "../clock.ts";
import { endOfCode, sameSymbols, sizeWords } from "../cloud-words.ts";
import { announcement, cloud, hub } from "../store.ts";
import { Confirm } from "./confirm.tsx";
import { TextField } from "./field.tsx";
import { Qr } from "./link-card.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

export function HomeRecovery({ recovery, onMade }: { recovery: Recovery | null; onMade: () => void }) {
  const copy = recovery?.bundle;
  const copied = cloud.value?.linked && cloud.value.consent?.includes("bundle");
  return (
    <section class="panel" aria-labelledby="recovery-heading">
      <h2 id="recovery-heading">If this hub breaks or is stolen</h2>
      <p class="quiet">With the recovery code of this home, a new hub takes this one's place: with its people, rights and devices, and nothing has to be added again. It is not the recovery code of your account.</p>
      {recovery && (
        <dl class="facts">
          <div><dt>Recovery code</dt><dd>{recovery.made_at ? <>made <time title={fullTime(recovery.made_at)}>{ago(recovery.made_at, now.value)}</time></> : "there is none yet"}</dd></div>
          <div><dt>Recovery copy</dt><dd>{copy ? <>{copied ? "at the cloud" : "of"} since <time title={fullTime(copy.at)}>{ago(copy.at, now.value)}</time>, {sizeWords(copy.bytes)}</> : copied ? recovery.made_at ? "not at the cloud yet: it follows by itself" : "it needs a recovery code" : "the cloud holds none"}</dd></div>
        </dl>
      )}
      {recovery && <HomeCodeMaker again={recovery.made_at !== null} onKept={onMade} />}
    </section>
  );
}

/** Makes a code, shows it, and takes its end back. `again`: there is one that ends. */
export function HomeCodeMaker({ again, onKept }: { again: boolean; onKept: () => void }) {
  const task = useTask();
  const [made, setMade] = useState<HomeCode | null>(null);
  const make = () => void task.run(async () => setMade(await clouds.makeCode()));
  if (made)
    return (
      <HomeCodeSheet
        made={made}
        onKept={() => {
          setMade(null);
          announcement.value = "The recovery code is kept.";
          onKept();
        }}
      />
    );
  return (
    <div class="inner">
      <ProblemNote problem={task.problem} />
      {again ? (
        <Confirm label="Make a new recovery code" question="Make a new recovery code? The one you have on paper then opens nothing any more, and is to be destroyed." yes={task.busy ? "Making it…" : "Make a new one"} no="Keep the old one" busy={task.busy} onYes={make} />
      ) : (
        <button type="button" class="button" disabled={task.busy} onClick={make}>{task.busy ? "Making it…" : "Make the recovery code"}</button>
      )}
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
