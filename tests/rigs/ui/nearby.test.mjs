// Devices nearby, in a real browser against a real hub with its radio: a lamp is paired by its label, and a stock plug is given its
// Wi-Fi and a credential of its own.
//   HEARTHKEY_URL    the hub's page; olivia owns it
//   HEARTHKEY_LABEL  the text of the lamp's QR code; the lamp and a plug with Improv are in the air around the hub

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { comesTo, launch, shot, signIn, visit, visitor } from "./house.mjs";

const [, DEVICE] = process.env.HEARTHKEY_LABEL.split(":");
const complaints = [];
let browser, page;
before(async () => {
  browser = await launch();
  page = await visitor(browser, complaints, { width: 360 });
  await visit(page, "#/");
  await signIn(page, "olivia", "correct horse battery");
  await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
});
after(() => browser?.close());

async function wifi() {
  const another = page.getByText("Another Wi-Fi");
  if (await another.isVisible()) await another.click();
  await page.getByLabel("Name of the Wi-Fi").fill("home");
  await page.getByLabel("Passphrase", { exact: true }).fill("correct horse battery");
}

test("a lamp is paired by its label, and is one's own", async () => {
  await page.getByRole("link", { name: "Add a device" }).click();
  await page.getByRole("list").getByText("Lamp").first().waitFor();
  await page.getByLabel("Claim code").fill(process.env.HEARTHKEY_LABEL);
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("heading", { level: 2, name: "The Wi-Fi it gets" }).waitFor();
  await wifi();
  await page.getByLabel("Name (optional)").fill("Desk lamp");
  await page.getByRole("button", { name: "Add it" }).click();
  await page.locator(".note-good").getByText("It is yours now.").waitFor();
  await shot(page, "nearby-done");
  await page.getByRole("link", { name: "Open it" }).click();
  await page.getByRole("heading", { level: 1, name: "Desk lamp" }).waitFor();
  await page.getByRole("list", { name: "Trust and state" }).getByText("Ready").waitFor();
  assert.ok(page.url().endsWith(DEVICE));
});

test("the same label again finds nobody in the air, and can be cancelled", async () => {
  await visit(page, "#/add");
  await page.getByLabel("Claim code").fill(process.env.HEARTHKEY_LABEL);
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByText(/^None/).first().click();
  await page.getByRole("button", { name: "Add it" }).click();
  await page.locator(".pairing-steps [aria-current=step]").getByText("Looking for it").waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByText("Cancelled. Nothing has changed").waitFor();
});

test("a stock plug gets its Wi-Fi after a warning, and a credential of its own", async () => {
  await visit(page, "#/add");
  await page.getByRole("button", { name: "Set up Plug" }).click();
  await page.getByText("Improv itself is not encrypted.").waitFor();
  await wifi();
  await page.getByLabel("I know, and send it anyway").check();
  await page.getByRole("button", { name: "Send the Wi-Fi" }).click();
  await page.getByRole("link", { name: "http://192.0.2.9/" }).waitFor();
  await page.getByRole("link", { name: "Add as an MQTT device" }).click();
  await page.getByRole("heading", { level: 1, name: "Add an MQTT device" }).waitFor();
  assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "Plug");
  await page.getByRole("button", { name: "Make its credential" }).click();
  await page.getByText("Put it into the device now: it is not shown again.").waitFor();
  await page.getByText("For ESPHome").click();
  await page.getByText(/topic_prefix: things\/mqtt-/).waitFor();
  await shot(page, "nearby-stock");
  await page.getByLabel("I have it. It is not shown again.").check();
  await page.getByRole("button", { name: "Open the device" }).click();
  await page.getByRole("heading", { level: 1, name: "Plug" }).waitFor();
  await visit(page, "#/");
  await page.getByRole("link", { name: "Plug" }).waitFor();
  await comesTo(page.getByText(/topic_prefix/), 0, "what was shown once is gone");
  assert.deepEqual(complaints, []);
});
