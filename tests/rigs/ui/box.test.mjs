// The system of the box, on the page, with a real hub; RAUC and the boot loader are stood in for, and do what is asked of them at
// HEARTHKEY_BOX: progress, finish, fail, boot.
//   HEARTHKEY_URL, HEARTHKEY_SETUP_CODE   the hub
//   HEARTHKEY_BOX    where the stand-in listens
//   HEARTHKEY_SHOTS  a directory for screenshots (optional)

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bothWidths, comesTo, launch, PASSWORD, settleIn, visit, visitor } from "./house.mjs";

const complaints = [];
let browser, page;

before(async () => {
  browser = await launch();
  page = await visitor(browser, complaints);
  await settleIn(page);
  await visit(page, "#/update");
});
after(() => browser?.close());

const panel = () => page.getByRole("region", { name: "System of the box" });
const looksRight = (name) => bothWidths(page, `box-${name}`);
const bundle = (text) => ({ name: "box.raucb", mimeType: "application/octet-stream", buffer: Buffer.from(text) });
const bring = (text) => panel().getByLabel("Bundle (.raucb)").setInputFiles(bundle(text));
async function box(what) {
  const answer = await fetch(`${process.env.HEARTHKEY_BOX}/${what}`);
  assert.equal(answer.status, 200);
}
async function say(button, password = PASSWORD) {
  await panel().getByLabel("Your password").fill(password);
  await panel().getByRole("button", { name: button }).click();
}

test("the system of the box is updated on the page", async (t) => {
  await t.test("what runs is shown, slot by slot", async () => {
    await panel().getByText("as delivered, good, runs, starts next").waitFor();
    await looksRight("before");
  });

  await t.test("a stranger's bundle is refused with what to do, and leaves nothing", async () => {
    await bring("stranger hearthkey-test 7.0.0");
    await panel().getByText(/signed/).first().waitFor();
    await comesTo(panel().getByRole("button", { name: /^Install/ }), 0);
    await looksRight("refused");
  });

  await t.test("an older one is installed only all the same", async () => {
    await bring("builder hearthkey-test 0.0.1");
    await panel().getByText("Version 0.0.1 is older than what runs").waitFor();
    await panel().getByRole("button", { name: "Install 0.0.1 all the same" }).waitFor();
    await looksRight("older");
  });

  await t.test("a newer one takes its place, and a wrong password installs nothing", async () => {
    await bring("builder hearthkey-test 7.0.0");
    await panel().getByRole("button", { name: "Install 7.0.0", exact: true }).waitFor();
    await comesTo(panel().getByText("older than what runs"), 0);
    await say("Install 7.0.0", "not mine");
    await panel().locator("form .note-bad").waitFor();
    await comesTo(panel().getByRole("progressbar", { name: "System" }), 0);
    await looksRight("wrong-password");
  });

  await t.test("an installation is followed, and a failed one told", async () => {
    await say("Install 7.0.0");
    const bar = panel().getByRole("progressbar", { name: "System" });
    await bar.waitFor();
    await box("progress");
    await page.waitForFunction(() => document.querySelector('progress[aria-label="System"]')?.value === 40);
    await looksRight("installing");
    await comesTo(panel().getByLabel("Bundle (.raucb)"), 0, "one at a time");
    await box("fail");
    await panel().getByText("does not fit").waitFor();
  });

  await t.test("installed, it waits for a restart, which one's password gives", async () => {
    await bring("builder hearthkey-test 7.0.0");
    await say("Install 7.0.0");
    await panel().getByRole("progressbar", { name: "System" }).waitFor();
    await box("finish");
    await panel().getByRole("button", { name: "Restart the box" }).waitFor();
    await panel().getByText("7.0.0, good, starts next").waitFor();
    await looksRight("waits");
    await say("Restart the box");
    await comesTo(panel().getByRole("button", { name: "Restart the box" }), 0);
    await box("restarted");
  });

  assert.deepEqual(complaints, []);
});
