// What is mirrored, and what may come from outside: a plain sentence for each, and nothing chosen unseen.

import { COMES_IN, CONSENTS, criticalApplies, LEAVES } from "../cloud-words.ts";
import type { Consent } from "../types.ts";

export function ConsentFields({ chosen, onChoose }: { chosen: readonly Consent[]; onChoose: (chosen: Consent[]) => void }) {
  const choose = (consent: Consent, on: boolean) => onChoose([...LEAVES, ...COMES_IN].filter((each) => (each === consent ? on : chosen.includes(each))));
  const one = (consent: Consent) => {
    const idle = consent === "critical" && !criticalApplies(chosen);
    return (
      <label key={consent}>
        <input type="checkbox" checked={chosen.includes(consent) && !idle} disabled={idle} onChange={(event) => choose(consent, event.currentTarget.checked)} />
        <span><strong>{CONSENTS[consent].label}</strong><span class="quiet">{CONSENTS[consent].means}</span></span>
      </label>
    );
  };
  return (
    <>
      <fieldset class="choices">
        <legend>What goes to the cloud</legend>
        {LEAVES.map(one)}
      </fieldset>
      <fieldset class="choices">
        <legend>What may come from outside</legend>
        <p class="hint">This hub decides about each wish as if it were made at home. Rights can be taken away from outside in any case.</p>
        {COMES_IN.map(one)}
      </fieldset>
    </>
  );
}

/** What was chosen, as lists to read. */
export function ConsentList({ consent }: { consent: readonly Consent[] }) {
  const named = (of: readonly Consent[]) => of.filter((each) => consent.includes(each)).map((each) => CONSENTS[each].label.toLowerCase());
  const lists: [string, string[]][] = [["Goes to the cloud", named(LEAVES)], ["May come from outside", named(COMES_IN)]];
  return (
    <>
      {lists.map(([what, names]) => <div key={what}><dt>{what}</dt><dd>{names.join(", ") || (what === "Goes to the cloud" ? "only what rights need: who may do what with which device" : "only revocations")}</dd></div>)}
    </>
  );
}
