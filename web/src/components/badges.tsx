// What a device is worth and what it does, in the words of the whole project.

import { ago, fullTime } from "../clock.ts";
import type { Device, DeviceState, Trust } from "../types.ts";

export const TRUST: Record<Trust, { tone: string; label: string; means: string }> = {
  attested: { tone: "good", label: "Attested", means: "It has proved the key its maker gave it." },
  provisional: { tone: "warn", label: "Provisional", means: "Its maker vouches for it and its code was right; it has yet to prove its key." },
  unattested: { tone: "plain", label: "Unattested", means: "No maker vouches for it: it was given its credential by hand." },
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
