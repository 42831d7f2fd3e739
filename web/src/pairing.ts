// Adding a device nearby, in plain words: pure, so that it can be tested without a browser.

import type { WifiToGive } from "./add-api.ts";
import type { NearbyThing, Pairing, PairingStep, Radio, RadioState } from "./types.ts";

/** Radio waves that anybody can read are named as such before they are used. */
export const IMPROV_WARNING = "Anybody nearby with a radio can read the Wi-Fi passphrase while it is sent.";

export function isOver({ step }: Pick<Pairing, "step">): boolean {
  return step === "done" || step === "failed" || step === "cancelled";
}

/** How well something is heard; empty where that is not known. */
export function signalWords(dbm: number | null): string {
  if (dbm === null) return "";
  if (dbm >= -60) return "Strong signal";
  return dbm >= -78 ? "Good signal" : "Weak signal: bring it closer";
}

/** What something nearby is, and what its state means for who would add it. */
export function thingWords({ kind, state }: Pick<NearbyThing, "kind" | "state">): { label: string; tone: string; means: string } {
  if (kind === "improv") return { label: "Improv", tone: "plain", means: "It has no label for Hearthkey. It can get your Wi-Fi from here." };
  if (kind === "network") return { label: "On the network", tone: "good", means: state === "claimed" ? "It is in the network and belongs to somebody." : "It is in the network already: its code is all it needs." };
  const means = {
    open: "It is ready to be added with the code on its label.",
    claimed: "It is claimed already. Its code works only for who administers it, or after it was reset.",
    closed: "It takes nobody now. Press its button, or switch it off and on.",
    unknown: "Its code on the label adds it.",
  }[state];
  return { label: "Hearthkey", tone: state === "closed" ? "warn" : "accent", means };
}

const RADIO: Record<Exclude<RadioState, "ready">, [message: string, next: string]> = {
  disabled: ["Bluetooth is switched off in this hub's configuration.", "Whoever runs the hub sets `enabled = true` under `[bluetooth]` and starts it again."],
  absent: ["This hub has no Bluetooth.", "Plug a Bluetooth adapter into it; it is found by itself. Devices that are in the network already can be claimed without it."],
  off: ["The hub's Bluetooth is switched off.", "Switch it on in the settings of the computer the hub runs on."],
  blocked: ["The hub may not use Bluetooth.", "It is blocked by a switch for flight mode, or by the rights of the hub's account on its computer."],
  starting: ["The hub's Bluetooth is starting.", "This takes a few seconds."],
};

/** What stands between the hub and the air, and what to do about it; null when nothing does. */
export function radioWords(radio: Pick<Radio, "state" | "message" | "next">): { tone: "plain" | "warn"; message: string; next: string } | null {
  if (radio.state === "ready") return null;
  const [message, next] = RADIO[radio.state] ?? ["The hub's Bluetooth does not work.", "Look at the hub's log."];
  return { tone: radio.state === "starting" ? "plain" : "warn", message: radio.message || message, next: radio.next || next };
}

/** Whether a pairing that begins now has a chance. */
export function radioServes(radio: Pick<Radio, "state"> | null): boolean {
  return radio === null || radio.state === "ready" || radio.state === "starting";
}

type Listed = Exclude<PairingStep, "queued" | "failed" | "cancelled">;

const WORDS: Record<Listed, { todo: string; now: string; past: string; hint: string }> = {
  searching: { todo: "Find it", now: "Looking for it", past: "Found", hint: "Keep it powered and near the hub. If it has a button for pairing, press it." },
  connecting: { todo: "Connect", now: "Connecting", past: "Connected", hint: "" },
  proving: { todo: "Prove the code", now: "Proving the code on both sides", past: "The code is right", hint: "The code itself is not sent." },
  confirming: { todo: "Your answer", now: "Waiting for your answer", past: "You have confirmed it", hint: "" },
  sending: { todo: "Send what it needs", now: "Sending what it needs", past: "Sent", hint: "" },
  joining: { todo: "Join the network", now: "Joining the network", past: "In the network", hint: "A wrong passphrase shows now. This can take half a minute." },
  waiting: { todo: "Sign in", now: "Waiting for it to sign in", past: "Signed in", hint: "It looks for the hub and proves who it is. This takes up to two minutes." },
  done: { todo: "Ready", now: "Ready", past: "Ready", hint: "" },
};
const IMPROV: Partial<typeof WORDS> = {
  proving: { todo: "Its consent", now: "Waiting for its consent", past: "It has agreed", hint: "If it has a button, press it now." },
  sending: { todo: "Send the Wi-Fi", now: "Sending the Wi-Fi, unencrypted", past: "Sent", hint: "" },
};
const ORDER = Object.keys(WORDS) as Listed[];
/** Steps that only some pairings have: they are listed once they are known to come. */
const SOMETIMES: Record<Pairing["kind"], Listed[]> = { hearthkey: ["confirming"], improv: ["proving", "confirming", "waiting"] };

export interface ProgressStep {
  step: Listed;
  state: "past" | "now" | "todo" | "failed";
  text: string;
  hint: string;
}

/** The steps of a pairing as a list; `reached` is the step it was at before it ended. */
export function progressOf(pairing: Pick<Pairing, "kind" | "step" | "trust">, reached: PairingStep = pairing.step): ProgressStep[] {
  const ended = pairing.step === "failed" || pairing.step === "cancelled";
  const at = ORDER.indexOf((ended ? reached : pairing.step) as Listed);
  return ORDER.flatMap((step, index) => {
    const comes = !SOMETIMES[pairing.kind].includes(step) || index === at || (step === "confirming" && pairing.kind === "hearthkey" && pairing.trust === "provisional");
    if (!comes) return [];
    const words = (pairing.kind === "improv" && IMPROV[step]) || WORDS[step];
    const state = index < at || pairing.step === "done" ? "past" : index === at ? (ended ? "failed" : "now") : "todo";
    return [{ step, state, text: state === "failed" ? words.now : words[state], hint: state === "now" ? words.hint : "" } satisfies ProgressStep];
  });
}

/** Where it stands, in a sentence for a screen reader. */
export function standing(pairing: Pick<Pairing, "kind" | "step" | "trust" | "position">): string {
  if (pairing.step === "queued") return queueWords(pairing.position);
  if (pairing.step === "failed") return "It did not work.";
  if (pairing.step === "cancelled") return "Cancelled.";
  if (pairing.step === "done") return pairing.kind === "improv" ? "It is in the Wi-Fi." : "It is yours now.";
  return `${progressOf(pairing).find((each) => each.state === "now")?.text ?? ""}.`;
}

/** The hub adds one device at a time. */
export function queueWords(position: number | null): string {
  if (position === null || position < 1) return "Waiting for its turn: the hub adds one device at a time.";
  return position === 1 ? "It is next: the hub adds one device at a time." : `Number ${position} in the queue: the hub adds one device at a time.`;
}

/** How much has been sent, in per cent; null where that is not known. */
export function sentShare({ sent, total }: Pick<Pairing, "sent" | "total">): number | null {
  return sent === null || total === null || total <= 0 ? null : Math.min(100, Math.floor((sent / total) * 100));
}

/** What somebody has chosen and typed about the Wi-Fi, also while it is not whole. */
export interface WifiDraft {
  use: WifiToGive["use"];
  ssid: string;
  passphrase: string;
}

const bytes = (text: string) => new TextEncoder().encode(text).length;

/** What is wrong with the Wi-Fi that was typed; empty when nothing is. Bounds are in bytes, as the air has them. */
export function ssidError({ use, ssid }: WifiDraft): string {
  if (use !== "given") return "";
  if (ssid === "") return "Type the name of the Wi-Fi.";
  return bytes(ssid) > 32 ? "No Wi-Fi has so long a name: at most 32 bytes." : "";
}

export function passphraseError({ use, passphrase }: WifiDraft): string {
  if (use !== "given" || passphrase === "") return "";
  if (bytes(passphrase) < 8) return "A passphrase has at least 8 characters. Leave it empty for an open Wi-Fi.";
  return bytes(passphrase) > 64 ? "A passphrase has at most 64 characters." : "";
}

export function wifiToGive({ use, ssid, passphrase }: WifiDraft): WifiToGive {
  return use === "given" ? { use, ssid, passphrase } : { use };
}

/** Where a thing that has joined wants to be looked at, if that is an address a browser should open. */
export function safeAddress(text: string | null): string | null {
  try {
    const { protocol, href } = new URL(text ?? "");
    return protocol === "http:" || protocol === "https:" ? href : null;
  } catch {
    return null;
  }
}
