// Pages that come in a piece of their own, loaded when they are first shown.

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Problem } from "./api.ts";
import { ProblemNote } from "./components/problem.tsx";

/** A component that `load` brings; a `quiet` one is nothing until it is there. After an update of the hub the piece is no longer there: a fresh page knows the new one. */
export function later<P extends object>(load: () => Promise<ComponentType<P>>, quiet = false): ComponentType<P> {
  let Ready: ComponentType<P> | null = null;
  return function Later(props: P) {
    const [state, setState] = useState<"loading" | "ready" | "failed">(Ready ? "ready" : "loading");
    useEffect(() => {
      if (state !== "loading") return;
      let awaited = true;
      load().then(
        (component) => {
          Ready = component;
          if (awaited) setState("ready");
        },
        () => awaited && setState("failed"),
      );
      return () => void (awaited = false);
    }, [state]);
    if (Ready) return <Ready {...props} />;
    if (quiet) return null;
    if (state === "loading") return <p class="quiet late" role="status">Loading…</p>;
    return (
      <ProblemNote problem={MISSING}>
        <div class="buttons">
          <button type="button" class="button" onClick={() => setState("loading")}>Try again</button>
          <button type="button" class="button" onClick={() => location.reload()}>Reload</button>
        </div>
      </ProblemNote>
    );
  };
}

const MISSING = new Problem(0, "piece", "", "This part of the page could not be loaded.", "The hub is out of reach, or has been updated. Try again, or reload the page.");
