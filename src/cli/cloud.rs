//! `hearthkey cloud`: runs the reference cloud until it is told to stop; below it, what its operator does.

mod operator;

use crate::cloud::{Cloud, Config, Database, Linking, TlsFiles};
use anyhow::bail;
use clap::Args;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// Run the reference cloud, to which hubs may be linked.
#[derive(Args)]
pub struct CloudArgs {
    #[command(subcommand)]
    action: Option<operator::Action>,
    #[command(flatten)]
    place: Place,
    /// What people call this cloud.
    #[arg(long, default_value = "Hearthkey cloud")]
    name: String,
    /// Address and port of HTTPS.
    #[arg(long, default_value = "127.0.0.1:9443")]
    listen: SocketAddr,
    /// The URL by which hubs reach it, on which requests are signed; https://localhost:<port> unless given.
    #[arg(long)]
    public_url: Option<String>,
    /// Another region and its URL. May be given more than once.
    #[arg(long, value_name = "REGION=URL")]
    other_region: Vec<String>,
    /// Certificate chain (PEM, leaf first). Without one, a CA of its own in the data directory.
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate (PEM).
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Link hubs only with this code. May be given more than once.
    #[arg(long, value_name = "CODE", conflicts_with = "no_linking")]
    link_code: Vec<String>,
    /// Link no new hubs.
    #[arg(long)]
    no_linking: bool,
    /// Directives for the log, such as `info` or `hearthkey=debug`.
    #[arg(long, env = "HEARTHKEY_LOG", default_value = "info")]
    log: String,
    /// Print where it listens and its key as one line of JSON.
    #[arg(long)]
    announce_json: bool,
}

/// Where a cloud's data lies.
#[derive(Args)]
struct Place {
    /// Where the cloud keeps its keys, and its private PostgreSQL.
    #[arg(long, global = true, default_value = "hearthkey-cloud")]
    data_dir: PathBuf,
    /// A PostgreSQL database to use. Given more than once, hubs are spread over them: always name all, in the same order.
    /// Without one, a private PostgreSQL runs in the data directory. TLS: `?sslmode=require` (or `verify-full`), the
    /// certificate by the system's authorities or those in `sslrootcert=FILE`.
    #[arg(long, global = true, value_name = "URL")]
    database_url: Vec<String>,
    /// Which region it serves.
    #[arg(long, global = true, default_value = "local")]
    region: String,
}

impl Place {
    fn config(&self) -> Config {
        let database = if self.database_url.is_empty() { Database::Private } else { Database::Urls(self.database_url.clone()) };
        Config { data_dir: self.data_dir.clone(), database, region: self.region.clone(), ..Config::default() }
    }
}

/// Runs the command; what it says goes to `out`.
///
/// # Errors
/// Why the cloud did not start, and what to do.
pub fn run(args: CloudArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(action) = args.action {
        return runtime.block_on(operator::run(action, args.place.config(), out));
    }
    super::hub::start_log(&args.log)?;
    let config = config(&args)?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        writeln!(out, "Starting the cloud in {}", config.data_dir.display())?;
        // Not interrupted in the middle: a PostgreSQL that was started is stopped in order.
        let cloud = Cloud::start(config).await?;
        announce(&cloud, args.announce_json, out)?;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("stopping");
        cloud.shut_down().await;
        tracing::info!("stopped; everything acknowledged is in the database");
        Ok(())
    })
}

fn config(args: &CloudArgs) -> anyhow::Result<Config> {
    let mut regions = BTreeMap::new();
    for pair in &args.other_region {
        match pair.split_once('=') {
            Some((region, url)) if url.starts_with("https://") => regions.insert(region.to_owned(), url.to_owned()),
            _ => bail!("--other-region {pair}: write it as <region>=https://…"),
        };
    }
    let linking = match (args.no_linking, args.link_code.is_empty()) {
        (true, _) => Linking::Closed,
        (false, true) => Linking::Open,
        (false, false) => Linking::Code(args.link_code.clone()),
    };
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => TlsFiles::Files { certificate: certificate.clone(), key: key.clone() },
        _ => TlsFiles::Own,
    };
    Ok(Config {
        name: args.name.clone(),
        listen: args.listen,
        public_url: args.public_url.clone(),
        regions,
        linking,
        tls,
        ..args.place.config()
    })
}

fn announce(cloud: &Cloud, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let view = cloud.view();
    if json {
        let line = serde_json::json!({
            "address": cloud.address, "url": view.url, "region": view.region, "key": view.key, "fingerprint": view.fingerprint,
            "ca_pem": cloud.ca_pem(),
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "Cloud {} (region {})", view.name, view.region)?;
        writeln!(out, "  listens on   {}", cloud.address)?;
        writeln!(out, "  reached at   {}", view.url)?;
        writeln!(out, "  fingerprint  {}   (owners compare it when they link)", view.fingerprint)?;
        if cloud.ca_pem().is_some() {
            writeln!(out, "  certificate  of its own CA, for trying it out: give hubs the file ca.pem of the data directory as ca_file")?;
        }
    }
    out.flush()?;
    Ok(())
}
