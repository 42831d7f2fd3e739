// What the browser tests share: a browser, visitors with cookies of their own, what must never happen while they look around,
// and calls to the hub as whoever a visitor is signed in as.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { HEARTHKEY_LABEL: label = "", HEARTHKEY_SHOTS: shots } = process.env;
/** Where the hub is, and the code for its first owner: given from outside, or said by the file that starts the hub. */
const place = { url: process.env.HEARTHKEY_URL, setupCode: process.env.HEARTHKEY_SETUP_CODE };
export const hubIsAt = (url, setupCode) => Object.assign(place, { url, setupCode });
export const WAIT = 30_000;
export const PASSWORD = "hearth & home, 🔑 42";
export const DEVICE = label.split(":")[1] ?? "";

export async function launch() {
  if (shots) mkdirSync(shots, { recursive: true });
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}

/** Somebody's browser window; `complaints` gathers what must not happen there. */
export async function visitor(browser, complaints, { origin = place.url, width = 1280, ...more } = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width, height: width < 500 ? 740 : 860 }, locale: "en-GB", ...more });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT);
  page.on("pageerror", (error) => complaints.push(`script: ${error.message}`));
  page.on("console", (message) => message.type() === "error" && /content security policy/i.test(message.text()) && complaints.push(message.text()));
  page.on("request", (request) => {
    if (/^https?:/.test(request.url()) && new URL(request.url()).origin !== new URL(origin).origin) complaints.push(`foreign request: ${request.url()}`);
  });
  return page;
}

/** A call to the hub with the cookie of `page`; fails unless it is answered with 2xx. */
export async function call(page, method, path, body) {
  const answer = await page.request.fetch(`${place.url}/api/v1${path}`, { method, headers: { origin: place.url }, ...(body === undefined ? {} : { data: body }) });
  const text = await answer.text();
  assert.ok(answer.ok(), `${method} ${path}: ${answer.status()} ${text}`);
  return text && answer.headers()["content-type"]?.includes("json") ? JSON.parse(text) : text;
}

/** A file to the hub, as whoever `page` is signed in as. */
export async function sendFile(page, path, bytes) {
  const answer = await page.request.post(`${place.url}/api/v1${path}`, { headers: { origin: place.url, "content-type": "application/octet-stream" }, data: bytes });
  assert.ok(answer.ok(), `${path}: ${answer.status()} ${await answer.text()}`);
}

/** Makes mara the first owner, has her claim the door as “Garage”, and shows her devices. */
export async function settleIn(page) {
  assert.ok(place.url && place.setupCode, "HEARTHKEY_URL and HEARTHKEY_SETUP_CODE say what to test");
  await call(page, "POST", "/setup", { code: place.setupCode, username: "mara", password: PASSWORD, display_name: "Mara Lind" });
  if (label) await call(page, "POST", "/claims", { code: label, name: "Garage", room: "Driveway" });
  await visit(page, "#/");
  await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
}

/** Opens an address of the hub's page as if it had been typed, also where it is open already. */
export async function visit(page, hash) {
  await page.goto("about:blank");
  await page.goto(`${place.url}/${hash}`);
}

export async function signIn(page, username, password = PASSWORD) {
  await page.getByLabel("User name").fill(username);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** Waits until so many are there: what a page shows after an answer or a tap takes its time. */
export async function comesTo(locator, count, why = String(locator)) {
  const end = Date.now() + WAIT;
  let last = await locator.count();
  while (last !== count && Date.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    last = await locator.count();
  }
  assert.equal(last, count, why);
}

export async function shot(page, name) {
  if (shots) await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

/** Looks at what shows on a phone and on a desk: nothing is cut off. */
export async function bothWidths(page, name) {
  for (const width of [360, 1280]) {
    await page.setViewportSize({ width, height: 860 });
    await shot(page, `${name}-${width}`);
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)) <= 0, `${name}: ${width} px`);
  }
}
