import assert from "node:assert/strict";
import { test } from "node:test";
import { calledOf, ENDINGS, endOf, giver, isLastAdministrator, kindOf, lasting, localTime, mayClaim, mayGive, PRIVILEGES, RIGHTS, type Ending } from "../src/rights.ts";
import type { Binding, User } from "../src/types.ts";

const MARA = "1f".repeat(16);
const TOM = "2e".repeat(16);
const HOUR = 3_600_000;
/** 14:30 in the time of this place, whichever it is. */
const NOW = new Date(2026, 4, 12, 14, 30, 15).getTime();
const right = (some: Partial<Binding> = {}): Binding => ({ device_id: "door-1", subject: `user:${some.user ?? TOM}`, user: TOM, username: "tom", name: "tom", privilege: "operate", only: null, from: null, until: null, windows: [], uses: null, granted_by: `user:${MARA}`, granted_by_name: "mara", granted_at: 1, ...some });

test("each right is said in plain words, from seeing to administering", () => {
  assert.deepEqual(PRIVILEGES, ["view", "operate", "manage", "administer"]);
  assert.deepEqual(PRIVILEGES.map((each) => RIGHTS[each].does), ["sees it", "uses it", "uses it, also what is critical", "administers it"]);
  for (const each of PRIVILEGES) {
    assert.match(RIGHTS[each].means, /^They .*\.$/);
    assert.doesNotMatch(Object.values(RIGHTS[each]).join(" "), /privilege|binding|operate|manage\b/);
  }
});

test("nobody is offered to give more than they have", () => {
  assert.deepEqual(mayGive("administer"), PRIVILEGES);
  assert.deepEqual(mayGive("operate"), ["view", "operate"]);
});

test("a quick choice becomes the time it means", () => {
  assert.equal(endOf("good", NOW), null);
  assert.equal(endOf("hour", NOW), NOW + HOUR);
  assert.equal(endOf("today", NOW), new Date(2026, 4, 13).getTime(), "to the midnight that comes");
  assert.equal(endOf("week", NOW), new Date(2026, 4, 19, 14, 30, 15).getTime());
  // Over both changes of the clocks of most places, the time of day stays.
  for (const month of [2, 9]) {
    const before = new Date(2026, month, 25, 9, 0).getTime();
    assert.equal(new Date(endOf("week", before) ?? 0).getHours(), 9);
  }
  for (const each of Object.keys(ENDINGS) as Ending[]) assert.ok((endOf(each, NOW, "2026-05-12T14:31") ?? Infinity) > NOW, each);
});

test("a time that was typed is a time of this place, still to come", () => {
  assert.equal(endOf("until", NOW, "2026-05-12T18:05"), new Date(2026, 4, 12, 18, 5).getTime());
  for (const wrong of ["", "2026-05-12T14:30", "2020-01-01T00:00", "soon"]) assert.ok(Number.isNaN(endOf("until", NOW, wrong)), wrong);
  const round = new Date(2026, 0, 2, 3, 4).getTime();
  assert.equal(localTime(round), "2026-01-02T03:04");
  assert.equal(endOf("until", round - 1, localTime(round)), round);
});

test("how long a right lasts: the time today, the day on other days", () => {
  assert.equal(lasting(right(), NOW), "for good");
  assert.match(lasting(right({ until: NOW + HOUR }), NOW), /^until (15:30|3:30.PM)$/);
  assert.match(lasting(right({ until: NOW + 48 * HOUR }), NOW), /^until .*14.*2026/);
  assert.match(lasting(right({ until: NOW - HOUR }), NOW), /^ended /);
  assert.match(lasting(right({ from: NOW + HOUR }), NOW), /^from (15:30|3:30.PM), for good$/);
  assert.equal(lasting(right({ from: NOW - HOUR }), NOW), "for good");
});

test("who gave it is said by name, where there is one to say", () => {
  const people: User[] = [{ id: MARA, username: "mara", display_name: "Mara Lind", role: "owner" }];
  assert.equal(giver(right(), people, TOM), "given by Mara Lind");
  assert.equal(giver(right(), [], TOM), "given by mara");
  assert.equal(giver(right({ granted_by_name: "" }), [], TOM), "", "never an id");
  assert.equal(giver(right(), people, MARA), "given by you");
  assert.equal(giver(right({ granted_by: "claim" }), people, TOM), "claimed with the code on its label");
  assert.equal(giver(right({ granted_by: `user:${TOM}` }), people, TOM), "taken by you");
  assert.equal(giver(right({ granted_by: `user:${TOM}` }), people, MARA), "taken as an owner of this hub");
});

test("whoever holds a right has a name, and things are told from people", () => {
  const people: User[] = [{ id: TOM, username: "tom", display_name: "Tom Sand", role: "guest" }];
  assert.equal(calledOf(right(), people), "Tom Sand");
  assert.equal(calledOf(right(), []), "tom");
  const remote = right({ subject: "device:r-1", user: null, username: null, name: "Remote" });
  assert.equal(calledOf(remote, people), "Remote");
  assert.deepEqual(["device:r-1", "app:1", "service:1", "user:1"].map(kindOf), ["device", "app", "service", ""]);
  assert.equal(isLastAdministrator([right({ user: MARA, privilege: "administer" }), { ...remote, privilege: "administer" }], MARA), true, "a thing is nobody who could be asked");
});

test("owners and members claim and link apps; guests and a maker's people do not", () => {
  assert.deepEqual((["owner", "member", "guest", "developer", "product_manager", "support"] as const).map((role) => mayClaim({ role })), [true, true, false, false, false, false]);
  assert.equal(mayClaim(null), false);
});

test("the last who administers for good is known", () => {
  const mara = right({ user: MARA, privilege: "administer" });
  assert.equal(isLastAdministrator([mara, right()], MARA), true);
  assert.equal(isLastAdministrator([mara, right()], TOM), false);
  assert.equal(isLastAdministrator([mara, right({ privilege: "administer" })], MARA), false);
  assert.equal(isLastAdministrator([mara, right({ privilege: "administer", until: NOW })], MARA), true, "one whose time is up does not count");
  assert.equal(isLastAdministrator([right()], TOM), false);
});
