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

export const updates = {
  view: () => call<HubUpdate>("GET", "/update"),
  check: () => call<HubUpdate>("POST", "/update/check"),
  apply: (password: string) => call<HubUpdate>("POST", "/update/apply", { password }),
  rollBack: (password: string) => call<HubUpdate>("POST", "/update/roll-back", { password }),
};
