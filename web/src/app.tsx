// Which page shows, and the frame around it. What most visits need is here; the other pages come when they are first shown.

import { useEffect } from "preact/hooks";
import { ClockNote } from "./components/clock-note.tsx";
import { CloudMark } from "./components/cloud-mark.tsx";
import { LiveBanner } from "./components/live-banner.tsx";
import { Nav } from "./components/nav.tsx";
import { ProblemNote } from "./components/problem.tsx";
import { SupportBanner } from "./components/support-banner.tsx";
import { later } from "./later.tsx";
import { DevicePage } from "./pages/device.tsx";
import { DevicesPage } from "./pages/devices.tsx";
import { SignInPage } from "./pages/sign-in.tsx";
import { mayClaim, VENDOR_ROLES } from "./rights.ts";
import { route } from "./route.ts";
import { announcement, hub, me, start, startProblem } from "./store.ts";

const ActivityPage = later(() => import("./pages/activity.tsx").then((piece) => piece.ActivityPage));
const AddMqttPage = later(() => import("./pages/add-mqtt.tsx").then((piece) => piece.AddMqttPage));
const AddPage = later(() => import("./pages/add.tsx").then((piece) => piece.AddPage));
const AppsPage = later(() => import("./pages/apps.tsx").then((piece) => piece.AppsPage));
const BackupMark = later(() => import("./components/backup-mark.tsx").then((piece) => piece.BackupMark), true);
const BackupsPage = later(() => import("./pages/backups.tsx").then((piece) => piece.BackupsPage));
const ClaimPage = later(() => import("./pages/claim.tsx").then((piece) => piece.ClaimPage));
const CloudPage = later(() => import("./pages/cloud.tsx").then((piece) => piece.CloudPage));
const ConsentPage = later(() => import("./pages/consent.tsx").then((piece) => piece.ConsentPage));
const FirmwarePage = later(() => import("./pages/firmware.tsx").then((piece) => piece.FirmwarePage));
const HubPage = later(() => import("./pages/hub.tsx").then((piece) => piece.HubPage));
const JoinPage = later(() => import("./pages/join.tsx").then((piece) => piece.JoinPage));
const PeoplePage = later(() => import("./pages/people.tsx").then((piece) => piece.PeoplePage));
const ResetPage = later(() => import("./pages/reset.tsx").then((piece) => piece.ResetPage));
const ServicesPage = later(() => import("./pages/services.tsx").then((piece) => piece.ServicesPage));
const SettingsPage = later(() => import("./pages/settings.tsx").then((piece) => piece.SettingsPage));
const SetupPage = later(() => import("./pages/setup.tsx").then((piece) => piece.SetupPage));
const SupportPage = later(() => import("./pages/support.tsx").then((piece) => piece.SupportPage));
const UpdatePage = later(() => import("./pages/update.tsx").then((piece) => piece.UpdatePage));

export function App() {
  return (
    <>
      <Screen />
      <div class="visually-hidden" role="status" aria-live="polite">{announcement}</div>
    </>
  );
}

function Screen() {
  const { page } = route.value;
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
  if (page === "join") return <JoinPage />;
  if (page === "reset") return <ResetPage />;
  if (me.value === null) return <SignInPage />;
  if (page === "consent") return <><SupportBanner /><ConsentPage /></>;
  return <Frame />;
}

function Frame() {
  const { page, id } = route.value;
  const here = `${page}/${id}`;
  useEffect(() => window.scrollTo(0, 0), [here]);
  return (
    <div class="frame">
      <a class="skip" href="#content" onClick={skipToContent}>Skip to content</a>
      <Nav />
      <main id="content" tabIndex={-1}>
        <SupportBanner />
        <CloudMark />
        {me.value?.role === "owner" && page !== "backups" && <BackupMark />}
        <ClockNote />
        <div class="page" key={here}>{pageFor(page, id)}</div>
      </main>
      <LiveBanner />
    </div>
  );
}

function pageFor(page: string, id: string) {
  const owner = me.value?.role === "owner";
  if (page === "device" && id) return <DevicePage id={id} />;
  if (page === "claim" && mayClaim(me.value)) return <ClaimPage />;
  if (page === "add" && mayClaim(me.value)) return <AddPage id={id} />;
  if (page === "add-mqtt" && mayClaim(me.value)) return <AddMqttPage />;
  if (page === "activity" && owner) return <ActivityPage />;
  if (page === "people" && owner) return <PeoplePage />;
  if (page === "settings") return <SettingsPage />;
  if (page === "hub") return <HubPage />;
  if (page === "apps" && mayClaim(me.value)) return <AppsPage />;
  if (page === "cloud" && me.value && !VENDOR_ROLES.includes(me.value.role)) return <CloudPage />;
  if (page === "firmware" && owner) return <FirmwarePage />;
  if (page === "backups" && owner) return <BackupsPage />;
  if (page === "update" && owner) return <UpdatePage />;
  if (page === "services" && owner) return <ServicesPage />;
  if (page === "support" && owner) return <SupportPage />;
  return <DevicesPage />;
}

function skipToContent(event: Event) {
  event.preventDefault();
  document.getElementById("content")?.focus();
}
