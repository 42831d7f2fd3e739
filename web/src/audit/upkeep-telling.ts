// Sentences for the firmware of devices, for backups, and for the hub's own version. Pure, as `telling.ts`.

import { failureWords } from "../firmware-words.ts";
import { actorPart, type Part } from "./names.ts";
import type { Sentence, Told } from "./telling.ts";

/** “release 6”, from “rel 6…” or “the image of rel 6”. */
function releaseIn(detail: string): string {
  const rel = /\brel (\d+)/.exec(detail)?.[1];
  return rel ? `release ${rel}` : "a release";
}

/** What an act was about: a device, or a model as “acme/gate-2”. */
const thing = ({ entry, device }: Told): Part => (entry.object.includes("/") ? { name: entry.object.replace("/", " ") } : device);

/** Why an offer was taken back. */
const TAKEN_BACK: Record<string, string> = {
  not_cached: "It was not fetched for long, and its file made room for others.",
  left_the_house: "The device was removed from this home.",
  withdrawn_by_maker: "Its maker has withdrawn it.",
  hold: "Updates are held.",
  stopped: "It failed on too many devices.",
};

export const UPKEEP_SENTENCES: Record<string, Sentence> = {
  "firmware.import": (told) => {
    const { who, denied, detail, entry } = told;
    if (denied) return { parts: [who, " brought a file that is no release this hub takes."], why: detail && `${sentence(detail)}` };
    const version = /version (\S+),/.exec(detail)?.[1];
    return { parts: [entry.actor === "cloud" ? "The cloud" : who, " brought ", version ? { name: `version ${version}` } : releaseIn(detail), " for ", thing(told), "."] };
  },
  "firmware.policy": (told) => ({ parts: [told.who, " chose what happens with new versions for ", thing(told), "."], why: modeIn(told.detail) }),
  "firmware.approve": ({ who, device, detail }) => ({ parts: [who, ` said yes to ${releaseIn(detail)} for `, device, "."] }),
  "firmware.resume": (told) => ({ parts: [told.who, ` let ${releaseIn(told.detail)} of `, thing(told), " go on, although it had failed."] }),
  "firmware.remove": (told) => ({ parts: [told.who, ` removed the file of ${releaseIn(told.detail)} of `, thing(told), "."] }),
  "firmware.offer": ({ device, detail }) => ({ parts: [device, ` was offered ${releaseIn(detail)}.`] }),
  "firmware.withdraw": ({ device, detail, entry }) => ({ parts: [releaseIn(detail).replace("r", "R"), " is offered to ", device, " no more."], why: TAKEN_BACK[entry.reason ?? ""] ?? "" }),
  "firmware.recall": (told) => ({ parts: ["The maker withdrew ", releaseIn(told.detail), " of ", thing(told), "."], why: "It is offered to nobody any more; who runs it keeps it." }),
  "firmware.install": ({ device, detail }) => ({ parts: [device, ` began to install ${releaseIn(detail)}.`] }),
  "firmware.confirm": ({ device, detail }) => ({ parts: [device, ` runs ${releaseIn(detail)}, and is well.`] }),
  "firmware.fail": ({ device, detail, entry }) => ({ parts: [device, ` did not become ${releaseIn(detail)}, and runs what it had.`], why: failureWords({ code: entry.reason ?? "", detail: "" }) }),
  "firmware.stop": (told) => {
    const [, failed, tried] = /: (\d+) of (\d+)/.exec(told.detail) ?? [];
    return { parts: [`${releaseIn(told.detail).replace("r", "R")} of `, thing(told), " was stopped."], why: failed ? `${failed} of ${tried} devices that tried it failed.` : "" };
  },
  "firmware.behind": ({ device }) => ({ parts: [device, " is behind: it can do nothing but update."], why: "Its maker calls what it runs unsafe." }),
  "firmware.whole": ({ device }) => ({ parts: [device, " runs a safe version again, and can be used."] }),

  "backup.settings": ({ who, denied, detail }) => ({ parts: [who, denied ? " tried to change" : " changed", " where and when backups are made."], ...(denied ? {} : { why: detail && sentence(detail) }) }),
  "backup.create": ({ who, denied, detail, entry }) => {
    if (denied && entry.reason !== "failed") return { parts: [who, " tried to make a backup."] };
    if (denied) return { parts: ["A backup failed."], why: detail && sentence(detail) };
    return { parts: [entry.actor === "hub" ? "The hub" : who, " made a backup."], why: detail && sentence(detail) };
  },

  "backup.rehearse": ({ who, denied, detail, entry }) => {
    if (denied && entry.reason !== "failed") return { parts: [who, " tried to rehearse a restore."] };
    return { parts: [who, denied ? " rehearsed a restore, and it would not do." : " rehearsed a restore: it would do."], why: detail && sentence(detail.replace(/: a restore would do$/, "")) };
  },

  "hub.update.check": ({ who, detail }) => ({ parts: [who, " looked for a new version of the hub."], why: detail && `Found: ${detail}.` }),
  "hub.update": ({ who, denied, detail }) => ({ parts: [who, denied ? " tried to update the hub." : ` had the hub updated to ${detail || "the newest version"}.`] }),
  "hub.update.back": ({ who, denied, detail }) => ({ parts: [who, denied ? " tried to have the hub go back." : ` had the hub go back ${detail}.`] }),
  "hub.system.bundle": ({ who, denied, detail }) => ({ parts: [who, denied ? " brought a bundle for the box, which was refused." : " brought a bundle for the box."], why: sentence(detail) }),
  "hub.system.install": ({ who, denied, detail }) => ({ parts: [who, denied ? " tried to install a system on the box." : ` had the box's system updated to ${detail}.`] }),
  "hub.system.restart": ({ who, denied, detail }) => ({ parts: [who, denied ? " tried to restart the box." : ` restarted the box ${detail}.`] }),
  "hub.system.end": ({ detail, denied, entry }) => ({ parts: [entry.reason === "installed" ? "A system was installed on the box." : denied ? "A system did not come to stay on the box." : "The box's new system stays."], why: sentence(detail.replace(/, asked for by \S+?(?=:|$)/, "")) }),
  "hub.update.end": ({ known, detail, entry }) => {
    const [, to = "", from = "", by = "", reason = ""] = /^version (.+?) from (.+?), asked for by (\S+): ?(.*)$/s.exec(detail) ?? [];
    const name = (version: string) => (version === "of the system" ? "the program of the system" : `version ${version}`);
    const end = entry.reason === "updated" ? `The hub is ${name(to)} now.` : entry.reason === "rolled_back" ? `${capital(name(to))} did not stay: ${name(from)} serves again.` : `${capital(name(to))} was not tried.`;
    const asker = by.startsWith("user:") ? actorPart(known, by) : null;
    return { parts: to ? [end] : ["An update of the hub has ended."], why: [reason && sentence(reason), asker && `Asked for by ${typeof asker === "string" ? asker : asker.name}.`].filter(Boolean).join(" ") };
  },
};

const MODE_WORDS: Record<string, string> = { automatic: "They are installed by themselves.", ask: "They wait for a yes.", hold: "They are held." };

function modeIn(detail: string): string {
  if (detail === "as its model") return "As its model has it.";
  const mode = /"mode":"(\w+)"/.exec(detail)?.[1] ?? "";
  return Object.hasOwn(MODE_WORDS, mode) ? (MODE_WORDS[mode] ?? "") : "";
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function sentence(text: string): string {
  const one = capital(text.trim());
  return /[.!?…]$/.test(one) ? one : `${one}.`;
}
