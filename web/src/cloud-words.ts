// Plain words for how this hub and its cloud stand (docs/protocol/mirror.md). Pure, so that it can be tested without a browser.

import { ago } from "./clock.ts";
import { count, RETIRED, spanWords } from "./cloud-mark.ts";
import { sizeWords } from "./sizes.ts";
import type { Consent, MirrorState, Pending } from "./types.ts";

const DAY = 86_400_000;

/** What an owner agrees to: what leaves the house, then what may come in. */
export const LEAVES: readonly Consent[] = ["devices", "twins", "people", "audit", "bundle"];
export const COMES_IN: readonly Consent[] = ["requests", "grants", "critical", "people_requests"];
/** What is chosen at first: names of devices, so that the copy means something, and the sealed copy that replaces a broken hub. */
export const AT_FIRST: readonly Consent[] = ["devices", "bundle"];

export const CONSENTS: Record<Consent, { label: string; means: string }> = {
  devices: { label: "Your devices", means: "Their names and rooms, and whether they are in use." },
  twins: { label: "What devices report", means: "Their state, such as temperatures or whether a door is open. It can show when somebody is at home." },
  people: { label: "Who lives here", means: "Names and roles. Without it the cloud knows people by numbers only." },
  audit: { label: "The activity", means: "Who did what and when, without what is personal. A changed or shortened record can then be found out." },
  bundle: { label: "A sealed recovery copy", means: "A new hub takes this one's place with it, and no device has to be added again. Only your recovery code opens it; the cloud cannot." },
  requests: { label: "Using devices from away", means: "People of this home see and use their devices from anywhere, except what is critical." },
  grants: { label: "Sharing from away", means: "Who administers a device may share it from anywhere, but not the use of what is critical." },
  critical: { label: "Also what is critical", means: "From away also what is critical, such as opening a door, and sharing the use of it. Whoever gets hold of somebody's access, or of the cloud, could then do that too." },
  people_requests: { label: "Accounts made from outside", means: "The operator of the cloud may make accounts of members and guests here, never of owners." },
};

/** What is sent: what is critical means nothing where nothing may come in. */
export function consentToSend(chosen: readonly Consent[]): Consent[] {
  return [...LEAVES, ...COMES_IN].filter((each) => chosen.includes(each) && (each !== "critical" || criticalApplies(chosen)));
}

export function criticalApplies(chosen: readonly Consent[]): boolean {
  return chosen.includes("requests") || chosen.includes("grants");
}

/** The address of a cloud as it was typed; without a scheme it is one of https. */
export function cloudAddress(text: string): string {
  const typed = text.trim();
  return typed === "" || /^[a-z][a-z0-9+.-]*:\/\//i.test(typed) ? typed : `https://${typed}`;
}

export function addressError(text: string): string {
  const typed = cloudAddress(text);
  if (typed === "") return "Type the address.";
  if (/^http:/i.test(typed)) return "It begins with https://, so that nobody in between can read along.";
  try {
    const url = new URL(typed);
    return url.protocol === "https:" && url.hostname && !url.username ? "" : "This is not the address of a cloud.";
  } catch {
    return "This is not the address of a cloud.";
  }
}

/** A fingerprint in groups of four, as people compare it. */
export function inFours(text: string): string {
  return text.replace(/[\s-]/g, "").replace(/(.{4})(?=.)/g, "$1 ");
}

/** What does not work because the hub has not heard for long; empty while everything does. */
export function staleWords(age: number): string {
  if (age > 7 * DAY) return "Rights that were given from outside let people only look, until the hub hears from the cloud. Rights given at home hold as ever.";
  if (age > DAY) return "Rights that were given from outside do not reach what is critical, until the hub hears from the cloud. Rights given at home hold as ever.";
  return "";
}

/** What waits to be sent. */
export function pendingWords({ rows = 0, marks = 0, audit = 0, bundle = false }: Pending): string {
  const parts = [
    marks > 0 ? count(marks, "revocation") : "",
    rows > 0 ? count(rows, "change") : "",
    audit > 0 ? count(audit, "entry of the activity", "entries of the activity") : "",
    bundle ? "the recovery copy" : "",
  ].filter(Boolean);
  if (parts.length < 2) return parts[0] ?? "Nothing";
  return `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

const PROBLEMS: Record<string, { title: string; next: string }> = {
  unreachable: { title: "The cloud does not answer.", next: "Check this home's connection to the Internet. The hub tries again by itself." },
  portal: { title: "A sign-in page of this network answers instead of the cloud.", next: "Open any page in a browser in this network and accept its terms, then sync now." },
  intercepted: { title: "Something between this hub and the cloud reads along, and the hub does not talk to it.", next: "Ask who runs this network to let the hub's connections to the cloud pass untouched." },
  proxy: { title: "The proxy of this network does not let the hub through.", next: "Check the proxy in the hub's settings, and its name and password." },
  signature: { title: "What answers cannot prove that it is the cloud this hub is linked to.", next: "Ask the operator of the cloud whether its key has changed. If it has, unlink and link again, and compare the fingerprint." },
  wrong_region: { title: "This hub belongs to another region of the cloud.", next: "Unlink, and link to the address of the right region." },
  refused: { title: "The cloud refuses this hub.", next: "Ask the operator of the cloud why." },
  clock: { title: "The clock of this hub is too far off.", next: "Check the date and time of this phone or computer, and reload this page: the hub takes the time from an owner's browser." },
  stale: { title: "The cloud says that another hub has taken this one's place, and does not prove it.", next: "If nobody in this home replaced the hub, ask the operator of the cloud." },
};

export interface Standing {
  tone: "good" | "warn" | "bad" | "accent";
  title: string;
  detail: string;
  next: string;
}

/** A sentence that another may follow. */
function ended(text: string): string {
  return text && !/[.!?…]$/.test(text.trim()) ? `${text.trim()}.` : text;
}

/** How the link stands, in a sentence, with what to do. */
export function standing(state: MirrorState | undefined): Standing {
  const say = (tone: Standing["tone"], title: string, detail = "", next = ""): Standing => ({ tone, title, detail: ended(detail), next: ended(next) });
  const { phase, problem } = state ?? {};
  if (phase === "retired") return say("bad", RETIRED.title, RETIRED.detail, RETIRED.next);
  if (problem) {
    const known = PROBLEMS[problem.code];
    return say(phase === "waiting" ? "warn" : "bad", known?.title ?? "Hub and cloud do not come together.", problem.detail ?? "", problem.next || known?.next || "The hub tries again by itself.");
  }
  switch (phase) {
    case "off":
      return say("warn", "The hub is linked, and its connection to the cloud is switched off.", "", "It is switched on in the hub's configuration file.");
    case "linking":
      return say("accent", "The hub is being linked…");
    case "syncing":
      return say("good", "Hub and cloud are exchanging what is new.");
    case "waiting":
      return say("warn", "The hub waits before it asks the cloud again.", "", "Nothing needs to be done.");
    case "failing":
      return say("bad", "The cloud does not answer.", "", PROBLEMS["unreachable"]?.next);
    default:
      return say("good", "Hub and cloud are in touch.");
  }
}

/** When the hub tries again: “in 4 minutes”; empty when that is not known or already so. */
export function retryWords(at: number | null | undefined, now: number): string {
  if (!at || at <= now) return "";
  return `It tries again in ${spanWords(at - now)}.`;
}

/** “5 minutes ago”, or that it never was. */
export function successWords(at: number | null | undefined, now: number): string {
  return at ? ago(at, now) : "Not yet";
}

const VERBS: Record<string, string> = {
  desire: "wanted to set something of",
  command: "wanted to command",
  grant: "wanted to share",
  user: "wanted to make an account",
  revoke: "wanted to take away a right to",
};

/** What was wanted from outside; it ends where the device's name follows, if it is about one. */
export function verbWords(verb: string): string {
  return VERBS[verb] ?? "wanted something from";
}

/** What is left of a code in mind: the group at its end, or the last two when that is very short. */
export function endOfCode(code: string): { text: string; asked: string } {
  const groups = code.trim().split(/[\s-]+/);
  const last = groups.at(-1) ?? "";
  if (last.length > 2 || groups.length < 2) return { text: last, asked: "the last group" };
  return { text: groups.slice(-2).join("-"), asked: "the last two groups" };
}

/** Whether somebody typed the same symbols, whatever their case, and with I, L and O read as the digits they look like. */
export function sameSymbols(typed: string, code: string): boolean {
  const bare = (text: string) => text.toUpperCase().replace(/[\s\u2010-\u2015-]/g, "").replace(/[IL]/g, "1").replace(/O/g, "0");
  return bare(typed) !== "" && bare(typed) === bare(code);
}

/** Bytes of a bulletin at most. */
const BULLETIN_MAX = 1024 * 1024;

/** The bulletin in what was pasted, as base64url; empty when there is none. */
export function bulletinIn(text: string): string {
  const bare = text.replace(/\s/g, "").replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  return /^[A-Za-z0-9_-]{40,}$/.test(bare) && bare.length <= BULLETIN_MAX * 1.4 ? bare : "";
}

/** The bulletin in a file, which holds it as text or as it is. */
export function bulletinOf(bytes: Uint8Array): string {
  if (bytes.length === 0 || bytes.length > BULLETIN_MAX) return "";
  if (bytes.every((byte) => byte < 128)) {
    const text = bulletinIn(new TextDecoder().decode(bytes));
    if (text) return text;
  }
  let binary = "";
  for (let at = 0; at < bytes.length; at += 4096) binary += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return bulletinIn(btoa(binary));
}

/** How the recovery copy stands. `copied`: the cloud is to hold one. */
export function copyWords({ made_at, bundle }: { made_at: number | null; bundle: { at: number; bytes: number; up_to_date?: boolean; without_waiting?: boolean } | null }, copied: boolean, now: number): string {
  if (!made_at) return "it needs a recovery code";
  if (!bundle) return copied ? "not at the cloud yet: it follows by itself" : "there is none";
  const parts = [`made ${ago(bundle.at, now)}`, sizeWords(bundle.bytes)];
  if (bundle.up_to_date === false) parts.push(copied ? "a newer one follows by itself" : "out of date");
  if (bundle.without_waiting) parts.push("without devices that nobody has claimed: keep their makers' files");
  return parts.join(", ");
}
