// What guards one's own account: a second factor with its recovery codes, the list of sessions, a recovery code, taking one's
// data along and having it erased. Needs: second factor, sessions, recovery codes, export and erasure.
//   HEARTHKEY_URL, HEARTHKEY_SETUP_CODE as for ui.test.mjs

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { call, launch, PASSWORD, settleIn, shot, signIn, visit, visitor } from "./house.mjs";

const complaints = [];
let browser, page, other;
before(async () => {
  browser = await launch();
  page = await visitor(browser, complaints);
  other = await visitor(browser, complaints, { width: 360 });
  await settleIn(page);
});
after(() => browser?.close());

/** RFC 6238 with SHA-1, six digits, 30 seconds. */
function totp(secret, at = Date.now()) {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...secret.replace(/\s/g, "")].map((symbol) => alphabet.indexOf(symbol).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(at / 30_000)));
  const hash = createHmac("sha1", key).update(step).digest();
  return String((hash.readUInt32BE(hash.at(-1) & 15) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

test("an account is guarded by more than a password, and its data are one's own", async (t) => {
  let codes = [];
  await t.test("a second factor comes into force with the first code of the app", async () => {
    await visit(page, "#/settings");
    await page.getByText("Set up a second factor").click();
    const password = page.getByLabel("Your password").first();
    await password.fill("not the password");
    await page.getByRole("button", { name: "Set it up" }).click();
    await page.getByRole("alert").filter({ hasText: /\S/ }).waitFor();
    await password.fill(PASSWORD);
    await page.getByRole("button", { name: "Set it up" }).click();
    await page.getByRole("img", { name: "QR code for the authenticator app" }).waitFor();
    const secret = await page.locator(".link-card-row code").textContent();
    await page.getByLabel("Code from the app").fill(totp(secret));
    await page.getByRole("button", { name: "Confirm" }).click();
    await page.locator(".codes li").nth(9).waitFor();
    codes = await page.locator(".codes code").allTextContents();
    await shot(page, "recovery-codes");
  });

  await t.test("signing in asks for it; a recovery code stands in once", async () => {
    await visit(other, "#/");
    await signIn(other, "mara");
    const second = other.getByLabel("Second factor");
    await second.fill("000000");
    await other.getByRole("button", { name: "Sign in" }).click();
    await other.getByRole("alert").filter({ hasText: /\S/ }).waitFor();
    await second.fill(codes[0]);
    await other.getByRole("button", { name: "Sign in" }).click();
    await other.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
  });

  await t.test("the other browser is in the list, and is signed out from here", async () => {
    await visit(page, "#/settings");
    const sessions = page.getByRole("region", { name: "Where you are signed in" });
    await sessions.getByText("This one").waitFor();
    await sessions.getByRole("listitem").filter({ hasNotText: "This one" }).getByRole("button", { name: /^Sign out/ }).first().click();
    await other.getByText("Your session has ended").waitFor();
  });

  await t.test("the recovery code of an owner leads back in without anybody's help", async () => {
    await page.getByText("Recovery code", { exact: true }).click();
    await page.getByLabel("Your password").last().fill(PASSWORD);
    await page.getByRole("button", { name: "Make a recovery code" }).click();
    const code = await page.locator(".code-alone code").textContent();
    await visit(other, "#/reset");
    await other.getByLabel("Recovery code or reset code").fill(code.toLowerCase());
    await other.getByLabel("New password").fill("embers & ash, 🔥 43");
    await other.getByRole("button", { name: "Change password" }).click();
    await other.getByText("Your password is changed").waitFor();
    await page.getByText("Your session has ended").waitFor();
    await signIn(other, "mara", "embers & ash, 🔥 43");
    await other.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
  });

  await t.test("one's data are taken along, and erased", async () => {
    await call(other, "POST", "/users", { username: "ida", password: PASSWORD, role: "guest" });
    const ida = await visitor(browser, complaints);
    await visit(ida, "#/settings");
    await signIn(ida, "ida");
    const coming = ida.waitForEvent("download");
    await ida.getByRole("link", { name: "Export my data" }).click();
    const told = JSON.parse(readFileSync(await (await coming).path(), "utf8"));
    assert.match(JSON.stringify(told), /"ida"/);
    await ida.getByRole("button", { name: "Erase my account" }).click();
    await ida.getByRole("button", { name: "Go on" }).click();
    await ida.getByLabel("Your password").last().fill(PASSWORD);
    await ida.getByRole("button", { name: "Erase my account for good" }).click();
    await ida.getByText("Your account is erased").waitFor();
    await signIn(ida, "ida");
    await ida.getByRole("alert").filter({ hasText: /\S/ }).waitFor();
  });
  assert.deepEqual(complaints, []);
});
