// A refusal: what happened, and what to do next. It is announced when it appears.

import type { Problem } from "../api.ts";

export function ProblemNote({ problem }: { problem: Problem | null }) {
  return (
    <div role="alert" class="note-place">
      {problem && (
        <div class="note note-bad">
          <p>{problem.detail}</p>
          {problem.next && <p class="note-next">{problem.next}</p>}
        </div>
      )}
    </div>
  );
}
