// An owner's way back in when the password is lost and nobody can help: a code on paper.

import { useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { me } from "../store.ts";
import { PasswordStep } from "./password-step.tsx";
import { Sheet } from "./sheet.tsx";

export function RecoveryCode() {
  const [code, setCode] = useState("");
  if (code) return <Sheet title="Recovery code" lead="With it you choose a new password if you have lost yours, without anybody's help. It works once. An earlier one does not work any more." lines={[code]} file={`User: ${me.value?.username}`} onDone={() => setCode("")} />;
  return (
    <details class="inner">
      <summary>Recovery code</summary>
      <p class="quiet">As an owner, keep a code for the day you forget your password. Whoever has it can take your account over: put it where you keep your passport.</p>
      <PasswordStep button="Make a recovery code" busy="Making it…" onGo={async (password) => setCode((await access.recoveryCode(password)).code)} />
    </details>
  );
}
