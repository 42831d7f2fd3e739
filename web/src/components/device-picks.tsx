// Choosing devices, and for each how far it goes: for apps, tokens, invitations and consent.

import { useId } from "preact/hooks";
import { mayGive, RIGHTS } from "../rights.ts";
import type { Privilege } from "../types.ts";
import { capital } from "./terms-form.tsx";

/** The chosen devices, each with how far the right to it goes. */
export type Picks = ReadonlyMap<string, Privilege>;

interface Pickable {
  id: string;
  name: string;
  /** How far it can go at most. */
  privilege: Privilege;
}

/** A device that is ticked begins with `first`; nothing goes beyond `most`. */
export function DevicePicks({ devices, first = "view", most = "administer", picks, onPick }: { devices: Pickable[]; first?: Privilege; most?: Privilege; picks: Picks; onPick: (picks: Picks) => void }) {
  const id = useId();
  const within = (device: Pickable) => mayGive(device.privilege).filter((each) => mayGive(most).includes(each));
  function pick(device: Pickable, privilege: Privilege | null) {
    const next = new Map(picks);
    if (privilege) next.set(device.id, privilege);
    else next.delete(device.id);
    onPick(next);
  }
  return (
    <ul class="picks">
      {devices.map((device) => {
        const choices = within(device);
        const chosen = picks.get(device.id);
        return (
          <li key={device.id}>
            <label class="tick">
              <input type="checkbox" checked={chosen !== undefined} onChange={(event) => pick(device, event.currentTarget.checked ? (choices.includes(first) ? first : (choices.at(-1) ?? "view")) : null)} />
              <span id={`${id}-${device.id}`}>{device.name}</span>
            </label>
            <select aria-label={`How far for ${device.name}`} value={chosen ?? choices[0]} disabled={chosen === undefined || choices.length < 2} onChange={(event) => pick(device, event.currentTarget.value as Privilege)}>
              {choices.map((each) => <option key={each} value={each}>{capital(RIGHTS[each].does)}</option>)}
            </select>
          </li>
        );
      })}
    </ul>
  );
}
