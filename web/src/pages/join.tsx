// An invitation: who invites, to what, and taking it up, with a new account or with one's own. And making an account without
// an invitation, where this home allows it.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { access, type InvitationSeen } from "../access-api.ts";
import { api } from "../api.ts";
import { now } from "../clock.ts";
import { TextField } from "../components/field.tsx";
import { Gate } from "../components/gate.tsx";
import { NewPasswordField, useNewPassword } from "../components/new-password.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { SignInForm } from "../components/sign-in-form.tsx";
import { useTask } from "../components/use-task.ts";
import { lasting, moment, RIGHTS, ROLE_NAMES } from "../rights.ts";
import { givenCode, go } from "../route.ts";
import { announcement, hub, loadDevices, me, signedIn, signedOut } from "../store.ts";
import { limits } from "../terms.ts";

export function JoinPage() {
  const looking = useTask();
  const [seen, setSeen] = useState<InvitationSeen | null>(null);
  const code = givenCode.value;
  useEffect(() => {
    setSeen(null);
    looking.clear();
    if (code) void looking.run(async () => setSeen(await access.lookAtInvitation(code)));
  }, [code]);
  if (!code) return <WithoutCode />;
  if (!seen)
    return (
      <Gate title="Your invitation" lead={looking.problem ? "This invitation does not work." : "One moment."}>
        {!looking.problem && <p class="quiet late" role="status">Looking at it…</p>}
        <ProblemNote problem={looking.problem} />
        <Ways><li><button type="button" class="text-button" onClick={() => (givenCode.value = "")}>Type another code</button></li></Ways>
      </Gate>
    );
  return (
    <Gate title={seen.role ? `Welcome${seen.display_name ? `, ${seen.display_name}` : ""}` : "Something is shared with you"} lead={`${seen.by_name} invites you ${seen.role ? `to ${seen.hub || "this home"}` : "to use what is below"}.`}>
      <Offer seen={seen} />
      {seen.role ? <TakeUp seen={seen} code={code} /> : <Accept code={code} />}
    </Gate>
  );
}

function Offer({ seen }: { seen: InvitationSeen }) {
  return (
    <div class="note explains">
      {seen.role && <p>You become <strong>{article(ROLE_NAMES[seen.role].toLowerCase())}</strong>: {MEANS[seen.role] ?? "you do what is shared with you."}</p>}
      {seen.grants.length > 0 && (
        <ul class="offers">
          {seen.grants.map((grant, at) => (
            <li key={at}>
              <strong>{grant.device_name}</strong>: you may {RIGHTS[grant.privilege].you}
              <span class="quiet">{[lasting({ from: grant.from ?? null, until: grant.until ?? null }, now.value), ...limits(grant)].join(", ")}</span>
            </li>
          ))}
        </ul>
      )}
      <p class="quiet">The invitation works once, until {moment(seen.expires, now.value)}.</p>
    </div>
  );
}

const MEANS: Record<string, string> = {
  owner: "you may do everything on this hub.",
  member: "you claim devices, and use those shared with you.",
  guest: "you use what is shared with you.",
};

/** An invitation to an account, for who has none here. */
function TakeUp({ seen, code }: { seen: InvitationSeen; code: string }) {
  const task = useTask();
  const user = me.value;
  if (!user) return <><Registration code={code} name={seen.display_name ?? ""} /><Ways /></>;
  return (
    <>
      <p>It makes a new account, and you are signed in as {user.display_name || user.username}. To use it for somebody else, sign out first.</p>
      <ProblemNote problem={task.problem} />
      <div class="buttons">
        <button type="button" class="button primary" disabled={task.busy} onClick={() => void task.run(async () => { await api.signOut(); signedOut(); })}>Sign out and go on</button>
        <a class="button" href="#/">Leave it</a>
      </div>
    </>
  );
}

/** An invitation to devices, for somebody who has an account here. */
function Accept({ code }: { code: string }) {
  const task = useTask();
  const user = me.value;
  if (!user) return <><p class="lead">Sign in to accept it. It needs an account in this home.</p><SignInForm /></>;
  function accept() {
    void task.run(async () => {
      const bindings = await access.acceptInvitation(code);
      givenCode.value = "";
      await loadDevices();
      announcement.value = "It is shared with you now.";
      const first = bindings.length === 1 ? bindings[0] : undefined;
      go(first ? `#/device/${encodeURIComponent(first.device_id)}` : "#/");
    });
  }
  return (
    <>
      <p>You accept as <strong>{user.display_name || user.username}</strong>.</p>
      <ProblemNote problem={task.problem} />
      <div class="buttons">
        <button type="button" class="button primary" disabled={task.busy} onClick={accept}>{task.busy ? "Accepting…" : "Accept"}</button>
        <a class="button" href="#/">Not now</a>
      </div>
    </>
  );
}

function WithoutCode() {
  const [typed, setTyped] = useState("");
  const [tried, setTried] = useState(false);
  const open = hub.value?.open_registration;
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    // A whole link may have been pasted.
    const code = typed.trim().replace(/^.*#\/join\//, "");
    if (code) givenCode.value = code;
  }
  return (
    <Gate title={open ? "Make an account" : "Your invitation"} lead={open ? "With an invitation, or as a guest of this home." : "An owner of this home gives you a link or a QR code. It holds the code."}>
      <form noValidate onSubmit={submit}>
        <TextField label="Invitation code" name="invitation" mono exact value={typed} onText={setTyped} hint="Or the whole link." error={tried && !typed.trim() ? "Type the code, or open the link again." : ""} />
        <button class="button primary wide">Look at it</button>
      </form>
      {open === undefined && !me.value && (
        <details class="inner">
          <summary>I have no invitation</summary>
          <p class="quiet">That works while an owner has open registration switched on. You become a guest: you use what somebody shares with you.</p>
          <Registration name="" />
        </details>
      )}
      {open === true && !me.value && (
        <section class="apart" aria-labelledby="open-heading">
          <h2 id="open-heading">Without an invitation</h2>
          <p class="quiet">You become a guest: you use what somebody shares with you.</p>
          <Registration name="" />
        </section>
      )}
      <Ways />
    </Gate>
  );
}

function Registration({ code, name }: { code?: string; name: string }) {
  const task = useTask();
  const [called, setCalled] = useState(name);
  const [username, setUsername] = useState("");
  const [tried, setTried] = useState(false);
  const password = useNewPassword(username.trim());
  const nameError = username.trim() ? "" : "Choose a user name.";
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (nameError || password.error) return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>(nameError ? "[name=username]" : "[name=password]")?.focus();
    void task.run(async () => {
      const display = called.trim();
      const { user } = await access.register({ ...(code ? { code } : {}), username: username.trim(), password: password.text, ...(display ? { display_name: display } : {}) });
      givenCode.value = "";
      location.hash = "#/";
      signedIn(user);
    });
  }
  return (
    <form noValidate onSubmit={submit}>
      <TextField label="Your name" name="name" optional autocomplete="name" value={called} onText={setCalled} hint="As others in this home will see it." />
      <TextField label="User name" name="username" autocomplete="username" exact value={username} onText={setUsername} hint="What you sign in with." error={tried ? nameError : ""} />
      <NewPasswordField password={password} tried={tried} />
      <ProblemNote problem={task.problem} />
      <button class="button primary wide" disabled={task.busy}>{task.busy ? "Making your account…" : "Make my account"}</button>
    </form>
  );
}

function Ways({ children }: { children?: ComponentChildren }) {
  return <ul class="ways">{children}<li><a href="#/">{me.value ? "Back to your devices" : "I have an account: sign in"}</a></li></ul>;
}

function article(noun: string): string {
  return `${/^[aeiou]/.test(noun) ? "an" : "a"} ${noun}`;
}
