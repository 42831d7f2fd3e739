//! What is read out of a certificate: fingerprints, dates, and the device it names.
//!
//! Nothing here verifies a signature: whoever calls these has the certificate from a
//! handshake that did, or has made it.

use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{CaError, DEVICE_URI, Validity, is_device_id};

/// SHA-256 of a certificate (DER) as colon-separated upper hexadecimal: 95 characters.
pub fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo (DER): what a counter token is bound to.
pub fn spki_sha256(der: &[u8]) -> Result<[u8; 32], CaError> {
    Ok(Sha256::digest(parse(der)?.tbs_certificate.subject_pki.raw).into())
}

/// When a certificate is valid. Dates before 1970 read as 1970.
pub fn validity(der: &[u8]) -> Result<Validity, CaError> {
    let certificate = parse(der)?;
    let dates = certificate.validity();
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    Ok(Validity { not_before: seconds(dates.not_before), not_after: seconds(dates.not_after) })
}

/// The device a client certificate names: its only subject alternative name must be one
/// `urn:hearthkey:device:<id>`. `None` for every other certificate.
pub fn san_device(der: &[u8]) -> Option<String> {
    let certificate = parse(der).ok()?;
    let san = certificate.subject_alternative_name().ok()??;
    match san.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => uri.strip_prefix(DEVICE_URI).filter(|id| is_device_id(id)).map(str::to_owned),
        _ => None,
    }
}

/// The public key (SubjectPublicKeyInfo, DER) of a certificate that may sign others.
pub(super) fn ca_public_key(der: &[u8]) -> Result<Option<Vec<u8>>, CaError> {
    let certificate = parse(der)?;
    Ok(certificate.is_ca().then(|| certificate.tbs_certificate.subject_pki.raw.to_vec()))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CaError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| CaError::Certificate(error.to_string()))?;
    if rest.is_empty() { Ok(certificate) } else { Err(CaError::Certificate("something follows the certificate".to_owned())) }
}
