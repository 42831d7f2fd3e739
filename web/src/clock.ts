// Time as the hub has it, and words for it.

import { signal } from "@preact/signals";

let skew = 0;
/** Goes forward every 20 seconds, so that “2 minutes ago” does not stand still. */
export const now = signal(Date.now());

/** The hub's time at this moment. */
export function present(): number {
  return Date.now() + skew;
}

export function keepTime(): void {
  setInterval(() => (now.value = present()), 20_000);
}

export function skewFrom(hubTime: number): void {
  if (Number.isFinite(hubTime)) skew = hubTime - Date.now();
  now.value = present();
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
];

export function ago(at: number, from = now.value): string {
  const past = at - from;
  for (const [unit, span] of STEPS) if (-past >= span) return relative.format(Math.round(past / span), unit);
  return "just now";
}

export function fullTime(at: number): string {
  return new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}
