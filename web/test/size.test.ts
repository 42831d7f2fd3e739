import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

test("the first load and the whole stay within their budgets, and the page holds nothing inline", () => {
  const dir = mkdtempSync(join(tmpdir(), "web-size-"));
  try {
    const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: { size: string } };
    assert.match(scripts.size, /--budget 45 150$/, "what `npm run size` allows");
    const built = spawnSync(process.execPath, ["esbuild.mjs", dir, "--budget", "45", "150"], { encoding: "utf8" });
    assert.equal(built.status, 0, built.stdout + built.stderr);
    const page = readFileSync(join(dir, "index.html"), "utf8");
    assert.doesNotMatch(page, /<script(?![^>]* src=)|<style|\sstyle=|\son\w+=/);
    const files = readdirSync(dir);
    for (const [, name = ""] of page.matchAll(/(?:src|href)="\/([^"]+)"/g)) assert.ok(files.includes(name), name);
    // Such names are served as never changing.
    for (const name of files.filter((each) => each.endsWith(".js") || each.endsWith(".css"))) assert.match(name, /-[A-Z0-9]{8}\.(js|css)$/);
    assert.ok(files.filter((each) => each.endsWith(".js")).length > 8, "pages come in pieces");
    const over = spawnSync(process.execPath, ["esbuild.mjs", dir, "--budget", "1", "150"], { encoding: "utf8" });
    assert.equal(over.status, 1, "a budget that is too small fails");
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
