// A person's first evening with a hub, in a real browser: set up, claim a garage door by its label, open it, look at it on
// a phone. The hub and a simulated garage door run already; this is told where by
//   HEARTHKEY_URL         https://127.0.0.1:<port>
//   HEARTHKEY_SETUP_CODE  the one-time code the hub printed
//   HEARTHKEY_LABEL       the text of the door's QR code, HK1:<device_id>:<code>
//   HEARTHKEY_SHOTS       a directory for screenshots (optional)
//   CHROMIUM              the browser's program (optional)
// Every wait is for something to show, never for time to pass, save for the guard against nervous double taps.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const { HEARTHKEY_URL: url, HEARTHKEY_SETUP_CODE: setupCode, HEARTHKEY_LABEL: label, HEARTHKEY_SHOTS: shots } = process.env;
assert.ok(url && setupCode && label, "HEARTHKEY_URL, HEARTHKEY_SETUP_CODE and HEARTHKEY_LABEL say what to test");
const [, deviceId, symbols] = /^HK1:([A-Za-z0-9_-]{1,64}):([0-9A-Za-z]{21})$/.exec(label) ?? [];
assert.ok(deviceId && symbols, "HEARTHKEY_LABEL is a QR text");

const PASSWORD = "hearth & home, 🔑 42";
const WAIT = 15_000;
const profile = mkdtempSync(join(tmpdir(), "ui-rig-"));
const complaints = [];
let context;
let page;

before(async () => {
  if (shots) mkdirSync(shots, { recursive: true });
  context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    // The hub's certificate comes from its own CA, which this browser has never seen.
    ignoreHTTPSErrors: true,
    viewport: { width: 1280, height: 860 },
    locale: "en-GB",
  });
  page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(WAIT);
  page.on("pageerror", (error) => complaints.push(`script: ${error.message}`));
  // A refused request is part of the story; a blocked script or style never is.
  page.on("console", (message) => message.type() === "error" && /content security policy/i.test(message.text()) && complaints.push(message.text()));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(url).origin) complaints.push(`foreign request: ${request.url()}`);
  });
});

after(async () => {
  await context?.close();
  rmSync(profile, { recursive: true, force: true });
});

test("a person sets up the hub, claims a door by its label and opens it", async (t) => {
  await t.test("a wrong setup code is refused with what to do next", async () => {
    await page.goto(url);
    await page.getByLabel("Setup code").fill(`${setupCode}x`);
    await page.getByLabel("User name").fill("mara");
    await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
    await shot("setup");
    await page.getByRole("button", { name: "Set up this hub" }).click();
    const alert = page.getByRole("alert").filter({ hasText: /\S/ });
    await alert.waitFor();
    assert.equal(await alert.locator("p").count(), 2, "a refusal has a detail and a next step");
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
    assert.ok(page.url().endsWith(`#/device/${encodeURIComponent(deviceId)}`));
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

  await t.test("nothing is cut off at 360 pixels, by day or by night", async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      for (const [name, hash, heading] of [
        ["devices", "#/", "Devices"],
        ["device", `#/device/${encodeURIComponent(deviceId)}`, "Garage"],
        ["claim", "#/claim", "Claim a device"],
        ["activity", "#/activity", "Activity"],
        ["people", "#/people", "People"],
        ["settings", "#/settings", "Settings"],
      ]) {
        await page.evaluate((to) => (location.hash = to), hash);
        await page.getByRole("heading", { level: 1, name: heading }).waitFor();
        await page.locator("main .late").waitFor({ state: "detached" });
        const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(over <= 0, `${name} is ${over} px too wide`);
        await shot(`${name}-360-${scheme}`);
      }
    }
  });

  await t.test("signing out and in again leads back", async () => {
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
    await page.getByLabel("User name").fill("mara");
    await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
    await shot("sign-in-360");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("button", { name: "Sign out" }).waitFor();
  });

  assert.deepEqual(complaints, []);
});

async function shot(name) {
  if (shots) await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}
