//! The hub's own certificate authority: the CA certificate, leaf certificates for its
//! listeners, and client certificates for devices that ask with a CSR.
//!
//! The CA is name-constrained (RFC 5280 §4.2.1.10) to what exists in a house, so that a
//! browser that trusts it gives a stolen CA key no power over the rest of the web. Server
//! and device certificates carry disjoint extended key usages: neither can act as the
//! other. Times are arguments in seconds since 1970; keeping keys sealed, and deciding who
//! may have a certificate, are left to the caller. Reading certificates is in [`read`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use zeroize::Zeroizing;

pub mod read;
#[cfg(test)]
mod tests;

/// The hub's certificate authority: its certificate and its key.
#[derive(Debug)]
pub struct Ca {
    certificate: Certificate,
    key: CaKey,
}

/// A certificate in DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
}

/// From when and until when a certificate is valid, in seconds since 1970 (UTC), both included.
/// RFC 5280 can say at most the end of the year 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second of validity.
    pub not_before: u64,
    /// Last second of validity.
    pub not_after: u64,
}

/// An ECDSA P-256 key pair, kept as PKCS #8. Redacted in `Debug`, wiped on drop.
pub struct EcKey {
    pkcs8: Zeroizing<Vec<u8>>,
}

/// The key of the CA.
pub type CaKey = EcKey;

/// The key of a listener's leaf certificate.
pub type ServerKey = EcKey;

/// Why no certificate was made or read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The PEM text holds no ECDSA P-256 private key in PKCS #8.
    #[error("this is not an ECDSA P-256 private key in PKCS #8 PEM")]
    Key,
    /// The certificate cannot be parsed.
    #[error("this is not an X.509 certificate: {0}")]
    Certificate(String),
    /// The certificate does not belong to the key, or may not sign others.
    #[error("this certificate is not the CA certificate of this key")]
    Mismatch,
    /// The request is not a PKCS #10 request, or its signature does not verify.
    #[error("the certificate request is refused: {0}")]
    Request(&'static str),
    /// The device id is not 1–64 of `A-Za-z0-9_-`.
    #[error("this is not a device id")]
    DeviceId,
    /// The name or address lies outside what the CA is constrained to.
    #[error("{0} lies outside the names this CA may certify")]
    OutsideConstraints(String),
    /// A certificate for nothing at all was asked for.
    #[error("a server certificate needs at least one name or address")]
    NoName,
    /// The dates are in the wrong order or beyond the year 9999.
    #[error("the validity is not a period that a certificate can state")]
    Validity,
    /// The system gave no random bytes.
    #[error("no randomness: {0}")]
    Entropy(getrandom::Error),
    /// Encoding or signing failed.
    #[error("the certificate could not be made: {0}")]
    Encode(#[from] rcgen::Error),
}

/// What the URI in a device certificate's subject alternative name begins with.
pub const DEVICE_URI: &str = "urn:hearthkey:device:";

/// The last second of the year 9999.
const END_OF_TIME: u64 = 253_402_300_799;

/// A request longer than this is not read (characters).
const MAX_CSR: usize = 16 * 1024;

/// The DNS subtrees the CA may certify: each name itself and everything below it.
const NAMES: [&str; 3] = ["local", "localhost", "home.arpa"];

/// The networks the CA may certify: private (RFC 1918, RFC 4193), link-local and loopback.
const NETWORKS: [(IpAddr, u8); 8] = [
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
];

impl Ca {
    /// Makes the CA certificate of `hub_id` (its text form): ECDSA P-256, path length 0, `keyCertSign` and `cRLSign`.
    ///
    /// It is valid from 1970 and without an end (RFC 5280 §4.1.2.5): a box without a battery makes it at its first
    /// boot, before it knows the time, and it is pinned from then on. What ends are the certificates below it.
    pub fn create(key: CaKey, hub_id: &str) -> Result<Self, CaError> {
        let mut params = bare(&format!("Hearthkey CA {hub_id}"), Validity { not_before: 0, not_after: END_OF_TIME })?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(constraints());
        let der = key.with(|pair| Ok(params.self_signed(pair)?.der().to_vec()))?;
        Ok(Self { certificate: Certificate { der }, key })
    }

    /// Takes up an existing CA; refuses a certificate that is not a CA's or not of this key.
    pub fn from_parts(certificate: Certificate, key: CaKey) -> Result<Self, CaError> {
        let spki = key.with(|pair| Ok(pair.subject_public_key_info()))?;
        if read::ca_public_key(certificate.der())?.is_none_or(|of_ca| of_ca != spki) {
            return Err(CaError::Mismatch);
        }
        Ok(Self { certificate, key })
    }

    /// The CA's own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The CA's key, to be sealed by the caller.
    pub fn key(&self) -> &CaKey {
        &self.key
    }

    /// Issues the certificate of a listener that holds `key`, for these DNS names and addresses.
    ///
    /// A single name outside the constraints would make verifiers refuse the whole
    /// certificate, so one is an error here: sort out beforehand with [`may_certify_name`] and
    /// [`may_certify_ip`]. Clients from Apple refuse a validity of more than 825 days.
    pub fn issue_server(&self, key: &ServerKey, names: &[String], ips: &[IpAddr], validity: Validity) -> Result<Certificate, CaError> {
        if let Some(name) = names.iter().find(|name| !may_certify_name(name)) {
            return Err(CaError::OutsideConstraints(name.clone()));
        }
        if let Some(ip) = ips.iter().find(|ip| !may_certify_ip(**ip)) {
            return Err(CaError::OutsideConstraints(ip.to_string()));
        }
        self.issue_server_unchecked(key, names, ips, validity)
    }

    /// Issues a client certificate for `device_id` and the key in a PEM PKCS #10 request.
    ///
    /// Of the request only the public key counts (P-256, P-384, Ed25519, or RSA of 2048 bits
    /// and more), after its signature has proven possession; subject and extensions it asks
    /// for are ignored. The certificate names the device in one SAN URI and nothing else.
    pub fn issue_device(&self, csr_pem: &str, device_id: &str, validity: Validity) -> Result<Certificate, CaError> {
        if !is_device_id(device_id) {
            return Err(CaError::DeviceId);
        }
        let public = public_key_of(csr_pem)?;
        // With spaces in it, the common name cannot be taken for a host name, to which
        // some verifiers (OpenSSL) would apply the DNS constraints.
        let mut params = bare(&format!("Hearthkey device {device_id}"), validity)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(format!("{DEVICE_URI}{device_id}").try_into()?)];
        self.sign(params, &public)
    }

    fn issue_server_unchecked(
        &self,
        key: &ServerKey,
        names: &[String],
        ips: &[IpAddr],
        validity: Validity,
    ) -> Result<Certificate, CaError> {
        let mut params = bare("Hearthkey hub", validity)?;
        for name in names {
            params.subject_alt_names.push(SanType::DnsName(name.to_ascii_lowercase().try_into()?));
        }
        params.subject_alt_names.extend(ips.iter().map(|ip| SanType::IpAddress(ip.to_canonical())));
        if params.subject_alt_names.is_empty() {
            return Err(CaError::NoName);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        key.with(|pair| self.sign(params, pair))
    }

    fn sign(&self, mut params: CertificateParams, key: &impl PublicKeyData) -> Result<Certificate, CaError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        self.key.with(|pair| {
            let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(self.certificate.der()), pair)?;
            Ok(Certificate { der: params.signed_by(key, &issuer)?.der().to_vec() })
        })
    }
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    pub fn from_pem(pem: &str) -> Result<Self, CaError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| CaError::Certificate(format!("{error:?}")))?;
        Self::from_der(der.to_vec())
    }

    /// Takes a certificate in DER.
    pub fn from_der(der: Vec<u8>) -> Result<Self, CaError> {
        read::validity(&der)?;
        Ok(Self { der })
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM (RFC 7468).
    pub fn pem(&self) -> String {
        let base64 = data_encoding::BASE64.encode(&self.der);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// SHA-256 of the certificate, as people compare it: colon-separated upper hexadecimal.
    pub fn fingerprint(&self) -> String {
        read::fingerprint(&self.der)
    }
}

impl EcKey {
    /// Makes a new key from the system's randomness.
    pub fn generate() -> Result<Self, CaError> {
        Ok(Self::of(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    /// Reads a key from PKCS #8 PEM (`PRIVATE KEY`).
    pub fn from_pem(pem: &str) -> Result<Self, CaError> {
        KeyPair::from_pkcs8_pem_and_sign_algo(pem, &rcgen::PKCS_ECDSA_P256_SHA256).map(|pair| Self::of(&pair)).map_err(|_| CaError::Key)
    }

    /// The key as PKCS #8 PEM, wiped when dropped.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, CaError> {
        self.with(|pair| Ok(Zeroizing::new(pair.serialize_pem())))
    }

    /// The key as PKCS #8 DER, wiped when dropped.
    pub(super) fn pkcs8(&self) -> &Zeroizing<Vec<u8>> {
        &self.pkcs8
    }

    fn of(pair: &KeyPair) -> Self {
        Self { pkcs8: Zeroizing::new(pair.serialized_der().to_vec()) }
    }

    /// rcgen's key pair wipes nothing by itself, so one lives only while it signs.
    fn with<T>(&self, sign: impl FnOnce(&KeyPair) -> Result<T, CaError>) -> Result<T, CaError> {
        let der = PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256).map_err(|_| CaError::Key)?;
        sign(&pair)
    }
}

impl fmt::Debug for EcKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EcKey(redacted)")
    }
}

/// Whether the CA may certify this DNS name: `local`, `localhost`, `home.arpa` and names below.
pub fn may_certify_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let plain = name.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    plain
        && name.len() <= 253
        && NAMES.iter().any(|tree| name.strip_suffix(tree).is_some_and(|head| head.is_empty() || head.ends_with('.')))
}

/// Whether the CA may certify this address: private, link-local or loopback.
pub fn may_certify_ip(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

/// Whether `id` is a device id: 1–64 of `A-Za-z0-9_-`.
fn is_device_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The public key of a request whose signature verifies and whose key is strong enough.
fn public_key_of(csr_pem: &str) -> Result<SubjectPublicKeyInfo, CaError> {
    if csr_pem.len() > MAX_CSR {
        return Err(CaError::Request("it is longer than 16 KiB"));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
        .map_err(|_| CaError::Request("it is not a PEM certificate request"))?;
    let (rest, csr) = X509CertificationRequest::from_der(&der).map_err(|_| CaError::Request("it is not a PKCS #10 request"))?;
    if !rest.is_empty() {
        return Err(CaError::Request("something follows the request"));
    }
    csr.verify_signature().map_err(|_| CaError::Request("its signature does not verify"))?;
    let spki = &csr.certification_request_info.subject_pki;
    let strong = match spki.parsed() {
        // Bits of the curve: P-256 and P-384; key_size counts those of an uncompressed point.
        Ok(PublicKey::EC(point)) => matches!(point.key_size(), 256 | 384),
        Ok(PublicKey::RSA(key)) => (2048..=4096).contains(&key.key_size()),
        // Ed25519 has one size, and its signature has verified above.
        Ok(PublicKey::Unknown(_)) => true,
        _ => false,
    };
    if !strong {
        return Err(CaError::Request("use a P-256, P-384, Ed25519 or RSA key of 2048 to 4096 bits"));
    }
    SubjectPublicKeyInfo::from_der(spki.raw).map_err(|_| CaError::Request("use a P-256, P-384, Ed25519 or RSA key of 2048 to 4096 bits"))
}

/// Parameters with a common name, dates and a fresh serial number, and no extension yet.
fn bare(common_name: &str, validity: Validity) -> Result<CertificateParams, CaError> {
    if validity.not_after <= validity.not_before || validity.not_after > END_OF_TIME {
        return Err(CaError::Validity);
    }
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + Duration::from_secs(validity.not_before);
    params.not_after = epoch + Duration::from_secs(validity.not_after);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // Issuer and serial number must be unique together (RFC 5280 §4.1.2.2), also when a
    // key gets its next certificate: so the number is random (127 bits), not a hash of the key.
    let mut serial = [0_u8; 16];
    getrandom::fill(&mut serial).map_err(CaError::Entropy)?;
    let positive = u128::from_be_bytes(serial) >> 1 | 1 << 64;
    params.serial_number = Some(SerialNumber::from_slice(&positive.to_be_bytes()));
    Ok(params)
}

fn constraints() -> NameConstraints {
    let names = NAMES.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned()));
    let networks = NETWORKS.iter().map(|(network, bits)| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*network, *bits)));
    NameConstraints { permitted_subtrees: names.chain(networks).collect(), excluded_subtrees: Vec::new() }
}
