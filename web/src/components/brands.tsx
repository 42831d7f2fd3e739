// The makers this hub trusts. Trust is given by comparing a fingerprint with what the maker publishes.

import { useEffect, useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { formatFingerprint, fingerprintError } from "../fingerprint.ts";
import { actorPart } from "../audit/names.ts";
import { plainText } from "../audit/telling.ts";
import { announcement, devices, loadPeople, models, people } from "../store.ts";
import type { Brand } from "../types.ts";
import { fullTime } from "../clock.ts";
import { TextField } from "./field.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

export function Brands() {
  const loading = useTask();
  const [brands, setBrands] = useState<Brand[] | null>(null);
  const load = () => loading.run(async () => setBrands(await access.brands()));
  useEffect(() => {
    void load();
    // Without the names, those who gave trust are “somebody”.
    loadPeople().catch(() => {});
  }, []);
  function took(brand: Brand) {
    // The list counts devices; the answer to trusting does not.
    void load();
    announcement.value = `${brand.id} is trusted.`;
  }
  return (
    <section class="panel" aria-labelledby="brands-heading">
      <h2 id="brands-heading">Brands</h2>
      <ProblemNote problem={loading.problem} />
      {brands?.length === 0 && <p class="quiet">No brand is trusted yet. Devices of a brand come in once you trust its fingerprint.</p>}
      <ul class="brands">
        {brands?.map((brand) => (
          <li key={brand.id}>
            <div class="split"><strong>{brand.id}</strong>{brand.devices !== undefined && <span class="quiet">{brand.devices} device{brand.devices === 1 ? "" : "s"}</span>}</div>
            <code class="code-tall">{brand.fingerprint}</code>
            <p class="quiet">{brand.trusted_at ? `Trusted ${fullTime(brand.trusted_at)}${by(brand)}` : "Not trusted yet"}</p>
          </li>
        ))}
      </ul>
      <TrustBrand onTrusted={took} />
    </section>
  );
}

function by({ trusted_by }: Brand): string {
  if (!trusted_by) return "";
  const who = plainText([actorPart({ people: people.value, devices: devices.value ?? new Map(), models: models.value }, trusted_by)]);
  return ` by ${who.replace(/^(The|Somebody)/, (word) => word.toLowerCase())}`;
}

function TrustBrand({ onTrusted }: { onTrusted: (brand: Brand) => void }) {
  const task = useTask();
  const [id, setId] = useState("");
  const [fingerprint, setFingerprint] = useState("");
  const [tried, setTried] = useState(false);
  const idError = /^[a-z0-9-]{1,64}$/.test(id.trim()) ? "" : "Small letters, digits and hyphens.";
  const error = fingerprintError(fingerprint);
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (idError || error) return;
    void task.run(async () => {
      onTrusted(await access.trustBrand(id.trim(), formatFingerprint(fingerprint)));
      setId("");
      setFingerprint("");
      setTried(false);
    });
  }
  return (
    <details class="inner">
      <summary>Trust a brand</summary>
      <form noValidate onSubmit={submit}>
        <TextField label="Brand" exact value={id} onText={setId} hint="Its short name, as in the maker's papers." error={tried ? idError : ""} />
        <TextField label="Fingerprint" mono exact value={fingerprint} onText={setFingerprint} onLeave={() => setFingerprint(formatFingerprint(fingerprint))} hint="8 groups of 4, as the maker publishes it. Do not take it from the file you are about to import." error={tried ? error : ""} />
        <ProblemNote problem={task.problem} />
        <button class="button" disabled={task.busy}>{task.busy ? "Trusting…" : "Trust this brand"}</button>
      </form>
    </details>
  );
}
