// Services: programs on a server that sign in by themselves, from listed networks, for what they were made for.

import { useEffect, useState } from "preact/hooks";
import { access, type ServiceInfo } from "../access-api.ts";
import { Confirm } from "../components/confirm.tsx";
import { Copyable } from "../components/copy.tsx";
import { TextField } from "../components/field.tsx";
import { NetworksField } from "../components/networks-field.tsx";
import { Page } from "../components/page.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { SettingsNav } from "../components/settings-nav.tsx";
import { capital } from "../components/terms-form.tsx";
import { useTask } from "../components/use-task.ts";
import { actionWords } from "../duties.ts";
import { networksError, networksOf } from "../networks.ts";
import { announcement } from "../store.ts";

const SCOPES = ["create_users", "import_identities", "read_audit", "read_metrics"];

interface Secret {
  id: string;
  name: string;
  secret: string;
}

export function ServicesPage() {
  const loading = useTask();
  const [services, setServices] = useState<ServiceInfo[] | null>(null);
  const [secret, setSecret] = useState<Secret | null>(null);
  useEffect(() => void loading.run(async () => setServices(await access.services())), []);
  const took = (service: ServiceInfo) => setServices((services ?? []).map((each) => (each.id === service.id ? service : each)));
  return (
    <Page title="Services">
      <SettingsNav />
      {secret && <SecretOnce secret={secret} onDone={() => setSecret(null)} />}
      <section class="panel" aria-labelledby="services-heading">
        <h2 id="services-heading">Programs that sign in by themselves</h2>
        <p class="quiet">Only from the networks you list, and only for what you choose. Share a device with one on the device's page.</p>
        <ProblemNote problem={loading.problem} />
        {!services && !loading.problem && <p class="quiet late" role="status">Loading…</p>}
        {services?.length === 0 && <p class="quiet none">There is none.</p>}
        <ul class="rights">
          {services?.map((service) => <Service key={service.id} service={service} onChange={took} onSecret={setSecret} onEnd={() => setServices(services.filter((each) => each.id !== service.id))} />)}
        </ul>
      </section>
      <section class="panel" aria-labelledby="new-service-heading">
        <h2 id="new-service-heading">Make a service</h2>
        <ServiceForm button="Make it" busy="Making it…" onSend={async (body) => {
          const made = await access.addService(body);
          setServices([...(services ?? []), { id: made.id, name: made.name ?? body.name, networks: made.networks ?? body.networks, scopes: made.scopes ?? body.scopes }]);
          setSecret({ id: made.id, name: body.name, secret: made.secret });
        }} />
      </section>
    </Page>
  );
}

function SecretOnce({ secret, onDone }: { secret: Secret; onDone: () => void }) {
  return (
    <div class="link-card apart-card" role="status">
      <p><strong>The secret of “{secret.name}”</strong></p>
      <p>Copy it to the server now: it is not shown again.</p>
      <p class="sub">Client id</p>
      <Copyable label="the client id" text={secret.id} wrap />
      <p class="sub">Client secret</p>
      <Copyable label="the client secret" text={secret.secret} wrap />
      <div class="buttons"><button type="button" class="button" onClick={onDone}>I have it</button></div>
    </div>
  );
}

function Service({ service, onChange, onSecret, onEnd }: { service: ServiceInfo; onChange: (service: ServiceInfo) => void; onSecret: (secret: Secret) => void; onEnd: () => void }) {
  const task = useTask();
  const [changing, change] = useState(false);
  return (
    <li>
      <div class="right">
        <p><strong>{service.name}</strong> <span class="quiet mono">{service.id}</span></p>
        <p class="quiet">{service.scopes.length > 0 ? `May ${service.scopes.map(actionWords).join(", ")}` : "May do nothing to the hub"}; from {service.networks.join(", ") || "nowhere"}</p>
      </div>
      {!changing && <button type="button" class="text-button" aria-label={`Change ${service.name}`} onClick={() => change(true)}>Change</button>}
      <Confirm quiet label="New secret" spoken={`Make a new secret for ${service.name}`} question={`Make a new secret for “${service.name}”? The old one, and what it has open, end at once.`} yes={task.busy ? "Making it…" : "Make it"} no="Keep the old one" busy={task.busy} onYes={() => void task.run(async () => onSecret({ id: service.id, name: service.name, secret: (await access.newSecret(service.id)).secret }))} />
      <Confirm quiet label="End it" spoken={`End ${service.name}`} question={`End “${service.name}”? Its rights and what it has open end at once.`} yes={task.busy ? "Ending…" : "End it"} busy={task.busy} onYes={() => void task.run(async () => { await access.endService(service.id); announcement.value = `${service.name} has ended.`; onEnd(); })} />
      <ProblemNote problem={task.problem} />
      {changing && <ServiceForm service={service} button="Change it" busy="Changing…" onCancel={() => change(false)} onSend={async (body) => { onChange(await access.editService(service.id, body)); change(false); }} />}
    </li>
  );
}

function ServiceForm({ service, button, busy, onSend, onCancel }: { service?: ServiceInfo; button: string; busy: string; onSend: (body: { name: string; networks: string[]; scopes: string[] }) => Promise<void>; onCancel?: () => void }) {
  const task = useTask();
  const [name, setName] = useState(service?.name ?? "");
  const [networks, setNetworks] = useState((service?.networks ?? []).join("\n"));
  const [scopes, setScopes] = useState<string[]>(service?.scopes ?? []);
  const [tried, setTried] = useState(false);
  const errors = { name: name.trim() ? "" : "Name it.", networks: networksError(networks) };
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (errors.name || errors.networks) return (event.currentTarget as HTMLFormElement).querySelector<HTMLElement>(errors.name ? "[name=service]" : "textarea")?.focus();
    void task.run(async () => {
      await onSend({ name: name.trim(), networks: networksOf(networks), scopes });
      if (service) return;
      setName("");
      setNetworks("");
      setScopes([]);
      setTried(false);
    });
  }
  return (
    <form class="right-form" noValidate onSubmit={submit}>
      <TextField label="Name" name="service" maxLength={64} value={name} onText={setName} hint="What it is, such as “Solar logger”." error={tried ? errors.name : ""} />
      <NetworksField value={networks} onText={setNetworks} error={tried ? errors.networks : ""} />
      <fieldset class="plain-set">
        <legend>What it may do to the hub</legend>
        {SCOPES.map((scope) => (
          <label class="tick" key={scope}>
            <input type="checkbox" checked={scopes.includes(scope)} onChange={(event) => setScopes(SCOPES.filter((each) => (each === scope ? event.currentTarget.checked : scopes.includes(each))))} />
            <span>{capital(actionWords(scope))}</span>
          </label>
        ))}
      </fieldset>
      <ProblemNote problem={task.problem} />
      <div class="buttons">
        {onCancel && <button type="button" class="button" onClick={onCancel}>Leave as it is</button>}
        <button class="button primary" disabled={task.busy}>{task.busy ? busy : button}</button>
      </div>
    </form>
  );
}
