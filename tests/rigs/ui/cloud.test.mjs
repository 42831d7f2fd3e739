// The cloud, step by step in a real browser, with answers made up: nothing leaves the house before somebody has compared the
// fingerprint; what is chosen is what is sent; the recovery code shows once and is asked for from the paper; keys for away show
// once; what fails says what to do; and who is no owner is told less.
//   HEARTHKEY_DIST   the directory with the built page
//   HEARTHKEY_SHOTS  a directory for screenshots (optional)

import assert from "node:assert/strict";
import { test } from "node:test";
import { comesTo, shot } from "./house.mjs";
import { done, isFocused, look as lookAt, sent } from "./looking.mjs";
import { ADA, answers, FAILING, HOME_CODE, IDA, LINKED, LOOK, MARA, NOW, REDUCED, TOM } from "./stub.mjs";

const DAY = 86_400_000;
const MADE = { made_at: NOW - DAY, bundle: { at: NOW - DAY, bytes: 41_200 } };
const look = ({ hash = "#/cloud", ...how } = {}) => lookAt(hash, how);
/** A hub that is linked once it has been asked to. */
function linking(some = {}) {
  let view = { linked: false };
  return {
    "GET /cloud": () => view,
    "PUT /cloud": () => (view = { ...LINKED, state: { phase: "linking" }, last_success: null }),
    "DELETE /cloud": () => {
      view = { linked: false };
      return [204];
    },
    ...some,
  };
}

test("a hub is linked: address, choice, recovery code, fingerprint", async () => {
  let recovery = { made_at: null, bundle: null };
  const { page, asked } = await look({
    width: 360,
    some: linking({
      "GET /recovery": () => recovery,
      "POST /recovery": () => {
        recovery = { made_at: NOW, bundle: null };
        return HOME_CODE;
      },
    }),
  });
  await page.getByText("No cloud is linked").waitFor();
  await page.getByRole("button", { name: "Look at it" }).click();
  await page.getByText("Type the address.").waitFor();
  await page.getByLabel("Address of the cloud").fill("http://eu.cloud.example");
  await page.getByText("It begins with https://").waitFor();
  assert.equal(sent(asked, "POST", "/cloud/look").length, 0, "an address without https is not even looked at");
  await page.getByLabel("Address of the cloud").fill("eu.cloud.example");
  await page.getByLabel("Address of the cloud").press("Enter");
  const name = page.getByRole("heading", { level: 3, name: "Acme Cloud" });
  await name.waitFor();
  assert.equal(await isFocused(name), true, "a step begins at its heading");
  assert.deepEqual(sent(asked, "POST", "/cloud/look")[0].body, { url: "https://eu.cloud.example" });

  const ticked = () => page.locator(".choices :checked + span strong").allTextContents();
  assert.deepEqual(await ticked(), ["Your devices", "A sealed recovery copy", "acme"], "what is chosen at first; a maker that is trusted already");
  const critical = page.getByLabel("Also what is critical");
  assert.equal(await critical.isDisabled(), true, "it means nothing while nothing may come in");
  await page.getByLabel("Using devices from away").check();
  assert.equal(await critical.isDisabled(), false);
  await page.getByRole("checkbox", { name: /^lumen/ }).check();
  await shot(page, "cloud-choose-360");
  await page.getByRole("button", { name: "Go on" }).click();

  await page.getByRole("heading", { level: 3, name: "First, a recovery code" }).waitFor();
  await comesTo(page.getByRole("heading", { name: "If this hub breaks or is stolen" }), 0, "nothing else is offered meanwhile");
  await page.getByLabel("Your password").fill("x");
  await page.getByRole("button", { name: "Make the recovery code" }).click();
  await comesTo(page.locator(".code-groups code"), 9);
  assert.deepEqual(sent(asked, "POST", "/recovery")[0].body, { password: "x" });
  await page.getByRole("img", { name: "QR code of the recovery code" }).waitFor();
  await page.locator(".sheet").getByText(HOME_CODE.hub).last().waitFor();
  await shot(page, "cloud-code-360");
  await page.emulateMedia({ media: "print" });
  assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll("h1, .nav, button, .sub-nav")].filter((each) => each.getClientRects().length > 0).length), 0, "print shows the code and nothing else");
  assert.equal(await page.locator(".code-groups").isVisible(), true);
  await shot(page, "cloud-code-print");
  await page.emulateMedia({ media: "screen" });
  await page.getByRole("button", { name: "I have it on paper" }).click();
  await comesTo(page.locator(".code-groups"), 0, "it is asked for from the paper");
  const end = page.getByLabel("Type the last two groups of the code, from your paper");
  assert.equal(await isFocused(end), true);
  await end.fill("5SGE-B");
  await page.getByRole("button", { name: "Done" }).click();
  await page.getByText("This is not the end of the code.").waitFor();
  await page.getByRole("button", { name: "Show the code again" }).click();
  await comesTo(page.locator(".code-groups code"), 9);
  await page.getByRole("button", { name: "I have it on paper" }).click();
  await page.getByLabel("Type the last two groups of the code, from your paper").fill("5sge a");
  await page.keyboard.press("Enter");

  const compare = page.getByRole("heading", { level: 3, name: "Compare the fingerprint" });
  await compare.waitFor();
  assert.equal(await isFocused(compare), true);
  await page.locator(".fingerprint").getByText("3f9a 01c2 77de 4b10").waitFor();
  await shot(page, "cloud-compare-360");
  await page.getByRole("button", { name: "Link this hub" }).click();
  await page.getByText("Compare it first.").waitFor();
  assert.equal(sent(asked, "PUT", "/cloud").length, 0, "nothing leaves the house before it is compared");
  await page.getByLabel("I have compared it").check();
  await page.getByRole("button", { name: "Link this hub" }).click();
  await page.getByText("The hub is being linked…").waitFor();
  assert.deepEqual(sent(asked, "PUT", "/cloud").map((each) => each.body), [{ url: LOOK.url, key: LOOK.key, region: "eu", consent: ["devices", "bundle", "requests"], brands: ["lumen"] }]);
  assert.equal(sent(asked, "POST", "/recovery").length, 1, "one code was made");
  assert.ok(!(await page.content()).includes("7QK2"), "the code is gone from the page");
  await done(page);
});

test("a cloud with link codes wants one, one that is closed is left alone, and a region can be chosen", async () => {
  const us = { ...LOOK, region: "us", url: "https://us.cloud.example", linking: "code" };
  const { page, asked } = await look({ some: linking({ "GET /recovery": MADE, "POST /cloud/look": ({ url }) => (url === us.url ? us : url.includes("closed") ? { ...LOOK, linking: "closed" } : LOOK) }) });
  await page.getByLabel("Address of the cloud").fill("https://closed.example");
  await page.getByRole("button", { name: "Look at it" }).click();
  await page.getByText("This cloud takes no new hubs.").waitFor();
  await comesTo(page.getByRole("button", { name: "Go on" }), 0);
  await page.getByRole("button", { name: "Another address" }).click();
  await page.getByLabel("Address of the cloud").fill("https://eu.cloud.example");
  await page.getByRole("button", { name: "Look at it" }).click();
  await page.getByRole("button", { name: "Look at us" }).click();
  await page.getByText("https://us.cloud.example", { exact: true }).waitFor();
  await shot(page, "cloud-choose-1280");
  await page.getByRole("button", { name: "Go on" }).click();
  await page.getByLabel("I have compared it").check();
  await page.getByRole("button", { name: "Link this hub" }).click();
  await page.getByText("Type the code.").waitFor();
  await page.getByLabel("Link code").fill(" ACME-7 ");
  await page.getByRole("button", { name: "Link this hub" }).click();
  await page.getByText("The hub is being linked…").waitFor();
  const [{ body }] = sent(asked, "PUT", "/cloud");
  assert.deepEqual([body.region, body.url, body.code], ["us", us.url, "ACME-7"]);
  await done(page);
});

test("what a look comes to is told in the hub's words, and a hub that wants a recovery code first is heard", async () => {
  let fails = true;
  const { page } = await look({
    some: linking({
      // The page believes there is a code; the hub knows better.
      "GET /recovery": MADE,
      "POST /cloud/look": () => (fails ? [502, "intercepted", "the certificate is not from an authority this hub knows", "Ask who runs this network to let the hub's connections pass."] : LOOK),
      "PUT /cloud": [409, "recovery_code_first", "There is no recovery code yet.", "Make one first."],
    }),
  });
  await page.getByLabel("Address of the cloud").fill("eu.cloud.example");
  await page.getByRole("button", { name: "Look at it" }).click();
  await page.getByText("Ask who runs this network").waitFor();
  fails = false;
  await page.getByRole("button", { name: "Look at it" }).click();
  await page.getByRole("button", { name: "Go on" }).click();
  await page.getByLabel("I have compared it").check();
  await page.getByRole("button", { name: "Link this hub" }).click();
  await page.getByRole("heading", { level: 3, name: "First, a recovery code" }).waitFor();
  await done(page);
});

test("how hub and cloud stand: what waits, what was refused and why, what the cloud told, and sync now", async () => {
  const { page, asked } = await look({ some: { "GET /cloud": LINKED, "GET /recovery": MADE } });
  await page.getByText("Hub and cloud are in touch.").waitFor();
  const fact = (term) => page.locator(".facts > div").filter({ has: page.getByText(term, { exact: true }) }).locator("dd");
  assert.equal(await fact("Last success").textContent(), "3 minutes ago");
  assert.match(await fact("Revocations").textContent(), /3 minutes old/);
  assert.equal(await fact("Waits to be sent").textContent(), "1 revocation, 3 changes and the recovery copy");
  assert.match(await fact("Wake-up").textContent(), /at once/);
  assert.equal(await fact("May come from outside").textContent(), "using devices from away");
  assert.equal(await fact("Recovery copy").textContent(), "made yesterday, 41 kB");
  await page.getByText("Tom Sand wanted to command Garage.").waitFor();
  await page.getByText("A service wanted to make an account.").waitFor();
  await page.getByText("The cloud wanted to take away a right to Garage.").waitFor();
  await page.getByText("Nobody would be left who administers the device.").waitFor();
  await page.getByText("commands that are critical may not come from outside").waitFor();
  await page.getByText("Another hub has claimed this device too.").waitFor();
  const before = sent(asked, "GET", "/cloud").length;
  await page.getByRole("button", { name: "Sync now" }).click();
  await page.getByRole("status").filter({ hasText: "The hub asks the cloud now." }).waitFor({ state: "attached" });
  assert.equal(sent(asked, "POST", "/cloud/sync").length, 1);
  assert.ok(sent(asked, "GET", "/cloud").length > before, "what came of it is asked for");
  await done(page);
});

test("what fails says what to do, what rests meanwhile, and every page carries a mark that leads here", async () => {
  let view = FAILING;
  const { page } = await look({ hash: "#/", some: { "GET /cloud": () => view } });
  const mark = page.getByRole("link", { name: "No word from the cloud for 8 days" });
  await mark.click();
  await page.getByRole("heading", { level: 1, name: "Cloud" }).waitFor();
  await page.getByText("A sign-in page of this network answers instead of the cloud.").waitFor();
  await page.getByText("accept its terms, then sync now. It tries again in 4 minutes.").waitFor();
  await page.getByText("At home, everything goes on as ever meanwhile.").waitFor();
  await page.getByText(/let people only look/).waitFor();
  await comesTo(mark, 0, "its own page says more");
  view = LINKED;
  await page.getByRole("button", { name: "Sync now" }).click();
  await page.getByText("Hub and cloud are in touch.").waitFor();
  await page.evaluate(() => (location.hash = "#/"));
  await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
  await comesTo(mark, 0);
  await done(page);
});

test("consent is changed with its sentences, and unlinking asks first", async () => {
  const linked = { ...LINKED };
  const { page, asked } = await look({
    some: {
      ...linking(),
      "GET /recovery": MADE,
      "GET /cloud": () => linked,
      "PATCH /cloud": ({ consent }) => Object.assign(linked, { consent }),
      "DELETE /cloud": () => {
        linked.linked = false;
        return [204];
      },
    },
  });
  await page.getByText("What is mirrored and let in").click();
  const save = page.getByRole("button", { name: "Save" });
  assert.equal(await save.isDisabled(), true);
  await page.getByLabel("Also what is critical").check();
  await page.getByLabel("Using devices from away").uncheck();
  assert.equal(await page.getByLabel("Also what is critical").isChecked(), false, "it goes with what it belongs to");
  await page.getByLabel("Sharing from away").check();
  await shot(page, "cloud-consent-1280");
  await save.click();
  await page.waitForFunction(() => [...document.querySelectorAll("button")].find((each) => each.textContent === "Save")?.disabled);
  assert.deepEqual(sent(asked, "PATCH", "/cloud").map((each) => each.body), [{ consent: ["devices", "bundle", "grants", "critical"] }]);
  await page.getByRole("button", { name: "Unlink this hub" }).click();
  const question = page.getByRole("group", { name: "Unlink this hub" });
  await question.getByText("every device has to be added anew").waitFor();
  assert.equal(await isFocused(question.getByRole("button", { name: "Stay linked" })), true, "the answer that changes nothing comes first");
  await page.keyboard.press("Escape");
  await question.waitFor({ state: "detached" });
  assert.equal(sent(asked, "DELETE", "/cloud").length, 0);
  await page.getByRole("button", { name: "Unlink this hub" }).click();
  await page.getByRole("button", { name: "Unlink it" }).click();
  await page.getByText("No cloud is linked").waitFor();
  assert.equal(sent(asked, "DELETE", "/cloud").length, 1);
  await done(page);
});

test("a new recovery code is made only after the question, and the recovery copy not without one", async () => {
  const { page, asked } = await look({ some: { "GET /cloud": { ...LINKED, consent: ["devices"] }, "GET /recovery": MADE } });
  await page.getByRole("button", { name: "Make a new recovery code" }).click();
  await page.getByText("The one you have on paper then opens nothing any more").waitFor();
  assert.equal(sent(asked, "POST", "/recovery").length, 0);
  await page.getByRole("button", { name: "Make a new one" }).click();
  assert.equal(await isFocused(page.getByLabel("Your password")), true);
  await page.keyboard.type("x");
  await page.getByRole("button", { name: "Make it, and end the old one" }).click();
  await comesTo(page.locator(".code-groups code"), 9);
  assert.equal(await isFocused(page.getByRole("group", { name: "Recovery code of this home" })), true);
  await done(page);
  const other = await look({ some: { "GET /cloud": { ...LINKED, consent: ["devices"] } } });
  await other.page.getByText("What is mirrored and let in").click();
  await other.page.getByLabel("A sealed recovery copy").check();
  await other.page.getByRole("button", { name: "Save" }).click();
  await other.page.getByText("Make the recovery code of this home first").waitFor();
  assert.equal(sent(other.asked, "PATCH", "/cloud").length, 0);
  await done(other.page);
});

test("after a hub has taken another's place, an owner looks through the rights before they hold again", async () => {
  let pending = true;
  const restored = () => ({ ...MADE, bundle: { ...MADE.bundle, up_to_date: false, without_waiting: true }, restored: { at: NOW - 60_000, bundle_at: NOW - DAY, epoch: 2, review_pending: pending } });
  const { page, asked } = await look({
    width: 360,
    some: {
      "GET /cloud": LINKED,
      "GET /recovery": restored,
      "POST /recovery/review": () => {
        pending = false;
        return [204];
      },
    },
  });
  const panel = page.getByRole("region", { name: "This hub has taken the place of another" });
  await panel.getByText("those of everybody but owners rest").waitFor();
  await page.evaluate(() => (location.hash = "#/"));
  const mark = page.getByRole("link", { name: "Rights rest until you have looked through them" });
  await mark.click();
  await panel.waitFor();
  await shot(page, "cloud-review-360");
  await panel.getByRole("button", { name: "Let the rights hold again" }).click();
  await panel.getByRole("button", { name: "Let them hold" }).click();
  await panel.waitFor({ state: "detached" });
  assert.equal(sent(asked, "POST", "/recovery/review").length, 1);
  await page.evaluate(() => (location.hash = "#/"));
  await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
  await comesTo(mark, 0);
  await done(page);
});

test("a member makes a key for away, which shows once, and ends it; a bulletin is pasted or picked", async () => {
  let keys = [{ id: "w1", name: "My phone", until: NOW + 60 * DAY }];
  const { page, asked } = await look({
    me: IDA,
    width: 360,
    some: {
      "GET /cloud": REDUCED,
      "GET /me/away": () => ({ keys }),
      "POST /me/away": ({ name, days }) => {
        keys = [...keys, { id: "w2", name, until: NOW + days * DAY }];
        return answers()["POST /me/away"];
      },
    },
  });
  await page.getByText("Hub and cloud are in touch.").waitFor();
  for (const hidden of ["Sync now", "Unlink this hub", "Make the recovery code"]) await comesTo(page.getByRole("button", { name: hidden }), 0, `${hidden} is for owners`);
  assert.equal(sent(asked, "GET", "/recovery").length, 0);
  await page.getByText("Make a key").click();
  await page.getByRole("button", { name: "Make the key" }).click();
  await page.getByText("Say what it is for.").waitFor();
  await page.getByLabel("What it is for").fill("Tablet");
  await page.getByText("A week", { exact: true }).click();
  await page.getByRole("button", { name: "Make the key" }).click();
  await page.getByText("hka1.").waitFor();
  await page.getByRole("button", { name: "Copy the key" }).waitFor();
  await shot(page, "cloud-away-360");
  assert.deepEqual(sent(asked, "POST", "/me/away")[0].body, { name: "Tablet", days: 7 });
  await page.getByRole("button", { name: "I have it" }).click();
  await comesTo(page.getByText("hka1."), 0);
  await page.getByText("Tablet", { exact: true }).waitFor();
  await page.getByRole("button", { name: "End My phone" }).click();
  await page.getByRole("button", { name: "End it", exact: true }).last().click();
  await comesTo(page.getByText("My phone", { exact: true }), 0);
  assert.equal(sent(asked, "DELETE", "/me/away/w1").length, 1);

  await page.getByText("Carry revocations by hand").click();
  await page.getByLabel("Bulletin", { exact: true }).fill("hello");
  await page.getByRole("button", { name: "Hand it over" }).click();
  await page.getByText("This is not a bulletin").waitFor();
  const bulletin = "0oRDoQEn".repeat(12);
  await page.getByLabel("Bulletin", { exact: true }).fill(`${bulletin}\n`);
  await page.getByRole("button", { name: "Hand it over" }).click();
  await page.getByText("Taken: 2 revocations hold now.").waitFor();
  await page.getByLabel("Or a file that holds it").setInputFiles({ name: "hub.bulletin", mimeType: "application/octet-stream", buffer: Buffer.from(bulletin, "base64url") });
  await page.waitForFunction(() => document.querySelector("input[type=file]").value === "" && !document.querySelector("input[type=file]").disabled);
  assert.deepEqual(sent(asked, "POST", "/cloud/bulletin").map((each) => each.body), [{ bulletin }, { bulletin }]);
  await done(page);
});

test("a guest has keys for away, and a maker's people have nothing here", async () => {
  const { page } = await look({ me: TOM, some: { "GET /cloud": REDUCED } });
  await page.getByRole("heading", { name: "Use from away" }).waitFor();
  await done(page);
  const other = await look({ me: ADA });
  await other.page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
  assert.equal(sent(other.asked, "GET", "/cloud").length, 0);
  await done(other.page);
});

test("a hub that another has replaced says so on every page, and offers nothing that it cannot do", async () => {
  const { page } = await look({ hash: "#/", some: { "GET /cloud": { ...LINKED, retired: true } } });
  await page.getByRole("link", { name: "This hub has been replaced." }).click();
  await page.getByText("this one serves nobody any more").waitFor();
  for (const hidden of ["Sync now", "Make the recovery code", "Make the key", "Unlink this hub"]) await comesTo(page.getByRole("button", { name: hidden }), 0);
  await done(page);
  // It may as well hear of it only when it asks for something.
  const other = await look({ hash: "#/", some: { "GET /devices": [410, "retired", "another hub has taken this one's place", "Use the new hub."] } });
  await other.page.getByRole("link", { name: "This hub has been replaced." }).waitFor();
  await done(other.page);
});
