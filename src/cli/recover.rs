//! `hearthkey recover`: a new box takes the place of a hub that is broken.

use crate::{config, hub};
use anyhow::{Context, bail};
use clap::Args;
use figment::value::Dict;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Characters of the recovery code that are read at most.
const TYPED_MAX: u64 = 1_024;

/// Make a hub from the recovery bundle of one that is broken. The recovery code is asked for, or read from standard input.
#[derive(Args)]
pub struct RecoverArgs {
    /// The cloud that keeps the bundle.
    #[arg(long, value_name = "URL", required_unless_present = "bundle", conflicts_with = "bundle")]
    cloud: Option<String>,
    /// A file with the bundle, for a home without a cloud.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The id of the hub that is broken, as printed beside the recovery code.
    #[arg(long, value_name = "ID")]
    hub: Option<String>,
    /// The hub was stolen, not broken: the new one gets an identity and keys of its own, and its devices are told to move there.
    #[arg(long)]
    stolen: bool,
    /// With --stolen: where devices find the new hub's MQTT over TLS, besides by mDNS. May be given more than once.
    #[arg(long, value_name = "HOST:PORT", requires = "stolen")]
    address: Vec<String>,
    /// Where the new hub keeps its database and keys: empty, or not there yet.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Configuration file (TOML), as for `hearthkey hub`.
    #[arg(long, env = "HEARTHKEY_CONFIG")]
    config: Option<PathBuf>,
}

/// Runs the command; what it says goes to `out`.
///
/// # Errors
/// Why no hub was made, and what to do; nothing that could start is left then.
pub fn run(args: RecoverArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let flags = args.data_dir.map(|dir| ("data_dir".to_owned(), dir.display().to_string().into()));
    let config = config::load(args.config.as_deref(), flags.into_iter().collect::<Dict>())?;
    let typed = ask()?;
    let clock: Arc<dyn hub::BoxClock> = Arc::new(hub::SystemBox::new(&config.clock));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stolen = args.stolen;
    let done = runtime.block_on(async {
        let from = match (&args.cloud, &args.bundle) {
            (Some(url), _) => hub::BundleSource::Cloud(hub::cloud_at(&config, clock.clone(), url).await?),
            (None, Some(path)) => hub::BundleSource::File(std::fs::read(path).with_context(|| path.display().to_string())?),
            (None, None) => bail!("say where the bundle is: --cloud URL, or --bundle FILE"),
        };
        let order = hub::RecoverOrder::read(args.hub.as_deref(), &typed, from)?;
        if stolen {
            return Ok(Done::Rehomed(hub::rehome(&config, clock, order, args.address).await?));
        }
        Ok(Done::Recovered(hub::recover(&config, clock, order).await?))
    })?;
    let dir = config.data_dir.display();
    match done {
        Done::Recovered(recovered) => say_recovered(&recovered, &dir, out),
        Done::Rehomed(rehomed) => say_rehomed(&rehomed, &dir, out),
    }
}

enum Done {
    Recovered(hub::Recovered),
    Rehomed(hub::Rehomed),
}

fn say_rehomed(rehomed: &hub::Rehomed, dir: &dyn std::fmt::Display, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "The hub {} in {dir} follows the stolen {}, as that was at {}.", rehomed.hub, rehomed.old, moment(rehomed.bundle_at))?;
    writeln!(out, "Write the new id on the paper with the recovery code, in place of the old one: the code goes on serving.")?;
    if rehomed.told {
        writeln!(out, "The cloud has ended the stolen hub, and brings the keys of the devices and their orders to move.")?;
    } else {
        writeln!(
            out,
            "No cloud was told. Send this line to the makers of your devices, who answer with a batch and a file of move orders:"
        )?;
        writeln!(out, "{}", rehomed.request)?;
    }
    writeln!(out, "Start it with `hearthkey hub --data-dir {dir}`. Devices come over when they look for their hub and do not find it.")?;
    writeln!(out, "Everybody should choose a new password now, owners first; apps and service accounts are set up anew.")?;
    Ok(())
}

fn say_recovered(recovered: &hub::Recovered, dir: &dyn std::fmt::Display, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "The hub {} is restored in {dir}, as it was at {}.", recovered.hub, moment(recovered.bundle_at))?;
    if let Some(taken) = recovered.replayed.as_ref().filter(|taken| !taken.of_another_hub) {
        writeln!(
            out,
            "From the journal in that directory it has taken {} marks of what was revoked after the bundle was made.",
            taken.marks
        )?;
    }
    if recovered.begun {
        writeln!(out, "The cloud knows (epoch {}): the old hub serves nobody any more as soon as it hears of it.", recovered.epoch)?;
    } else {
        writeln!(out, "No cloud was told (epoch {}): make sure that the old hub is never switched on again.", recovered.epoch)?;
    }
    writeln!(out, "Start it with `hearthkey hub --data-dir {dir}`, at the address that the old one had.")?;
    writeln!(
        out,
        "People sign in with their names and passwords. Until it is known what was revoked in the meantime, only owners' rights stand."
    )?;
    Ok(())
}

fn ask() -> anyhow::Result<Zeroizing<String>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let mut err = std::io::stderr().lock();
        write!(err, "Recovery code: ")?;
        err.flush()?;
    }
    let mut typed = Zeroizing::new(String::new());
    std::io::Read::take(stdin.lock(), TYPED_MAX).read_line(&mut typed)?;
    if typed.trim().is_empty() {
        bail!("no recovery code was given: type it, or pass it on standard input");
    }
    Ok(typed)
}

fn moment(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| format!("{ms} ms since 1970"), |t| t.to_string())
}
