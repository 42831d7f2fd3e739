// Revocations that the cloud has signed, carried to the hub by hand while it cannot reach the cloud.

import { useId, useState } from "preact/hooks";
import { Problem } from "../api.ts";
import { clouds } from "../cloud-api.ts";
import { count } from "../cloud-mark.ts";
import { bulletinIn, bulletinOf } from "../cloud-words.ts";
import { loadCloud } from "../store.ts";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

export function CarryBulletin() {
  const id = useId();
  const task = useTask();
  const [text, setText] = useState("");
  const [tried, setTried] = useState(false);
  const [said, say] = useState("");
  const error = bulletinIn(text) ? "" : text.trim() ? "This is not a bulletin: it is one long word of letters, digits, hyphens and underscores." : "Paste the bulletin.";
  function carry(bulletin: () => Promise<string>) {
    say("");
    return task.run(async () => {
      const { marks } = await clouds.bulletin(await bulletin());
      say(marks > 0 ? `Taken: ${count(marks, "revocation")} ${marks === 1 ? "holds" : "hold"} now.` : "Taken: the hub knew all of it already.");
      setText("");
      setTried(false);
      await loadCloud();
    });
  }
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (error) return (event.currentTarget as HTMLFormElement).querySelector("textarea")?.focus();
    void carry(async () => bulletinIn(text));
  }
  function picked(input: HTMLInputElement) {
    const file = input.files?.[0];
    if (!file) return;
    void carry(async () => {
      const bulletin = bulletinOf(new Uint8Array(await file.arrayBuffer()));
      if (!bulletin) throw new Problem(0, "bulletin", "", "This file holds no bulletin.", "Choose the file that the cloud gave.");
      return bulletin;
    })
      // The same file may be chosen again after a refusal.
      .finally(() => (input.value = ""));
  }
  return (
    <details class="panel">
      <summary><h2>Carry revocations by hand</h2></summary>
      <p class="quiet">While this hub cannot reach the cloud, it does not hear of rights that were taken away there. The cloud gives them as a bulletin, signed by it: bring it here on your phone. It can take rights away, and give none.</p>
      <form class="right-form after-summary" noValidate onSubmit={submit}>
        <div class="field">
          <label for={`${id}-text`}>Bulletin</label>
          <textarea id={`${id}-text`} class="mono" rows={4} value={text} onInput={(event) => { setText(event.currentTarget.value); say(""); }} autocapitalize="off" spellcheck={false} aria-describedby={`${id}-hint`} aria-invalid={tried && error ? true : undefined} />
          <p id={`${id}-hint`} class={tried && error ? "hint hint-bad" : said ? "hint hint-good" : "hint"} aria-live="polite">{(tried && error) || said}</p>
        </div>
        <div class="field">
          <label for={`${id}-file`}>Or a file that holds it</label>
          <input id={`${id}-file`} type="file" disabled={task.busy} onChange={(event) => picked(event.currentTarget)} />
        </div>
        <ProblemNote problem={task.problem} />
        <div class="buttons"><button class="button" disabled={task.busy}>{task.busy ? "The hub checks it…" : "Hand it over"}</button></div>
      </form>
    </details>
  );
}
