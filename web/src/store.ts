// What the page knows of the hub, as signals. Whatever arrives, from calls or from events, passes through here, so that two
// views of one device can never differ.

import { signal } from "@preact/signals";
import { api, asProblem, Problem, session } from "./api.ts";
import { laterCommand, isOver } from "./controls.ts";
import { VENDOR_ROLES } from "./rights.ts";
import type { Clock, CloudState, Command, Device, Hub, Json, Model, Pairing, PairingStep, SupportSession, Twin, User } from "./types.ts";

export const hub = signal<Hub | null>(null);
/** `undefined`: not known yet; `null`: nobody is signed in. */
export const me = signal<User | null | undefined>(undefined);
export const startProblem = signal<Problem | null>(null);
/** Said once above the sign-in form, for instance after a session has ended. */
export const notice = signal("");
export const devices = signal<ReadonlyMap<string, Device> | null>(null);
export const devicesProblem = signal<Problem | null>(null);
export const twins = signal<ReadonlyMap<string, Twin>>(new Map());
export const models = signal<ReadonlyMap<string, Model | "missing">>(new Map());
export const commands = signal<ReadonlyMap<string, Command>>(new Map());
/** Devices on their way into the home, each with the step it had come to before it ended. */
export const pairings = signal<ReadonlyMap<string, Pairing & { reached: PairingStep }>>(new Map());
/** Values asked for on this page that the hub has not answered yet: `<device>/<attribute>`. */
export const asked = signal<ReadonlyMap<string, Json>>(new Map());
/** What a screen reader is told. */
export const announcement = signal("");
/** Who has an account; only owners may know, and it is loaded where names are needed. */
export const people = signal<readonly User[]>([]);

/** What the hub knows of the time; null while that is not known here. */
export const hubClock = signal<Clock | null>(null);
/** The support sessions that are open and concern who looks. */
export const support = signal<readonly SupportSession[]>([]);
/** Whether the rights of all but owners rest, because the hub has taken another's place; owners know. */
export const reviewPending = signal(false);
/** How the hub and its cloud stand; null while that is not known here. */
export const cloud = signal<CloudState | null>(null);

/** How often the hub has told that something is new, by topic (`firmware`, `backup`, `update`) and by topic and thing. Who shows it asks again. */
export const news = signal<ReadonlyMap<string, number>>(new Map());

let touched: Set<string> | null = null;

export async function start(): Promise<void> {
  startProblem.value = null;
  try {
    hub.value = await api.hub();
    me.value = hub.value.setup_required ? null : await api.me();
  } catch (error) {
    const problem = asProblem(error);
    if (problem.status === 401) me.value = null;
    else startProblem.value = problem;
  }
}

export function signedIn(user: User): void {
  notice.value = "";
  if (hub.value) hub.value = { ...hub.value, setup_required: false };
  me.value = user;
}

export function signedOut(said = ""): void {
  notice.value = said;
  me.value = null;
  devices.value = null;
  twins.value = new Map();
  commands.value = new Map();
  asked.value = new Map();
  models.value = new Map();
  people.value = [];
  support.value = [];
  cloud.value = null;
  reviewPending.value = false;
  pairings.value = new Map();
  hubClock.value = null;
}

session.onSignedOut = () => {
  if (me.value) signedOut("Your session has ended. Sign in again to go on.");
};

session.onRetired = () => {
  if (hub.value) hub.value = { ...hub.value, retired: true };
};

export async function loadPeople(): Promise<void> {
  people.value = await api.users();
}

/** Loads the open support sessions; a hub that does not answer this time leaves what is known. */
export async function loadSupport(): Promise<void> {
  try {
    support.value = await api.support();
  } catch (error) {
    if ([403, 404].includes(asProblem(error).status)) support.value = [];
  }
}

/** Loads how hub and cloud stand, for people of the house; a hub that knows of no clouds has none. */
export async function loadCloud(): Promise<void> {
  const user = me.value;
  if (!user || VENDOR_ROLES.includes(user.role)) return;
  try {
    const [found, recovery] = await Promise.all([api.cloud(), user.role === "owner" && api.recovery().catch(() => null)]);
    if (me.value?.id !== user.id) return;
    cloud.value = found;
    if (recovery) reviewPending.value = recovery.restored?.review_pending === true;
  } catch (error) {
    if ([403, 404].includes(asProblem(error).status)) cloud.value = null;
  }
}

/** An owner's browser tells the hub the time, once for each visit; everybody learns how sure the hub is of it. */
export async function meetClock(user: User): Promise<void> {
  try {
    hubClock.value = user.role === "owner" ? await api.tellTime(Date.now()) : await api.clock();
  } catch (error) {
    // A telling that was refused leaves the question what the hub knows by itself.
    if (user.role === "owner" && asProblem(error).code !== "unreachable") hubClock.value = await api.clock().catch(() => null);
  }
}

/** Loads the devices again. What events say meanwhile is newer than the list, and stays. */
export async function loadDevices(): Promise<void> {
  const during = (touched = new Set<string>());
  try {
    const list = await api.devices();
    const before = devices.value;
    const next = new Map<string, Device>();
    for (const device of list) if (!during.has(device.id)) next.set(device.id, device);
    for (const id of during) {
      const known = before?.get(id);
      if (known) next.set(id, known);
    }
    devices.value = next;
    devicesProblem.value = null;
    await loadTwins([...next.values()]);
  } catch (error) {
    devicesProblem.value = asProblem(error);
  } finally {
    if (touched === during) touched = null;
  }
}

export function takeDevice(device: Device): void {
  touched?.add(device.id);
  devices.value = new Map(devices.value ?? []).set(device.id, device);
  if (device.privilege === null) dropTwin(device.id);
}

export function dropDevice(id: string): void {
  touched?.add(id);
  const next = new Map(devices.value ?? []);
  next.delete(id);
  devices.value = next;
  dropTwin(id);
}

/** What one may not see any more is not kept either. */
function dropTwin(id: string): void {
  if (!twins.value.has(id)) return;
  const left = new Map(twins.value);
  left.delete(id);
  twins.value = left;
}

/** Takes a device that an event tells of; one that has just come into view brings its state. */
export function meetDevice(device: Device): void {
  const sawState = devices.value?.get(device.id)?.privilege;
  takeDevice(device);
  if (!sawState) void loadTwins([device]);
}

/** Takes a twin unless a newer one is known; `fresh` overrules that. */
export function takeTwin(id: string, twin: Twin, fresh = false): void {
  const known = twins.value.get(id);
  if (known && !fresh && known.version > twin.version) return;
  twins.value = new Map(twins.value).set(id, { ...twin, delta: twin.delta ?? {}, desired: twin.desired ?? {}, reported: twin.reported ?? {} });
}

export function takeCommand(command: Command): void {
  const known = commands.value.get(command.id);
  const later = laterCommand(known, command);
  if (later === known) return;
  commands.value = new Map(commands.value).set(command.id, later);
}

/** Takes that there is something new of a topic, and of which thing; without one it may be of any. */
export function takeNews(topic: string, id = ""): void {
  const next = new Map(news.value);
  for (const key of [topic, `${topic}/${id}`]) next.set(key, (next.get(key) ?? 0) + 1);
  news.value = next;
}

/** Takes what is told of a pairing, unless it has ended or something newer is known. */
export function takePairing(pairing: Pairing): void {
  const known = pairings.value.get(pairing.id);
  const ended = (step: PairingStep) => step === "failed" || step === "cancelled";
  if (known && (known.updated > pairing.updated || ended(known.step) || known.step === "done")) return;
  const reached = ended(pairing.step) ? (known?.reached ?? "queued") : pairing.step;
  pairings.value = new Map(pairings.value).set(pairing.id, { ...pairing, reached });
}

/** Versions begin again after a removal, so what is loaded overrules, unless an event has told of something meanwhile. */
export async function loadTwin(device: Device): Promise<void> {
  const before = twins.value.get(device.id);
  const loaded = await api.twin(device.id);
  takeTwin(device.id, loaded, twins.value.get(device.id) === before);
}

export async function loadModel(device: Device): Promise<void> {
  const key = modelKey(device);
  if (models.value.has(key)) return;
  let model: Model | "missing";
  try {
    model = await api.model(device.brand, device.model);
  } catch (error) {
    if (asProblem(error).status !== 404) throw error;
    model = "missing";
  }
  models.value = new Map(models.value).set(key, model);
}

export function modelKey(device: Device): string {
  return `${device.brand}/${device.model}`;
}

/** Asks for a value: it shows at once, and what the hub answers replaces it, be it a yes or a no. */
export async function desire(id: string, name: string, value: Json): Promise<void> {
  const key = `${id}/${name}`;
  asked.value = new Map(asked.value).set(key, value);
  try {
    takeTwin(id, await api.desire(id, { [name]: value }));
  } finally {
    if (asked.value.get(key) === value) {
      const next = new Map(asked.value);
      next.delete(key);
      asked.value = next;
    }
  }
}

/** Sends a command and sees to it that its end is known, even if events fail: its state is asked for when it has run out. */
export async function sendCommand(id: string, name: string, args: Record<string, Json>): Promise<string> {
  const command = await api.command(id, name, args);
  takeCommand(command);
  const left = Math.max(0, command.expires - command.at);
  for (const wait of [3000, left + 500, left + 5000]) setTimeout(() => void checkCommand(id, command.id), wait);
  return command.id;
}

async function checkCommand(id: string, command: string): Promise<void> {
  const known = commands.value.get(command);
  if (!known || isOver(known)) return;
  try {
    takeCommand(await api.commandState(id, command));
  } catch {
    // The next check or event tells.
  }
}

/** Cards show a value or two of each device; a few calls at a time keep a small hub responsive. */
async function loadTwins(list: Device[]): Promise<void> {
  const queue = list.filter((device) => device.privilege !== null && device.state !== "waiting");
  const worker = async () => {
    for (let device = queue.shift(); device; device = queue.shift()) {
      try {
        await Promise.all([loadModel(device), loadTwin(device)]);
      } catch {
        // The card shows no values then; the device's own page tells why.
      }
    }
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
}
