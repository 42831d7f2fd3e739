import assert from "node:assert/strict";
import { test } from "node:test";
import { fingerprintError, formatFingerprint } from "../src/fingerprint.ts";
import { passwordError } from "../src/components/password.ts";
import { followHash, givenCode, parseRoute, route } from "../src/route.ts";

test("an address leads to its page", () => {
  assert.equal(parseRoute("").page, "devices");
  assert.deepEqual([parseRoute("#/device/a%20b").page, parseRoute("#/device/a%20b").id], ["device", "a b"]);
  assert.equal(parseRoute("#/claim?device=x-1").query.get("device"), "x-1");
  assert.equal(parseRoute("#/device/%zz").id, "%zz");
  assert.equal(parseRoute("#/consent?redirect_uri=https://a.example/x?y=1&state=s").query.get("redirect_uri"), "https://a.example/x?y=1", "a second question mark belongs to what it stands in");
});

test("passwords are bounded in characters, not in bytes", () => {
  assert.equal(passwordError("🔑".repeat(8)), "");
  assert.match(passwordError("1234567"), /1 more character needed/);
  assert.match(passwordError("x".repeat(257)), /1 characters? too many/);
});

test("a fingerprint is grouped by four and checked for its alphabet and length", () => {
  const text = "abcd efgh ijkl mnop qrst uvwx yz23 4567";
  assert.equal(formatFingerprint(text), "ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YZ23-4567");
  assert.equal(fingerprintError(text), "");
  assert.match(fingerprintError("ABC1"), /“1”/);
  assert.match(fingerprintError("ABCD"), /these are 4/);
});

test("a code that came in an address is kept in memory and taken out of the address at once", () => {
  const replaced: string[] = [];
  const fake = { location: { hash: "#/join/0123-4567" }, history: { replaceState: (_: unknown, __: string, to: string) => replaced.push(to) }, window: { addEventListener: (_: string, heard: () => void) => (arrive = heard) } };
  let arrive = () => {};
  Object.assign(globalThis, fake);
  followHash();
  assert.deepEqual([givenCode.value, route.value.page, route.value.id, ...replaced], ["0123-4567", "join", "", "#/join"]);
  fake.location.hash = "#/join";
  arrive();
  assert.equal(givenCode.value, "0123-4567", "the page stays as it is");
  fake.location.hash = "#/settings";
  arrive();
  assert.equal(givenCode.value, "", "leaving the page forgets it");
  fake.location.hash = "#/device/door-1";
  arrive();
  assert.deepEqual([givenCode.value, route.value.id, replaced.length], ["", "door-1", 1], "other addresses stay as they are");
});
