// Sharing a device by a link: whoever opens it and has an account here gets the right. And the links that are still open.

import { useEffect, useState } from "preact/hooks";
import { access, type Code, type Invitation } from "../access-api.ts";
import { now, present } from "../clock.ts";
import { lasting, moment, RIGHTS } from "../rights.ts";
import { announcement, modelKey, models } from "../store.ts";
import { limits } from "../terms.ts";
import type { Binding, Device } from "../types.ts";
import { nameOf } from "./badges.tsx";
import { Confirm } from "./confirm.tsx";
import { LinkCard } from "./link-card.tsx";
import { ProblemNote } from "./problem.tsx";
import { draftOf, firstError, readDraft, TermsFields } from "./terms-form.tsx";
import { useTask } from "./use-task.ts";
import { Refusal } from "./why.tsx";

export function ShareLink({ device, own }: { device: Device; own: Binding }) {
  const task = useTask();
  const [draft, setDraft] = useState(() => draftOf(own));
  const [tried, setTried] = useState(false);
  const [code, setCode] = useState<Code | null>(null);
  const [open, setOpen] = useState<Invitation[]>([]);
  const [unfolded, unfold] = useState(false);
  const load = () => access.invitations().then((all) => setOpen(all.filter((each) => each.grants.some((grant) => grant.device_id === device.id))), () => {});
  useEffect(() => void load(), [device.id]);
  const found = models.value.get(modelKey(device));

  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    const read = readDraft(draft, own, present());
    const wrong = firstError(read);
    if (wrong) return (event.currentTarget as HTMLFormElement).querySelector<HTMLElement>(`[name=${wrong}], .weekly [type=time]`)?.focus();
    void task.run(async () => {
      setCode(await access.invite({ grants: [{ device_id: device.id, ...read.terms }] }));
      setTried(false);
      await load();
    });
  }

  return (
    <>
      <details class="inner" onToggle={(event) => unfold(event.currentTarget.open)}>
        <summary>Share it by a link</summary>
        {code ? (
          <LinkCard code={code} title={`${nameOf(device)} is shared with you`} onDone={() => setCode(null)}>
            <p>Whoever opens it first, and has an account here, {RIGHTS[draft.privilege].does}.</p>
          </LinkCard>
        ) : unfolded && (
          <form class="right-form" noValidate onSubmit={submit}>
            <TermsFields draft={draft} set={setDraft} own={own} model={found === "missing" ? undefined : found} tried={tried} />
            <Refusal problem={task.problem} device={device} action="administer" />
            <div class="buttons"><button class="button primary" disabled={task.busy}>{task.busy ? "Making it…" : "Make a link"}</button></div>
          </form>
        )}
      </details>
      {open.length > 0 && (
        <div class="inner">
          <p class="sub">Links that nobody has used yet</p>
          <ul class="rights">{open.map((each) => <OpenLink key={each.id} invitation={each} device={device.id} onGone={() => { setOpen(open.filter((other) => other.id !== each.id)); setCode(null); }} />)}</ul>
        </div>
      )}
    </>
  );
}

function OpenLink({ invitation, device, onGone }: { invitation: Invitation; device: string; onGone: () => void }) {
  const task = useTask();
  const grant = invitation.grants.find((each) => each.device_id === device);
  function withdraw() {
    void task.run(async () => {
      await access.withdraw(invitation.id);
      announcement.value = "The link does not work any more.";
      onGone();
    });
  }
  return (
    <li>
      <div class="right">
        <p>{invitation.display_name ? <strong>For {invitation.display_name}: </strong> : ""}{grant ? RIGHTS[grant.privilege].does : ""}</p>
        <p class="quiet">{[...(grant ? [lasting({ from: grant.from ?? null, until: grant.until ?? null }, now.value), ...limits(grant)] : []), `by ${invitation.by_name}`, `works until ${moment(invitation.expires, now.value)}`].join(", ")}</p>
      </div>
      <Confirm quiet label="Withdraw" question="Withdraw this link? It then does not work any more." yes={task.busy ? "Withdrawing…" : "Withdraw it"} busy={task.busy} onYes={withdraw} />
      <ProblemNote problem={task.problem} />
    </li>
  );
}
