// The calls about devices nearby, for the pages that add them.

import { call, enc, listOf } from "./api.ts";
import type { Device, NearbyThing, Pairing, Radio } from "./types.ts";

export type WifiToGive = { use: "none" | "system" } | { use: "given"; ssid: string; passphrase: string };

/** With a code, a device with a label; without one, the thing nearby that has none. */
export interface PairingToBegin {
  code?: string;
  device_id?: string;
  nearby?: string;
  name?: string;
  room?: string;
  wifi?: WifiToGive;
}

/** A device that was given its credential by hand, and that credential; told once. */
export interface StockDevice {
  device: Device;
  username: string;
  password: string;
  host: string;
  port: number;
  /** PEM. */
  ca: string;
  settings: { esphome: string; tasmota: string };
}

export const adding = {
  radio: () => call<Radio>("GET", "/radio"),
  /** Has the hub look around for half a minute. */
  scan: () => call<{ until: number }>("POST", "/radio/scan"),
  nearby: async () => listOf<NearbyThing>(await call<unknown>("GET", "/nearby"), "things"),
  begin: (body: PairingToBegin) => call<Pairing>("POST", "/pairings", body),
  pairings: async () => listOf<Pairing>(await call<unknown>("GET", "/pairings"), "pairings"),
  pairing: (id: string) => call<Pairing>("GET", `/pairings/${enc(id)}`),
  cancel: (id: string) => call<Pairing>("DELETE", `/pairings/${enc(id)}`),
  confirm: (id: string, wifi?: WifiToGive) => call<Pairing>("POST", `/pairings/${enc(id)}/confirm`, wifi ? { wifi } : {}),
  stock: (body: { name: string; room?: string }) => call<StockDevice>("POST", "/devices", body),
};
