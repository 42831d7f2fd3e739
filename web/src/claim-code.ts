// The claim code as a person types it (identity.md §4): 20 Crockford symbols and a check symbol, so that a typing error
// shows before anything is sent. Whether the code is the right one, only the hub knows.

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const PROPER = 20;
export const SYMBOLS = PROPER + 1;

export type ClaimCode =
  | { kind: "empty" }
  /** A character that no code has, as it was typed. */
  | { kind: "stray"; character: string }
  | { kind: "short"; typed: number }
  | { kind: "long"; typed: number }
  /** All symbols are there and do not fit together: at least one is wrong, or two are exchanged. */
  | { kind: "mistyped" }
  | { kind: "whole"; code: string };

export function parseClaimCode(text: string): ClaimCode {
  const symbols = normalise(text);
  if (symbols === "") return { kind: "empty" };
  for (const symbol of symbols) if (!ALPHABET.includes(symbol)) return { kind: "stray", character: symbol };
  if (symbols.length < SYMBOLS) return { kind: "short", typed: symbols.length };
  if (symbols.length > SYMBOLS) return { kind: "long", typed: symbols.length };
  if (checkSymbol(symbols.slice(0, PROPER)) !== symbols[PROPER]) return { kind: "mistyped" };
  return { kind: "whole", code: grouped(symbols) };
}

/** The check symbol of a code proper: the sum in GF(32) of symbolᵢ · α^(i+1), with x⁵+x²+1 and α = 2. */
export function checkSymbol(proper: string): string {
  let sum = 0;
  let weight = 1;
  for (const symbol of proper) {
    weight = times(weight, 2);
    sum ^= times(ALPHABET.indexOf(symbol), weight);
  }
  return ALPHABET.charAt(sum);
}

/** What was typed, in upper case and groups of three, with I and L read as 1 and O as 0. */
export function formatTyped(text: string): string {
  return grouped(normalise(text));
}

/** The label's QR text `HK1:<device_id>:<21 symbols>`, wherever it stands in what was pasted. */
export function parseLabel(text: string): { deviceId: string; code: string } | null {
  const found = /\bHK1:([A-Za-z0-9_-]{1,64}):([0-9A-Za-z -]{21,40})\s*$/i.exec(text.trim());
  if (!found?.[1] || !found[2]) return null;
  return { deviceId: found[1], code: grouped(normalise(found[2])) };
}

/** The caret's place after formatting, so that typing in the middle of a code stays there. */
export function caretAfterFormat(before: string, caret: number): number {
  const symbols = normalise(before.slice(0, caret)).length;
  return symbols + Math.max(0, Math.floor((symbols - 1) / 3));
}

function normalise(text: string): string {
  return text
    .replace(/[\s\u2010-\u2015-]/g, "")
    .toUpperCase()
    .replace(/[IL]/g, "1")
    .replace(/O/g, "0");
}

function grouped(symbols: string): string {
  return symbols.replace(/(.{3})(?=.)/gu, "$1-");
}

function times(a: number, b: number): number {
  let product = 0;
  for (let bit = 0; bit < 5; bit++) if (b & (1 << bit)) product ^= a << bit;
  for (let bit = 8; bit >= 5; bit--) if (product & (1 << bit)) product ^= 0b100101 << (bit - 5);
  return product;
}
