//! How a device reaches a hub: TCP, and TLS in the two moods of a device. Before it is claimed it takes any certificate,
//! and binds its counter token to the key it was shown; afterwards it takes only its hub's own CA. Which mood is right
//! is `sim::device`'s to know.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Connects to `address` and does what `security` asks, all within `deadline`.
///
/// # Errors
/// [`DialError`]; a certificate that is refused is [`DialError::Untrusted`].
pub async fn dial(address: &Address, security: &Security, deadline: Duration) -> Result<Connection, DialError> {
    timeout(deadline, connect(address, security)).await.map_err(|_| DialError::Deadline(deadline))?
}

/// What a device asks of the other end.
#[derive(Clone, Default)]
pub struct Security {
    /// How the hub's certificate is judged.
    pub trust: Trust,
    /// A client certificate (chain, key) to show.
    pub client: Option<ClientCertificate>,
}

/// How the hub's certificate is judged.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// No TLS: for a hub on the same machine.
    Plain,
    /// Any certificate whose key the other end holds. A device that has not been claimed knows no better; its token
    /// names the key it saw, so that a relay gains nothing.
    #[default]
    FirstUse,
    /// A chain under this CA (DER). Names and dates are not looked at: a device may have no clock and a hub any address.
    Pinned(Vec<u8>),
}

/// A certificate chain, the device's own first, and its private key.
pub struct ClientCertificate {
    /// DER certificates, the leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// Host and port of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or IP address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    /// The stream.
    pub stream: Stream,
    /// SHA-256 of the SubjectPublicKeyInfo (DER) in the certificate shown in this handshake; absent without TLS.
    pub spki: Option<[u8; 32]>,
}

/// A plain or an encrypted stream.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers, or the handshake broke off.
    #[error("cannot connect: {0}")]
    Io(io::Error),
    /// The other end's certificate is refused.
    #[error("the certificate of the other end is not trusted: {0}")]
    Untrusted(String),
    /// Too slow.
    #[error("no connection within {0:?}")]
    Deadline(Duration),
    /// The configuration makes no sense: a CA or a client certificate that is none.
    #[error("{0}")]
    Configuration(String),
}

async fn connect(address: &Address, security: &Security) -> Result<Connection, DialError> {
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(DialError::Io)?;
    tcp.set_nodelay(true).map_err(DialError::Io)?;
    if security.trust == Trust::Plain {
        return Ok(Connection { stream: Stream::Plain(tcp), spki: None });
    }
    let config = client_config(security)?;
    let name = ServerName::try_from(address.host.clone()).map_err(|error| DialError::Configuration(error.to_string()))?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(refused)?;
    let spki = tls
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(|certificate| spki_hash(certificate))
        .ok_or_else(|| DialError::Untrusted("it cannot be read".into()))?;
    Ok(Connection { stream: Stream::Tls(Box::new(tls)), spki: Some(spki) })
}

/// SHA-256 of the SubjectPublicKeyInfo of a DER certificate; nothing when it is no certificate.
pub fn spki_hash(certificate: &[u8]) -> Option<[u8; 32]> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(Sha256::digest(parsed.tbs_certificate.subject_pki.raw).into())
}

fn client_config(security: &Security) -> Result<ClientConfig, DialError> {
    let provider = Arc::new(ring::default_provider());
    let roots = match &security.trust {
        Trust::Plain | Trust::FirstUse => None,
        Trust::Pinned(ca) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from(ca.clone()))
                .map_err(|error| DialError::Configuration(format!("the pinned CA is none: {error}")))?;
            Some(roots)
        }
    };
    let verifier = Arc::new(Verifier { provider: Arc::clone(&provider), roots });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| DialError::Configuration(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match &security.client {
        None => Ok(builder.with_no_client_auth()),
        Some(client) => builder
            .with_client_auth_cert(client.chain.clone(), client.key.clone_key())
            .map_err(|error| DialError::Configuration(format!("the client certificate: {error}"))),
    }
}

fn refused(error: io::Error) -> DialError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => DialError::Untrusted(why.to_string()),
        _ => DialError::Io(error),
    }
}

/// Judges a chain under the pinned roots, or takes any without. The signature of the handshake is checked in both
/// cases: the other end must hold the key that the certificate names.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            roots,
            intermediates,
            an_instant_of_validity(end_entity, intermediates)?,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// An instant at which the whole chain is valid: dates are not to decide, and the chain check wants one.
fn an_instant_of_validity(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<UnixTime, rustls::Error> {
    let mut latest = 0;
    for certificate in std::iter::once(end_entity).chain(intermediates) {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        latest = latest.max(u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0));
    }
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(latest)))
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// `host:port`, an IPv6 address in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').ok_or("wanted: HOST:PORT")?;
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|_| format!("no port: {port}"))?;
        if host.is_empty() {
            return Err("wanted: HOST:PORT".into());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

impl Clone for ClientCertificate {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({} certificates)", self.chain.len())
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::FirstUse => "FirstUse",
            Self::Pinned(_) => "Pinned",
        })
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security").field("trust", &self.trust).field("client", &self.client).finish()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
    use rustls::ServerConfig;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A CA, and a server certificate of it that expired long ago and is made out to another name.
    struct House {
        ca: Vec<u8>,
        leaf: CertificateDer<'static>,
        address: Address,
    }

    async fn house() -> House {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["elsewhere.local".into()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &ca).unwrap().der().clone();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let _ = acceptor.accept(tcp).await;
            }
        });
        House { ca: ca.der().to_vec(), leaf, address: Address { host: "127.0.0.1".into(), port } }
    }

    async fn dial_with(house: &House, trust: Trust) -> Result<Connection, DialError> {
        dial(&house.address, &Security { trust, client: None }, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn the_key_that_was_shown_is_the_key_of_the_certificate() {
        let house = house().await;
        let connection = dial_with(&house, Trust::FirstUse).await.unwrap();
        assert_eq!(connection.spki, spki_hash(&house.leaf));
        assert!(connection.spki.is_some());
    }

    #[tokio::test]
    async fn under_the_pinned_ca_neither_dates_nor_names_decide() {
        let house = house().await;
        dial_with(&house, Trust::Pinned(house.ca.clone())).await.unwrap();
    }

    #[tokio::test]
    async fn a_certificate_of_another_ca_is_not_trusted() {
        let (house, neighbour) = (house().await, house().await);
        let refused = dial_with(&house, Trust::Pinned(neighbour.ca)).await;
        assert!(matches!(refused, Err(DialError::Untrusted(_))), "{refused:?}");
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!("hub.local:8883".parse(), Ok(Address { host: "hub.local".into(), port: 8883 }));
        assert_eq!("[::1]:1".parse::<Address>().unwrap().to_string(), "[::1]:1");
        assert!("hub.local".parse::<Address>().is_err());
        assert!(":8883".parse::<Address>().is_err());
    }
}
