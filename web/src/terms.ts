// The terms of a right beside how far it goes: from when, in which weekly windows, how often, with what. Pure.

import type { Binding, Terms, Window } from "./types.ts";

export const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] as const;
export const DAY_NAMES: Record<string, string> = { mon: "Mon", tue: "Tue", wed: "Wed", thu: "Thu", fri: "Fri", sat: "Sat", sun: "Sun" };

/** “Mon–Fri 08:00–12:00”; “every day”; with “next day” where it goes over midnight. */
export function windowText({ days, from, to }: Window): string {
  const when = days.length === 7 ? "every day" : dayText(days);
  if (from === to) return `${when}, the whole day from ${from}`;
  return `${when} ${from}–${to}${to < from ? " the next day" : ""}`;
}

function dayText(days: readonly string[]): string {
  const at = DAYS.flatMap((day, index) => (days.includes(day) ? [index] : []));
  const runs: number[][] = [];
  for (const index of at) {
    const last = runs.at(-1);
    if (last && last.at(-1) === index - 1) last.push(index);
    else runs.push([index]);
  }
  const name = (index: number | undefined) => DAY_NAMES[DAYS[index ?? 0] ?? ""] ?? "";
  return runs.map((run) => (run.length > 2 ? `${name(run[0])}–${name(run.at(-1))}` : run.map(name).join(", "))).join(", ");
}

/** What is limited, in a few words each; nothing for a right without limits but its time. */
export function limits({ windows, uses, only }: Partial<Terms>, titles: (name: string) => string = (name) => name): string[] {
  return [
    ...(windows ?? []).map(windowText),
    ...(uses === null || uses === undefined ? [] : [uses === 1 ? "one use left" : `${uses} uses left`]),
    ...(only ? [`only ${only.map((name) => `“${titles(name)}”`).join(", ") || "nothing"}`] : []),
  ];
}

/** Whether the time falls into one of the windows, by the clock on the wall of this time zone. */
export function inWindow(windows: readonly Window[], at: number, zone: string): boolean {
  const { day, time } = wallClock(at, zone);
  const before = DAYS[(DAYS.indexOf(day) + 6) % 7] ?? day;
  return windows.some(({ days, from, to }) => {
    if (to > from) return days.includes(day) && time >= from && time < to;
    return (days.includes(day) && time >= from) || (days.includes(before) && time < to);
  });
}

function wallClock(at: number, zone: string): { day: (typeof DAYS)[number]; time: string } {
  const format = (timeZone: string | undefined) =>
    new Intl.DateTimeFormat("en-GB", { weekday: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(timeZone ? { timeZone } : {}) }).formatToParts(at);
  let parts: Intl.DateTimeFormatPart[];
  try {
    parts = format(zone);
  } catch {
    // A zone this browser does not know: its own is the best guess.
    parts = format(undefined);
  }
  const part = (type: string) => parts.find((each) => each.type === type)?.value ?? "";
  const day = DAYS.find((each) => DAY_NAMES[each] === part("weekday")) ?? "mon";
  return { day, time: `${part("hour")}:${part("minute")}` };
}

/** Why a right does not hold at this moment, for the end of a line; empty while it does. */
export function whyNot(binding: Pick<Binding, "from" | "until" | "windows" | "uses">, now: number, clock: { zone: string; known: boolean }): string {
  const { from, until, windows, uses } = binding;
  const timed = from !== null || until !== null || (windows?.length ?? 0) > 0;
  if (timed && !clock.known) return "not now: the hub does not know what time it is";
  if (until !== null && until <= now) return "not any more: its time is up";
  if (from !== null && from > now) return "not yet";
  if (uses === 0) return "not any more: all its uses are spent";
  if (windows && windows.length > 0 && !inWindow(windows, now, clock.zone)) return "not now: outside its times";
  return "";
}

/** What is wrong with a window somebody is typing; empty when it can be used. */
export function windowError({ days, from, to }: Window): string {
  if (days.length === 0) return "Choose at least one day.";
  if (!/^\d\d:\d\d$/.test(from) || !/^\d\d:\d\d$/.test(to)) return "Choose both times.";
  return "";
}

/** How many uses were typed: null for any number, `NaN` for what is no number from 1 to 10000. */
export function usesOf(text: string): number | null {
  if (text.trim() === "") return null;
  const uses = Number(text);
  return Number.isInteger(uses) && uses >= 1 && uses <= 10_000 ? uses : NaN;
}
