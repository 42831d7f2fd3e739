// What a device is worth and what it does, in the words of the whole project.

import { ago, fullTime } from "../clock.ts";
import type { Device, DeviceState, Trust } from "../types.ts";

/** `limits`: what one should know before one relies on it. */
export const TRUST: Record<Trust, { tone: string; label: string; means: string; limits: string }> = {
  attested: { tone: "good", label: "Attested", means: "It has proved the key its maker gave it.", limits: "" },
  provisional: { tone: "warn", label: "Provisional", means: "Its maker vouches for it and its code was right; it has yet to prove its key.", limits: "Until then it takes no critical command, such as opening a door, and no other device can be bound to it. This ends by itself once its key is checked." },
  unattested: { tone: "plain", label: "Unattested", means: "No maker vouches for it: it was given its credential by hand.", limits: "What it reports and does is worth as much as you trust it. It holds no key that could prove it is the one you bought." },
};

export const STATE: Record<DeviceState, { tone: string; label: string; means: string }> = {
  waiting: { tone: "accent", label: "Waiting", means: "It waits to be claimed with the code on its label." },
  claimed: { tone: "warn", label: "Claimed", means: "Waiting for the device to fetch its key. It is yours; it becomes ready when it has signed in with that key." },
  ready: { tone: "good", label: "Ready", means: "It is yours and has signed in with what the claim gave it." },
  suspended: { tone: "bad", label: "Suspended", means: "An owner has suspended it: it can neither sign in nor be used." },
  quarantined: { tone: "bad", label: "Quarantined", means: "Two devices use this identity. Nothing is trusted until an owner has looked at it." },
};

export function Badges({ device }: { device: Device }) {
  const trust = TRUST[device.trust];
  const state = STATE[device.state];
  return (
    <ul class="badges" aria-label="Trust and state">
      {state && <li class={`badge ${state.tone}`} title={state.means}>{state.label}</li>}
      {device.behind && <li class="badge bad" title="What it runs is not safe any more: it can do nothing but update.">Behind</li>}
      {trust && <li class={`badge ${trust.tone}`} title={trust.means}>{trust.label}</li>}
    </ul>
  );
}

export function Presence({ device }: { device: Device }) {
  const { online, last_seen } = device;
  return (
    <span class={online ? "presence online" : "presence"}>
      {online ? "Online" : last_seen ? <span>Offline, last seen <time dateTime={new Date(last_seen).toISOString()} title={fullTime(last_seen)}>{ago(last_seen)}</time></span> : "Not seen yet"}
    </span>
  );
}

export function nameOf(device: Device): string {
  return device.name || device.title || device.id;
}
