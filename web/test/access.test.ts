import assert from "node:assert/strict";
import { test } from "node:test";
import { exportAddress, filterQuery } from "../src/access-api.ts";
import { agentName } from "../src/agent.ts";
import { inWords } from "../src/components/why.tsx";
import { verdict } from "../src/components/password.ts";
import { filterOf, NO_FILTER } from "../src/components/activity-filter.tsx";
import { actionWords } from "../src/duties.ts";
import { networksError, networksOf } from "../src/networks.ts";

test("a password that would be guessed is told why, and what would be better", () => {
  const bad = verdict({ acceptable: false, score: 0, warning: "This is a very common password", suggestions: ["Add another word or two."] });
  assert.deepEqual(bad, { tone: "bad", text: "It would be guessed at once. This is a very common password. Add another word or two." });
  assert.equal(verdict({ acceptable: true, score: 2, warning: null, suggestions: [] }).tone, "warn");
  assert.deepEqual(verdict({ acceptable: true, score: 4, warning: "", suggestions: ["Never shown."] }), { tone: "good", text: "It is very good." });
});

test("a browser is called by its name", () => {
  assert.equal(agentName("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"), "Firefox on Linux");
  assert.equal(agentName("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"), "Safari on an iPhone");
  assert.equal(agentName("Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36"), "Chrome on Android");
  assert.equal(agentName("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36 Edg/126.0"), "Edge on Windows");
  assert.equal(agentName("curl/8.5.0"), "curl");
  for (const nothing of ["", null, undefined]) assert.match(agentName(nothing), /does not say/);
});

test("networks are cut apart and checked before they are sent", () => {
  assert.deepEqual(networksOf("192.0.2.0/24\n 2001:db8::/32, 10.1.2.3"), ["192.0.2.0/24", "2001:db8::/32", "10.1.2.3"]);
  for (const good of ["192.0.2.0/24", "10.1.2.3", "2001:db8::/32", "::1", "fe80::1/64"]) assert.equal(networksError(good), "", good);
  for (const wrong of ["192.0.2/24", "192.0.2.0/33", "300.1.1.1", "home", "2001:db8::/129", "10.0.0.0/8/8"]) assert.match(networksError(wrong), /is not a network/, wrong);
  assert.match(networksError(" "), /at least one/);
});

test("a filter becomes the end of an address; what is not chosen is not in it", () => {
  assert.equal(filterQuery({}), "");
  assert.equal(filterQuery({ actor: "user:1 f", outcome: "denied" }), "&actor=user%3A1%20f&outcome=denied");
  assert.equal(exportAddress({ since: 5 }), "/api/v1/audit/export?since=5");
  assert.equal(exportAddress({}), "/api/v1/audit/export");
  assert.deepEqual(filterOf(NO_FILTER), {});
  const day = filterOf({ ...NO_FILTER, object: "door-1", since: "2026-05-12", until: "2026-05-12" });
  assert.deepEqual(day, { object: "door-1", since: new Date(2026, 4, 12).getTime(), until: new Date(2026, 4, 13).getTime() }, "the last day counts whole");
  assert.deepEqual(filterOf({ ...NO_FILTER, since: "soon" }), {});
});

test("why is answered about oneself and about others", () => {
  const told = { allowed: false, policy_age_ms: 0, privilege: "operate" as const };
  assert.equal(inWords({ ...told, reason: "privilege_too_low", explanation: "", needs: "manage" }), "You may use it, except what is critical. This needs the right to use it, also what is critical.");
  assert.equal(inWords({ ...told, reason: "outside_window", explanation: "your right to this device holds at other times of the week" }, "Tom"), "The right of Tom to this device holds at other times of the week.");
  assert.equal(inWords({ ...told, allowed: true, reason: "bound", explanation: "" }, "Tom"), "The right of Tom holds by now.");
  assert.equal(inWords({ ...told, privilege: null, reason: "suspended", explanation: "the device is suspended; an owner can resume it" }), "The device is suspended; an owner can resume it.");
});

test("what can be done has plain words, also what nobody has named yet", () => {
  assert.match(actionWords("link_apps"), /apps act/);
  assert.equal(actionWords("new_thing_here"), "new thing here");
});
