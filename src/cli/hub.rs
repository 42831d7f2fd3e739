//! `hearthkey hub`: runs the hub until it is told to stop; `hearthkey hub request` prints what a maker needs,
//! `hearthkey hub reset-password` what somebody needs who has lost every other way in.

use crate::config;
use crate::hub::{self, Addresses, Hub};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use figment::value::{Dict, Value};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Run the hub of a home.
#[derive(Args)]
pub struct HubArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Configuration file (TOML).
    #[arg(long, env = "HEARTHKEY_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Where the hub keeps its database and keys.
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
    /// The hub's name; `<name>.local` on the network.
    #[arg(long)]
    name: Option<String>,
    /// Address and port of HTTPS.
    #[arg(long)]
    https: Option<SocketAddr>,
    /// Address and port of plain HTTP (hands out the CA).
    #[arg(long)]
    http: Option<SocketAddr>,
    /// Address and port of MQTT over TLS.
    #[arg(long)]
    mqtts: Option<SocketAddr>,
    /// Also serve MQTT without TLS, on this loopback address and port.
    #[arg(long)]
    mqtt: Option<SocketAddr>,
    /// Trust a brand: `<brand>=<fingerprint of its root>`. May be given more than once. Given here, a failure ends the
    /// start; in the configuration it is logged, and the hub goes on with what it knows.
    #[arg(long, value_name = "BRAND=FINGERPRINT")]
    trust: Vec<String>,
    /// Take a registry batch at start. May be given more than once; a known one changes nothing. A failure counts as
    /// with --trust.
    #[arg(long, value_name = "FILE")]
    import: Vec<PathBuf>,
    /// Directives for the log, such as `info` or `hearthkey=debug`.
    #[arg(long, env = "HEARTHKEY_LOG", default_value = "info")]
    log: String,
    /// Print where the hub listens, and the setup code, as one line of JSON.
    #[arg(long)]
    announce_json: bool,
    /// Stop when standard input ends: `hearthkey run` has started this program.
    #[arg(long, hide = true)]
    supervised: bool,
}

impl HubArgs {
    /// Whether it asks for something that is done without running a hub.
    pub(super) fn has_action(&self) -> bool {
        self.action.is_some()
    }

    /// The log's directives.
    pub(super) fn log(&self) -> &str {
        &self.log
    }

    /// The configuration that they make.
    pub(super) fn load(&self) -> anyhow::Result<hub::Config> {
        let mut config = config::load(self.config.as_deref(), flags(self)?)?;
        config.supervised = self.supervised;
        Ok(config)
    }
}

#[derive(Subcommand)]
enum Action {
    /// Print the request for which a maker makes a registry batch.
    Request,
    /// Print a code by which a person sets a new password, once, within a day. It switches a second factor off too. The
    /// hub must be stopped.
    ResetPassword {
        /// The user name.
        user: String,
    },
}

/// Runs the command.
///
/// # Errors
/// Why the hub did not start, and what to do.
pub fn run(args: HubArgs) -> anyhow::Result<()> {
    let mut config = args.load()?;
    let handed = hub::Handed::take()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(Action::ResetPassword { user }) = &args.action {
        let made = runtime.block_on(hub::make_console_code(&config, user))?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", *made.code)?;
        out.flush()?;
        let mut err = std::io::stderr().lock();
        writeln!(err, "Start the hub, choose \"Forgot your password\" on its page, and type this code. It serves once, for a day.")?;
        return Ok(());
    }
    if let Some(Action::Request) = args.action {
        let path = config.data_dir.join("request.txt");
        let line = std::fs::read_to_string(&path)
            .with_context(|| format!("{} is not there: start the hub once, then ask again", path.display()))?;
        std::io::stdout().write_all(line.as_bytes())?;
        return Ok(());
    }
    start_log(&args.log)?;
    config.handed = handed;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut alone = supervisor_gone(args.supervised);
        let mut hub = tokio::select! {
            hub = Hub::start(config.clone()) => match hub {
                Err(why) if hub::is_damage(&why) => {
                    let mut emergency = hub::Emergency::start(&config, &why, &hub::newest_kept(&config)).await?;
                    announce_emergency(&emergency, &why.to_string(), args.announce_json)?;
                    emergency.tell_manager();
                    tokio::select! {
                        _ = term.recv() => {}
                        _ = int.recv() => {}
                        () = &mut alone => {}
                    }
                    hub::tell_closing();
                    emergency.shut_down().await;
                    return Ok(());
                }
                hub => hub?,
            },
            () = &mut alone => bail!("the supervisor ended while the hub was starting"),
            _ = term.recv() => bail!("interrupted while starting"),
            _ = int.recv() => bail!("interrupted while starting"),
        };
        announce(&hub, args.announce_json)?;
        hub.tell_manager();
        let failed = tokio::select! {
            _ = term.recv() => false,
            _ = int.recv() => false,
            () = &mut alone => false,
            () = hub.failed() => true,
        };
        tracing::info!("stopping");
        hub::tell_closing();
        hub.shut_down().await;
        if failed {
            bail!("the database failed, and the hub stopped: check the free space and the health of the disk, then start it again. What was acknowledged is on disk");
        }
        tracing::info!("stopped; everything acknowledged is on disk");
        Ok(())
    })
}

/// Ends when the supervisor does, or wants this program to: then standard input is at its end.
fn supervisor_gone(supervised: bool) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    if !supervised {
        return Box::pin(std::future::pending());
    }
    let (gone, seen) = tokio::sync::oneshot::channel::<()>();
    // A thread that nobody waits for: what reads standard input cannot be interrupted.
    let watch = std::thread::Builder::new().name("supervisor".into()).spawn(move || {
        let _gone = gone;
        let mut rest = std::io::stdin().lock();
        let mut buffer = [0; 64];
        while std::io::Read::read(&mut rest, &mut buffer).is_ok_and(|n| n > 0) {}
    });
    if let Err(error) = watch {
        tracing::warn!(%error, "the supervisor's end would not be noticed");
        return Box::pin(std::future::pending());
    }
    Box::pin(async move {
        let _ = seen.await;
    })
}

fn flags(args: &HubArgs) -> anyhow::Result<Dict> {
    let mut out = Dict::new();
    if let Some(dir) = &args.data_dir {
        out.insert("data_dir".into(), dir.display().to_string().into());
    }
    if let Some(name) = &args.name {
        out.insert("name".into(), name.clone().into());
    }
    for (listener, address) in [("https", args.https), ("http", args.http), ("mqtts", args.mqtts), ("mqtt", args.mqtt)] {
        if let Some(address) = address {
            let set = Dict::from([("address".to_owned(), Value::from(address.to_string())), ("enabled".to_owned(), Value::from(true))]);
            out.insert(listener.into(), set.into());
        }
    }
    if !args.trust.is_empty() {
        let pair = |text: &String| match text.split_once('=') {
            Some((brand, fingerprint)) => Ok((brand.to_owned(), Value::from(fingerprint))),
            None => bail!("--trust {text}: write it as <brand>=<fingerprint>"),
        };
        out.insert("trust".into(), args.trust.iter().map(pair).collect::<anyhow::Result<Dict>>()?.into());
    }
    if !args.import.is_empty() {
        out.insert("import".into(), args.import.iter().map(|p| Value::from(p.display().to_string())).collect::<Vec<_>>().into());
    }
    if !args.trust.is_empty() || !args.import.is_empty() {
        out.insert("provision_strictly".into(), Value::from(true));
    }
    Ok(out)
}

#[expect(clippy::disallowed_methods, reason = "systemd says with a variable that the journal is listening")]
pub(super) fn start_log(directives: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(directives).context("--log is not a list of directives such as `info`")?;
    let registry = tracing_subscriber::registry().with(filter);
    let journal = std::env::var("JOURNAL_STREAM").is_ok().then(tracing_journald::layer).and_then(Result::ok);
    match journal {
        Some(journal) => registry.with(journal).init(),
        None => registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false)).init(),
    }
    Ok(())
}

fn announce_emergency(emergency: &hub::Emergency, why: &str, json: bool) -> anyhow::Result<()> {
    let Addresses { https, http, .. } = emergency.addresses;
    let mut out = std::io::stdout().lock();
    if json {
        let line = serde_json::json!({
            "recovery_mode": why, "https": https, "http": http, "mqtts": null, "mqtt": null, "ca_fingerprint": emergency.ca_fingerprint,
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "RECOVERY MODE: {why}")?;
        writeln!(out, "Nobody is let in. What to do: {}", https.or(http).map_or_else(String::new, |a| format!("https://{a}")))?;
    }
    out.flush()?;
    Ok(())
}

fn announce(hub: &Hub, json: bool) -> anyhow::Result<()> {
    let Addresses { https, http, mqtts, mqtt } = hub.addresses;
    let identity = hub.identity();
    let mut out = std::io::stdout().lock();
    if json {
        let line = serde_json::json!({
            "hub_id": identity.id.to_string(), "https": https, "http": http, "mqtts": mqtts, "mqtt": mqtt,
            "setup_code": hub.setup_code, "ca_fingerprint": identity.ca_fingerprint,
        });
        writeln!(out, "{line}")?;
    } else {
        let port = |a: Option<SocketAddr>| a.map_or_else(|| "off".to_owned(), |a| a.to_string());
        writeln!(out, "Hub {} ({})", identity.name, identity.id)?;
        writeln!(out, "  web      https://{}  (CA and help: http://{}/trust)", port(https), port(http))?;
        writeln!(out, "  MQTT     {} (TLS){}", port(mqtts), mqtt.map_or_else(String::new, |a| format!(", {a} (plain, loopback)")))?;
        writeln!(out, "  CA       SHA-256 {}", identity.ca_fingerprint)?;
        if let Some(code) = &hub.setup_code {
            writeln!(out, "\nNobody owns this hub yet. Open the page and enter the setup code: {code}")?;
        }
    }
    out.flush()?;
    Ok(())
}
