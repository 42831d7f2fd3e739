// The way around: a column beside the page where there is room, a bar below it where there is not.

import { hub, me } from "../store.ts";
import { route } from "../route.ts";
import { Icon, Logo } from "./icon.tsx";

export function Nav() {
  const owner = me.value?.role === "owner";
  return (
    <nav class="nav" aria-label="Main">
      <a class="brand" href="#/"><Logo /><span>{hub.value?.name || "Hearthkey"}</span></a>
      <ul>
        <Item to="devices" icon="home" label="Devices" also={["device", "claim", "add", "add-mqtt"]} />
        {owner && <Item to="activity" icon="list" label="Activity" />}
        {owner && <Item to="people" icon="people" label="People" />}
        <Item to="settings" icon="settings" label="Settings" also={["hub", "apps", "services", "support", "cloud", "firmware", "backups", "update"]} />
      </ul>
    </nav>
  );
}

function Item({ to, icon, label, also = [] }: { to: string; icon: string; label: string; also?: string[] }) {
  const { page } = route.value;
  const current = page === to || also.includes(page);
  return (
    <li>
      <a href={`#/${to}`} aria-current={current ? "page" : undefined}><Icon name={icon} /><span>{label}</span></a>
    </li>
  );
}
