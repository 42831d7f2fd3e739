// Files from a maker: a batch made for this hub, or the voucher of one device.

import { loadDevices } from "../store.ts";
import { FilePicker } from "./file-picker.tsx";

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
  const taken = async () => {
    await loadDevices();
    onImported();
  };
  return (
    <section class="panel" aria-labelledby="imports-heading">
      <h2 id="imports-heading">Devices from a maker</h2>
      <FilePicker<BatchTaken>
        label="Batch file"
        hint="Many devices, sealed for this hub alone."
        path="/batches"
        say={(taken) => `${taken.added} device${taken.added === 1 ? "" : "s"} of ${taken.brand} added${taken.known ? `, ${taken.known} known before` : ""}.`}
        onTaken={taken}
      />
      <FilePicker<VoucherTaken>
        label="Voucher"
        hint="One device, vouched for by its maker."
        path="/vouchers"
        say={(taken) => `${taken.device_id} (${taken.brand} ${taken.model}) may be claimed now.`}
        onTaken={taken}
      />
    </section>
  );
}
