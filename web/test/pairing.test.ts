import assert from "node:assert/strict";
import { test } from "node:test";
import { toBegin, type Draft } from "../src/add-draft.ts";
import { isOver, passphraseError, progressOf, queueWords, radioServes, radioWords, safeAddress, sentShare, signalWords, ssidError, standing, thingWords, wifiToGive } from "../src/pairing.ts";
import { pairings, signedOut, takePairing } from "../src/store.ts";
import type { NearbyThing, Pairing, PairingStep, RadioState } from "../src/types.ts";

const pairing = (step: PairingStep, some: Partial<Pairing> = {}): Pairing => ({
  id: "p", kind: "hearthkey", step, position: null, device_id: null, name: null, room: null, trust: null, sent: null, total: null,
  problem: null, result_url: null, encrypted: true, started: 0, updated: 0, ...some,
});
const states = (given: Pairing, reached?: PairingStep) => progressOf(given, reached).map(({ step, state }) => `${step}:${state}`);

test("the steps behind, the present one and those to come are told apart", () => {
  assert.deepEqual(states(pairing("proving")), ["searching:past", "connecting:past", "proving:now", "sending:todo", "joining:todo", "waiting:todo", "done:todo"]);
  assert.ok(states(pairing("queued")).every((each) => each.endsWith(":todo")));
  assert.ok(states(pairing("done")).every((each) => each.endsWith(":past")));
});

test("a confirmation is a step of those that need one only", () => {
  assert.ok(!states(pairing("sending")).some((each) => each.startsWith("confirming")));
  assert.ok(states(pairing("confirming")).includes("confirming:now"));
  assert.ok(states(pairing("sending", { trust: "provisional" })).includes("confirming:past"));
});

test("what failed shows where it failed, and nothing after it as done", () => {
  const failed = states(pairing("failed"), "joining");
  assert.ok(failed.includes("joining:failed"));
  assert.deepEqual(failed.slice(-2), ["waiting:todo", "done:todo"]);
  assert.ok(states(pairing("failed")).every((each) => each.endsWith(":todo")), "it may not be known how far it came");
});

test("Improv has steps of its own", () => {
  const steps = states(pairing("sending", { kind: "improv" }));
  assert.deepEqual(steps, ["searching:past", "connecting:past", "sending:now", "joining:todo", "done:todo"]);
  assert.match(progressOf(pairing("sending", { kind: "improv" }))[2]?.text ?? "", /unencrypted/);
  assert.match(progressOf(pairing("proving", { kind: "improv" }))[2]?.hint ?? "", /button/);
});

test("every step has a sentence for a screen reader", () => {
  const steps: PairingStep[] = ["queued", "searching", "connecting", "proving", "confirming", "sending", "joining", "waiting", "done", "failed", "cancelled"];
  for (const kind of ["hearthkey", "improv"] as const)
    for (const step of steps) assert.match(standing(pairing(step, { kind })), /^[A-Z].{3,}\.$/, `${kind} ${step}`);
  assert.deepEqual(steps.filter((step) => isOver(pairing(step))), ["done", "failed", "cancelled"]);
  assert.match(queueWords(3), /Number 3/);
  assert.match(queueWords(1), /next/);
  assert.match(queueWords(null), /one device at a time/);
});

test("each state of the radio says what to do, in the hub's words where it has some", () => {
  for (const state of ["disabled", "absent", "off", "blocked", "starting"] satisfies RadioState[]) {
    const words = radioWords({ state, message: "", next: "" });
    assert.ok(words?.message && words.next, state);
    assert.equal(radioServes({ state }), state === "starting");
  }
  assert.equal(radioWords({ state: "ready", message: "", next: "" }), null);
  assert.equal(radioWords({ state: "off", message: "It is off.", next: "Switch it on." })?.next, "Switch it on.");
  assert.equal(radioServes(null), true, "what is not known yet hinders nobody");
});

test("signals and things have words", () => {
  assert.deepEqual([-40, -60, -61, -78, -79].map((dbm) => signalWords(dbm).split(" ")[0]), ["Strong", "Strong", "Good", "Good", "Weak"]);
  assert.equal(signalWords(null), "");
  for (const kind of ["hearthkey", "improv", "network"] as const)
    for (const state of ["open", "claimed", "closed", "unknown"] as const) assert.ok(thingWords({ kind, state }).means);
});

test("a Wi-Fi is bounded in bytes, as the air has it", () => {
  const given = { use: "given" as const, ssid: "Home", passphrase: "" };
  assert.deepEqual([ssidError(given), passphraseError(given)], ["", ""], "an open Wi-Fi has no passphrase");
  assert.ok(ssidError({ ...given, ssid: "" }));
  assert.equal(ssidError({ ...given, ssid: "é".repeat(16) }), "");
  assert.ok(ssidError({ ...given, ssid: "é".repeat(17) }));
  assert.ok(passphraseError({ ...given, passphrase: "1234567" }));
  assert.equal(passphraseError({ ...given, passphrase: "é".repeat(4) }), "");
  assert.ok(passphraseError({ ...given, passphrase: "x".repeat(65) }));
  assert.equal(ssidError({ ...given, use: "none", ssid: "" }), "");
  assert.deepEqual(wifiToGive({ ...given, use: "system", passphrase: "secret" }), { use: "system" }, "what is not used is not sent");
});

test("a code goes with what was typed, and a thing without a label with its place in the list alone", () => {
  const thing: NearbyThing = { id: "n2", kind: "improv", name: "Sensor", signal: -70, state: "unknown", seen: 0 };
  const draft: Draft = { code: { text: "ABC", deviceId: "d-1" }, thing: null, name: " Door ", room: " ", wifi: { use: "none", ssid: "", passphrase: "" }, pairing: null };
  assert.deepEqual(toBegin(draft), { code: "ABC", device_id: "d-1", name: "Door", wifi: { use: "none" } });
  assert.deepEqual(toBegin({ ...draft, thing }), { nearby: "n2", wifi: { use: "none" } });
});

test("only what a browser should open becomes a link", () => {
  assert.equal(safeAddress("http://192.0.2.44/x"), "http://192.0.2.44/x");
  for (const bad of [null, "", "javascript:alert(1)", "data:text/html,x", "not an address"]) assert.equal(safeAddress(bad), null, String(bad));
});

test("how much is sent is told once it is known", () => {
  assert.equal(sentShare(pairing("sending")), null);
  assert.equal(sentShare(pairing("sending", { sent: 5, total: 0 })), null);
  assert.equal(sentShare(pairing("sending", { sent: 612, total: 1530 })), 40);
});

test("what is told late changes nothing, an end is final, and how far it came is kept", () => {
  signedOut();
  takePairing(pairing("joining", { updated: 5 }));
  takePairing(pairing("sending", { updated: 4 }));
  assert.equal(pairings.value.get("p")?.step, "joining");
  takePairing(pairing("failed", { updated: 6 }));
  assert.deepEqual([pairings.value.get("p")?.step, pairings.value.get("p")?.reached], ["failed", "joining"]);
  takePairing(pairing("waiting", { updated: 7 }));
  assert.equal(pairings.value.get("p")?.step, "failed");
  signedOut();
  assert.equal(pairings.value.size, 0);
});
