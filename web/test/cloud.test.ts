import assert from "node:assert/strict";
import { test } from "node:test";
import { markOf, spanWords } from "../src/cloud-mark.ts";
import { addressError, AT_FIRST, bulletinIn, bulletinOf, cloudAddress, COMES_IN, CONSENTS, consentToSend, copyWords, endOfCode, inFours, LEAVES, pendingWords, retryWords, sameSymbols, staleWords, standing, successWords } from "../src/cloud-words.ts";
import { sizeWords } from "../src/sizes.ts";
import type { CloudState, Consent } from "../src/types.ts";

const NOW = 1_800_000_000_000;
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

test("nothing may come from outside unless somebody chooses it, and what is critical goes with nothing else alone", () => {
  assert.deepEqual(AT_FIRST, ["devices", "bundle"]);
  assert.deepEqual(AT_FIRST.filter((each) => COMES_IN.includes(each)), []);
  assert.deepEqual([...LEAVES, ...COMES_IN].sort(), (Object.keys(CONSENTS) as Consent[]).sort(), "each consent has its sentence and its place");
  for (const { label, means } of Object.values(CONSENTS)) assert.ok(label && /^[A-Z].*\.$/.test(means), means);
  assert.deepEqual(consentToSend(["critical", "devices"]), ["devices"]);
  assert.deepEqual(consentToSend(["critical", "requests", "bundle"]), ["bundle", "requests", "critical"]);
});

test("an address is one of https, and whoever leaves that out means it", () => {
  assert.equal(cloudAddress(" cloud.example/eu "), "https://cloud.example/eu");
  assert.equal(cloudAddress("https://cloud.example"), "https://cloud.example");
  assert.equal(addressError("cloud.example:8443"), "");
  assert.match(addressError(""), /Type/);
  assert.match(addressError("http://cloud.example"), /https/);
  for (const wrong of ["ftp://cloud.example", "https://", "two words", "https://me@cloud.example"]) assert.match(addressError(wrong), /not the address/, wrong);
});

test("a fingerprint stands in groups of four", () => {
  assert.equal(inFours("3f9a01c277de4b10"), "3f9a 01c2 77de 4b10");
  assert.equal(inFours("3F9A-01C2"), "3F9A 01C2");
});

test("spans, sizes and what waits are told in words", () => {
  assert.deepEqual([0, 59_999, 60_000, 3 * HOUR + 5, 2 * DAY].map(spanWords), ["less than a minute", "less than a minute", "1 minute", "3 hours", "2 days"]);
  assert.deepEqual([12, 41_200, 2_450_000].map(sizeWords), ["1 kB", "41 kB", "2.5 MB"]);
  assert.equal(pendingWords({}), "Nothing");
  assert.equal(pendingWords({ rows: 1 }), "1 change");
  assert.equal(pendingWords({ rows: 3, marks: 1, audit: 1200, bundle: true }), "1 revocation, 3 changes, 1,200 entries of the activity and the recovery copy");
  assert.equal(successWords(null, NOW), "Not yet");
  assert.equal(successWords(NOW - 5 * 60_000, NOW), "5 minutes ago");
  assert.equal(retryWords(NOW + 4 * 60_000, NOW), "It tries again in 4 minutes.");
  assert.equal(retryWords(NOW - 1, NOW), "");
});

test("how the recovery copy stands is told with what follows by itself and what does not", () => {
  const bundle = { at: NOW - 2 * HOUR, bytes: 41_200 };
  assert.equal(copyWords({ made_at: null, bundle: null }, true, NOW), "it needs a recovery code");
  assert.match(copyWords({ made_at: 1, bundle: null }, true, NOW), /follows by itself/);
  assert.equal(copyWords({ made_at: 1, bundle: null }, false, NOW), "there is none");
  assert.equal(copyWords({ made_at: 1, bundle: { ...bundle, up_to_date: true } }, true, NOW), "made 2 hours ago, 41 kB");
  assert.match(copyWords({ made_at: 1, bundle: { ...bundle, up_to_date: false, without_waiting: true } }, true, NOW), /newer one follows by itself, without devices/);
});

test("knowledge that is old says which rights rest, and that those of the house do not", () => {
  assert.equal(staleWords(23 * HOUR), "");
  assert.match(staleWords(25 * HOUR), /critical.*Rights given at home hold/);
  assert.match(staleWords(8 * DAY), /only look.*Rights given at home hold/);
});

test("each way to fail is told with what to do, in the hub's words where it has some", () => {
  for (const code of ["unreachable", "portal", "intercepted", "proxy", "signature", "wrong_region", "refused", "clock", "stale", "something_new"]) {
    const { tone, title, next } = standing({ phase: "failing", problem: { code } });
    assert.equal(tone, "bad");
    assert.ok(/\.$/.test(title) && /\.$/.test(next), code);
  }
  assert.equal(standing({ phase: "failing", problem: { code: "portal", detail: "302 to login.example", next: "Accept the terms." } }).next, "Accept the terms.");
  assert.equal(standing({ phase: "waiting", problem: { code: "unreachable" } }).tone, "warn", "one failure is no alarm");
  assert.equal(standing({ phase: "idle" }).tone, "good");
  assert.equal(standing({ phase: "syncing" }).tone, "good");
  assert.equal(standing({ phase: "retired" }).tone, "bad");
  for (const phase of ["off", "linking", "waiting", "failing"] as const) assert.notEqual(standing({ phase }).tone, "good", phase);
});

test("pages carry a mark only when the cloud has been out of reach for long, or the hub is replaced", () => {
  const failing: CloudState = { linked: true, state: { phase: "failing", problem: { code: "unreachable" } }, last_success: NOW - 2 * DAY };
  assert.deepEqual(markOf(failing, false, NOW), { tone: "warn", text: "No word from the cloud for 2 days" });
  assert.equal(markOf({ ...failing, last_success: NOW - HOUR }, false, NOW), null);
  assert.equal(markOf({ ...failing, state: { phase: "idle" } }, false, NOW), null, "a hub that was off and is back has nothing to say");
  assert.match(markOf({ ...failing, last_success: null }, false, NOW)?.text ?? "", /No word from the cloud yet/);
  assert.equal(markOf({ linked: false }, false, NOW), null);
  assert.equal(markOf(null, false, NOW), null);
  assert.match(markOf({ linked: false }, false, NOW, true)?.text ?? "", /Rights rest/);
  assert.equal(markOf(null, true, NOW, true)?.tone, "bad");
  assert.equal(markOf({ linked: true, retired: true }, false, NOW)?.tone, "bad");
});

test("the end of a code is asked for, and taken as people write it", () => {
  assert.deepEqual(endOfCode("0123-4567-89AB"), { text: "89AB", asked: "the last group" });
  assert.deepEqual(endOfCode("0123-4567-89AB-Z"), { text: "89AB-Z", asked: "the last two groups" });
  assert.ok(sameSymbols("89ab z", "89AB-Z"));
  assert.ok(sameSymbols("o1l1", "0111"));
  assert.ok(!sameSymbols("89A8", "89AB"));
  assert.ok(!sameSymbols(" ", ""));
});

test("a bulletin is found in what was pasted, and in a file of either form", () => {
  const bytes = Uint8Array.from({ length: 90 }, (_, at) => (at * 37 + 210) % 256);
  const text = Buffer.from(bytes).toString("base64url");
  assert.equal(bulletinIn(` ${text.slice(0, 50)}\n${text.slice(50)} `), text);
  assert.equal(bulletinIn(Buffer.from(bytes).toString("base64")), text, "as other tools write it");
  assert.equal(bulletinIn("hello"), "");
  assert.equal(bulletinOf(bytes), text);
  assert.equal(bulletinOf(new TextEncoder().encode(`${text}\n`)), text);
  assert.equal(bulletinOf(new Uint8Array()), "");
  assert.equal(bulletinOf(new Uint8Array(2 ** 20 + 1)), "");
});
