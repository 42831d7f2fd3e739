// Why one's right did not suffice: the hub's own answer, asked for when somebody wants to know.

import { useState } from "preact/hooks";
import { api, asProblem, type Problem } from "../api.ts";
import { RIGHTS } from "../rights.ts";
import type { Action, Device, Explanation } from "../types.ts";
import { ProblemNote } from "./problem.tsx";

/** A refusal, and for one that came of a lack of rights a way to ask why. */
export function Refusal({ problem, device, action, of }: { problem: Problem | null; device: Device; action: Action; of?: string }) {
  return <ProblemNote problem={problem}>{problem?.status === 403 && <Why key={problem.detail} device={device} action={action} {...(of ? { of } : {})} />}</ProblemNote>;
}

/** Asks why one may or may not do this, or somebody else (`username`, called `name`); `of` is an attribute or a command. */
export function Why({ device, action, of, username, name }: { device: Device; action: Action; of?: string; username?: string; name?: string }) {
  const [told, setTold] = useState<Explanation | "asking" | "unknown" | null>(null);
  // A hub that cannot explain leaves the refusal as it is.
  if (told === "unknown") return null;
  if (told && told !== "asking") return <span class="note-next why" role="status">{inWords(told, name)}</span>;
  async function ask() {
    setTold("asking");
    try {
      setTold(await api.explain(device.id, action, { ...(of ? { name: of } : {}), ...(username ? { username } : {}) }));
    } catch (error) {
      setTold([403, 404].includes(asProblem(error).status) ? "unknown" : null);
    }
  }
  return <button type="button" class="text-button" aria-label={name ? `Why does the right of ${name} not hold?` : undefined} disabled={told === "asking"} onClick={() => void ask()}>Why?</button>;
}

/** How far the right goes and how far it would have to; for all other reasons what the hub says of them. */
export function inWords({ allowed, reason, explanation, needs, privilege }: Explanation, name = ""): string {
  if (allowed) return name ? `The right of ${name} holds by now.` : "Your right goes this far by now: try again.";
  const far = !privilege || name ? "" : `You may ${RIGHTS[privilege].you}. `;
  if (!name && far && needs && reason === "privilege_too_low") return `${far}This needs the right to ${RIGHTS[needs].you}.`;
  const text = name ? explanation.replace(/\byour right\b/gi, `the right of ${name}`).replace(/\byou are\b/gi, `${name} is`) : explanation;
  return `${far}${text.charAt(0).toUpperCase()}${text.slice(1).replace(/\.$/, "")}.`;
}
