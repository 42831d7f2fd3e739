// The calls about people, rights, apps, services and the hub, for the pages that are loaded when they are first shown.

import { call, enc, listOf, problemOf, unreachable } from "./api.ts";
import type { AuditEntry, Binding, Brand, Device, Privilege, Role, SupportSession, Terms, User } from "./types.ts";

/** What the hub thinks of a password before it is taken. */
export interface PasswordCheck {
  acceptable: boolean;
  /** 0 (guessed at once) to 4. */
  score: number;
  warning: string | null;
  suggestions: string[];
}

/** Something to carry to somebody else: a code that works once, and the link and the QR code (SVG) that hold it. */
export interface Code {
  id?: string;
  code: string;
  link: string;
  qr: string;
  expires: number;
}

export interface SessionInfo {
  id: string;
  created_at: number;
  last_seen: number | null;
  expires: number;
  source: string | null;
  agent: string | null;
  current: boolean;
}

/** The terms of a right as they are sent: what is not limited is left out. */
export type TermsToGive = { privilege: Privilege } & { [K in "only" | "from" | "until" | "windows" | "uses"]?: NonNullable<Terms[K]> };

export interface Invitation {
  id: string;
  by: string;
  by_name: string;
  role: Role | null;
  display_name: string | null;
  grants: ({ device_id: string } & Partial<Terms> & { privilege: Privilege })[];
  created_at: number;
  expires: number;
}

export interface InvitationSeen {
  hub: string;
  by_name: string;
  role: Role | null;
  display_name: string | null;
  grants: ({ device_name: string } & Partial<Terms> & { privilege: Privilege })[];
  expires: number;
}

export interface HubSettings {
  open_registration: boolean;
  time_zone: string;
  audit_max_bytes: number;
  /** Whether devices that are added may get the Wi-Fi the hub is in. */
  share_wifi: boolean;
}

export interface AppDevice {
  id: string;
  name: string;
  privilege: Privilege;
  only?: string[] | null;
}

export interface AppInfo {
  id: string;
  name: string;
  kind: "token" | "oauth";
  client_id: string | null;
  devices: AppDevice[];
  created_at: number;
  expires: number | null;
  last_used: number | null;
  user?: string;
  username?: string;
}

export interface OAuthClient {
  id: string;
  name: string;
  redirect_uris: string[];
  created_at: number;
}

export interface OAuthRequest {
  client: { id: string; name: string };
  privilege: Privilege;
  devices: AppDevice[];
  redirect_host: string;
}

export interface ServiceInfo {
  id: string;
  name: string;
  networks: string[];
  scopes: string[];
  created_at?: number;
  last_used?: number | null;
}

export interface RoleTable {
  roles: { role: Role; vendor: boolean; hub: string[]; most_in_support: Privilege | null }[];
  scopes: { scope: string; hub: string[] | string }[];
  privileges: { privilege: Privilege; device: string[] }[];
}

export interface EvidenceEntry {
  at: number;
  kind: string;
  source: string | null;
  session: string | null;
  detail: string | null;
}

export interface AuditFilter {
  actor?: string;
  object?: string;
  action?: string;
  outcome?: string;
  since?: number;
  until?: number;
}

export interface AuditCheck {
  whole: boolean;
  entries: number;
  first: number | null;
  newest: number | null;
  hash: string;
  gaps: { from: number; to: number }[];
}

type Registration = { code?: string; username: string; password: string; display_name?: string };

export const access = {
  setup: (body: { code: string; username: string; password: string; display_name?: string }) => call<{ user: User }>("POST", "/setup", body),

  checkPassword: (password: string, username: string) =>
    call<PasswordCheck>("POST", "/passwords/check", { password, ...(username ? { username } : {}) }),
  changePassword: (current: string, next: string) => call<void>("PUT", "/me/password", { current, new: next }),
  resetPassword: (code: string, password: string) => call<void>("POST", "/passwords/reset", { code, password }),
  recoveryCode: (password: string) => call<{ code: string }>("POST", "/me/recovery-code", { password }),
  beginSecondFactor: (password: string) => call<{ secret: string; uri: string; qr: string }>("POST", "/me/second-factor", { password }),
  confirmSecondFactor: (code: string) => call<{ recovery_codes: string[] }>("PUT", "/me/second-factor", { code }),
  endSecondFactor: (password: string) => call<void>("DELETE", "/me/second-factor", { password }),
  sessions: async () => listOf<SessionInfo>(await call<unknown>("GET", "/me/sessions"), "sessions"),
  endSession: (id: string) => call<void>("DELETE", `/me/sessions/${enc(id)}`),
  rename: (display_name: string) => call<User>("PATCH", "/me", { display_name }),
  erase: (password: string) => call<void>("DELETE", "/me", { password }),

  addUser: (body: { username: string; password: string; display_name?: string; role: Role; brand?: string; networks?: string[] }) => call<User>("POST", "/users", body),
  editUser: (id: string, body: { role?: Role; display_name?: string; networks?: string[] }) => call<User>("PATCH", `/users/${enc(id)}`, body),
  /** Ends an account; tells which rights of others ended with it. */
  endUser: async (id: string, keepGrants: boolean, erase: boolean) =>
    listOf<Binding>(await call<unknown>("DELETE", `/users/${enc(id)}?keep_grants=${keepGrants ? 1 : 0}${erase ? "&erase=1" : ""}`), "bindings"),
  resetLink: (id: string) => call<Code>("POST", `/users/${enc(id)}/reset`),
  endSessionsOf: (id: string) => call<void>("DELETE", `/users/${enc(id)}/sessions`),
  roles: () => call<RoleTable>("GET", "/roles"),

  invite: (body: { role?: Role; display_name?: string; grants?: ({ device_id: string } & TermsToGive)[]; expires_in_ms?: number }) => call<Code>("POST", "/invitations", body),
  invitations: async () => listOf<Invitation>(await call<unknown>("GET", "/invitations"), "invitations"),
  withdraw: (id: string) => call<void>("DELETE", `/invitations/${enc(id)}`),
  lookAtInvitation: (code: string) => call<InvitationSeen>("POST", "/invitations/look", { code }),
  register: (body: Registration) => call<{ user: User }>("POST", "/registrations", body),
  acceptInvitation: async (code: string) => listOf<Binding>(await call<unknown>("POST", "/invitations/accept", { code }), "bindings"),

  settings: () => call<HubSettings>("GET", "/hub/settings"),
  changeSettings: (body: Partial<HubSettings>) => call<HubSettings>("PATCH", "/hub/settings", body),

  claim: (body: { code: string; device_id?: string; name?: string; room?: string }) => call<Device>("POST", "/claims", body),
  editDevice: (id: string, body: { name?: string; room?: string }) => call<Device>("PATCH", `/devices/${enc(id)}`, body),
  removeDevice: (id: string) => call<void>("DELETE", `/devices/${enc(id)}`),
  suspend: (id: string) => call<Device>("POST", `/devices/${enc(id)}/suspend`),
  resume: (id: string) => call<Device>("POST", `/devices/${enc(id)}/resume`),
  bindings: async (id: string) => listOf<Binding>(await call<unknown>("GET", `/devices/${enc(id)}/bindings`), "bindings"),
  grant: (id: string, body: ({ username: string } | { device: string } | { service: string }) & TermsToGive) => call<Binding>("POST", `/devices/${enc(id)}/bindings`, body),
  revoke: (id: string, subject: string) => call<void>("DELETE", `/devices/${enc(id)}/bindings/${enc(subject)}`),
  administer: (id: string) => call<Device>("POST", `/devices/${enc(id)}/administration`),
  transfer: (id: string, username: string) => call<Device>("POST", `/devices/${enc(id)}/transfer`, { username }),
  replace: (id: string, by: string, code?: string) => call<Device>("POST", `/devices/${enc(id)}/replace`, { by, ...(code ? { code } : {}) }),
  evidence: (id: string) => call<{ entries: EvidenceEntry[]; quarantined: boolean }>("GET", `/devices/${enc(id)}/evidence`),
  lift: (id: string, note: string) => call<Device>("POST", `/devices/${enc(id)}/lift`, note ? { note } : {}),

  makeToken: (body: { name: string; devices: { id: string; privilege?: Privilege; only?: string[] }[]; expires_in_ms?: number }) =>
    call<{ id: string; token: string; expires: number }>("POST", "/me/tokens", body),
  myApps: async () => listOf<AppInfo>(await call<unknown>("GET", "/me/apps"), "apps"),
  endMyApp: (id: string) => call<void>("DELETE", `/me/apps/${enc(id)}`),
  allApps: async () => listOf<AppInfo>(await call<unknown>("GET", "/apps"), "apps"),
  endApp: (id: string) => call<void>("DELETE", `/apps/${enc(id)}`),
  clients: async () => listOf<OAuthClient>(await call<unknown>("GET", "/oauth/clients"), "clients"),
  addClient: (body: { name: string; redirect_uris: string[] }) => call<OAuthClient>("POST", "/oauth/clients", body),
  endClient: (id: string) => call<void>("DELETE", `/oauth/clients/${enc(id)}`),
  oauthRequest: (query: URLSearchParams) => call<OAuthRequest>("GET", `/oauth/requests?${query}`),
  consent: (body: Record<string, unknown>) => call<{ redirect: string }>("POST", "/oauth/consents", body),

  services: async () => listOf<ServiceInfo>(await call<unknown>("GET", "/services"), "services"),
  addService: (body: { name: string; networks: string[]; scopes: string[] }) => call<ServiceInfo & { secret: string }>("POST", "/services", body),
  editService: (id: string, body: { name?: string; networks?: string[]; scopes?: string[] }) => call<ServiceInfo>("PATCH", `/services/${enc(id)}`, body),
  endService: (id: string) => call<void>("DELETE", `/services/${enc(id)}`),
  newSecret: (id: string) => call<{ secret: string }>("POST", `/services/${enc(id)}/secret`),
  openSupport: (body: { username: string; devices: string[]; privilege: Privilege; minutes: number; reason: string }) => call<SupportSession>("POST", "/support", body),

  audit: (filter: AuditFilter, before?: number) =>
    call<{ entries: AuditEntry[]; next: number | null }>("GET", `/audit?limit=50${before === undefined ? "" : `&before=${before}`}${filterQuery(filter)}`),
  verifyAudit: () => call<AuditCheck>("GET", "/audit/verify"),

  hubRequest: () => call<string>("GET", "/hub/request"),
  brands: async () => listOf<Brand>(await call<unknown>("GET", "/brands"), "brands"),
  trustBrand: (id: string, fingerprint: string) => call<Brand>("PUT", `/brands/${enc(id)}`, { fingerprint }),
};

/** The filter as the end of an address, beginning with `&`; empty without one. */
export function filterQuery(filter: AuditFilter): string {
  return Object.entries(filter)
    .filter(([, value]) => value !== undefined && value !== "")
    .map(([name, value]) => `&${name}=${encodeURIComponent(String(value))}`)
    .join("");
}

/** Where the whole record, as filtered, is downloaded from. */
export function exportAddress(filter: AuditFilter): string {
  return `/api/v1/audit/export${filterQuery(filter).replace(/^&/, "?")}`;
}

/** Sends a file and tells how much of it has left, from 0 to 1 (`fetch` cannot tell). */
export function upload<T>(path: string, file: Blob, progress: (share: number) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/v1${path}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => reject(unreachable());
    request.onload = () =>
      request.status < 300
        ? resolve(JSON.parse(request.responseText) as T)
        : reject(problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    request.send(file);
  });
}
