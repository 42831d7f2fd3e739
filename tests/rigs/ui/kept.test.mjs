// A home is kept well, on the page, with a real hub and a door that is really updated: a maker's file is brought, what is no release is
// refused, a yes is said and followed to the end, what its maker calls unsafe can only update; backups are set up and made.
//   HEARTHKEY        the program, with what simulates devices in it
//   HEARTHKEY_DIST   a built page to try in place of the one in the hub (optional)
//   HEARTHKEY_SHOTS  a directory for screenshots (optional)

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { bothWidths, call, comesTo, hubIsAt, launch, PASSWORD, sendFile, settleIn, visit, visitor } from "./house.mjs";
import { makeDoor, makeRelease, newDir, runDoor, startHub } from "./programs.mjs";
import { withPageOf } from "./stub.mjs";

const complaints = [];
const place = newDir();
let browser, page, hub, door, running;

before(async () => {
  door = await makeDoor(place.dir);
  hub = await startHub(place.dir, { fingerprint: door.fingerprint });
  hubIsAt(`https://${hub.https}`, hub.setup_code);
  browser = await launch();
  page = await visitor(browser, complaints);
  if (process.env.HEARTHKEY_DIST) await withPageOf(page, process.env.HEARTHKEY_DIST);
  await settleIn(page);
  await sendFile(page, "/vouchers", door.voucher);
  await call(page, "POST", "/claims", { code: door.label, name: "Garage", room: "Driveway" });
  running = runDoor(door, hub, join(place.dir, "door"));
});
after(async () => {
  await browser?.close();
  for (const each of [running, hub]) await each?.stop();
  place.remove();
});

const looksRight = (name) => bothWidths(page, `kept-${name}`);
const section = (name) => page.getByRole("region", { name });

test("firmware is brought, chosen and installed", async (t) => {
  await t.test("what is no release is refused with what to do", async () => {
    await visit(page, "#/firmware");
    await page.getByLabel("Release file").setInputFiles({ name: "holiday.jpg", mimeType: "image/jpeg", buffer: Buffer.from("no release at all") });
    await comesTo(page.locator("main .note-bad p"), 2);
    await looksRight("refused");
  });

  await t.test("a release of a trusted maker is taken, and waits for a yes", async () => {
    await page.getByLabel("Release file").setInputFiles(await makeRelease(place.dir, 2, "1.1.0", { notes: "It closes more quietly." }));
    await page.getByText("Taken: release 2 for acme garage-door.").waitFor();
    const model = section(/acme/);
    await model.getByText("1.1.0", { exact: true }).waitFor();
    await model.getByText("no device has tried it yet").waitFor();
    await model.getByText("What is new").click();
    await model.getByText("It closes more quietly.").waitFor();
    await looksRight("taken");
  });

  await t.test("what is chosen holds", async () => {
    await page.getByText("Choose what happens with a new version").click();
    await page.getByLabel("Stop after so many tries").fill("5");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("Asks first. Stops when more than 34 % of at least 5 fail.").waitFor();
    await visit(page, "#/firmware");
    await page.getByText("Asks first. Stops when more than 34 % of at least 5 fail.").waitFor();
  });

  await t.test("a yes installs it, and the door runs it", async () => {
    await visit(page, `#/device/${door.id}`);
    const firmware = section("Firmware");
    await firmware.getByText("1.1.0 is there, and waits for a yes.").waitFor();
    await looksRight("device-waits");
    await firmware.getByRole("button", { name: "Install 1.1.0" }).click();
    await firmware.getByText("It runs the newest that this hub knows.").waitFor();
    await firmware.getByText(/1\.1\.0 \(release 2\)/).waitFor();
    await firmware.getByText("What was").click();
    await firmware.getByText("Installed.").waitFor();
    await looksRight("device-updated");
  });

  await t.test("a version that does not come up well is given up, and the page says why and what then", async () => {
    await visit(page, "#/firmware");
    await page.getByLabel("Release file").setInputFiles(await makeRelease(place.dir, 3, "1.2.0", { healthy: false }));
    await page.getByText("Taken: release 3 for acme garage-door.").waitFor();
    await visit(page, `#/device/${door.id}`);
    const firmware = section("Firmware");
    await firmware.getByRole("button", { name: "Install 1.2.0" }).click();
    await firmware.getByText(/^1\.2\.0 failed, and is tried again in /).waitFor();
    await firmware.getByText(/It came up, was not well, and went back/).first().waitFor();
    await firmware.getByText(/1\.1\.0 \(release 2\)/).waitFor();
    await firmware.getByRole("button", { name: "Try 1.2.0 again" }).waitFor();
    await looksRight("device-failed");
  });

  await t.test("what its maker calls unsafe can only update, until it has", async () => {
    await visit(page, "#/firmware");
    await page.getByText("Choose what happens with a new version").click();
    await page.getByLabel(/^Hold/).check();
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("Held: nothing is installed.").waitFor();
    await page.getByLabel("Release file").setInputFiles(await makeRelease(place.dir, 4, "1.3.0", { notes: "It is safe again.", more: ["--security-minimum", "4"] }));
    await page.getByText("1 device runs a version that its maker calls unsafe").waitFor();
    await page.getByText("Updates are held").waitFor();
    await looksRight("behind");
    await visit(page, `#/device/${door.id}`);
    await section("Firmware").getByText("It is behind: it can do nothing but update.").waitFor();
    await page.getByText("Behind", { exact: true }).waitFor();
    await looksRight("device-behind");
    await visit(page, "#/firmware");
    await page.getByText("Choose what happens with a new version").click();
    await page.getByLabel(/^Ask/).check();
    await page.getByRole("button", { name: "Save" }).click();
    await visit(page, `#/device/${door.id}`);
    await section("Firmware").getByText(/1\.3\.0 \(release 4\)/).waitFor();
    await comesTo(page.getByText("Behind", { exact: true }), 0);
  });
});

test("backups are set up with one's password, and one is made", async (t) => {
  const folder = join(place.dir, "backups");
  mkdirSync(folder);
  await t.test("without a way to open them, the page says so", async () => {
    await visit(page, "#/backups");
    await page.getByText("No backups are made.").waitFor();
    await looksRight("no-backups");
  });

  await t.test("a folder is chosen, and a passphrase", async () => {
    await page.getByText("Where, when and how many").click();
    await page.getByLabel(/^A folder/).check();
    await page.getByLabel("Folder", { exact: true }).fill(folder);
    await page.getByLabel("A passphrase for backups").fill("four words that nobody guesses");
    await page.getByRole("textbox", { name: "Your password" }).fill("not the password");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByRole("alert").filter({ hasText: /\S/ }).waitFor();
    await page.getByRole("textbox", { name: "Your password" }).fill(PASSWORD);
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText(`folder ${folder}`, { exact: true }).waitFor();
    await looksRight("backups-set");
  });

  await t.test("one is made while the page looks on", async () => {
    await page.getByText("Make one now").click();
    await section("How they stand").getByLabel("Your password").fill(PASSWORD);
    await page.getByRole("button", { name: "Make a backup" }).click();
    await page.getByText("The newest backup is from just now.").waitFor();
    await section("What there is").getByText(/^Full, /).waitFor();
    await looksRight("backup-made");
  });
});

test("a hub that nobody updates says who does, or how", async () => {
  await visit(page, "#/update");
  await page.getByRole("heading", { level: 2, name: /^Version \d/ }).waitFor();
  await page.getByText(/This hub does not update itself|no vendor is set/).first().waitFor();
  await looksRight("update");
  assert.deepEqual(complaints, []);
});
