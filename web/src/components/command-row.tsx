// One command of a device: its button, its arguments, and how it went. What can hurt needs a second tap.

import { useEffect, useId, useRef, useState } from "preact/hooks";
import { humanise, inputOf, isOver, obstacle } from "../controls.ts";
import { announcement, commands, sendCommand } from "../store.ts";
import type { Attribute, Command, Device, Json, ModelCommand } from "../types.ts";
import { useTask } from "./use-task.ts";
import { ValueInput } from "./value-input.tsx";
import { Refusal } from "./why.tsx";

/** A second tap this soon is the same nervous finger, not a decision. */
const DOUBLE_TAP_MS = 350;
const CONFIRM_MS = 6000;

export function CommandRow({ device, name, command }: { device: Device; name: string; command: ModelCommand }) {
  const id = useId();
  const task = useTask();
  const [args, setArgs] = useState<Record<string, Json>>({});
  const [armedAt, arm] = useState(0);
  const [sent, setSent] = useState<string | null>(null);
  const title = command.title ?? humanise(name);
  const blocked = obstacle(device, command, true);
  const declared = Object.entries(command.args ?? {});
  const missing = declared.find(([arg, each]) => !each.optional && each.type !== "boolean" && args[arg] === undefined);
  const run = sent ? commands.value.get(sent) : undefined;
  const busy = task.busy || (run !== undefined && !isOver(run));

  useEffect(() => {
    if (!armedAt) return;
    announcement.value = `Tap again to confirm: ${title}`;
    const timer = setTimeout(() => arm(0), CONFIRM_MS);
    return () => clearTimeout(timer);
  }, [armedAt]);
  useAnnounced(run, title);

  function press() {
    if (command.critical && !armedAt) return arm(Date.now());
    if (command.critical && Date.now() - armedAt < DOUBLE_TAP_MS) return;
    arm(0);
    setSent(null);
    const given = { ...args };
    for (const [arg, each] of declared) if (each.type === "boolean" && !each.optional) given[arg] ??= false;
    void task.run(async () => setSent(await sendCommand(device.id, name, given)));
  }

  const required = declared.filter(([, each]) => !each.optional);
  const optional = declared.filter(([, each]) => each.optional);
  const set = (arg: string, value: Json | undefined) => {
    const { [arg]: _, ...others } = args;
    setArgs(value === undefined ? others : { ...others, [arg]: value });
  };
  const list = (some: typeof declared) => (
    <ul class="args">
      {some.map(([arg, each]) => <Argument key={arg} command={title} name={arg} argument={each} value={args[arg]} disabled={blocked !== null} describedBy={id} onChange={(value) => set(arg, value)} />)}
    </ul>
  );

  return (
    <li class="command">
      {required.length > 0 && list(required)}
      <button
        type="button"
        class={armedAt ? "button command-button armed" : "button command-button"}
        disabled={blocked !== null || missing !== undefined || busy}
        aria-describedby={id}
        onClick={press}
        onBlur={() => arm(0)}
        onKeyDown={(event) => event.key === "Escape" && arm(0)}
      >
        {armedAt ? `Tap again: ${title}` : title}
      </button>
      <div id={id} class="command-state">
        {blocked ?? (missing ? `Choose “${missing[1].title ?? humanise(missing[0])}” first.` : <Progress run={run} sending={task.busy} critical={command.critical === true} />)}
      </div>
      {task.problem && <Refusal problem={task.problem} device={device} action={command.critical ? "operate_critical" : "operate"} of={name} />}
      {optional.length > 0 && (
        <details class="inner">
          <summary>Options for “{title}”</summary>
          {list(optional)}
        </details>
      )}
    </li>
  );
}

function Argument({ command, name, argument, value, disabled, describedBy, onChange }: {
  command: string;
  name: string;
  argument: Attribute;
  value: Json | undefined;
  disabled: boolean;
  describedBy: string;
  onChange: (value: Json | undefined) => void;
}) {
  const control = inputOf(argument);
  if (control.kind === "reading") return null;
  const title = argument.title ?? humanise(name);
  return (
    <li class="arg">
      <div class="split">
        <span class="row-label">{title}</span>
        {argument.optional && <button type="button" class="text-button" disabled={value === undefined} aria-label={`Leave out ${title}`} onClick={() => onChange(undefined)}>Leave out</button>}
      </div>
      <ValueInput label={`${command}: ${title}`} attribute={argument} control={control} value={value} disabled={disabled} describedBy={describedBy} onChange={onChange} />
    </li>
  );
}

const STEPS: Record<Command["status"], [tone: string, text: string]> = {
  waiting: ["busy", "Waits until the device listens"],
  sent: ["busy", "Sent to the device"],
  running: ["busy", "Running"],
  done: ["good", "Done"],
  failed: ["bad", "Failed"],
  expired: ["bad", "Expired: the device did not answer in time"],
};

function Progress({ run, sending, critical }: { run: Command | undefined; sending: boolean; critical: boolean }) {
  if (sending) return <span class="progress busy">Sending…</span>;
  if (!run) return critical ? <span class="quiet">Needs two taps.</span> : null;
  const [tone, text] = STEPS[run.status];
  return <span class={`progress ${tone}`}>{text}{run.message ? `: ${run.message}` : ""}</span>;
}

function useAnnounced(run: Command | undefined, title: string) {
  const last = useRef("");
  useEffect(() => {
    if (!run || last.current === run.id + run.status) return;
    last.current = run.id + run.status;
    announcement.value = `${title}: ${STEPS[run.status][1]}`;
  }, [run]);
}
