import assert from "node:assert/strict";
import { test } from "node:test";
import { cardReadings, controlOf, formatValue, inputOf, laterCommand, obstacle, quickSwitch, shownValue } from "../src/controls.ts";
import type { Command, Device, Model, Twin } from "../src/types.ts";

const device: Device = {
  id: "d", brand: "b", model: "m", hardware: "1", serial: "1", kind: "lamp", title: "Lamp", trust: "attested", state: "ready",
  online: true, last_seen: 1, name: null, room: null, privilege: "operate", version: 1,
};
const twin = (reported: Twin["reported"], desired: Twin["desired"] = {}, delta: Twin["delta"] = {}): Twin => ({ reported, desired, delta, version: 1 });

test("each type has its control", () => {
  assert.deepEqual(controlOf({ type: "integer", access: "read" }), { kind: "reading" });
  assert.deepEqual(controlOf({ type: "boolean", access: "write" }), { kind: "switch" });
  assert.deepEqual(controlOf({ type: "integer", min: 0, max: 100, access: "write" }), { kind: "slider", min: 0, max: 100, step: 1 });
  assert.deepEqual(controlOf({ type: "number", min: 5, max: 30, step: 0.5, access: "write" }), { kind: "slider", min: 5, max: 30, step: 0.5 });
  assert.deepEqual(controlOf({ type: "number", min: 0, max: 1, access: "write" }), { kind: "slider", min: 0, max: 1, step: 0.01 });
  assert.deepEqual(controlOf({ type: "number", min: 0, access: "write" }), { kind: "number", min: 0, step: "any" });
  assert.deepEqual(controlOf({ type: "string", values: ["a"], access: "write" }), { kind: "select", values: ["a"] });
  assert.deepEqual(controlOf({ type: "string", access: "write" }), { kind: "text", maxLength: 256 });
  assert.deepEqual(inputOf({ type: "integer", min: 1, max: 100, optional: true }), { kind: "slider", min: 1, max: 100, step: 1 });
});

test("what was asked for shows at once, then what the hub desires, then what is reported", () => {
  assert.deepEqual(shownValue("on", twin({ on: false }), true), { value: true, pending: true, reported: false });
  assert.deepEqual(shownValue("on", twin({ on: false }, { on: true }, { on: true })), { value: true, pending: true, reported: false });
  assert.deepEqual(shownValue("on", twin({ on: true }, { on: true })), { value: true, pending: false, reported: true });
  assert.deepEqual(shownValue("on", twin({ on: true }), true), { value: true, pending: false, reported: true });
  // Taken back before the device followed: the latest wish counts, not the one before.
  assert.deepEqual(shownValue("on", twin({ on: false }, { on: true }, { on: true }), false), { value: false, pending: false, reported: false });
  assert.deepEqual(shownValue("on", undefined), { value: undefined, pending: false, reported: undefined });
});

test("what hinders is said: state, privilege, connection", () => {
  const lamp = { type: "boolean", access: "write" } as const;
  const door = { critical: true };
  assert.equal(obstacle(device, lamp, false), null);
  assert.match(obstacle({ ...device, privilege: "view" }, lamp, false) ?? "", /may see this device, not use it/);
  assert.match(obstacle(device, door, true) ?? "", /may use this device, but not what is critical/);
  assert.match(obstacle({ ...device, privilege: "view" }, door, true) ?? "", /not use it/);
  assert.match(obstacle({ ...device, state: "suspended" }, lamp, false) ?? "", /suspended/);
  assert.match(obstacle({ ...device, state: "quarantined" }, lamp, false) ?? "", /quarantined/);
  assert.equal(obstacle({ ...device, state: "quarantined", warning: "two things act as it" }, lamp, false), null, "an owner goes on, and is warned");
  const away = { ...device, online: false, privilege: "manage" as const };
  assert.equal(obstacle(away, lamp, false), null);
  assert.match(obstacle(away, { ...lamp, critical: true }, false) ?? "", /offline/);
  assert.match(obstacle(away, {}, true) ?? "", /offline/);
});

test("values read well", () => {
  assert.equal(formatValue({ type: "number", unit: "°C", step: 0.5 }, 21), "21.0\u00a0°C");
  assert.equal(formatValue({ type: "integer", unit: "%" }, 40), "40\u00a0%");
  assert.equal(formatValue({ type: "boolean", access: "write" }, true), "On");
  assert.equal(formatValue({ type: "boolean", access: "read" }, false), "No");
  assert.equal(formatValue({ type: "string", values: ["half_open"] }, "half_open"), "Half open");
  assert.equal(formatValue({ type: "string" }, undefined), "–");
});

test("a card tells readings first and never offers a critical switch", () => {
  const model: Model = { model: "m", version: 1, kind: "k", attributes: {
    on: { type: "boolean", access: "write" }, level: { type: "integer", access: "write", unit: "%" }, power: { type: "number", access: "read", unit: "W", title: "Power" },
  } };
  assert.equal(quickSwitch(model), "on");
  assert.deepEqual(cardReadings(model, twin({ on: true, level: 30, power: 4.5 })), [{ label: "Power", text: "4.5\u00a0W" }, { label: "Level", text: "30\u00a0%" }]);
  assert.equal(quickSwitch({ ...model, attributes: { on: { type: "boolean", access: "write", critical: true } } }), null);
});

test("news of a command that are older than what is known are dropped", () => {
  const at = (status: Command["status"]) => ({ id: "c", status }) as Command;
  const done = at("done");
  assert.equal(laterCommand(done, at("running")), done);
  assert.equal(laterCommand(at("sent"), done), done);
});
