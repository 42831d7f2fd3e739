// Rights to a device in plain words, and the times they end: pure, so that it can be tested without a browser.

import { mayAtLeast } from "./controls.ts";
import type { Binding, Privilege, Role, User } from "./types.ts";

/** What each right lets one do: to follow a name (“Tom uses it”), to follow “You”, and as a sentence for who gives it. */
export const RIGHTS: Record<Privilege, { does: string; you: string; means: string }> = {
  view: { does: "sees it", you: "see it", means: "They see what it reports, and can change nothing." },
  operate: { does: "uses it", you: "use it, except what is critical", means: "They see it and use it, except what is critical, such as opening a door." },
  manage: { does: "uses it, also what is critical", you: "use it, also what is critical", means: "They use all of it, also what is critical, and may change its name and room." },
  administer: { does: "administers it", you: "administer it", means: "They do all of this, share it with others, take rights away, and can remove it." },
};

export const PRIVILEGES = Object.keys(RIGHTS) as Privilege[];

export const ROLE_NAMES: Record<Role, string> = {
  owner: "Owner",
  member: "Member",
  guest: "Guest",
  developer: "Developer",
  product_manager: "Product manager",
  support: "Support",
};

export const VENDOR_ROLES: readonly Role[] = ["developer", "product_manager", "support"];

/** Owners and members claim devices and let apps act for them; guests and a maker's people do not. */
export function mayClaim(user: Pick<User, "role"> | null | undefined): boolean {
  return user?.role === "owner" || user?.role === "member";
}

export type Ending = "hour" | "today" | "week" | "good" | "until";

export const ENDINGS: Record<Ending, string> = { good: "For good", hour: "One hour", today: "Today", week: "A week", until: "Until…" };

/** When a right of this choice ends, ms since 1970: null for never, `NaN` when no time, or one that has passed, was given. */
export function endOf(choice: Ending, now: number, given = ""): number | null {
  switch (choice) {
    case "good":
      return null;
    case "hour":
      return now + 3_600_000;
    case "today":
      return new Date(now).setHours(24, 0, 0, 0);
    case "week": {
      // The same time of day, also where the clocks change meanwhile.
      const day = new Date(now);
      return day.setDate(day.getDate() + 7);
    }
    case "until": {
      const end = new Date(given).getTime();
      return end > now ? end : NaN;
    }
  }
}

/** A time as a field for date and time has it, in the time of this place. */
export function localTime(at: number): string {
  const day = new Date(at);
  const two = (n: number) => String(n).padStart(2, "0");
  return `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}T${two(day.getHours())}:${two(day.getMinutes())}`;
}

/** “until 18:30” today, with the day on other days; “for good” without an end; and since when, if that is to come. */
export function lasting({ from, until }: Pick<Binding, "from" | "until">, now: number): string {
  const end = until === null ? "for good" : until <= now ? `ended ${moment(until, now)}` : `until ${moment(until, now)}`;
  return from !== null && from > now ? `from ${moment(from, now)}, ${end}` : end;
}

/** Whether nobody would administer the device for good without this person. */
export function isLastAdministrator(bindings: readonly Binding[], user: string): boolean {
  const forGood = bindings.filter((each) => each.user !== null && each.privilege === "administer" && each.until === null);
  return forGood.length > 0 && forGood.every((each) => each.user === user);
}

/** The rights somebody may give: up to their own. */
export function mayGive(own: Privilege): Privilege[] {
  return PRIVILEGES.filter((each) => mayAtLeast(own, each));
}

/** What a holder of a right is called; a person as they want to be called where that is known. */
export function calledOf(binding: Pick<Binding, "user" | "username" | "name" | "subject">, people: readonly User[]): string {
  const person = binding.user === null ? undefined : people.find((each) => each.id === binding.user);
  return person?.display_name || binding.name || binding.username || binding.subject;
}

/** What holds a right, beside a person, in a word. */
export function kindOf(subject: string): string {
  const kind = subject.slice(0, subject.indexOf(":"));
  return { device: "device", app: "app", service: "service" }[kind] ?? "";
}

/** Who gave a right, to end the sentence “given by …”; empty when the page cannot know. */
export function giver(binding: Binding, people: readonly User[], me: string): string {
  if (binding.granted_by === "claim") return "claimed with the code on its label";
  const id = binding.granted_by.replace(/^user:/, "");
  if (id === me) return id === binding.user ? "taken by you" : "given by you";
  if (id === binding.user) return "taken as an owner of this hub";
  const person = people.find((each) => each.id === id);
  const name = person ? person.display_name || person.username : binding.granted_by_name;
  return name ? `given by ${name}` : "";
}

/** A time in a few characters: without the day when it is today. */
export function moment(at: number, now: number): string {
  const sameDay = new Date(at).toDateString() === new Date(now).toDateString();
  return new Date(at).toLocaleString(undefined, sameDay ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}
