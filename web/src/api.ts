// The REST API as functions. Signing in is the cookie's business: no token is ever kept by a script.

// Here is what the first pages need; `access-api.ts` has the calls of the pages that are loaded later.

import type { Action, Clock, CloudState, Command, Device, Explanation, Hub, Model, Recovery, SupportSession, Twin, User, Values } from "./types.ts";

/** Why a call did not do what it should, in words for a person (RFC 9457 from the hub, or the same shape made here). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly title: string,
    readonly detail: string,
    readonly next: string,
  ) {
    super(detail || title);
  }
}

export const api = {
  hub: () => call<Hub>("GET", "/hub"),
  signIn: (username: string, password: string, secondFactor?: string) =>
    call<{ user: User }>("POST", "/sessions", { username, password, ...(secondFactor ? { second_factor: secondFactor } : {}) }),
  signOut: () => call<void>("DELETE", "/sessions/current"),
  me: () => call<User>("GET", "/me"),
  users: async () => listOf<User>(await call<unknown>("GET", "/users"), "users"),
  clock: () => call<Clock>("GET", "/hub/clock"),
  tellTime: (now: number) => call<Clock>("POST", "/hub/clock", { now }),
  support: async () => listOf<SupportSession>(await call<unknown>("GET", "/support"), "sessions"),
  endSupport: (id: string) => call<void>("DELETE", `/support/${enc(id)}`),
  cloud: () => call<CloudState>("GET", "/cloud"),
  recovery: () => call<Recovery>("GET", "/recovery"),
  devices: async () => listOf<Device>(await call<unknown>("GET", "/devices"), "devices"),
  device: (id: string) => call<Device>("GET", `/devices/${enc(id)}`),
  explain: (id: string, action: Action, about: { name?: string; username?: string } = {}) =>
    call<Explanation>("POST", "/access/explain", { device_id: id, action, ...about }),
  twin: (id: string) => call<Twin>("GET", `/devices/${enc(id)}/twin`),
  desire: (id: string, desired: Values) => call<Twin>("PATCH", `/devices/${enc(id)}/twin/desired`, desired),
  command: (id: string, name: string, args: Values) => call<Command>("POST", `/devices/${enc(id)}/commands`, { name, args }),
  commandState: (id: string, command: string) => call<Command>("GET", `/devices/${enc(id)}/commands/${enc(command)}`),
  model: (brand: string, model: string) => call<Model>("GET", `/models/${enc(brand)}/${enc(model)}`),
};

export const EVENTS = "/api/v1/events";

/** Called when the hub says that nobody is signed in any more, or that another hub has taken its place. */
export const session = { onSignedOut: () => {}, onRetired: () => {} };

export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      credentials: "same-origin",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
  } catch {
    throw unreachable();
  }
  const text = await response.text();
  if (!response.ok) {
    const problem = problemOf(response.status, text, response.headers.get("Retry-After"));
    if (problem.code === "signed_out") session.onSignedOut();
    if (problem.code === "retired") session.onRetired();
    throw problem;
  }
  const json = text !== "" && response.headers.get("Content-Type")?.includes("json");
  return (json ? JSON.parse(text) : text) as T;
}

/** Reads a refusal. Whatever is missing from the body is said in general words; a wait is always named. */
export function problemOf(status: number, body: string, retryAfter: string | null = null): Problem {
  let given: Record<string, unknown> = {};
  try {
    const parsed: unknown = JSON.parse(body);
    if (parsed && typeof parsed === "object") given = parsed as Record<string, unknown>;
  } catch {
    // Not JSON: something between us and the hub answered. The status is all there is to say.
  }
  const word = (key: string) => (typeof given[key] === "string" ? (given[key] as string) : "");
  const [code, title, next] = GENERAL[status] ?? ["unknown", `The hub answered with status ${status}.`, "Try again in a moment."];
  const wait = status === 429 && retryAfter && /^\d+$/.test(retryAfter) ? `Try again in ${seconds(Number(retryAfter))}.` : "";
  return new Problem(
    status,
    word("code") || code,
    word("title") || title,
    word("detail") || word("title") || title,
    [word("next") || (wait ? "" : next), wait].filter(Boolean).join(" "),
  );
}

export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem(0, "page", "Something went wrong on this page.", String(error), "Reload the page.");
}

const GENERAL: Record<number, [code: string, title: string, next: string]> = {
  401: ["signed_out", "You are signed out.", "Sign in again."],
  403: ["not_allowed", "You may not do this.", "Ask an owner of this home."],
  404: ["not_found", "This is not here, or not for you to see.", "Go back to your devices."],
  409: ["conflict", "This does not fit the present state.", "Look at the device again, then retry."],
  412: ["version_conflict", "Somebody changed this at the same time.", "Look at the new values, then retry."],
  413: ["too_large", "This is larger than the hub takes.", "Send a smaller file."],
  415: ["media_type", "The hub does not take this kind of file.", "Choose another file."],
  422: ["invalid", "Something in the form is not right.", "Correct it and send it again."],
  429: ["too_many", "Too many attempts.", "Wait a minute, then try again."],
  503: ["unavailable", "The hub is busy or starting.", "Try again in a moment."],
};

export function unreachable(): Problem {
  const next = "Check that this phone or computer is in the same network as the hub, and that the hub has power.";
  return new Problem(0, "unreachable", "The hub does not answer.", "The hub does not answer.", next);
}

function seconds(n: number): string {
  return n < 90 ? `${n} second${n === 1 ? "" : "s"}` : `${Math.ceil(n / 60)} minutes`;
}

export function listOf<T>(answer: unknown, name: string): T[] {
  const list = Array.isArray(answer) ? answer : (answer as Record<string, unknown>)[name];
  return Array.isArray(list) ? (list as T[]) : [];
}

export function enc(part: string): string {
  return encodeURIComponent(part);
}
