// The calls about backups (docs/backup.md). Times are milliseconds since 1970, sizes bytes.

import { call } from "./api.ts";

export type Target =
  | { kind: "folder" | "usb"; path: string }
  | { kind: "s3"; endpoint: string; region: string; bucket: string; prefix: string; access_key: string; secret_key: string; path_style: boolean };

/** When backups are made by themselves. */
export interface Schedule {
  /** The minute of the day, by the clock of the home. */
  minute: number;
  every_days: number;
  /** A full one after so many days; 0 for always. */
  full_every_days: number;
}

export interface Retention {
  daily: number;
  weekly: number;
  monthly: number;
}

export interface BackupEnd {
  at: number;
  name: string;
  bytes: number;
  detail: string;
}

export interface ListedBackup {
  name: string;
  id: string | null;
  parent: string | null;
  kind: "full" | "increment" | null;
  made_at: number | null;
  bytes: number;
  good: boolean;
  problem: string | null;
}

/** How a rehearsal of a restore went. */
export interface Rehearsal {
  at: number;
  took_ms: number;
  backup: string;
  made_at: number | null;
  good: boolean;
  proofs: { what: string; holds: boolean; detail: string }[];
  detail: string;
}

export interface Backups {
  target: { kind: Target["kind"]; text: string } | null;
  schedule: Schedule | null;
  retention: Retention;
  /** Whether the home's recovery code opens the next one, and whether a passphrase does. */
  by_code: boolean;
  by_passphrase: boolean;
  next_at: number | null;
  /** The newest that is there, and what went wrong since. */
  good: BackupEnd | null;
  failed: BackupEnd | null;
  rehearsal: Rehearsal | null;
  rehearsing: boolean;
  run: { ended: number; running: boolean; rows: number; outcome: ({ outcome: "good"; name: string; bytes: number; full: boolean } | { outcome: "failed"; detail: string }) | null };
  backups: ListedBackup[];
  listed_at: number;
}

/** What is changed; what is absent stays, and null takes away. */
export interface BackupEdit {
  target?: Target | null;
  schedule?: Schedule | null;
  retention?: Retention;
  passphrase?: string | null;
}

export const backups = {
  all: () => call<Backups>("GET", "/backups"),
  set: (password: string, edit: BackupEdit) => call<Backups>("PUT", "/backup", { password, ...edit }),
  rehearse: (password: string, opened: { code: string } | { passphrase: string }) => call<Backups>("POST", "/backups/rehearsal", { password, ...opened }),
  make: (password: string, full: boolean) => call<Backups["run"]>("POST", "/backups", { password, full }),
};
