// What every page has to know of the cloud: the few words it carries when something is wrong for long. Pure.

import type { CloudState } from "./types.ts";

const SPANS = [["day", 86_400_000], ["hour", 3_600_000], ["minute", 60_000]] as const;
/** For how long the cloud may stay out of reach before every page says so. */
const LONG = SPANS[0][1];

export const RETIRED = {
  title: "This hub has been replaced.",
  detail: "Another hub has taken its place with the recovery code of this home, and this one serves nobody any more.",
  next: "Use the new hub, and switch this one off. If nobody in this home replaced it, somebody has your recovery code: tell the operator of the cloud at once.",
};

/** The few words that every page carries when something is wrong for long; null while there is nothing to say. */
export function markOf(view: CloudState | null, retired: boolean, now: number, review = false): { tone: "warn" | "bad"; text: string } | null {
  if (retired || isRetired(view)) return { tone: "bad", text: RETIRED.title };
  if (review) return { tone: "warn", text: "Rights rest until you have looked through them" };
  if (!view?.linked || !(view.state?.problem || view.state?.phase === "failing")) return null;
  if (!view.last_success) return { tone: "warn", text: "No word from the cloud yet" };
  const silent = now - view.last_success;
  return silent > LONG ? { tone: "warn", text: `No word from the cloud for ${spanWords(silent)}` } : null;
}

export function isRetired(view: CloudState | null): boolean {
  return view?.retired === true || view?.state?.phase === "retired";
}

/** A span of time: “3 hours”; what is short is “less than a minute”. */
export function spanWords(ms: number): string {
  for (const [word, span] of SPANS) {
    const whole = Math.floor(ms / span);
    if (whole > 0) return count(whole, word);
  }
  return "less than a minute";
}

export function count(n: number, one: string, more = `${one}s`): string {
  return `${n.toLocaleString("en")} ${n === 1 ? one : more}`;
}
