// Every page about people and access, in a real browser, with answers made up: nothing is cut off on a phone or a desk, by day
// or by night; nothing breaks the page's own security policy; each field and button has a name; and what must hold whatever
// the hub answers: codes leave the address, secrets show once, consent begins with reading.
//   HEARTHKEY_DIST   the directory with the built page
//   HEARTHKEY_SHOTS  a directory for screenshots (optional)

import assert from "node:assert/strict";
import { test } from "node:test";
import { comesTo, shot } from "./house.mjs";
import { done, event, look, sent } from "./looking.mjs";
import { ADA, answers, DOOR, FAILING, IDA, IMPROV, LINKED, MARA, ORIGIN, pairing, RADIO, REDUCED, SUPPORT } from "./stub.mjs";
import { BACKUPS, BEHIND, DOWNLOADING, FAILED_BACKUP, FIRMWARE, HISTORY, NO_BACKUPS, NOT_REHEARSED, OFFERED, REHEARSED, ROLLED_BACK, UPDATED, waits } from "./upkeep.mjs";

const trusted = (trust) => ({ "GET /devices": { devices: [{ ...DOOR, trust }] }, "GET /devices/:id": { ...DOOR, trust } });

const PAGES = {
  join: { hash: "#/join/0123-4567", me: null },
  "join-share": { hash: "#/join/0123-4567", some: { "POST /invitations/look": { hub: "Home", by_name: "Ida", role: null, display_name: "", grants: [{ device_name: "Garage", privilege: "operate" }], expires: 1_800_000_000_000 } } },
  "join-no-code": { hash: "#/join", me: null, some: { "GET /hub": { ...answers()["GET /hub"], open_registration: true } } },
  reset: { hash: "#/reset", me: null },
  "sign-in": { hash: "#/", me: null },
  consent: { hash: "#/consent?client_id=c1&scope=operate" },
  settings: { hash: "#/settings" },
  hub: { hash: "#/hub" },
  apps: { hash: "#/apps" },
  services: { hash: "#/services" },
  support: { hash: "#/support", some: { "GET /support": SUPPORT } },
  people: { hash: "#/people" },
  device: { hash: `#/device/${DOOR.id}` },
  "device-provisional": { hash: `#/device/${DOOR.id}`, some: trusted("provisional") },
  "device-unattested": { hash: `#/device/${DOOR.id}`, some: trusted("unattested") },
  devices: { hash: "#/" },
  claim: { hash: "#/claim" },
  add: { hash: "#/add", some: { "GET /pairings": { pairings: [pairing("waiting", { id: "p-0", name: "Porch" })] } } },
  "add-no-radio": { hash: "#/add", some: { "GET /radio": { ...RADIO, state: "absent" }, "GET /nearby": { things: [] } } },
  "add-progress": { hash: "#/add/p-1", some: { "GET /pairings/:id": pairing("sending", { sent: 612, total: 1530 }) } },
  "add-queued": { hash: "#/add/p-1", some: { "GET /pairings/:id": pairing("queued", { position: 2 }) } },
  "add-confirm": { hash: "#/add/p-1", some: { "GET /pairings/:id": pairing("confirming", { trust: "provisional" }) } },
  "add-problem": { hash: "#/add/p-1", some: { "GET /pairings/:id": pairing("failed", { problem: { code: "wrong_code", detail: "the device did not accept the code", next: "Compare the code with the label, and try again." } }) } },
  "add-cancelled": { hash: "#/add/p-1", some: { "GET /pairings/:id": pairing("cancelled") } },
  "add-done": { hash: "#/add/p-1", some: { "GET /pairings/:id": pairing("done", { trust: "attested" }) } },
  "add-improv-done": { hash: "#/add/p-1", some: { "GET /pairings/:id": pairing("done", { ...IMPROV, result_url: "http://192.0.2.44/a-long-way/to-the-settings-of-the-sensor" }) } },
  "add-gone": { hash: "#/add/p-9", some: { "GET /pairings/:id": [404] } },
  "stock-mqtt": { hash: "#/add-mqtt" },
  quarantine: { hash: "#/device/lock-0002" },
  activity: { hash: "#/activity" },
  cloud: { hash: "#/cloud" },
  "cloud-linked": { hash: "#/cloud", some: { "GET /cloud": LINKED, "GET /recovery": { made_at: 1_780_000_000_000, bundle: { at: 1_780_900_000_000, bytes: 41_200 } } } },
  "cloud-failing": { hash: "#/cloud", some: { "GET /cloud": FAILING } },
  "cloud-reduced": { hash: "#/cloud", me: IDA, some: { "GET /cloud": REDUCED } },
  "cloud-none-member": { hash: "#/cloud", me: IDA },
  "cloud-replaced": { hash: "#/cloud", some: { "GET /cloud": { ...LINKED, retired: true } } },
  "cloud-silent": { hash: "#/", some: { "GET /cloud": FAILING } },
  "sign-in-replaced": { hash: "#/", me: null, some: { "GET /hub": { ...answers()["GET /hub"], retired: true } } },
  firmware: { hash: "#/firmware", some: { "GET /firmware": FIRMWARE, "GET /devices/:id/firmware": waits("ask") } },
  "firmware-importing": { hash: "#/firmware", some: { "GET /firmware": { ...FIRMWARE, models: [], importing: { brand: "acme", model: "gate-2", rel: 6, version: "1.6.0", received: 400_000, size: 1_240_006 } } } },
  "device-firmware": { hash: `#/device/${DOOR.id}`, some: { "GET /devices/:id/firmware": waits("ask", { history: HISTORY, own_policy: true }) } },
  "device-behind": { hash: `#/device/${DOOR.id}`, some: { "GET /devices/:id/firmware": BEHIND } },
  backups: { hash: "#/backups", some: { "GET /backups": BACKUPS } },
  "backups-none": { hash: "#/backups", some: { "GET /backups": NO_BACKUPS } },
  "backups-rehearsed": { hash: "#/backups", some: { "GET /backups": REHEARSED } },
  "backups-not-rehearsed": { hash: "#/backups", some: { "GET /backups": NOT_REHEARSED } },
  "backups-mark": { hash: "#/", some: { "GET /backups": FAILED_BACKUP } },
  "backups-failed": { hash: "#/backups", some: { "GET /backups": FAILED_BACKUP } },
  update: { hash: "#/update", some: { "GET /update": { ...UPDATED, offered: OFFERED } } },
  "update-downloading": { hash: "#/update", some: { "GET /update": DOWNLOADING } },
  "update-rolled-back": { hash: "#/update", some: { "GET /update": ROLLED_BACK } },
  "update-none": { hash: "#/update", some: { "GET /update": [409, "conflict", "this hub does not update itself", "…"] } },
  "time-in-doubt": { hash: "#/", some: { "POST /hub/clock": { now: 1, grade: "none", time_zone: "Europe/Berlin", contradicted: true } } },
};

for (const [name, { hash, ...how }] of Object.entries(PAGES))
  test(`${name}: nothing is cut off, and everything has a name`, async () => {
    for (const width of [360, 1280])
      for (const colorScheme of ["light", "dark"]) {
        const { page } = await look(hash, { ...how, width, colorScheme });
        await page.waitForFunction(() => !document.querySelector("main .late"));
        await page.evaluate(() => document.querySelectorAll("main details").forEach((fold) => (fold.open = true)));
        await page.waitForFunction(() => !document.querySelector("main .late"));
        await shot(page, `${name}-${width}-${colorScheme}`);
        const found = await page.evaluate(() => {
          const shows = (each) => each.getClientRects().length > 0;
          const called = (each) => each.labels?.length > 0 || each.getAttribute("aria-label") || each.textContent.trim();
          return {
            over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
            nameless: [...document.querySelectorAll("button, input, select, textarea, a, img")].filter((each) => shows(each) && !(each.localName === "img" ? each.alt : called(each))).map((each) => each.outerHTML.slice(0, 120)),
            twice: [...document.querySelectorAll("[id]")].map((each) => each.id).filter((id, at, all) => all.indexOf(id) !== at),
            headings: document.querySelectorAll("h1").length,
          };
        });
        assert.deepEqual(found, { over: Math.min(0, found.over), nameless: [], twice: [], headings: 1 }, `${name} at ${width} px, ${colorScheme}`);
        await done(page);
      }
  });

test("an invitation's code leaves the address at once, and makes an account with a password that is not easily guessed", async () => {
  const { page, asked } = await look("#/join/0123-4567", { me: null, some: { "POST /registrations": { user: MARA } } });
  await page.getByRole("heading", { level: 1, name: "Welcome, Tom" }).waitFor();
  assert.equal(new URL(page.url()).hash, "#/join");
  assert.deepEqual(sent(asked, "POST", "/invitations/look")[0].body, { code: "0123-4567" });
  await page.getByLabel("User name").fill("tom");
  await page.getByLabel("Password", { exact: true }).fill("sunshine1");
  await page.getByText("It would be guessed soon.").waitFor();
  await page.getByRole("button", { name: "Make my account" }).click();
  assert.equal(sent(asked, "POST", "/registrations").length, 0, "a password the hub would refuse is not sent");
  await page.getByLabel("Password", { exact: true }).fill("a guest of the house");
  await page.getByText("It is very good.").waitFor();
  await page.getByRole("button", { name: "Make my account" }).click();
  await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
  assert.deepEqual(sent(asked, "POST", "/registrations")[0].body, { code: "0123-4567", username: "tom", password: "a guest of the house", display_name: "Tom" });
  await done(page);
});

test("the second factor is asked for only when it is missing, and goes with name and password", async () => {
  const { page, asked } = await look("#/", { me: null, some: { "POST /sessions": (body) => (body.second_factor ? { user: MARA } : [401, "second_factor_required", "The second factor is missing.", "Type it."]) } });
  await page.getByLabel("User name").fill("mara");
  await page.getByLabel("Password", { exact: true }).fill("x");
  await page.getByRole("button", { name: "Sign in" }).click();
  const code = page.getByLabel("Second factor");
  await code.waitFor();
  assert.equal(await code.evaluate((field) => field === document.activeElement), true);
  await code.fill("123 456");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
  assert.deepEqual(sent(asked, "POST", "/sessions").map((each) => each.body), [{ username: "mara", password: "x" }, { username: "mara", password: "x", second_factor: "123456" }]);
  await done(page);
});

test("an app gets nothing that is not ticked, and only reading unless more is chosen", async () => {
  const query = new URLSearchParams({ client_id: "c1", redirect_uri: "https://calendar.example/hearthkey/callback", scope: "operate", state: "s?1", code_challenge: "abc" });
  const { page, asked } = await look(`#/consent?${query}`);
  await page.getByRole("heading", { level: 1, name: "Calendar asks" }).waitFor();
  await page.getByText("calendar.example", { exact: true }).waitFor();
  assert.equal(sent(asked, "GET", "/oauth/requests")[0].query.get("state"), "s?1");
  await page.getByRole("button", { name: "Allow" }).click();
  await page.getByText("Choose at least one device, or refuse.").waitFor();
  await page.getByLabel("Garage", { exact: true }).check();
  assert.deepEqual(await page.getByLabel("How far for Garage").locator("option").allTextContents(), ["Sees it", "Uses it"], "never more than was asked for");
  assert.deepEqual(await page.getByLabel("How far for Porch lamp").locator("option").allTextContents(), ["Sees it"], "never more than one has");
  await page.getByRole("button", { name: "Allow" }).click();
  await page.waitForURL(/^https:\/\/calendar\.example/);
  const [{ body }] = sent(asked, "POST", "/oauth/consents");
  assert.deepEqual([body.devices, body.state, body.code_challenge, body.deny], [[{ id: DOOR.id, privilege: "view" }], "s?1", "abc", undefined]);
  await done(page, "calendar.example");
});

test("a support session shows on every page to everybody it concerns, and one tap ends it", async () => {
  for (const me of [MARA, ADA]) {
    const { page, asked } = await look("#/", { me, some: { "GET /support": SUPPORT } });
    const banner = page.getByRole("region", { name: "Support session" });
    for (const hash of me === MARA ? ["#/", "#/people", "#/activity", "#/settings", "#/hub", "#/apps", "#/services", "#/support", `#/device/${DOOR.id}`, "#/consent?client_id=c1"] : ["#/", "#/settings"]) {
      await page.evaluate((to) => (location.hash = to), hash);
      await page.locator("h1").waitFor();
      await banner.getByText("The door stops half way").waitFor();
    }
    await banner.getByRole("button", { name: "End it now" }).click();
    await banner.waitFor({ state: "detached" });
    assert.equal(sent(asked, "DELETE", "/support/sup-1").length, 1);
    await done(page);
  }
  const { page } = await look("#/", { me: { id: "9", username: "tom", display_name: null, role: "guest" }, some: { "GET /support": SUPPORT } });
  await page.getByRole("region", { name: "Support session" }).waitFor();
  await comesTo(page.getByRole("button", { name: "End it now" }), 0, "a guest sees it, and does not end it");
  await done(page);
});

test("an event opens the banner on a page that is open already", async () => {
  let open = { sessions: [] };
  const { page } = await look("#/", { some: { "GET /support": () => open } });
  await page.getByRole("heading", { level: 3, name: "Garage" }).waitFor();
  await comesTo(page.getByRole("region", { name: "Support session" }), 0);
  open = SUPPORT;
  await event(page, "support", {});
  await page.getByRole("region", { name: "Support session" }).waitFor();
  await done(page);
});

test("an owner's browser tells the hub the time once, and nobody else's does", async () => {
  const { page, asked } = await look("#/");
  for (const hash of ["#/people", "#/settings", "#/"]) {
    await page.evaluate((to) => (location.hash = to), hash);
    await page.locator("h1").waitFor();
  }
  assert.equal(sent(asked, "POST", "/hub/clock").length, 1);
  await done(page);
  const other = await look("#/", { me: { id: "9", username: "ida", display_name: null, role: "member" } });
  await other.page.getByRole("heading", { level: 3, name: "Garage" }).waitFor();
  assert.equal(sent(other.asked, "POST", "/hub/clock").length, 0);
  await done(other.page);
});

test("recovery codes and tokens show once, and are gone from the page after", async () => {
  const { page } = await look("#/settings");
  await page.getByText("Set up a second factor").click();
  await page.getByLabel("Your password").first().fill("x");
  await page.getByRole("button", { name: "Set it up" }).click();
  await page.getByLabel("Code from the app").fill("123456");
  await page.getByRole("button", { name: "Confirm" }).click();
  await comesTo(page.locator(".codes li"), 10);
  assert.equal(await page.getByRole("button", { name: "Done" }).isDisabled(), true, "first they are kept");
  await page.emulateMedia({ media: "print" });
  assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll("h1, .nav, button")].filter((each) => each.getClientRects().length > 0).length), 0, "print shows the codes and nothing else");
  assert.equal(await page.locator(".codes li").first().isVisible(), true);
  await page.emulateMedia({ media: "screen" });
  await page.getByLabel(/I have kept them/).check();
  await page.getByRole("button", { name: "Done" }).click();
  await comesTo(page.getByText("40K7-9QWE-0MN8"), 0);
  await page.evaluate(() => (location.hash = "#/apps"));
  await page.getByText("Make a token").click();
  await page.getByLabel("What it is for").fill("Solar");
  await page.getByLabel("Garage", { exact: true }).check();
  await page.getByRole("button", { name: "Make the token" }).click();
  await page.getByText("hka1.").waitFor();
  await page.getByRole("button", { name: "I have it" }).click();
  await comesTo(page.getByText("hka1."), 0);
  await done(page);
});

test("a right with limits is sent as the contract has it", async () => {
  const { page, asked } = await look(`#/device/${DOOR.id}`, { some: { "POST /devices/:id/bindings": (body) => ({ ...answers()["GET /devices/:id/bindings"].bindings[1], ...body, subject: "device:lamp-0007", user: null, username: null, name: "Porch lamp" }) } });
  await page.getByText("Share it with somebody or something").click();
  await page.getByText("Another device", { exact: true }).click();
  await page.getByLabel("Device", { exact: true }).selectOption("lamp-0007");
  await page.getByText("More limits").click();
  await page.getByRole("button", { name: "Choose days and times" }).click();
  await page.getByLabel("Number of uses").fill("3");
  await page.getByLabel("All of them").uncheck();
  await page.getByRole("button", { name: "Share", exact: true }).click();
  await page.getByText("Choose at least one function, or all of them.").waitFor();
  await page.getByLabel("Stop", { exact: true }).check();
  await page.getByRole("button", { name: "Share", exact: true }).click();
  await page.locator(".rights").getByText("Porch lamp").waitFor();
  assert.deepEqual(sent(asked, "POST", `/devices/${DOOR.id}/bindings`)[0].body, { device: "lamp-0007", privilege: "operate", windows: [{ days: ["mon", "tue", "wed", "thu", "fri"], from: "08:00", to: "18:00" }], uses: 3, only: ["stop"] });
  await done(page);
});

test("the activity asks the hub for what was chosen, and exports the same", async () => {
  const { page, asked } = await look("#/activity");
  await page.getByText("It acted for Mara Lind.").waitFor();
  await page.getByText("What was personal in it has been erased.").waitFor();
  await page.getByText("Narrow it down").click();
  await page.getByLabel("Who").selectOption({ label: "Mara Lind" });
  await page.getByLabel("Device", { exact: true }).selectOption({ label: "Garage" });
  await page.getByLabel("What", { exact: true }).selectOption({ label: "Commands" });
  await page.getByLabel("From day").fill("2026-06-01");
  const link = page.getByRole("link", { name: "Export what is shown" });
  const expected = { actor: `user:${MARA.id}`, object: DOOR.id, action: "command.send", since: String(Date.UTC(2026, 4, 31, 22)) };
  assert.deepEqual(Object.fromEntries(new URL(await link.getAttribute("href"), ORIGIN).searchParams), expected);
  await page.waitForFunction(() => document.querySelector(".log")?.getAttribute("aria-busy") !== "true");
  assert.deepEqual(Object.fromEntries(sent(asked, "GET", "/audit").at(-1).query), { limit: "50", ...expected });
  await page.getByRole("button", { name: "Check it" }).click();
  await page.getByRole("main").getByText("The record is whole: 4,182 entries").waitFor();
  await done(page);
});

test("a piece of the page that the hub no longer has says so, and what to do", async () => {
  const { page } = await look("#/");
  await page.route(/activity-[A-Z0-9]+\.js/, (route) => route.fulfill({ status: 404, body: "" }));
  await page.evaluate(() => (location.hash = "#/activity"));
  await page.getByText("This part of the page could not be loaded.").waitFor();
  await page.getByRole("button", { name: "Reload" }).waitFor();
  await done(page);
});
