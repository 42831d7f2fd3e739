// The line that a maker needs to make a batch for this hub.

import { useEffect, useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { Copyable } from "./copy.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

export function HubRequest() {
  const task = useTask();
  const [line, setLine] = useState("");
  useEffect(() => void task.run(async () => setLine((await access.hubRequest()).trim())), []);
  return (
    <section class="panel" aria-labelledby="request-heading">
      <h2 id="request-heading">Hub request</h2>
      <p class="quiet">Give this line to a maker to get a batch of devices for this hub. It holds no secret.</p>
      <ProblemNote problem={task.problem} />
      {line && <Copyable label="the hub request" text={line} wrap />}
    </section>
  );
}
