import assert from "node:assert/strict";
import { test } from "node:test";
import { fingerprintError, formatFingerprint } from "../src/fingerprint.ts";
import { passwordError } from "../src/components/password.ts";
import { parseRoute } from "../src/route.ts";

test("an address leads to its page", () => {
  assert.equal(parseRoute("").page, "devices");
  assert.deepEqual([parseRoute("#/device/a%20b").page, parseRoute("#/device/a%20b").id], ["device", "a b"]);
  assert.equal(parseRoute("#/claim?device=x-1").query.get("device"), "x-1");
  assert.equal(parseRoute("#/device/%zz").id, "%zz");
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
