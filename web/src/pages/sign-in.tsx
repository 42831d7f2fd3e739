// The page that asks who one is, and the ways to it for who has no account or no password.

import { Gate } from "../components/gate.tsx";
import { SignInForm } from "../components/sign-in-form.tsx";
import { hub, notice } from "../store.ts";

export function SignInPage() {
  return (
    <Gate title="Sign in" lead="To see and use what this home has entrusted to you.">
      <p class="note-place" role="status">{notice.value && <span class="note">{notice.value}</span>}</p>
      <SignInForm />
      <ul class="ways">
        <li><a href="#/reset">Forgot your password?</a></li>
        <li><a href="#/join">{hub.value?.open_registration ? "Make an account" : "I have an invitation"}</a></li>
      </ul>
      <p class="quiet after">No account yet? An owner of this home can invite you under “People”.</p>
    </Gate>
  );
}
