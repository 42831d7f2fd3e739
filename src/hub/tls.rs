//! The certificates of the listeners: issued by the hub's CA for the names and addresses it is reached by, renewed
//! before they end and when the addresses change, without a restart.

use super::keys::Material;
use crate::net::tls::{Clock as TlsClock, Material as TlsMaterial, Protocol, TlsError};
use crate::net::{Certificate, TlsReloader, Validity, ca};
use crate::service::Clock;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

/// How long a certificate of a listener is valid, in seconds. Within the 825 days that Apple's clients take.
const LIFETIME_S: u64 = 397 * 24 * 3600;
/// It is renewed this long before its end, in seconds.
const RENEW_BEFORE_S: u64 = 60 * 24 * 3600;

/// The TLS side of all listeners.
pub(super) struct Certificates {
    material: Material,
    names: Mutex<Vec<String>>,
    clock: Arc<dyn Clock>,
    pub(super) https: Arc<TlsReloader>,
    pub(super) mqtt: Arc<TlsReloader>,
    issued: Mutex<(BTreeSet<IpAddr>, Validity)>,
}

impl Certificates {
    pub(super) fn new(material: Material, hub_name: &str, clock: Arc<dyn Clock>) -> Result<Certificates, TlsError> {
        let mut names = vec!["localhost".to_owned()];
        let local = format!("{}.local", hub_name.to_ascii_lowercase());
        if ca::may_certify_name(&local) {
            names.push(local);
        } else {
            tracing::warn!(
                name = hub_name,
                "{local} is no name of a host: the hub is reached by its address only; use letters, digits and -"
            );
        }
        let ips = addresses();
        let (leaf, validity) = issue(&material, &names, &ips, now_s(&*clock))?;
        let tls = TlsMaterial { leaf: &leaf, key: &material.server_key, ca: material.ca.certificate() };
        let time = || {
            let clock = clock.clone();
            TlsClock::new(move || now_s(&*clock))
        };
        let https = Arc::new(TlsReloader::new(Protocol::Https, &tls, time())?);
        let mqtt = Arc::new(TlsReloader::new(Protocol::Mqtt, &tls, time())?);
        Ok(Certificates { names: Mutex::new(names), clock: clock.clone(), https, mqtt, issued: Mutex::new((ips, validity)), material })
    }

    /// Whether the certificate does not fit the present time: near its end, or issued by a clock that was wrong. Cheap
    /// enough to be asked every second.
    pub(super) fn is_out_of_date(&self) -> bool {
        let (now, issued) = (now_s(&*self.clock), self.issued.lock().unwrap_or_else(PoisonError::into_inner));
        now < issued.1.not_before || now + RENEW_BEFORE_S >= issued.1.not_after
    }

    /// Issues anew when the addresses have changed or the certificate does not fit the time.
    pub(super) fn renew(&self) -> Result<(), TlsError> {
        let stale = self.is_out_of_date();
        let (ips, now) = (addresses(), now_s(&*self.clock));
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if issued.0 == ips && !stale {
            return Ok(());
        }
        self.issue_anew(&mut issued, ips, now)
    }

    /// The hub is found under another name, `<name>.local`: the certificate holds for it too from now on.
    pub(super) fn add_name(&self, name: &str) -> Result<(), TlsError> {
        let (ips, now) = (addresses(), now_s(&*self.clock));
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            if !ca::may_certify_name(name) || names.iter().any(|known| known == name) {
                return Ok(());
            }
            names.push(name.to_owned());
        }
        self.issue_anew(&mut issued, ips, now)
    }

    fn issue_anew(&self, issued: &mut (BTreeSet<IpAddr>, Validity), ips: BTreeSet<IpAddr>, now: u64) -> Result<(), TlsError> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (leaf, validity) = issue(&self.material, &names, &ips, now)?;
        let tls = TlsMaterial { leaf: &leaf, key: &self.material.server_key, ca: self.material.ca.certificate() };
        self.https.reload(&tls)?;
        self.mqtt.reload(&tls)?;
        tracing::info!(addresses = ?ips, "the listeners' certificate was renewed");
        *issued = (ips, validity);
        Ok(())
    }

    /// A client certificate for a device; and its end, in seconds since 1970.
    pub(super) fn certify_device(&self, csr_pem: &str, device: &str) -> Result<(Certificate, u64), TlsError> {
        let now = now_s(&*self.clock);
        let validity = Validity { not_before: now.saturating_sub(3600), not_after: now + LIFETIME_S };
        Ok((self.material.ca.issue_device(csr_pem, device, validity)?, validity.not_after))
    }

    /// Where a device reaches a listener at `at`, as `host:port`: for one on loopback its own address, else the box's
    /// addresses and its local name, as they are in the certificate.
    pub(super) fn reached_at(&self, at: SocketAddr) -> Vec<String> {
        let port = at.port();
        if at.ip().to_canonical().is_loopback() {
            return vec![at.to_string()];
        }
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let ips = issued.0.iter().filter(|ip| !ip.is_loopback()).map(|ip| SocketAddr::new(*ip, port).to_string());
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let names = names.iter().filter(|name| *name != "localhost").map(|name| format!("{name}:{port}"));
        ips.chain(names).collect()
    }

    /// How the hub looks at its own listeners: by its own authority and its own clock.
    pub(super) fn own_client(&self) -> Result<rustls::ClientConfig, TlsError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.material.ca.certificate().der().to_vec().into())?;
        let clock = self.clock.clone();
        let clock = TlsClock::new(move || now_s(&*clock));
        let builder = rustls::ClientConfig::builder_with_details(Arc::new(rustls::crypto::ring::default_provider()), Arc::new(clock));
        Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
    }

    /// The ends of the listeners' certificate and of the CA's, s since 1970, and the names and addresses that the first one holds for.
    pub(super) fn told(&self) -> (u64, u64, Vec<String>) {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ca = ca::read::validity(self.material.ca.certificate().der()).map_or(0, |validity| validity.not_after);
        (issued.1.not_after, ca, names.into_iter().chain(issued.0.iter().map(IpAddr::to_string)).collect())
    }

    pub(super) fn ca(&self) -> &Certificate {
        self.material.ca.certificate()
    }
}

fn issue(material: &Material, names: &[String], ips: &BTreeSet<IpAddr>, now: u64) -> Result<(Certificate, Validity), TlsError> {
    let validity = Validity { not_before: now.saturating_sub(24 * 3600), not_after: now + LIFETIME_S };
    let ips: Vec<IpAddr> = ips.iter().copied().collect();
    Ok((material.ca.issue_server(&material.server_key, names, &ips, validity)?, validity))
}

fn now_s(clock: &dyn Clock) -> u64 {
    clock.now_ms() / 1000
}

/// Loopback, and the addresses by which the box reaches its network. Connecting a UDP socket sends nothing; it asks
/// the kernel which source address it would use (the targets are documentation addresses, RFC 5737 and 3849).
fn addresses() -> BTreeSet<IpAddr> {
    let mut out = BTreeSet::from([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    let routes = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    for (from, to) in routes {
        let local = UdpSocket::bind(from).and_then(|s| s.connect(to).and_then(|()| s.local_addr())).map(|a: SocketAddr| a.ip());
        out.extend(local.ok().filter(|ip| ca::may_certify_ip(*ip)));
    }
    out
}
