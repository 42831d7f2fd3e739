// What acts for a person: a token that reads and no more, and an app that asks by OAuth, is let in by the consent page, and is
// ended. Needs: tokens, OAuth, consent.
//   HEARTHKEY_URL, HEARTHKEY_SETUP_CODE, HEARTHKEY_LABEL as for ui.test.mjs

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { DEVICE, launch, settleIn, shot, visit, visitor } from "./house.mjs";

const url = process.env.HEARTHKEY_URL;
const RETURN = "http://127.0.0.1:1/callback";
const complaints = [];
let browser, page;
before(async () => {
  browser = await launch();
  page = await visitor(browser, complaints);
  // Where the app would wait; nothing listens there.
  await page.route(`${RETURN}**`, (route) => route.fulfill({ status: 200, contentType: "text/html", body: "<title>app</title>back at the app" }));
  await settleIn(page);
});
after(() => browser?.close());

test("programs act for a person with what was ticked, until they are ended", async (t) => {
  await t.test("a token sees, and does nothing", async () => {
    await visit(page, "#/apps");
    await page.getByText("Make a token").click();
    await page.getByLabel("What it is for").fill("Solar logger");
    await page.getByLabel("Garage", { exact: true }).check();
    await page.getByRole("button", { name: "Make the token" }).click();
    const token = await page.locator(".link-card code").first().textContent();
    const bare = await browser.newContext({ ignoreHTTPSErrors: true });
    const ask = (method, path, data) => bare.request.fetch(`${url}/api/v1${path}`, { method, headers: { authorization: `Bearer ${token}` }, ...(data ? { data } : {}) });
    assert.equal((await ask("GET", `/devices/${DEVICE}/twin`)).status(), 200);
    assert.equal((await ask("POST", `/devices/${DEVICE}/commands`, { name: "close" })).status(), 403);
    await page.getByRole("button", { name: "I have it" }).click();
    await page.getByRole("button", { name: "End Solar logger" }).click();
    await page.getByRole("button", { name: "End it", exact: true }).click();
    await page.getByText("Nothing acts for you.").waitFor();
    assert.equal((await ask("GET", `/devices/${DEVICE}/twin`)).status(), 401);
  });

  await t.test("an app is registered, asks, is let in for reading, and is ended", async () => {
    await page.getByText("Register an app").click();
    await page.getByLabel("Name", { exact: true }).fill("Calendar");
    await page.getByLabel("Where it returns to").fill(RETURN);
    await page.getByRole("button", { name: "Register", exact: true }).click();
    const client = await page.getByRole("region", { name: "Apps that may ask" }).locator("code").textContent();
    const verifier = "v".repeat(64);
    const asking = new URLSearchParams({ response_type: "code", client_id: client, redirect_uri: RETURN, scope: "operate", state: "s-1", code_challenge: createHash("sha256").update(verifier).digest("base64url"), code_challenge_method: "S256" });
    await page.goto("about:blank");
    await page.goto(`${url}/oauth/authorize?${asking}`);
    await page.getByRole("heading", { level: 1, name: "Calendar asks" }).waitFor();
    await page.getByText("127.0.0.1", { exact: false }).first().waitFor();
    await page.getByLabel("Garage", { exact: true }).check();
    await shot(page, "consent");
    await page.getByRole("button", { name: "Allow" }).click();
    await page.waitForURL(/callback\?.*code=/);
    const back = new URL(page.url());
    assert.equal(back.searchParams.get("state"), "s-1");
    const bare = await browser.newContext({ ignoreHTTPSErrors: true });
    const tokens = await (await bare.request.post(`${url}/oauth/token`, { form: { grant_type: "authorization_code", code: back.searchParams.get("code"), redirect_uri: RETURN, client_id: client, code_verifier: verifier } })).json();
    const ask = (path) => bare.request.get(`${url}/api/v1${path}`, { headers: { authorization: `Bearer ${tokens.access_token}` } });
    assert.equal((await ask(`/devices/${DEVICE}/twin`)).status(), 200);
    await visit(page, "#/apps");
    await page.getByRole("region", { name: "Your apps and tokens" }).locator(".bullets").getByText("sees it").waitFor();
    await page.getByRole("region", { name: "Your apps and tokens" }).getByRole("button", { name: "End Calendar" }).click();
    await page.getByRole("button", { name: "End it", exact: true }).click();
    await page.getByText("Nothing acts for you.").waitFor();
    assert.equal((await ask(`/devices/${DEVICE}/twin`)).status(), 401);
  });

  await t.test("refusing sends the person back without a code", async () => {
    const client = await page.getByRole("region", { name: "Apps that may ask" }).locator("code").textContent();
    const asking = new URLSearchParams({ response_type: "code", client_id: client, redirect_uri: RETURN, scope: "view", state: "s-2", code_challenge: createHash("sha256").update("x".repeat(64)).digest("base64url"), code_challenge_method: "S256" });
    await page.goto("about:blank");
    await page.goto(`${url}/oauth/authorize?${asking}`);
    await page.getByRole("button", { name: "Refuse" }).click();
    await page.waitForURL(/callback\?.*error=access_denied/);
  });
  assert.deepEqual(complaints.filter((each) => !each.includes(RETURN)), []);
});
