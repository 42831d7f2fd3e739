// Making an account for somebody: of this house, or of a maker.

import { useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { networksError, networksOf } from "../networks.ts";
import { ROLE_NAMES, VENDOR_ROLES } from "../rights.ts";
import { announcement } from "../store.ts";
import type { Role, User } from "../types.ts";
import { TextField } from "./field.tsx";
import { NetworksField } from "./networks-field.tsx";
import { NewPasswordField, useNewPassword } from "./new-password.tsx";
import { ProblemNote } from "./problem.tsx";
import { RoleChoice } from "./role-choice.tsx";
import { useTask } from "./use-task.ts";

export function AddPerson({ onAdded }: { onAdded: (user: User) => void }) {
  const task = useTask();
  const [username, setUsername] = useState("");
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("member");
  const [brand, setBrand] = useState("");
  const [networks, setNetworks] = useState("");
  const [tried, setTried] = useState(false);
  const password = useNewPassword(username.trim());
  const maker = VENDOR_ROLES.includes(role);
  const errors = {
    username: username.trim() ? "" : "Choose a user name.",
    password: password.error,
    brand: maker && !/^[a-z0-9-]{1,64}$/.test(brand.trim()) ? "The maker's short name: small letters, digits and hyphens." : "",
    networks: maker ? networksError(networks) : "",
  };

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    const wrong = Object.entries(errors).find(([, error]) => error);
    if (wrong) return (event.currentTarget as HTMLFormElement).querySelector<HTMLElement>(`[name=${wrong[0]}]`)?.focus();
    void task.run(async () => {
      const display = name.trim();
      const user = await access.addUser({
        username: username.trim(),
        password: password.text,
        role,
        ...(display ? { display_name: display } : {}),
        ...(maker ? { brand: brand.trim(), networks: networksOf(networks) } : {}),
      });
      onAdded(user);
      announcement.value = `${user.display_name || user.username} is added.`;
      setUsername("");
      setName("");
      password.set("");
      setTried(false);
    });
  }

  return (
    <section class="panel" aria-labelledby="add-heading">
      <h2 id="add-heading">Add a person</h2>
      <p class="quiet">You choose their first password and tell it to them. With an invitation they choose it themselves.</p>
      <form noValidate onSubmit={submit}>
        <TextField label="User name" name="username" exact value={username} onText={setUsername} hint="What they sign in with." error={tried ? errors.username : ""} />
        <TextField label="Name" name="display" optional value={name} onText={setName} />
        <NewPasswordField password={password} tried={tried} />
        <RoleChoice role={role} onChoose={setRole} />
        <details class="inner" open={maker}>
          <summary>Somebody of a maker</summary>
          <fieldset class="pills">
            <legend>What they are there</legend>
            {VENDOR_ROLES.map((each) => (
              <label key={each}>
                <input class="visually-hidden" type="radio" name="vendor-role" checked={role === each} onChange={() => setRole(each)} />
                <span>{ROLE_NAMES[each]}</span>
              </label>
            ))}
          </fieldset>
          {maker && (
            <>
              <TextField label="Brand" name="brand" exact value={brand} onText={setBrand} hint="The maker's short name. They never see devices of another one." error={tried ? errors.brand : ""} />
              <NetworksField value={networks} onText={setNetworks} error={tried ? errors.networks : ""} />
            </>
          )}
        </details>
        <ProblemNote problem={task.problem} />
        <button class="button primary" disabled={task.busy}>{task.busy ? "Adding…" : "Add"}</button>
      </form>
    </section>
  );
}
