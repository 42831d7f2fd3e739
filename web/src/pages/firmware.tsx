// Firmware of devices, by model: which versions there are, what holds for them, and what waits. Owners bring files here.

import { useEffect, useState } from "preact/hooks";
import { asProblem, type Problem } from "../api.ts";
import { FilePicker } from "../components/file-picker.tsx";
import { FirmwareModel } from "../components/firmware-model.tsx";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { SettingsNav } from "../components/settings-nav.tsx";
import { firmware, type Firmware } from "../firmware-api.ts";
import { share, sizeWords } from "../sizes.ts";
import { news } from "../store.ts";

const NEXT = {
  brand_not_trusted: "Compare the fingerprint with what the maker publishes, trust the maker under “This hub”, then bring the file again.",
  signature: "Get the file from its maker again.",
  size: "The file is not whole: get it from its maker again.",
  hash: "The file is damaged: get it from its maker again.",
  not_a_release: "Choose the file that the maker calls a release; it often ends in .hkfw.",
  too_large: "",
  cache_full: "",
};

export function FirmwarePage() {
  const [view, setView] = useState<Firmware | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const load = () =>
    firmware.all().then(
      (found) => {
        setView(found);
        setProblem(null);
      },
      (error) => setProblem(asProblem(error)),
    );
  const fresh = news.value.get("firmware");
  useEffect(() => void load(), [fresh]);
  const importing = view?.importing;
  return (
    <Page title="Firmware">
      <SettingsNav />
      <ProblemNote problem={problem} />
      {!view && !problem && <p class="quiet late" role="status">Loading…</p>}
      <section class="panel" aria-labelledby="bring-heading">
        <h2 id="bring-heading">Bring a new version</h2>
        <FilePicker<{ brand: string; model: string; rel: number }>
          label="Release file"
          hint="From the maker of your devices. It is taken only with the signature of a maker that this hub trusts; no cloud is asked."
          path="/firmware"
          checks="The hub checks it…"
          next={NEXT}
          say={(taken) => `Taken: release ${taken.rel} for ${taken.brand} ${taken.model}.`}
          onTaken={load}
        />
        {importing && (
          <div role="status">
            <p class="quiet">{importing.version} for {importing.brand} {importing.model} is coming in: {sizeWords(importing.received)} of {sizeWords(importing.size)}.</p>
            <progress class="bar" aria-label="Coming in" value={share(importing.received, importing.size)} max={100} />
          </div>
        )}
        {view && <p class="quiet">Files take {sizeWords(view.cache.bytes)} of {sizeWords(view.cache.limit)}. Those that were not needed for long make room by themselves.</p>}
      </section>
      {view?.models.map((model) => <FirmwareModel key={`${model.brand}/${model.model}`} model={model} onChange={load} />)}
      {view?.models.length === 0 && <p class="quiet none">No device here takes updates yet, and no version has been brought.</p>}
    </Page>
  );
}
