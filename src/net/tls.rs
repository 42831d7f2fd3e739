//! TLS server configurations, and their exchange while connections are open.
//!
//! rustls with the ring provider, TLS 1.2 and 1.3, one certificate per listener. The clock
//! is handed in: a box without a battery may believe it is 1970, and only the hub knows
//! what time can be trusted. Accepting connections is left to `listener`, issuing
//! certificates to `ca`.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};

use super::ca::{self, CaError, Certificate, ServerKey};

/// Hands each new connection the configuration of the moment. A reload touches no open one.
#[derive(Debug)]
pub struct TlsReloader {
    protocol: Protocol,
    clock: Clock,
    current: ArcSwap<TlsState>,
}

/// What one connection's handshake uses.
#[derive(Clone, Debug)]
pub struct TlsState {
    /// The rustls configuration.
    pub config: Arc<ServerConfig>,
    /// SHA-256 of the SubjectPublicKeyInfo of the leaf that the client is shown.
    pub spki: [u8; 32],
}

/// What a listener speaks over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 and HTTP/1.1, chosen by ALPN (RFC 7301); clients show no certificate.
    Https,
    /// MQTT: a client may show a certificate, and one it shows must be of the hub's CA.
    /// No ALPN: firmware that offers some name of its own is not turned away.
    Mqtt,
}

/// The certificates of a listener.
#[derive(Debug)]
pub struct Material<'a> {
    /// The listener's certificate.
    pub leaf: &'a Certificate,
    /// The key of `leaf`.
    pub key: &'a ServerKey,
    /// The hub's CA: sent after the leaf, so that a client can check it against a
    /// fingerprint it was given out of band; and the root of client certificates.
    pub ca: &'a Certificate,
}

/// The time as seconds since 1970, by which client certificates are judged.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls refuses certificate or key (for example, they do not belong together).
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
    /// No verifier can be built on the CA's certificate.
    #[error("client certificates cannot be verified: {0}")]
    Verifier(#[from] VerifierBuilderError),
    /// A file that holds none.
    #[error("the {0} is not there, or cannot be read as PEM")]
    Pem(&'static str),
    /// The leaf certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CaError),
}

impl TlsReloader {
    /// Builds the first configuration.
    pub fn new(protocol: Protocol, material: &Material<'_>, clock: Clock) -> Result<Self, TlsError> {
        let state = state(protocol, material, &clock)?;
        Ok(Self { protocol, clock, current: ArcSwap::from_pointee(state) })
    }

    /// The configuration over a certificate from elsewhere: the chain in PEM, leaf first, and its key in PEM.
    ///
    /// # Errors
    /// [`TlsError`] for what cannot be read or does not belong together.
    pub fn from_pem(protocol: Protocol, chain: &[u8], key: &[u8], clock: Clock) -> Result<Self, TlsError> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|_| TlsError::Pem("certificate"))?;
        let leaf = chain.first().ok_or(TlsError::Pem("certificate"))?;
        let spki = ca::read::spki_sha256(leaf)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Pem("private key"))?;
        let builder = ServerConfig::builder_with_details(Arc::new(ring::default_provider()), Arc::new(clock.clone()));
        let config = builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_single_cert(chain, key)?;
        let state = TlsState { config: Arc::new(settled(protocol, config)), spki };
        Ok(Self { protocol, clock, current: ArcSwap::from_pointee(state) })
    }

    /// The configuration for a connection that begins now.
    pub fn current(&self) -> Arc<TlsState> {
        self.current.load_full()
    }

    /// Serves new connections with other certificates; on an error the old ones stay.
    pub fn reload(&self, material: &Material<'_>) -> Result<(), TlsError> {
        self.current.store(Arc::new(state(self.protocol, material, &self.clock)?));
        Ok(())
    }
}

impl Clock {
    /// A clock that asks `now` for the seconds since 1970.
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs((self.0)())))
    }
}

fn state(protocol: Protocol, material: &Material<'_>, clock: &Clock) -> Result<TlsState, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_details(provider.clone(), Arc::new(clock.clone())).with_safe_default_protocol_versions()?;
    let builder = match protocol {
        Protocol::Https => builder.with_no_client_auth(),
        Protocol::Mqtt => {
            let mut roots = RootCertStore::empty();
            roots.add(der(material.ca))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated().build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(material.key.pkcs8().to_vec()));
    let config = builder.with_single_cert(vec![der(material.leaf), der(material.ca)], key)?;
    let spki = ca::read::spki_sha256(material.leaf.der())?;
    Ok(TlsState { config: Arc::new(settled(protocol, config)), spki })
}

/// What holds for every configuration, wherever its certificate comes from.
fn settled(protocol: Protocol, mut config: ServerConfig) -> ServerConfig {
    // A resumed session carries the client certificate of the first handshake past the
    // verifier, and so past a revocation or a reload. Resumption must authorise anew; the
    // simplest form that cannot fail is none: no session cache, no TLS 1.3 tickets (the
    // default ticketer for TLS 1.2 is off as well), no early data.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    if protocol == Protocol::Https {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    config
}

fn der(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from(certificate.der().to_vec())
}

#[cfg(test)]
pub(super) mod tests {
    use rustls::ClientConfig;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::super::ca::{Ca, CaKey, Validity, read};
    use super::*;

    pub(in crate::net) const NOW: u64 = 1_790_000_000;
    const YEAR: Validity = Validity { not_before: NOW - 60, not_after: NOW + 31_557_600 };

    /// A hub's CA with one leaf for localhost.
    pub(in crate::net) struct House {
        pub(in crate::net) ca: Ca,
        leaf: Certificate,
        key: ServerKey,
    }

    impl House {
        pub(in crate::net) fn new() -> Self {
            Self::of(Ca::create(CaKey::generate().unwrap(), "hub").unwrap())
        }

        fn of(ca: Ca) -> Self {
            let key = ServerKey::generate().unwrap();
            let leaf = ca.issue_server(&key, &["localhost".to_owned()], &[], YEAR).unwrap();
            Self { ca, leaf, key }
        }

        fn material(&self) -> Material<'_> {
            Material { leaf: &self.leaf, key: &self.key, ca: self.ca.certificate() }
        }

        pub(in crate::net) fn reloader(&self, protocol: Protocol) -> TlsReloader {
            TlsReloader::new(protocol, &self.material(), Clock::new(|| NOW)).unwrap()
        }

        /// A client that trusts this CA, with the client certificate of `identity` if any.
        pub(in crate::net) fn client(&self, identity: Option<(&Certificate, &rcgen::KeyPair)>) -> ClientConfig {
            let mut roots = RootCertStore::empty();
            roots.add(der(self.ca.certificate())).unwrap();
            let builder = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), Arc::new(Clock::new(|| NOW)))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
            match identity {
                None => builder.with_no_client_auth(),
                Some((leaf, key)) => {
                    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
                    builder.with_client_auth_cert(vec![der(leaf)], key).unwrap()
                }
            }
        }

        pub(in crate::net) fn device(&self, id: &str, validity: Validity) -> (Certificate, rcgen::KeyPair) {
            let key = rcgen::KeyPair::generate().unwrap();
            let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
            (self.ca.issue_device(&csr.pem().unwrap(), id, validity).unwrap(), key)
        }
    }

    /// What both ends saw in one handshake.
    struct Seen {
        server_leaf: Vec<u8>,
        client_leaf: Option<Vec<u8>>,
        alpn: Option<Vec<u8>>,
        resumed: bool,
    }

    async fn shake(state: &TlsState, client: &Arc<ClientConfig>) -> std::io::Result<Seen> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let acceptor = TlsAcceptor::from(state.config.clone());
        let server = async move {
            let mut stream = acceptor.accept(far).await?;
            stream.write_all(b"x").await?;
            stream.flush().await?;
            let session = stream.get_ref().1;
            let leaf = session.peer_certificates().and_then(|chain| chain.first()).map(|c| c.to_vec());
            let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            Ok::<_, std::io::Error>((leaf, resumed))
        };
        let connector = TlsConnector::from(client.clone());
        let client = async move {
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = connector.connect(name, near).await?;
            stream.read_exact(&mut [0]).await?;
            let session = stream.get_ref().1;
            let leaf = session.peer_certificates().unwrap()[0].to_vec();
            Ok::<_, std::io::Error>((leaf, session.alpn_protocol().map(<[u8]>::to_vec)))
        };
        let (server, client) = tokio::join!(server, client);
        let ((client_leaf, resumed), (server_leaf, alpn)) = (server?, client?);
        Ok(Seen { server_leaf, client_leaf, alpn, resumed })
    }

    #[tokio::test]
    async fn https_chooses_http2_and_asks_for_no_certificate() {
        let house = House::new();
        let (leaf, key) = house.device("lamp", YEAR);
        let mut client = house.client(Some((&leaf, &key)));
        client.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let state = house.reloader(Protocol::Https).current();
        let seen = shake(&state, &Arc::new(client)).await.unwrap();
        assert_eq!(seen.alpn.as_deref(), Some(&b"h2"[..]));
        assert_eq!(seen.client_leaf, None);
        assert_eq!(read::spki_sha256(&seen.server_leaf).unwrap(), state.spki);
    }

    #[tokio::test]
    async fn mqtt_takes_clients_without_a_certificate_and_with_one_of_the_hubs_ca() {
        let house = House::new();
        let state = house.reloader(Protocol::Mqtt).current();
        let seen = shake(&state, &Arc::new(house.client(None))).await.unwrap();
        assert_eq!(seen.client_leaf, None);
        let (leaf, key) = house.device("lamp", YEAR);
        let seen = shake(&state, &Arc::new(house.client(Some((&leaf, &key))))).await.unwrap();
        assert_eq!(read::san_device(&seen.client_leaf.unwrap()).as_deref(), Some("lamp"));
    }

    #[tokio::test]
    async fn mqtt_refuses_a_certificate_of_another_ca_or_another_time() {
        let house = House::new();
        let state = house.reloader(Protocol::Mqtt).current();
        let (leaf, key) = House::new().device("lamp", YEAR);
        assert!(shake(&state, &Arc::new(house.client(Some((&leaf, &key))))).await.is_err());
        let past = Validity { not_before: NOW - 50, not_after: NOW - 1 };
        let (leaf, key) = house.device("lamp", past);
        assert!(shake(&state, &Arc::new(house.client(Some((&leaf, &key))))).await.is_err());
    }

    #[tokio::test]
    async fn a_reload_serves_the_next_connection_and_a_bad_one_changes_nothing() {
        let house = House::new();
        let reloader = house.reloader(Protocol::Mqtt);
        let before = reloader.current();
        let stranger = ServerKey::generate().unwrap();
        let bad = Material { key: &stranger, ..house.material() };
        assert!(reloader.reload(&bad).is_err());
        assert_eq!(reloader.current().spki, before.spki);

        let renewed = House::of(house.ca);
        reloader.reload(&renewed.material()).unwrap();
        let after = reloader.current();
        assert_ne!(after.spki, before.spki);
        let seen = shake(&after, &Arc::new(renewed.client(None))).await.unwrap();
        assert_eq!(seen.server_leaf, renewed.leaf.der());
    }

    #[tokio::test]
    async fn no_session_is_ever_resumed() {
        let house = House::new();
        let state = house.reloader(Protocol::Mqtt).current();
        for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
            let mut roots = RootCertStore::empty();
            roots.add(der(house.ca.certificate())).unwrap();
            let client = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), Arc::new(Clock::new(|| NOW)))
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            // One client configuration for both connections: it would keep a ticket.
            let client = Arc::new(client);
            assert!(!shake(&state, &client).await.unwrap().resumed);
            assert!(!shake(&state, &client).await.unwrap().resumed);
        }
    }
}
