// The rules for passwords, as the hub has them: any letters, digits and symbols, 8 to 256 characters, and not easily guessed.

import type { PasswordCheck } from "../access-api.ts";

export const PASSWORD_HINT = "8 to 256 characters; any letters, digits and symbols.";

export function passwordError(password: string): string {
  const length = [...password].length;
  if (length === 0) return "Choose a password.";
  if (length < 8) return `${8 - length} more character${length === 7 ? "" : "s"} needed.`;
  if (length > 256) return `${length - 256} character${length === 257 ? "" : "s"} too many.`;
  return "";
}

const SCORES = ["It would be guessed at once.", "It would be guessed soon.", "It would do. A longer one is safer.", "It is good.", "It is very good."];

/** What the hub's check says, in a line: whether it is taken, and what would make it better. */
export function verdict({ acceptable, score, warning, suggestions }: PasswordCheck): { tone: "good" | "warn" | "bad"; text: string } {
  const tone = !acceptable ? "bad" : score < 3 ? "warn" : "good";
  const words = [SCORES[Math.min(4, Math.max(0, Math.floor(score)))] ?? "", ...(tone === "good" ? [] : [sentence(warning ?? ""), ...suggestions.map(sentence)])];
  return { tone, text: words.filter(Boolean).join(" ") };
}

function sentence(text: string): string {
  const trimmed = text.trim();
  return trimmed && !/[.?!]$/.test(trimmed) ? `${trimmed}.` : trimmed;
}
