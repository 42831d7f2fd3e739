// Adding a device nearby, in a real browser, with answers made up: a label is read from a real picture of its QR code by the
// page's own reader; each step shows as the hub tells it; what is not encrypted is said before it is sent; what is asked is
// answered, cancelled or tried again; a credential shows once.
//   HEARTHKEY_DIST   the directory with the built page
//   HEARTHKEY_SHOTS  a directory for screenshots (optional)

import assert from "node:assert/strict";
import { test } from "node:test";
import qrcode from "qrcode-generator";
import { comesTo, shot } from "./house.mjs";
import { done, event as tell, isFocused as focused, look as lookAt, sent } from "./looking.mjs";
import { answers, IMPROV, LABEL, NEARBY, pairing, RADIO } from "./stub.mjs";

const [, DEVICE, SYMBOLS] = LABEL.split(":");
const CODE = SYMBOLS.replace(/(.{3})(?=.)/g, "$1-");
// The page's own reader is what is looked at here, also in a browser that brings one.
const look = (hash, how) => lookAt(hash, { ...how, prepare: (page) => page.addInitScript(() => delete window.BarcodeDetector) });
const event = (page, what) => tell(page, "pairing", what);
const whole = (page) => page.getByText("complete and free of typing errors").waitFor();

/** A picture of a label as a phone takes it: turned, with a shadow across it and noise. PNG. */
async function photo(page, text, { turn = 0.2, size = 900 } = {}) {
  const code = qrcode(0, "M");
  code.addData(text);
  code.make();
  const dark = Array.from({ length: code.getModuleCount() }, (_, y) => Array.from({ length: code.getModuleCount() }, (_, x) => code.isDark(y, x)));
  const url = await page.evaluate(
    ({ dark, turn, size }) => {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = size;
      const brush = canvas.getContext("2d");
      brush.fillStyle = "#c9b79c";
      brush.fillRect(0, 0, size, size);
      brush.translate(size / 2, size / 2);
      brush.rotate(turn);
      const module = (size * 0.5) / dark.length;
      const from = -(dark.length * module) / 2;
      brush.fillStyle = "#f4f4ee";
      brush.fillRect(from - 4 * module, from - 4 * module, (dark.length + 8) * module, (dark.length + 8) * module);
      brush.fillStyle = "#222";
      dark.forEach((row, y) => row.forEach((set, x) => set && brush.fillRect(from + x * module, from + y * module, module + 0.5, module + 0.5)));
      brush.setTransform(1, 0, 0, 1, 0, 0);
      const shadow = brush.createLinearGradient(0, 0, size, size);
      shadow.addColorStop(0, "rgb(0 0 0 / 0%)");
      shadow.addColorStop(1, "rgb(0 0 0 / 45%)");
      brush.fillStyle = shadow;
      brush.fillRect(0, 0, size, size);
      const picture = brush.getImageData(0, 0, size, size);
      // The same noise each time.
      let seed = 7;
      for (let at = 0; at < picture.data.length; at += 4) {
        seed = (seed * 1103515245 + 12345) & 0x7fffffff;
        for (let part = 0; part < 3; part++) picture.data[at + part] += (seed % 31) - 15;
      }
      brush.putImageData(picture, 0, 0);
      return canvas.toDataURL("image/png");
    },
    { dark, turn, size },
  );
  return { name: "label.png", mimeType: "image/png", buffer: Buffer.from(url.split(",")[1], "base64") };
}

test("a photo of the label is read in the browser, by a piece that comes when it is needed", async () => {
  const { page, asked } = await look("#/add");
  const pieces = [];
  page.on("request", (request) => pieces.push(new URL(request.url()).pathname));
  const choose = page.getByLabel("Choose a photo");
  await choose.waitFor({ state: "attached" });
  await choose.setInputFiles({ name: "x.png", mimeType: "image/png", buffer: Buffer.from("no picture") });
  await page.getByText("could not be read as a photo").waitFor();
  assert.equal(pieces.some((each) => each.startsWith("/qr-")), false, "nothing is loaded before there is a picture");
  await choose.setInputFiles(await photo(page, "https://example.org/what-is-this"));
  await page.getByText("not a label of a device").waitFor();
  assert.equal(pieces.filter((each) => each.startsWith("/qr-")).length, 1);
  await choose.setInputFiles(await photo(page, LABEL));
  await whole(page);
  assert.equal(await page.getByLabel("Claim code").inputValue(), CODE);
  await page.locator(".chip", { hasText: DEVICE }).waitFor();
  for (const how of [{ turn: 2.4, size: 2600 }, { turn: -0.6, size: 420 }]) {
    await page.getByLabel("Claim code").fill("");
    await choose.setInputFiles(await photo(page, LABEL, how));
    await whole(page);
  }
  assert.equal(asked.filter((each) => JSON.stringify(each.body ?? "").includes(SYMBOLS.slice(0, 6))).length, 0, "nothing of it has left the browser");
  await done(page);
});

test("the camera reads a label in a browser that has no reader, and goes off", async () => {
  const { page } = await look("#/claim");
  const { buffer } = await photo(page, LABEL, { size: 640 });
  await page.evaluate(async (data) => {
    // The page's policy lets a picture be data, and a request not.
    const picture = new Image();
    picture.src = data;
    await picture.decode();
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 640;
    const brush = canvas.getContext("2d");
    setInterval(() => brush.drawImage(picture, 0, 0), 50);
    navigator.mediaDevices.getUserMedia = async () => {
      const stream = canvas.captureStream(20);
      window.track = stream.getTracks()[0];
      return stream;
    };
  }, `data:image/png;base64,${buffer.toString("base64")}`);
  await page.getByRole("button", { name: "Scan the label" }).click();
  await whole(page);
  await page.locator("video").waitFor({ state: "detached" });
  await page.waitForFunction(() => window.track.readyState === "ended");
  await done(page);
});

test("a reader that cannot be loaded leaves typing, and says so", async () => {
  const { page } = await look("#/add");
  await page.route(/qr-[A-Z0-9]+\.js/, (route) => route.fulfill({ status: 404, body: "" }));
  await page.getByLabel("Choose a photo").setInputFiles(await photo(page, LABEL));
  await page.getByText("that reads QR codes could not be loaded").waitFor();
  await page.getByLabel("Claim code").fill(CODE);
  await whole(page);
  await done(page);
});

test("a device is added by its code, and each step shows as the hub tells it", async () => {
  let now = pairing("queued", { position: 2 });
  const { page, asked } = await look("#/add", { some: { "GET /pairings/:id": () => now } });
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByText("Type the code from the label.").waitFor();
  assert.equal(await focused(page.getByLabel("Claim code")), true, "what is missing is where one goes on");
  await page.getByLabel("Claim code").fill(LABEL);
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("heading", { level: 2, name: "The Wi-Fi it gets" }).waitFor();
  assert.equal(await focused(page.getByRole("heading", { level: 2, name: "The Wi-Fi it gets" })), true);
  assert.equal(await page.getByLabel(/This hub's Wi-Fi, “Lindenhof”/).isChecked(), true);
  await shot(page, "add-wifi-1280-light");
  await page.getByLabel("Name (optional)").fill("Garage");
  await page.getByRole("button", { name: "Add it" }).click();
  await page.getByText("Number 2 in the queue").first().waitFor();
  assert.deepEqual(sent(asked, "POST", "/pairings")[0].body, { code: CODE, device_id: DEVICE, name: "Garage", wifi: { use: "system" } });
  assert.equal(new URL(page.url()).hash, "#/add/p-1", "an address without a code, to come back to");
  const current = page.locator(".pairing-steps [aria-current=step]");
  const spoken = page.locator(".visually-hidden[role=status]");
  let updated = now.updated;
  for (const [step, text, some] of [
    ["searching", "Looking for it"],
    ["connecting", "Connecting"],
    ["proving", "Proving the code on both sides"],
    ["sending", "Sending what it needs, 40\u00a0%", { sent: 612, total: 1530 }],
    ["joining", "Joining the network"],
    ["waiting", "Waiting for it to sign in"],
  ]) {
    now = pairing(step, { ...some, updated: ++updated });
    await event(page, now);
    await current.getByText(text).waitFor();
    await spoken.getByText(text.split(",")[0]).waitFor({ state: "attached" });
    await comesTo(current, 1);
  }
  await event(page, pairing("searching", { updated: updated - 3 }));
  await comesTo(page.locator(".pairing-steps .past"), 5, "what comes late changes nothing");
  await event(page, pairing("done", { trust: "attested", updated: ++updated }));
  await page.locator(".note-good").getByText("It is yours now.").waitFor();
  await comesTo(page.getByRole("button", { name: "Cancel" }), 0);
  assert.equal(await page.getByRole("link", { name: "Open it" }).getAttribute("href"), `#/device/${DEVICE}`);
  await page.getByRole("link", { name: "Add another" }).click();
  assert.equal(await page.getByLabel("Claim code").inputValue(), "", "what is done with is forgotten");
  await done(page);
});

test("the Wi-Fi that was typed is looked at before it is sent", async () => {
  const wifi = { ssid: "Lindenhof", system: true, allowed: false };
  const { page, asked } = await look("#/add", { some: { "GET /radio": { ...RADIO, wifi } } });
  await page.getByLabel("Claim code").fill(CODE);
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("link", { name: "Allow that in the settings" }).waitFor();
  await comesTo(page.getByLabel(/This hub's Wi-Fi/), 0, "what owners do not allow is not offered");
  await page.getByRole("button", { name: "Add it" }).click();
  await page.getByText("Type the name of the Wi-Fi.").waitFor();
  await page.getByLabel("Name of the Wi-Fi").fill("Café 5");
  await page.getByLabel("Passphrase", { exact: true }).fill("short");
  await page.getByRole("button", { name: "Add it" }).click();
  await page.getByText("at least 8 characters").waitFor();
  assert.equal(await focused(page.getByLabel("Passphrase", { exact: true })), true);
  assert.equal(sent(asked, "POST", "/pairings").length, 0);
  await page.getByLabel("Passphrase", { exact: true }).fill("long enough");
  await page.getByRole("button", { name: "Add it" }).click();
  await page.waitForURL(/#\/add\/p-1$/);
  assert.deepEqual(sent(asked, "POST", "/pairings")[0].body, { code: CODE, wifi: { use: "given", ssid: "Café 5", passphrase: "long enough" } });
  await done(page);
});

test("a failure says what to do, and a second try needs no second typing", async () => {
  let tries = 0;
  const { page, asked } = await look("#/add", { some: { "POST /pairings": () => pairing("searching", { id: `p-${++tries}` }), "GET /pairings/:id": (_, url) => pairing("joining", { id: url.pathname.split("/").at(-1) }) } });
  await page.getByLabel("Claim code").fill(LABEL);
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByText("Another Wi-Fi").click();
  await page.getByLabel("Name of the Wi-Fi").fill("Lindenhof");
  await page.getByLabel("Passphrase", { exact: true }).fill("not the right one");
  await page.getByRole("button", { name: "Add it" }).click();
  await page.locator(".pairing-steps .now", { hasText: "Joining the network" }).waitFor();
  await event(page, pairing("failed", { updated: pairing("x").updated + 1, problem: { code: "wifi_refused", detail: "the Wi-Fi refused the passphrase", next: "Type the passphrase again." } }));
  await page.getByRole("alert").getByText("the Wi-Fi refused the passphrase").waitFor();
  await page.locator(".pairing-steps .failed", { hasText: "Joining the network" }).waitFor();
  await page.getByRole("button", { name: "Try again" }).click();
  await page.waitForURL(/#\/add\/p-2$/);
  const [first, second] = sent(asked, "POST", "/pairings");
  assert.deepEqual(second.body, first.body);
  await event(page, pairing("failed", { id: "p-2", updated: pairing("x").updated + 1, problem: null }));
  await page.getByRole("link", { name: "Change something" }).click();
  assert.equal(await page.getByLabel("Claim code").inputValue(), CODE);
  // Elsewhere nothing of it is kept.
  await page.evaluate(() => (location.hash = "#/settings"));
  await page.getByRole("heading", { level: 1, name: "Settings" }).waitFor();
  await page.evaluate(() => (location.hash = "#/add"));
  await page.getByLabel("Claim code").waitFor();
  assert.equal(await page.getByLabel("Claim code").inputValue(), "");
  await page.evaluate(() => (location.hash = "#/add/p-2"));
  assert.equal(await page.getByRole("link", { name: "Try again" }).getAttribute("href"), "#/add", "what was typed is gone: it begins anew");
  await done(page);
});

test("it is cancelled at any step", async () => {
  for (const step of ["queued", "searching", "connecting", "proving", "sending", "joining", "waiting"]) {
    const { page, asked } = await look("#/add/p-1", { some: { "GET /pairings/:id": pairing(step), "DELETE /pairings/:id": pairing("cancelled", { updated: pairing("x").updated + 1 }) } });
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByText("Cancelled. Nothing has changed").waitFor();
    await comesTo(page.getByRole("button", { name: "Cancel" }), 0);
    assert.equal(sent(asked, "DELETE", "/pairings/p-1").length, 1);
    await done(page);
  }
});

test("a provisional device is explained, and waits for an answer", async () => {
  const ask = () => look("#/add/p-1", { some: { "GET /pairings/:id": pairing("confirming", { trust: "provisional" }) } });
  {
    const { page, asked } = await ask();
    const group = page.getByRole("group", { name: "Is this the device in your hand?" });
    await group.getByText("it takes no critical command").waitFor();
    assert.equal(await focused(group), true);
    await group.getByRole("button", { name: "Add it", exact: true }).click();
    await page.locator(".pairing-steps .now", { hasText: "Sending" }).waitFor();
    assert.deepEqual(sent(asked, "POST", "/pairings/p-1/confirm")[0].body, {});
    await done(page);
  }
  {
    const { page, asked } = await ask();
    await page.getByText("Give it another Wi-Fi, or none").click();
    await page.getByLabel(/^None/).check();
    await page.getByRole("button", { name: "Add it", exact: true }).click();
    await page.locator(".pairing-steps .now", { hasText: "Sending" }).waitFor();
    assert.deepEqual(sent(asked, "POST", "/pairings/p-1/confirm")[0].body, { wifi: { use: "none" } });
    await done(page);
  }
  const { page, asked } = await ask();
  await page.getByRole("button", { name: "Do not add it" }).click();
  await page.getByText("Cancelled. Nothing has changed").waitFor();
  assert.equal(sent(asked, "DELETE", "/pairings/p-1").length, 1);
  await done(page);
});

test("a thing with Improv gets the Wi-Fi only from who knows that others can read it", async () => {
  let now = pairing("connecting", IMPROV);
  const { page, asked } = await look("#/add", { some: { "GET /pairings/:id": () => now } });
  await page.getByRole("button", { name: "Set up Living room sensor" }).click();
  await page.getByText("Improv itself is not encrypted.").waitFor();
  await page.getByText("Anybody nearby with a radio can read the Wi-Fi passphrase while it is sent.").waitFor();
  await comesTo(page.getByLabel(/^None/), 0, "Improv is for the Wi-Fi");
  for (const width of [1280, 360])
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize({ width, height: 800 });
      await page.emulateMedia({ colorScheme });
      await shot(page, `add-improv-${width}-${colorScheme}`);
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)) <= 0, `${width} px`);
    }
  await page.getByRole("button", { name: "Send the Wi-Fi" }).click();
  await page.getByText("Tick this to go on").waitFor();
  assert.equal(sent(asked, "POST", "/pairings").length, 0);
  await page.getByLabel("I know, and send it anyway").check();
  await page.getByRole("button", { name: "Send the Wi-Fi" }).click();
  await page.getByText("What is sent to it is not encrypted.").waitFor();
  assert.deepEqual(sent(asked, "POST", "/pairings")[0].body, { nearby: "n2", wifi: { use: "system" } });
  const later = (step, some) => event(page, (now = pairing(step, { ...IMPROV, ...some, updated: now.updated + 1 })));
  await later("sending");
  await page.locator(".pairing-steps .now", { hasText: "Sending the Wi-Fi, unencrypted" }).waitFor();
  await later("done", { result_url: "http://192.0.2.44/settings" });
  const link = page.getByRole("link", { name: "http://192.0.2.44/settings" });
  assert.deepEqual([await link.getAttribute("rel"), await link.getAttribute("target")], ["noreferrer noopener", "_blank"]);
  await page.getByRole("link", { name: "Add as an MQTT device" }).click();
  await page.getByRole("heading", { level: 1, name: "Add an MQTT device" }).waitFor();
  assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "Living room sensor");
  await done(page);
});

test("an address that is none for a browser is told, and is no link", async () => {
  const { page } = await look("#/add/p-1", { some: { "GET /pairings/:id": pairing("done", { ...IMPROV, result_url: "javascript:alert(1)" }) } });
  await page.getByText("javascript:alert(1)").waitFor();
  await comesTo(page.locator("a[href^=javascript]"), 0);
  await done(page);
});

test("what is nearby is looked for again and again, and the radio's state is told", async () => {
  let radio = { ...RADIO, state: "off", message: "The hub's Bluetooth is switched off.", next: "Switch it on where the hub runs." };
  let things = [];
  const { page, asked } = await look("#/add", { some: { "GET /radio": () => radio, "GET /nearby": () => ({ things }) } });
  await page.getByText("Switch it on where the hub runs.").waitFor();
  await page.getByLabel("Claim code").fill(CODE);
  await page.getByRole("button", { name: "Continue" }).click();
  assert.equal(await focused(page.locator("#radio-note")), true, "what stands in the way is where one is led");
  assert.equal(sent(asked, "POST", "/radio/scan").length, 0, "what is off is not asked to look");
  radio = RADIO;
  await page.getByText("Looking… Switch the device on").waitFor();
  await comesTo(page.locator("#radio-note .note"), 0);
  things = NEARBY.slice(0, 1);
  await page.getByText("One thing found so far.").waitFor();
  assert.ok(sent(asked, "POST", "/radio/scan").length >= 1);
  things = NEARBY;
  await page.getByText("4 things found so far.").waitFor();
  assert.deepEqual(await page.locator(".nearby strong").allTextContents(), ["Hearthkey 4F2A", "Living room sensor", "Without a name", "Thermostat in the hall"], "the nearest first");
  await page.getByText("Strong signal. It is ready to be added").waitFor();
  await page.getByRole("button", { name: "Type the code of Hearthkey 4F2A" }).click();
  assert.equal(await focused(page.getByLabel("Claim code")), true);
  await done(page);
});

test("a stock MQTT device gets a credential that shows once", async () => {
  const { page, asked } = await look("#/add-mqtt");
  await page.getByText("No maker vouches for it").waitFor();
  await page.getByRole("button", { name: "Make its credential" }).click();
  await page.getByText("Give it a name.").waitFor();
  await page.getByLabel("Name", { exact: true }).fill("Bulb");
  await page.getByRole("button", { name: "Make its credential" }).click();
  const card = page.getByRole("group", { name: "The credential of Bulb" });
  await card.waitFor();
  assert.deepEqual(sent(asked, "POST", "/devices")[0].body, { name: "Bulb" });
  for (const fold of ["For ESPHome", "For Tasmota", "The hub's CA certificate"]) await card.getByText(fold).click();
  for (const width of [1280, 360])
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize({ width, height: 800 });
      await page.emulateMedia({ colorScheme });
      await shot(page, `stock-mqtt-made-${width}-${colorScheme}`);
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)) <= 0, `${width} px`);
    }
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  for (const [what, start] of [["the password", "hks1."], ["the ESPHome settings", "mqtt:\n"], ["the Tasmota settings", "Backlog "], ["the CA certificate", "-----BEGIN"]]) {
    await card.getByRole("button", { name: `Copy ${what}` }).click();
    await page.waitForFunction(async (begin) => (await navigator.clipboard.readText()).startsWith(begin), start);
  }
  assert.equal(await card.getByRole("button", { name: "Open the device" }).isDisabled(), true, "first it is kept");
  await card.getByLabel("I have it.").check();
  await card.getByRole("button", { name: "Open the device" }).click();
  await page.getByRole("heading", { level: 1, name: "Bulb" }).waitFor();
  await page.goBack();
  await page.getByRole("button", { name: "Make its credential" }).waitFor();
  await comesTo(page.getByText("hks1."), 0);
  await done(page);
});

test("an owner lets devices have the hub's Wi-Fi, and nobody else is asked", async () => {
  const { page, asked } = await look("#/hub");
  const share = page.getByRole("switch", { name: "Devices may get this hub's Wi-Fi" });
  assert.equal(await share.getAttribute("aria-checked"), "false");
  await share.click();
  await page.locator("[role=switch][aria-checked=true]").waitFor();
  assert.deepEqual(sent(asked, "PATCH", "/hub/settings")[0].body, { share_wifi: true });
  await done(page);
  const other = await look("#/hub", { me: { id: "9", username: "ida", display_name: null, role: "member" } });
  await other.page.getByText("New people join by an invitation").waitFor();
  await comesTo(other.page.getByRole("switch"), 0);
  await done(other.page);
});

test("a guest is shown no way to add a device, and an address leads nowhere else", async () => {
  for (const hash of ["#/add", "#/add/p-1", "#/add-mqtt"]) {
    const { page, asked } = await look(hash, { me: { id: "9", username: "tom", display_name: null, role: "guest" } });
    await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
    await page.getByRole("heading", { level: 3, name: "Garage" }).waitFor();
    await comesTo(page.getByRole("link", { name: /Add a device|Claim a device/ }), 0);
    assert.equal(asked.filter((each) => /radio|nearby|pairings/.test(each.path)).length, 0);
    await done(page);
  }
});
