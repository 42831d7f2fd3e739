//! Which certificate is believed to be the cloud's: one of an authority that the box knows, or of the file that the
//! configuration names, for the name in the URL, at this time.
//!
//! A box that does not know the time cannot judge dates, and often learns the time only from the cloud. Until then, and
//! for this endpoint alone, a certificate's chain and name are checked at a moment of its own validity. That costs little:
//! whoever has the key of an expired certificate still has no cloud key, by which each reply is signed.

use crate::net::authorities::{self, AuthorityError};
use crate::net::ca::read;
use crate::net::tls::Clock;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Why no connection to a cloud can be set up at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    /// The file that the configuration names.
    #[error("cloud.ca_file {0} cannot be read as PEM certificates: {1}. Correct the setting, or the file")]
    CaFile(String, String),
    /// Neither the system nor the configuration names an authority.
    #[error(
        "this box knows no certificate authorities, so it can believe no cloud: install the package ca-certificates, or set cloud.ca_file"
    )]
    NoAuthorities,
    /// rustls cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// The authorities that the system knows, and those of `ca_file`. Reads files.
///
/// # Errors
/// [`TrustError::CaFile`]; [`TrustError::NoAuthorities`].
pub(super) fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, TrustError> {
    authorities::authorities(ca_file).map_err(|error| match error {
        AuthorityError::CaFile(path, why) => TrustError::CaFile(path, why),
        AuthorityError::None => TrustError::NoAuthorities,
    })
}

/// How the cloud's certificate is judged: by `roots`, at the time of `clock`, unless `knows_time` is false.
///
/// # Errors
/// [`TrustError`].
pub(super) fn client_config(roots: RootCertStore, clock: Clock, knows_time: bool) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(roots, provider.clone(), knows_time)?;
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(clock))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // A resumed session would carry a certificate past the verifier.
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    knows_time: bool,
}

impl Verifier {
    fn new(roots: RootCertStore, provider: Arc<CryptoProvider>, knows_time: bool) -> Result<Verifier, TrustError> {
        let inner =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(|_| TrustError::NoAuthorities)?;
        Ok(Verifier { inner, knows_time })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let at = |time| self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, time);
        let judged = at(now);
        if self.knows_time || judged.is_ok() {
            return judged;
        }
        let Ok(own) = read::validity(end_entity) else { return judged };
        // When it was made, its issuer was valid too; some are dated back before their issuer, and end with it.
        [own.not_before, own.not_after]
            .into_iter()
            .map(|s| UnixTime::since_unix_epoch(Duration::from_secs(s)))
            .find_map(|t| at(t).ok())
            .map_or(judged, Ok)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ca::{Ca, CaKey, Certificate, ServerKey, Validity};
    use rustls::CertificateError;

    const MADE: u64 = 1_790_000_000;
    const ENDS: u64 = MADE + 90 * 86_400;

    struct Issued {
        ca: Ca,
        leaf: Certificate,
    }

    fn issued_by(authority: &str) -> Issued {
        let ca = Ca::create(CaKey::generate().unwrap(), authority).unwrap();
        let validity = Validity { not_before: MADE, not_after: ENDS };
        let leaf = ca.issue_server(&ServerKey::generate().unwrap(), &["localhost".to_owned()], &[], validity).unwrap();
        Issued { ca, leaf }
    }

    fn judge(trusted: &Ca, leaf: &Certificate, name: &str, now: u64, knows_time: bool) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(trusted.certificate().der().to_vec())).unwrap();
        let verifier = Verifier::new(roots, Arc::new(ring::default_provider()), knows_time).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        verifier.verify_server_cert(&CertificateDer::from(leaf.der().to_vec()), &[], &name, &[], now).map(|_| ())
    }

    #[test]
    fn dates_count_for_a_box_that_knows_the_time_and_not_for_one_that_does_not() {
        let Issued { ca, leaf } = issued_by("one");
        for now in [0, MADE - 1, ENDS + 1, ENDS * 2] {
            assert!(judge(&ca, &leaf, "localhost", now, true).is_err(), "{now}");
            assert!(judge(&ca, &leaf, "localhost", now, false).is_ok(), "{now}");
        }
        assert!(judge(&ca, &leaf, "localhost", MADE + 1, true).is_ok());
    }

    #[test]
    fn name_and_authority_count_whether_the_time_is_known_or_not() {
        let Issued { ca, leaf } = issued_by("one");
        let other = issued_by("another").ca;
        for (knows_time, now) in [(true, MADE + 1), (false, MADE + 1), (false, 0), (false, ENDS + 1)] {
            let authority = judge(&other, &leaf, "localhost", now, knows_time).unwrap_err();
            assert!(matches!(authority, rustls::Error::InvalidCertificate(_)), "{authority:?}");
            assert!(judge(&ca, &leaf, "cloud.local", now, knows_time).is_err());
        }
        let now = judge(&other, &leaf, "localhost", MADE + 1, true);
        assert_eq!(now, Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)));
    }

    #[test]
    fn a_ca_file_that_holds_no_certificate_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        for text in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, text).unwrap();
            let error = authorities(Some(&path)).unwrap_err().to_string();
            assert!(error.contains("ca.pem"), "{error}");
        }
        assert!(authorities(Some(&dir.path().join("gone.pem"))).is_err());
        let base64 = data_encoding::BASE64.encode(issued_by("one").ca.certificate().der());
        std::fs::write(&path, format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")).unwrap();
        assert!(!authorities(Some(&path)).unwrap().is_empty());
    }
}
