//! Hashing and checking passwords: argon2id, off the runtime's threads, at most two at a time so that a flood of
//! sign-ins takes neither all memory nor all processors. Who wants one takes a place first: nobody gets so many that
//! the others have none.

use super::lockout::network_of;
use super::{Refusal, Service, lock};
use crate::domain::binding::Subject;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Params, Version};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

/// Who wants a password hashed or checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    /// Somebody who is not signed in, at this address.
    Source(IpAddr),
    /// An account that is signed in. Its place is beside those of strangers.
    Account(Subject),
}

/// Places of one account or address.
const EACH: usize = 4;
/// Places of one IPv6 network of 64 bits, of which one host can use every address.
const PER_NETWORK: usize = 16;
/// Places of all who are not signed in: the last of them waits for some seconds on a small box, not for hours.
const STRANGERS: usize = 32;

/// Who is being served or waits to be.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<Asker, usize>>);

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    asker: Asker,
}

impl Places {
    /// A place for `asker`; `None` when it has its share, or when all are taken.
    pub(super) fn take(self: &Arc<Self>, asker: Asker) -> Option<Place> {
        let mut taken = lock(&self.0);
        if let Asker::Source(source) = &asker {
            let strangers = || taken.iter().filter_map(|(a, n)| if let Asker::Source(ip) = a { Some((*ip, *n)) } else { None });
            let network: usize = strangers().filter(|(ip, _)| network_of(*ip) == network_of(*source)).map(|(_, n)| n).sum();
            let all: usize = strangers().map(|(_, n)| n).sum();
            if network >= PER_NETWORK || all >= STRANGERS {
                return None;
            }
        }
        if taken.get(&asker).is_some_and(|n| *n >= EACH) {
            return None;
        }
        *taken.entry(asker.clone()).or_default() += 1;
        Some(Place { places: self.clone(), asker })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.0);
        if let Some(n) = taken.get_mut(&self.asker) {
            *n -= 1;
            if *n == 0 {
                taken.remove(&self.asker);
            }
        }
    }
}

/// OWASP's second recommendation for argon2id: 19 MiB, 2 passes, 1 lane (Password Storage Cheat Sheet). It fits a box
/// of 512 MB with two at a time.
fn hasher() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Checked when an account does not exist, so that both cases take the same time.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$aGVhcnRoa2V5LW5vYm9keQ$M0xzcqFTRmeFcCp3gwXQpV3OX/jdD6kSH1zVe7/8IXE";

/// Passes, and KiB of memory, of a hash that was made elsewhere at most: whoever signs in costs no more than that.
const PASSES_MAX: u32 = 10;
const MEMORY_MAX: u32 = 64 * 1024;
/// Characters of such a hash.
const HASH_TEXT_MAX: usize = 256;

/// Whether a text is an argon2id hash, in PHC form, that this hub can check, and that costs an attacker something.
pub(super) fn is_password_hash(text: &str) -> bool {
    if text.len() > HASH_TEXT_MAX {
        return false;
    }
    let Ok(parsed) = PasswordHash::new(text) else { return false };
    let Ok(params) = Params::try_from(&parsed) else { return false };
    let sized = parsed.hash.as_ref().is_some_and(|h| h.len() >= 32) && parsed.salt.as_ref().is_some_and(|s| s.len() >= 8);
    let bounded = (8 * 1024..=MEMORY_MAX).contains(&params.m_cost()) && params.t_cost() <= PASSES_MAX && params.p_cost() <= 4;
    parsed.algorithm.as_str() == Algorithm::Argon2id.as_str() && parsed.version == Some(Version::V0x13.into()) && sized && bounded
}

impl Service {
    /// A place among those who wait for a hash. Taken before anything is counted against the asker.
    pub(super) fn hash_place(&self, asker: Asker) -> Result<Place, Refusal> {
        self.hash_places.take(asker).ok_or(Refusal::TooMany(2_000))
    }

    pub(super) async fn hash_password(&self, place: &Place, password: Zeroizing<String>) -> Result<String, Refusal> {
        self.off_thread(place, move || hasher().hash_password(password.as_bytes()).map(|h| h.to_string()))
            .await?
            .map_err(|_| Refusal::Conflict("the password could not be hashed; try again".into()))
    }

    /// Whether `password` belongs to `hash`; with no hash the work is done all the same, and the answer is no.
    pub(super) async fn password_fits(&self, place: &Place, password: Zeroizing<String>, hash: Option<String>) -> Result<bool, Refusal> {
        let known = hash.is_some();
        let fits = self
            .off_thread(place, move || {
                let text = hash.unwrap_or_else(|| NOBODY.to_owned());
                PasswordHash::new(&text).is_ok_and(|parsed| hasher().verify_password(password.as_bytes(), &parsed).is_ok())
            })
            .await?;
        Ok(fits && known)
    }

    /// Slow work of whoever holds the place, away from the runtime's threads.
    pub(super) async fn off_thread<R: Send + 'static>(
        &self,
        _place: &Place,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Refusal> {
        let permit = self.hashing.clone().acquire_owned().await.map_err(|_| Refusal::TooMany(1_000))?;
        let out = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        out.await.map_err(|_| Refusal::TooMany(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::UserId;

    fn source(ip: &str) -> Asker {
        Asker::Source(ip.parse().unwrap())
    }

    #[test]
    fn the_stand_in_for_unknown_accounts_costs_as_much_as_a_real_one() {
        let parsed = PasswordHash::new(NOBODY).expect("a well-formed hash");
        let real = hasher().hash_password(b"correct horse").unwrap().to_string();
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!(format!("{:?}", parsed.params), format!("{:?}", real.params));
        assert!(hasher().verify_password(b"anything", &parsed).is_err());
    }

    #[test]
    fn a_hash_that_was_made_elsewhere_is_argon2id_and_bounded() {
        assert!(is_password_hash(NOBODY));
        let changed = |from: &str, to: &str| is_password_hash(&NOBODY.replace(from, to));
        for (from, to) in [
            ("argon2id", "argon2d"),
            ("argon2id", "argon2i"),
            ("v=19", "v=16"),
            ("m=19456", "m=1048576"),
            ("m=19456", "m=64"),
            ("t=2", "t=200"),
            ("p=1", "p=64"),
            ("$aGVhcnRoa2V5LW5vYm9keQ", "$YWE"),
            ("M0xzcqFTRmeFcCp3gwXQpV3OX/jdD6kSH1zVe7/8IXE", "M0xzcqFTRmeFcA"),
        ] {
            assert!(!changed(from, to), "{to}");
        }
        for wrong in ["", "correct horse", "$2b$12$abcdefghijklmnopqrstuv", &"$argon2id".repeat(50)] {
            assert!(!is_password_hash(wrong), "{wrong}");
        }
    }

    #[test]
    fn nobody_takes_the_places_of_the_others() {
        let places = Arc::new(Places::default());
        let mut held: Vec<Place> = std::iter::from_fn(|| places.take(source("10.0.0.1"))).take(100).collect();
        assert_eq!(held.len(), EACH);
        // One host with all addresses of its network.
        held.extend((0..100).filter_map(|n| places.take(source(&format!("2001:db8::{n:x}")))));
        assert_eq!(held.len(), EACH + PER_NETWORK);
        held.extend(places.take(source("2001:db8:0:1::1")));
        assert_eq!(held.len(), EACH + PER_NETWORK + 1);
        held.extend((0..100).filter_map(|n| places.take(source(&format!("10.0.1.{n}")))));
        assert_eq!(held.len(), STRANGERS);
        let account = Asker::Account(Subject::User(UserId::console()));
        let own: Vec<Place> = std::iter::from_fn(|| places.take(account.clone())).take(100).collect();
        assert_eq!(own.len(), EACH, "who is signed in does not wait behind strangers");
        drop((held, own));
        assert!(lock(&places.0).is_empty());
        assert!(places.take(source("10.0.0.1")).is_some());
    }
}
