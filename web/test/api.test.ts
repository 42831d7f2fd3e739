import assert from "node:assert/strict";
import { test } from "node:test";
import { access } from "../src/access-api.ts";
import { api, asProblem, Problem, problemOf, session } from "../src/api.ts";

const answer = (status: number, body: string, type = "application/problem+json", headers: Record<string, string> = {}) => {
  globalThis.fetch = async () => new Response(status === 204 ? null : body, { status, headers: { "Content-Type": type, ...headers } });
};

test("a problem keeps the hub's own words", () => {
  const problem = problemOf(404, JSON.stringify({ code: "claim_refused", title: "Refused", detail: "The code is not right.", next: "Compare it with the label." }));
  assert.deepEqual([problem.code, problem.detail, problem.next], ["claim_refused", "The code is not right.", "Compare it with the label."]);
});

test("an answer without a problem body still says what happened and what to do", () => {
  for (const status of [401, 403, 404, 409, 412, 413, 415, 422, 429, 503, 502]) {
    const problem = problemOf(status, "<html>");
    assert.ok(problem.detail.length > 5 && problem.next.length > 5, String(status));
  }
});

test("a wait is named in seconds or minutes", () => {
  assert.match(problemOf(429, "{}", "30").next, /30 seconds/);
  assert.match(problemOf(429, "{}", "1").next, /1 second\./);
  assert.match(problemOf(429, "{}", "600").next, /10 minutes/);
  assert.match(problemOf(429, JSON.stringify({ next: "Slow down." }), "30").next, /^Slow down\. Try again in 30 seconds/);
});

test("a hub that does not answer is said to be out of reach", async () => {
  globalThis.fetch = async () => {
    throw new TypeError("failed");
  };
  await assert.rejects(api.me(), (error) => error instanceof Problem && error.code === "unreachable" && error.next !== "");
});

test("being signed out is noticed, a wrong password is not mistaken for it", async () => {
  let times = 0;
  session.onSignedOut = () => times++;
  answer(401, JSON.stringify({ code: "wrong_password", detail: "User name or password is wrong.", next: "Try again." }));
  await assert.rejects(api.signIn("a", "b"), /wrong/);
  assert.equal(times, 0);
  answer(401, JSON.stringify({ code: "signed_out", detail: "You are signed out.", next: "Sign in." }));
  await assert.rejects(api.me());
  assert.equal(times, 1);
});

test("an empty answer and a text answer are taken as such", async () => {
  answer(204, "");
  await api.signOut();
  answer(200, "HKREQ1.abc", "text/plain");
  assert.equal(await access.hubRequest(), "HKREQ1.abc");
});

test("whatever is thrown becomes a problem", () => {
  assert.equal(asProblem(new Error("x")).code, "page");
});
