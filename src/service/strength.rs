//! How hard a password is to guess, by zxcvbn (D. L. Wheeler, USENIX Security 2016), and the one rule that hangs on it:
//! what is too easy is not taken, wherever a password is set. What characters a password may have is `domain::account`'s.

use super::passwords::{Asker, Place};
use super::{Refusal, Service};
use crate::domain::account::{Username, normal_password, well_formed_password};
use serde::Serialize;
use std::net::IpAddr;
use zeroize::Zeroizing;
use zxcvbn::{Score, zxcvbn};

/// The lowest score that is taken: "somewhat guessable", which holds against guessing through the hub's back-off.
const LEAST: Score = Score::Two;
/// Characters that are looked at: the work grows with the square, and what this many do not make strong, more will not.
const LOOKED_AT: usize = 64;

/// What is said of a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Strength {
    /// Whether it would be taken.
    pub acceptable: bool,
    /// 0 (guessed at once) to 4.
    pub score: u8,
    /// What is wrong with it; empty when nothing is.
    pub warning: String,
    /// What would make it better.
    pub suggestions: Vec<String>,
}

impl Service {
    /// Says how strong a password would be; nothing is kept. `username` is whose it would be, if that is known.
    ///
    /// # Errors
    /// [`Refusal::TooMany`] when this source has asked for more than it is answered.
    pub async fn check_password(&self, password: Zeroizing<String>, username: Option<&str>, source: IpAddr) -> Result<Strength, Refusal> {
        let name = username.and_then(|n| Username::parse(n).ok());
        let taken = match &name {
            Some(name) => normal_password(&password, name),
            None => well_formed_password(&password),
        };
        let place = self.hash_place(Asker::Source(source))?;
        let (password, refused) = match taken {
            Ok(normal) => (normal, None),
            Err(error) => (password, Some(error)),
        };
        let mut found = self.strength(&place, password, name.as_ref()).await?;
        if let Some(error) = refused {
            found.acceptable = false;
            found.warning = error.to_string();
        }
        Ok(found)
    }

    /// A new password for `name` as it is hashed; every use case that sets one goes through here.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with what is wrong and what would be better.
    pub(super) async fn new_password(&self, place: &Place, text: &str, name: &Username) -> Result<Zeroizing<String>, Refusal> {
        let password = normal_password(text, name)?;
        let found = self.strength(place, password.clone(), Some(name)).await?;
        if found.acceptable {
            return Ok(password);
        }
        let mut message = "this password is too easy to guess".to_owned();
        for (part, between) in std::iter::once((&found.warning, ". ")).chain(found.suggestions.iter().map(|s| (s, " "))) {
            if !part.is_empty() {
                message.push_str(if message.ends_with('.') { " " } else { between });
                message.push_str(part);
            }
        }
        Err(Refusal::Invalid(message))
    }

    async fn strength(&self, place: &Place, password: Zeroizing<String>, name: Option<&Username>) -> Result<Strength, Refusal> {
        let name = name.map(|n| n.as_str().to_owned()).unwrap_or_default();
        self.off_thread(place, move || judged(&password, &name)).await
    }
}

fn judged(password: &str, name: &str) -> Strength {
    let beginning: Zeroizing<String> = Zeroizing::new(password.chars().take(LOOKED_AT).collect());
    let found = zxcvbn(&beginning, &[name, "hearthkey"]);
    let feedback = found.feedback();
    Strength {
        acceptable: found.score() >= LEAST,
        score: found.score().into(),
        warning: feedback.and_then(zxcvbn::feedback::Feedback::warning).map(|w| w.to_string()).unwrap_or_default(),
        suggestions: feedback.map(|f| f.suggestions().iter().map(ToString::to_string).collect()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_guessed_first_is_not_taken_and_words_of_any_script_are() {
        for weak in ["12345678", "password", "P@ssw0rd", "qwertyuiop", "aaaaaaaaaaaa", "hearthkey1", "olivia1990"] {
            let found = judged(weak, "olivia");
            assert!(!found.acceptable, "{weak}");
            assert!(!found.warning.is_empty() || !found.suggestions.is_empty(), "{weak}");
        }
        for strong in ["correct horse battery", "Käsekuchen & 7 Äpfel", "мой кот любит рыбу", "我家的猫喜欢吃鱼和虾", "🦔🌵🎻🧭🪁🫖🧶🪴"]
        {
            assert!(judged(strong, "olivia").acceptable, "{strong}");
        }
        assert!(!judged("olivia-brandt-berg", "olivia-brandt-berg").acceptable);
    }

    #[test]
    fn a_long_text_is_looked_at_only_so_far() {
        assert_eq!(judged(&"ab1!".repeat(250_000), ""), judged(&"ab1!".repeat(16), ""));
    }
}
