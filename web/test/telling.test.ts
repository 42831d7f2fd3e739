import assert from "node:assert/strict";
import { test } from "node:test";
import { plainText, tell } from "../src/audit/telling.ts";
import { ACTS } from "../src/audit/acts.ts";
import type { Known } from "../src/audit/names.ts";
import type { AuditEntry, Device } from "../src/types.ts";

const MARA = "1f".repeat(16);
const known: Known = {
  people: [
    { id: MARA, username: "mara", display_name: "Mara", role: "owner" },
    { id: "2e".repeat(16), username: "tom", display_name: null, role: "guest" },
  ],
  devices: new Map([["door-1", { id: "door-1", brand: "acme", model: "gate", name: "Garage", title: "Garage door" } as Device]]),
  models: new Map([["acme/gate", { model: "gate", version: 1, kind: "door", attributes: { auto_close: { type: "boolean", title: "Close by itself" } }, commands: { open: { title: "Open" } } }]]),
};
const entry = (action: string, some: Partial<AuditEntry> = {}): AuditEntry => ({ seq: 1, at: 1, actor: `user:${MARA}`, action, object: "door-1", outcome: "done", reason: "", detail: "", via: "https 10.0.0.1", ...some });
const says = (action: string, some: Partial<AuditEntry> = {}) => plainText(tell(entry(action, some), known).parts);
const why = (action: string, some: Partial<AuditEntry> = {}) => tell(entry(action, some), known).why;

test("people and devices have their names, the hub and its console theirs", () => {
  assert.equal(says("device.claim"), "Mara claimed Garage.");
  assert.equal(says("device.suspend", { actor: `user:${"2e".repeat(16)}` }), "tom suspended Garage.");
  assert.equal(says("device.suspend", { actor: `user:${"00".repeat(16)}` }), "Somebody suspended Garage.");
  assert.equal(says("registry.import", { actor: "user:console", object: "acme" }), "The box itself imported devices of acme.");
  assert.equal(says("registry.import", { actor: "console", object: "acme" }), "The box itself imported devices of acme.");
  assert.equal(says("device.remove", { object: "lamp-9" }), "Mara removed lamp-9.");
  assert.deepEqual(tell(entry("device.resume"), known).parts, [{ name: "Mara" }, " let ", { name: "Garage", device: "door-1" }, " in again."]);
});

test("no sentence shows an id where a name is known, whatever the act", () => {
  const acts = ["hub.setup", "session.open", "session.end", "user.add", "device.claim", "claim.complete", "device.change", "device.suspend", "device.resume", "device.remove", "certificate.issue", "command.send", "command.end", "twin.desire", "twin.delete", "twin.moment_over", "registry.voucher", "device.rebase", "something.new"];
  for (const act of acts) {
    const actor = act === "claim.complete" || act === "command.end" ? "device:door-1" : `user:${MARA}`;
    const object = act === "user.add" ? MARA : act.startsWith("session") || act === "hub.setup" ? "hub" : "door-1";
    const text = says(act, { actor, object, detail: "open 0190-id" });
    assert.doesNotMatch(text, /1f1f|user:|device:/, act);
    if (act !== "something.new") assert.doesNotMatch(text, /0190-id|[a-z]\.[a-z]/, act);
  }
});

test("a person's comings and goings", () => {
  assert.equal(says("hub.setup", { object: "hub" }), "Mara set up this hub and became its owner.");
  assert.equal(says("hub.setup", { actor: "?", outcome: "denied", reason: "wrong_code" }), "Somebody tried to set up this hub.");
  assert.equal(says("session.open", { actor: "?mara", outcome: "denied", reason: "wrong_password" }), "Somebody tried to sign in as “mara”.");
  assert.match(why("session.open", { actor: "?mara", outcome: "denied", reason: "wrong_password" }), /password was not right/);
  assert.equal(says("session.open"), "Mara signed in.");
  assert.equal(says("session.end"), "Mara signed out.");
  assert.equal(says("user.add", { object: "2e".repeat(16), detail: "tom as Guest" }), "Mara added tom as a guest.");
  assert.equal(says("user.add", { object: "77", detail: "ida as Owner" }), "Mara added ida as an owner.");
});

test("a device that is kept out is told with the reason, and is not called the device before it has proved it", () => {
  const denied = { outcome: "denied", detail: "" } as const;
  assert.equal(says("device.sign_in", { ...denied, actor: "?door-1", reason: "wrong_tag" }), "Something that calls itself “Garage” was kept out.");
  assert.equal(says("device.sign_in", { ...denied, actor: "device:door-1", reason: "suspended" }), "Garage was kept out.");
  for (const reason of ["wrong_tag", "wrong_credential", "replayed_token", "unknown_identity", "unknown_certificate", "malformed_id", "no_credential", "no_session", "suspended", "quarantined"])
    assert.match(why("device.sign_in", { ...denied, actor: "?x", reason }), /^[A-Z].+\.$/, reason);
  assert.match(why("device.sign_in", { ...denied, actor: "?x", reason: "wrong_tag", detail: "(50 more like it in the minute before)" }), /50 more times in the minute before\.$/);
  assert.equal(says("device.rebase", { actor: "device:door-1", outcome: "allowed" }), "Garage signed in with an old counter, and was asked to prove itself.");
  assert.match(says("device.rebase", { actor: "device:door-1", outcome: "done" }), /^Garage proved itself/);
  assert.match(says("topic.publish", { ...denied, actor: "device:door-1", object: "hk/d/x/up/state", reason: "not_its_topic" }), /^Garage tried to write to a topic that is not its own: hk\/d\/x/);
  assert.match(says("topic.subscribe", { ...denied, actor: "device:door-1", object: "#" }), /^Garage tried to listen/);
});

test("commands and wishes are told in the words of the device's model", () => {
  assert.equal(says("command.send", { detail: "open 0190-id" }), "Mara told Garage to “Open”.");
  const end = { actor: "device:door-1", detail: "open 0190-id the way is blocked" };
  assert.equal(says("command.end", { ...end, reason: "done" }), "Garage finished “Open”.");
  assert.equal(says("command.end", { ...end, reason: "failed" }), "Garage could not “Open”.");
  assert.equal(why("command.end", { ...end, reason: "failed" }), "It says: the way is blocked.");
  assert.equal(says("command.end", { ...end, actor: "hub", reason: "expired" }), "Garage did not answer to “Open” in time.");
  assert.equal(says("twin.desire", { detail: "auto_close light" }), "Mara set “Close by itself” and “Light” of Garage.");
  assert.equal(says("twin.delete", { actor: "device:door-1" }), "Garage erased its state.");
  assert.equal(says("twin.moment_over", { actor: "hub", detail: "auto_close" }), "The wish for “Close by itself” of Garage has ended.");
});

test("what makers bring is counted", () => {
  assert.equal(why("registry.import", { object: "acme", detail: "batch b1: 3 new, 1 known" }), "3 new, 1 known before.");
  assert.equal(why("registry.import", { object: "acme", detail: "batch b1: 3 new, 0 known" }), "3 new.");
  assert.equal(says("brand.trust", { object: "acme", detail: "ABCD" }), "Mara decided to trust the brand acme.");
});

test("an act without a sentence, and a name that objects have by nature, are told by their own words", () => {
  assert.equal(says("weather.change", { object: "sky" }), "Mara: weather.change sky");
  assert.equal(says("constructor", { object: "sky" }), "Mara: constructor sky");
});

test("sharing: who gave what to whom, and who took it", () => {
  const tom = `user:${"2e".repeat(16)}`;
  assert.equal(says("binding.grant", { detail: `operate to ${tom}` }), "Mara shared Garage with tom.");
  assert.equal(why("binding.grant", { detail: `manage to ${tom}` }), "tom uses it, also what is critical.");
  assert.equal(says("binding.grant", { detail: `view to user:${"00".repeat(16)}` }), "Mara shared Garage with somebody.");
  assert.equal(says("binding.revoke", { detail: tom }), "Mara took away the right of tom to Garage.");
  assert.equal(says("binding.leave", { actor: tom, detail: tom }), "tom gave up their right to Garage.");
  assert.equal(says("binding.take", { detail: "administer" }), "Mara took the administration of Garage.");
});

test("an account ends, a password changes", () => {
  const ended = { object: "2e".repeat(16), detail: "tom; 2 rights it had given ended with it" };
  assert.equal(says("user.end", ended), "Mara ended the account of tom.");
  assert.match(why("user.end", ended), /^2 rights/);
  assert.equal(why("user.end", { ...ended, detail: "tom; 0 rights it had given ended with it" }), "");
  assert.equal(says("password.change", { object: MARA, detail: "other sessions ended" }), "Mara changed their password.");
  assert.equal(says("password.change", { object: MARA, outcome: "denied", reason: "wrong_password" }), "Mara tried to change their password.");
});

test("what an app did is told with the app and the person behind it", () => {
  const others = { "app:a1": "Solar logger", "service:s1": "Backup" };
  const told = tell(entry("command.send", { actor: "app:a1", behalf: `user:${MARA}`, detail: "open 0190-id" }), { ...known, others });
  assert.equal(plainText(told.parts), "Solar logger told Garage to “Open”.");
  assert.equal(told.why, "It acted for Mara.");
  assert.equal(says("command.send", { actor: "app:a1", detail: "open 0190-id" }), "An app told Garage to “Open”.", "never an id");
  assert.equal(plainText(tell(entry("service.sign_in", { actor: "service:s1", object: "hub" }), { ...known, others }).parts), "Backup signed in.");
});

test("an entry whose personal part was erased says so", () => {
  assert.match(why("device.claim", { erased: true }), /has been erased\.$/);
  assert.equal(says("binding.grant", { erased: true, detail: "" }), "Mara shared Garage.");
  assert.equal(says("binding.revoke", { erased: true, detail: "" }), "Mara took away the right of somebody to Garage.");
  assert.equal(says("session.open", { actor: "?", outcome: "denied", erased: true }), "Somebody tried to sign in.");
});

test("what is done about access is told with names, never with ids", () => {
  const tom = "2e".repeat(16);
  const others = { "service:s1": "Backup", "app:a1": "Solar logger" };
  const told = (action: string, some: Partial<AuditEntry>) => tell(entry(action, some), { ...known, others });
  const text = (action: string, some: Partial<AuditEntry>) => plainText(told(action, some).parts);
  assert.equal(text("support.open", { object: `user:${tom}`, detail: `Operate for user:${tom} on door-1 lamp-9, 60 min: it stops half way.` }), "Mara opened a support session for tom.");
  assert.equal(told("support.open", { detail: `Operate for user:${tom} on door-1 lamp-9, 60 min: it stops half way.` }).why, "Uses it: Garage, lamp-9, for 60 minutes. Reason: it stops half way.");
  assert.equal(text("device.transfer", { detail: `to user:${tom}; 2 rights` }), "Mara handed Garage over to tom.");
  assert.equal(text("device.replace", { object: "lamp-9", detail: "by door-1, with 3 rights" }), "Mara replaced lamp-9 by Garage.");
  assert.equal(text("service.change", { object: "service:s1", detail: "Backup from 192.0.2.0/24" }), "Mara changed the service Backup.");
  assert.equal(text("service.end", { object: "service:s2", detail: "" }), "Mara ended the service that nobody remembers.");
  assert.equal(text("app.consent", { object: "c1", detail: "Calendar: view on door-1, until 5" }), "Mara let Calendar act for them.");
  assert.equal(text("app.end", { object: "app:a1", detail: "Solar logger" }), "Mara ended Solar logger.");
  assert.equal(told("app.end", { object: "app:a9", detail: "by its own token" }).why, "By its own token.");
  assert.equal(text("service.sign_in", { actor: "?service:s1", object: "hub", outcome: "denied" }), "Something that calls itself “Backup” was refused.");
});

test("what comes from the cloud, and what is agreed with it, is told without ids", () => {
  const tom = "2e".repeat(16);
  const cloud = { actor: "cloud", via: "cloud" };
  assert.equal(says("cloud.link", { object: "hub", detail: "https://cloud.example:8443 in eu: devices bundle" }), "Mara linked this hub to a cloud.");
  assert.equal(why("cloud.link", { object: "hub", detail: "https://cloud.example:8443 in eu: devices bundle" }), "https://cloud.example:8443, region eu. Agreed to: names of devices, a sealed recovery copy.");
  assert.equal(why("cloud.consent", { object: "hub", detail: "nothing beyond ids" }), "Agreed to now: only what rights need.");
  assert.equal(says("binding.revoke", { ...cloud, detail: `user:${tom}, for user:${MARA}; 2 rights that it had given ended with it` }), "The cloud took away the right of tom to Garage.");
  assert.equal(says("user.end", { ...cloud, object: tom, detail: `tom, for user:${MARA}; 2 rights it had given ended with it` }), "The cloud ended the account of tom.");
  assert.match(why("user.end", { ...cloud, object: tom, detail: `tom, for user:${MARA}; 2 rights it had given ended with it` }), /^2 rights/);
  assert.equal(says("away.end", { ...cloud, object: tom, detail: "My phone" }), "The cloud ended the key “My phone” for use from away.");
  assert.equal(says("cloud.request", { actor: tom, via: "cloud", outcome: "denied", reason: "no_consent", detail: "command" }), "tom wanted to command Garage, from away.");
  assert.equal(says("cloud.request", { actor: "service:s1", object: "hub", outcome: "denied", reason: "no_consent", detail: "user" }), "A service wanted to make an account, from away.");
  assert.match(why("cloud.request", { actor: tom, outcome: "denied", reason: "no_consent", detail: "command" }), /No owner has agreed/);
  assert.equal(says("user.add", { ...cloud, object: "77", detail: "ida as Guest, for service:s1" }), "The cloud added ida as a guest.");
  const refused = { ...cloud, outcome: "denied", reason: "last_administrator", detail: `binding door-1/user:${tom}, up to 3: nobody would be left` } as const;
  assert.equal(says("cloud.mark", refused), "The cloud tried to take away something of Garage.");
  assert.match(why("cloud.mark", refused), /^Nobody would be left/);
  assert.equal(why("cloud.bulletin", { object: "hub", detail: "1 marks" }), "1 was new.");
  assert.match(why("recovery.code", { object: "hub", detail: "the one before serves no more" }), /opens nothing/);
  for (const act of ["recovery.bundle", "recovery.review", "recovery.marks_known", "hub.restore", "hub.retire", "hub.retired"]) assert.doesNotMatch(says(act, { actor: "hub", object: "hub" }), /hub: |[a-z]\.[a-z]/, act);
});

test("each act that can be asked for has a sentence", () => {
  for (const act of Object.keys(ACTS)) assert.doesNotMatch(says(act, { detail: "x" }), /^Mara: /, act);
});
