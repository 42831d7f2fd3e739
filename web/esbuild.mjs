// Builds the interface: `node esbuild.mjs <dir> [--budget <kB of gzip>]`, and its tests: `node esbuild.mjs --test`.
// The build is reproducible: file names carry the hash of their content, and `.source-hash` tells the hub's build script
// which sources the files were made from.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = fileURLToPath(new URL(".", import.meta.url));
const [target, ...rest] = process.argv.slice(2);
if (target === "--test") await runTests();
else if (target) await buildInterface(resolve(target), rest[0] === "--budget" ? Number(rest[1]) : undefined);
else {
  console.error("usage: node esbuild.mjs <output dir> [--budget <kB>] | --test");
  process.exit(2);
}

async function buildInterface(dir, budget) {
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  const result = await build({
    absWorkingDir: root,
    entryPoints: { app: "src/main.tsx", style: "src/style.css" },
    outdir: dir,
    entryNames: "[name]-[hash]",
    bundle: true,
    minify: true,
    format: "esm",
    target: ["es2022", "safari16", "chrome109", "firefox115"],
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "none",
    charset: "utf8",
    metafile: true,
    logLevel: "warning",
  });
  const made = Object.keys(result.metafile.outputs).map((path) => path.split("/").pop());
  const named = (start, end) => made.find((name) => name.startsWith(start) && name.endsWith(end));
  const icon = readFileSync(join(root, "src/icon.svg"));
  const iconName = `icon-${createHash("sha256").update(icon).digest("hex").slice(0, 8).toUpperCase()}.svg`;
  writeFileSync(join(dir, iconName), icon);
  const page = readFileSync(join(root, "src/index.html"), "utf8")
    .replace("app.js", named("app-", ".js"))
    .replace("style.css", named("style-", ".css"))
    .replace("icon.svg", iconName);
  writeFileSync(join(dir, "index.html"), page);
  writeFileSync(join(dir, ".source-hash"), sourceHash());

  let total = 0;
  for (const name of readdirSync(dir).filter((name) => name !== ".source-hash").sort()) {
    const bytes = readFileSync(join(dir, name));
    const packed = gzipSync(bytes, { level: 9 }).length;
    total += packed;
    console.log(`${name.padEnd(24)} ${String(bytes.length).padStart(8)} B  ${String(packed).padStart(7)} B gzip`);
  }
  console.log(`first load: ${(total / 1000).toFixed(1)} kB gzip`);
  if (budget !== undefined && total > budget * 1000) {
    console.error(`first load is over its budget of ${budget} kB`);
    process.exit(1);
  }
}

/** FNV-1a (64 bits) over path, length and bytes of each source in the order of their paths. The same rule is in build.rs. */
function sourceHash() {
  const files = [".npmrc", "esbuild.mjs", "package-lock.json", "package.json", "tsconfig.json", ...walk("src")];
  files.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  let hash = 0xcbf29ce484222325n;
  const feed = (bytes) => {
    for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  };
  for (const file of files) {
    const bytes = readFileSync(join(root, file));
    feed(Buffer.from(`${file}\0${bytes.length}\0`));
    feed(bytes);
  }
  return hash.toString(16).padStart(16, "0");
}

function walk(dir) {
  return readdirSync(join(root, dir), { withFileTypes: true }).flatMap((entry) => {
    const path = join(root, dir, entry.name);
    const name = relative(root, path).split(sep).join("/");
    return entry.isDirectory() ? walk(name) : [name];
  });
}

async function runTests() {
  const out = mkdtempSync(join(tmpdir(), "web-test-"));
  const tests = readdirSync(join(root, "test")).filter((name) => name.endsWith(".test.ts"));
  await build({
    absWorkingDir: root,
    entryPoints: tests.map((name) => `test/${name}`),
    outdir: out,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    jsx: "automatic",
    jsxImportSource: "preact",
    sourcemap: "inline",
    logLevel: "warning",
  });
  const files = tests.map((name) => join(out, name.replace(/\.ts$/, ".mjs")));
  const run = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...files], { stdio: "inherit" });
  rmSync(out, { recursive: true, force: true });
  process.exit(run.status ?? 1);
}
