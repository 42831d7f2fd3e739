import assert from "node:assert/strict";
import { test } from "node:test";
import { draftOf, firstError, readDraft } from "../src/components/terms-form.tsx";
import { inWindow, limits, usesOf, whyNot, windowError, windowText } from "../src/terms.ts";
import type { Window } from "../src/types.ts";

const ZONE = "Europe/Berlin";
const at = (text: string) => new Date(text).getTime();
const weekdays: Window = { days: ["mon", "tue", "wed", "thu", "fri"], from: "08:00", to: "18:00" };
const night: Window = { days: ["sat"], from: "22:00", to: "06:00" };

test("windows are said in a few words", () => {
  assert.equal(windowText(weekdays), "Mon–Fri 08:00–18:00");
  assert.equal(windowText({ ...weekdays, days: ["mon", "tue", "fri"] }), "Mon, Tue, Fri 08:00–18:00");
  assert.equal(windowText(night), "Sat 22:00–06:00 the next day");
  assert.equal(windowText({ days: ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], from: "07:00", to: "07:00" }), "every day, the whole day from 07:00");
});

test("a window holds by the clock of the home, not of this browser", () => {
  // A Tuesday in June: Berlin is two hours ahead of UTC.
  assert.equal(inWindow([weekdays], at("2026-06-09T06:00Z"), ZONE), true);
  assert.equal(inWindow([weekdays], at("2026-06-09T05:59Z"), ZONE), false);
  assert.equal(inWindow([weekdays], at("2026-06-09T16:00Z"), ZONE), false, "until is not in it");
  // In January only one hour.
  assert.equal(inWindow([weekdays], at("2026-01-13T06:30Z"), ZONE), false);
  assert.equal(inWindow([weekdays], at("2026-06-13T10:00Z"), ZONE), false, "Saturday");
});

test("a window over midnight belongs to the day it begins on", () => {
  assert.equal(inWindow([night], at("2026-06-13T20:00Z"), ZONE), true, "Saturday at 22:00");
  assert.equal(inWindow([night], at("2026-06-14T03:59Z"), ZONE), true, "Sunday at 05:59");
  assert.equal(inWindow([night], at("2026-06-14T04:00Z"), ZONE), false, "Sunday at 06:00");
  assert.equal(inWindow([night], at("2026-06-13T03:00Z"), ZONE), false, "Saturday at 05:00");
  const whole = { days: ["mon"], from: "09:00", to: "09:00" };
  assert.equal(inWindow([whole], at("2026-06-09T06:59Z"), ZONE), true, "a whole day ends on the next morning");
  assert.equal(inWindow([whole], at("2026-06-09T07:00Z"), ZONE), false);
});

test("why a right does not hold is said in words, and nothing while it does", () => {
  const right = { from: null, until: null, windows: [], uses: null };
  const clock = { zone: ZONE, known: true };
  const now = at("2026-06-13T10:00Z");
  assert.equal(whyNot(right, now, clock), "");
  assert.equal(whyNot(right, now, { ...clock, known: false }), "", "without a time the clock does not matter");
  assert.match(whyNot({ ...right, until: now + 1 }, now, { ...clock, known: false }), /does not know what time it is/);
  assert.match(whyNot({ ...right, until: now }, now, clock), /time is up/);
  assert.match(whyNot({ ...right, from: now + 1 }, now, clock), /not yet/);
  assert.match(whyNot({ ...right, windows: [weekdays] }, now, clock), /outside its times/);
  assert.equal(whyNot({ ...right, windows: [weekdays, night] }, at("2026-06-13T21:00Z"), clock), "");
  assert.match(whyNot({ ...right, uses: 0 }, now, clock), /uses are spent/);
});

test("limits are listed with the words of the device", () => {
  assert.deepEqual(limits({ windows: [weekdays], uses: 3, only: ["open"] }, (name) => name.toUpperCase()), ["Mon–Fri 08:00–18:00", "3 uses left", "only “OPEN”"]);
  assert.deepEqual(limits({ windows: [], uses: 1, only: null }), ["one use left"]);
  assert.deepEqual(limits({}), []);
});

test("what somebody types becomes terms, with what is wrong in words", () => {
  const own = { privilege: "administer", from: null, until: null } as const;
  const now = at("2026-06-13T10:00Z");
  const draft = draftOf(own);
  assert.deepEqual(readDraft(draft, own, now).terms, { privilege: "operate" });
  const full = { ...draft, windows: [weekdays], uses: " 5 ", only: ["open"], begins: "2030-01-01T10:00" };
  assert.deepEqual(readDraft(full, own, now).terms, { privilege: "operate", from: new Date("2030-01-01T10:00").getTime(), windows: [weekdays], uses: 5, only: ["open"] });
  assert.equal(firstError(readDraft({ ...draft, uses: "many" }, own, now)), "uses");
  assert.equal(firstError(readDraft({ ...draft, only: [] }, own, now)), "only");
  assert.equal(firstError(readDraft({ ...draft, windows: [{ ...weekdays, days: [] }] }, own, now)), "windows");
  assert.equal(firstError(readDraft({ ...draft, ending: "hour", begins: "2030-01-01T10:00" }, own, now)), "begins");
  const limited = { ...own, until: now + 1000 };
  assert.equal(firstError(readDraft(draft, limited, now)), "until", "nobody gives for longer than they have");
});

test("uses and windows are checked before anything is sent", () => {
  assert.equal(usesOf(""), null);
  assert.equal(usesOf("12"), 12);
  for (const wrong of ["0", "-1", "1.5", "x", "10001"]) assert.ok(Number.isNaN(usesOf(wrong)), wrong);
  assert.equal(windowError(weekdays), "");
  assert.match(windowError({ ...weekdays, from: "" }), /both times/);
});
