// What the hub has about oneself: to take along, and to have erased.

import { useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { me, signedOut } from "../store.ts";
import { Confirm } from "./confirm.tsx";
import { PasswordStep } from "./password-step.tsx";

export function OwnData() {
  const [sure, setSure] = useState(false);
  return (
    <section class="panel" aria-labelledby="data-heading">
      <h2 id="data-heading">Your data</h2>
      <div class="care">
        <p>Everything that this hub has about you, in one file that programs can read (JSON).</p>
        <a class="button" href="/api/v1/me/export" download={`hearthkey-${me.value?.username ?? "me"}.json`}>Export my data</a>
      </div>
      <div class="care">
        <p>Erasing ends your account, your rights to all devices and what you gave to others. Your name goes from the activity too; that something happened stays.</p>
        {sure ? (
          <>
            <p><strong>Now type your password: then it is done, and nobody can undo it.</strong></p>
            <PasswordStep danger button="Erase my account for good" busy="Erasing…" onGo={async (password) => { await access.erase(password); signedOut("Your account is erased. Thank you for having been here."); }} />
            <button type="button" class="text-button" onClick={() => setSure(false)}>Keep my account</button>
          </>
        ) : (
          <Confirm label="Erase my account" question="Erase your account and all that is personal? If you are the last owner, make somebody else an owner first." yes="Go on" no="Keep it" busy={false} onYes={() => setSure(true)} />
        )}
      </div>
    </section>
  );
}
