//! Hashing and checking passwords: argon2id, off the runtime's threads, at most two at a time so that a flood of
//! sign-ins takes neither all memory nor all processors.

use super::{Refusal, Service};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Params, Version};
use zeroize::Zeroizing;

/// OWASP's second recommendation for argon2id: 19 MiB, 2 passes, 1 lane (Password Storage Cheat Sheet). It fits a box
/// of 512 MB with two at a time.
fn hasher() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Checked when an account does not exist, so that both cases take the same time.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$aGVhcnRoa2V5LW5vYm9keQ$M0xzcqFTRmeFcCp3gwXQpV3OX/jdD6kSH1zVe7/8IXE";

impl Service {
    pub(super) async fn hash_password(&self, password: Zeroizing<String>) -> Result<String, Refusal> {
        self.off_thread(move || hasher().hash_password(password.as_bytes()).map(|h| h.to_string()))
            .await?
            .map_err(|_| Refusal::Conflict("the password could not be hashed; try again".into()))
    }

    /// Whether `password` belongs to `hash`; with no hash the work is done all the same, and the answer is no.
    pub(super) async fn password_fits(&self, password: Zeroizing<String>, hash: Option<String>) -> Result<bool, Refusal> {
        let known = hash.is_some();
        let fits = self
            .off_thread(move || {
                let text = hash.unwrap_or_else(|| NOBODY.to_owned());
                PasswordHash::new(&text).is_ok_and(|parsed| hasher().verify_password(password.as_bytes(), &parsed).is_ok())
            })
            .await?;
        Ok(fits && known)
    }

    async fn off_thread<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Result<R, Refusal> {
        // A flood of sign-ins must not queue for hours: beyond these few the next one is asked to come back.
        let _place = self.hash_waiters.clone().try_acquire_owned().map_err(|_| Refusal::TooMany(2_000))?;
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

    #[test]
    fn the_stand_in_for_unknown_accounts_costs_as_much_as_a_real_one() {
        let parsed = PasswordHash::new(NOBODY).expect("a well-formed hash");
        let real = hasher().hash_password(b"correct horse").unwrap().to_string();
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!(format!("{:?}", parsed.params), format!("{:?}", real.params));
        assert!(hasher().verify_password(b"anything", &parsed).is_err());
    }
}
