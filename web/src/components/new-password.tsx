// Choosing a password: the hub says while it is typed how easily it would be guessed.

import { useEffect, useId, useState } from "preact/hooks";
import { access, type PasswordCheck } from "../access-api.ts";
import { PasswordField } from "./field.tsx";
import { PASSWORD_HINT, passwordError, verdict } from "./password.ts";

const PAUSE_MS = 350;

export interface NewPassword {
  text: string;
  set: (text: string) => void;
  /** Why it will not be taken; empty when it may be. */
  error: string;
  check: PasswordCheck | null;
}

export function useNewPassword(username: string): NewPassword {
  const [text, set] = useState("");
  const [checked, setChecked] = useState<{ of: string; check: PasswordCheck } | null>(null);
  const error = passwordError(text);
  const of = `${username}\n${text}`;
  useEffect(() => {
    if (error) return;
    let awaited = true;
    const timer = setTimeout(() => {
      access.checkPassword(text, username).then(
        (check) => awaited && setChecked({ of, check }),
        // Without the check the form still works: the hub decides when it is sent.
        () => {},
      );
    }, PAUSE_MS);
    return () => {
      awaited = false;
      clearTimeout(timer);
    };
  }, [of]);
  const check = !error && checked?.of === of ? checked.check : null;
  return { text, set, error: error || (check && !check.acceptable ? verdict(check).text : ""), check };
}

export function NewPasswordField({ label = "Password", name = "password", password, tried, error }: { label?: string; name?: string; password: NewPassword; tried: boolean; error?: string }) {
  const id = useId();
  const found = password.check ? verdict(password.check) : null;
  const wrong = error || (tried || found?.tone === "bad" ? password.error : "");
  return (
    <div class="new-password">
      <PasswordField label={label} name={name} autocomplete="new-password" value={password.text} onText={password.set} hint={found ? <span class={`hint-${found.tone}`}>{found.text}</span> : PASSWORD_HINT} error={wrong} />
      <div id={id} class={`strength ${found?.tone ?? ""}`} data-score={password.check?.score ?? ""} aria-hidden="true"><span /><span /><span /><span /></div>
    </div>
  );
}
