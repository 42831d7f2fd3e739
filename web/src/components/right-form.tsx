// Giving a right to a device, or changing one: to whom (a person, another device, a service), how far, for how long.

import { useEffect, useId, useState } from "preact/hooks";
import { access, type ServiceInfo } from "../access-api.ts";
import { present } from "../clock.ts";
import { calledOf, RIGHTS } from "../rights.ts";
import { announcement, devices, me, modelKey, models, people } from "../store.ts";
import type { Binding, Device } from "../types.ts";
import { nameOf } from "./badges.tsx";
import { TextField } from "./field.tsx";
import { draftOf, firstError, readDraft, TermsFields } from "./terms-form.tsx";
import { useTask } from "./use-task.ts";
import { Refusal } from "./why.tsx";

interface RightFormProps {
  device: Device;
  /** The giver's right: nobody gives more than they have, nor for longer. */
  own: Binding;
  all: Binding[];
  changes?: Binding;
  onDone: (binding: Binding) => void;
  onCancel?: () => void;
}

type Kind = "person" | "device" | "service";
const KINDS: Record<Kind, string> = { person: "A person", device: "Another device", service: "A service" };

export function RightForm({ device, own, all, changes, onDone, onCancel }: RightFormProps) {
  const id = useId();
  const task = useTask();
  const owner = me.value?.role === "owner";
  const [kind, setKind] = useState<Kind>("person");
  const [username, setUsername] = useState("");
  const [other, setOther] = useState("");
  const [services, setServices] = useState<ServiceInfo[]>([]);
  const [draft, setDraft] = useState(() => draftOf(own, changes));
  const [tried, setTried] = useState(false);
  useEffect(() => {
    if (owner && !changes) access.services().then(setServices, () => {});
  }, []);

  const held = new Set(all.map((each) => each.subject));
  const candidates = [...(devices.value?.values() ?? [])].filter((each) => each.id !== device.id && each.privilege === "administer" && each.state !== "waiting" && !held.has(`device:${each.id}`));
  const others = people.value.filter((user) => user.id !== me.value?.id && !held.has(`user:${user.id}`));
  const kinds = (["person", ...(candidates.length > 0 ? ["device"] : []), ...(services.length > 0 ? ["service"] : [])] as Kind[]);
  const unknown = kind === "person" && task.problem?.status === 404 && task.problem.detail.includes("account");
  const toError = changes ? "" : kind === "person" ? whoError(username) : other ? "" : `Choose ${KINDS[kind].toLowerCase()}.`;
  const found = models.value.get(modelKey(device));
  const model = found === "missing" ? undefined : found;
  const thing = changes ? !changes.subject.startsWith("user:") : kind !== "person";

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    const read = readDraft(draft, own, present());
    const wrong = toError ? "to" : firstError(read);
    if (wrong) return (event.currentTarget as HTMLFormElement).querySelector<HTMLElement>(`[name=${wrong}], .weekly [type=time], [name$=ending]:checked`)?.focus();
    void task.run(async () => {
      const binding = await access.grant(device.id, { ...recipient(), ...read.terms });
      announcement.value = `${calledOf(binding, people.value)} now ${RIGHTS[binding.privilege].does}: ${nameOf(device)}.`;
      onDone(binding);
    });
  }

  function recipient(): { username: string } | { device: string } | { service: string } {
    const subject = changes?.subject ?? "";
    if (subject.startsWith("device:")) return { device: subject.slice(7) };
    if (subject.startsWith("service:")) return { service: subject.slice(8) };
    if (changes) return { username: changes.username ?? "" };
    return kind === "device" ? { device: other } : kind === "service" ? { service: other } : { username: username.trim() };
  }

  return (
    <form class="right-form" noValidate onSubmit={submit}>
      {!changes && kinds.length > 1 && (
        <fieldset class="pills to">
          <legend>With whom</legend>
          {kinds.map((each) => (
            <label key={each}>
              <input class="visually-hidden" type="radio" name={`${id}-kind`} checked={kind === each} onChange={() => { setKind(each); setOther(""); task.clear(); }} />
              <span>{KINDS[each]}</span>
            </label>
          ))}
        </fieldset>
      )}
      {!changes && kind === "person" && (
        <>
          <TextField label="User name" name="to" exact list={`${id}-people`} value={username} onText={(text) => { setUsername(text); if (unknown) task.clear(); }} hint="What they sign in with." error={unknown ? "Nobody here signs in with this name." : tried ? toError : ""} />
          <datalist id={`${id}-people`}>{others.map((user) => <option key={user.id} value={user.username}>{user.display_name}</option>)}</datalist>
        </>
      )}
      {!changes && kind !== "person" && (
        <div class="field">
          <label for={`${id}-other`}>{kind === "device" ? "Device" : "Service"}</label>
          <select id={`${id}-other`} name="to" value={other} aria-describedby={`${id}-other-hint`} onChange={(event) => setOther(event.currentTarget.value)}>
            <option value="">Choose…</option>
            {(kind === "device" ? candidates.map((each) => ({ id: each.id, name: nameOf(each) })) : services).map((each) => <option key={each.id} value={each.id}>{each.name}</option>)}
          </select>
          <p id={`${id}-other-hint`} class={tried && toError ? "hint hint-bad" : "hint"} aria-live="polite">{tried && toError ? toError : kind === "device" ? "It then works this device by itself: a remote its door, a sensor its lamp." : "An owner makes services under “Services”."}</p>
        </div>
      )}
      <TermsFields draft={draft} set={setDraft} own={own} model={model} tried={tried} thing={thing} />
      <Refusal problem={unknown ? null : task.problem} device={device} action="administer" />
      <div class="buttons">
        {onCancel && <button type="button" class="button" onClick={onCancel}>Leave as it is</button>}
        <button class="button primary" disabled={task.busy}>{changes ? (task.busy ? "Changing…" : "Change it") : task.busy ? "Sharing…" : "Share"}</button>
      </div>
    </form>
  );
}

function whoError(username: string): string {
  const name = username.trim().toLowerCase();
  if (!name) return "Type the user name of somebody who has an account here.";
  return name === me.value?.username.toLowerCase() ? "This is you." : "";
}
