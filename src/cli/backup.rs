//! `hearthkey backup`: makes backups, shows and checks what there is, restores a hub from them, and rehearses that.

use crate::{config, hub};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use figment::value::Dict;
use serde_json::Value;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use zeroize::Zeroizing;

/// Characters of what is typed at most.
const TYPED_MAX: u64 = 1_024;

/// Back up a hub, and restore it.
#[derive(Args)]
pub struct BackupArgs {
    #[command(subcommand)]
    action: Action,
    /// Configuration file (TOML), as for `hearthkey hub`.
    #[arg(long, env = "HEARTHKEY_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Where the hub keeps its database and keys.
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Action {
    /// Say where backups go, when, and who can open them. The hub may be running.
    Set(SetArgs),
    /// Make a backup now. The hub may be running.
    Create {
        /// A full one also where an increment would do.
        #[arg(long)]
        full: bool,
    },
    /// Show how backups stand, and what there is.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Read everything that is there and check it by the hub's signature; no secret is needed.
    Verify {
        #[command(flatten)]
        at: At,
    },
    /// Make a hub from backups, in a directory without one.
    Restore {
        #[command(flatten)]
        from: From,
        /// Keep a database that is there under another name.
        #[arg(long)]
        set_aside: bool,
        /// The cloud that is linked: it is told of the new hub at once. Needs the recovery code.
        #[arg(long, value_name = "URL")]
        cloud: Option<String>,
    },
    /// Restore into a scratch directory, and prove that the hub would do: exit code 1 when it would not.
    Rehearse {
        #[command(flatten)]
        from: From,
        /// Somebody who would sign in: the password is asked for, and tried.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// An empty directory with room for the database; it is gone afterwards.
        #[arg(long)]
        scratch: Option<PathBuf>,
    },
}

/// Where backups lie.
#[derive(Args, Clone)]
struct At {
    /// A folder.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["usb", "target"])]
    folder: Option<PathBuf>,
    /// A folder that must be the mount point of a stick.
    #[arg(long, value_name = "DIR", conflicts_with = "target")]
    usb: Option<PathBuf>,
    /// A TOML file that describes a bucket (see docs/backup.md).
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,
}

/// What is restored, and with what it is opened.
#[derive(Args)]
struct From {
    /// A full backup and the increments after it; instead of a place.
    files: Vec<PathBuf>,
    #[command(flatten)]
    at: At,
    /// Which backup there, by its id or name; the newest good one unless given.
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// Ask for the passphrase instead of the recovery code. A cloud that is linked then refuses the hub.
    #[arg(long)]
    passphrase: bool,
}

#[derive(Args)]
struct SetArgs {
    #[command(flatten)]
    at: At,
    /// Every day, or so many days apart, at this time (HH:MM, the home's clock).
    #[arg(long, value_name = "HH:MM", conflicts_with = "by_hand")]
    daily: Option<String>,
    /// Days between two.
    #[arg(long, default_value_t = 1, requires = "daily")]
    every_days: u16,
    /// Days after which there is a full one again; 0 for always.
    #[arg(long, default_value_t = 7, requires = "daily")]
    full_every_days: u16,
    /// Only when somebody asks.
    #[arg(long)]
    by_hand: bool,
    /// How many days, weeks and months are kept, such as 7,4,12.
    #[arg(long, value_name = "D,W,M")]
    keep: Option<String>,
    /// Ask for a passphrase that opens backups from now on, beside the recovery code.
    #[arg(long, conflicts_with = "no_passphrase")]
    passphrase: bool,
    /// The recovery code alone opens them from now on.
    #[arg(long)]
    no_passphrase: bool,
}

/// Runs the command; what it says goes to `out`.
///
/// # Errors
/// Why it was not done, and what to do.
pub fn run(args: BackupArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let flags = args.data_dir.map(|dir| ("data_dir".to_owned(), dir.display().to_string().into()));
    let config = config::load(args.config.as_deref(), flags.into_iter().collect::<Dict>())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.action {
            Action::Set(set) => {
                let new = set.read()?;
                match hub::ask_running(&config.data_dir, &hub::Ask::SetBackups(Box::new(new.clone())), |_| {}).await {
                    Some(answer) => answer.map(drop).map_err(anyhow::Error::msg)?,
                    None => hub::set_backups(&config, new).await?,
                }
                writeln!(out, "Set. `hearthkey backup create` makes the first one.")?;
                Ok(ExitCode::SUCCESS)
            }
            Action::Create { full } => create(&config, full, out).await,
            Action::List { at } => list(&config, at, out).await,
            Action::Verify { at } => {
                let target = at.or_set(&config).await?;
                let scratch = Scratch::new()?;
                let all = hub::verify_backups(&config, &target, &scratch.0).await?;
                let good = all.iter().all(|backup| backup.good);
                table(&serde_json::to_value(all)?, out)?;
                writeln!(
                    out,
                    "What is good is as its hub has written it. That it opens and makes a hub, `hearthkey backup rehearse` shows."
                )?;
                Ok(code(good))
            }
            Action::Restore { from, set_aside, cloud } => restore(&config, from, set_aside, cloud, out).await,
            Action::Rehearse { from, user, scratch } => rehearse(&config, from, user, scratch, out).await,
        }
    })
}

async fn create(config: &hub::Config, full: bool, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let ask = hub::Ask::CreateBackup { full };
    let told = |said: &Value| {
        let mut err = std::io::stderr().lock();
        if err.is_terminal() {
            let _ = write!(err, "\r{} rows", said.get("rows").and_then(Value::as_u64).unwrap_or(0));
        }
    };
    let made = match hub::ask_running(&config.data_dir, &ask, told).await {
        Some(answer) => answer.map_err(anyhow::Error::msg)?,
        None => serde_json::to_value(hub::create_backup(config, full).await?)?,
    };
    let word = |name: &str| made.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = if made.get("full").and_then(Value::as_bool) == Some(true) { "full backup" } else { "increment" };
    writeln!(out, "A {kind} was made and read back: {} ({} bytes).", word("name"), made.get("bytes").unwrap_or(&Value::Null))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(config: &hub::Config, at: At, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    if let Some(target) = at.read()? {
        table(&serde_json::to_value(hub::list_backups(config, &target).await?)?, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let view = view(config).await?;
    let ended = |name: &str| view.get(name).filter(|e| !e.is_null()).cloned();
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match view.get("target").filter(|t| !t.is_null()) {
        Some(target) => writeln!(out, "Backups go to: {}", text(target, "text"))?,
        None => writeln!(out, "Nothing is set: `hearthkey backup set --folder DIR --daily 03:30` says where backups go, and when.")?,
    }
    if let Some(at) = view.get("next_at").and_then(Value::as_u64) {
        writeln!(out, "The next one is due at {}.", moment(at))?;
    }
    if let Some(failed) = ended("failed") {
        writeln!(out, "The newest attempt FAILED: {}", text(&failed, "detail"))?;
    }
    table(view.get("backups").unwrap_or(&Value::Null), out)?;
    Ok(ExitCode::SUCCESS)
}

async fn view(config: &hub::Config) -> anyhow::Result<Value> {
    match hub::ask_running(&config.data_dir, &hub::Ask::ShowBackups, |_| {}).await {
        Some(answer) => answer.map_err(anyhow::Error::msg),
        None => Ok(serde_json::to_value(hub::show_backups(config).await?)?),
    }
}

async fn restore(
    config: &hub::Config,
    from: From,
    set_aside: bool,
    cloud: Option<String>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let (scratch, secrets) = (Scratch::new()?, from.ask()?);
    let files = from.files(config, &scratch).await?;
    let clock: Arc<dyn hub::BoxClock> = Arc::new(hub::SystemBox::new(&config.clock));
    let courier = match &cloud {
        Some(url) => Some(hub::cloud_at(config, clock.clone(), url).await?),
        None => None,
    };
    let restored = hub::restore(config, clock, hub::RestoreOrder { files, secrets, set_aside, courier }).await?;
    let (report, dir) = (&restored.report, config.data_dir.display());
    writeln!(out, "The hub {} is restored in {dir}, as it was at {} ({} files).", report.hub, moment(report.made_at), report.backups)?;
    if let Some(aside) = &restored.set_aside {
        writeln!(out, "The database that was there is kept: {}", aside.display())?;
    }
    if let Some(replayed) = restored.replayed.filter(hub::Replayed::changed) {
        writeln!(out, "From the journal of this directory came {} marks of what was revoked since.", replayed.marks)?;
    }
    match (report.linked, report.signed, restored.begun) {
        (_, _, true) => {
            writeln!(out, "The cloud knows (epoch {}): the hub before serves nobody any more once it hears of it.", report.epoch)?
        }
        (true, true, _) => writeln!(out, "The cloud is told when the hub meets it (epoch {}).", report.epoch)?,
        (true, false, _) => writeln!(
            out,
            "A cloud is linked, and it refuses this hub: only the recovery code can sign that it takes the other's place. Restore once more with the code, or unlink the cloud."
        )?,
        (false, ..) => {}
    }
    writeln!(out, "Make sure that the hub before is never switched on again. Start this one: `hearthkey hub --data-dir {dir}`.")?;
    if report.review {
        writeln!(
            out,
            "What was revoked since is not known: only owners' rights stand until an owner has looked (page Cloud, \"I have looked\")."
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn rehearse(
    config: &hub::Config,
    from: From,
    user: Option<String>,
    scratch: Option<PathBuf>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let secrets = from.ask()?;
    let person = match user {
        Some(name) => Some((name, ask("Password")?)),
        None => None,
    };
    let copies = Scratch::new()?;
    let files = from.files(config, &copies).await?;
    let scratch = scratch.unwrap_or_else(|| copies.0.join("hub"));
    let began = Instant::now();
    let seen = hub::rehearse(config, hub::Rehearsal { files: files.clone(), secrets, person, scratch }).await?;
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let kept = hub::keep_rehearsal(config, &files, &seen, took_ms).await;
    writeln!(out, "The hub {} as it was at {}:", seen.report.hub, moment(seen.report.made_at))?;
    for proof in &seen.proofs {
        writeln!(out, "  {:<9} {:<7} {}", proof.what, if proof.holds { "holds" } else { "FAILS" }, proof.detail)?;
    }
    let good = seen.holds();
    writeln!(
        out,
        "{}",
        if good {
            "A restore would do. The scratch directory is gone."
        } else {
            "A restore would NOT do: use another backup, and report this."
        }
    )?;
    if kept {
        writeln!(out, "The hub that runs here keeps the result: its page shows it.")?;
    }
    Ok(code(good))
}

impl At {
    fn read(&self) -> anyhow::Result<Option<hub::Target>> {
        let path = |path: &PathBuf| Ok::<_, anyhow::Error>(std::path::absolute(path)?.display().to_string());
        Ok(match (&self.folder, &self.usb, &self.target) {
            (Some(dir), ..) => Some(hub::Target::Folder { path: path(dir)? }),
            (_, Some(dir), _) => Some(hub::Target::Usb { path: path(dir)? }),
            (.., Some(file)) => {
                let text = Zeroizing::new(std::fs::read_to_string(file).with_context(|| file.display().to_string())?);
                Some(toml::from_str(&text).map_err(|e| anyhow::anyhow!("{}: {}", file.display(), e.message()))?)
            }
            _ => None,
        })
    }

    /// The place that was named, or the folder that the hub's own backups go to.
    async fn or_set(&self, config: &hub::Config) -> anyhow::Result<hub::Target> {
        if let Some(target) = self.read()? {
            return Ok(target);
        }
        hub::noted_folder(config).context("say where the backups are: --folder DIR, --usb DIR, or --target FILE")
    }
}

impl From {
    fn ask(&self) -> anyhow::Result<hub::Secrets> {
        if self.passphrase {
            return Ok(hub::Secrets { code: None, passphrase: Some(ask("Passphrase")?) });
        }
        Ok(hub::Secrets { code: Some(hub::RecoveryCode::parse(&ask("Recovery code")?)?), passphrase: None })
    }

    async fn files(&self, config: &hub::Config, scratch: &Scratch) -> anyhow::Result<Vec<PathBuf>> {
        if !self.files.is_empty() {
            return Ok(self.files.clone());
        }
        let target = self.at.or_set(config).await?;
        Ok(hub::fetch_chain(config, &target, self.backup.as_deref(), &scratch.0).await?)
    }
}

impl SetArgs {
    fn read(&self) -> anyhow::Result<hub::NewBackup> {
        let mut new = hub::NewBackup { target: self.at.read()?.map(Some), ..hub::NewBackup::default() };
        if let Some(text) = &self.daily {
            let parts = text.split_once(':').and_then(|(h, m)| Some((h.parse::<u16>().ok()?, m.parse::<u16>().ok()?)));
            let (hour, minute) = parts.filter(|(h, m)| *h < 24 && *m < 60).context("--daily: a time such as 03:30")?;
            let minute = hour * 60 + minute;
            new.schedule = Some(Some(hub::Schedule { minute, every_days: self.every_days, full_every_days: self.full_every_days }));
        } else if self.by_hand {
            new.schedule = Some(None);
        }
        if let Some(text) = &self.keep {
            let numbers: Vec<u16> =
                text.split(',').map(|n| n.trim().parse()).collect::<Result<_, _>>().context("--keep: three numbers, such as 7,4,12")?;
            let [daily, weekly, monthly] = numbers.as_slice() else { bail!("--keep: three numbers, such as 7,4,12") };
            new.retention = Some(hub::Retention { daily: *daily, weekly: *weekly, monthly: *monthly });
        }
        if self.passphrase {
            new.passphrase = Some(Some(hub::Passphrase(ask("New passphrase")?)));
        } else if self.no_passphrase {
            new.passphrase = Some(None);
        }
        Ok(new)
    }
}

/// A directory for copies of what is elsewhere; gone with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Scratch> {
        use std::os::unix::fs::DirBuilderExt;
        let dir = std::env::temp_dir().join(format!("hearthkey-{}", uuid::Uuid::now_v7()));
        std::fs::DirBuilder::new().mode(0o700).create(&dir).with_context(|| dir.display().to_string())?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn table(all: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    let all = all.as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        return writeln!(out, "There are no backups there.");
    }
    for backup in all {
        let text = |name: &str| backup.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
        let number = |name: &str| backup.get(name).and_then(Value::as_u64);
        let good = if backup.get("good").and_then(Value::as_bool) == Some(true) { "good" } else { "BAD" };
        let made = number("made_at").map_or_else(|| "-".into(), moment);
        writeln!(out, "{made:<22} {:<9} {good:<4} {:>11}  {}", text("kind"), number("bytes").unwrap_or(0), text("name"))?;
        if let Some(problem) = backup.get("problem").and_then(Value::as_str) {
            writeln!(out, "    {problem}")?;
        }
    }
    Ok(())
}

fn ask(what: &str) -> anyhow::Result<Zeroizing<String>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let mut err = std::io::stderr().lock();
        write!(err, "{what}: ")?;
        err.flush()?;
    }
    let mut typed = Zeroizing::new(String::new());
    std::io::Read::take(stdin.lock(), TYPED_MAX).read_line(&mut typed)?;
    let line = Zeroizing::new(typed.trim_end_matches(['\r', '\n']).to_owned());
    if line.trim().is_empty() {
        bail!("{what}: nothing was given; type it, or pass it on standard input, one line each");
    }
    Ok(line)
}

fn code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn moment(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| format!("{ms} ms since 1970"), |t| t.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}
