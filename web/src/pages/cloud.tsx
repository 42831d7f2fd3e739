// The cloud: linking this hub to one, how the two stand, the recovery code of the home, and what people use from away.

import { useEffect, useState } from "preact/hooks";
import { api, asProblem, type Problem } from "../api.ts";
import { AwayKeys } from "../components/away-keys.tsx";
import { CarryBulletin } from "../components/bulletin.tsx";
import { CloudLink } from "../components/cloud-link.tsx";
import { CloudConsent, CloudNotices, CloudRefused, CloudStanding, Unlink } from "../components/cloud-state.tsx";
import { HomeRecovery, Review } from "../components/home-code.tsx";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { SettingsNav } from "../components/settings-nav.tsx";
import { isRetired } from "../cloud-mark.ts";
import { cloud, hub, loadCloud, loadPeople, me } from "../store.ts";
import type { Recovery } from "../types.ts";

/** How often the page asks how things stand: closer while something goes on. */
const BUSY_MS = 2_000;
const CALM_MS = 10_000;

export function CloudPage() {
  const owner = me.value?.role === "owner";
  const [problem, setProblem] = useState<Problem | null>(null);
  const [recovery, setRecovery] = useState<Recovery | null>(null);
  const [linking, setLinking] = useState(false);
  const view = cloud.value;
  const busy = view?.state?.phase === "linking" || view?.state?.phase === "syncing";

  const load = () =>
    api.cloud().then(
      (found) => {
        cloud.value = found;
        setProblem(null);
      },
      (error) => setProblem(asProblem(error)),
    );
  const loadRecovery = () => api.recovery().then(setRecovery, () => {});
  useEffect(() => {
    void load();
    if (!owner) return;
    // Without names, those who wanted something from away are “somebody”.
    loadPeople().catch(() => {});
  }, []);
  // The recovery copy is made when hub and cloud have spoken.
  useEffect(() => void (owner && loadRecovery()), [view?.linked, view?.last_success]);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || void load(), busy ? BUSY_MS : CALM_MS);
    return () => clearInterval(timer);
  }, [busy]);

  const linked = view?.linked === true;
  const retired = hub.value?.retired === true || isRetired(view);
  return (
    <Page title="Cloud">
      <SettingsNav />
      <ProblemNote problem={problem} />
      {!view && !problem && <p class="quiet late" role="status">Loading…</p>}
      {owner && !retired && <Review recovery={recovery} onDone={() => { void loadRecovery(); void loadCloud(); }} />}
      {view && !linked && !retired && <NotLinked owner={owner} />}
      {view && (linked || retired) && <CloudStanding view={view} />}
      {view && linked && owner && <CloudNotices view={view} />}
      {view && linked && owner && <CloudRefused view={view} />}
      {view && !linked && owner && !retired && <CloudLink hasCode={Boolean(recovery?.made_at)} onCode={() => void loadRecovery()} onStage={(stage) => setLinking(stage !== "address")} />}
      {view && linked && owner && !retired && <CloudConsent view={view} hasCode={Boolean(recovery?.made_at)} />}
      {owner && !retired && (linked || !linking) && <HomeRecovery recovery={recovery} onMade={() => void loadRecovery()} />}
      {linked && !retired && <AwayKeys />}
      {linked && !retired && <CarryBulletin />}
      {view && linked && owner && !retired && <Unlink view={view} />}
    </Page>
  );
}

function NotLinked({ owner }: { owner: boolean }) {
  return (
    <section class="panel" aria-labelledby="none-heading">
      <h2 id="none-heading">No cloud is linked</h2>
      <p>This hub decides by itself, with or without the Internet, and needs no cloud. With one, people use their devices from away, makers' devices are known before they are added, and a new hub takes this one's place if it breaks. The cloud only carries: what it brings, this hub decides.</p>
      {!owner && <p class="quiet">An owner of this home can link one.</p>}
    </section>
  );
}
