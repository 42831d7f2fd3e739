// What a hub that only pretends says of firmware, backups and its own version.

import { DOOR, MARA, NOW } from "./stub.mjs";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const policy = (some = {}) => ({ mode: "ask", window: null, percent: 100, stop: { after: 3, percent: 34 }, version: 0, ...some });
const release = (rel, version, some = {}) => ({ rel, version, size: 1_240_000 + rel, sha256: "9f".repeat(32), notes: "", made_at: NOW - (10 - rel) * DAY, added_at: NOW - DAY, hardware: ["B"], least_before: 0, security_minimum: 0, cached: true, stopped: false, resumed: false, tried: 0, failed: 0, from: "file", cloud_percent: 100, ...some });
export const NIGHT = { days: ["mon", "tue", "wed", "thu", "fri"], from: "02:00", to: "04:30" };
export const NEWEST = release(6, "1.6.0", { notes: "The door stops at once when something is in its way.\nIt closes more quietly.", from: "cloud" });
const STOPPED = release(5, "1.5.1", { stopped: true, tried: 4, failed: 3 });
const OLD = release(4, "1.4.2", { tried: 2, cached: false, security_minimum: 4 });
export const FIRMWARE = {
  models: [
    { brand: DOOR.brand, model: DOOR.model, title: "Garage door", policy: policy({ window: NIGHT, percent: 20, version: 2 }), floor: 4, releases: [NEWEST, STOPPED, OLD], devices: 4, behind: 1 },
    { brand: "acme", model: "lamp-1", title: "Lamp", policy: policy({ mode: "hold" }), floor: 0, releases: [], devices: 1, behind: 0 },
  ],
  cache: { bytes: 2_480_000, limit: 1_073_741_824 },
  importing: null,
};
/** The firmware of the door, waiting for a yes. */
export const waits = (why, some = {}) => ({ rel: 4, version: "1.4.2", behind: false, floor: 4, policy: policy({ window: NIGHT }), own_policy: false, verdict: { state: "waits", rel: 6, why }, progress: { offer: null, rel: null, size: null, state: "idle", said_at: NOW - HOUR }, approved: null, newer: [NEWEST, STOPPED], history: [], ...some });
export const goes = (state, some = {}, more = {}) => ({ ...waits("ask"), verdict: { state: "offer", rel: 6, install: true }, progress: { offer: "0b6a", rel: 6, size: NEWEST.size, state, said_at: NOW, ...some }, approved: 6, ...more });
export const HISTORY = [
  { offer: "o3", rel: 5, outcome: "failed", code: "health", detail: "the motor did not answer", at_ms: NOW - DAY },
  { offer: "o2", rel: 5, outcome: "withdrawn", at_ms: NOW - 2 * DAY },
  { offer: "o1", rel: 4, outcome: "confirmed", at_ms: NOW - 30 * DAY },
];
export const BEHIND = goes("downloading", { offset: 700_000 }, { rel: 3, version: "1.3.0", behind: true, history: HISTORY });

const listed = (name, some = {}) => ({ name, id: name, parent: null, kind: "full", made_at: NOW - 7 * HOUR, bytes: 3_200_000, good: true, problem: null, ...some });
export const NO_BACKUPS = { target: null, schedule: null, retention: { daily: 7, weekly: 4, monthly: 12 }, by_code: false, by_passphrase: false, next_at: null, good: null, failed: null, rehearsal: null, rehearsing: false, run: { ended: 0, running: false, rows: 0, outcome: null }, backups: [], listed_at: 0 };
export const BACKUPS = {
  ...NO_BACKUPS,
  target: { kind: "usb", text: "stick at /media/stick" },
  schedule: { minute: 210, every_days: 1, full_every_days: 7 },
  by_code: true,
  next_at: NOW + 17 * HOUR,
  good: { at: NOW - 7 * HOUR, name: "k3q7m2-20260609-0330.hkbk", bytes: 41_000, detail: "" },
  backups: [
    listed("k3q7m2-20260609-0330.hkbk", { kind: "increment", parent: "p", bytes: 41_000 }),
    listed("k3q7m2-20260607-0330.hkbk", { made_at: NOW - 2 * DAY }),
    listed("k3q7m2-20260531-0330.hkbk", { made_at: null, kind: null, good: false, problem: "the backup breaks off, or something was added to it" }),
  ],
  listed_at: NOW - HOUR,
};
const proof = (what, holds = true, detail = "as the backup says") => ({ what, holds, detail });
export const REHEARSED = { ...BACKUPS, rehearsal: { at: NOW - 2 * DAY, took_ms: 4_200, backup: "k3q7m2-20260609-0330.hkbk", made_at: NOW - 55 * HOUR, good: true, proofs: ["content", "accounts", "sign-in", "twins", "rights", "audit"].map((what) => proof(what)), detail: "" } };
export const NOT_REHEARSED = { ...BACKUPS, rehearsal: { ...REHEARSED.rehearsal, good: false, proofs: [proof("content"), proof("twins", false, "3 of 4 are there")], detail: "A restore would not do: twins: 3 of 4 are there. Make a full backup, and rehearse again" } };
export const FAILED_BACKUP = { ...BACKUPS, failed: { at: NOW - HOUR, name: "", bytes: 0, detail: "Nothing is mounted at /media/stick. Plug the stick in, then make one." } };

export const CURRENT = { version: "0.3.0", configured: true, enabled: true, automatic: false, supervised: true, phase: "idle", done: 0, checked_at: NOW - 2 * HOUR, problem: null, offered: null, back_to: null, last: null };
export const OFFERED = { version: "0.4.0", rel: 12, size: 9_800_000, notes: "Backups to a store.\nThe doctor explains more.", made_at: NOW - DAY, by_itself: true, failed: false };
export const UPDATED = { ...CURRENT, back_to: "0.2.9", last: { number: 3, ended: "updated", version: "0.3.0", from: "0.2.9", by: `user:${MARA.id}`, reason: "", at: NOW - 3 * HOUR } };
export const ROLLED_BACK = { ...CURRENT, offered: { ...OFFERED, failed: true }, last: { number: 4, ended: "rolled_back", version: "0.4.0", from: "0.3.0", by: "hub", reason: "it did not say within 60 s that it serves", at: NOW - HOUR } };
export const DOWNLOADING = { ...CURRENT, offered: OFFERED, phase: "downloading", done: 4_900_000 };
