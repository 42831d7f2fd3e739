// A home and a real cloud, on the page, from the first look at the cloud to the end of the link: the recovery code is made and kept,
// the link is agreed to, both come in touch, a key for away does what it may, what is revoked outside arrives, what waits gets
// through; a cloud that is gone is told with what to do, and one that is back is found again.
//   HEARTHKEY        the program, with the cloud in it; PostgreSQL is installed
//   HEARTHKEY_DIST   a built page to try in place of the one in the hub (optional)
//   HEARTHKEY_SHOTS  a directory for screenshots (optional)

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bothWidths, call, comesTo, hubIsAt, launch, PASSWORD, sendFile, settleIn, visit, visitor } from "./house.mjs";
import { makeDoor, newDir, runDoor, startCloud, startHub } from "./programs.mjs";
import { withPageOf } from "./stub.mjs";

const complaints = [];
const place = newDir();
const running = [];
let browser, page, cloud, hub, door;

before(async () => {
  cloud = await startCloud(place.dir);
  door = await makeDoor(place.dir);
  hub = await startHub(place.dir, { fingerprint: door.fingerprint, ca: cloud.ca_pem });
  hubIsAt(`https://${hub.https}`, hub.setup_code);
  running.push(runDoor(door, hub));
  browser = await launch();
  page = await visitor(browser, complaints);
  if (process.env.HEARTHKEY_DIST) await withPageOf(page, process.env.HEARTHKEY_DIST);
  await settleIn(page);
  await sendFile(page, "/vouchers", door.voucher);
  await call(page, "POST", "/claims", { code: door.label, name: "Garage", room: "Driveway" });
  const tom = await call(page, "POST", "/users", { username: "tom", password: "a guest of the house", display_name: "Tom Sand", role: "guest" });
  await call(page, "POST", `/devices/${door.id}/bindings`, { username: "tom", privilege: "operate" });
  door.shared = `user:${tom.id}`;
});
after(async () => {
  await browser?.close();
  for (const each of [...running, hub, cloud]) await each?.stop();
  place.remove();
});

const looksRight = (name) => bothWidths(page, `linked-${name}`);
const fact = (term) => page.locator(".facts > div").filter({ has: page.getByText(term, { exact: true }) }).locator("dd");
/** A call to the cloud from outside, with a person's key. */
const fromAway = (key, method, path) => page.request.fetch(`${key.url}/v1${path}`, { method, headers: { authorization: `Bearer ${key.token}` } });

test("a home is linked to a cloud, lives with it, and leaves it", async (t) => {
  let code = "";
  let key;
  await t.test("an address where no cloud answers is told with what to do", async () => {
    await visit(page, "#/cloud");
    await page.getByText("No cloud is linked").waitFor();
    await page.getByLabel("Address of the cloud").fill("https://127.0.0.1:9");
    await page.getByRole("button", { name: "Look at it" }).click();
    await comesTo(page.locator("main .note-bad p"), 2);
    await looksRight("nobody-there");
  });

  await t.test("the cloud shows what it is, and the recovery code is made and kept before anything leaves the house", async () => {
    await page.getByLabel("Address of the cloud").fill(cloud.url);
    await page.getByRole("button", { name: "Look at it" }).click();
    await page.getByRole("heading", { level: 3, name: "Acme Cloud" }).waitFor();
    await page.getByLabel("Using devices from away").check();
    await page.getByLabel("Sharing from away").check();
    await page.getByLabel("Who lives here").check();
    await looksRight("choose");
    await page.getByRole("button", { name: "Go on" }).click();
    await page.getByRole("heading", { level: 3, name: "First, a recovery code" }).waitFor();
    await page.getByLabel("Your password").fill("not the password");
    await page.getByRole("button", { name: "Make the recovery code" }).click();
    await page.getByRole("alert").filter({ hasText: /\S/ }).waitFor();
    await page.getByLabel("Your password").fill(PASSWORD);
    await page.getByRole("button", { name: "Make the recovery code" }).click();
    await page.locator(".code-groups code").last().waitFor();
    code = (await page.locator(".code-groups code").allTextContents()).join("-");
    await looksRight("code");
    await page.getByRole("button", { name: "I have it on paper" }).click();
    await page.getByLabel(/^Type the last/).fill(code.split("-").slice(-2).join("-"));
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 3, name: "Compare the fingerprint" }).waitFor();
    assert.equal((await page.locator(".fingerprint code").textContent()).replace(/ /g, ""), cloud.fingerprint.replace(/[\s-]/g, ""), "what the cloud's operator is told");
    await looksRight("compare");
  });

  await t.test("linked, hub and cloud come in touch, and nothing waits any more", async () => {
    await page.getByLabel("I have compared it").check();
    await page.getByRole("button", { name: "Link this hub" }).click();
    await page.getByText("Hub and cloud are in touch.").waitFor();
    await fact("Waits to be sent").getByText("Nothing", { exact: true }).waitFor();
    await fact("Wake-up").getByText(/at once/).waitFor();
    await fact("Recovery copy").getByText(/^made /).waitFor();
    await looksRight("in-touch");
  });

  await t.test("a key for away shows once, and sees from outside what its person may see", async () => {
    await page.getByText("Make a key").click();
    await page.getByLabel("What it is for").fill("My phone");
    await page.getByRole("button", { name: "Make the key" }).click();
    const card = page.getByRole("status").filter({ hasText: "The key “My phone”" });
    await card.waitFor();
    const [url, token] = await card.locator("code").allTextContents();
    key = { url: url.trim(), token: token.trim() };
    await looksRight("away");
    await card.getByRole("button", { name: "I have it" }).click();
    await page.getByText("My phone", { exact: true }).waitFor();
    await comesTo(page.getByText(key.token), 0);
    await fact("Waits to be sent").getByText("Nothing", { exact: true }).waitFor();
    const seen = await fromAway(key, "GET", "/home/devices");
    assert.equal(seen.status(), 200, await seen.text());
    assert.match(await seen.text(), new RegExp(door.id));
  });

  await t.test("a right that is taken away at the cloud ends at home", async () => {
    await page.evaluate((id) => (location.hash = `#/device/${id}`), door.id);
    const tom = page.locator(".rights > li").filter({ hasText: "Tom Sand" });
    await comesTo(tom, 1);
    const ended = await fromAway(key, "DELETE", `/home/devices/${door.id}/bindings/${encodeURIComponent(door.shared)}`);
    assert.ok(ended.ok(), `${ended.status()} ${await ended.text()}`);
    await comesTo(tom, 0, "the page shows it without being loaded again");
  });

  await t.test("a key that is ended at the cloud is gone from the page", async () => {
    await page.evaluate(() => (location.hash = "#/cloud"));
    await page.getByText("My phone", { exact: true }).waitFor();
    const ended = await fromAway(key, "DELETE", "/home/session");
    assert.ok(ended.ok(), `${ended.status()} ${await ended.text()}`);
    await comesTo(page.getByText("My phone", { exact: true }), 0);
  });

  await t.test("a cloud that is gone is told, with what to do; one that is back is found again", async () => {
    await cloud.stop();
    await call(page, "PATCH", `/devices/${door.id}`, { name: "Big door" });
    await page.getByRole("button", { name: "Sync now" }).click();
    await page.getByText("The cloud does not answer.").waitFor();
    await page.getByText("At home, everything goes on as ever meanwhile.").waitFor();
    await fact("Waits to be sent").getByText(/1 change/).waitFor();
    await looksRight("gone");
    cloud = await startCloud(place.dir);
    await page.getByRole("button", { name: "Sync now" }).click();
    await page.getByText("Hub and cloud are in touch.").waitFor();
    await fact("Waits to be sent").getByText("Nothing", { exact: true }).waitFor();
  });

  await t.test("unlinking asks first, and leaves the home as it was", async () => {
    await page.getByRole("button", { name: "Unlink this hub" }).click();
    await looksRight("unlink");
    await page.getByRole("button", { name: "Unlink it" }).click();
    await page.getByText("No cloud is linked").waitFor();
    await looksRight("unlinked");
    await page.evaluate(() => (location.hash = "#/"));
    await page.getByRole("heading", { level: 3, name: "Big door" }).waitFor();
    assert.deepEqual(complaints, []);
  });
});
