// Names for what the audit tells by id: pure, from what the page knows, so that it can be tested without a browser.

import { humanise } from "../controls.ts";
import type { Device, Model, User } from "../types.ts";

export interface Known {
  people: readonly User[];
  devices: ReadonlyMap<string, Device>;
  models: ReadonlyMap<string, Model | "missing">;
  /** What apps and services are called, by `app:<id>` and `service:<id>`. */
  others?: Readonly<Record<string, string>>;
}

/** A piece of a sentence: plain words, a name, or a device that has a page. */
export type Part = string | { name: string } | { name: string; device: string };

/** Who acted: `user:<id>`, `app:<id>`, `service:<id>`, `device:<id>`, `hub`, `console`, or `?` with the name that was tried. */
export function actorPart(known: Known, actor: string): Part {
  if (actor.startsWith("?")) return actor === "?" ? "Somebody" : { name: `“${triedName(known, actor)}”` };
  const [kind = "", id = ""] = cut(actor, ":");
  if (actor === "hub") return "The hub";
  if (actor === "cloud") return "The cloud";
  if (actor === "console" || (kind === "user" && id === "console")) return "The box itself";
  if (kind === "user") return { name: personName(known, id) ?? "Somebody" };
  if (kind === "device") return devicePart(known, id);
  if (kind === "app" || kind === "service") return { name: known.others?.[actor] ?? (kind === "app" ? "An app" : "A service") };
  return { name: actor };
}

/** What somebody said to be, before the hub knew better; a device that is known has its name. */
export function triedName(known: Known, actor: string): string {
  const tried = actor.slice(1);
  if (tried.startsWith("service:")) return known.others?.[tried] ?? "a service";
  const device = known.devices.get(tried);
  return device ? deviceName(device) : tried;
}

export function devicePart(known: Known, id: string): Part {
  const device = known.devices.get(id);
  return device ? { name: deviceName(device), device: id } : { name: id };
}

/** A person's name; null for one that is not (or no longer) known. */
export function personName(known: Known, id: string): string | null {
  const user = known.people.find((each) => each.id === id);
  return user ? user.display_name || user.username : null;
}

/** The words that the device's model has for a command or an attribute. */
export function titleIn(known: Known, device: string, section: "commands" | "attributes", name: string): string {
  const of = known.devices.get(device);
  const model = of && known.models.get(`${of.brand}/${of.model}`);
  const title = model && model !== "missing" ? model[section]?.[name]?.title : undefined;
  return title ?? humanise(name);
}

/** What stands before the first `mark`, and what after it. */
export function cut(text: string, mark: string): [before: string, after: string] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + mark.length)];
}

function deviceName(device: Device): string {
  return device.name || device.title || device.id;
}
