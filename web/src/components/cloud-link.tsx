// Linking this hub to a cloud, step by step: its address, what it is, what is mirrored and what may come from outside, the
// recovery code if there is none, and the fingerprint, which somebody compares before anything leaves the house.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { access } from "../access-api.ts";
import { asProblem, Problem } from "../api.ts";
import { clouds, type CloudView } from "../cloud-api.ts";
import { AT_FIRST, addressError, cloudAddress, consentToSend, inFours } from "../cloud-words.ts";
import { announcement, cloud, loadCloud } from "../store.ts";
import type { Brand, Consent } from "../types.ts";
import { ConsentFields, ConsentList } from "./consent-fields.tsx";
import { TextField } from "./field.tsx";
import { HomeCodeMaker } from "./home-code.tsx";
import { ProblemNote } from "./problem.tsx";
import { useTask } from "./use-task.ts";

type Stage = "address" | "choose" | "code" | "confirm";

/** `hasCode`: whether the home has a recovery code; `onStage` tells the page which step shows. */
export function CloudLink({ hasCode, onCode, onStage }: { hasCode: boolean; onCode: () => void; onStage: (stage: Stage) => void }) {
  const [stage, to] = useState<Stage>("address");
  const [view, setView] = useState<CloudView | null>(null);
  const [consent, setConsent] = useState<Consent[]>([...AT_FIRST]);
  const [brands, setBrands] = useState<string[]>([]);
  useEffect(() => onStage(stage), [stage]);
  function chosen() {
    to(consent.includes("bundle") && !hasCode ? "code" : "confirm");
  }
  return (
    <section class="panel" aria-labelledby="link-heading">
      <h2 id="link-heading">Link this hub to a cloud</h2>
      {stage === "address" || !view ? (
        <Address first={!view} url={view?.url ?? ""} onFound={(found) => { setView(found); setBrands([]); to("choose"); }} />
      ) : stage === "choose" ? (
        <Choose view={view} consent={consent} setConsent={setConsent} brands={brands} setBrands={setBrands} onOther={setView} onBack={() => to("address")} onGo={chosen} />
      ) : stage === "code" ? (
        <Step title="First, a recovery code">
          <p>The recovery copy is sealed with a code that only you have. There is none yet: make it now, and keep it on paper.</p>
          <HomeCodeMaker again={false} onBack={() => to("choose")} onKept={() => { onCode(); to("confirm"); }} />
        </Step>
      ) : (
        <Confirm view={view} consent={consentToSend(consent)} brands={brands} onNeedsCode={() => to("code")} onBack={() => to("choose")} />
      )}
    </section>
  );
}

/** A step begins at its heading, for eyes and for screen readers; the first one leaves the page at its own. */
function Step({ title, first = false, children }: { title: string; first?: boolean; children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (first) return;
    heading.current?.focus({ preventScroll: true });
    heading.current?.scrollIntoView({ block: "nearest" });
  }, []);
  return <div class="step"><h3 tabIndex={-1} ref={heading}>{title}</h3>{children}</div>;
}

function Address({ first, url, onFound }: { first: boolean; url: string; onFound: (view: CloudView) => void }) {
  const task = useTask();
  const [typed, type] = useState(url);
  const [tried, setTried] = useState(false);
  const error = addressError(typed);
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (error) return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>("[name=cloud]")?.focus();
    void task.run(async () => {
      try {
        onFound(await clouds.look(cloudAddress(typed)));
      } catch (error) {
        const { status, code, title, detail, next } = asProblem(error);
        // Nobody tries again by itself what somebody has only looked at.
        throw new Problem(status, code, title, detail, code === "unreachable" && status === 502 ? "Check the address, and this home's connection to the Internet, then look again." : next);
      }
    });
  }
  return (
    <Step title="Which cloud" first={first}>
      <form class="right-form" noValidate onSubmit={submit}>
        <TextField label="Address of the cloud" name="cloud" exact autocomplete="url" value={typed} onText={(text) => { type(text); task.clear(); }} placeholder="https://" hint="From the maker of your devices, or whoever runs a cloud for you. Nothing of this home is sent yet." error={tried ? error : ""} />
        <ProblemNote problem={task.problem} />
        <div class="buttons"><button class="button primary" disabled={task.busy}>{task.busy ? "Looking…" : "Look at it"}</button></div>
      </form>
    </Step>
  );
}

function Choose({ view, consent, setConsent, brands, setBrands, onOther, onBack, onGo }: {
  view: CloudView;
  consent: Consent[];
  setConsent: (consent: Consent[]) => void;
  brands: string[];
  setBrands: (brands: string[]) => void;
  onOther: (view: CloudView) => void;
  onBack: () => void;
  onGo: () => void;
}) {
  const task = useTask();
  const closed = view.linking === "closed";
  const others = Object.entries(view.regions ?? {}).filter(([region, url]) => region !== view.region && !addressError(url));
  function submit(event: Event) {
    event.preventDefault();
    onGo();
  }
  return (
    <Step title={view.name}>
      <dl class="facts">
        <div><dt>Region</dt><dd>{view.region}</dd></div>
        <div><dt>Address</dt><dd>{view.url}</dd></div>
        <div><dt>Fingerprint</dt><dd class="mono">{inFours(view.fingerprint)}</dd></div>
      </dl>
      {others.length > 0 && !closed && (
        <div class="other-regions">
          <p class="quiet">What is mirrored stays in this region. The cloud also has others:</p>
          <div class="buttons">{others.map(([region, url]) => <button key={region} type="button" class="button" disabled={task.busy} onClick={() => void task.run(async () => onOther(await clouds.look(url)))}>Look at {region}</button>)}</div>
        </div>
      )}
      <ProblemNote problem={task.problem} />
      {closed ? (
        <>
          <div class="note note-warn"><p>This cloud takes no new hubs.</p><p class="note-next">Ask whoever runs it, or use another.</p></div>
          <div class="buttons"><button type="button" class="button" onClick={onBack}>Another address</button></div>
        </>
      ) : (
        <form class="right-form after-summary" noValidate onSubmit={submit}>
          <ConsentFields chosen={consent} onChoose={setConsent} />
          <Makers offers={view.brands ?? []} chosen={brands} onChoose={setBrands} />
          <div class="buttons">
            <button type="button" class="button" onClick={onBack}>Another address</button>
            <button class="button primary">Go on</button>
          </div>
        </form>
      )}
    </Step>
  );
}

/** The makers whose devices this cloud tells of. Trust in one means believing what it says of its devices. */
function Makers({ offers, chosen, onChoose }: { offers: { id: string; fingerprint: string }[]; chosen: string[]; onChoose: (chosen: string[]) => void }) {
  const [trusted, setTrusted] = useState<Brand[]>([]);
  useEffect(() => void access.brands().then((brands) => setTrusted(brands.filter((each) => each.trusted_at)), () => {}), []);
  if (offers.length === 0) return null;
  return (
    <fieldset class="choices">
      <legend>Makers it brings devices of</legend>
      <p class="hint">Tick a maker whose devices you have, and compare its fingerprint with the maker's papers: the hub then knows these devices when you add them.</p>
      {offers.map(({ id, fingerprint }) => {
        const known = trusted.find((each) => each.id === id);
        const other = known && known.fingerprint !== fingerprint;
        return (
          <label key={id}>
            <input type="checkbox" checked={Boolean(known && !other) || chosen.includes(id)} disabled={Boolean(known)} onChange={(event) => onChoose(event.currentTarget.checked ? [...chosen, id] : chosen.filter((each) => each !== id))} />
            <span>
              <strong>{id}</strong>
              <span class="quiet mono">{fingerprint}</span>
              {known && <span class={other ? "holds-not" : "quiet"}>{other ? "This hub trusts a maker of this name with another fingerprint: what this cloud brings of it is refused." : "Trusted already."}</span>}
            </span>
          </label>
        );
      })}
    </fieldset>
  );
}

function Confirm({ view, consent, brands, onNeedsCode, onBack }: { view: CloudView; consent: Consent[]; brands: string[]; onNeedsCode: () => void; onBack: () => void }) {
  const task = useTask();
  const [same, setSame] = useState(false);
  const [code, setCode] = useState("");
  const [tried, setTried] = useState(false);
  const wants = view.linking === "code";
  const codeError = wants && !code.trim() ? "Type the code." : "";
  function submit(event: Event) {
    event.preventDefault();
    setTried(true);
    if (!same || codeError) return (event.currentTarget as HTMLFormElement).querySelector<HTMLInputElement>(codeError ? "[name=link-code]" : "[name=same]")?.focus();
    void task.run(async () => {
      try {
        cloud.value = await clouds.link({ url: view.url, key: view.key, region: view.region, consent, brands, ...(wants ? { code: code.trim() } : {}) });
      } catch (error) {
        if (asProblem(error).code === "recovery_code_first") return onNeedsCode();
        throw error;
      }
      announcement.value = `This hub is linked to ${view.name}.`;
      await loadCloud();
    });
  }
  return (
    <Step title="Compare the fingerprint">
      <p>It is how this hub knows the cloud from then on. Compare it with what the operator publishes in another place, such as its papers or its site.</p>
      <p class="fingerprint"><code>{inFours(view.fingerprint)}</code></p>
      <dl class="facts">
        <div><dt>Cloud</dt><dd>{view.name}, region {view.region}</dd></div>
        <ConsentList consent={consent} />
        {brands.length > 0 && <div><dt>Trusted makers</dt><dd>{brands.join(", ")}</dd></div>}
      </dl>
      <form class="right-form after-summary" noValidate onSubmit={submit}>
        {wants && <TextField label="Link code" name="link-code" mono exact autocomplete="one-time-code" value={code} onText={(text) => { setCode(text); task.clear(); }} hint="This cloud takes hubs with a code from its operator." error={tried ? codeError : ""} />}
        <label class="tick"><input type="checkbox" name="same" checked={same} aria-describedby="same-hint" aria-invalid={tried && !same ? true : undefined} onChange={(event) => setSame(event.currentTarget.checked)} /><span>I have compared it, and it is the same.</span></label>
        <p id="same-hint" class={tried && !same ? "hint hint-bad" : "hint"} aria-live="polite">{tried && !same ? "Compare it first. If it differs, do not link." : ""}</p>
        <ProblemNote problem={task.problem} />
        <div class="buttons">
          <button type="button" class="button" onClick={onBack}>Back</button>
          <button class="button primary" disabled={task.busy}>{task.busy ? "Linking…" : "Link this hub"}</button>
        </div>
      </form>
    </Step>
  );
}
