// Whether a backup would become a hub again: how the newest rehearsal went, and one now.

import { useState } from "preact/hooks";
import { backups, type Backups, type Rehearsal } from "../backup-api.ts";
import { PROVEN, rehearsalStanding, tookWords } from "../backup-words.ts";
import { fullTime, now } from "../clock.ts";
import { announcement } from "../store.ts";
import { PasswordField, TextField } from "./field.tsx";
import { PasswordStep } from "./password-step.tsx";

export function RehearsalPanel({ view, onAsked }: { view: Backups; onAsked: () => unknown }) {
  const { rehearsal, rehearsing } = view;
  const stands = rehearsalStanding(view, now.value);
  return (
    <section class="panel" aria-labelledby="rehearsal-heading">
      <h2 id="rehearsal-heading">Would a restore do?</h2>
      {rehearsing ? (
        <>
          <p role="status">A restore is rehearsed. The hub goes on as ever.</p>
          <progress class="bar" aria-label="A restore is rehearsed" />
        </>
      ) : (
        <div class={`note note-${stands.tone}`} role="status">
          <p><strong>{stands.title}</strong></p>
          {stands.next && <p class="note-next">{stands.next}</p>}
        </div>
      )}
      {rehearsal && !rehearsing && <Seen rehearsal={rehearsal} />}
      {!rehearsing && view.target && view.good && <Rehearse view={view} onAsked={onAsked} />}
    </section>
  );
}

function Seen({ rehearsal }: { rehearsal: Rehearsal }) {
  const { at, took_ms, backup, made_at, proofs } = rehearsal;
  return (
    <>
      <dl class="facts after-summary">
        <div><dt>When</dt><dd>{fullTime(at)}, {tookWords(took_ms)}</dd></div>
        {backup && <div><dt>Backup</dt><dd><span class="mono">{backup}</span>{made_at ? `, as of ${fullTime(made_at)}` : ""}</dd></div>}
      </dl>
      <ul class="rights">
        {proofs.map((proof) => (
          <li key={proof.what}>
            <div class="right">
              <p>{PROVEN[proof.what] ?? proof.what}<span class={`badge inline ${proof.holds ? "good" : "bad"}`}>{proof.holds ? "Proven" : "Not so"}</span></p>
              <p class={proof.holds ? "quiet" : "holds-not"}>{proof.detail}</p>
            </div>
          </li>
        ))}
      </ul>
    </>
  );
}

function Rehearse({ view, onAsked }: { view: Backups; onAsked: () => unknown }) {
  const [phrase, setPhrase] = useState(!view.by_code);
  const [secret, setSecret] = useState("");
  return (
    <details class="inner">
      <summary>Rehearse now</summary>
      <p class="quiet">The hub restores the newest good backup aside, looks whether all is there, tries your password, and takes it away again. What you type is not kept.</p>
      {view.by_code && view.by_passphrase && (
        <fieldset class="pills spaced">
          <legend>What opens it</legend>
          {([[false, "The recovery code"], [true, "The passphrase"]] as const).map(([each, label]) => (
            <label key={label}><input class="visually-hidden" type="radio" name="opened-by" checked={phrase === each} onChange={() => { setPhrase(each); setSecret(""); }} /><span>{label}</span></label>
          ))}
        </fieldset>
      )}
      {phrase ? (
        <PasswordField label="Passphrase of the backups" name="secret" value={secret} onText={setSecret} />
      ) : (
        <TextField label="Recovery code of this home" name="secret" exact mono maxLength={128} value={secret} onText={setSecret} hint="From the paper: so you know that it is the right one." />
      )}
      <PasswordStep
        button="Rehearse"
        busy="One moment…"
        onGo={async (password) => {
          await backups.rehearse(password, phrase ? { passphrase: secret } : { code: secret.trim() });
          setSecret("");
          announcement.value = "A restore is rehearsed.";
          await onAsked();
        }}
      />
    </details>
  );
}
