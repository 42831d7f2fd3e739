// Apps that may ask people of this home for a part of their rights: an owner registers them.

import { useEffect, useId, useState } from "preact/hooks";
import { access, type OAuthClient } from "../access-api.ts";
import { announcement } from "../store.ts";
import { Confirm } from "./confirm.tsx";
import { Copyable } from "./copy.tsx";
import { Hint, TextField } from "./field.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

export function OAuthClients() {
  const loading = useTask();
  const [clients, setClients] = useState<OAuthClient[] | null>(null);
  useEffect(() => void loading.run(async () => setClients(await access.clients())), []);
  return (
    <section class="panel" aria-labelledby="clients-heading">
      <h2 id="clients-heading">Apps that may ask</h2>
      <p class="quiet">A registered app can ask people for a part of their rights. They decide, on a page of this hub.</p>
      <ProblemNote problem={loading.problem} />
      {clients?.length === 0 && <p class="quiet none">No app is registered.</p>}
      <ul class="rights">{clients?.map((client) => <Client key={client.id} client={client} onEnd={() => setClients(clients.filter((each) => each.id !== client.id))} />)}</ul>
      <Register onMade={(client) => setClients([...(clients ?? []), client])} />
    </section>
  );
}

function Client({ client, onEnd }: { client: OAuthClient; onEnd: () => void }) {
  const task = useTask();
  return (
    <li>
      <div class="right">
        <p><strong>{client.name}</strong></p>
        <p class="quiet">Returns to {client.redirect_uris.join(", ")}</p>
        <Copyable label={`the client id of ${client.name}`} text={client.id} />
      </div>
      <Confirm quiet label="End it" spoken={`End ${client.name}`} question={`End “${client.name}”? It can ask nobody any more, and whatever people have let it do ends.`} yes={task.busy ? "Ending…" : "End it"} busy={task.busy} onYes={() => void task.run(async () => { await access.endClient(client.id); announcement.value = `${client.name} has ended.`; onEnd(); })} />
      <ProblemNote problem={task.problem} />
    </li>
  );
}

function Register({ onMade }: { onMade: (client: OAuthClient) => void }) {
  const id = useId();
  const task = useTask();
  const [name, setName] = useState("");
  const [uris, setUris] = useState("");
  const [tried, setTried] = useState(false);
  const list = uris.split(/\s+/).filter(Boolean);
  const errors = { name: name.trim() ? "" : "Name the app.", uris: list.length === 0 ? "Name at least one address." : list.every((each) => URL.canParse(each)) ? "" : "Write whole addresses, beginning with https://." };
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (errors.name || errors.uris) return (event.currentTarget as HTMLFormElement).querySelector<HTMLElement>(errors.name ? "[name=client]" : "textarea")?.focus();
    void task.run(async () => {
      const client = await access.addClient({ name: name.trim(), redirect_uris: list });
      onMade(client);
      announcement.value = `${client.name} is registered.`;
      setName("");
      setUris("");
      setTried(false);
    });
  }
  return (
    <details class="inner">
      <summary>Register an app</summary>
      <form class="right-form" noValidate onSubmit={submit}>
        <TextField label="Name" name="client" maxLength={64} value={name} onText={setName} hint="As people see it when it asks them." error={tried ? errors.name : ""} />
        <div class="field">
          <label for={id}>Where it returns to</label>
          <textarea id={id} class="mono" rows={2} spellcheck={false} autocapitalize="off" value={uris} placeholder="https://app.example/callback" aria-describedby={`${id}-hint`} onInput={(event) => setUris(event.currentTarget.value)} />
          <Hint id={`${id}-hint`} hint="Its redirect addresses, one a line, exactly as the app's papers say." error={tried ? errors.uris : ""} />
        </div>
        <ProblemNote problem={task.problem} />
        <div class="buttons"><button class="button" disabled={task.busy}>{task.busy ? "Registering…" : "Register"}</button></div>
      </form>
    </details>
  );
}
