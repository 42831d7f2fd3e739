// Which page shows, and the frame around it.

import { useEffect } from "preact/hooks";
import { LiveBanner } from "./components/live-banner.tsx";
import { Nav } from "./components/nav.tsx";
import { ProblemNote } from "./components/problem.tsx";
import { ActivityPage } from "./pages/activity.tsx";
import { ClaimPage } from "./pages/claim.tsx";
import { DevicePage } from "./pages/device.tsx";
import { DevicesPage } from "./pages/devices.tsx";
import { PeoplePage } from "./pages/people.tsx";
import { SettingsPage } from "./pages/settings.tsx";
import { SetupPage } from "./pages/setup.tsx";
import { SignInPage } from "./pages/sign-in.tsx";
import { route } from "./route.ts";
import { announcement, hub, me, start, startProblem } from "./store.ts";

export function App() {
  return (
    <>
      <Screen />
      <div class="visually-hidden" role="status" aria-live="polite">{announcement}</div>
    </>
  );
}

function Screen() {
  if (startProblem.value)
    return (
      <main class="gate">
        <h1>Hearthkey</h1>
        <ProblemNote problem={startProblem.value} />
        <button class="button" type="button" onClick={() => void start()}>Try again</button>
      </main>
    );
  if (!hub.value || me.value === undefined)
    return <main class="gate" aria-busy="true"><p class="quiet late">Reaching the hub…</p></main>;
  if (hub.value.setup_required) return <SetupPage />;
  if (me.value === null) return <SignInPage />;
  return <Frame />;
}

function Frame() {
  const { page, id } = route.value;
  const here = `${page}/${id}`;
  // A new page begins at its heading, for eyes and for screen readers.
  useEffect(() => {
    window.scrollTo(0, 0);
    const heading = document.querySelector<HTMLElement>("main h1");
    heading?.focus({ preventScroll: true });
  }, [here]);
  return (
    <div class="frame">
      <a class="skip" href="#content" onClick={skipToContent}>Skip to content</a>
      <Nav />
      <main id="content" key={here} tabIndex={-1}>{pageFor(page, id)}</main>
      <LiveBanner />
    </div>
  );
}

function pageFor(page: string, id: string) {
  const owner = me.value?.role === "owner";
  if (page === "device" && id) return <DevicePage id={id} />;
  if (page === "claim" && me.value?.role !== "guest") return <ClaimPage />;
  if (page === "activity" && owner) return <ActivityPage />;
  if (page === "people" && owner) return <PeoplePage />;
  if (page === "settings") return <SettingsPage />;
  return <DevicesPage />;
}

function skipToContent(event: Event) {
  event.preventDefault();
  document.getElementById("content")?.focus();
}
