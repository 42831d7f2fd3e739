// A refusal: what happened, and what to do next. It is announced when it appears.

import type { ComponentChildren } from "preact";
import type { Problem } from "../api.ts";

export function ProblemNote({ problem, children }: { problem: Problem | null; children?: ComponentChildren }) {
  return (
    <div role="alert" class="note-place">
      {problem && (
        <div class="note note-bad">
          <p>{problem.detail}</p>
          {problem.next && <p class="note-next">{problem.next}</p>}
          {children}
        </div>
      )}
    </div>
  );
}
