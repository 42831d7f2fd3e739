// Files from a maker: a batch made for this hub, or the voucher of one device.

import { useId, useState } from "preact/hooks";
import { upload } from "../access-api.ts";
import { loadDevices } from "../store.ts";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

interface BatchTaken {
  brand: string;
  batch_id: string;
  added: number;
  known: number;
}

interface VoucherTaken {
  device_id: string;
  brand: string;
  model: string;
}

export function Imports({ onImported }: { onImported: () => void }) {
  return (
    <section class="panel" aria-labelledby="imports-heading">
      <h2 id="imports-heading">Devices from a maker</h2>
      <FilePicker<BatchTaken>
        label="Batch file"
        hint="Many devices, sealed for this hub alone."
        path="/batches"
        say={(taken) => `${taken.added} device${taken.added === 1 ? "" : "s"} of ${taken.brand} added${taken.known ? `, ${taken.known} known before` : ""}.`}
        onTaken={onImported}
      />
      <FilePicker<VoucherTaken>
        label="Voucher"
        hint="One device, vouched for by its maker."
        path="/vouchers"
        say={(taken) => `${taken.device_id} (${taken.brand} ${taken.model}) may be claimed now.`}
        onTaken={onImported}
      />
    </section>
  );
}

function FilePicker<T>({ label, hint, path, say, onTaken }: { label: string; hint: string; path: string; say: (taken: T) => string; onTaken: () => void }) {
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
        setSaid(say(await upload<T>(path, file, setShare)));
        await loadDevices();
        onTaken();
      })
      // The same file may be chosen again after a refusal.
      .finally(() => (input.value = ""));
  }
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} type="file" disabled={task.busy} aria-describedby={`${id}-hint`} onChange={(event) => picked(event.currentTarget)} />
      <p id={`${id}-hint`} class={said ? "hint hint-good" : "hint"} aria-live="polite">
        {task.busy ? (share < 1 ? `Sending, ${Math.floor(share * 100)} %` : "The hub checks every entry…") : said || hint}
      </p>
      <ProblemNote problem={task.problem} />
    </div>
  );
}
