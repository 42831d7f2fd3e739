// Why one's right did not suffice: the hub's own answer, asked for when somebody wants to know.

import { useState } from "preact/hooks";
import { api, asProblem, type Problem } from "../api.ts";
import { RIGHTS } from "../rights.ts";
import type { Action, Device, Explanation } from "../types.ts";
import { ProblemNote } from "./problem.tsx";

/** A refusal, and for one that came of a lack of rights a way to ask why. */
export function Refusal({ problem, device, action }: { problem: Problem | null; device: Device; action: Action }) {
  return <ProblemNote problem={problem}>{problem?.status === 403 && <Why key={problem.detail} device={device} action={action} />}</ProblemNote>;
}

function Why({ device, action }: { device: Device; action: Action }) {
  const [told, setTold] = useState<Explanation | "asking" | "unknown" | null>(null);
  // A hub that cannot explain leaves the refusal as it is.
  if (told === "unknown") return null;
  if (told && told !== "asking") return <p class="note-next why">{inWords(told)}</p>;
  async function ask() {
    setTold("asking");
    try {
      setTold(await api.explain(device.id, action));
    } catch (error) {
      setTold(asProblem(error).status === 404 ? "unknown" : null);
    }
  }
  return <button type="button" class="text-button" disabled={told === "asking"} onClick={() => void ask()}>Why?</button>;
}

/** How far one's right goes and how far it would have to; for all other reasons what the hub says of them. */
function inWords({ allowed, reason, explanation, needs, privilege }: Explanation): string {
  if (allowed) return "Your right goes this far by now: try again.";
  const far = privilege ? `You may ${RIGHTS[privilege].you}. ` : "";
  if (far && needs && reason === "privilege_too_low") return `${far}This needs the right to ${RIGHTS[needs].you}.`;
  return `${far}${explanation.charAt(0).toUpperCase()}${explanation.slice(1).replace(/\.$/, "")}.`;
}
