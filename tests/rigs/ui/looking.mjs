// What the tests with made-up answers share: a browser for the file, a look at a page of a hub that only pretends, what was asked
// of it, and that nothing happened which must not.
//   HEARTHKEY_DIST   the directory with the built page
//   HEARTHKEY_SHOTS  a directory for screenshots (optional)

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { launch, visitor } from "./house.mjs";
import { answers, MARA, ORIGIN, pretend } from "./stub.mjs";

const dist = process.env.HEARTHKEY_DIST;
assert.ok(dist, "HEARTHKEY_DIST says where the built page is");
let browser;
let complaints = [];
before(async () => (browser = await launch()));
after(() => browser?.close());

/** Opens a page as `me` (null: nobody), with `some` answers made up otherwise; `prepare` gets the page before it opens. */
export async function look(hash, { me = MARA, some = {}, prepare = () => {}, ...window } = {}) {
  complaints = [];
  const page = await visitor(browser, complaints, { origin: ORIGIN, timezoneId: "Europe/Berlin", ...window });
  await prepare(page);
  const asked = await pretend(page, dist, answers(me, some));
  await page.goto(`${ORIGIN}/${hash}`);
  await page.locator("h1").waitFor();
  return { page, asked };
}

/** Closes the window; fails if the page did what it must not. What contains `expected` was meant to happen. */
export async function done(page, expected) {
  await page.context().close();
  assert.deepEqual(expected ? complaints.filter((each) => !each.includes(expected)) : complaints, []);
}

/** What was asked of the hub by this method at this path. */
export const sent = (asked, method, path) => asked.filter((each) => each.method === method && each.path === path);

export const isFocused = (locator) => locator.evaluate((each) => each === document.activeElement);

/** Tells the page something, as the hub's stream of events does. */
export const event = (page, name, what) => page.evaluate(([name, data]) => window.events.dispatchEvent(new MessageEvent(name, { data })), [name, JSON.stringify(what)]);
