// Choosing what somebody of this house may do.

import { useId } from "preact/hooks";
import { ROLE_NAMES } from "../rights.ts";
import type { Role } from "../types.ts";

const ROLES: { role: Role; means: string }[] = [
  { role: "member", means: "Claims devices and uses those shared with them." },
  { role: "guest", means: "Only uses what is shared with them." },
  { role: "owner", means: "May do everything on this hub, as you do." },
];

export function RoleChoice({ role, onChoose }: { role: Role; onChoose: (role: Role) => void }) {
  const id = useId();
  return (
    <fieldset class="choices">
      <legend>Role</legend>
      {ROLES.map((each) => (
        <label key={each.role}>
          <input type="radio" name={`${id}-role`} value={each.role} checked={role === each.role} onChange={() => onChoose(each.role)} />
          <span><strong>{ROLE_NAMES[each.role]}</strong><span class="quiet">{each.means}</span></span>
        </label>
      ))}
    </fieldset>
  );
}
