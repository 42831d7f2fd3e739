// A hub that only pretends: the built page, and answers in the shapes of docs/protocol, so that every page can be looked at
// without a house behind it. What a real hub answers is tested in the flows beside this file.

import { existsSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";

export const ORIGIN = "https://hub.test";
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml" };
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const QR = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 29 29" width="200" height="200"><path d="M2 2h7v7H2zM20 2h7v7h-7zM2 20h7v7H2zM12 3h2v3h-2zM15 8h3v2h-3zM11 12h4v2h-4zM18 13h2v4h-2zM12 18h3v3h-3zM18 20h3v2h-3zM23 18h3v3h-3zM16 24h5v2h-5z"/></svg>`;

/** Fixed, so that pictures can be compared: a Tuesday at 10:00 UTC. */
export const NOW = Date.UTC(2026, 5, 9, 10, 0);
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
export const MARA = { id: "1f".repeat(16), username: "mara", display_name: "Mara Lind", role: "owner", second_factor: false };
export const TOM = { id: "2e".repeat(16), username: "tom", display_name: "Tom Sand", role: "guest" };
export const IDA = { id: "3d".repeat(16), username: "ida", display_name: null, role: "member" };
export const ADA = { id: "4c".repeat(16), username: "ada.berg", display_name: "Ada Berg", role: "support", brand: "acme", networks: ["192.0.2.0/24"] };
const device = (id, name, some = {}) => ({ id, brand: "acme", model: "gate-2", hardware: "B", serial: `SN-${id}`, kind: "garage-door", title: "Garage door", trust: "attested", state: "ready", online: true, last_seen: NOW - HOUR, name, room: "Driveway", privilege: "administer", version: 3, ...some });
export const DOOR = device("garage-door-0001", "Garage");
const LAMP = device("lamp-0007", "Porch lamp", { kind: "lamp", model: "lamp-1", title: "Lamp" });
const REMOTE = device("remote-0003", "Key ring", { kind: "plug", title: "Remote", room: "Hall" });
export const LOCK = device("lock-0002", "Front door", { kind: "lock", state: "quarantined", room: "Hall", online: false });
const NEW = device("garage-door-0009", null, { state: "waiting", privilege: null });
/** Its code is its label's: the label's text is `HK1:<id>:<code without hyphens>`. */
export const LABEL = "HK1:garage-door-0042:7QK2M9XVTB4C0WFYH83RK";
const BULB = device("lamp-0042", "Bulb", { kind: "", brand: "mqtt", model: "stock", title: "", hardware: "", serial: "", trust: "unattested", online: false, last_seen: null, room: null });
const MODEL = { model: "gate-2", title: "Garage door", version: 1, kind: "garage-door", attributes: { position: { type: "number", title: "Position", unit: "%", min: 0, max: 100 }, auto_close: { type: "boolean", title: "Close by itself", access: "write" }, light: { type: "boolean", title: "Light", access: "write" } }, commands: { open: { title: "Open", critical: true }, close: { title: "Close" }, stop: { title: "Stop" } } };
const binding = (subject, name, some = {}) => ({ device_id: DOOR.id, subject, user: subject.startsWith("user:") ? subject.slice(5) : null, username: some.username ?? null, name, privilege: "operate", only: null, from: null, until: null, windows: [], uses: null, granted_by: `user:${MARA.id}`, granted_by_name: "Mara Lind", granted_at: NOW - DAY, ...some });
const weekdays = { days: ["mon", "tue", "wed", "thu", "fri"], from: "14:00", to: "18:00" };
const code = (page) => ({ id: "inv-1", code: "0123-4567-89AB-CDEF-GHJK", link: `${ORIGIN}/#/${page}/0123-4567-89AB-CDEF-GHJK`, qr: QR, expires: NOW + 7 * DAY });
const entry = (seq, action, some) => ({ seq, at: NOW - (200 - seq) * 60_000, actor: `user:${MARA.id}`, behalf: "", action, object: DOOR.id, outcome: "done", reason: "", detail: "", via: "https 192.0.2.7", erased: false, ...some });

export const RADIO = { state: "ready", adapter: "hci0", message: "", next: "", scanning: true, wifi: { ssid: "Lindenhof", system: true, allowed: true } };
export const NEARBY = [
  { id: "n1", kind: "hearthkey", name: "Hearthkey 4F2A", signal: -52, state: "open", seen: NOW },
  { id: "n2", kind: "improv", name: "Living room sensor", signal: -71, state: "unknown", seen: NOW },
  { id: "n3", kind: "hearthkey", name: "", signal: -90, state: "closed", seen: NOW },
  { id: "n4", kind: "network", name: "Thermostat in the hall", signal: null, state: "open", seen: NOW },
];
/** A device on its way, at some step. */
export const pairing = (step, some = {}) => ({ id: "p-1", kind: "hearthkey", step, position: null, device_id: "garage-door-0042", name: "Garage", room: "Driveway", trust: null, sent: null, total: null, problem: null, result_url: null, encrypted: true, started: NOW, updated: NOW, ...some });
export const IMPROV = { kind: "improv", device_id: null, name: "Living room sensor", room: null, encrypted: false };

/** A cloud as it shows itself, how a hub stands with it, and what a hub without one says. */
export const LOOK = { v: 1, name: "Acme Cloud", region: "eu", key: "cQ7h0l3p4m5n6b7v8c9x0z1a2s3d4f5g6h7j8k9l0q1", fingerprint: "3f9a01c277de4b10", url: "https://eu.cloud.example", regions: { eu: "https://eu.cloud.example", us: "https://us.cloud.example" }, brands: [{ id: "acme", fingerprint: "ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YZ23-4567" }, { id: "lumen", fingerprint: "ZZCD-EFGH-IJKL-MNOP-QRST-UVWX-YZ23-4567" }], linking: "open", trusted: false };
export const LINKED = {
  linked: true, url: "https://eu.cloud.example", name: "Acme Cloud", region: "eu", fingerprint: "3f9a01c277de4b10", consent: ["devices", "bundle", "requests"],
  state: { phase: "idle", problem: null, retry_at: null, connected: true }, last_success: NOW - 3 * 60_000, policy_age_ms: 190_000, pending: { rows: 3, marks: 1, audit: 0, bundle: true },
  refused: [
    { at: NOW - HOUR, by: TOM.id, verb: "command", device: DOOR.id, code: "no_consent", detail: "commands that are critical may not come from outside" },
    { at: NOW - 2 * HOUR, by: "cloud", verb: "revoke", device: DOOR.id, code: "last_administrator", detail: `binding ${DOOR.id}/user:${MARA.id}, up to 1: nobody would be left` },
    { at: NOW - 2 * HOUR, by: "service:s9", verb: "user", device: null, code: "no_consent", detail: "the operator of the cloud may not make accounts here" },
  ],
  notices: [{ at: NOW - DAY, code: "claimed_elsewhere", device: LOCK.id, text: "Another hub has claimed this device too. Compare its serial number with the label, and ask the seller.", seen: false }],
  epoch: 1, clock: { now: NOW, grade: "vouched" },
};
/** What people who are no owners are told. */
export const REDUCED = { ...LINKED, pending: null, refused: [], notices: [] };
export const FAILING = { ...LINKED, state: { phase: "failing", problem: { code: "portal", detail: "a page of the network answers instead of the cloud", next: "Open any page in a browser in this network and accept its terms, then sync now." }, retry_at: NOW + 4 * 60_000, connected: false }, last_success: NOW - 8 * DAY, policy_age_ms: 8 * DAY };
export const HOME_CODE = { code: "7QK2-M9XV-TB4C-0WFY-H83R-K6ZP-1DJN-5SGE-A", hub: "k3q7m2n4p5r6s7t2u3v4w5x6y7", url: "https://eu.cloud.example", qr: QR };

/** What the hub answers, by method and path; a function gets the body and the address. */
export function answers(me = MARA, some = {}) {
  return {
    "GET /hub": { hub_id: "k3q7m2n4p5r6s7t2u3v4w5x6y7", name: "Lindenhof 4", version: "0.3.0", setup_required: false, ca_fingerprint: "ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YZ23-4567" },
    "GET /me": me ?? [401, "signed_out", "You are signed out.", "Sign in again."],
    "GET /users": { users: [MARA, IDA, TOM, ADA] },
    "GET /devices": { devices: [DOOR, LAMP, REMOTE, LOCK, NEW] },
    "GET /devices/:id": (_, url) => [DOOR, LAMP, REMOTE, LOCK, NEW].find((each) => url.pathname.endsWith(each.id)),
    "GET /devices/:id/twin": { desired: {}, reported: { position: 0, auto_close: true, light: false }, delta: {}, version: 4 },
    "GET /models/acme/:id": MODEL,
    "GET /devices/:id/bindings": {
      bindings: [
        binding(`user:${MARA.id}`, "Mara Lind", { username: "mara", privilege: "administer", granted_by: "claim" }),
        binding(`user:${TOM.id}`, "Tom Sand", { username: "tom", windows: [weekdays], uses: 5 }),
        binding(`device:${REMOTE.id}`, "Key ring", { privilege: "manage", only: ["open", "close"] }),
        binding("service:s1", "Alarm receiver", { privilege: "view" }),
        binding("app:a1", "Solar logger", { privilege: "view", until: NOW + 90 * DAY }),
      ],
    },
    "POST /access/explain": { allowed: false, reason: "outside_window", explanation: "your right to this device holds at other times of the week", policy_age_ms: 0, needs: "view", privilege: "operate", granted_by: MARA.id },
    "GET /devices/:id/evidence": { quarantined: true, entries: [{ at: NOW - 3 * HOUR, kind: "displaced", source: "192.0.2.20", session: "41", detail: null }, { at: NOW - 2 * HOUR, kind: "suspected", source: "192.0.2.99", session: "42", detail: "The other side still answered." }] },
    "GET /hub/clock": { now: NOW, grade: "vouched", time_zone: "Europe/Berlin", contradicted: false },
    "POST /hub/clock": { now: NOW, grade: "vouched", time_zone: "Europe/Berlin", contradicted: false },
    "GET /hub/settings": { open_registration: false, time_zone: "Europe/Berlin", audit_max_bytes: 67108864, share_wifi: false },
    "PATCH /hub/settings": (body) => ({ open_registration: false, time_zone: "Europe/Berlin", audit_max_bytes: 67108864, share_wifi: false, ...body }),
    "GET /hub/request": [200, "text", "HKREQ1.k3q7m2n4p5r6s7t2u3v4w5x6y7.age1q0example"],
    "GET /brands": { brands: [{ id: "acme", fingerprint: "ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YZ23-4567", trusted_at: NOW - DAY, trusted_by: `user:${MARA.id}`, devices: 12 }] },
    "GET /radio": RADIO,
    "POST /radio/scan": { until: NOW + 30_000 },
    "GET /nearby": { things: NEARBY },
    "GET /pairings": { pairings: [] },
    "POST /pairings": ({ code }) => pairing("queued", code ? { position: 2 } : IMPROV),
    "GET /pairings/:id": pairing("searching"),
    "DELETE /pairings/:id": pairing("cancelled"),
    "POST /pairings/:id/confirm": pairing("sending", { trust: "provisional" }),
    "POST /devices": ({ name, room }) => {
      const ca = `-----BEGIN CERTIFICATE-----\n${"MIIBszCCAVmgAwIBAgIUQnZ0a2V5IGhvbWUgQ0EwCgYIKoZIzj0EAwIwHzEdMBsG\n".repeat(9)}-----END CERTIFICATE-----\n`;
      const esphome = `mqtt:\n  broker: hub-k3q7m2n4.local\n  port: 8883\n  username: lamp-0042\n  password: "hks1.2Yp0QmZt7w1Jc5r8XfUe3n6Lk9Hb4Gs"\n  certificate_authority: |\n    -----BEGIN CERTIFICATE-----\n`;
      return { device: { ...BULB, name, room: room ?? null }, username: BULB.id, password: "hks1.2Yp0QmZt7w1Jc5r8XfUe3n6Lk9Hb4Gs", host: "hub-k3q7m2n4.local", port: 8883, ca, settings: { esphome, tasmota: "Backlog MqttHost hub-k3q7m2n4.local; MqttPort 8883; MqttUser lamp-0042; MqttPassword hks1.2Yp0QmZt7w1Jc5r8XfUe3n6Lk9Hb4Gs; SetOption103 1" } };
    },
    "GET /support": { sessions: [] },
    "GET /cloud": { linked: false },
    "GET /backups": { target: null },
    "POST /cloud/look": LOOK,
    "POST /cloud/sync": [202],
    "GET /recovery": { made_at: null, bundle: null },
    "POST /recovery": HOME_CODE,
    "GET /me/away": { keys: [{ id: "w1", name: "My phone", until: NOW + 60 * DAY }] },
    "POST /me/away": { id: "w2", token: "hka1.k3q7m2n4p5r6s7t2u3v4w5x6y7.2Yp0QmZt7w1Jc5r8XfUe3n6Lk9Hb4Gs2Yp0QmZt7w1J", url: "https://eu.cloud.example" },
    "POST /cloud/bulletin": { marks: 2 },
    "GET /me/sessions": {
      sessions: [
        { id: "a", created_at: NOW - DAY, last_seen: NOW, expires: NOW + DAY, source: "192.0.2.7", agent: "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", current: true },
        { id: "b", created_at: NOW - 9 * DAY, last_seen: NOW - 5 * HOUR, expires: NOW + DAY, source: "192.0.2.30", agent: "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile Safari/604.1", current: false },
      ],
    },
    "POST /passwords/check": ({ password }) => (password.length > 14 ? { acceptable: true, score: 4, warning: null, suggestions: [] } : { acceptable: false, score: 1, warning: "This is similar to a commonly used password.", suggestions: ["Add another word or two. Uncommon words are better."] }),
    "POST /me/second-factor": { secret: "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", uri: "otpauth://totp/Hearthkey:mara?secret=JBSWY3DP", qr: QR },
    "PUT /me/second-factor": { recovery_codes: Array.from({ length: 10 }, (_, at) => `4${at}K7-9QWE-${at}MN8`) },
    "POST /me/recovery-code": { code: "0123-4567-89AB-CDEF-GHJK" },
    "GET /invitations": { invitations: [{ id: "inv-9", by: MARA.id, by_name: "Mara Lind", role: "guest", display_name: "Oma Grete", grants: [{ device_id: DOOR.id, device_name: "Garage", privilege: "operate", only: null, from: null, until: null, windows: [], uses: null }], created_at: NOW - DAY, expires: NOW + 6 * DAY }] },
    "POST /invitations": code("join"),
    "POST /users/:id/reset": code("reset"),
    "POST /invitations/look": { hub: "Lindenhof 4", by_name: "Mara Lind", role: "guest", display_name: "Tom", grants: [{ device_name: "Garage", privilege: "operate", only: ["open"], from: null, until: NOW + 30 * DAY, windows: [weekdays], uses: null }], expires: NOW + 6 * DAY },
    "GET /roles": {
      roles: [
        { role: "owner", vendor: false, hub: ["claim_device", "link_apps", "see_all_devices", "suspend_device", "add_people", "manage_people", "read_audit", "read_metrics", "manage_registry", "import_identities", "manage_access"], most_in_support: null },
        { role: "member", vendor: false, hub: ["claim_device", "link_apps"], most_in_support: null },
        { role: "guest", vendor: false, hub: [], most_in_support: null },
        { role: "developer", vendor: true, hub: [], most_in_support: "manage" },
        { role: "product_manager", vendor: true, hub: [], most_in_support: "view" },
        { role: "support", vendor: true, hub: [], most_in_support: "operate" },
      ],
      scopes: [{ scope: "create_users", hub: ["add_people"] }, { scope: "read_audit", hub: ["read_audit"] }],
      privileges: [{ privilege: "view", device: ["view"] }, { privilege: "operate", device: ["view", "operate"] }, { privilege: "manage", device: ["view", "operate", "operate_critical", "manage"] }, { privilege: "administer", device: ["view", "operate", "operate_critical", "manage", "administer"] }],
    },
    "GET /me/apps": { apps: [{ id: "a1", name: "Solar logger", kind: "token", client_id: null, devices: [{ id: DOOR.id, name: "Garage", privilege: "view", only: null }, { id: LAMP.id, name: "Porch lamp", privilege: "operate", only: ["light"] }], created_at: NOW - DAY, expires: NOW + 89 * DAY, last_used: NOW - HOUR }] },
    "GET /apps": { apps: [{ id: "a2", name: "Calendar", kind: "oauth", client_id: "c1", user: IDA.id, username: "ida", devices: [{ id: DOOR.id, name: "Garage", privilege: "operate", only: null }], created_at: NOW - 3 * DAY, expires: NOW + 80 * DAY, last_used: null }] },
    "POST /me/tokens": { id: "a3", token: "hka1.2Yp0QmZt7w1Jc5r8XfUe3n6Lk9Hb4Gs", expires: NOW + 90 * DAY },
    "GET /oauth/clients": { clients: [{ id: "c1", name: "Calendar", redirect_uris: ["https://calendar.example/hearthkey/callback"], created_at: NOW - 9 * DAY }] },
    "GET /oauth/requests": { client: { id: "c1", name: "Calendar" }, privilege: "operate", devices: [{ id: DOOR.id, name: "Garage", privilege: "administer" }, { id: LAMP.id, name: "Porch lamp", privilege: "view" }], redirect_host: "calendar.example" },
    "POST /oauth/consents": { redirect: "https://calendar.example/hearthkey/callback?code=x" },
    "GET /services": { services: [{ id: "s1", name: "Alarm receiver", networks: ["192.0.2.0/24", "2001:db8::/32"], scopes: ["read_audit"], created_at: NOW - DAY, last_used: NOW }] },
    "POST /services": (body) => ({ id: "s2", ...body, secret: "hks.7w1Jc5r8XfUe3n6Lk9Hb4Gs2Yp0QmZt" }),
    "GET /audit": {
      entries: [
        entry(199, "command.send", { actor: "app:a1", behalf: `user:${MARA.id}`, outcome: "denied", reason: "not_covered", detail: "open 0190-id" }),
        entry(198, "support.open", { object: ADA.id, detail: "Ada Berg of acme may operate 1 device for 60 minutes: the door stops half way" }),
        entry(197, "binding.grant", { detail: "", erased: true }),
        entry(196, "session.open", { actor: "?mara", object: "hub", outcome: "denied", reason: "wrong_password" }),
        entry(195, "device.claim", {}),
      ],
      next: 195,
    },
    "GET /audit/verify": { whole: true, entries: 4182, first: 17, newest: 4198, hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", gaps: [{ from: 1, to: 16 }] },
    ...some,
  };
}

export const SUPPORT = { sessions: [{ id: "sup-1", user: ADA.id, name: "Ada Berg", role: "support", brand: "acme", devices: [{ id: DOOR.id, name: "Garage" }], privilege: "operate", reason: "The door stops half way", opened_by: MARA.id, opened_by_name: "Mara Lind", opened_at: NOW - HOUR / 2, until: NOW + HOUR / 2 }] };

/** Lets `page` see the built page in `dist` and the answers `given`; what was asked is kept in the list it returns. */
export async function pretend(page, dist, given) {
  const asked = [];
  await page.clock.setFixedTime(NOW);
  await page.addInitScript((now) => {
    window.EventSource = class extends EventTarget {
      readyState = 1;
      close() {}
      constructor() {
        super();
        window.events = this;
        setTimeout(() => this.dispatchEvent(new MessageEvent("hello", { data: JSON.stringify({ at: now }) })), 0);
      }
    };
  }, NOW);
  await page.route("**/*", async (route) => {
    const request = route.request();
    const url = new URL(request.url());
    if (url.origin !== ORIGIN) return route.fulfill({ status: 200, contentType: "text/html", body: "<title>elsewhere</title>elsewhere" });
    if (!url.pathname.startsWith("/api/")) return give(route, dist, url.pathname);
    const path = url.pathname.slice("/api/v1".length);
    const method = request.method();
    // A file stays what it is.
    const body = request.headers()["content-type"]?.includes("octet-stream") ? request.postDataBuffer() : (request.postDataJSON?.() ?? null);
    asked.push({ method, path, body, query: url.searchParams });
    const key = Object.keys(given).find((each) => matches(each, method, path));
    let answer = key === undefined ? [method === "GET" ? 404 : 204] : given[key];
    if (typeof answer === "function") answer = answer(body, url);
    if (!Array.isArray(answer)) return route.fulfill({ status: method === "POST" ? 201 : 200, contentType: "application/json", body: JSON.stringify(answer) });
    const [status, what, detail, next] = answer;
    if (status === 204 || status === 202) return route.fulfill({ status });
    if (what === "text") return route.fulfill({ status, contentType: "text/plain", body: detail });
    return route.fulfill({ status, contentType: "application/problem+json", body: JSON.stringify({ code: what ?? "not_found", detail: detail ?? "There is nothing here.", next: next ?? "Go back.", status }) });
  });
  return asked;
}

function give(route, dist, path) {
  const file = join(dist, path === "/" ? "index.html" : path);
  if (!existsSync(file)) return route.fulfill({ status: 404, body: "" });
  return route.fulfill({ status: 200, headers: { "content-type": TYPES[extname(file)] ?? "text/plain", "content-security-policy": CSP }, body: readFileSync(file) });
}

/** Lets `page` see the built page in `dist` in place of the one that the hub has in it; everything else the hub answers. */
export async function withPageOf(page, dist) {
  await page.route(/^https:\/\/[^/]+\/(?!api\/)/, (route) => give(route, dist, new URL(route.request().url()).pathname));
}

function matches(key, method, path) {
  const [verb, pattern] = key.split(" ");
  return verb === method && new RegExp(`^${pattern.replace(/:id/g, "[^/]+")}$`).test(path);
}
