// The hub itself: who it is, which makers it trusts, which devices it knows. And one's own session.

import { api } from "../api.ts";
import { Brands } from "../components/brands.tsx";
import { Copyable } from "../components/copy.tsx";
import { Imports } from "../components/imports.tsx";
import { HubRequest } from "../components/hub-request.tsx";
import { PasswordChange } from "../components/password-change.tsx";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { useTask } from "../components/use-task.ts";
import { signal } from "@preact/signals";
import { hub, me, signedOut } from "../store.ts";

/** Goes up when an import may have brought a brand, so that the list loads again. */
const imported = signal(0);

export function SettingsPage() {
  const task = useTask();
  const owner = me.value?.role === "owner";
  const user = me.value;
  return (
    <Page title="Settings">
      <section class="panel" aria-labelledby="you-heading">
        <h2 id="you-heading">You</h2>
        <div class="split">
          <p><strong>{user?.display_name || user?.username}</strong><br /><span class="quiet">{user?.username} · {user?.role}</span></p>
          <button type="button" class="button" disabled={task.busy} onClick={() => void task.run(async () => { await api.signOut(); signedOut("You are signed out."); })}>Sign out</button>
        </div>
        <ProblemNote problem={task.problem} />
        <PasswordChange />
      </section>
      <section class="panel" aria-labelledby="hub-heading">
        <h2 id="hub-heading">This hub</h2>
        <dl class="facts">
          <div><dt>Name</dt><dd>{hub.value?.name}</dd></div>
          <div><dt>Version</dt><dd>{hub.value?.version}</dd></div>
          <div><dt>Hub id</dt><dd><Copyable label="the hub id" text={hub.value?.hub_id ?? ""} /></dd></div>
          <div><dt>CA fingerprint</dt><dd><Copyable label="the CA fingerprint" text={hub.value?.ca_fingerprint ?? ""} /></dd></div>
        </dl>
        <p class="quiet">Before you trust this hub's certificate on another device, compare the fingerprint with what the hub prints on its console.</p>
      </section>
      {owner && (
        <>
          <Brands key={imported.value} />
          <Imports onImported={() => imported.value++} />
          <HubRequest />
        </>
      )}
    </Page>
  );
}
