// Builds the interface: `node esbuild.mjs <dir> [--budget <kB of gzip for the first load> <for all of it>]`, and its tests:
// `node esbuild.mjs --test`. Pages that are seldom used come in pieces of their own, loaded when they are first shown.
// The build is reproducible: file names carry the hash of their content, and `.source-hash` tells the hub's build script
// which sources the files were made from.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/** Two thirds of the reader of QR codes is a table of Japanese characters, which no label has. */
const withoutKanji = {
  name: "without-kanji",
  setup: ({ onLoad }) =>
    onLoad({ filter: /jsqr[\\/]dist[\\/]jsQR\.js$/ }, ({ path }) => {
      const [before, after, ...more] = readFileSync(path, "utf8").split(/(?<=exports\.shiftJISTable = \{)[^{}]*(?=\};)/);
      if (after === undefined || more.length > 0) throw new Error(`${path} is not as it was: where is its table?`);
      return { contents: before + after, loader: "js" };
    }),
};

const root = fileURLToPath(new URL(".", import.meta.url));
const [target, ...rest] = process.argv.slice(2);
if (target === "--test") await runTests();
else if (target) await buildInterface(resolve(target), rest[0] === "--budget" ? { first: Number(rest[1]), whole: Number(rest[2]) } : undefined);
else {
  console.error("usage: node esbuild.mjs <output dir> [--budget <kB at first> <kB in all>] | --test");
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
    chunkNames: "[name]-[hash]",
    splitting: true,
    bundle: true,
    minify: true,
    format: "esm",
    target: ["es2022", "safari16", "chrome109", "firefox115"],
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "none",
    charset: "utf8",
    metafile: true,
    plugins: [withoutKanji],
    logLevel: "warning",
  });
  const outputs = new Map(Object.entries(result.metafile.outputs).map(([path, output]) => [basename(path), output]));
  const named = (start, end) => [...outputs.keys()].find((name) => name.startsWith(start) && name.endsWith(end));
  const icon = readFileSync(join(root, "src/icon.svg"));
  const iconName = `icon-${createHash("sha256").update(icon).digest("hex").slice(0, 8).toUpperCase()}.svg`;
  writeFileSync(join(dir, iconName), icon);
  const app = named("app-", ".js");
  const style = named("style-", ".css");
  const shared = staticImports(outputs, app);
  const preloads = shared.map((name) => `<link rel="modulepreload" href="/${name}">\n`).join("");
  const page = readFileSync(join(root, "src/index.html"), "utf8")
    .replace('<script type="module" src="/app.js">', `${preloads}<script type="module" src="/${app}">`)
    .replace("style.css", style)
    .replace("icon.svg", iconName);
  writeFileSync(join(dir, "index.html"), page);
  writeFileSync(join(dir, ".source-hash"), sourceHash());

  const atFirst = new Set(["index.html", iconName, style, app, ...shared]);
  let first = 0;
  let whole = 0;
  for (const name of readdirSync(dir).filter((name) => name !== ".source-hash").sort()) {
    const bytes = readFileSync(join(dir, name));
    const packed = gzipSync(bytes, { level: 9 }).length;
    whole += packed;
    if (atFirst.has(name)) first += packed;
    console.log(`${atFirst.has(name) ? "*" : " "} ${name.padEnd(28)} ${String(bytes.length).padStart(8)} B  ${String(packed).padStart(7)} B gzip`);
  }
  console.log(`first load (*): ${(first / 1000).toFixed(1)} kB gzip; the whole: ${(whole / 1000).toFixed(1)} kB gzip`);
  for (const [what, size, limit] of [["the first load", first, budget?.first], ["the whole", whole, budget?.whole]])
    if (limit !== undefined && !(size <= limit * 1000)) {
      console.error(`${what} is over its budget of ${limit} kB`);
      process.exitCode = 1;
    }
}

/** The pieces that a file needs before it runs, and those that they need. */
function staticImports(outputs, file, found = new Set()) {
  for (const { path, kind, external } of outputs.get(file).imports) {
    const name = basename(path);
    if (kind !== "import-statement" || external || found.has(name)) continue;
    found.add(name);
    staticImports(outputs, name, found);
  }
  return [...found].sort();
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
