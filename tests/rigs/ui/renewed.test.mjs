// A hub becomes another version while an owner looks on, goes back with the owner's password, and comes back by itself from a version
// that is not well: each told on the page, which follows the hub through its starts.
//   HEARTHKEY        the program, with the maker's tool in it
//   HEARTHKEY_DIST   a built page to try in place of the one in the hub (optional)
//   HEARTHKEY_SHOTS  a directory for screenshots (optional)

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bothWidths, comesTo, hubIsAt, launch, PASSWORD, settleIn, visit, visitor } from "./house.mjs";
import { makeVendor, newDir, startHub } from "./programs.mjs";
import { withPageOf } from "./stub.mjs";

const complaints = [];
const place = newDir();
let browser, page, hub, vendor, first;

before(async () => {
  vendor = await makeVendor(place.dir);
  hub = await startHub(place.dir, { by: "run", settings: `[update]\nkey = "${vendor.key}"\nhealthy_s = 3\nhealth_every_s = 1\nready_s = 30\nstarts = 1\n` });
  hubIsAt(`https://${hub.https}`, hub.setup_code);
  browser = await launch();
  page = await visitor(browser, complaints);
  if (process.env.HEARTHKEY_DIST) await withPageOf(page, process.env.HEARTHKEY_DIST);
  await settleIn(page);
});
after(async () => {
  await browser?.close();
  await hub?.stop();
  place.remove();
});

const looksRight = (name) => bothWidths(page, `renewed-${name}`);
const runs = (version) => page.getByRole("heading", { level: 2, name: `Version ${version}`, exact: true }).waitFor();

test("the page follows the hub from version to version", async (t) => {
  await t.test("what runs, and that no vendor is asked", async () => {
    await visit(page, "#/update");
    const heading = page.getByRole("heading", { level: 2, name: /^Version \d/ });
    await heading.waitFor();
    first = (await heading.textContent()).replace("Version ", "");
    await page.getByText("no vendor is set, so it does not look for any").waitFor();
    await looksRight("at-first");
  });

  await t.test("another version comes, serves, and stays", async () => {
    await vendor.install(hub, await vendor.release("90.0.0"));
    await runs("90.0.0");
    await page.getByText(/^Updated to version 90\.0\.0/).waitFor();
    await page.getByRole("button", { name: "Load the new page" }).click();
    await runs("90.0.0");
    await comesTo(page.getByRole("button", { name: "Load the new page" }), 0);
    await looksRight("updated");
  });

  await t.test("an owner goes back with the password", async () => {
    await page.getByText(`Go back to version ${first}`).click();
    await page.getByLabel("Your password").fill("not the password");
    await page.getByRole("button", { name: `Go back to ${first}` }).click();
    await page.getByRole("alert").filter({ hasText: /\S/ }).waitFor();
    await page.getByLabel("Your password").fill(PASSWORD);
    await page.getByRole("button", { name: `Go back to ${first}` }).click();
    await runs(first);
    await page.getByText(/^Version 90\.0\.0 did not stay/).waitFor();
    await looksRight("gone-back");
  });

  await t.test("a version that is not well is given up, and the page says why", async () => {
    await vendor.install(hub, await vendor.release("91.0.0", `[ "$1" = doctor ] && { echo 'the twins do not answer' >&2; exit 1; }`));
    await page.getByText(/^Version 91\.0\.0 did not stay/).waitFor();
    await page.getByText(/the twins do not answer/i).first().waitFor();
    await runs(first);
    await looksRight("given-up");
    assert.deepEqual(complaints, []);
  });
});
