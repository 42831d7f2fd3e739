import assert from "node:assert/strict";
import { test } from "node:test";
import { caretAfterFormat, checkSymbol, formatTyped, parseClaimCode, parseLabel } from "../src/claim-code.ts";

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const SAMPLES = ["0123456789ABCDEFGHJK", "ZZZZZZZZZZZZZZZZZZZZ", "00000000000000000001", "7QK2M9XVTB4C0WFYH83R"];
const withCheck = (proper: string) => proper + checkSymbol(proper);

test("the check symbol follows the rule of the protocol", () => {
  // By hand: one symbol 1 in place i gives α^(i+1); 2, 4, 8, 16, then x⁵ = x²+1 = 5.
  const single = (place: number) => "0".repeat(place) + "1" + "0".repeat(19 - place);
  assert.deepEqual([0, 1, 2, 3, 4, 5].map((place) => ALPHABET.indexOf(checkSymbol(single(place)))), [2, 4, 8, 16, 5, 10]);
  assert.equal(checkSymbol("0".repeat(20)), "0");
});

test("every wrong symbol is detected", () => {
  for (const proper of SAMPLES) {
    const whole = withCheck(proper);
    assert.equal(parseClaimCode(whole).kind, "whole");
    for (let place = 0; place < whole.length; place++)
      for (const symbol of ALPHABET) {
        if (symbol === whole[place]) continue;
        const wrong = whole.slice(0, place) + symbol + whole.slice(place + 1);
        assert.equal(parseClaimCode(wrong).kind, "mistyped", wrong);
      }
  }
});

test("every exchange of two symbols is detected", () => {
  for (const proper of SAMPLES) {
    const whole = withCheck(proper);
    for (let a = 0; a < whole.length; a++)
      for (let b = a + 1; b < whole.length; b++) {
        if (whole[a] === whole[b]) continue;
        const swapped = [...whole];
        [swapped[a], swapped[b]] = [whole[b] ?? "", whole[a] ?? ""];
        assert.equal(parseClaimCode(swapped.join("")).kind, "mistyped", swapped.join(""));
      }
  }
});

test("typing is grouped by three, and I, L and O are read as digits", () => {
  assert.equal(formatTyped("il o7qk"), "110-7QK");
  assert.equal(formatTyped("abc"), "ABC");
  assert.equal(formatTyped("abc-"), "ABC");
  const whole = withCheck("01234567890123456789");
  assert.deepEqual(parseClaimCode(whole.replaceAll("1", "l").replaceAll("0", "o").toLowerCase()), { kind: "whole", code: formatTyped(whole) });
});

test("dashes and spaces of any kind are skipped", () => {
  const whole = withCheck(SAMPLES[3] ?? "");
  assert.equal(parseClaimCode(` ${whole.slice(0, 3)}–${whole.slice(3, 9)}\u00a0${whole.slice(9)} `).kind, "whole");
});

test("a character that no code has is named, and so is a wrong length", () => {
  assert.deepEqual(parseClaimCode("ABU"), { kind: "stray", character: "U" });
  assert.deepEqual(parseClaimCode("AB?"), { kind: "stray", character: "?" });
  assert.deepEqual(parseClaimCode("ABC-D"), { kind: "short", typed: 4 });
  assert.deepEqual(parseClaimCode("0".repeat(22)), { kind: "long", typed: 22 });
  assert.deepEqual(parseClaimCode(" - "), { kind: "empty" });
});

test("the text of a label's QR code gives id and code", () => {
  const whole = withCheck(SAMPLES[0] ?? "");
  assert.deepEqual(parseLabel(` HK1:Garage_Door-01:${whole}\n`), { deviceId: "Garage_Door-01", code: formatTyped(whole) });
  assert.equal(parseLabel(whole), null);
  assert.equal(parseLabel("HK1:x:ABC"), null);
});

test("the caret stays behind the symbol that was typed", () => {
  assert.equal(caretAfterFormat("abcd", 4), 5);
  assert.equal(caretAfterFormat("abc", 3), 3);
  assert.equal(caretAfterFormat("xABC-DEF", 1), 1);
  assert.equal(caretAfterFormat("", 0), 0);
});
