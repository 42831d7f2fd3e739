// What the hub's API speaks (docs/protocol/api.md and access.md). Times are milliseconds since 1970.

export type HouseRole = "owner" | "member" | "guest";
/** A maker's people: they do what an open support session lets them. */
export type VendorRole = "developer" | "product_manager" | "support";
export type Role = HouseRole | VendorRole;
export type Privilege = "view" | "operate" | "manage" | "administer";
export type Trust = "attested" | "provisional" | "unattested";
export type DeviceState = "waiting" | "claimed" | "ready" | "suspended" | "quarantined";
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Values = Record<string, Json>;

export interface Hub {
  hub_id: string;
  name: string;
  version: string;
  setup_required: boolean;
  ca_fingerprint: string;
  /** Whether anybody in the network may make a guest's account; not told by every hub. */
  open_registration?: boolean;
  /** Whether another hub has taken this one's place. */
  retired?: boolean;
}

export interface User {
  id: string;
  username: string;
  display_name: string | null;
  role: Role;
  /** Of a maker's people: their brand, and the networks they may come from. */
  brand?: string | null;
  networks?: string[] | null;
  /** Of oneself, where the hub tells it: whether a second factor is in force. */
  second_factor?: boolean;
}

export interface Device {
  id: string;
  brand: string;
  model: string;
  hardware: string;
  serial: string;
  kind: string;
  title: string;
  trust: Trust;
  state: DeviceState;
  /** Whether what it runs is not safe any more: it can do nothing but update. */
  behind?: boolean;
  online: boolean;
  last_seen: number | null;
  name: string | null;
  room: string | null;
  privilege: Privilege | null;
  version: number;
  /** The attributes and commands that one's right is for, when it is to a part of it. */
  only?: string[] | null;
  /** What owners should know before they use it. */
  warning?: string | null;
}

/** A time that comes back each week, by the clock on the home's wall; until the next day when `to` is not after `from`. */
export interface Window {
  days: string[];
  from: string;
  to: string;
}

/** How far a right goes, and its limits. */
export interface Terms {
  privilege: Privilege;
  /** The attributes and commands it is for; null for all. */
  only: string[] | null;
  from: number | null;
  until: number | null;
  windows: Window[];
  uses: number | null;
}

/** A right to a device. */
export interface Binding extends Terms {
  device_id: string;
  /** `user:<id>`, `device:<id>`, `app:<id>` or `service:<id>`. */
  subject: string;
  user: string | null;
  username: string | null;
  name: string;
  /** `user:<id>`, or `claim` for who showed the code. */
  granted_by: string;
  granted_by_name: string;
  granted_at: number;
}

export type Action = "view" | "operate" | "operate_critical" | "manage" | "administer";

export interface Explanation {
  allowed: boolean;
  reason: string;
  explanation: string;
  policy_age_ms: number;
  needs?: Privilege;
  privilege: Privilege | null;
  granted_by?: string | null;
}

export interface Clock {
  now: number;
  grade: "none" | "ntp" | "vouched";
  time_zone: string;
  contradicted: boolean;
}

/** A time during which a maker's person may do something here, opened by an owner. */
export interface SupportSession {
  id: string;
  /** The account of the maker's person. */
  user: string;
  name: string;
  role: Role | null;
  brand: string | null;
  devices: { id: string; name: string }[];
  privilege: Privilege;
  reason: string;
  opened_by: string;
  opened_by_name: string;
  opened_at: number;
  until: number;
}

export interface Twin {
  desired: Values;
  reported: Values;
  delta: Values;
  version: number;
}

export type CommandStatus = "waiting" | "sent" | "running" | "done" | "failed" | "expired";

export interface Command {
  id: string;
  device_id: string;
  name: string;
  args: Values | null;
  status: CommandStatus;
  message: string | null;
  result: Json;
  by: string;
  at: number;
  expires: number;
}

export interface Attribute {
  type: "boolean" | "integer" | "number" | "string";
  title?: string;
  unit?: string;
  min?: number;
  max?: number;
  step?: number;
  values?: string[];
  max_length?: number;
  access?: "read" | "write";
  critical?: boolean;
  optional?: boolean;
}

export interface ModelCommand {
  title?: string;
  critical?: boolean;
  args?: Record<string, Attribute>;
}

export interface Model {
  model: string;
  title?: string;
  version: number;
  kind: string;
  attributes?: Record<string, Attribute>;
  commands?: Record<string, ModelCommand>;
}

export interface AuditEntry {
  seq: number;
  at: number;
  actor: string;
  action: string;
  object: string;
  outcome: "allowed" | "denied" | "done";
  reason: string | null;
  detail: Json;
  via: string | null;
  /** The person an app acted for: `user:<id>`, or empty. */
  behalf?: string;
  /** What was personal in it is gone. */
  erased?: boolean;
}

export interface Brand {
  id: string;
  fingerprint: string;
  trusted_at: number | null;
  trusted_by: string | null;
  /** How many identities its batches have brought, where the hub has counted. */
  devices?: number;
}

export type RadioState = "disabled" | "absent" | "off" | "blocked" | "starting" | "ready";

/** The hub's Bluetooth, and the Wi-Fi it could hand to a device. */
export interface Radio {
  state: RadioState;
  adapter: string | null;
  message: string;
  next: string;
  scanning: boolean;
  /** The Wi-Fi the hub is in: whether it can tell its passphrase, and whether owners let devices have it. */
  wifi: { ssid: string | null; system: boolean; allowed: boolean };
}

export interface NearbyThing {
  id: string;
  kind: "hearthkey" | "improv" | "network";
  name: string;
  /** In dBm. */
  signal: number | null;
  state: "open" | "claimed" | "closed" | "unknown";
  seen: number;
}

export type PairingStep = "queued" | "searching" | "connecting" | "proving" | "confirming" | "sending" | "joining" | "waiting" | "done" | "failed" | "cancelled";

/** One device on its way into the home. */
export interface Pairing {
  id: string;
  kind: "hearthkey" | "improv";
  step: PairingStep;
  position: number | null;
  device_id: string | null;
  name: string | null;
  room: string | null;
  trust: Trust | null;
  sent: number | null;
  total: number | null;
  problem: { code: string; detail: string; next: string } | null;
  result_url: string | null;
  encrypted: boolean;
  started: number;
  updated: number;
}

/** What an owner agrees to mirror, and to take from outside. */
export type Consent = "devices" | "twins" | "people" | "audit" | "bundle" | "requests" | "grants" | "critical" | "people_requests";

export interface MirrorState {
  phase: "off" | "linking" | "idle" | "syncing" | "waiting" | "failing" | "retired";
  problem?: { code: string; detail?: string; next?: string } | null;
  retry_at?: number | null;
  /** Whether the cloud can wake the hub at once. */
  connected?: boolean;
}

/** What waits to be sent to the cloud. */
export interface Pending {
  rows?: number;
  marks?: number;
  audit?: number;
  bundle?: boolean;
}

/** How the hub and its cloud stand; who is no owner is told less. */
export interface CloudState {
  linked: boolean;
  url?: string | null;
  name?: string | null;
  region?: string | null;
  fingerprint?: string | null;
  consent?: Consent[];
  state?: MirrorState;
  last_success?: number | null;
  policy_age_ms?: number | null;
  pending?: Pending | null;
  refused?: { at: number; by: string; verb: string; device?: string | null; code: string; detail: string }[];
  notices?: { at: number; code: string; device?: string | null; text: string; seen?: boolean }[];
  retired?: boolean;
}

/** How the home is prepared for the day on which its hub dies. */
export interface Recovery {
  made_at: number | null;
  /** The copy that was last handed over; `without_waiting`: devices that nobody has claimed yet are not in it. */
  bundle: { at: number; bytes: number; up_to_date?: boolean; without_waiting?: boolean } | null;
  /** What would be in it is more than a copy takes. */
  too_large?: boolean;
  /** This hub has taken another's place, with what was known at `bundle_at`. */
  restored?: { at: number; bundle_at: number; review_pending: boolean } | null;
}
