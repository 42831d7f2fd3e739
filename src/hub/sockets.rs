//! Sockets that a service manager has opened for the hub (`sd_listen_fds(3)`): so the hub has ports below 1024 without a capability, and whoever
//! connects while it restarts waits instead of being refused.

use super::{Config, Listen, StartError};
use std::net::TcpListener as Socket;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The names that sockets are known by, as sections of the configuration (`FileDescriptorName=` of the units). Plain MQTT is for this box alone, and
/// nobody hands over a socket for it that may be the network's.
const NAMES: [&str; 3] = ["https", "http", "mqtts"];

/// Sockets that were handed over, by name. Copies share them.
#[derive(Clone, Debug, Default)]
pub struct Handed(Arc<[(String, Socket)]>);

impl Handed {
    /// Takes what the environment says was handed to this process. To be called once, before there are threads: it removes the variables.
    ///
    /// # Errors
    /// What was handed over has no name of a listener, has one twice, or does not listen.
    #[expect(clippy::disallowed_methods, reason = "the service manager says with variables what it hands over")]
    pub fn take() -> Result<Handed, HandedError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut sockets = listenfd::ListenFd::from_env();
        if sockets.len() == 0 {
            return Ok(Handed::default());
        }
        let names: Vec<&str> = names.split(':').collect();
        let mut handed: Vec<(String, Socket)> = Vec::new();
        for at in 0..sockets.len() {
            let name = names.get(at).copied().unwrap_or_default();
            if !NAMES.contains(&name) {
                return Err(HandedError::Unnamed(name.to_owned()));
            }
            if handed.iter().any(|(other, _)| other == name) {
                return Err(HandedError::Twice(name.to_owned()));
            }
            let wrong = |source| HandedError::Wrong { name: name.to_owned(), source };
            let socket = sockets.take_tcp_listener(at).map_err(wrong)?;
            if let Some(socket) = socket {
                socket.set_nonblocking(true).map_err(wrong)?;
                handed.push((name.to_owned(), socket));
            }
        }
        Ok(Handed(handed.into()))
    }

    /// Says which sockets nobody serves, as their listeners are switched off: whoever connects there waits for ever.
    pub(super) fn tell_unserved(&self, config: &Config) {
        for (name, listen) in [("https", &config.https), ("http", &config.http), ("mqtts", &config.mqtts)] {
            if !listen.enabled && self.named(name).is_some() {
                tracing::warn!(
                    listener = name,
                    "the service manager keeps a socket open for a listener that is switched off: stop its unit, or switch the listener on"
                );
            }
        }
    }

    fn named(&self, name: &str) -> Option<&Socket> {
        self.0.iter().find(|(named, _)| named == name).map(|(_, socket)| socket)
    }

    /// Listens on the socket of this name or, when there is none, at the address of its configuration.
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub(super) async fn listen(&self, name: &str, what: &'static str, listen: &Listen) -> Result<TcpListener, StartError> {
        let opened = match self.named(name) {
            // A copy, as a start may be tried twice: the hub's, and then the one of its recovery mode.
            Some(socket) => socket.try_clone().and_then(TcpListener::from_std),
            None => TcpListener::bind(listen.address).await,
        };
        opened.map_err(|source| StartError::Listen { what, address: listen.address, source })
    }
}

/// Why sockets that were handed over are of no use.
#[derive(Debug, thiserror::Error)]
pub enum HandedError {
    /// No name of a listener.
    #[error("the service manager handed over a socket named \"{0}\": write FileDescriptorName=https, http or mqtts in its unit")]
    Unnamed(String),
    /// Two of one name.
    #[error("the service manager handed over two sockets named \"{0}\": a listener has one; write one ListenStream= for it")]
    Twice(String),
    /// Not a socket that listens for connections.
    #[error(
        "the socket \"{name}\" that the service manager handed over does not serve: {source}. Its unit needs ListenStream= with a port"
    )]
    Wrong {
        /// Which.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}
