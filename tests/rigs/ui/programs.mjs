// A house of real programs, for what goes beyond one hub: a maker's workshop, a hub, a device and a cloud, each as it is shipped, on
// free ports of this machine and in directories that go away.
//   HEARTHKEY   the program, with what simulates devices and with the cloud in it

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const program = process.env.HEARTHKEY;
const run = promisify(execFile);
const BRAND = "acme";

/** A directory that others can look through, since PostgreSQL runs as somebody else when this runs as root. */
export function newDir() {
  const dir = mkdtempSync(join(tmpdir(), "hk-ui-"));
  chmodSync(dir, 0o711);
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** What this test is told is not for the hub, which reads settings there. */
const plainEnv = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("HEARTHKEY")));

/** Starts the program; what it says it listens on is a line of JSON. */
async function start(args) {
  assert.ok(program, "HEARTHKEY says which program to start");
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env: plainEnv() });
  let log = "";
  child.stderr.on("data", (bytes) => (log = (log + bytes).slice(-20_000)));
  const ended = once(child, "exit");
  const lines = createInterface({ input: child.stdout });
  const announced = new Promise((found) => lines.on("line", (line) => line.startsWith("{") && found(line)));
  const said = await Promise.race([announced, ended.then(() => null)]);
  assert.ok(said, `${args[0]} ended at its start:\n${log}`);
  return {
    ...JSON.parse(said),
    log: () => log,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM");
      await ended;
    },
  };
}

/** A cloud with its private PostgreSQL; started again in the same directory, it is the same cloud at the same address. */
export async function startCloud(dir) {
  const data = join(dir, "cloud");
  const kept = join(dir, "cloud.port");
  let port;
  try {
    port = readFileSync(kept, "utf8");
  } catch {
    writeFileSync(kept, (port = String(await freePort())));
  }
  return start(["cloud", "--data-dir", data, "--listen", `127.0.0.1:${port}`, "--name", "Acme Cloud", "--region", "eu", "--announce-json", "--log", "warn"]);
}

/** A hub without an owner, which trusts the maker if there is one, and believes a cloud's own certificate. `by`: `run` also brings new versions of it. */
export async function startHub(dir, { fingerprint = "", ca = null, settings = "", by = "hub" } = {}) {
  const caFile = join(dir, "cloud-ca.pem");
  if (ca) writeFileSync(caFile, ca);
  const cloud = ca ? `[cloud]\nca_file = "${caFile}"\ndebounce_ms = 50\n` : "";
  // Where a hub that starts again is found again.
  const https = await freePort();
  const at = (name, port) => `[${name}]\naddress = "127.0.0.1:${port}"\n`;
  const config = join(dir, "hub.toml");
  writeFileSync(config, `data_dir = "${join(dir, "hub")}"\nname = "lindenhof"\n${at("https", https)}${at("http", 0)}${at("mqtts", 0)}[mdns]\nenabled = false\n[bluetooth]\nenabled = false\n[clock]\ntrusted = true\n${cloud}${settings}`);
  const trust = fingerprint ? ["--trust", `${BRAND}=${fingerprint}`] : [];
  return { config, ...(await start([by, "--config", config, ...trust, "--announce-json", "--log", "warn"])) };
}

/** A vendor of hubs: its key for the hub's settings, and releases that are this program under another version, with a fault if it shall have one. */
export async function makeVendor(dir) {
  const key = join(dir, "vendor.json");
  const { stdout } = await run(program, ["factory", "hub-key", "--out", key]);
  return {
    key: /key = "(.*)"/.exec(stdout)[1],
    async release(version, fault = "") {
      const script = join(dir, `hearthkey-${version}`);
      writeFileSync(script, `#!/bin/sh\n[ "$1" = --version ] && { echo 'hearthkey ${version}'; exit 0; }\n${fault}\nexec '${program}' "$@"\n`);
      chmodSync(script, 0o755);
      const site = join(dir, "site");
      await run(program, ["factory", "hub-release", "--program", script, "--version", version, "--key", key, "--out", site]);
      return join(site, readdirSync(site).find((name) => name.startsWith(`hearthkey-${version}-`) && name.endsWith(".tar.gz")));
    },
    /** Hands the hub a release as whoever holds the box does. */
    install: (hub, file) => run(program, ["update", "from-file", "--config", hub.config, file], { env: plainEnv() }),
  };
}

/** A maker with one garage door: the brand's fingerprint, the door's id, the text of its QR code, its voucher and its secret. */
export async function makeDoor(dir) {
  const workshop = join(dir, "factory");
  const labels = join(dir, "labels.svg");
  const factory = (...args) => run(program, ["factory", ...args, "--dir", workshop]).then(({ stdout }) => stdout);
  const made = await factory("brand", "new", BRAND);
  await factory("model", "add", "--brand", BRAND, "garage-door");
  const minted = await factory("mint", "--brand", BRAND, "--model", "garage-door");
  await factory("labels", "--brand", BRAND, "--out", labels);
  const code = readFileSync(labels, "utf8").match(/(?<=>)([0-9A-Z]{3}-)*[0-9A-Z]{3}(?=<)/g).join("").replace(/-/g, "");
  const [, id, secret, voucher] = /^ {2}(\S+) +secret (\S+) +voucher (\S+)$/m.exec(minted);
  return { brand: join(workshop, BRAND, "brand.json"), fingerprint: /([A-Z2-7]{4}-){7}[A-Z2-7]{4}/.exec(made)[0], id, label: `HK1:${id}:${code}`, secret, voucher: readFileSync(voucher) };
}

/** A release of the door's firmware that its maker signs: a file, from an image that the simulated door starts, and finds well or not. */
export async function makeRelease(dir, rel, version, { healthy = true, notes = "", more = [] } = {}) {
  const [from, to] = [join(dir, `image-${rel}`), join(dir, `garage-door-${version}.hkfw`)];
  writeFileSync(from, `${JSON.stringify({ "hearthkey-device": 1, version, healthy })}\n${"image ".repeat(50_000)}`);
  await run(program, ["factory", "firmware", from, "--brand", BRAND, "--model", "garage-door", "--rel", String(rel), "--version", version, "--notes", notes, "--out", to, ...more, "--dir", join(dir, "factory")]);
  return to;
}

/** Runs the door; it signs in as soon as somebody has claimed it. With a `flash`, a directory, it takes firmware. */
export function runDoor(door, hub, flash) {
  const updated = flash ? ["--state", flash, "--firmware-brand", door.brand, "--page-port", hub.https.split(":").pop()] : [];
  const child = spawn(program, ["device", "--secret", door.secret, "--hub", hub.mqtts, "--hub-id", hub.hub_id, "--eager", ...updated], { stdio: "ignore", env: plainEnv() });
  const ended = once(child, "exit");
  return {
    async stop() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
