//! Which certificate authorities this box believes when it calls somebody: the system's, and those of a file that the configuration names.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;

/// Why nobody can be believed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The file that the configuration names.
    #[error("the ca_file {0} cannot be read as PEM certificates: {1}. Correct the setting, or the file")]
    CaFile(String, String),
    /// Neither the system nor the configuration names an authority.
    #[error("this box knows no certificate authorities, so it can believe no server: install the package ca-certificates, or set ca_file")]
    None,
}

/// The authorities that the system knows, and those of `ca_file`. Reads files.
///
/// # Errors
/// [`AuthorityError`].
pub fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, AuthorityError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "some of the system's certificate authorities could not be read");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_file {
        let wrong = |error: String| AuthorityError::CaFile(path.display().to_string(), error);
        let mut any = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))? {
            roots.add(certificate.map_err(|e| wrong(e.to_string()))?).map_err(|e| wrong(e.to_string()))?;
            any = true;
        }
        if !any {
            return Err(wrong("it holds no certificate".to_owned()));
        }
    }
    if roots.is_empty() { Err(AuthorityError::None) } else { Ok(roots) }
}
