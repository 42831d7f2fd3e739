// What the hub's API speaks (docs/protocol/api.md). Times are milliseconds since 1970.

export type Role = "owner" | "member" | "guest";
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
}

export interface User {
  id: string;
  username: string;
  display_name: string | null;
  role: Role;
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
  online: boolean;
  last_seen: number | null;
  name: string | null;
  room: string | null;
  privilege: Privilege | null;
  version: number;
}

/** Somebody's right to a device. */
export interface Binding {
  device_id: string;
  user: string;
  username: string;
  privilege: Privilege;
  from: number | null;
  until: number | null;
  /** `user:<id>`, or `claim` for who showed the code. */
  granted_by: string;
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
}

export interface Twin {
  desired: Values;
  reported: Values;
  delta: Values;
  version: number;
}

export type CommandStatus = "sent" | "running" | "done" | "failed" | "expired";

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
}

export interface Brand {
  id: string;
  fingerprint: string;
  trusted_at: number | null;
  trusted_by: string | null;
  /** How many identities its batches have brought, where the hub has counted. */
  devices?: number;
}
