// A field for a file that goes to the hub as it is chosen, with how far it is, and what became of it.

import { useId, useState } from "preact/hooks";
import { upload } from "../access-api.ts";
import { asProblem, Problem } from "../api.ts";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

/** `checks` is said while the hub looks at what has arrived; `next` may say what to do about a refusal, by its code. */
export function FilePicker<T>({ label, hint, path, accept, checks = "The hub checks every entry…", next = {}, say, onTaken }: {
  label: string;
  hint: string;
  path: string;
  accept?: string;
  checks?: string;
  next?: Record<string, string>;
  say: (taken: T) => string;
  onTaken: () => unknown;
}) {
  const id = useId();
  const task = useTask();
  const [share, setShare] = useState(0);
  const [said, setSaid] = useState("");
  function picked(input: HTMLInputElement) {
    const file = input.files?.[0];
    if (!file) return;
    setSaid("");
    setShare(0);
    void task
      .run(async () => {
        try {
          setSaid(say(await upload<T>(path, file, setShare)));
        } catch (error) {
          const { status, code, title, detail, next: given } = asProblem(error);
          throw new Problem(status, code, title, detail, next[code] ?? given);
        }
        await onTaken();
      })
      // The same file may be chosen again after a refusal.
      .finally(() => (input.value = ""));
  }
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} type="file" accept={accept} disabled={task.busy} aria-describedby={`${id}-hint`} onChange={(event) => picked(event.currentTarget)} />
      <p id={`${id}-hint`} class={said ? "hint hint-good" : "hint"} aria-live="polite">
        {task.busy ? (share < 1 ? `Sending, ${Math.floor(share * 100)} %` : checks) : said || hint}
      </p>
      {task.busy && <progress class="bar" aria-label={label} value={share < 1 ? share : undefined} max={1} />}
      <ProblemNote problem={task.problem} />
    </div>
  );
}
