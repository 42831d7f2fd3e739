import assert from "node:assert/strict";
import { test } from "node:test";
import { plainText, tell } from "../src/audit/telling.ts";
import type { Backups } from "../src/backup-api.ts";
import { backupMark, backupStanding, clockOf, listedWords, minuteOf, optionOf, rehearsalStanding, retentionWords, scheduleWords, targetErrors, tookWords, waysWords } from "../src/backup-words.ts";
import type { DeviceFirmware, Policy, Verdict } from "../src/firmware-api.ts";
import { endWords, failureWords, policyErrors, policyWords, standsAt, triedWords } from "../src/firmware-words.ts";
import { share, sizeWords } from "../src/sizes.ts";
import type { AuditEntry, Device } from "../src/types.ts";
import type { HubUpdate } from "../src/update-api.ts";
import { fateWords, habitWords, isDoing, lastWords, phaseWords } from "../src/update-words.ts";

const NOW = 1_800_000_000_000;
const HOUR = 3_600_000;
const POLICY: Policy = { mode: "ask", window: null, percent: 100, stop: { after: 3, percent: 34 } };
const view = (verdict: Verdict, some: Partial<DeviceFirmware> = {}): DeviceFirmware => ({ rel: 4, version: "1.4.2", behind: false, policy: POLICY, verdict, progress: { offer: null, rel: null, state: "idle" }, history: [], ...some });
const told = (what: DeviceFirmware, asked = true) => standsAt(what, (rel) => `1.${rel}.0`, NOW, asked);

test("what a device waits for is said with what to do, and a failure is told along", () => {
  assert.equal(told(view({ state: "up_to_date" })).tone, "good");
  assert.deepEqual(told(view({ state: "waits", rel: 6, why: "ask" })), { tone: "accent", title: "1.6.0 is there, and waits for a yes.", next: "" });
  assert.match(told(view({ state: "waits", rel: 6, why: "ask" }), false).next ?? "", /who manages/);
  const failed = view({ state: "waits", rel: 6, why: "backoff", until: NOW + 4 * HOUR }, { progress: { offer: null, rel: 6, state: "failed", code: "health", detail: "" } });
  assert.deepEqual(told(failed), { tone: "warn", title: "1.6.0 failed, and is tried again in 4 hours.", next: "It came up, was not well, and went back to what it had. Nothing needs to be done." });
  for (const why of ["hold", "window", "stage", "stopped", "gave_up", "step", "hardware", "not_cached"] as const) assert.match(told(view({ state: "waits", rel: 6, why })).title, /^1\.6\.0 /, why);
  assert.match(told(view({ state: "waits", rel: 6, why: "moon" as never })).title, /waits/);
});

test("what is under way goes before what is decided", () => {
  const offered = (state: DeviceFirmware["progress"]["state"], install = true) => told(view({ state: "offer", rel: 6, install }, { progress: { offer: "o", rel: 6, state } })).title;
  assert.equal(offered("downloading"), "It is getting 1.6.0.");
  assert.equal(offered("downloaded", false), "It has 1.6.0, and installs it later.");
  assert.equal(offered("installing"), "It is installing 1.6.0.");
  assert.equal(offered("offered"), "It is offered 1.6.0.");
});

test("what was chosen is a sentence, and what is wrong with it is named", () => {
  assert.equal(policyWords(POLICY), "Asks first. Stops when more than 34 % of at least 3 fail.");
  assert.equal(policyWords({ ...POLICY, mode: "hold", percent: 5 }), "Held: nothing is installed.");
  assert.equal(policyWords({ ...POLICY, mode: "automatic", percent: 20, window: { days: ["sat", "sun"], from: "02:00", to: "04:00" } }), "Installed by itself, Sat, Sun 02:00–04:00, 20 % of the devices first. Stops when more than 34 % of at least 3 fail.");
  assert.deepEqual(policyErrors(POLICY), { window: "", percent: "", stop: "" });
  const wrong = policyErrors({ ...POLICY, percent: NaN, stop: { after: 0, percent: 34 }, window: { days: [], from: "", to: "" } });
  assert.ok(wrong.window && wrong.percent && wrong.stop);
});

test("how an update ended is said in words, with the device's own", () => {
  const at = { offer: "o", rel: 6, at_ms: NOW };
  assert.deepEqual(endWords({ ...at, outcome: "confirmed" }), { tone: "good", text: "Installed." });
  assert.equal(endWords({ ...at, outcome: "withdrawn" }).tone, "plain");
  assert.equal(endWords({ ...at, outcome: "failed", code: "storage", detail: " full " }).text, "The device has no room for it. The device says: “full”.");
  assert.equal(failureWords({ code: "new_code" }), "It failed.");
  assert.deepEqual([{ tried: 0, failed: 0 }, { tried: 1, failed: 0 }, { tried: 4, failed: 3 }, { tried: 2, failed: 2 }, { tried: 1, failed: 1 }].map(triedWords), ["no device has tried it yet", "1 device has it", "4 devices have tried it, and 3 failed", "2 devices have tried it, and all failed", "1 device has tried it, and it failed"]);
});

test("sizes and shares", () => {
  assert.deepEqual([0, 12, 41_200, 2_450_000, 1_073_741_824].map(sizeWords), ["0 kB", "1 kB", "41 kB", "2.5 MB", "1.1 GB"]);
  assert.deepEqual([share(0, 10), share(5, 10), share(20, 10), share(5, null), share(undefined, 5)], [0, 50, 100, 0, 0]);
});

const BACKUPS: Backups = { target: { kind: "usb", text: "stick at /media/stick" }, schedule: { minute: 210, every_days: 1, full_every_days: 7 }, retention: { daily: 7, weekly: 4, monthly: 1 }, by_code: true, by_passphrase: false, next_at: null, good: { at: NOW - 7 * HOUR, name: "n", bytes: 1, detail: "" }, failed: null, rehearsal: null, rehearsing: false, run: { ended: 0, running: false, rows: 0, outcome: null }, backups: [], listed_at: 0 };

test("backups that are missing, old, failed or closed for ever are told with what to do", () => {
  const stands = (some: Partial<Backups>) => backupStanding({ ...BACKUPS, ...some }, NOW);
  assert.deepEqual([stands({}).tone, stands({ target: null }).tone, stands({ by_code: false }).tone, stands({ good: null }).tone], ["good", "warn", "bad", "warn"]);
  assert.match(stands({ by_code: false }).title, /nobody could open it/);
  const failed = { at: NOW - HOUR, name: "", bytes: 0, detail: "Plug the stick in." };
  assert.deepEqual([stands({ failed }).tone, stands({ failed }).next], ["bad", "Plug the stick in."]);
  assert.equal(stands({ failed: { ...failed, at: NOW - 9 * HOUR } }).tone, "good", "one that went well after it");
  const old = { at: NOW - 96 * HOUR, name: "n", bytes: 1, detail: "" };
  assert.match(stands({ good: old }).title, /4 days old/);
  assert.equal(stands({ good: old, schedule: null }).tone, "good", "nobody has asked for one every day");
});

test("every page says when backups fail, grow old or would not do, and nothing else", () => {
  const mark = (some: Partial<Backups>) => backupMark({ ...BACKUPS, ...some }, NOW);
  const failed = { at: NOW - HOUR, name: "", bytes: 0, detail: "Plug the stick in." };
  const rehearsal = { at: NOW - 2 * HOUR, took_ms: 4_200, backup: "n", made_at: NOW - 7 * HOUR, good: false, proofs: [], detail: "A restore would not do." };
  assert.deepEqual([mark({}), mark({ target: null, failed }), mark({ good: null }), mark({ rehearsal: { ...rehearsal, good: true } })], [null, null, null, null]);
  assert.deepEqual(mark({ failed }), { tone: "bad", text: "The last backup failed, 1 hour ago" });
  assert.deepEqual(mark({ good: { ...failed, at: NOW - 96 * HOUR } }), { tone: "warn", text: "The newest backup is 4 days old" });
  assert.deepEqual(mark({ by_code: false })?.tone, "bad");
  assert.deepEqual(mark({ rehearsal }), { tone: "bad", text: "A restore of this hub would not do" });
  const stands = (some: Partial<Backups>) => rehearsalStanding({ ...BACKUPS, ...some }, NOW);
  assert.deepEqual([stands({}).tone, stands({ good: null }).next], ["warn", "Make a backup first, then rehearse."]);
  assert.deepEqual([stands({ rehearsal }).tone, stands({ rehearsal }).next], ["bad", "A restore would not do."]);
  assert.match(stands({ rehearsal: { ...rehearsal, good: true } }).title, /^Yes: rehearsed 2 hours ago/);
  assert.equal(stands({ rehearsal: { ...rehearsal, good: true, at: NOW - 500 * 24 * HOUR } }).tone, "warn");
  assert.deepEqual([20, 4_200, 300_000].map(tookWords), ["in less than a second", "in 4 seconds", "in 5 minutes"]);
});

test("when, how many, by whom", () => {
  assert.equal(scheduleWords(BACKUPS.schedule), "every day at 03:30, a full one every 7 days");
  assert.equal(scheduleWords({ minute: 0, every_days: 7, full_every_days: 0 }), "every 7 days at 00:00, always a full one");
  assert.equal(scheduleWords(null), "only when asked for");
  assert.deepEqual([0, 210, 1439].map((each) => minuteOf(clockOf(each))), [0, 210, 1439]);
  assert.equal(Number.isNaN(minuteOf("")), true);
  assert.equal(retentionWords(BACKUPS.retention), "the newest of 7 days, 4 weeks and 1 month");
  assert.equal(waysWords({ by_code: true, by_passphrase: true }), "the recovery code of this home, or the passphrase");
  assert.deepEqual([optionOf(null), optionOf(BACKUPS.target), optionOf({ kind: "s3", text: "bucket b at https://s3.example" })], ["--folder …", "--folder /media/stick", "--target bucket.toml"]);
  assert.equal(listedWords({ name: "n", id: null, parent: null, kind: null, made_at: null, bytes: 5_000, good: false, problem: "x" }, NOW), "Not known what it is, 5 kB");
});

test("a place for backups is looked at before it is sent", () => {
  const store = { kind: "s3", endpoint: "https://s3.example", region: "eu", bucket: "b", prefix: "", access_key: "a", secret_key: "s", path_style: true } as const;
  assert.deepEqual(targetErrors(store), {});
  for (const good of ["http://localhost:9000", "http://127.0.0.1:9000/", "http://[::1]:9000"]) assert.deepEqual(targetErrors({ ...store, endpoint: good }), {}, good);
  for (const bad of ["http://s3.example", "http://127.0.0.1.evil.example", "s3.example", ""]) assert.ok(targetErrors({ ...store, endpoint: bad })["endpoint"], bad);
  assert.deepEqual(Object.keys(targetErrors({ ...store, bucket: " ", secret_key: "" })), ["bucket", "secret_key"]);
  assert.deepEqual(targetErrors({ kind: "folder", path: " /mnt/disk " }), {});
  assert.ok(targetErrors({ kind: "usb", path: "media/stick" })["path"]);
});

test("the hub's own update in words", () => {
  const hub: HubUpdate = { version: "0.3.0", configured: true, enabled: true, automatic: false, supervised: true, phase: "idle", done: 0, checked_at: null, problem: null, offered: null, back_to: null, last: null };
  assert.equal(phaseWords(hub), null);
  for (const phase of ["checking", "downloading", "unpacking", "waiting", "switching", "trying"] as const) assert.ok(phaseWords({ ...hub, phase })?.title, phase);
  const last = { number: 1, version: "0.4.0", from: "0.3.0", by: "hub", reason: "it ended with exit status: 1", at: NOW - HOUR };
  assert.deepEqual(lastWords({ ...last, ended: "rolled_back" }, NOW), { tone: "bad", title: "Version 0.4.0 did not stay, 1 hour ago: version 0.3.0 serves again.", next: "It ended with exit status: 1." });
  assert.equal(lastWords({ ...last, ended: "updated", reason: "", version: null }, NOW).title, "Updated to the program of the system, 1 hour ago.");
  assert.equal(lastWords({ ...last, ended: "refused" }, NOW).tone, "warn");
  assert.match(habitWords({ ...hub, configured: false }), /no vendor/);
});

test("what was done about firmware, backups and versions is told in sentences", () => {
  const known = { people: [{ id: "1f", username: "mara", display_name: "Mara", role: "owner" as const }], devices: new Map([["door-1", { id: "door-1", brand: "acme", model: "gate", name: "Garage", title: "" } as Device]]), models: new Map() };
  const told = (action: string, some: Partial<AuditEntry> = {}) => tell({ seq: 1, at: 1, actor: "user:1f", action, object: "door-1", outcome: "done", reason: "", detail: "", via: "", ...some }, known);
  const says = (...args: Parameters<typeof told>) => plainText(told(...args).parts);
  const model = "acme/gate";
  assert.equal(says("firmware.import", { object: model, detail: "rel 6, version 1.6.0, 12 bytes, SHA-256 9f" }), "Mara brought version 1.6.0 for acme gate.");
  assert.equal(says("firmware.import", { actor: "cloud", object: model, detail: "rel 6, version 1.6.0, 12 bytes, SHA-256 9f" }), "The cloud brought version 1.6.0 for acme gate.");
  assert.equal(told("firmware.import", { object: "hub", outcome: "denied", reason: "hash", detail: "the image is another one" }).why, "The image is another one.");
  assert.equal(says("firmware.approve", { detail: "rel 6" }), "Mara said yes to release 6 for Garage.");
  assert.equal(told("firmware.policy", { object: model, detail: '{"mode":"hold","window":null}' }).why, "They are held.");
  assert.equal(says("firmware.remove", { object: model, detail: "the image of rel 6" }), "Mara removed the file of release 6 of acme gate.");
  assert.equal(says("firmware.withdraw", { actor: "hub", detail: "rel 6" }), "Release 6 is offered to Garage no more.");
  assert.equal(told("firmware.fail", { actor: "device:door-1", reason: "power", detail: "rel 6" }).why, "The power was not enough.");
  assert.equal(told("firmware.stop", { actor: "hub", object: model, reason: "too_many_failed", detail: "rel 6: 3 of 4 that tried it failed" }).why, "3 of 4 devices that tried it failed.");
  assert.equal(says("backup.create", { actor: "hub", object: "hub", detail: "a full one of 12 bytes: x.hkbk" }), "The hub made a backup.");
  assert.equal(says("backup.create", { actor: "hub", object: "hub", outcome: "denied", reason: "failed", detail: "no stick" }), "A backup failed.");
  assert.equal(told("firmware.withdraw", { actor: "hub", reason: "not_cached", detail: "rel 6" }).why, "It was not fetched for long, and its file made room for others.");
  assert.equal(says("firmware.recall", { actor: "cloud", object: model, detail: "rel 6" }), "The maker withdrew release 6 of acme gate.");
  assert.equal(says("backup.rehearse", { object: "hub", detail: "x.hkbk: a restore would do" }), "Mara rehearsed a restore: it would do.");
  assert.equal(told("backup.rehearse", { object: "hub", outcome: "denied", reason: "failed", detail: "the code does not open this backup" }).why, "The code does not open this backup.");
  assert.equal(says("hub.update.end", { actor: "hub", object: "hub", reason: "rolled_back", detail: "version 0.4.0 from 0.3.0, asked for by user:1f: it ended" }), "Version 0.4.0 did not stay: version 0.3.0 serves again.");
  assert.equal(told("hub.update.end", { actor: "hub", object: "hub", reason: "updated", detail: "version 0.4.0 from of the system, asked for by user:1f: " }).why, "Asked for by Mara.");
});

test("what became of the box's system is said with what to do, and what a page waits for is named", () => {
  assert.match(fateWords({ version: "0.2.0", fate: "waits" }), /^Version 0\.2\.0 is installed: restart/);
  assert.match(fateWords({ version: "0.2.0", fate: "fell_back" }), /the system before it runs\.$/);
  assert.equal(isDoing({ phase: "receiving" }), null);
  assert.match(isDoing({ phase: "installing" }) ?? "", /goes on as ever/);
});
