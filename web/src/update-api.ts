// The calls about the version of the hub itself. Times are milliseconds since 1970, sizes bytes.

import { call } from "./api.ts";

export type UpdatePhase = "idle" | "checking" | "downloading" | "unpacking" | "waiting" | "switching" | "trying";

export interface HubUpdate {
  /** What runs. */
  version: string;
  /** Whether a vendor is set, whether the hub looks by itself, and whether it also installs by itself. */
  configured: boolean;
  enabled: boolean;
  automatic: boolean;
  /** Whether there is somebody who starts another version. */
  supervised: boolean;
  phase: UpdatePhase;
  /** Bytes of the archive that are here. */
  done: number;
  checked_at: number | null;
  /** What is in the way, with what to do. */
  problem: string | null;
  offered: { version: string; rel: number; size: number; notes: string; made_at: number; by_itself: boolean; failed: boolean } | null;
  back_to: string | null;
  last: { number: number; ended: "updated" | "rolled_back" | "refused"; version: string | null; from: string | null; by: string; reason: string; at: number } | null;
}

/** The system of the box, where RAUC updates it. */
export interface SystemUpdate {
  compatible: string;
  version: string;
  slots: { name: string; booted: boolean; next: boolean | null; boot_status: string; version: string | null }[];
  phase: "idle" | "receiving" | "checking" | "waiting" | "installing" | "restarting";
  percent: number;
  problem: string | null;
  bundle: { version: string; age: "newer" | "same" | "older" | "unknown" } | null;
  tried: { version: string; fate: "waits" | "tried" | "stays" | "fell_back" } | null;
}

export const updates = {
  system: () => call<SystemUpdate>("GET", "/update/system"),
  install: (password: string, older: boolean) => call<SystemUpdate>("POST", "/update/system/install", { password, older }),
  restart: (password: string) => call<SystemUpdate>("POST", "/update/system/restart", { password }),
  view: () => call<HubUpdate>("GET", "/update"),
  check: () => call<HubUpdate>("POST", "/update/check"),
  apply: (password: string) => call<HubUpdate>("POST", "/update/apply", { password }),
  rollBack: (password: string) => call<HubUpdate>("POST", "/update/roll-back", { password }),
};
