// From an invitation to a guest who is at home: an owner makes the link, the guest opens it on a phone and makes an account, is
// given a device by a second link, loses the password and gets a reset link. Needs: invitations, passwords, sessions.
//   HEARTHKEY_URL, HEARTHKEY_SETUP_CODE, HEARTHKEY_LABEL as for ui.test.mjs

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, DEVICE, launch, settleIn, shot, signIn, visit, visitor } from "./house.mjs";

const complaints = [];
const FIRST = "a guest of the house";
const SECOND = "the guest came back 7";
let browser, page, guest;
before(async () => {
  browser = await launch();
  page = await visitor(browser, complaints);
  guest = await visitor(browser, complaints, { width: 360 });
  await settleIn(page);
});
after(() => browser?.close());

const linkOn = (page) => page.locator(".link-card .code-tall").textContent();
/** A link is made with the name the hub was reached by; here it is opened as it is. */
const open = async (page, link) => visit(page, new URL(link).hash);

test("a guest joins by an invitation, takes a device by a link, and comes back in after losing the password", async (t) => {
  await t.test("the invitation names who invites and makes the account", async () => {
    await page.getByRole("link", { name: "People" }).click();
    const invite = page.getByRole("region", { name: "Invite somebody" });
    await invite.getByLabel("Name (optional)").fill("Tom Sand");
    await invite.getByRole("button", { name: "Make an invitation" }).click();
    await invite.getByText("It works once").waitFor();
    await shot(page, "invitation");
    await open(guest, await linkOn(page));
    await guest.getByRole("heading", { level: 1, name: "Welcome, Tom Sand" }).waitFor();
    await guest.getByText("Mara Lind invites you").waitFor();
    assert.equal(new URL(guest.url()).hash, "#/join", "the code has left the address");
    await guest.getByLabel("User name").fill("tom");
    await guest.getByLabel("Password", { exact: true }).fill("password1");
    await guest.locator(".hint-bad").filter({ hasText: "guessed" }).waitFor();
    await guest.getByLabel("Password", { exact: true }).fill(FIRST);
    await guest.locator(".hint-good, .hint-warn").waitFor();
    await shot(guest, "join-360");
    await guest.getByRole("button", { name: "Make my account" }).click();
    await guest.getByRole("heading", { name: "Nothing is shared with you yet" }).waitFor();
  });

  await t.test("the same link serves nobody else", async () => {
    const other = await visitor(browser, complaints);
    await open(other, await linkOn(page));
    await other.getByRole("alert").filter({ hasText: /\S/ }).waitFor();
    await other.context().close();
  });

  await t.test("a device is shared by a link, and shows on the guest's page", async () => {
    await visit(page, `#/device/${encodeURIComponent(DEVICE)}`);
    await page.getByText("Share it by a link").click();
    const form = page.locator("form").filter({ hasText: "Make a link" });
    await form.getByText("One hour").click();
    await form.getByRole("button", { name: "Make a link" }).click();
    const link = await linkOn(page);
    await page.getByText("Links that nobody has used yet").waitFor();
    await open(guest, link);
    await guest.getByText("Mara Lind invites you to use what is below.").waitFor();
    await guest.getByRole("button", { name: "Accept" }).click();
    await guest.getByRole("heading", { level: 1, name: "Garage" }).waitFor();
    await guest.getByRole("region", { name: "Your right to it" }).getByText(/^until /).waitFor();
  });

  await t.test("signing out everywhere ends the guest's page, and a reset link leads back in", async () => {
    await visit(page, "#/people");
    await page.getByLabel("Manage Tom Sand").click();
    await page.getByRole("button", { name: "Sign out Tom Sand everywhere" }).click();
    await guest.getByText("Your session has ended").waitFor();
    await page.getByRole("button", { name: "Make a reset link for Tom Sand" }).click();
    await page.getByText("whoever opens it chooses the password").waitFor();
    await open(guest, await linkOn(page));
    await guest.getByRole("heading", { level: 1, name: "Choose a new password" }).waitFor();
    await guest.getByLabel("New password").fill(SECOND);
    await guest.getByRole("button", { name: "Change password" }).click();
    await guest.getByText("Your password is changed").waitFor();
    await signIn(guest, "tom", SECOND);
    await guest.getByRole("link", { name: "Garage" }).waitFor();
  });

  await t.test("an invitation that is withdrawn does not work", async () => {
    const { link } = await call(page, "POST", "/invitations", { role: "member", display_name: "Ida" });
    await visit(page, "#/people");
    await page.getByRole("button", { name: "Withdraw the invitation for Ida" }).click();
    await page.getByRole("button", { name: "Withdraw it" }).click();
    await page.getByText("For Ida", { exact: true }).waitFor({ state: "detached" });
    const ida = await visitor(browser, complaints);
    await open(ida, link);
    await ida.getByText("This invitation does not work.").waitFor();
  });
  assert.deepEqual(complaints, []);
});
