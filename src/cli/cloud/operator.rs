//! `hearthkey cloud tenant|service|vendor|bulletin|audit`: what whoever runs the cloud does to it, beside the running cloud or
//! without it.

use crate::cloud::{Config, NewService, NewVendor, Operator, Scope, ServiceView, VendorView, vendor_role};
use anyhow::{Context, bail};
use clap::Subcommand;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// What the operator does.
#[derive(Subcommand)]
pub(super) enum Action {
    /// Brands that the region serves.
    #[command(subcommand)]
    Tenant(TenantAction),
    /// Programs of makers: uploads, assignments, accounts for homes, fleet.
    #[command(subcommand)]
    Service(ServiceAction),
    /// People of makers: developers, product managers, support.
    #[command(subcommand)]
    Vendor(VendorAction),
    /// Sign a bulletin of everything that a hub has not yet heard, for a phone to carry; before, end what is named.
    Bulletin {
        /// Which hub.
        hub: String,
        /// What to end: binding:<device>/<subject>, user:<id> or away:<id>. May be given more than once.
        #[arg(long, value_name = "WHAT")]
        end: Vec<String>,
    },
    /// Check that what was done here is still as it was written.
    Audit,
}

/// Brands.
#[derive(Subcommand)]
pub(super) enum TenantAction {
    /// Take brands from their workshop directories (brand.json, batch.json, models/), or what is new there.
    Add {
        /// The directory of one brand each.
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
    },
    /// List them.
    List,
}

/// Programs.
#[derive(Subcommand)]
pub(super) enum ServiceAction {
    /// Make an account. Its secret is shown this once.
    Add {
        /// What people see.
        name: String,
        /// For which brand.
        #[arg(long)]
        brand: String,
        /// A network from which it comes. May be given more than once.
        #[arg(long, required = true)]
        network: Vec<String>,
        /// What it may do: upload_identities, assign_devices, create_users, read_fleet, upload_releases. May be given more than once.
        #[arg(long, required = true, value_parser = scope)]
        scope: Vec<Scope>,
    },
    /// End an account, its secret and its tokens.
    End {
        /// Its id.
        id: String,
    },
    /// List them.
    List,
}

/// People.
#[derive(Subcommand)]
pub(super) enum VendorAction {
    /// Make an account. The password is read from the standard input: one line.
    Add {
        /// The name to sign in with.
        username: String,
        /// developer, product_manager or support.
        #[arg(long)]
        role: String,
        /// For which brand.
        #[arg(long)]
        brand: String,
        /// A network from which they come. May be given more than once.
        #[arg(long, required = true)]
        network: Vec<String>,
        /// How they want to be called.
        #[arg(long, default_value = "")]
        display_name: String,
    },
    /// End an account: its sessions are over at once.
    End {
        /// The name.
        username: String,
    },
    /// List them.
    List,
}

fn scope(word: &str) -> Result<Scope, String> {
    Scope::parse(word).ok_or_else(|| "upload_identities, assign_devices, create_users, read_fleet or upload_releases".to_owned())
}

/// Does it.
pub(super) async fn run(action: Action, config: Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let operator = Operator::open(config).await?;
    let done = act(&operator, action, out).await;
    operator.close().await;
    done
}

async fn act(operator: &Operator, action: Action, out: &mut dyn Write) -> anyhow::Result<()> {
    match action {
        Action::Tenant(TenantAction::Add { dirs }) => {
            for dir in dirs {
                let tenant = operator.add_tenant(&dir).await?;
                writeln!(out, "{}  {}  {} models", tenant.brand, tenant.fingerprint, tenant.models.len())?;
            }
        }
        Action::Tenant(TenantAction::List) => {
            for tenant in operator.tenants().await? {
                let models: Vec<String> = tenant.models.iter().map(|(name, version)| format!("{name} {version}")).collect();
                writeln!(out, "{}  {}  {}", tenant.brand, tenant.fingerprint, models.join(", "))?;
            }
        }
        Action::Service(action) => service(operator, action, out).await?,
        Action::Vendor(action) => vendor(operator, action, out).await?,
        Action::Bulletin { hub, end } => {
            let made = operator.sign_bulletin(&hub, &end).await?;
            writeln!(
                out,
                "Bulletin {} for hub {}: {} marks. Put this into the hub's page, under Cloud:",
                made.number, made.hub, made.marks
            )?;
            writeln!(out, "{}", made.bulletin)?;
        }
        Action::Audit => {
            for (shard, verdict) in operator.verify_acts().await?.into_iter().enumerate() {
                writeln!(out, "Database {shard}: {} entries, as they were written", verdict.entries)?;
            }
        }
    }
    Ok(())
}

async fn service(operator: &Operator, action: ServiceAction, out: &mut dyn Write) -> anyhow::Result<()> {
    match action {
        ServiceAction::Add { name, brand, network, scope } => {
            let (view, secret) = operator.add_service(&NewService { name, brand, networks: network, scopes: scope }).await?;
            shown(&view, out)?;
            writeln!(out, "  client_secret  {}   (shown this once)", secret.as_str())?;
        }
        ServiceAction::End { id } => {
            operator.end_service(&id).await?;
            writeln!(out, "Ended; its tokens are over")?;
        }
        ServiceAction::List => operator.services().await?.iter().try_for_each(|view| shown(view, out))?,
    }
    Ok(())
}

fn shown(view: &ServiceView, out: &mut dyn Write) -> std::io::Result<()> {
    let scopes: Vec<&str> = view.scopes.iter().map(|scope| scope.word()).collect();
    writeln!(out, "{}  {} ({})  from {}  may {}", view.id, view.name, view.brand, view.networks.join(" "), scopes.join(" "))
}

async fn vendor(operator: &Operator, action: VendorAction, out: &mut dyn Write) -> anyhow::Result<()> {
    match action {
        VendorAction::Add { username, role, brand, network, display_name } => {
            let Some(role) = vendor_role(&role) else { bail!("--role {role}: developer, product_manager or support") };
            let mut line = Zeroizing::new(String::new());
            std::io::stdin().lock().read_line(&mut line).context("the password, one line of the standard input")?;
            let password = Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned());
            let new = NewVendor { username, display_name, role, brand, networks: network, password };
            person(&operator.add_vendor(&new).await?, out)?;
        }
        VendorAction::End { username } => {
            let view = operator.end_vendor(&username).await?;
            writeln!(out, "{} is ended; its sessions are over", view.username)?;
        }
        VendorAction::List => operator.vendors().await?.iter().try_for_each(|view| person(view, out))?,
    }
    Ok(())
}

fn person(view: &VendorView, out: &mut dyn Write) -> std::io::Result<()> {
    let role = serde_json::to_value(view.role).ok().and_then(|role| role.as_str().map(str::to_owned)).unwrap_or_default();
    writeln!(out, "{}  {} ({}, {})  from {}", view.id, view.username, role, view.brand, view.networks.join(" "))
}
