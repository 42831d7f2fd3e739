// The calls about the firmware of devices (docs/protocol/firmware.md). Times are milliseconds since 1970, sizes bytes.

import { call, enc } from "./api.ts";
import type { Window } from "./types.ts";

export type Mode = "automatic" | "ask" | "hold";

/** What people chose for a model, or for one device. */
export interface Policy {
  mode: Mode;
  /** When installing may begin; null for at any time. */
  window: Window | null;
  /** Of the devices in this home, so many percent get a release first. */
  percent: number;
  /** A release is stopped when so many have tried it and more than so many percent of them failed. */
  stop: { after: number; percent: number };
  /** Rises with each change. */
  version?: number;
}

export interface Release {
  rel: number;
  version: string;
  size: number;
  sha256: string;
  notes: string;
  made_at: number;
  added_at?: number;
  hardware: string[];
  least_before: number;
  security_minimum: number;
  /** Whether the image is on this hub. */
  cached: boolean;
  stopped: boolean;
  resumed?: boolean;
  tried: number;
  failed: number;
  from: "file" | "cloud";
  cloud_percent?: number;
  /** Its maker has taken it back: nobody is offered it. */
  withdrawn?: boolean;
}

export interface ModelFirmware {
  brand: string;
  model: string;
  title: string;
  policy: Policy;
  /** The oldest release that is still safe; 0 when all are. */
  floor: number;
  releases: Release[];
  devices: number;
  behind?: number;
}

export interface Importing {
  brand: string;
  model: string;
  rel: number;
  version: string;
  received: number;
  size: number;
}

export interface Firmware {
  models: ModelFirmware[];
  cache: { bytes: number; limit: number };
  importing?: Importing | null;
}

export type Why = "hold" | "ask" | "window" | "stage" | "stopped" | "backoff" | "gave_up" | "step" | "hardware" | "not_cached";

/** What the hub decides for a device now. */
export interface Verdict {
  state: "up_to_date" | "offer" | "waits" | "not_known";
  rel?: number;
  install?: boolean;
  why?: Why;
  until?: number;
}

export interface Progress {
  offer: string | null;
  rel: number | null;
  size?: number | null;
  state: "idle" | "offered" | "downloading" | "downloaded" | "installing" | "confirmed" | "failed";
  offset?: number;
  since_ms?: number;
  code?: string;
  detail?: string;
  at_ms?: number;
}

/** An offer that has ended. */
export interface Ended {
  offer: string;
  rel: number;
  outcome: "confirmed" | "failed" | "withdrawn";
  code?: string;
  detail?: string;
  at_ms: number;
}

export interface DeviceFirmware {
  rel: number | null;
  version: string | null;
  behind: boolean;
  floor?: number;
  policy: Policy;
  /** Whether the policy is its own, and not its model's. */
  own_policy?: boolean;
  verdict: Verdict;
  progress: Progress;
  approved?: number | null;
  newer?: Release[];
  history: Ended[];
}

const model = (brand: string, name: string) => `/firmware/${enc(brand)}/${enc(name)}`;
/** As it is sent: what the hub counts itself stays here. */
const bare = ({ mode, window, percent, stop }: Policy) => ({ mode, window, percent, stop });

export const firmware = {
  all: () => call<Firmware>("GET", "/firmware"),
  setPolicy: (brand: string, name: string, policy: Policy) => call<Policy>("PUT", `${model(brand, name)}/policy`, bare(policy)),
  goOn: (brand: string, name: string, rel: number) => call<void>("POST", `${model(brand, name)}/${rel}/resume`),
  removeImage: (brand: string, name: string, rel: number) => call<void>("DELETE", `${model(brand, name)}/${rel}`),

  of: (device: string) => call<DeviceFirmware>("GET", `/devices/${enc(device)}/firmware`),
  approve: (device: string, rel: number) => call<void>("POST", `/devices/${enc(device)}/firmware/approve`, { rel }),
  setDevicePolicy: (device: string, policy: Policy) => call<Policy>("PUT", `/devices/${enc(device)}/firmware/policy`, bare(policy)),
  asItsModel: (device: string) => call<void>("DELETE", `/devices/${enc(device)}/firmware/policy`),
};
