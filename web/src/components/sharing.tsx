// Who has which right to a device: seeing it, sharing the device, taking a right away, leaving.

import { useEffect, useRef, useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { asProblem } from "../api.ts";
import { now, present } from "../clock.ts";
import { humanise, mayAtLeast } from "../controls.ts";
import { calledOf, giver, isLastAdministrator, kindOf, lasting, PRIVILEGES, RIGHTS } from "../rights.ts";
import { go } from "../route.ts";
import { announcement, dropDevice, hubClock, loadDevices, loadPeople, me, modelKey, models, people, takeDevice } from "../store.ts";
import { limits, whyNot } from "../terms.ts";
import type { Binding, Device, User } from "../types.ts";
import { nameOf } from "./badges.tsx";
import { Confirm } from "./confirm.tsx";
import { RightForm } from "./right-form.tsx";
import { ShareLink } from "./share-link.tsx";
import { useTask } from "./use-task.ts";
import { Refusal, Why } from "./why.tsx";

export function Sharing({ device }: { device: Device }) {
  const [bindings, setBindings] = useState<Binding[] | null>(null);
  const user = me.value;
  const owner = user?.role === "owner";
  const own = bindings?.find((each) => each.user === user?.id);
  // Each change of rights arrives as an event of the device, and with it a new object.
  useEffect(() => {
    let awaited = true;
    access.bindings(device.id).then(
      (list) => awaited && setBindings(list),
      // What is not there to see is not shown; what could not be loaded this time stays as it was.
      (error) => awaited && [403, 404].includes(asProblem(error).status) && setBindings(null),
    );
    return () => void (awaited = false);
  }, [device]);
  useEffect(() => {
    if (owner) loadPeople().catch(() => {});
  }, [owner]);
  useEndOf(own?.until ?? null);

  const administers = mayAtLeast(device.privilege, "administer");
  const takes = owner && !administers;
  if (!user || !bindings || (bindings.length === 0 && !takes)) return null;
  const shown = [...bindings].sort((a, b) => PRIVILEGES.indexOf(b.privilege) - PRIVILEGES.indexOf(a.privilege) || calledOf(a, people.value).localeCompare(calledOf(b, people.value)));
  const took = (binding: Binding) => setBindings([...bindings.filter((each) => each.subject !== binding.subject), binding]);
  const lost = (binding: Binding) => setBindings(bindings.filter((each) => each.subject !== binding.subject));
  return (
    <section class="panel" aria-labelledby="sharing-heading">
      <h2 id="sharing-heading">{administers || owner ? "Who may use it" : "Your right to it"}</h2>
      <ul class="rights">
        {shown.map((binding) => <Right key={binding.subject} device={device} binding={binding} all={bindings} user={user} own={administers ? own : undefined} onChange={took} onEnd={lost} />)}
      </ul>
      {takes && <Taking device={device} />}
      {administers && own && <Share device={device} own={own} all={bindings} onShared={took} />}
      {administers && own && <ShareLink device={device} own={own} />}
    </section>
  );
}

function Share({ device, own, all, onShared }: { device: Device; own: Binding; all: Binding[]; onShared: (binding: Binding) => void }) {
  const [times, setTimes] = useState(0);
  const fold = useRef<HTMLDetailsElement>(null);
  function shared(binding: Binding) {
    onShared(binding);
    setTimes(times + 1);
    if (fold.current) fold.current.open = false;
    fold.current?.querySelector("summary")?.focus();
  }
  return (
    <details class="inner" ref={fold}>
      <summary>Share it with somebody or something</summary>
      <RightForm key={times} device={device} own={own} all={all} onDone={shared} />
    </details>
  );
}

/** Somebody's right. `own` is the right of who looks, if that person may change those of others. */
function Right({ device, binding, all, user, own, onChange, onEnd }: {
  device: Device;
  binding: Binding;
  all: Binding[];
  user: User;
  own: Binding | undefined;
  onChange: (binding: Binding) => void;
  onEnd: (binding: Binding) => void;
}) {
  const task = useTask();
  const [changing, change] = useState(false);
  const mine = binding.user === user.id;
  const name = calledOf(binding, [user, ...people.value]);
  const kind = kindOf(binding.subject);
  const title = nameOf(device);
  const found = models.value.get(modelKey(device));
  const model = found === "missing" ? undefined : found;
  const titled = (each: string) => model?.attributes?.[each]?.title ?? model?.commands?.[each]?.title ?? humanise(each);
  const clock = hubClock.value;
  const blocked = whyNot(binding, now.value, { zone: clock?.time_zone ?? "", known: clock?.grade !== "none" });
  function end() {
    void task.run(async () => {
      await access.revoke(device.id, binding.user ?? binding.subject);
      announcement.value = mine ? `You have left ${title}.` : `${name} has no right to ${title} any more.`;
      if (!mine) return onEnd(binding);
      // An owner goes on seeing that it is there.
      if (user.role === "owner") return takeDevice({ ...device, privilege: null });
      dropDevice(device.id);
      go("#/");
    });
  }
  return (
    <li>
      <div class="right">
        {mine && all.length === 1 ? <p><strong>You</strong> {RIGHTS[binding.privilege].you}</p> : <p><strong>{name}{mine && " (you)"}</strong>{kind && <span class="quiet"> ({kind})</span>} {RIGHTS[binding.privilege].does}</p>}
        <p class="quiet">{[lasting(binding, now.value), ...limits(binding, titled), giver(binding, people.value, user.id)].filter(Boolean).join(", ")}</p>
        {blocked && <p class="holds-not">{blocked.charAt(0).toUpperCase() + blocked.slice(1)}. <Why device={device} action="view" {...(mine ? {} : { username: binding.username ?? binding.subject, name })} /></p>}
      </div>
      {!mine && own && !changing && kind !== "app" && <button type="button" class="text-button" aria-label={`Change the right of ${name}`} onClick={() => change(true)}>Change</button>}
      {!mine && own && !changing && (
        <Confirm quiet label="Take away" spoken={`Take away the right of ${name}`} question={`Take away the right of ${name}? What they have open of it ends at once.`} yes={task.busy ? "Taking…" : "Take it away"} no="Let it stand" busy={task.busy} onYes={end} />
      )}
      {mine && !isLastAdministrator(all, user.id) && (
        <Confirm quiet label="Leave this device" question={`Leave “${title}”? Only somebody who administers it can let you use it again.`} yes={task.busy ? "Leaving…" : "Leave it"} no="Stay" busy={task.busy} onYes={end} />
      )}
      {changing && own && <RightForm device={device} own={own} all={all} changes={binding} onDone={(changed) => { onChange(changed); change(false); }} onCancel={() => change(false)} />}
      <Refusal problem={task.problem} device={device} action="administer" />
    </li>
  );
}

function Taking({ device }: { device: Device }) {
  const task = useTask();
  const question = `You will administer “${nameOf(device)}” too. Nobody loses a right by it, and it is recorded in the activity, where every owner sees it.`;
  return (
    <div class="care">
      <p>{device.privilege === null ? "You have no right to this device, but as" : "As"} an owner of this hub you may take its administration. That is recorded.</p>
      <Refusal problem={task.problem} device={device} action="administer" />
      <Confirm label="Take administration" question={question} yes={task.busy ? "Taking…" : "Take it"} no="Leave it" busy={task.busy} onYes={() => void task.run(async () => takeDevice(await access.administer(device.id)))} />
    </div>
  );
}

/** A right that ends by its time ends without an event: the devices are loaded again then. */
function useEndOf(until: number | null) {
  useEffect(() => {
    const left = until === null ? -1 : until - present();
    if (left < 0 || left > 86_400_000) return;
    const timer = setTimeout(() => void loadDevices(), left + 500);
    return () => clearTimeout(timer);
  }, [until]);
}
