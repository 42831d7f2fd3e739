// What the hub's radio and the network hear nearby, while somebody looks.

import { useEffect, useRef, useState } from "preact/hooks";
import { adding } from "../add-api.ts";
import { asProblem, type Problem } from "../api.ts";
import { radioServes, signalWords, thingWords } from "../pairing.ts";
import type { NearbyThing, Radio } from "../types.ts";
import { ProblemNote } from "./problem.tsx";

const LOOK_MS = 2_500;
/** One request has the hub look for 30 s; it is repeated before that is over. */
const LOOKS_A_SCAN = 10;
/** A page left open does not keep the radio busy for ever: five minutes. */
const LOOKS = 120;

export function NearbyList({ onRadio, onImprov }: { onRadio: (radio: Radio) => void; onImprov: (thing: NearbyThing) => void }) {
  const [things, setThings] = useState<NearbyThing[] | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [looking, setLooking] = useState(true);
  const [serves, setServes] = useState(true);
  const last = useRef(onRadio);
  last.current = onRadio;

  useEffect(() => {
    if (!looking) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let here = true;
    let looks = 0;
    let scanned = -LOOKS_A_SCAN;
    const look = async () => {
      // A page that is put away looks no further, and goes on when it is seen again.
      if (!document.hidden) {
        try {
          const radio = await adding.radio();
          if (!here) return;
          last.current(radio);
          setServes(radioServes(radio));
          if (radio.state === "ready" && (looks - scanned >= LOOKS_A_SCAN || !radio.scanning)) {
            scanned = looks;
            await adding.scan();
          }
          const heard = await adding.nearby();
          if (!here) return;
          setThings(heard);
          setProblem(null);
        } catch (error) {
          if (here) setProblem(asProblem(error));
        }
        looks += 1;
      }
      if (!here) return;
      if (looks >= LOOKS) setLooking(false);
      else timer = setTimeout(() => void look(), LOOK_MS);
    };
    void look();
    return () => {
      here = false;
      clearTimeout(timer);
    };
  }, [looking]);

  const sorted = [...(things ?? [])].sort(bySignal);
  return (
    <>
      <p class="quiet looking" role="status">{said(things, looking, serves)}</p>
      <ProblemNote problem={problem} />
      <ul class="nearby">{sorted.map((thing) => <Thing key={thing.id} thing={thing} onImprov={onImprov} />)}</ul>
      {!looking && <div class="buttons"><button type="button" class="button" onClick={() => setLooking(true)}>Look again</button></div>}
    </>
  );
}

function Thing({ thing, onImprov }: { thing: NearbyThing; onImprov: (thing: NearbyThing) => void }) {
  const { label, tone, means } = thingWords(thing);
  const name = thing.name || "Without a name";
  return (
    <li>
      <div>
        <strong>{name}</strong> <span class={`badge ${tone}`}>{label}</span>
        <p class="quiet">{[signalWords(thing.signal), means].filter(Boolean).join(". ")}</p>
      </div>
      {thing.kind === "improv" && <button type="button" class="button small" aria-label={`Set up ${name}`} onClick={() => onImprov(thing)}>Set up</button>}
      {thing.kind === "network" && <a class="button small" href="#/claim" aria-label={`Claim ${name}`}>Claim</a>}
      {thing.kind === "hearthkey" && <button type="button" class="button small" aria-label={`Type the code of ${name}`} onClick={() => document.querySelector<HTMLInputElement>("[name=code]")?.focus()}>Type its code</button>}
    </li>
  );
}

function said(things: NearbyThing[] | null, looking: boolean, serves: boolean): string {
  const count = things?.length ?? 0;
  const heard = count === 0 ? "Nothing" : count === 1 ? "One thing" : `${count} things`;
  if (!looking) return `${heard} found. The hub has stopped looking.`;
  if (!serves) return count === 0 ? "The hub cannot look around without its radio." : `${heard} in the network. The hub cannot look around without its radio.`;
  return count === 0 ? "Looking… Switch the device on, and bring it near the hub." : `${heard} found so far.`;
}

/** The nearest first; by name where that says nothing, so that the list does not jump with each reading. */
function bySignal(a: NearbyThing, b: NearbyThing): number {
  const near = ({ signal }: NearbyThing) => (signal === null ? -200 : Math.round(signal / 12));
  return near(b) - near(a) || a.name.localeCompare(b.name) || a.id.localeCompare(b.id);
}
