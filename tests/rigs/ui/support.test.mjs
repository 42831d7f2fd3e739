// Services, and a maker's people: an owner makes a service, adds somebody of the maker, opens a support session that every page
// shows, and ends it by one tap. Needs: services, support, roles.
//   HEARTHKEY_URL, HEARTHKEY_SETUP_CODE, HEARTHKEY_LABEL as for ui.test.mjs

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { call, comesTo, DEVICE, launch, PASSWORD, settleIn, shot, signIn, visit, visitor } from "./house.mjs";

const complaints = [];
let browser, page, ada, tom;
before(async () => {
  browser = await launch();
  page = await visitor(browser, complaints);
  ada = await visitor(browser, complaints, { width: 360 });
  tom = await visitor(browser, complaints);
  await settleIn(page);
});
after(() => browser?.close());

test("a maker's people come in only while a session is open, and everybody sees it", async (t) => {
  await t.test("a service is made, and its secret shows once", async () => {
    await visit(page, "#/services");
    await page.getByLabel("Name", { exact: true }).fill("Backup");
    await page.getByLabel("Networks").fill("everywhere");
    await page.getByRole("button", { name: "Make it" }).click();
    await page.getByText("“everywhere” is not a network.").waitFor();
    await page.getByLabel("Networks").fill("127.0.0.0/8");
    await page.getByLabel("Read who did what").check();
    await page.getByRole("button", { name: "Make it" }).click();
    await page.getByText("it is not shown again").waitFor();
    await page.getByRole("button", { name: "I have it" }).click();
    await page.getByText("May read who did what; from 127.0.0.0/8").waitFor();
  });

  await t.test("what each role may do is read from the hub", async () => {
    await visit(page, "#/people");
    await page.getByText("What each role may do").click();
    await page.getByText("Nothing, except while a support session is open").first().waitFor();
  });

  await t.test("somebody of the maker sees nothing until a session is open", async () => {
    const { brand } = await call(page, "GET", `/devices/${DEVICE}`);
    await call(page, "POST", "/users", { username: "ada", password: PASSWORD, display_name: "Ada Berg", role: "support", brand, networks: ["127.0.0.0/8"] });
    await call(page, "POST", "/users", { username: "tom", password: PASSWORD, role: "guest" });
    // It concerns those who may see the device.
    await call(page, "POST", `/devices/${DEVICE}/bindings`, { username: "tom", privilege: "view" });
    await visit(ada, "#/");
    await signIn(ada, "ada");
    await ada.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
    await comesTo(ada.getByText("Garage"), 0);
    await visit(tom, "#/");
    await signIn(tom, "tom");
    await tom.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
  });

  await t.test("the session opens for a device and a reason, and shows on every page", async () => {
    await visit(page, "#/support");
    await page.getByLabel("Garage").check();
    await page.getByText("Uses it", { exact: true }).click();
    await page.getByLabel("Reason").fill("The door stops half way");
    await shot(page, "support-form");
    await page.getByRole("button", { name: "Open it" }).click();
    for (const each of [page, ada, tom]) await each.getByRole("region", { name: "Support session" }).getByText("The door stops half way").waitFor();
    await shot(tom, "support-banner");
    await comesTo(tom.getByRole("button", { name: "End it now" }), 0);
    await ada.getByRole("link", { name: "Garage" }).waitFor();
  });

  await t.test("one tap ends it, and the device leaves the other's page", async () => {
    await visit(page, "#/activity");
    await page.getByRole("region", { name: "Support session" }).getByRole("button", { name: "End it now" }).click();
    for (const each of [page, ada, tom]) await each.getByRole("region", { name: "Support session" }).waitFor({ state: "detached" });
    await ada.getByRole("link", { name: "Garage" }).waitFor({ state: "detached" });
  });
  assert.deepEqual(complaints, []);
});
