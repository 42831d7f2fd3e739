// Plain words for backups. Pure, so that they can be tested without a browser.

import type { Backups, ListedBackup, Retention, Schedule, Target } from "./backup-api.ts";
import { ago } from "./clock.ts";
import { count, spanWords } from "./cloud-mark.ts";
import { sizeWords } from "./sizes.ts";

const DAY = 86_400_000;

export interface BackupStanding {
  tone: "good" | "warn" | "bad";
  title: string;
  next: string;
}

/** How backups stand, in a sentence, with what to do. */
export function backupStanding(view: Backups, now: number): BackupStanding {
  const { target, good, failed, schedule, by_code, by_passphrase } = view;
  if (!target) return { tone: "warn", title: "No backups are made.", next: "Say below where they go: a folder on another disk, a stick, or a store." };
  if (!by_code && !by_passphrase) return { tone: "bad", title: "No backup can be made: nobody could open it.", next: "Make the recovery code of this home on the page Cloud, or set a passphrase below." };
  if (failed && (!good || failed.at >= good.at)) return { tone: "bad", title: `The last backup failed, ${ago(failed.at, now)}.`, next: failed.detail };
  if (!good) return { tone: "warn", title: "There is no backup yet.", next: schedule ? "The first one follows by itself; or make one now." : "Make one now." };
  const late = schedule ? now - good.at > (schedule.every_days + 2) * DAY : now - good.at > 31 * DAY;
  if (late) return { tone: "warn", title: `The newest backup is ${spanWords(now - good.at)} old.`, next: schedule ? "Look whether its place is there, then make one now." : "Make one now, or have them made by themselves." };
  return { tone: "good", title: `The newest backup is from ${ago(good.at, now)}.`, next: "" };
}

/** The few words that every page carries for owners while backups fail, grow old, or would not do; null while there is nothing to say. */
export function backupMark(view: Backups, now: number): { tone: "warn" | "bad"; text: string } | null {
  if (!view.target) return null;
  const { tone, title } = backupStanding(view, now);
  const said = (text: string) => text.replace(/[,.]? ?$/, "").replace(/\.$/, "");
  if (tone === "bad" || (tone === "warn" && view.good)) return { tone, text: said(title) };
  return view.rehearsal && !view.rehearsal.good ? { tone: "bad", text: "A restore of this hub would not do" } : null;
}

/** How long after a rehearsal the next one is due. */
const REHEARSED_FOR = 400 * DAY;

/** What the newest rehearsal says, with what to do. */
export function rehearsalStanding({ rehearsal, good }: Pick<Backups, "rehearsal" | "good">, now: number): BackupStanding {
  if (!rehearsal) return { tone: "warn", title: "Nobody has tried yet.", next: good ? "Rehearse a restore: a backup that was never opened may be none." : "Make a backup first, then rehearse." };
  if (!rehearsal.good) return { tone: "bad", title: `The rehearsal failed, ${ago(rehearsal.at, now)}.`, next: rehearsal.detail };
  if (now - rehearsal.at > REHEARSED_FOR) return { tone: "warn", title: `The last rehearsal was ${spanWords(now - rehearsal.at)} ago.`, next: "It went well. Rehearse once a year." };
  return { tone: "good", title: `Yes: rehearsed ${ago(rehearsal.at, now)}.`, next: "" };
}

/** What a rehearsal looks at. */
export const PROVEN: Record<string, string> = {
  content: "Everything is in it",
  accounts: "The accounts are there",
  "sign-in": "You can sign in",
  twins: "Devices are as they were",
  rights: "Rights decide as they did",
  audit: "The activity is whole",
};

export function tookWords(ms: number): string {
  return ms < 1_000 ? "in less than a second" : `in ${ms < 120_000 ? count(Math.round(ms / 1_000), "second") : count(Math.round(ms / 60_000), "minute")}`;
}

/** “Every day at 03:30”, or that they are made only when asked for. */
export function scheduleWords(schedule: Schedule | null): string {
  if (!schedule) return "only when asked for";
  const { minute, every_days, full_every_days } = schedule;
  const every = every_days === 1 ? "every day" : `every ${every_days} days`;
  return `${every} at ${clockOf(minute)}, ${full_every_days === 0 ? "always a full one" : `a full one every ${count(full_every_days, "day")}`}`;
}

export function clockOf(minute: number): string {
  return `${String(Math.floor(minute / 60)).padStart(2, "0")}:${String(minute % 60).padStart(2, "0")}`;
}

/** The minute of the day of a time as a field has it; NaN for none. */
export function minuteOf(time: string): number {
  const [, hours, minutes] = /^(\d\d):(\d\d)/.exec(time) ?? [];
  return hours === undefined ? NaN : Number(hours) * 60 + Number(minutes);
}

export function retentionWords({ daily, weekly, monthly }: Retention): string {
  return `the newest of ${count(daily, "day")}, ${count(weekly, "week")} and ${count(monthly, "month")}`;
}

export function waysWords({ by_code, by_passphrase }: Pick<Backups, "by_code" | "by_passphrase">): string {
  if (by_code && by_passphrase) return "the recovery code of this home, or the passphrase";
  return by_code ? "the recovery code of this home" : by_passphrase ? "the passphrase" : "nobody";
}

/** One that is there, in a few words. */
export function listedWords({ kind, bytes, made_at, parent }: ListedBackup, now: number): string {
  const what = kind === "full" ? "Full" : kind === "increment" || parent ? "What was new since the one before" : "Not known what it is";
  return [what, sizeWords(bytes), made_at ? ago(made_at, now) : ""].filter(Boolean).join(", ");
}

/** What is wrong with a target as it was typed, by its field; nothing when all is well. */
export function targetErrors(target: Target): Partial<Record<string, string>> {
  const errors: Partial<Record<string, string>> = {};
  if (target.kind !== "s3") {
    if (!/^\/[^\0]+$/.test(target.path.trim())) errors["path"] = "The whole path on the hub, such as /media/stick/backups.";
    return errors;
  }
  if (!/^https:\/\/[^\s/]+/i.test(target.endpoint.trim()) && !/^http:\/\/(localhost|127\.0\.0\.1|\[::1\])([:/]|$)/i.test(target.endpoint.trim())) errors["endpoint"] = "It begins with https://.";
  for (const field of ["region", "bucket", "access_key", "secret_key"] as const) if (!target[field].trim()) errors[field] = "This is missing.";
  return errors;
}

/** How the command line is told where backups lie. */
export function optionOf(target: Backups["target"]): string {
  if (target?.kind === "s3") return "--target bucket.toml";
  return `--folder ${target ? target.text.replace(/^(folder|stick at) /, "") : "…"}`;
}
