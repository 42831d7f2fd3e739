// A person's first evening with a hub, in a real browser: set up, claim a garage door by its label, open it, read what
// happened, share the door with a guest and take it back, look at all of it on a phone, scan a label, change the password.
// The hub and a simulated garage door run already; this is told where by
//   HEARTHKEY_URL         https://127.0.0.1:<port>
//   HEARTHKEY_SETUP_CODE  the one-time code the hub printed
//   HEARTHKEY_LABEL       the text of the door's QR code, HK1:<device_id>:<code>
//   HEARTHKEY_SHOTS       a directory for screenshots (optional)
//   CHROMIUM              the browser's program (optional)
// Every wait is for something to show, never for time to pass, save for the guard against nervous double taps.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { comesTo } from "./house.mjs";

const { HEARTHKEY_URL: url, HEARTHKEY_SETUP_CODE: setupCode, HEARTHKEY_LABEL: label, HEARTHKEY_SHOTS: shots } = process.env;
assert.ok(url && setupCode && label, "HEARTHKEY_URL, HEARTHKEY_SETUP_CODE and HEARTHKEY_LABEL say what to test");
const [, deviceId, symbols] = /^HK1:([A-Za-z0-9_-]{1,64}):([0-9A-Za-z]{21})$/.exec(label) ?? [];
assert.ok(deviceId && symbols, "HEARTHKEY_LABEL is a QR text");

const DOOR = `#/device/${encodeURIComponent(deviceId)}`;
const PASSWORD = "hearth & home, 🔑 42";
const NEXT_PASSWORD = "embers & ash, 🔥 43";
const OWNER = "Mara Lind";
const GUEST = { username: "tom", name: "Tom Sand", password: "a guest of the house" };
const WAIT = 30_000;
const complaints = [];
let browser;
let page;
/** The browser of the guest that the door is shared with. */
let guest;

before(async () => {
  if (shots) mkdirSync(shots, { recursive: true });
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"],
  });
  page = await visitor();
});

after(() => browser?.close());

/** Somebody's browser, with cookies of its own. */
async function visitor() {
  const context = await browser.newContext({
    // The hub's certificate comes from its own CA, which this browser has never seen.
    ignoreHTTPSErrors: true,
    viewport: { width: 1280, height: 860 },
    locale: "en-GB",
  });
  const theirs = await context.newPage();
  theirs.setDefaultTimeout(WAIT);
  theirs.on("pageerror", (error) => complaints.push(`script: ${error.message}`));
  // A refused request is part of the story; a blocked script or style never is.
  theirs.on("console", (message) => message.type() === "error" && /content security policy/i.test(message.text()) && complaints.push(message.text()));
  theirs.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(url).origin) complaints.push(`foreign request: ${request.url()}`);
  });
  return theirs;
}

test("a person sets up the hub, claims a door by its label and opens it", async (t) => {
  await t.test("a wrong setup code is refused with what to do next", async () => {
    await page.goto(url);
    await page.getByLabel("Setup code").fill(`${setupCode}x`);
    await page.getByLabel("Your name").fill(OWNER);
    await page.getByLabel("User name").fill("mara");
    await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
    await shot("setup");
    await page.getByRole("button", { name: "Set up this hub" }).click();
    const alert = page.getByRole("alert").filter({ hasText: /\S/ });
    await alert.waitFor();
    await comesTo(alert.locator("p"), 2, "a refusal has a detail and a next step");
    await shot("setup-refused");
  });

  await t.test("the right code makes the first owner", async () => {
    await page.getByLabel("Setup code").fill(setupCode);
    await page.getByRole("button", { name: "Set up this hub" }).click();
    await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
    await shot("devices-first");
    assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]), [0, 0, ""], "no token where scripts can read it");
  });

  await t.test("a typing error shows before anything is sent", async () => {
    await page.getByRole("link", { name: "Claim a device" }).click();
    const field = page.getByLabel("Claim code");
    await page.getByRole("button", { name: "Scan the label" }).waitFor();
    const wrong = symbols.slice(0, -1) + (symbols.endsWith("7") ? "8" : "7");
    await field.pressSequentially(wrong.toLowerCase());
    await page.getByText("There is a typing error").waitFor();
    assert.equal(await field.getAttribute("aria-invalid"), "true");
    await shot("claim-mistyped");
  });

  await t.test("the typed code claims the door", async () => {
    const field = page.getByLabel("Claim code");
    await field.press("Backspace");
    await field.press(symbols.at(-1).toLowerCase());
    await page.getByText("complete and free of typing errors").waitFor();
    assert.equal(await field.inputValue(), symbols.toUpperCase().replace(/(.{3})(?=.)/g, "$1-"), "groups of three");
    await page.getByLabel("Name (optional)").fill("Garage");
    await page.getByLabel("Room (optional)").fill("Driveway");
    await page.getByRole("button", { name: "Claim", exact: true }).click();
    await page.getByRole("heading", { level: 1, name: "Garage" }).waitFor();
    await page.getByRole("list", { name: "Trust and state" }).getByText("Ready").waitFor();
    assert.ok(page.url().endsWith(DOOR));
  });

  await t.test("two taps open the door, and its position moves", async () => {
    const open = page.getByRole("button", { name: /Open$/ });
    const position = page.locator(".reading", { hasText: "Position" }).locator(".row-value");
    await position.filter({ hasText: /\d/ }).waitFor();
    const before = await position.textContent();
    await shot("door-closed");
    await open.click();
    await page.getByRole("button", { name: "Tap again: Open" }).waitFor();
    assert.equal(await position.textContent(), before, "one tap opens nothing");
    await new Promise((resolve) => setTimeout(resolve, 400));
    await open.click();
    await page.waitForFunction((was) => {
      const row = [...document.querySelectorAll(".reading")].find((each) => each.textContent?.includes("Position"));
      return row?.querySelector(".row-value")?.textContent !== was;
    }, before);
    await shot("door-moving");
    await page.locator(".progress.good", { hasText: "Done" }).waitFor();
    await shot("door-open");
  });

  await t.test("the activity tells by name who did what, and why something was refused", async () => {
    await page.getByRole("link", { name: "Activity" }).click();
    const log = page.locator(".log > li");
    for (const sentence of [`${OWNER} set up this hub`, `${OWNER} claimed Garage`, "Garage fetched its key", `${OWNER} told Garage to “Open”`, "Garage finished “Open”"])
      await log.filter({ hasText: sentence }).first().waitFor();
    const told = await page.locator(".log > li > div > p").allTextContents();
    assert.deepEqual(told.filter((text) => /user:|[0-9a-f]{32}|device:/.test(text)), [], "no id where there is a name");
    const claim = log.filter({ hasText: "claimed Garage" });
    assert.equal(await claim.getByText("device.claim").isVisible(), false, "the hub's own words are folded away");
    await claim.getByText("Details").click();
    assert.equal(await claim.getByText("device.claim").isVisible(), true);
    await shot("activity");
    const all = await log.count();
    await page.getByRole("button", { name: "Refused only" }).click();
    await log.filter({ hasText: "tried to set up this hub." }).waitFor();
    await comesTo(log.filter({ hasNotText: "Refused" }), 0);
    assert.ok((await log.count()) < all);
    await shot("activity-refused");
    await page.getByRole("button", { name: "Everything" }).click();
    await log.nth(all - 1).waitFor();
    await comesTo(log, all);

    // The same record in pages of three.
    await page.route("**/api/v1/audit?*", (route) => route.continue({ url: route.request().url().replace("limit=50", "limit=3") }));
    await page.getByRole("button", { name: "Refresh" }).click();
    await log.nth(3).waitFor({ state: "detached" });
    for (let least = 4; least <= all; least += 3) {
      await page.getByRole("button", { name: "Load older" }).click();
      await log.nth(least - 1).waitFor();
    }
    await comesTo(log, all, "each entry once");
    await page.unroute("**/api/v1/audit?*");
  });

  await t.test("the owner adds a person and lets them use the door for an hour", async () => {
    await page.getByRole("link", { name: "People" }).click();
    const adding = page.getByRole("region", { name: "Add a person" });
    await adding.getByLabel("User name").fill(GUEST.username);
    await adding.getByLabel("Name (optional)").fill(GUEST.name);
    await adding.getByLabel("Password", { exact: true }).fill(GUEST.password);
    await adding.getByText("Only uses what is shared").click();
    await adding.getByRole("button", { name: "Add", exact: true }).click();
    await page.locator(".people").getByText(GUEST.name).waitFor();

    await page.evaluate((to) => (location.hash = to), DOOR);
    const rights = page.getByRole("region", { name: "Who may use it" });
    await rights.getByText("You administer it").waitFor();
    await comesTo(rights.getByText("Leave this device"), 0, "the last who administers it stays");
    await rights.getByText("Share it with somebody").click();
    await rights.getByRole("button", { name: "Share" }).click();
    await rights.getByText("Type the user name").waitFor();
    await page.waitForFunction((name) => [...document.querySelectorAll("datalist option")].some((each) => each.value === name), GUEST.username);
    await rights.getByLabel("User name").fill("nobody");
    await rights.getByText("Uses it", { exact: true }).click();
    await rights.getByText("One hour").click();
    await shot("share");
    await rights.getByRole("button", { name: "Share" }).click();
    await rights.getByText("Nobody here signs in with this name.").waitFor();
    await rights.getByLabel("User name").fill(GUEST.username);
    await rights.getByRole("button", { name: "Share" }).click();
    const theirs = rights.getByRole("listitem").filter({ hasText: `${GUEST.name} uses it` });
    await theirs.getByText(/^until .*given by you$/).waitFor();
    await shot("shared");
  });

  await t.test("the guest sees the door, and is told what they may not do", async () => {
    guest = await visitor();
    await guest.goto(url);
    await guest.getByLabel("User name").fill(GUEST.username);
    await guest.getByLabel("Password", { exact: true }).fill(GUEST.password);
    await guest.getByRole("button", { name: "Sign in" }).click();
    await guest.getByRole("link", { name: "Garage" }).click();
    const open = guest.getByRole("button", { name: /Open$/ });
    await open.waitFor();
    assert.equal(await open.isDisabled(), true);
    const reason = await guest.locator(`[id="${await open.getAttribute("aria-describedby")}"]`).textContent();
    assert.equal(reason, "You may use this device, but not what is critical.");
    await guest.getByRole("region", { name: "Your right to it" }).getByText(/^until /).waitFor();
    await comesTo(guest.getByText("Share it with somebody"), 0);
    await shot("guest", guest);

    // A page that believes to know better is refused by the hub, which says why.
    const pretend = async (route) => {
      const answer = await route.fetch();
      const body = await answer.json();
      for (const device of body.devices ?? [body]) device.privilege = "manage";
      await route.fulfill({ response: answer, json: body });
    };
    const device = new RegExp(`/api/v1/devices(/${deviceId})?$`);
    await guest.route(device, pretend);
    await guest.reload();
    await open.click();
    await guest.getByRole("button", { name: "Tap again: Open" }).waitFor();
    await new Promise((resolve) => setTimeout(resolve, 400));
    await open.click();
    await guest.getByRole("button", { name: "Why?" }).click();
    await guest.getByText("You may use it, except what is critical. This needs the right to use it, also what is critical.").waitFor();
    await shot("guest-why", guest);
    await guest.unroute(device, pretend);
    await guest.reload();
    await guest.getByText("You may use this device, but not what is critical.").first().waitFor();
  });

  await t.test("the owner takes the right away, and the door leaves the guest's page by itself", async () => {
    const take = page.getByRole("button", { name: `Take away the right of ${GUEST.name}` });
    await take.click();
    await shot("take-away");
    await page.getByRole("button", { name: "Take it away" }).click();
    await take.waitFor({ state: "detached" });
    await guest.getByText("You do not see this device any more").waitFor();
    await shot("guest-gone", guest);
    await guest.getByRole("link", { name: "All devices" }).click();
    await guest.getByRole("heading", { name: "Nothing is shared with you yet" }).waitFor();
    await comesTo(guest.getByText("Garage"), 0);
    await shot("guest-after", guest);
  });

  await t.test("nothing is cut off at 360 pixels, and nothing lies under the bar at the end of a page, by day or by night", async () => {
    let scrolled = 0;
    await page.setViewportSize({ width: 360, height: 740 });
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      for (const [name, hash, heading] of [
        ["devices", "#/", "Devices"],
        ["device", DOOR, "Garage"],
        ["claim", "#/claim", "Claim a device"],
        ["add", "#/add", "Add a device"],
        ["add-mqtt", "#/add-mqtt", "Add an MQTT device"],
        ["activity", "#/activity", "Activity"],
        ["people", "#/people", "People"],
        ["settings", "#/settings", "Settings"],
        ["hub", "#/hub", "This hub"],
        ["apps", "#/apps", "Apps"],
        ["services", "#/services", "Services"],
        ["support", "#/support", "Support"],
      ]) {
        await page.evaluate((to) => (location.hash = to), hash);
        await page.getByRole("heading", { level: 1, name: heading }).waitFor();
        await page.waitForFunction(() => !document.querySelector("main .late"));
        const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(over <= 0, `${name} is ${over} px too wide`);
        await shot(`${name}-360-${scheme}`);
        const end = await page.evaluate(lookAtTheEnd);
        assert.deepEqual(end.covered, [], `the end of ${name} lies under the bar`);
        assert.equal(end.barAtBottom, true, `the bar of ${name} is at the bottom`);
        if (end.scrolled) scrolled += 1;
        if (shots) await page.screenshot({ path: join(shots, `${name}-360-${scheme}-end.png`) });
      }
    }
    assert.ok(scrolled >= 4, "most pages were long enough to tell");
  });

  await t.test("a label is scanned by camera or from a photo, and the camera goes off", async () => {
    await page.evaluate(() => (location.hash = "#/"));
    await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
    // What Chromium on a phone brings, and this one does not.
    await page.evaluate(() => {
      window.seen = [];
      window.BarcodeDetector = class {
        static getSupportedFormats = async () => ["qr_code"];
        detect = async () => window.seen.map((rawValue) => ({ rawValue }));
      };
      location.hash = "#/claim";
    });
    await page.getByRole("button", { name: "Scan the label" }).click();
    const picture = () => page.waitForFunction(() => {
      const video = document.querySelector("video");
      window.track = video?.srcObject?.getTracks()[0];
      return video && video.videoWidth > 0 && !video.paused && window.track?.readyState === "live";
    });
    const off = () => page.waitForFunction(() => window.track.readyState === "ended");
    await picture();
    await shot("scan-360");
    await page.evaluate(() => (window.seen = ["https://example.org"]));
    await page.getByText("not a label of a device").waitFor();
    await page.evaluate((text) => (window.seen = [text]), label);
    await page.locator("video").waitFor({ state: "detached" });
    assert.equal(await page.getByLabel("Claim code").inputValue(), symbols.toUpperCase().replace(/(.{3})(?=.)/g, "$1-"));
    await page.locator(".chip", { hasText: deviceId }).waitFor();
    await off();

    await page.evaluate(() => (window.seen = []));
    await page.getByRole("button", { name: "Scan the label" }).click();
    await picture();
    await page.getByRole("link", { name: "All devices" }).click();
    await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
    await off();

    await page.getByRole("link", { name: "Claim a device" }).click();
    const photo = { name: "label.png", mimeType: "image/png", buffer: Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64") };
    await page.getByLabel("Choose a photo").setInputFiles(photo);
    await page.getByText("No QR code was found").waitFor();
    await page.evaluate((text) => (window.seen = [text]), label);
    await page.getByLabel("Choose a photo").setInputFiles(photo);
    await page.getByText("complete and free of typing errors").waitFor();
    await page.evaluate(() => (location.hash = "#/settings"));
  });

  await t.test("the owner ends the guest's account, and the guest is signed out", async () => {
    await page.getByRole("link", { name: "People" }).click();
    await page.getByLabel(`Manage ${GUEST.name}`).click();
    await page.getByRole("button", { name: `End the account of ${GUEST.name}` }).click();
    await shot("end-account-360");
    await page.getByRole("button", { name: "End it" }).click();
    await page.getByText(`The account of ${GUEST.name} has ended.`).first().waitFor();
    await comesTo(page.locator(".people").getByText(GUEST.name), 0);
    await guest.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
    await guest.getByText("Your session has ended").waitFor();
  });

  await t.test("the password changes, for who knows the present one", async () => {
    await page.getByRole("link", { name: "Settings" }).click();
    await page.getByText("Change your password").click();
    await page.getByLabel("Present password").fill("not the password");
    await page.getByLabel("New password").fill(NEXT_PASSWORD);
    await page.getByRole("button", { name: "Change password" }).click();
    await page.getByText("This is not your present password.").waitFor();
    await page.getByLabel("Present password").fill(PASSWORD);
    await page.getByRole("button", { name: "Change password" }).click();
    await page.getByRole("main").getByText("Your password is changed.").waitFor();
    await shot("password-360");
  });

  await t.test("signing out and in again leads back", async () => {
    await page.getByRole("button", { name: "Sign out", exact: true }).click();
    await page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
    await page.getByLabel("User name").fill("mara");
    await page.getByLabel("Password", { exact: true }).fill(NEXT_PASSWORD);
    await shot("sign-in-360");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("button", { name: "Sign out", exact: true }).waitFor();
  });

  assert.deepEqual(complaints, []);
});

/** Runs in the page: opens every fold, goes to the very end, and tells what lies under the bar there. */
function lookAtTheEnd() {
  for (const fold of document.querySelectorAll("main details")) fold.open = true;
  window.scrollTo(0, document.documentElement.scrollHeight);
  const bar = document.querySelector(".nav").getBoundingClientRect();
  const ends = [...document.querySelectorAll("main *")].filter((each) => each.childElementCount === 0 || each.matches("button, a, input, section, details, p"));
  const covered = ends.filter((each) => each.getClientRects().length > 0 && each.getBoundingClientRect().bottom > bar.top);
  return { covered: covered.map((each) => `${each.localName}: ${each.textContent.slice(0, 40)}`), barAtBottom: Math.abs(bar.bottom - innerHeight) < 1, scrolled: scrollY > 0 };
}

async function shot(name, of = page) {
  if (shots) await of.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}
