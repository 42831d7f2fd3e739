//! Passwords of a maker's people, and of people made by the system account: argon2id, off the runtime's threads, and no
//! more at a time than memory is set aside for. What is too easy to guess is not taken.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use std::sync::Arc;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;
use zxcvbn::{Score, zxcvbn};

use crate::domain::account::{AccountError, Username, normal_password};
use crate::net::problem::Problem;

/// Hashes at a time: 19 MiB each.
const AT_A_TIME: usize = 4;
/// Who waits for one at most.
const WAITING: usize = 64;
/// The lowest score that is taken, as at a hub.
const LEAST: Score = Score::Two;
/// Characters that are looked at for the score.
const LOOKED_AT: usize = 64;
/// Checked when an account does not exist, so that both cases take the same time.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$aGVhcnRoa2V5LW5vYm9keQ$M0xzcqFTRmeFcCp3gwXQpV3OX/jdD6kSH1zVe7/8IXE";

/// Where passwords are hashed and checked.
#[derive(Clone, Debug)]
pub struct Passwords {
    places: Arc<Semaphore>,
    at_a_time: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Passwords { places: Arc::new(Semaphore::new(WAITING)), at_a_time: Arc::new(Semaphore::new(AT_A_TIME)) }
    }
}

/// OWASP's second recommendation for argon2id, as at a hub: 19 MiB, 2 passes, 1 lane.
fn hasher() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

impl Passwords {
    /// The hash (PHC text) of a new password of `name`.
    ///
    /// # Errors
    /// `invalid` when it is none, or too easy to guess; `too_many` when too many wait.
    pub async fn hash(&self, password: &str, name: &Username) -> Result<String, Problem> {
        let password = normal_password(password, name).map_err(|error: AccountError| Problem::invalid(format!("password: {error}")))?;
        let name = name.as_str().to_owned();
        let made = self.off_thread(move || {
            let looked_at: String = password.chars().take(LOOKED_AT).collect();
            if zxcvbn(&Zeroizing::new(looked_at), &[&name]).score() < LEAST {
                return Err(Problem::invalid("password: it is too easy to guess").next("Take several words that do not belong together."));
            }
            hasher().hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(|_| Problem::internal())
        });
        made.await?
    }

    /// Whether `password` belongs to `hash`. With no hash the work is done all the same, and the answer is no.
    ///
    /// # Errors
    /// `too_many` when too many wait.
    pub async fn fits(&self, password: Zeroizing<String>, hash: Option<String>) -> Result<bool, Problem> {
        let known = hash.is_some();
        let fits = self.off_thread(move || {
            let text = hash.unwrap_or_else(|| NOBODY.to_owned());
            PasswordHash::new(&text).is_ok_and(|parsed| hasher().verify_password(password.as_bytes(), &parsed).is_ok())
        });
        Ok(fits.await? && known)
    }

    async fn off_thread<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Result<R, Problem> {
        let _place = self.places.clone().try_acquire_owned().map_err(|_| Problem::too_many(2_000))?;
        let permit = self.at_a_time.clone().acquire_owned().await.map_err(|_| Problem::internal())?;
        let worked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        worked.await.map_err(|_| Problem::internal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_checked_by_its_hash_and_nobody_has_one() {
        let passwords = Passwords::default();
        let name = Username::parse("Ada").unwrap();
        let hash = passwords.hash("Käse, Brot und 7 Igel", &name).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        let fits = async |text: &str, hash| passwords.fits(Zeroizing::new(text.to_owned()), hash).await.unwrap();
        assert!(fits("Käse, Brot und 7 Igel", Some(hash.clone())).await);
        assert!(!fits("Käse, Brot und 8 Igel", Some(hash)).await);
        assert!(!fits("Käse, Brot und 7 Igel", None).await);
        for easy in ["short", "password1234", "12345678", "ada"] {
            assert_eq!(passwords.hash(easy, &name).await.unwrap_err().code, "invalid", "{easy}");
        }
    }
}
