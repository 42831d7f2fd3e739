// Sentences for what is done with the cloud, with keys for away, and when one hub takes another's place. Pure, as `telling.ts`.

import { verbWords } from "../cloud-words.ts";
import { actorPart, cut, type Part } from "./names.ts";
import type { Sentence } from "./telling.ts";

/** What an owner agreed to, by the hub's words. */
const AGREED: Record<string, string> = {
  devices: "names of devices",
  twins: "what devices report",
  people: "who lives here",
  audit: "the activity",
  bundle: "a sealed recovery copy",
  requests: "using devices from away",
  grants: "sharing from away",
  critical: "also what is critical",
  people_requests: "accounts made from outside",
};
const agreed = (words: string) => words.split(/\s+/).flatMap((word) => AGREED[word] ?? []).join(", ");

export const CLOUD_SENTENCES: Record<string, Sentence> = {
  "cloud.link": ({ who, denied, detail }) => {
    const [where = "", words = ""] = detail.split(/: (?=[^:]*$)/);
    const [url, region] = cut(where, " in ");
    return { parts: [who, denied ? " tried to link this hub to a cloud." : " linked this hub to a cloud."], why: url && `${url}${region && `, region ${region}`}. Agreed to: ${agreed(words) || "only what rights need"}.` };
  },
  "cloud.consent": ({ who, denied, detail }) => ({ parts: [who, denied ? " tried to change" : " changed", " what goes to the cloud and what may come from outside."], why: detail && `Agreed to now: ${agreed(detail) || "only what rights need"}.` }),
  "cloud.unlink": ({ who, denied, detail }) => ({ parts: [who, denied ? " tried to unlink this hub from the cloud." : " unlinked this hub from the cloud."], why: detail && `${detail}.` }),
  "cloud.bulletin": ({ who, denied, detail }) => {
    const marks = Number(/^\d+/.exec(detail)?.[0] ?? 0);
    return { parts: [who, denied ? " brought something that is no bulletin of the cloud." : " brought revocations that the cloud has signed."], why: denied ? "" : marks > 0 ? `${marks} ${marks === 1 ? "was" : "were"} new.` : "None was new." };
  },
  "cloud.request": ({ known, entry, device, detail }) => {
    const by = /^\w+$/.test(entry.actor) ? `user:${entry.actor}` : entry.actor;
    return { parts: [actorPart(known, by), ` ${verbWords(detail)}`, ...(entry.object === "hub" ? [] : [" ", device]), ", from away."] };
  },
  "cloud.mark": ({ who, device, entry }) => ({ parts: [who, " tried to take away something", ...(entry.object === "hub" ? ["."] : [" of ", device, "."])] }),
  "away.make": ({ who, denied, detail }) => ({ parts: [who, denied ? " tried to make a key for use from away." : " made the key ", ...(denied ? [] : [{ name: `“${detail}”` } as Part, " for use from away."])] }),
  "away.end": ({ who, detail }) => ({ parts: [who, " ended the key ", { name: `“${detail}”` }, " for use from away."] }),
  "recovery.code": ({ who, denied, detail }) => ({ parts: [who, denied ? " tried to make a recovery code of this home." : " made a recovery code of this home."], why: denied ? "" : detail && "The one before opens nothing any more." }),
  "recovery.bundle": ({ who }) => ({ parts: [who, " took a sealed recovery copy along."] }),
  "recovery.review": ({ who }) => ({ parts: [who, " looked through the rights, and let all of them hold again."] }),
  "recovery.marks_known": () => ({ parts: ["Everything that was revoked elsewhere is known: all rights hold again."] }),
  "hub.restore": () => ({ parts: ["This hub took the place of another, with the recovery code of this home."] }),
  "hub.retire": () => ({ parts: ["Another hub took the place of this one, with the recovery code of this home."] }),
  "hub.retired": () => ({ parts: ["Another hub took the place of this one, with the recovery code of this home."] }),
};

/** Whose right it was, from “user:1f, for user:2e; 2 rights …”. */
export function whoseRight(known: Parameters<typeof actorPart>[0], detail: string): Part {
  return actorPart(known, detail.split(/[,;]/)[0] ?? "");
}
