// Server-sent events into the store. The browser reconnects by itself after a dropped connection; after a refusal it does not,
// so that is done here, with growing pauses.

import { effect, signal } from "@preact/signals";
import { api, EVENTS } from "./api.ts";
import { skewFrom } from "./clock.ts";
import { dropDevice, loadCloud, loadDevices, loadSupport, me, meetClock, meetDevice, support, takeCommand, takeNews, takePairing, takeTwin } from "./store.ts";
import type { Command, Device, Pairing, SupportSession, Twin } from "./types.ts";

export type LiveState = "off" | "connecting" | "live" | "lost";
export const live = signal<LiveState>("off");

let source: EventSource | null = null;
let retry: ReturnType<typeof setTimeout> | undefined;
let failures = 0;
let hiddenSince = 0;

/** Follows who is signed in: events flow exactly while somebody is. */
export function followSession(): void {
  let followed = "";
  effect(() => {
    const user = me.value;
    // Another name for the same person is no new session.
    if ((user?.id ?? "") === followed) return;
    followed = user?.id ?? "";
    if (!user) return stop();
    connect();
    void meetClock(user);
    void loadSupport();
    void loadCloud();
  });
  // A mirror that fails says so by staying silent.
  setInterval(() => document.hidden || void loadCloud(), 300_000);
  window.addEventListener("offline", () => me.value && (live.value = "lost"));
  window.addEventListener("online", () => me.value && connect());
  // A phone that slept may hold a connection that is long dead and looks alive.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hiddenSince = Date.now();
    else if (me.value && Date.now() - hiddenSince > 30_000) connect();
  });
}

function connect(): void {
  stop();
  live.value = "connecting";
  const events = (source = new EventSource(EVENTS));
  // Devices show even where no stream gets through.
  const slow = setTimeout(() => source === events && live.value !== "live" && void loadDevices(), 1500);
  const on = <T>(name: string, take: (data: T) => void) =>
    events.addEventListener(name, (event) => {
      try {
        take(JSON.parse((event as MessageEvent<string>).data) as T);
      } catch (error) {
        console.warn(`event ${name} could not be read`, error);
      }
    });
  // Each hello begins a new stream, and what happened before it was missed: load.
  on<{ at: number }>("hello", ({ at }) => {
    failures = 0;
    clearTimeout(slow);
    live.value = "live";
    skewFrom(at);
    void loadDevices();
    void loadSupport();
  });
  on<Device>("device", meetDevice);
  on<{ id: string }>("removed", ({ id }) => dropDevice(id));
  on<Twin & { device_id: string }>("twin", (twin) => takeTwin(twin.device_id, twin));
  on<Command>("command", takeCommand);
  on<Pairing>("pairing", takePairing);
  on<{ sessions?: SupportSession[] }>("support", ({ sessions }) => {
    if (sessions) support.value = sessions;
    else void loadSupport();
  });
  on<object>("cloud", () => void loadCloud());
  for (const topic of ["firmware", "backup", "update"]) on<{ device_id?: string | null }>(topic, ({ device_id }) => takeNews(topic, device_id ?? ""));
  // The hub is heard, whatever the browser thinks of the network.
  events.addEventListener("ping", () => (live.value = "live"));
  on<object>("resync", () => {
    void loadDevices();
    void loadSupport();
  });
  events.onerror = () => {
    live.value = "lost";
    if (events.readyState !== EventSource.CLOSED) return;
    const pause = Math.min(30_000, 1000 * 2 ** failures++) * (0.75 + Math.random() / 2);
    retry = setTimeout(reconnect, pause);
  };
}

/** A refused stream may mean that the session has ended: asking who is signed in shows it, and then leads to sign-in. */
async function reconnect(): Promise<void> {
  try {
    await api.me();
  } catch {
    // Signed out is handled by the call itself; everything else is tried again below.
  }
  if (me.value) {
    const before = failures;
    connect();
    failures = before;
    live.value = "lost";
  }
}

function stop(): void {
  clearTimeout(retry);
  source?.close();
  source = null;
  live.value = "off";
}
