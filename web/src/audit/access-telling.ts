// Sentences for what is done with people's accounts, invitations, apps, services and support. Pure, as `telling.ts`.

import { RIGHTS } from "../rights.ts";
import type { Privilege } from "../types.ts";
import { actorPart, devicePart, personName, type Part } from "./names.ts";
import type { Sentence, Told } from "./telling.ts";

const about = ({ known, entry }: Told): Part => ({ name: personName(known, entry.object.replace(/^user:/, "")) ?? "somebody" });
/** What an app or a service is called: by what the page knows, or as the entry has it. */
const named = ({ detail, entry, known }: Told, nameless = "that nobody remembers"): Part => {
  const called = known.others?.[entry.object] ?? known.others?.[`app:${entry.object}`] ?? detail.split(/[:;,(]| at | from | until /)[0]?.trim();
  return called ? { name: called } : nameless;
};
/** A device that the detail names behind a word, as in “by lamp-2, with 3 rights”. */
const other = ({ detail, known }: Told, word: string): Part => devicePart(known, new RegExp(`\\b${word} ([^\\s,;]+)`).exec(detail)?.[1] ?? "another device");
const simple = (done: string, denied: string): Sentence => ({ who, denied: refused }) => ({ parts: [who, ` ${refused ? denied : done}.`] });
const acted = (done: string, tried: string): Sentence => (told) => ({ parts: [told.who, told.denied ? ` ${tried} ` : ` ${done} `, named(told), "."] });

export const ACCESS_SENTENCES: Record<string, Sentence> = {
  "session.revoke": simple("ended a session", "tried to end a session"),
  "password.reset": ({ who, denied }) => ({ parts: denied ? ["Somebody tried to reset a password with a code."] : [who, " chose a new password with a code."] }),
  "password.reset_code": (told) => ({ parts: [told.who, " made a reset link for ", about(told), "."] }),
  "password.recovery_code": simple("made a new recovery code", "tried to make a recovery code"),
  "second_factor.begin": simple("began to set up a second factor", "tried to set up a second factor"),
  "second_factor.set": simple("set up a second factor", "typed a wrong code for a second factor"),
  "second_factor.remove": simple("switched off their second factor", "tried to switch off their second factor"),
  "user.change": (told) => ({ parts: [told.who, " changed the account of ", about(told), "."], why: told.detail ? `${capital(told.detail)}.` : "" }),
  "user.networks": (told) => ({ parts: [told.who, " changed the networks of ", about(told), "."] }),
  "user.register": ({ who, denied }) => ({ parts: denied ? ["Somebody tried to make an account."] : [who, " made an account."] }),
  "user.erase": (told) => ({ parts: [told.who, " erased the data of ", about(told), "."] }),
  "user.export": simple("exported their data", "tried to export their data"),
  "invitation.make": ({ who, denied }) => ({ parts: [who, denied ? " tried to invite somebody." : " made an invitation."] }),
  "invitation.look": ({ who, denied }) => ({ parts: [who, denied ? " tried an invitation's code that does not work." : " looked at an invitation."] }),
  "invitation.accept": simple("accepted an invitation", "tried to accept an invitation"),
  "invitation.withdraw": simple("withdrew an invitation", "tried to withdraw an invitation"),
  "hub.settings": ({ who, denied, detail }) => ({ parts: [who, denied ? " tried to change the hub's settings." : " changed the hub's settings."], why: detail ? `${capital(detail)}.` : "" }),
  "clock.vouch": simple("told the hub what time it is", "tried to tell the hub what time it is"),
  "device.transfer": ({ who, device, known, detail }) => ({ parts: [who, " handed ", device, " over to ", actorPart(known, /user:[^\s,;]+/.exec(detail)?.[0] ?? "user:"), "."] }),
  "device.replace": (told) => ({ parts: [told.who, " replaced ", told.device, " by ", other(told, "by"), "."] }),
  "device.take_place": (told) => ({ parts: [told.device, " took the place of ", other(told, "of"), ", with its name, room and rights."] }),
  "device.reset": ({ device }) => ({ parts: [device, " was reset to how it left the factory."] }),
  "device.displaced": ({ device }) => ({ parts: ["Something took the connection of ", device, "."], why: "The same identity signed in again while it was still there. Once means nothing; again and again means two devices." }),
  "device.quarantine": ({ device }) => ({ parts: [device, " was quarantined: two things act as it."] }),
  "device.lift": ({ who, device, detail }) => ({ parts: [who, " ended the quarantine of ", device, "."], why: detail ? `Note: ${detail}.` : "" }),
  "app.consent": (told) => ({ parts: [told.who, " let ", named(told, "an app"), " act for them."] }),
  "app.link": (told) => ({ parts: [told.who, " let ", named(told, "an app"), " act for them."] }),
  "app.deny": (told) => ({ parts: [told.who, " refused to let ", named(told, "an app"), " act for them."] }),
  "app.token": acted("made the token", "tried to make the token"),
  "app.end": ({ who, known, entry, detail }) => {
    const name = known.others?.[entry.object];
    return { parts: [who, " ended ", name ? { name } : "an app", "."], why: detail && detail !== name ? `${capital(detail)}.` : "" };
  },
  "app.refresh": (told) => ({ parts: [named(told, "an app"), told.denied ? " was refused a new token." : " renewed its token."] }),
  "app.revoke_token": (told) => ({ parts: [named(told, "an app"), " gave its token back."] }),
  "client.add": acted("registered the app", "tried to register the app"),
  "client.end": acted("ended the registration of the app", "tried to end the registration of the app"),
  "service.add": acted("made the service", "tried to make the service"),
  "service.change": acted("changed the service", "tried to change the service"),
  "service.secret": acted("made a new secret for", "tried to make a new secret for"),
  "service.end": acted("ended the service", "tried to end the service"),
  "service.sign_in": ({ who, denied }) => ({ parts: denied ? ["Something that calls itself ", who, " was refused."] : [who, " signed in."] }),
  "support.open": ({ who, known, denied, detail }) => {
    const [, privilege = "", whom = "", on = "", minutes, reason = ""] = /^(\w+) for (\S+) on (.*?), (\d+) min: (.*)$/s.exec(detail) ?? [];
    if (denied || !minutes) return { parts: [who, denied ? " tried to open a support session." : " opened a support session."] };
    const right = RIGHTS[privilege.toLowerCase() as Privilege]?.does ?? "";
    const devices = on.split(" ").map((id) => plain(devicePart(known, id))).join(", ");
    return { parts: [who, " opened a support session for ", actorPart(known, whom), "."], why: `${capital(right)}: ${devices}, for ${minutes} minutes. Reason: ${reason.replace(/\.$/, "")}.` };
  },
  "support.end": ({ who }) => ({ parts: [who, " ended a support session."] }),
  "support.narrow": ({ who }) => ({ parts: [who, " narrowed a support session."] }),
  "audit.export": simple("exported the activity", "tried to export the activity"),
  "audit.erase": ({ who }) => ({ parts: [who, " erased what was personal in older entries."] }),
  "twin.read": ({ who, device, denied }) => ({ parts: [who, denied ? " may not look at " : " looked at ", device, "."] }),
  "audit.cut": () => ({ parts: ["Older entries made room for new ones."] }),
};

function plain(part: Part): string {
  return typeof part === "string" ? part : part.name;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
