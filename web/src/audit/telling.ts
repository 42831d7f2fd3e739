// An entry of the audit as a sentence that a person understands. Pure: entry and names in, parts of a sentence out.
// What no sentence is known for is told by its own words, so that nothing is ever hidden.

import type { AuditEntry, Privilege } from "../types.ts";
import { ACCESS_SENTENCES } from "./access-telling.ts";
import { CLOUD_SENTENCES, whoseRight } from "./cloud-telling.ts";
import { actorPart, cut, devicePart, personName, titleIn, triedName, type Known, type Part } from "./names.ts";
import { UPKEEP_SENTENCES } from "./upkeep-telling.ts";
import { RIGHTS } from "../rights.ts";
import { countedBefore, explain } from "./reasons.ts";

export interface Telling {
  parts: Part[];
  /** The reason, or what else there is to know; may be empty. */
  why: string;
}

export interface Told {
  entry: AuditEntry;
  known: Known;
  who: Part;
  device: Part;
  detail: string;
  denied: boolean;
}

export type Sentence = (told: Told) => { parts: Part[]; why?: string };

export function tell(entry: AuditEntry, known: Known): Telling {
  const detail = typeof entry.detail === "string" ? entry.detail : entry.detail === null ? "" : JSON.stringify(entry.detail);
  const denied = entry.outcome === "denied";
  const told: Told = { entry, known, detail, denied, who: actorOf(known, entry), device: devicePart(known, entry.object) };
  const { parts, why } = (Object.hasOwn(SENTENCES, entry.action) ? SENTENCES[entry.action] : undefined)?.(told) ?? unknownAct(told);
  const reason = why ?? (denied ? explain(entry.reason) : "");
  return { parts, why: [reason, behalfOf(known, entry), countedBefore(detail), entry.erased ? ERASED : ""].filter(Boolean).join(" ") };
}

const ERASED = "What was personal in it has been erased.";

/** Who acted; of an entry whose name was erased, nobody knows any more. */
function actorOf(known: Known, entry: AuditEntry): Part {
  return entry.erased && entry.actor === "?" ? "Somebody" : actorPart(known, entry.actor);
}

/** The person behind an app. */
function behalfOf(known: Known, { actor, behalf }: AuditEntry): string {
  if (!behalf || !actor.startsWith("app:")) return "";
  return `It acted for ${plainText([inside(actorPart(known, behalf))])}.`;
}

/** The parts as text. */
export function plainText(parts: Part[]): string {
  return parts.map((part) => (typeof part === "string" ? part : part.name)).join("");
}

const SENTENCES: Record<string, Sentence> = {
  ...ACCESS_SENTENCES,
  ...CLOUD_SENTENCES,
  ...UPKEEP_SENTENCES,
  "hub.setup": ({ who, denied }) => ({ parts: denied ? [who, " tried to set up this hub."] : [who, " set up this hub and became its owner."] }),
  "session.open": ({ who, denied, known, entry }) => ({
    parts: denied ? entry.actor === "?" ? ["Somebody tried to sign in."] : ["Somebody tried to sign in as ", { name: `“${triedName(known, entry.actor)}”` }, "."] : [who, " signed in."],
  }),
  "session.end": ({ who }) => ({ parts: [who, " signed out."] }),
  "user.add": ({ who, known, entry, detail }) => {
    // Made from outside, it says for whom.
    const [username, role] = cut(detail.replace(/, for .*$/, ""), " as ");
    return { parts: [who, " added ", { name: personName(known, entry.object) ?? username }, role ? ` as ${article(role.toLowerCase())}.` : "."] };
  },

  "user.end": ({ who, detail }) => {
    // Ended from outside, it says for whom.
    const [username, rest] = cut(detail.replace(/, for [^;]*/, ""), "; ");
    const given = Number(/^\d+/.exec(rest)?.[0] ?? 0);
    return { parts: [who, " ended the account of ", { name: username }, "."], why: given ? `${given} right${given === 1 ? "" : "s"} that it had given to others ended with it.` : "" };
  },
  "password.change": ({ who, denied }) => ({ parts: [who, denied ? " tried to change their password." : " changed their password."] }),

  "binding.grant": ({ who, device, known, detail }) => {
    const [privilege, subject] = cut(detail, " to ");
    const whom = actorPart(known, subject);
    const right = Object.hasOwn(RIGHTS, privilege) ? RIGHTS[privilege as Privilege].does : "";
    if (!subject) return { parts: [who, " shared ", device, "."] };
    return { parts: [who, " shared ", device, " with ", inside(whom), "."], why: right && `${plainText([whom])} ${right}.` };
  },
  "binding.revoke": ({ who, device, known, detail }) => ({ parts: [who, " took away the right of ", detail ? inside(whoseRight(known, detail)) : "somebody", " to ", device, "."] }),
  "binding.leave": ({ who, device }) => ({ parts: [who, " gave up their right to ", device, "."] }),
  "binding.take": ({ who, device }) => ({ parts: [who, " took the administration of ", device, "."], why: "An owner of the hub may do so without being asked." }),

  "device.claim": ({ who, device, denied }) =>
    denied ? { parts: [who, " tried to claim a device, and was refused."] } : { parts: [who, " claimed ", device, "."] },
  "claim.complete": ({ device }) => ({ parts: [device, " fetched its key and is ready."] }),
  "device.sign_in": ({ who, device, denied, entry }) => {
    if (!denied) return { parts: [device, " signed in."] };
    // Not proven to be the device: it only called itself so.
    const claimed = entry.actor.startsWith("?");
    return { parts: claimed ? ["Something that calls itself ", who, " was kept out."] : [device, " was kept out."] };
  },
  "device.rebase": ({ device, entry, denied }) => {
    if (denied) return { parts: [device, " failed to set its sign-in counter again."] };
    if (entry.outcome === "allowed")
      return { parts: [device, " signed in with an old counter, and was asked to prove itself."], why: "This happens when a device has lost its memory, for instance after a reset." };
    return { parts: [device, " proved itself, and its sign-in counter was set again."] };
  },
  "device.change": ({ who, device }) => ({ parts: [who, " changed the name or the room of ", device, "."] }),
  "device.suspend": ({ who, device }) => ({ parts: [who, " suspended ", device, "."] }),
  "device.resume": ({ who, device }) => ({ parts: [who, " let ", device, " in again."] }),
  "device.remove": ({ who, device }) => ({ parts: [who, " removed ", device, "."], why: "Everybody's access to it has ended. It waits to be claimed again." }),
  "certificate.issue": ({ who, device }) => ({ parts: [who, " had a certificate issued for ", device, "."] }),

  "command.send": ({ who, device, denied, ...told }) => ({ parts: denied ? [who, " may not tell ", device, ` to ${command(told).quoted}.`] : [who, " told ", device, ` to ${command(told).quoted}.`] }),
  "command.end": ({ device, entry, ...told }) => {
    const { quoted, said } = command({ entry, ...told });
    if (entry.reason === "expired") return { parts: [device, ` did not answer to ${quoted} in time.`], why: "" };
    if (entry.reason === "failed") return { parts: [device, ` could not ${quoted}.`], why: said ? `It says: ${said}.` : "" };
    return { parts: [device, ` finished ${quoted}.`], why: said ? `It says: ${said}.` : "" };
  },
  "twin.desire": ({ who, device, denied, ...told }) => ({ parts: [who, denied ? " may not set " : " set ", `${attributes(told)} of `, device, "."] }),
  "twin.delete": ({ who, device, entry }) => ({ parts: entry.actor === `device:${entry.object}` ? [device, " erased its state."] : [who, " erased the state of ", device, "."] }),
  "twin.moment_over": ({ device, ...told }) => ({
    parts: ["The wish for ", `${attributes(told)} of `, device, " has ended."],
    why: "It was not fulfilled in time. What is critical is never done later than it was asked for.",
  }),

  "topic.publish": ({ who, denied, entry }) => ({ parts: [who, denied ? " tried to write to a topic that is not its own: " : " wrote to ", { name: entry.object }, "."] }),
  "topic.subscribe": ({ who, denied, entry }) => ({ parts: [who, denied ? " tried to listen to topics that are not its own: " : " listens to ", { name: entry.object }, "."] }),

  "registry.import": ({ who, entry, detail }) => {
    const [, added, before] = /: (\d+) new, (\d+) known/.exec(detail) ?? [];
    return { parts: [who, " imported devices of ", { name: entry.object }, "."], why: added ? `${added} new${before === "0" ? "" : `, ${before} known before`}.` : "" };
  },
  "registry.voucher": ({ who, device }) => ({ parts: [who, " imported the voucher of ", device, "."] }),
  "brand.trust": ({ who, entry, detail }) => ({ parts: [who, " decided to trust the brand ", { name: entry.object }, "."], why: detail ? `Its fingerprint is ${detail}.` : "" }),
};

function unknownAct({ who, entry }: Told): { parts: Part[]; why?: string } {
  return { parts: [who, ": ", entry.action, " ", { name: entry.object }] };
}

/** The detail of a command: its name, its id, and what the device said. */
function command({ entry, known, detail }: Pick<Told, "entry" | "known" | "detail">): { quoted: string; said: string } {
  const [name, rest] = cut(detail, " ");
  return { quoted: `“${titleIn(known, entry.object, "commands", name)}”`, said: cut(rest, " ")[1].replace(/\.$/, "") };
}

function attributes({ entry, known, detail }: Pick<Told, "entry" | "known" | "detail">): string {
  const names = detail.split(" ").filter(Boolean).map((name) => `“${titleIn(known, entry.object, "attributes", name)}”`);
  if (names.length === 0) return "something";
  return names.length === 1 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** “Somebody” within a sentence. */
function inside(part: Part): Part {
  return typeof part !== "string" && part.name === "Somebody" ? "somebody" : part;
}

function article(noun: string): string {
  return `${/^[aeiou]/.test(noun) ? "an" : "a"} ${noun}`;
}
