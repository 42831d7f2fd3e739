//! `hearthkey factory`: the maker's tool on the command line. The work is the factory's; here are arguments, progress and words.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::factory::{self, BrandId, DeviceId, FactoryError, FirmwareOrder, MintOptions, ModelName, Progress, Run, RunChoice, Workshop};

/// Make brands, devices, registry batches and labels.
#[derive(Debug, Args)]
pub struct FactoryArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make or look at brands.
    #[command(subcommand)]
    Brand(BrandCommand),
    /// Add the models of a brand.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Mint devices: a secret file and a voucher for each.
    Mint(MintArgs),
    /// Make the registry batch of devices for one hub.
    Batch(BatchArgs),
    /// Make the orders by which devices of a stolen hub move to another one.
    Rehome(RehomeArgs),
    /// Sign an image as a release of firmware: a file that hubs take.
    Firmware(FirmwareArgs),
    /// Draw printable labels with QR codes (SVG, A4, 3 × 8).
    Labels(LabelArgs),
    /// For the vendor of this program: make a release of the hub, signed, with its archive and its entry in the manifest.
    HubRelease(HubReleaseArgs),
    /// For the vendor of this program: make the key by which its releases are signed.
    HubKey {
        /// A new file. Keep it offline.
        #[arg(long)]
        out: PathBuf,
    },
    /// Say what a file is, never showing a secret.
    Show {
        /// A voucher, secret, key, model, hub request, batch or release of firmware.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum BrandCommand {
    /// Make a brand: an offline root and its certified keys.
    New {
        /// 1-64 of a-z, 0-9 and hyphen.
        name: BrandId,
        #[command(flatten)]
        shop: Shop,
    },
    /// Print a brand's fingerprint and runs.
    Show {
        /// Which brand.
        name: BrandId,
        #[command(flatten)]
        shop: Shop,
    },
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Check, sign and store a model.
    Add {
        /// A JSON file, or the name of a sample: garage-door, thermostat, lamp.
        file: PathBuf,
        /// Whose model.
        #[arg(long)]
        brand: BrandId,
        #[command(flatten)]
        shop: Shop,
    },
}

#[derive(Debug, Args)]
struct Shop {
    /// The workshop's directory.
    #[arg(long, env = "HEARTHKEY_FACTORY", default_value = "factory")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct MintArgs {
    /// Whose devices.
    #[arg(long)]
    brand: BrandId,
    /// Of which model.
    #[arg(long, required_unless_present = "resume")]
    model: Option<ModelName>,
    /// How many.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// The hardware revision.
    #[arg(long)]
    hardware: Option<String>,
    /// What device ids begin with [default: the model's name and a hyphen].
    #[arg(long)]
    prefix: Option<String>,
    /// Go on with this interrupted run.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["model", "count", "hardware", "prefix"])]
    resume: Option<String>,
    #[command(flatten)]
    shop: Shop,
}

#[derive(Debug, Args)]
struct Choice {
    /// The devices of this run [default: the latest].
    #[arg(long, conflicts_with = "all")]
    run: Option<String>,
    /// The devices of all runs.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct BatchArgs {
    /// Whose devices.
    #[arg(long)]
    brand: BrandId,
    /// The hub's request: the line HKREQ1.…, or a file that holds it.
    #[arg(long, value_name = "REQUEST")]
    for_hub: String,
    #[command(flatten)]
    choice: Choice,
    /// Where to write the batch.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    shop: Shop,
}

#[derive(Debug, Args)]
struct RehomeArgs {
    /// Whose devices.
    #[arg(long)]
    brand: BrandId,
    /// What the new hub asks: the line HKMOVE1.…, or a file that holds it.
    #[arg(long, value_name = "REQUEST")]
    for_hub: String,
    /// A device of that home. May be given more than once; without it, all of the chosen runs.
    #[arg(long, value_name = "ID")]
    device: Vec<DeviceId>,
    /// The number of the orders, above every one that was made before; the time in seconds without it.
    #[arg(long)]
    counter: Option<u64>,
    #[command(flatten)]
    choice: Choice,
    /// Where to write them.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    shop: Shop,
}

#[derive(Debug, Args)]
struct HubReleaseArgs {
    /// The program that was built.
    #[arg(long)]
    program: PathBuf,
    /// Its version, as it says itself.
    #[arg(long)]
    version: String,
    /// Its place in the order of versions: it rises with each [default: from the version].
    #[arg(long)]
    rel: Option<u64>,
    /// For which machines: a target triple [default: as this program].
    #[arg(long)]
    platform: Option<String>,
    /// The oldest layout of the database that it reads [default: as this program writes].
    #[arg(long)]
    oldest_layout: Option<u32>,
    /// The newest one, which it writes.
    #[arg(long, default_value_t = crate::hub::DATABASE_LAYOUT)]
    layout: u32,
    /// To how many hubs of a hundred it is given by itself.
    #[arg(long, default_value_t = 100)]
    percent: u8,
    /// A text file that says what is new.
    #[arg(long)]
    notes: Option<PathBuf>,
    /// The key, from `hearthkey factory hub-key`.
    #[arg(long)]
    key: PathBuf,
    /// The directory that the web server gives out.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct LabelArgs {
    /// Whose devices.
    #[arg(long)]
    brand: BrandId,
    #[command(flatten)]
    choice: Choice,
    /// The first page; further pages get a number.
    #[arg(long, default_value = "labels.svg")]
    out: PathBuf,
    #[command(flatten)]
    shop: Shop,
}

#[derive(Debug, Args)]
struct FirmwareArgs {
    /// The image, as devices of the model start from it.
    image: PathBuf,
    /// Whose devices.
    #[arg(long)]
    brand: BrandId,
    /// Of which model.
    #[arg(long)]
    model: ModelName,
    /// A hardware revision that it runs on; may be given more than once. Without it, devices that have no revision.
    #[arg(long, value_name = "REVISION")]
    hardware: Vec<String>,
    /// The number of the release, above all that were signed for the model.
    #[arg(long, value_name = "N")]
    rel: u64,
    /// The version for people, such as 1.5.0.
    #[arg(long)]
    version: String,
    /// What is new.
    #[arg(long, default_value = "")]
    notes: String,
    /// The oldest release that can go to this one in one step.
    #[arg(long, value_name = "N", default_value_t = 0)]
    least_before: u64,
    /// The oldest release that is still safe to use: devices below it do nothing any more but update.
    #[arg(long, value_name = "N", default_value_t = 0)]
    security_minimum: u64,
    /// Where to write the release file [default: the model, the version and .hkfw].
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    shop: Shop,
}

/// Runs the maker's tool.
///
/// # Errors
/// What went wrong, in words for the maker.
pub fn run(args: FactoryArgs) -> Result<()> {
    let mut out = stdout().lock();
    match args.command {
        Command::Brand(BrandCommand::New { name, shop }) => new_brand(&mut out, &name, &shop),
        Command::Brand(BrandCommand::Show { name, shop }) => show_brand(&mut out, &name, &shop),
        Command::Model(ModelCommand::Add { file, brand, shop }) => add_model(&mut out, &file, &brand, &shop),
        Command::Mint(args) => mint(&mut out, &args),
        Command::Batch(args) => batch(&mut out, &args),
        Command::Rehome(args) => rehome(&mut out, &args),
        Command::Firmware(args) => firmware(&mut out, args),
        Command::Labels(args) => labels(&mut out, &args),
        Command::HubRelease(args) => hub_release(&mut out, &args),
        Command::HubKey { out: file } => {
            let public = factory::new_hub_key(&file)?;
            writeln!(out, "Made {}. Hubs are told the public half:\n\n    [update]\n    key = \"{public}\"", file.display())?;
            Ok(())
        }
        Command::Show { file } => Ok(out.write_all(factory::describe(&file)?.as_bytes())?),
    }
}

impl Shop {
    fn open(&self) -> Result<Workshop> {
        Ok(Workshop::open(&self.dir)?)
    }
}

impl Choice {
    fn choice(&self) -> RunChoice {
        match &self.run {
            _ if self.all => RunChoice::All,
            Some(run) => RunChoice::One(run.clone()),
            None => RunChoice::Latest,
        }
    }
}

fn hub_release(out: &mut dyn Write, args: &HubReleaseArgs) -> Result<()> {
    let notes = args.notes.as_ref().map(|path| fs::read_to_string(path).with_context(|| path.display().to_string())).transpose()?;
    let order = factory::HubReleaseOrder {
        program: args.program.clone(),
        version: factory::Version::parse(&args.version)?,
        rel: args.rel,
        platform: args.platform.clone().unwrap_or_else(|| crate::hub::platform().to_owned()),
        layouts: (args.oldest_layout.unwrap_or(args.layout), args.layout),
        percent: args.percent,
        notes: notes.unwrap_or_default(),
    };
    let archive = factory::make_hub_release(&order, &args.key, &args.out)?;
    writeln!(out, "Made {}, with {}.release and manifest.json beside it.", archive.display(), archive.display())?;
    Ok(())
}

fn new_brand(out: &mut dyn Write, name: &BrandId, shop: &Shop) -> Result<()> {
    let brand = shop.open()?.new_brand(name)?;
    writeln!(out, "Made the brand {name} in {}.", brand.dir.display())?;
    writeln!(out, "Its fingerprint, for owners of hubs to compare:\n\n    {}\n", brand.fingerprint)?;
    writeln!(out, "Move {} to a place that is offline. Only new keys need it.", brand.dir.join("root.json").display())?;
    Ok(())
}

fn show_brand(out: &mut dyn Write, name: &BrandId, shop: &Shop) -> Result<()> {
    let shop = shop.open()?;
    writeln!(out, "{name}  {}", shop.brand(name)?.fingerprint)?;
    for run in shop.runs(name)? {
        writeln!(out, "  run {}  {}  {} of {} devices", run.run, run.model, run.minted, run.count)?;
    }
    Ok(())
}

fn add_model(out: &mut dyn Write, file: &Path, brand: &BrandId, shop: &Shop) -> Result<()> {
    let shop = shop.open()?;
    let sample = factory::SAMPLES.iter().find(|sample| Path::new(sample.name) == file && !file.exists());
    let json = match sample {
        Some(sample) => sample.json.to_owned(),
        None => fs::read_to_string(file).with_context(|| file.display().to_string())?,
    };
    let model = shop.add_model(brand, &json).with_context(|| file.display().to_string())?;
    writeln!(out, "Added the model {} ({}, version {}) of {brand}.", model.name, model.title, model.version)?;
    Ok(())
}

fn mint(out: &mut dyn Write, args: &MintArgs) -> Result<()> {
    let shop = args.shop.open()?;
    let (bar, minted) = match (&args.resume, &args.model) {
        (Some(name), _) => {
            let count = shop.runs(&args.brand)?.iter().find(|run| run.run == *name).map_or(0, |run| run.count);
            let bar = Bar::new(count, "devices")?;
            let minted = shop.resume(&args.brand, name, &bar);
            (bar, minted)
        }
        (None, Some(model)) => {
            let bar = Bar::new(args.count, "devices")?;
            let options = MintOptions { hardware: args.hardware.clone(), prefix: args.prefix.clone() };
            let minted = shop.mint(&args.brand, model, args.count, &options, &bar);
            (bar, minted)
        }
        (None, None) => bail!("name a model"),
    };
    bar.finish();
    match minted {
        Ok(run) => report(out, &run),
        Err(FactoryError::Interrupted { run, minted, count }) => {
            bail!(
                "stopped after {minted} of {count} devices, which are complete; go on with:\n  hearthkey factory mint --brand {} --resume {run} --dir {}",
                args.brand,
                args.shop.dir.display()
            )
        }
        Err(other) => Err(other.into()),
    }
}

fn report(out: &mut dyn Write, run: &Run) -> Result<()> {
    writeln!(out, "Minted {} devices of model {}: run {}, in {}.", run.minted, run.model, run.run, run.dir.display())?;
    if run.count <= 10 {
        for device in run.devices() {
            let device = device?;
            writeln!(out, "  {}  secret {}  voucher {}", device.device_id, device.secret.display(), device.voucher.display())?;
        }
    }
    Ok(())
}

fn batch(out: &mut dyn Write, args: &BatchArgs) -> Result<()> {
    let shop = args.shop.open()?;
    let request = if args.for_hub.starts_with("HKREQ1.") {
        args.for_hub.clone()
    } else {
        fs::read_to_string(&args.for_hub).with_context(|| args.for_hub.clone())?
    };
    let choice = args.choice.choice();
    let devices: u64 = shop.choose(&args.brand, &choice)?.iter().map(|run| run.minted).sum();
    let bar = Bar::new(devices * 2, "steps")?;
    let made = shop.batch(&args.brand, &choice, &request, &args.out, &bar);
    bar.finish();
    let made = match made {
        Err(FactoryError::Interrupted { .. }) => bail!("stopped; no batch was written"),
        other => other?,
    };
    writeln!(out, "Wrote {} devices for the hub {} to {} ({} bytes).", made.devices, made.hub, made.path.display(), made.size)?;
    Ok(())
}

fn rehome(out: &mut dyn Write, args: &RehomeArgs) -> Result<()> {
    let request = if args.for_hub.starts_with("HKMOVE1.") {
        args.for_hub.clone()
    } else {
        fs::read_to_string(&args.for_hub).with_context(|| args.for_hub.clone())?
    };
    let made = args.shop.open()?.rehome(&args.brand, &args.choice.choice(), &request, &args.device, args.counter, &args.out)?;
    let from: Vec<String> = made.from.iter().map(ToString::to_string).collect();
    writeln!(
        out,
        "Wrote orders for {} devices of the hub {} to move to {}, to {}.",
        made.devices,
        from.join(", "),
        made.hub,
        made.path.display()
    )?;
    writeln!(out, "Be sure that the hub was stolen, and that it is its owner who asks: whoever is named there gets the devices.")?;
    writeln!(out, "The new hub needs a batch too: hearthkey factory batch, with its own request (HKREQ1.…).")?;
    Ok(())
}

fn firmware(out: &mut dyn Write, args: FirmwareArgs) -> Result<()> {
    let FirmwareArgs { image, brand, model, mut hardware, rel, version, notes, least_before, security_minimum, out: path, shop } = args;
    let path = path.unwrap_or_else(|| PathBuf::from(format!("{model}-{version}.hkfw")));
    if hardware.is_empty() {
        hardware.push(String::new());
    }
    let order = FirmwareOrder { model, hardware, rel, version, notes, least_before, security_minimum };
    let made = shop.open()?.firmware(&brand, &order, &image, &path)?;
    writeln!(
        out,
        "Signed release {} ({}) of {} for {brand}, {} bytes, in {}.",
        made.rel,
        made.version,
        made.model,
        made.size,
        path.display()
    )?;
    writeln!(out, "Hubs whose owner trusts the brand take this file; no cloud is needed.")?;
    Ok(())
}

fn labels(out: &mut dyn Write, args: &LabelArgs) -> Result<()> {
    let made = args.shop.open()?.labels(&args.brand, &args.choice.choice(), &args.out)?;
    writeln!(out, "Drew {} labels on {} pages, from {}.", made.labels, made.pages.len(), args.out.display())?;
    writeln!(out, "They show claim codes: who reads one can claim the device.")?;
    Ok(())
}

/// A progress bar that Ctrl-C stops.
struct Bar(ProgressBar);

static STOP: AtomicBool = AtomicBool::new(false);

impl Bar {
    fn new(length: u64, what: &str) -> Result<Self> {
        watch_for_interrupt()?;
        let target = if stderr().is_terminal() { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}} of {{len}} {what}, {{per_sec}}, {{eta}} left"))?;
        Ok(Self(ProgressBar::with_draw_target(Some(length), target).with_style(style)))
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn advance(&self, devices: u64) {
        self.0.inc(devices);
    }

    fn stop(&self) -> bool {
        STOP.load(Ordering::Relaxed)
    }
}

/// From here on, Ctrl-C asks the work to stop. The thread ends with the process.
fn watch_for_interrupt() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            STOP.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}
