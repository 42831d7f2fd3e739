// What somebody is about to add: kept in memory while they are at it, so that a second try needs no second typing.

import { effect, signal } from "@preact/signals";
import type { PairingToBegin } from "./add-api.ts";
import type { Claimed } from "./components/claim-input.tsx";
import { wifiToGive, type WifiDraft } from "./pairing.ts";
import { route } from "./route.ts";
import { me } from "./store.ts";
import type { NearbyThing } from "./types.ts";

export interface Draft {
  code: Claimed;
  /** The thing without a label that was chosen, in place of a code. */
  thing: NearbyThing | null;
  name: string;
  room: string;
  /** Null until the hub has told what it could give. */
  wifi: WifiDraft | null;
  /** The pairing that came of it. */
  pairing: string | null;
}

const EMPTY: Draft = { code: { text: "", deviceId: null }, thing: null, name: "", room: "", wifi: null, pairing: null };
export const draft = signal(EMPTY);

// A code and a passphrase are kept no longer than somebody who is signed in looks at these pages.
effect(() => {
  if (route.value.page !== "add" || !me.value) forget();
});

export function forget(): void {
  draft.value = EMPTY;
}

export function change(some: Partial<Draft>): void {
  draft.value = { ...draft.peek(), ...some };
}

/** The draft as the hub is asked; `code` is the whole one. */
export function toBegin({ code, thing, name, room, wifi }: Draft): PairingToBegin {
  const given = wifi ? { wifi: wifiToGive(wifi) } : {};
  if (thing) return { nearby: thing.id, ...given };
  return {
    code: code.text,
    ...(code.deviceId ? { device_id: code.deviceId } : {}),
    ...(name.trim() ? { name: name.trim() } : {}),
    ...(room.trim() ? { room: room.trim() } : {}),
    ...given,
  };
}
