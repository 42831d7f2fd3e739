// Plain words for the version of the hub. Pure, so that they can be tested without a browser.

import { ago } from "./clock.ts";
import { sizeWords } from "./sizes.ts";
import type { HubUpdate, SystemUpdate } from "./update-api.ts";

/** What the hub does about its version now; null while that is nothing. */
export function phaseWords({ phase, done, offered }: HubUpdate): { title: string; next: string } | null {
  const to = offered ? `version ${offered.version}` : "the new version";
  switch (phase) {
    case "idle":
      return null;
    case "checking":
      return { title: "The hub asks its vendor.", next: "" };
    case "downloading":
      return { title: `The hub gets ${to}.`, next: `${sizeWords(done)}${offered ? ` of ${sizeWords(offered.size)}` : ""}. It goes on as ever meanwhile.` };
    case "unpacking":
      return { title: `The hub checks ${to}.`, next: "It goes on as ever meanwhile." };
    case "waiting":
      return { title: `${to === "the new version" ? "The new version" : `Version ${offered?.version}`} is ready, and waits.`, next: "Nobody is interrupted: it begins when nothing stands in the way." };
    case "switching":
      return { title: `The hub starts again as ${to}.`, next: "This page follows by itself. Devices keep their connection or come back by themselves." };
    case "trying":
      return { title: "The new version serves, and is watched for a while.", next: "If it is not well, the version before comes back by itself." };
  }
}

/** What is done about the system of the box; null while that is nothing that a page has to wait for. */
export function isDoing({ phase }: Pick<SystemUpdate, "phase">): string | null {
  return { idle: null, receiving: null, checking: null, waiting: "It waits until nothing stands in the way.", installing: "The box writes its other slot, and goes on as ever meanwhile.", restarting: "The box restarts. This page follows by itself." }[phase];
}

/** What became of a system that was installed. */
export function fateWords({ version, fate }: NonNullable<SystemUpdate["tried"]>): string {
  return `Version ${version} ${{ waits: "is installed: restart the box to start it.", tried: "runs, and is watched for ten minutes.", stays: "runs, and stays.", fell_back: "was not started or did not stay: the system before it runs." }[fate]}`;
}

/** How the last update ended. */
export function lastWords(last: NonNullable<HubUpdate["last"]>, now: number): { tone: "good" | "warn" | "bad"; title: string; next: string } {
  const when = ago(last.at, now);
  const version = last.version ? `version ${last.version}` : "the program of the system";
  const reason = last.reason ? sentence(last.reason) : "";
  if (last.ended === "updated") return { tone: "good", title: `Updated to ${version}, ${when}.`, next: reason };
  if (last.ended === "refused") return { tone: "warn", title: `${capital(version)} was not tried, ${when}.`, next: reason };
  const back = last.from ? `version ${last.from}` : "the program of the system";
  return { tone: "bad", title: `${capital(version)} did not stay, ${when}: ${back} serves again.`, next: reason };
}

/** Whether the hub looks and installs by itself. */
export function habitWords({ configured, enabled, automatic }: Pick<HubUpdate, "configured" | "enabled" | "automatic">): string {
  if (!configured) return "no vendor is set, so it does not look for any";
  if (!enabled) return "only looks when asked to";
  return automatic ? "looks by itself, and installs by itself" : "looks by itself, and installs when you say so";
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function sentence(text: string): string {
  const one = capital(text.trim());
  return /[.!?…]$/.test(one) ? one : `${one}.`;
}
