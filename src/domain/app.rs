//! Those who act without being a person: an app that acts for one, and a service account that acts for itself. Their
//! tokens are `service`'s; what they may do to a device is a binding, and an app never more than the person it acts for.

use super::account::UserId;
use super::authority::ServiceScope;
use super::binding::Privilege;
use super::oauth::RedirectUri;
use core::net::IpAddr;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A person's leave for an app (or for a program of their own, by an access token) to act for them: the user–app
/// binding. On which devices, and how far, are the app's bindings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorization {
    /// Its id, as in `app:<id>`: a UUID in text without hyphens.
    pub id: String,
    /// For whom it acts.
    pub user: UserId,
    /// The registered app, by its client id; none for a personal access token.
    pub client: Option<String>,
    /// What the person sees.
    pub name: String,
    /// When it was given, ms since 1970.
    pub created_at: u64,
    /// When it ends, ms since 1970.
    pub expires_at: u64,
    /// The furthest that the person let it go; none for a personal access token.
    #[serde(default)]
    pub scope: Option<Privilege>,
    /// Ended ones stay, so that the audit can name them.
    pub ended: bool,
}

impl Authorization {
    /// Whether it holds at `now`, ms since 1970.
    #[must_use]
    pub fn holds(&self, now: u64) -> bool {
        !self.ended && now < self.expires_at
    }
}

/// A third party's app, registered by an owner. It has no secret: what is shipped to many keeps none (RFC 8252 §8.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its client id: a UUID in text without hyphens.
    pub id: String,
    /// What people see.
    pub name: String,
    /// Where answers may be sent to.
    pub redirect_uris: Vec<RedirectUri>,
    /// When it was registered, ms since 1970.
    pub created_at: u64,
    /// By whom: a subject's text.
    pub created_by: String,
}

/// A program of its own standing, such as a maker's server that makes accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccount {
    /// Its id, as in `service:<id>`: a UUID in text without hyphens.
    pub id: String,
    /// What people see.
    pub name: String,
    /// From where it may come; nowhere when empty.
    pub networks: Vec<IpNet>,
    /// What it may do to the hub.
    pub scopes: Vec<ServiceScope>,
    /// When it was made, ms since 1970.
    pub created_at: u64,
    /// By whom: a subject's text.
    pub created_by: String,
    /// Ended ones stay, so that the audit can name them.
    pub ended: bool,
}

/// Whether an address lies in one of the listed networks. The address is made canonical: an IPv4 address that came in
/// over IPv6 is an IPv4 address.
#[must_use]
pub fn is_listed(networks: &[IpNet], source: IpAddr) -> bool {
    let source = source.to_canonical();
    networks.iter().any(|n| n.contains(&source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listed_address_is_listed_however_it_is_written() {
        let networks: Vec<IpNet> = ["192.0.2.0/28", "2001:db8::/32"].iter().map(|n| n.parse().unwrap()).collect();
        for inside in ["192.0.2.1", "::ffff:192.0.2.15", "2001:db8:1::1"] {
            assert!(is_listed(&networks, inside.parse().unwrap()), "{inside}");
        }
        for outside in ["192.0.2.16", "::ffff:192.0.2.16", "2001:db9::1", "127.0.0.1"] {
            assert!(!is_listed(&networks, outside.parse().unwrap()), "{outside}");
        }
        assert!(!is_listed(&[], "127.0.0.1".parse().unwrap()));
    }
}
