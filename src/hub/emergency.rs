//! Recovery mode: what a hub does whose database is damaged. It does not end, and so is not started again and again; it
//! listens for the web alone, with a certificate made for the moment, says what happened and what to do, and lets nobody in.
//! Devices find the gate's port closed, and try again later.

use super::keys::Material;
use super::tls::Certificates;
use super::{Addresses, Config, KeyError, Listen, StartError, SystemBox, SystemClock};
use crate::net::{self, Ca, CaKey, Counters, Security, ServerKey};
use crate::service::Refusal;
use crate::store::{OpenError, StoreError};
use crate::update;
use crate::web;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A backup that could be put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBackup {
    /// Where it is, as a person would find it.
    pub place: String,
    /// When it was made, as text for a person.
    pub made: String,
    /// The command that puts it back.
    pub command: String,
}

/// A hub in recovery mode.
pub struct Emergency {
    /// Where it listens.
    pub addresses: Addresses,
    /// SHA-256 of the certificate authority that was made for the moment.
    pub ca_fingerprint: String,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

/// Whether a hub that did not start for this reason is to go into recovery mode: what it keeps is there and cannot be used. A
/// setting, a port or a key that is wrong is no such reason: whoever starts the hub is told, and mends it.
#[must_use]
pub fn is_damage(error: &StartError) -> bool {
    let row = |fault: &StoreError| matches!(fault, StoreError::Row { .. });
    match error {
        StartError::Open(
            OpenError::Damaged(..) | OpenError::CutOff(_) | OpenError::Newer { .. } | OpenError::Other { source: StoreError::ReadOnly, .. },
        ) => true,
        StartError::Open(OpenError::Other { source, .. }) | StartError::Service(Refusal::Store(source)) => row(source),
        StartError::Keys(KeyError::Store(source)) => row(source),
        _ => false,
    }
}

impl Emergency {
    /// Starts recovery mode because of `why`; `backups` are offered, the newest first.
    ///
    /// # Errors
    /// [`StartError`]: the web cannot listen either, or there is no certificate for it.
    pub async fn start(config: &Config, why: &StartError, backups: &[FoundBackup]) -> Result<Emergency, StartError> {
        tracing::error!(error = %why, "RECOVERY MODE: the hub cannot use its database; nobody is let in. The page of the hub says what to do");
        let clock = Arc::new(SystemClock::new(Arc::new(SystemBox::new(&config.clock)), 0, 0));
        let ca = Ca::create(CaKey::generate().map_err(KeyError::from)?, "recovery mode").map_err(KeyError::from)?;
        let ca_fingerprint = ca.certificate().fingerprint();
        let server_key = ServerKey::generate().map_err(KeyError::from)?;
        let certificates = Certificates::new(Material { ca, server_key }, &config.name, clock)?;
        let page = web::EmergencyPage { name: config.name.clone(), what: why.to_string(), steps: steps(config, why, backups) };
        let router = web::emergency_routes(page, &config.web);
        let mut emergency =
            Emergency { addresses: Addresses::default(), ca_fingerprint, shutdown: CancellationToken::new(), tasks: JoinSet::new() };
        if config.https.enabled {
            let listener = config.handed.listen("https", "HTTPS", &config.https).await?;
            emergency.addresses.https = listener.local_addr().ok();
            emergency.serve(listener, Security::Tls(certificates.https.clone()), &config.https, router.clone(), &config.web);
        }
        if config.http.enabled {
            let listener = config.handed.listen("http", "HTTP", &config.http).await?;
            emergency.addresses.http = listener.local_addr().ok();
            emergency.serve(listener, Security::Plain, &config.http, router, &config.web);
        }
        Ok(emergency)
    }

    fn serve(&mut self, listener: TcpListener, security: Security, listen: &Listen, router: web::Router, bounds: &web::Config) {
        let (shutdown, bounds, counters) = (self.shutdown.clone(), Arc::new(bounds.clone()), Arc::new(Counters::default()));
        self.tasks.spawn(net::serve(listener, security, listen.limits(), counters, self.shutdown.clone(), move |stream, peer| {
            let (router, shutdown, bounds) = (router.clone(), shutdown.clone(), bounds.clone());
            async move { web::serve_connection(stream, &peer, router, &bounds, shutdown).await }
        }));
    }

    /// Tells the service manager that this serves as well as it can, and from now on that it lives: it would be ended and started again and again
    /// otherwise, and nobody could read why. A version that is tried is given up all the same: its doctor says that no hub answers.
    pub fn tell_manager(&mut self) {
        if let Some(every) = update::told_of_watchdog() {
            let shutdown = self.shutdown.clone();
            self.tasks.spawn(async move {
                let mut tick = tokio::time::interval((every / 4).max(Duration::from_millis(200)));
                loop {
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        _ = tick.tick() => update::watchdog(),
                    }
                }
            });
        }
        update::recovering();
    }

    /// Ends it.
    pub async fn shut_down(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

fn steps(config: &Config, why: &StartError, backups: &[FoundBackup]) -> Vec<String> {
    let dir = config.data_dir.display();
    if let StartError::Open(OpenError::Newer { .. }) = why {
        return vec![
            "Install the version of the program that was running before, or a newer one, and start the hub again.".into(),
            format!(
                "If that version is what made the trouble: stop the hub, put back the copy of hub.redb that was made before it ran, with the copy of hub.wal, and leave hub.journal in {dir} as it is: what was revoked in the meantime stays revoked."
            ),
        ];
    }
    if let StartError::Open(OpenError::Other { source: StoreError::ReadOnly, .. }) = why {
        return vec![
            "Copy what is in the data directory to another disk: a disk that suddenly can only be read is often about to fail.".into(),
            "Check the disk or memory card (the system's log says why it cannot be written), repair or replace it, and mount it for writing.".into(),
            "Start the hub again.".into(),
        ];
    }
    if let StartError::Open(OpenError::CutOff(_)) = why {
        let mut steps = vec![
            "Stop the hub. Repeat the restore or the recovery that was cut off: it begins anew, and what it has left does not matter."
                .into(),
        ];
        if let Some(backup) = backups.first() {
            steps.push(format!("From the newest backup, of {} from {}: {}", backup.made, backup.place, backup.command));
        }
        steps.push(format!("To begin a new hub instead, move hub.redb.new out of {dir}."));
        steps.push("Start the hub again.".into());
        return steps;
    }
    let mut steps = vec![format!(
        "Stop the hub. Move hub.redb and hub.wal out of {dir} to another place (do not delete them). Leave master.key and hub.journal where they are: the journal has what was revoked up to the last moment."
    )];
    match backups.first() {
        Some(backup) => steps.push(format!("Put back the newest backup, of {} from {}: {}", backup.made, backup.place, backup.command)),
        None => steps.push("Put back the newest good backup of hub.redb into the same directory.".into()),
    }
    steps.push(format!(
        "Without a backup, use the recovery code and the recovery bundle: hearthkey recover --data-dir {dir} (see docs/recovery.md)."
    ));
    steps.push("Start the hub again. Check the health of the disk or the memory card: damage of this kind often comes from there.".into());
    steps
}
