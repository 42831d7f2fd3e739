// An app asks for a part of one's rights (OAuth): who asks, where one is sent back to, and what exactly it gets.

import { useEffect, useState } from "preact/hooks";
import { access, type OAuthRequest } from "../access-api.ts";
import { DevicePicks, type Picks } from "../components/device-picks.tsx";
import { Gate } from "../components/gate.tsx";
import { ProblemNote } from "../components/problem.tsx";
import { useTask } from "../components/use-task.ts";
import { route } from "../route.ts";
import { me } from "../store.ts";

const DAY = 86_400_000;
const LASTING: [label: string, days: number][] = [["A day", 1], ["30 days", 30], ["90 days", 90]];

export function ConsentPage() {
  const asking = useTask();
  const deciding = useTask();
  const [asked, setAsked] = useState<OAuthRequest | null>(null);
  const [picks, setPicks] = useState<Picks>(new Map());
  const [days, setDays] = useState(90);
  const [tried, setTried] = useState(false);
  const [left, setLeft] = useState(false);
  const query = route.value.query;
  useEffect(() => {
    setAsked(null);
    setPicks(new Map());
    void asking.run(async () => setAsked(await access.oauthRequest(query)));
  }, [query]);
  const user = me.value;

  function decide(deny: boolean) {
    setTried(true);
    if (!deny && picks.size === 0) return document.querySelector<HTMLElement>(".picks input")?.focus();
    const given = (name: string) => query.get(name) ?? "";
    void deciding.run(async () => {
      const { redirect } = await access.consent({
        client_id: given("client_id"),
        redirect_uri: given("redirect_uri"),
        scope: given("scope"),
        ...(query.has("state") ? { state: given("state") } : {}),
        code_challenge: given("code_challenge"),
        devices: deny ? [] : [...picks].map(([id, privilege]) => ({ id, privilege })),
        ...(deny ? { deny: true } : { expires_in_ms: days * DAY }),
      });
      setLeft(true);
      location.replace(redirect);
    });
  }

  if (!asked)
    return (
      <Gate title="An app asks" lead={asking.problem ? "This request cannot be answered." : "One moment."}>
        {!asking.problem && <p class="quiet late" role="status">Looking at what it asks for…</p>}
        <ProblemNote problem={asking.problem} />
        {asking.problem && <ul class="ways"><li><a href="#/">Go to your devices</a></li></ul>}
      </Gate>
    );
  const { client, privilege, devices, redirect_host } = asked;
  return (
    <Gate title={`${client.name} asks`} lead={`It wants to act for you, ${user?.display_name || user?.username}, with devices of this home.`}>
      <div class="note explains">
        <p><strong>It asks for:</strong> {ASKS[privilege]}</p>
        <p><strong>Then you return to</strong> <code class="host">{redirect_host}</code>. If you did not come from there, refuse.</p>
      </div>
      {devices.length === 0 ? (
        <p>There is no device of which you could give it that.</p>
      ) : (
        <fieldset class="plain-set">
          <legend>Which devices</legend>
          <DevicePicks devices={devices} most={privilege} picks={picks} onPick={setPicks} />
          <p class={tried && picks.size === 0 ? "hint hint-bad" : "hint"} aria-live="polite">{tried && picks.size === 0 ? "Choose at least one device, or refuse." : "It only sees a device, unless you choose more. It never gets more than you have."}</p>
        </fieldset>
      )}
      {devices.length > 0 && (
        <fieldset class="pills">
          <legend>For how long</legend>
          {LASTING.map(([label, each]) => (
            <label key={each}>
              <input class="visually-hidden" type="radio" name="consent-lasts" checked={days === each} onChange={() => setDays(each)} />
              <span>{label}</span>
            </label>
          ))}
        </fieldset>
      )}
      <ProblemNote problem={deciding.problem} />
      <div class="buttons even">
        <button type="button" class="button" disabled={deciding.busy || left} onClick={() => decide(true)}>Refuse</button>
        {devices.length > 0 && <button type="button" class="button primary" disabled={deciding.busy || left} onClick={() => decide(false)}>{deciding.busy || left ? "One moment…" : "Allow"}</button>}
      </div>
      <p class="quiet after">You can end this at any time under “Settings”, “Apps”. It then stops at once.</p>
    </Gate>
  );
}

const ASKS: Record<OAuthRequest["privilege"], string> = {
  view: "to see what devices report. It can change nothing.",
  operate: "to see and use devices, except what is critical, such as opening a door.",
  manage: "to see and use devices, also what is critical, such as opening a door.",
  administer: "to administer devices.",
};
