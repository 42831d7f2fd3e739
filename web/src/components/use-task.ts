// One thing a person asked for: whether it runs, and why it failed.

import { useRef, useState } from "preact/hooks";
import { asProblem, type Problem } from "../api.ts";

export interface Task {
  busy: boolean;
  problem: Problem | null;
  /** Runs the work unless it runs already; true if it went well. */
  run(work: () => Promise<unknown>): Promise<boolean>;
  clear(): void;
}

export function useTask(): Task {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const running = useRef(false);
  return {
    busy,
    problem,
    clear: () => setProblem(null),
    async run(work) {
      if (running.current) return false;
      running.current = true;
      setBusy(true);
      setProblem(null);
      try {
        await work();
        return true;
      } catch (error) {
        setProblem(asProblem(error));
        return false;
      } finally {
        running.current = false;
        setBusy(false);
      }
    },
  };
}
