// The life of things and of the hub, on the page, with answers made up: what firmware waits for and what to do, a yes, a choice, a
// file that is brought; backups that stand, fail, are made and moved; the hub's own version, its update and the way back.
//   HEARTHKEY_DIST   the directory with the built page
//   HEARTHKEY_SHOTS  a directory for screenshots (optional)

import assert from "node:assert/strict";
import { test } from "node:test";
import { comesTo, shot } from "./house.mjs";
import { done, event, isFocused, look, sent } from "./looking.mjs";
import { DOOR, IDA, NOW } from "./stub.mjs";
import { BACKUPS, BEHIND, CURRENT, DOWNLOADING, FAILED_BACKUP, FIRMWARE, goes, HISTORY, NEWEST, NIGHT, NO_BACKUPS, NOT_REHEARSED, OFFERED, REHEARSED, UPDATED, waits } from "./upkeep.mjs";

const HERE = `#/device/${DOOR.id}`;
const of = (answer) => ({ "GET /devices/:id/firmware": answer });
const panel = (page) => page.getByRole("region", { name: "Firmware" });

test("for what an update waits, and what to do about it", async () => {
  const words = {
    hold: "1.6.0 is there, and held.",
    window: "1.6.0 waits for its time of the week.",
    stage: "1.6.0 goes to some devices first, and this one is not among them.",
    stopped: "An owner can let it go on under Settings, Firmware.",
    gave_up: "Say yes to try it once more.",
    step: "Ask the maker for the versions in between",
    hardware: "1.6.0 is there, for other hardware than this.",
    not_cached: "its file is not on this hub any more",
  };
  let now = waits("ask");
  const { page } = await look(HERE, { some: of(() => now) });
  await panel(page).getByText("1.6.0 is there, and waits for a yes.").waitFor();
  for (const [why, said] of Object.entries(words)) {
    now = waits(why);
    await event(page, "firmware", { device_id: DOOR.id });
    await panel(page).getByText(said).waitFor();
  }
  now = waits("backoff");
  now.verdict.until = NOW + 2 * 3_600_000 + 1;
  await event(page, "firmware", { device_id: null });
  await panel(page).getByText("1.6.0 failed, and is tried again in 2 hours.").waitFor();
  await panel(page).getByRole("button", { name: "Try 1.6.0 again" }).waitFor();
  await done(page);
});

test("a yes is said to one release, and its way is followed to the end", async () => {
  let now = waits("ask");
  const { page, asked } = await look(HERE, {
    width: 360,
    some: {
      ...of(() => now),
      "POST /devices/:id/firmware/approve": () => (now = goes("offered")),
    },
  });
  await panel(page).getByText("What is new in 1.6.0").click();
  await panel(page).getByText("It closes more quietly.").waitFor();
  await panel(page).getByRole("button", { name: "Install 1.6.0" }).click();
  await panel(page).getByText("It is offered 1.6.0.").waitFor();
  assert.deepEqual(sent(asked, "POST", `/devices/${DOOR.id}/firmware/approve`)[0].body, { rel: 6 });
  await comesTo(panel(page).getByRole("button", { name: "Install 1.6.0" }), 0);
  const follow = async (next, words) => {
    now = next;
    await event(page, "firmware", { device_id: DOOR.id });
    await panel(page).getByText(words).waitFor();
  };
  await follow(goes("downloading", { offset: 620_003 }), "It is getting 1.6.0.");
  assert.equal(await page.getByRole("progressbar", { name: "Download" }).getAttribute("value"), "50");
  await follow(goes("downloaded"), "It has 1.6.0, and is about to install it.");
  await follow(goes("installing", { since_ms: NOW }), "It is installing 1.6.0.");
  await follow({ ...waits("ask"), rel: 6, version: "1.6.0", verdict: { state: "up_to_date" }, newer: [], history: HISTORY }, "It runs the newest that this hub knows.");
  await panel(page).getByText("What was").click();
  await panel(page).getByText("It came up, was not well, and went back to what it had. The device says: “the motor did not answer”.").waitFor();
  await done(page);
});

test("a device that is behind says that it can only update, and one without firmware says nothing", async () => {
  const { page } = await look(HERE, { some: of(BEHIND) });
  await panel(page).getByText("It is behind: it can do nothing but update.").waitFor();
  await shot(page, "firmware-behind-1280");
  await done(page);
  const none = { ...waits("ask"), rel: null, version: null, verdict: { state: "not_known" }, newer: [] };
  for (const answer of [none, [404], [403]]) {
    const other = await look(HERE, { some: of(answer) });
    await other.page.getByRole("heading", { name: "Who may use it" }).waitFor();
    await comesTo(panel(other.page), 0);
    await done(other.page);
  }
});

test("who only uses a device sees its firmware, and is offered no yes", async () => {
  const device = { ...DOOR, privilege: "operate" };
  const { page } = await look(HERE, { me: IDA, some: { "GET /devices": { devices: [device] }, "GET /devices/:id": device, ...of(waits("ask")) } });
  await panel(page).getByText("Somebody who manages this device can say it.").waitFor();
  for (const hidden of ["Install 1.6.0", "Save"]) await comesTo(panel(page).getByRole("button", { name: hidden }), 0);
  await comesTo(page.getByRole("link", { name: "Firmware" }), 0);
  await done(page);
});

test("what is chosen for a model is sent whole, and what is wrong is said first", async () => {
  const { page, asked } = await look("#/firmware", { some: { "GET /firmware": FIRMWARE, "PUT /firmware/acme/gate-2/policy": (body) => ({ ...body, version: 3 }) } });
  const model = page.getByRole("region", { name: /Garage door/ });
  await model.getByText("Asks first, Mon–Fri 02:00–04:30, 20 % of the devices first. Stops when more than 34 % of at least 3 fail.").waitFor();
  await model.getByText("1 device runs a version that its maker calls unsafe").waitFor();
  await model.getByText("Choose what happens with a new version").click();
  await model.getByLabel(/^Automatic/).check();
  await model.getByLabel("Devices that get it first, in percent").fill("120");
  await model.getByRole("button", { name: "Save" }).click();
  await model.getByText("A number from 0 to 100.").waitFor();
  assert.equal(await isFocused(model.getByLabel("Devices that get it first, in percent")), true);
  assert.equal(sent(asked, "PUT", "/firmware/acme/gate-2/policy").length, 0);
  const saved = async () => {
    const answered = page.waitForResponse((each) => each.request().method() === "PUT");
    await model.getByRole("button", { name: "Save" }).click();
    await answered;
    return sent(asked, "PUT", "/firmware/acme/gate-2/policy").at(-1).body;
  };
  await model.getByLabel(/^Hold/).check();
  await comesTo(model.getByLabel("Devices that get it first, in percent"), 0);
  assert.deepEqual(await saved(), { mode: "hold", window: NIGHT, percent: 20, stop: { after: 3, percent: 34 } }, "what does not show stays");
  await page.getByRole("status").filter({ hasText: "Saved." }).waitFor({ state: "attached" });
  await model.getByLabel(/^Automatic/).check();
  await model.getByLabel("Devices that get it first, in percent").fill("50");
  assert.deepEqual(await saved(), { mode: "automatic", window: NIGHT, percent: 50, stop: { after: 3, percent: 34 } });
  await done(page);
});

test("a release that was stopped goes on after a question, and a file is removed after one", async () => {
  const { page, asked } = await look("#/firmware", { some: { "GET /firmware": FIRMWARE, "GET /devices/:id/firmware": waits("stopped") } });
  await page.getByRole("button", { name: "Go on with 1.5.1" }).click();
  const question = page.getByRole("group", { name: "Go on with 1.5.1" });
  assert.equal(await isFocused(question.getByRole("button", { name: "Leave it stopped" })), true);
  await question.getByRole("button", { name: "Go on" }).click();
  await page.getByRole("button", { name: "Remove the file of 1.6.0" }).click();
  await page.getByRole("button", { name: "Remove it" }).click();
  await comesTo(page.getByRole("button", { name: "Remove it" }), 1, "it is asked for again");
  assert.equal(sent(asked, "POST", "/firmware/acme/gate-2/5/resume").length, 1);
  assert.equal(sent(asked, "DELETE", "/firmware/acme/gate-2/6").length, 1);
  assert.equal(sent(asked, "GET", `/devices/${DOOR.id}/firmware`).length, 0, "devices are asked for only when they are looked at");
  await page.getByText("How its devices stand").first().click();
  await page.getByText("1.6.0 was stopped, because it failed on too many devices.").first().waitFor();
  await done(page);
});

test("a release is brought as a file, and a refusal says what to do", async () => {
  let answer = [422, "brand_not_trusted", "the brand lumen with the fingerprint ABCD is not trusted here"];
  const { page } = await look("#/firmware", { some: { "GET /firmware": FIRMWARE, "POST /firmware": () => answer } });
  const file = { name: "gate-2-1.6.0.hkfw", mimeType: "application/octet-stream", buffer: Buffer.from("hkfw1\n") };
  await page.getByLabel("Release file").setInputFiles(file);
  await page.getByText("trust the maker under “This hub”").waitFor();
  answer = { brand: "acme", model: "gate-2", rel: 6 };
  await page.getByLabel("Release file").setInputFiles(file);
  await page.getByText("Taken: release 6 for acme gate-2.").waitFor();
  await done(page);
});

test("without backups the page says where to begin, and a place is set with one's password", async () => {
  const { page, asked } = await look("#/backups", { width: 360, some: { "GET /backups": NO_BACKUPS, "PUT /backup": [204] } });
  await page.getByText("No backups are made.").waitFor();
  await page.getByText("Where, when and how many").click();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("The whole path on the hub").waitFor();
  assert.equal(await isFocused(page.getByLabel("Where it is mounted")), true);
  await page.getByLabel("Where it is mounted").fill("/media/stick");
  await page.getByLabel("A passphrase for backups").fill("four words that nobody guesses");
  await page.getByLabel("Your password").fill("x");
  await shot(page, "backups-form-360");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("status").filter({ hasText: "Saved." }).waitFor({ state: "attached" });
  assert.deepEqual(sent(asked, "PUT", "/backup")[0].body, {
    password: "x",
    target: { kind: "usb", path: "/media/stick" },
    schedule: { minute: 210, every_days: 1, full_every_days: 7 },
    retention: { daily: 7, weekly: 4, monthly: 12 },
    passphrase: "four words that nobody guesses",
  });
  assert.equal(await page.getByLabel("A passphrase for backups").inputValue(), "", "no secret stays in the page");
  await done(page);
});

test("a store is set whole, and what is missing is named", async () => {
  const { page, asked } = await look("#/backups", { some: { "GET /backups": BACKUPS, "PUT /backup": [204] } });
  await page.getByText("Where, when and how many").click();
  await page.getByRole("button", { name: "Another place" }).click();
  await page.getByLabel(/^A store/).check();
  await page.getByLabel("Address of the store").fill("http://s3.example");
  await page.getByRole("textbox", { name: "Your password" }).fill("x");
  await page.getByRole("button", { name: "Save" }).click();
  await comesTo(page.getByText("This is missing."), 4);
  await page.getByText("It begins with https://.").waitFor();
  assert.equal(sent(asked, "PUT", "/backup").length, 0);
  await page.getByLabel("Address of the store").fill("https://s3.example");
  for (const [label, text] of [["Bucket", "home"], ["Region", "eu"], ["Access key", "AK"], ["Secret key", "hush"]]) await page.getByLabel(label, { exact: true }).fill(text);
  await page.getByText("Only when asked for", { exact: true }).click();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("status").filter({ hasText: "Saved." }).waitFor({ state: "attached" });
  const [{ body }] = sent(asked, "PUT", "/backup");
  assert.deepEqual([body.target, body.schedule, body.passphrase], [{ kind: "s3", endpoint: "https://s3.example", region: "eu", bucket: "home", prefix: "hearthkey/", access_key: "AK", secret_key: "hush", path_style: true }, null, undefined]);
  await done(page);
});

test("a backup is made now, followed, and a failure says what to do", async () => {
  let now = BACKUPS;
  const { page, asked } = await look("#/backups", { some: { "GET /backups": () => now, "POST /backups": () => ((now = { ...BACKUPS, run: { ended: 0, running: true, rows: 1200, outcome: null } }), [202]) } });
  await page.getByText("The newest backup is from 7 hours ago.").waitFor();
  await page.getByText("every day at 03:30, a full one every 7 days").waitFor();
  await page.getByText("Make one now").click();
  await page.getByLabel(/^A full one/).first().check();
  await page.getByLabel("Your password").first().fill("x");
  await page.getByRole("button", { name: "Make a backup" }).click();
  await page.getByText("A backup is being made. The hub goes on as ever.").waitFor();
  await page.getByText("1,200 entries so far.").waitFor();
  assert.deepEqual(sent(asked, "POST", "/backups")[0].body, { password: "x", full: true });
  now = { ...FAILED_BACKUP, run: { ended: 1, running: false, rows: 0, outcome: { outcome: "failed", detail: FAILED_BACKUP.failed.detail } } };
  await event(page, "backup", {});
  await page.getByText("The last backup failed, 1 hour ago.").waitFor();
  await page.getByText("Plug the stick in, then make one.").first().waitFor();
  await done(page);
});

test("a backup that fails is told above every page, and on its own with the last good one, why, and what to do", async () => {
  const { page } = await look("#/", { some: { "GET /backups": FAILED_BACKUP } });
  await page.getByRole("link", { name: "The last backup failed, 1 hour ago" }).click();
  await page.getByRole("heading", { name: "How they stand" }).waitFor();
  await page.getByText("Last good one").waitFor();
  await page.getByText("Failed since").waitFor();
  await comesTo(page.getByText("Plug the stick in, then make one."), 2);
  await comesTo(page.getByRole("link", { name: "The last backup failed, 1 hour ago" }), 0, "its own page says more");
  await done(page);
});

test("a restore is rehearsed from the page, and how it went stands there with what was proven", async () => {
  let now = BACKUPS;
  const { page, asked } = await look("#/backups", { width: 360, some: { "GET /backups": () => now, "POST /backups/rehearsal": () => [202, (now = { ...BACKUPS, rehearsing: true })] } });
  await page.getByText("Nobody has tried yet.").waitFor();
  await page.getByText("Rehearse now").click();
  await page.getByLabel("Recovery code of this home").fill(" AAAA-BBBB ");
  const form = page.locator("section", { hasText: "Would a restore do?" });
  await form.getByLabel("Your password").fill("x");
  await form.getByRole("button", { name: "Rehearse", exact: true }).click();
  await page.getByText("A restore is rehearsed. The hub goes on as ever.").waitFor();
  assert.deepEqual(sent(asked, "POST", "/backups/rehearsal")[0].body, { password: "x", code: "AAAA-BBBB" });
  now = REHEARSED;
  await event(page, "backup", {});
  await page.getByText("Yes: rehearsed 2 days ago.").waitFor();
  await page.getByText("You can sign in").waitFor();
  await comesTo(page.getByText("Proven", { exact: true }), 6);
  now = NOT_REHEARSED;
  await event(page, "backup", {});
  await page.getByText("The rehearsal failed, 2 days ago.").waitFor();
  await page.getByText("Not so").waitFor();
  await shot(page, "backups-not-rehearsed-360");
  await done(page);
});

test("the hub is updated with one's password, and the page waits while it starts again", async () => {
  let now = CURRENT;
  const { page, asked } = await look("#/update", {
    some: {
      "GET /update": () => now,
      "POST /update/check": () => (now = { ...CURRENT, offered: OFFERED }),
      "POST /update/apply": () => (now = DOWNLOADING),
    },
  });
  await page.getByText("looks by itself, and installs when you say so").waitFor();
  await page.getByRole("button", { name: "Look now" }).click();
  await page.getByRole("heading", { name: "Version 0.4.0 is there" }).waitFor();
  await page.getByText("The doctor explains more.").waitFor();
  await page.getByLabel("Your password").fill("x");
  await page.getByRole("button", { name: "Install version 0.4.0" }).click();
  await page.getByText("The hub gets version 0.4.0.").waitFor();
  await page.getByText("4.9 MB of 9.8 MB.").waitFor();
  assert.deepEqual(sent(asked, "POST", "/update/apply")[0].body, { password: "x" });
  await comesTo(page.getByRole("button", { name: "Install version 0.4.0" }), 0);
  now = { ...DOWNLOADING, phase: "switching" };
  await event(page, "update", {});
  await page.getByText("The hub starts again as version 0.4.0.").waitFor();
  now = [503, "unavailable", "The hub is starting.", "Wait."];
  await event(page, "update", {});
  await page.getByText("The hub starts again as version 0.4.0.").waitFor();
  await comesTo(page.getByText("The hub is starting."), 0, "that it is away is no problem now");
  now = { ...UPDATED, version: "0.4.0", last: { ...UPDATED.last, version: "0.4.0", from: "0.3.0" } };
  await event(page, "update", {});
  await page.getByText("Updated to version 0.4.0, 3 hours ago.").waitFor();
  await page.getByRole("button", { name: "Load the new page" }).waitFor();
  await done(page);
});

test("the way back takes the password, and a hub that does not update itself says who does", async () => {
  const { page, asked } = await look("#/update", { some: { "GET /update": UPDATED, "POST /update/roll-back": { ...UPDATED, phase: "switching" } } });
  await page.getByText("Go back to version 0.2.9").click();
  await page.getByText("what was revoked stays revoked").waitFor();
  await page.getByLabel("Your password").fill("x");
  await page.getByRole("button", { name: "Go back to 0.2.9" }).click();
  await page.getByText("The hub starts again").first().waitFor();
  assert.deepEqual(sent(asked, "POST", "/update/roll-back")[0].body, { password: "x" });
  await done(page);
  const other = await look("#/update", { some: { "GET /update": [409, "conflict", "this hub does not update itself", "…"] } });
  await other.page.getByText("This hub does not update itself").waitFor();
  await done(other.page);
});
