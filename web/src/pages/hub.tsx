// The hub itself: who it is, its time, who may join, which makers it trusts, which devices it knows.

import { signal } from "@preact/signals";
import { Brands } from "../components/brands.tsx";
import { Copyable } from "../components/copy.tsx";
import { HubRequest } from "../components/hub-request.tsx";
import { Household } from "../components/household.tsx";
import { Imports } from "../components/imports.tsx";
import { Page } from "../components/page.tsx";
import { SettingsNav } from "../components/settings-nav.tsx";
import { hub, me } from "../store.ts";

/** Goes up when an import may have brought a brand, so that the list loads again. */
const imported = signal(0);

export function HubPage() {
  return (
    <Page title="This hub">
      <SettingsNav />
      <section class="panel" aria-labelledby="hub-heading">
        <h2 id="hub-heading">Who it is</h2>
        <dl class="facts">
          <div><dt>Name</dt><dd>{hub.value?.name}</dd></div>
          <div><dt>Version</dt><dd>{hub.value?.version}</dd></div>
          <div><dt>Hub id</dt><dd><Copyable label="the hub id" text={hub.value?.hub_id ?? ""} /></dd></div>
          <div><dt>CA fingerprint</dt><dd><Copyable label="the CA fingerprint" text={hub.value?.ca_fingerprint ?? ""} /></dd></div>
        </dl>
        <p class="quiet">Before you trust this hub's certificate on another device, compare the fingerprint with what the hub prints on its console.</p>
      </section>
      <Household />
      {me.value?.role === "owner" && (
        <>
          <Brands key={imported.value} />
          <Imports onImported={() => imported.value++} />
          <HubRequest />
        </>
      )}
    </Page>
  );
}
