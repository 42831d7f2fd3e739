// Plain words for the firmware of devices (docs/protocol/firmware.md). Pure, so that they can be tested without a browser.

import { count, spanWords } from "./cloud-mark.ts";
import type { DeviceFirmware, Ended, Mode, Policy, Progress, Release, Verdict } from "./firmware-api.ts";
import { moment } from "./rights.ts";
import { windowText } from "./terms.ts";

export const MODES: Record<Mode, { label: string; means: string }> = {
  automatic: { label: "Automatic", means: "A new version is installed by itself." },
  ask: { label: "Ask", means: "Each device waits until somebody says yes to the new version." },
  hold: { label: "Hold", means: "Nothing is installed. What there is, is shown." },
};

/** What was chosen, in a sentence or two. */
export function policyWords({ mode, window, percent, stop }: Policy): string {
  if (mode === "hold") return "Held: nothing is installed.";
  const parts = [mode === "automatic" ? "Installed by itself" : "Asks first"];
  if (window) parts.push(`${windowText(window)}`);
  if (percent < 100) parts.push(`${percent} % of the devices first`);
  return `${parts.join(", ")}. Stops when more than ${stop.percent} % of at least ${stop.after} fail.`;
}

/** What is wrong with a policy, by its field; empty where nothing is. */
export function policyErrors({ window, percent, stop }: Policy): { window: string; percent: string; stop: string } {
  const whole = (n: number, from: number, to: number) => Number.isInteger(n) && n >= from && n <= to;
  return {
    window: !window ? "" : window.days.length === 0 ? "Choose at least one day." : /^\d\d:\d\d$/.test(window.from) && /^\d\d:\d\d$/.test(window.to) ? "" : "Choose both times.",
    percent: whole(percent, 0, 100) ? "" : "A number from 0 to 100.",
    stop: whole(stop.after, 1, 1_000_000) && whole(stop.percent, 0, 100) ? "" : "So many devices, from 1, and so many percent, from 0 to 100.",
  };
}

export interface Told {
  tone: "plain" | "good" | "warn" | "bad" | "accent";
  title: string;
  next?: string;
}

/** How far a device is, or for what it waits, and what to do. `named` says a release by its version. */
export function standsAt(view: DeviceFirmware, named: (rel: number) => string, now: number, asked: boolean): Told {
  const told = stand(view, named, now, asked);
  return { ...told, title: told.title.charAt(0).toUpperCase() + told.title.slice(1) };
}

function stand({ verdict, progress, policy, rel }: DeviceFirmware, named: (rel: number) => string, now: number, asked: boolean): Told {
  const to = verdict.rel ?? progress.rel;
  const version = to ? named(to) : "";
  if (progress.offer)
    switch (progress.state) {
      case "downloading":
        return { tone: "accent", title: `It is getting ${version}.` };
      case "downloaded":
        return verdict.install === false ? { tone: "accent", title: `It has ${version}, and installs it ${policy.window ? windowText(policy.window) : "later"}.` } : { tone: "accent", title: `It has ${version}, and is about to install it.` };
      case "installing":
        return { tone: "accent", title: `It is installing ${version}.`, next: "Leave it its power: it restarts by itself, and goes back if it does not come up well." };
    }
  const failed = progress.state === "failed" && progress.code ? failureWords(progress) : "";
  switch (verdict.state) {
    case "offer":
      return { tone: "accent", title: `It is offered ${version}.`, next: `${failed}${failed ? " " : ""}It begins when it is connected and has asked for it.` };
    case "waits":
      return waits(verdict, version, now, failed, asked);
    case "not_known":
      return { tone: "plain", title: "It has not said what it runs.", next: "Devices that take updates say it by themselves when they connect." };
    default:
      return rel === null ? { tone: "plain", title: "It has not said what it runs." } : { tone: "good", title: "It runs the newest that this hub knows." };
  }
}

function waits({ why, until }: Verdict, version: string, now: number, failed: string, asked: boolean): Told {
  const say = (tone: Told["tone"], title: string, next: string): Told => ({ tone, title, next: failed && tone !== "plain" ? `${failed} ${next}` : next });
  switch (why) {
    case "hold":
      return say("plain", `${version} is there, and held.`, "An update begins when “Hold” is chosen no more.");
    case "ask":
      return say("accent", `${version} is there, and waits for a yes.`, asked ? "" : "Somebody who manages this device can say it.");
    case "window":
      return say("plain", `${version} waits for its time of the week.`, "Nothing needs to be done.");
    case "stage":
      return say("plain", `${version} goes to some devices first, and this one is not among them.`, "It follows when a larger share is chosen, or at once with a yes.");
    case "stopped":
      return say("warn", `${version} was stopped, because it failed on too many devices.`, "An owner can let it go on under Settings, Firmware.");
    case "backoff":
      return say("warn", `${version} failed, and is tried again${until && until > now ? ` in ${spanWords(until - now)}` : " soon"}.`, "Nothing needs to be done.");
    case "gave_up":
      return say("bad", `${version} failed again and again, and is not tried by itself any more.`, asked ? "Say yes to try it once more." : "Somebody who manages this device can have it tried once more.");
    case "step":
      return say("warn", `${version} needs another version before it, which this hub does not have.`, "Ask the maker for the versions in between, and bring their files.");
    case "hardware":
      return say("plain", `${version} is there, for other hardware than this.`, "Nothing needs to be done.");
    case "not_cached":
      return say("warn", `${version} is known, but its file is not on this hub any more.`, "Bring the file again, or let the cloud bring it.");
    default:
      return say("plain", `${version} waits.`, "Nothing needs to be done.");
  }
}

const FAILURES: Record<string, string> = {
  signature: "The device did not accept the maker's signature.",
  hash: "What it received was not what the maker signed.",
  size: "What it received had another size.",
  model: "It is for another model.",
  hardware: "It is for other hardware.",
  older: "It is older than what the device had before.",
  step: "The device needs a version in between.",
  download: "The download broke off.",
  storage: "The device has no room for it.",
  install: "It could not be written.",
  health: "It came up, was not well, and went back to what it had.",
  power: "The power was not enough.",
  refused: "The device refused it.",
  silent: "The device has not been heard of since it began to install.",
};

/** Why it failed, in a sentence, with the device's own words if it has any. */
export function failureWords({ code = "", detail = "" }: Pick<Progress, "code" | "detail">): string {
  const known = FAILURES[code] ?? "It failed.";
  return detail.trim() ? `${known} The device says: “${detail.trim()}”.` : known;
}

/** How an offer ended: “Installed”, or why not. */
export function endWords(ended: Ended): { tone: "good" | "bad" | "plain"; text: string } {
  if (ended.outcome === "confirmed") return { tone: "good", text: "Installed." };
  if (ended.outcome === "withdrawn") return { tone: "plain", text: "Taken back before it was installed." };
  return { tone: "bad", text: failureWords(ended) };
}

/** How a release does in this home. */
export function triedWords({ tried, failed }: Pick<Release, "tried" | "failed">): string {
  if (tried === 0) return "no device has tried it yet";
  if (failed === 0) return `${count(tried, "device has it", "devices have it")}`;
  return `${count(tried, "device has", "devices have")} tried it, and ${failed === tried ? (tried === 1 ? "it" : "all") : failed} failed`;
}

/** When a release was made and where it came from. */
export function fromWords({ made_at, from }: Pick<Release, "made_at" | "from">, now: number): string {
  return `made ${moment(made_at, now)}, ${from === "cloud" ? "brought by the cloud" : "brought as a file"}`;
}
