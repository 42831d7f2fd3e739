// From a device's model and twin to what the page shows: pure, so that it can be tested without a browser.

import type { Attribute, Command, Device, Json, Model, ModelCommand, Privilege, Twin } from "./types.ts";

export type Control =
  | { kind: "reading" }
  | { kind: "switch" }
  | { kind: "slider"; min: number; max: number; step: number }
  | { kind: "number"; min?: number; max?: number; step: number | "any" }
  | { kind: "select"; values: string[] }
  | { kind: "text"; maxLength: number };

/** Which control an attribute is worked with. A number without both ends gets a field, for a slider would have to guess. */
export function controlOf(attribute: Attribute): Control {
  if (attribute.access !== "write") return { kind: "reading" };
  return inputOf(attribute);
}

/** The same for an argument of a command, which is always written. */
export function inputOf(attribute: Attribute): Control {
  const { min, max } = attribute;
  switch (attribute.type) {
    case "boolean":
      return { kind: "switch" };
    case "string":
      return attribute.values
        ? { kind: "select", values: attribute.values }
        : { kind: "text", maxLength: attribute.max_length ?? 256 };
    case "integer":
    case "number": {
      const step = attribute.step ?? (attribute.type === "integer" ? 1 : undefined);
      if (min !== undefined && max !== undefined && max > min)
        return { kind: "slider", min, max, step: step ?? niceStep(max - min) };
      return { kind: "number", step: step ?? "any", ...(min === undefined ? {} : { min }), ...(max === undefined ? {} : { max }) };
    }
  }
}

export interface Shown {
  value: Json | undefined;
  /** The person's wish has not been taken over by the device yet. */
  pending: boolean;
  /** What the device reports meanwhile, if it reports anything. */
  reported: Json | undefined;
}

/** What an attribute shows: first what was just asked for here, then what the hub still desires, then what is. */
export function shownValue(name: string, twin: Twin | undefined, asked?: Json): Shown {
  const reported = twin?.reported[name];
  if (asked !== undefined) return { value: asked, pending: asked !== reported, reported };
  const desired = twin?.delta[name];
  if (desired !== undefined && desired !== null) return { value: desired, pending: true, reported };
  return { value: reported ?? twin?.desired[name], pending: false, reported };
}

/** Why an attribute or a command cannot be used now, in words; null if it can. */
export function obstacle(device: Device, thing: Attribute | ModelCommand, isCommand: boolean): string | null {
  if (device.state === "suspended") return "This device is suspended.";
  // Owners go on using it, and the hub gives them a warning to see.
  if (device.state === "quarantined" && !device.warning) return "This device is quarantined.";
  if (device.state === "waiting") return "Claim this device first.";
  if (!mayAtLeast(device.privilege, thing.critical ? "manage" : "operate"))
    return device.privilege === "operate" ? "You may use this device, but not what is critical." : "You may see this device, not use it.";
  if (!device.online && (isCommand || thing.critical)) return "The device is offline.";
  return null;
}

const ORDER: Privilege[] = ["view", "operate", "manage", "administer"];

export function mayAtLeast(has: Privilege | null, needs: Privilege): boolean {
  return has !== null && ORDER.indexOf(has) >= ORDER.indexOf(needs);
}

export function formatValue(attribute: Attribute | undefined, value: Json | undefined): string {
  if (value === undefined || value === null) return "–";
  if (typeof value === "boolean") {
    if (attribute?.access === "write") return value ? "On" : "Off";
    return value ? "Yes" : "No";
  }
  if (typeof value === "number") {
    const digits = decimals(attribute?.step ?? (attribute?.type === "integer" ? 1 : undefined));
    const number = value.toLocaleString(undefined, { minimumFractionDigits: digits.least, maximumFractionDigits: digits.most });
    return attribute?.unit ? `${number}\u00a0${attribute.unit}` : number;
  }
  if (typeof value === "string") return attribute?.values ? humanise(value) : value;
  return JSON.stringify(value);
}

/** `auto_close` → “Auto close”. */
export function humanise(name: string): string {
  const words = name.replace(/[_-]+/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** The attributes a card tells of: what is read, first; at most two, so that cards stay of one height. */
export function cardReadings(model: Model | undefined, twin: Twin | undefined): { label: string; text: string }[] {
  if (!model?.attributes || !twin) return [];
  const entries = Object.entries(model.attributes).filter(([name]) => twin.reported[name] !== undefined && name !== quickSwitch(model));
  entries.sort(([, a], [, b]) => Number(a.access === "write") - Number(b.access === "write"));
  return entries.slice(0, 2).map(([name, attribute]) => ({
    label: attribute.title ?? humanise(name),
    text: formatValue(attribute, twin.reported[name]),
  }));
}

/** The one switch that may stand on a card: plain on and off, never something critical. */
export function quickSwitch(model: Model | undefined): string | null {
  for (const name of ["on", "power"]) {
    const attribute = model?.attributes?.[name];
    if (attribute?.type === "boolean" && attribute.access === "write" && !attribute.critical) return name;
  }
  return null;
}

const RANK = { waiting: 0, sent: 1, running: 2, done: 3, failed: 3, expired: 3 } as const;

/** The later of two states of one command: events and answers may overtake each other. */
export function laterCommand(known: Command | undefined, news: Command): Command {
  return known && RANK[known.status] > RANK[news.status] ? known : news;
}

export function isOver(command: Command): boolean {
  return RANK[command.status] === RANK.done;
}

function niceStep(span: number): number {
  return 10 ** Math.floor(Math.log10(span / 100));
}

function decimals(step: number | undefined): { least: number; most: number } {
  if (step === undefined) return { least: 0, most: 2 };
  const digits = Math.min(6, (String(step).split(".")[1] ?? "").length);
  return { least: digits, most: digits };
}
