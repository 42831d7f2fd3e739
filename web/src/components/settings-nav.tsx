// The pages that belong to the settings, as links above each of them.

import { mayClaim, VENDOR_ROLES } from "../rights.ts";
import { route } from "../route.ts";
import { me } from "../store.ts";

export function SettingsNav() {
  const owner = me.value?.role === "owner";
  const links: [page: string, label: string][] = [
    ["settings", "You"],
    ["hub", "This hub"],
    ...(me.value && !VENDOR_ROLES.includes(me.value.role) ? [["cloud", "Cloud"] as [string, string]] : []),
    ...(mayClaim(me.value) ? [["apps", "Apps"] as [string, string]] : []),
    ...(owner ? [["services", "Services"] as [string, string], ["support", "Support"] as [string, string], ["firmware", "Firmware"] as [string, string], ["backups", "Backups"] as [string, string], ["update", "Update"] as [string, string]] : []),
  ];
  return (
    <nav class="sub-nav" aria-label="Settings">
      <ul>{links.map(([page, label]) => <li key={page}><a href={`#/${page}`} aria-current={route.value.page === page ? "page" : undefined}>{label}</a></li>)}</ul>
    </nav>
  );
}
