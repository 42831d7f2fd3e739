// The calls about the cloud, the hub's recovery code, and what people use from away.

import { call, enc, listOf } from "./api.ts";
import type { CloudState, Consent } from "./types.ts";

/** What a cloud says of itself before anything is linked. */
export interface CloudView {
  name: string;
  region: string;
  /** Its public key, base64url. */
  key: string;
  fingerprint: string;
  url: string;
  /** Regions and their addresses. */
  regions?: Record<string, string>;
  brands?: { id: string; fingerprint: string }[];
  linking: "open" | "code" | "closed";
}

export interface LinkOrder {
  url: string;
  key: string;
  region: string;
  consent: Consent[];
  brands: string[];
  code?: string;
}

/** The hub's own recovery code, shown once. */
export interface HomeCode {
  code: string;
  hub: string;
  url?: string | null;
  qr: string;
}

/** What somebody uses from away from home. */
export interface AwayKey {
  id: string;
  name: string;
  until: number;
}

export const clouds = {
  look: (url: string) => call<CloudView>("POST", "/cloud/look", { url }),
  link: (order: LinkOrder) => call<CloudState>("PUT", "/cloud", order),
  consent: (consent: Consent[]) => call<CloudState>("PATCH", "/cloud", { consent }),
  unlink: () => call<void>("DELETE", "/cloud"),
  sync: () => call<void>("POST", "/cloud/sync"),
  bulletin: (bulletin: string) => call<{ marks: number }>("POST", "/cloud/bulletin", { bulletin }),

  makeCode: (password: string) => call<HomeCode>("POST", "/recovery", { password }),
  finishReview: () => call<void>("POST", "/recovery/review"),

  awayKeys: async () => listOf<AwayKey>(await call<unknown>("GET", "/me/away"), "keys"),
  makeAwayKey: (name: string, days: number) => call<{ id: string; token: string; url: string; until?: number }>("POST", "/me/away", { name, days }),
  endAwayKey: (id: string) => call<void>("DELETE", `/me/away/${enc(id)}`),
};
