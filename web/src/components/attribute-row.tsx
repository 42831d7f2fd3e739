// One attribute of a twin: a reading, or a control whose wish is shown at once and reconciled with what the hub answers.

import { useId } from "preact/hooks";
import { controlOf, formatValue, humanise, obstacle, shownValue } from "../controls.ts";
import { asked, desire, twins } from "../store.ts";
import type { Attribute, Device } from "../types.ts";
import { useTask } from "./use-task.ts";
import { ValueInput } from "./value-input.tsx";
import { Refusal } from "./why.tsx";

export function AttributeRow({ device, name, attribute }: { device: Device; name: string; attribute: Attribute }) {
  const id = useId();
  const task = useTask();
  const label = attribute.title ?? humanise(name);
  const control = controlOf(attribute);
  const shown = shownValue(name, twins.value.get(device.id), asked.value.get(`${device.id}/${name}`));
  if (control.kind === "reading")
    return (
      <li class="row reading">
        <span class="row-label">{label}</span>
        <span class="row-value">{formatValue(attribute, shown.reported)}</span>
      </li>
    );
  const blocked = obstacle(device, attribute, false);
  const wide = control.kind !== "switch" && control.kind !== "select";
  const hint = <p class="hint" id={id}>{blocked ?? waitingText(device, attribute, shown)}</p>;
  return (
    <li class={wide ? "row row-wide" : "row"}>
      <div class="row-label">
        {label}
        {attribute.critical && <span class="badge warn">Critical</span>}
        {!wide && hint}
      </div>
      <div class="row-control">
        <ValueInput
          label={label}
          attribute={attribute}
          control={control}
          value={shown.value}
          disabled={blocked !== null}
          describedBy={id}
          onChange={(value) => void task.run(() => desire(device.id, name, value))}
        />
      </div>
      {wide && hint}
      {task.problem && <div class="row-problem"><Refusal problem={task.problem} device={device} action={attribute.critical ? "operate_critical" : "operate"} of={name} /></div>}
    </li>
  );
}

function waitingText(device: Device, attribute: Attribute, shown: ReturnType<typeof shownValue>): string {
  if (!shown.pending) return "";
  if (!device.online) return "Will be set when the device is back.";
  // Short, so that it stays on the one line that the row keeps for it.
  return shown.reported === undefined ? "Waiting…" : `Still ${formatValue(attribute, shown.reported)}…`;
}
