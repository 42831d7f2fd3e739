// Giving a right to a device, or changing one: to whom, how far, for how long.

import { useId, useState } from "preact/hooks";
import { api } from "../api.ts";
import { present } from "../clock.ts";
import { calledOf, ENDINGS, endOf, lasting, localTime, mayGive, RIGHTS, type Ending } from "../rights.ts";
import { announcement, me, people } from "../store.ts";
import type { Binding, Device, Privilege } from "../types.ts";
import { nameOf } from "./badges.tsx";
import { Hint, TextField } from "./field.tsx";
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

export function RightForm({ device, own, all, changes, onDone, onCancel }: RightFormProps) {
  const id = useId();
  const task = useTask();
  const limit = own.until;
  const [username, setUsername] = useState(changes?.username ?? "");
  const [privilege, setPrivilege] = useState<Privilege>(changes?.privilege ?? "operate");
  const [ending, setEnding] = useState<Ending>(changes?.until || limit ? "until" : "good");
  const [time, setTime] = useState(() => localTime(changes?.until ?? limit ?? present() + 3_600_000));
  const [tried, setTried] = useState(false);

  const end = endOf(ending, present(), time);
  const unknown = task.problem?.status === 404 && task.problem.detail.includes("account");
  const errors = {
    username: whoError(username),
    until: Number.isNaN(end) ? "Choose a time that is still to come." : limit !== null && (end === null || end > limit) ? `Your own right lasts ${lasting({ from: null, until: limit }, present())}: nobody gets it for longer.` : "",
  };
  const others = people.value.filter((user) => user.id !== me.value?.id && !all.some((each) => each.user === user.id));

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (errors.username || errors.until) return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>(errors.username ? "[name=username]" : "[name=until], [name=ending]:checked")?.focus();
    const from = changes?.from ?? own.from;
    void task.run(async () => {
      const binding = await api.grant(device.id, { username: username.trim(), privilege, ...(from === null ? {} : { from }), ...(end === null ? {} : { until: end }) });
      announcement.value = `${calledOf(binding, people.value)} now ${RIGHTS[binding.privilege].does}: ${nameOf(device)}.`;
      onDone(binding);
    });
  }

  return (
    <form class="right-form" noValidate onSubmit={submit}>
      {!changes && (
        <>
          <TextField label="User name" name="username" exact list={`${id}-people`} value={username} onText={(text) => { setUsername(text); if (unknown) task.clear(); }} hint="What they sign in with." error={unknown ? "Nobody here signs in with this name." : tried ? errors.username : ""} />
          <datalist id={`${id}-people`}>{others.map((user) => <option key={user.id} value={user.username}>{user.display_name}</option>)}</datalist>
        </>
      )}
      <fieldset class="choices">
        <legend>What they may do</legend>
        {mayGive(own.privilege).map((each) => (
          <label key={each}>
            <input type="radio" name={`${id}-privilege`} checked={privilege === each} onChange={() => setPrivilege(each)} />
            <span><strong>{capital(RIGHTS[each].does)}</strong><span class="quiet">{RIGHTS[each].means}</span></span>
          </label>
        ))}
      </fieldset>
      <fieldset class="pills" aria-describedby={`${id}-ends`}>
        <legend>For how long</legend>
        {(Object.keys(ENDINGS) as Ending[]).map((each) => (
          <label key={each}>
            <input class="visually-hidden" type="radio" name={`${id}-ending`} checked={ending === each} onChange={() => setEnding(each)} />
            <span>{ENDINGS[each]}</span>
          </label>
        ))}
      </fieldset>
      {ending === "until"
        ? <TextField label="Ends" name="until" type="datetime-local" value={time} onText={setTime} error={tried ? errors.until : ""} />
        : <Hint id={`${id}-ends`} hint={end === null ? "Until somebody takes it away." : capital(`${lasting({ from: null, until: end }, present())}.`)} error={tried ? errors.until : ""} />}
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

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
