//! Puts the interface where the hub embeds it from: `$OUT_DIR/ui`, each file beside its gzip form.
//!
//! The files come from the first of these that applies: the directory named by `HEARTHKEY_UI_DIST`; a `web/dist` that was made
//! from exactly the `web/` sources at hand (a release archive carries one, so building it needs no Node); a build with npm
//! in a copy below `OUT_DIR`, so that the source tree stays untouched. Without the feature `ui` a page takes their place that says so.
//! What the files contain and how they are made is left to `web/`; serving them is left to the crate.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The sources of the interface, besides everything below `web/src`; `web/esbuild.mjs` has the same list.
const SOURCES: [&str; 5] = [".npmrc", "esbuild.mjs", "package-lock.json", "package.json", "tsconfig.json"];
const STAMP: &str = ".source-hash";
const STUB: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Hearthkey</title>\
    <p>This hub was built without its user interface (cargo feature <code>ui</code>). Its API is at <code>/api/v1</code>.</p></html>\n";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("cargo::error={}", problem.to_string().replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=HEARTHKEY_UI_DIST");
    let out = directory("OUT_DIR")?;
    let ui = out.join("ui");
    if std::env::var_os("CARGO_FEATURE_UI").is_none() {
        renew(&ui)?;
        place(&ui, "index.html", STUB.as_bytes())?;
    } else {
        let dist = built_interface(&directory("CARGO_MANIFEST_DIR")?.join("web"), &out)?;
        renew(&ui)?;
        place_all(&dist, &dist, &ui)?;
    }
    println!("cargo::rustc-env=HEARTHKEY_UI_DIR={}", ui.display());
    Ok(())
}

/// The directory with a built interface that fits the sources.
fn built_interface(web: &Path, out: &Path) -> Outcome<PathBuf> {
    if let Some(given) = std::env::var_os("HEARTHKEY_UI_DIST") {
        let given = PathBuf::from(given);
        println!("cargo::rerun-if-changed={}", given.display());
        if !given.join("index.html").is_file() {
            return Err(format!("HEARTHKEY_UI_DIST={} holds no index.html", given.display()).into());
        }
        return Ok(given);
    }
    for name in SOURCES {
        println!("cargo::rerun-if-changed=web/{name}");
    }
    println!("cargo::rerun-if-changed=web/src");
    let hash = source_hash(web)?;
    let carried = web.join("dist");
    if carried.join(STAMP).is_file() {
        // Named only if it is there: a missing path would run this script at every build.
        println!("cargo::rerun-if-changed=web/dist/{STAMP}");
        if is_made_from(&carried, &hash) {
            return Ok(carried);
        }
    }
    let work = out.join("web");
    let dist = work.join("dist");
    if !is_made_from(&dist, &hash) {
        build_with_npm(web, &work)?;
        if !is_made_from(&dist, &hash) {
            return Err("web/esbuild.mjs and build.rs disagree about the sources of the interface: compare their lists and hash".into());
        }
    }
    Ok(dist)
}

/// Builds in a copy of the sources. Packages are installed again only when the lock file changes.
fn build_with_npm(web: &Path, work: &Path) -> Outcome<()> {
    let copy = work.join("src");
    renew(&copy)?;
    for name in SOURCES {
        fs::copy(web.join(name), work.join(name))?;
    }
    for file in files_below(&web.join("src"))? {
        let to = copy.join(file.strip_prefix(web.join("src"))?);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(&file, to)?;
    }
    let lock = fs::read(work.join("package-lock.json"))?;
    let installed = work.join("node_modules/.installed-lock");
    if fs::read(&installed).ok().as_deref() != Some(&lock) {
        step(work, "npm", &["ci", "--ignore-scripts", "--no-audit", "--no-fund"])?;
        fs::write(&installed, &lock)?;
    }
    step(work, "node", &["esbuild.mjs", "dist"])
}

fn step(work: &Path, program: &str, arguments: &[&str]) -> Outcome<()> {
    const INSTEAD: &str = "or set HEARTHKEY_UI_DIST to a built interface, or build with --no-default-features for a hub without one";
    let ran = Command::new(program).args(arguments).current_dir(work).output();
    let output =
        ran.map_err(|error| format!("the interface needs Node.js 20 or newer with npm ({program}: {error}): install it, {INSTEAD}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().filter(|line| line.to_lowercase().contains("error")).take(4).collect();
    let called = arguments.join(" ");
    Err(format!(
        "`{program} {called}` failed in {} ({}): {}; see what it needs, {INSTEAD}",
        work.display(),
        output.status,
        last.join(" | ")
    )
    .into())
}

fn is_made_from(dist: &Path, hash: &str) -> bool {
    dist.join("index.html").is_file() && fs::read_to_string(dist.join(STAMP)).is_ok_and(|found| found.trim() == hash)
}

/// FNV-1a (64 bits) over path, length and bytes of each source in the order of their paths, as `web/esbuild.mjs` writes it.
/// It tells stale files from fresh ones; it does not guard against anybody.
fn source_hash(web: &Path) -> Outcome<String> {
    let mut names: Vec<String> = SOURCES.iter().map(|name| (*name).to_owned()).collect();
    for file in files_below(&web.join("src"))? {
        let name = file.strip_prefix(web)?.to_str().ok_or("a file below web/src has a name that is not UTF-8")?;
        names.push(name.replace('\\', "/"));
    }
    names.sort_unstable();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for name in names {
        let bytes = fs::read(web.join(&name)).map_err(|error| format!("web/{name}: {error}"))?;
        feed(format!("{name}\0{}\0", bytes.len()).as_bytes());
        feed(&bytes);
    }
    Ok(format!("{hash:016x}"))
}

fn place_all(root: &Path, dir: &Path, ui: &Path) -> Outcome<()> {
    for file in files_below(dir)? {
        let name = file.strip_prefix(root)?.to_str().ok_or("a built file has a name that is not UTF-8")?;
        let packed = Path::new(name).extension().is_some_and(|extension| extension == "gz");
        if !name.starts_with('.') && !packed {
            place(ui, name, &fs::read(&file)?)?;
        }
    }
    Ok(())
}

/// Writes a file and its gzip form, which is the same for the same bytes: it holds no name and no time.
fn place(ui: &Path, name: &str, bytes: &[u8]) -> Outcome<()> {
    let path = ui.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(bytes)?;
    fs::write(&path, bytes)?;
    fs::write(ui.join(format!("{name}.gz")), packer.finish()?)?;
    Ok(())
}

fn files_below(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

fn renew(dir: &Path) -> Outcome<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    Ok(())
}

fn directory(variable: &str) -> Outcome<PathBuf> {
    Ok(PathBuf::from(std::env::var_os(variable).ok_or_else(|| format!("cargo sets {variable}, and it is missing"))?))
}
