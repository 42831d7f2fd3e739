//! The CA against the verifiers that clients use: rustls' own, on real certificates.

use std::sync::Arc;

use rustls::Error as TlsError;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;

use super::*;

const NOW: u64 = 1_790_000_000;
const YEAR: Validity = Validity { not_before: NOW - 60, not_after: NOW + 31_557_600 };

fn ca() -> Ca {
    Ca::create(CaKey::generate().unwrap(), "abcdefghijklmnopqrstuvwxyz").unwrap()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn roots(ca: &Ca) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.certificate().der().to_vec())).unwrap();
    Arc::new(roots)
}

fn check_server(ca: &Ca, leaf: &Certificate, name: &str, now: u64) -> Result<(), TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(ca), provider).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&leaf.der().into(), &[], &name, &[], at(now)).map(|_| ())
}

fn check_client(ca: &Ca, leaf: &Certificate) -> Result<(), TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca), provider).build().unwrap();
    verifier.verify_client_cert(&leaf.der().into(), &[], at(NOW)).map(|_| ())
}

fn csr(params: &CertificateParams) -> String {
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_leaf_for_the_house_is_accepted_under_each_of_its_names() {
    let ca = ca();
    let ips: Vec<IpAddr> = ["127.0.0.1", "::1", "192.168.1.5", "10.2.3.4", "172.31.0.1", "169.254.9.9", "fd00::5", "fe80::1"]
        .iter()
        .map(|ip| ip.parse().unwrap())
        .collect();
    let key = ServerKey::generate().unwrap();
    let hosts = names(&["localhost", "hub.local", "hub.home.arpa"]);
    let leaf = ca.issue_server(&key, &hosts, &ips, YEAR).unwrap();
    for name in hosts.into_iter().chain(ips.iter().map(IpAddr::to_string)) {
        assert_eq!(check_server(&ca, &leaf, &name, NOW), Ok(()), "{name}");
    }
    assert!(check_server(&ca, &leaf, "other.local", NOW).is_err());
    assert!(check_server(&ca, &leaf, "localhost", YEAR.not_after + 1).is_err());
    assert!(check_server(&ca, &leaf, "localhost", YEAR.not_before - 1).is_err());
    assert!(check_server(&super::tests::ca(), &leaf, "localhost", NOW).is_err());
}

#[test]
fn verifiers_refuse_a_leaf_outside_the_constraints_even_if_the_ca_key_signs_it() {
    let ca = ca();
    let key = ServerKey::generate().unwrap();
    for name in ["example.com", "notlocal", "local.example.com"] {
        let leaf = ca.issue_server_unchecked(&key, &names(&[name]), &[], YEAR).unwrap();
        let refusal = check_server(&ca, &leaf, name, NOW).unwrap_err();
        assert!(format!("{refusal:?}").contains("NameConstraintViolation"), "{name}: {refusal:?}");
    }
    for ip in ["8.8.8.8", "172.32.0.1", "2001:db8::1"] {
        let leaf = ca.issue_server_unchecked(&key, &[], &[ip.parse().unwrap()], YEAR).unwrap();
        let refusal = check_server(&ca, &leaf, ip, NOW).unwrap_err();
        assert!(format!("{refusal:?}").contains("NameConstraintViolation"), "{ip}: {refusal:?}");
    }
}

#[test]
fn a_name_outside_the_constraints_is_not_even_signed() {
    let ca = ca();
    let key = ServerKey::generate().unwrap();
    for name in ["example.com", "notlocal", "", ".local", "a..local", "*.local", "hub.local."] {
        let refused = ca.issue_server(&key, &names(&[name]), &[], YEAR);
        assert!(matches!(refused, Err(CaError::OutsideConstraints(_))), "{name}");
    }
    let global = ["2001:db8::1".parse().unwrap()];
    assert!(matches!(ca.issue_server(&key, &[], &global, YEAR), Err(CaError::OutsideConstraints(_))));
    assert!(matches!(ca.issue_server(&key, &[], &[], YEAR), Err(CaError::NoName)));
}

#[test]
fn server_and_device_certificates_cannot_stand_in_for_each_other() {
    let ca = ca();
    let server = ca.issue_server(&ServerKey::generate().unwrap(), &names(&["localhost"]), &[], YEAR).unwrap();
    let device = ca.issue_device(&csr(&CertificateParams::default()), "lamp-1", YEAR).unwrap();
    assert_eq!(check_client(&ca, &device), Ok(()));
    let refusal = check_client(&ca, &server).unwrap_err();
    assert!(format!("{refusal:?}").contains("Purpose"), "{refusal:?}");
    assert!(matches!(check_server(&ca, &device, "localhost", NOW), Err(TlsError::InvalidCertificate(_))));
}

#[test]
fn of_a_request_only_the_key_counts() {
    let ca = ca();
    let mut wishes = CertificateParams::new(names(&["example.com", "hub.local"])).unwrap();
    wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wishes.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    wishes.subject_alt_names.push(SanType::URI("urn:hearthkey:device:other".to_owned().try_into().unwrap()));
    wishes.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0])];
    wishes.distinguished_name.push(DnType::CommonName, "owner");
    let leaf = ca.issue_device(&csr(&wishes), "lamp-1", YEAR).unwrap();
    assert_eq!(read::san_device(leaf.der()).as_deref(), Some("lamp-1"));
    assert_eq!(check_client(&ca, &leaf), Ok(()));
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf.der()).unwrap();
    assert!(!parsed.is_ca());
    assert_eq!(parsed.subject().to_string(), "CN=Hearthkey device lamp-1");
    assert!(!parsed.extended_key_usage().unwrap().unwrap().value.server_auth);
    assert_eq!(read::validity(leaf.der()).unwrap(), YEAR);
}

#[test]
fn a_request_that_is_tampered_with_or_nonsense_is_refused() {
    let ca = ca();
    let good = KeyPair::generate().unwrap();
    let der = CertificateParams::default().serialize_request(&good).unwrap().der().to_vec();
    let mut bad = der.clone();
    *bad.last_mut().unwrap() ^= 1;
    let pem = |der: &[u8]| {
        let body = data_encoding::BASE64.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
    };
    assert!(ca.issue_device(&pem(&der), "lamp", YEAR).is_ok());
    for text in [pem(&bad), pem(b"x"), String::new(), "x".repeat(MAX_CSR + 1), ca.certificate().pem()] {
        assert!(matches!(ca.issue_device(&text, "lamp", YEAR), Err(CaError::Request(_))), "{text:.40}");
    }
    for id in ["", "a b", "a/b", "ü", &"x".repeat(65)] {
        assert!(matches!(ca.issue_device(&pem(&der), id, YEAR), Err(CaError::DeviceId)), "{id}");
    }
}

#[test]
fn requests_with_ed25519_and_p384_keys_are_accepted() {
    let ca = ca();
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pem = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let leaf = ca.issue_device(&pem, "lamp", YEAR).unwrap();
        assert_eq!(check_client(&ca, &leaf), Ok(()));
    }
}

#[test]
fn the_ca_certificate_says_what_it_is_for() {
    let ca = ca();
    let (_, parsed) = x509_parser::parse_x509_certificate(ca.certificate().der()).unwrap();
    assert_eq!(parsed.subject().to_string(), "CN=Hearthkey CA abcdefghijklmnopqrstuvwxyz");
    let basic = parsed.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && basic.value.ca);
    assert_eq!(basic.value.path_len_constraint, Some(0));
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    assert!(parsed.name_constraints().unwrap().unwrap().critical);
    let dates = read::validity(ca.certificate().der()).unwrap();
    assert_eq!((dates.not_before, dates.not_after), (0, END_OF_TIME));
}

#[test]
fn ca_and_key_survive_pem_and_must_belong_together() {
    let ca = ca();
    let key = CaKey::from_pem(&ca.key().to_pem().unwrap()).unwrap();
    let certificate = Certificate::from_pem(&ca.certificate().pem()).unwrap();
    assert_eq!(&certificate, ca.certificate());
    let again = Ca::from_parts(certificate.clone(), key).unwrap();
    let leaf = again.issue_server(&ServerKey::generate().unwrap(), &names(&["localhost"]), &[], YEAR).unwrap();
    assert_eq!(check_server(&ca, &leaf, "localhost", NOW), Ok(()));
    let stranger = Ca::from_parts(certificate, CaKey::generate().unwrap());
    assert!(matches!(stranger, Err(CaError::Mismatch)));
    let device_key = ServerKey::generate().unwrap();
    let leaf = ca.issue_server(&device_key, &names(&["localhost"]), &[], YEAR).unwrap();
    assert!(matches!(Ca::from_parts(leaf, device_key), Err(CaError::Mismatch)));
    assert!(matches!(CaKey::from_pem("no key"), Err(CaError::Key)));
}

#[test]
fn a_renewed_certificate_has_another_serial_and_the_same_key_hash() {
    let ca = ca();
    let key = ServerKey::generate().unwrap();
    let one = ca.issue_server(&key, &names(&["localhost"]), &[], YEAR).unwrap();
    let two = ca.issue_server(&key, &names(&["localhost"]), &[], YEAR).unwrap();
    let serial = |c: &Certificate| x509_parser::parse_x509_certificate(c.der()).unwrap().1.tbs_certificate.serial.clone();
    assert_ne!(serial(&one), serial(&two));
    assert_eq!(read::spki_sha256(one.der()).unwrap(), read::spki_sha256(two.der()).unwrap());
    assert_ne!(one.fingerprint(), two.fingerprint());
    assert_eq!(one.fingerprint().len(), 95);
}

#[test]
fn dates_that_no_certificate_can_state_are_refused() {
    let ca = ca();
    let key = ServerKey::generate().unwrap();
    for (not_before, not_after) in [(5, 5), (6, 5), (0, END_OF_TIME + 1), (0, u64::MAX)] {
        let issued = ca.issue_server(&key, &names(&["localhost"]), &[], Validity { not_before, not_after });
        assert!(matches!(issued, Err(CaError::Validity)));
    }
    let from_1970 = Validity { not_before: 0, not_after: END_OF_TIME };
    let leaf = ca.issue_server(&key, &names(&["localhost"]), &[], from_1970).unwrap();
    assert_eq!(read::validity(leaf.der()).unwrap(), from_1970);
}

#[test]
fn only_one_single_device_uri_names_a_device() {
    let ca = ca();
    let server = ca.issue_server(&ServerKey::generate().unwrap(), &names(&["localhost"]), &[], YEAR).unwrap();
    assert_eq!(read::san_device(server.der()), None);
    assert_eq!(read::san_device(b"nonsense"), None);
    let uri = |text: &str| SanType::URI(text.to_owned().try_into().unwrap());
    for sans in [
        vec![uri("urn:hearthkey:device:a"), uri("urn:hearthkey:device:b")],
        vec![uri("urn:hearthkey:device:a/b")],
        vec![uri("urn:hearthkey:device:")],
        vec![uri("urn:hearthkey:user:a")],
    ] {
        let mut params = bare("x", YEAR).unwrap();
        params.subject_alt_names = sans;
        let leaf = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(read::san_device(leaf.der()), None);
    }
}

#[test]
fn debug_shows_no_key() {
    let key = CaKey::generate().unwrap();
    assert_eq!(format!("{key:?}"), "EcKey(redacted)");
}
