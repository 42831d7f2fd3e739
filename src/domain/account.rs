//! People: accounts, household roles, and what makes a user name and a password acceptable. Hashing and sessions are
//! `service`'s; what a role may do to the hub is [`Role::may`].

use super::binding::Privilege;
use super::ids::BrandId;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// The id of an account: opaque, never reused, not a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(String);

impl UserId {
    /// An id from 16 fresh bytes (a UUID in text).
    #[must_use]
    pub fn from_uuid(id: uuid::Uuid) -> Self {
        UserId(id.simple().to_string())
    }
    /// The id by which the audit shows acts from the box's own configuration; no account ever has it.
    #[must_use]
    pub fn console() -> Self {
        UserId("console".to_owned())
    }
    /// Reads an id as it is shown.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        is_id.then(|| UserId(text.to_owned()))
    }
    /// The text, as in keys and answers.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for UserId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What somebody is in the house, or at a maker. What a role may do to the hub is [`Role::may`]; what it may do to a device
/// is a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sets the hub up, adds people, sees every device's existence, reads the audit.
    Owner,
    /// Claims devices and uses those it is bound to.
    Member,
    /// Only uses the devices it is bound to.
    Guest,
    /// A maker's developer: from listed networks only, and in a support session only.
    Developer,
    /// A maker's product manager: the same, and only to look.
    ProductManager,
    /// A maker's support: the same.
    Support,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 6] = [Role::Owner, Role::Member, Role::Guest, Role::Developer, Role::ProductManager, Role::Support];

    /// Whether it is one of a maker's people, and not of the house.
    #[must_use]
    pub fn is_vendor(self) -> bool {
        self.most_in_support().is_some()
    }

    /// How far a support session may go with it; `None` for the people of the house, for whom none is opened.
    #[must_use]
    pub fn most_in_support(self) -> Option<Privilege> {
        match self {
            Role::Owner | Role::Member | Role::Guest => None,
            Role::ProductManager => Some(Privilege::View),
            Role::Support => Some(Privilege::Operate),
            Role::Developer => Some(Privilege::Manage),
        }
    }
}

/// An account as stored. The password is only here as a hash.
#[derive(Clone, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// The name as the person wrote it, normalised.
    pub username: Username,
    /// How the person wants to be called.
    pub display_name: String,
    /// What it may do to the hub.
    pub role: Role,
    /// An argon2id hash in PHC text.
    pub password_hash: String,
    /// When it was made, ms since 1970.
    pub created_at: u64,
    /// Who made it: an account's id, or `setup`.
    pub created_by: String,
    /// Ended accounts stay, so that the audit can name them.
    pub ended: bool,
    /// For a maker's people: from where they may come; nowhere when empty. People of the house come from anywhere.
    #[serde(default)]
    pub networks: Vec<IpNet>,
    /// For a maker's people: whose devices they may be let in to.
    #[serde(default)]
    pub brand: Option<BrandId>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("id", &self.id).field("username", &self.username).field("role", &self.role).finish_non_exhaustive()
    }
}

/// A user name: 1–64 characters of any letters, digits and symbols, normalised (NFC), no control characters, no
/// white space at the ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Username(String);

/// Why a name or a password was not taken; the text is for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Not a user name.
    #[error("a user name has 1 to 64 characters, no line breaks, and no space at either end")]
    Username,
    /// Not a password.
    #[error("a password has 8 to 256 characters: letters, digits, symbols of any script, and spaces")]
    Password,
    /// The password is the name.
    #[error("the password must not be the user name")]
    PasswordIsName,
}

impl Username {
    /// Normalises and checks a name.
    ///
    /// # Errors
    /// [`AccountError::Username`].
    pub fn parse(text: &str) -> Result<Self, AccountError> {
        let name: String = text.nfc().take(65).collect();
        let len = name.chars().count();
        if len == 0 || len > 64 || name.trim() != name || name.chars().any(char::is_control) {
            return Err(AccountError::Username);
        }
        Ok(Username(name))
    }
    /// The name as shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// What two names that would be confused have in common (NFKC, lower case): one account per such form.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.nfkc().collect::<String>().to_lowercase().nfc().collect()
    }
}

/// Checks and normalises a password (NFC, as RFC 8265 §4.2 for OpaqueString). The result is what is hashed.
///
/// # Errors
/// [`AccountError::Password`], [`AccountError::PasswordIsName`].
pub fn normal_password(text: &str, name: &Username) -> Result<zeroize::Zeroizing<String>, AccountError> {
    let password = well_formed_password(text)?;
    if Username::parse(password.trim()).is_ok_and(|p| p.folded() == name.folded()) {
        return Err(AccountError::PasswordIsName);
    }
    Ok(password)
}

/// The same for nobody in particular.
///
/// # Errors
/// [`AccountError::Password`].
pub fn well_formed_password(text: &str) -> Result<zeroize::Zeroizing<String>, AccountError> {
    if text.len() > 256 * 4 {
        return Err(AccountError::Password);
    }
    let password = zeroize::Zeroizing::new(text.nfc().collect::<String>());
    let len = password.chars().count();
    if !(8..=256).contains(&len) || password.chars().any(char::is_control) {
        return Err(AccountError::Password);
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_of_any_script_are_taken() {
        for name in ["anna", "Ünal", "李雷", "o'brien", "a b", "🦔"] {
            assert!(Username::parse(name).is_ok(), "{name}");
        }
        for password in ["Käse & Brot 7", "12345678", "пароль-пароль", "  spaces count  "] {
            assert!(normal_password(password, &Username::parse("anna").unwrap()).is_ok(), "{password}");
        }
    }

    #[test]
    fn two_spellings_of_one_name_fold_together() {
        let a = Username::parse("Zo\u{eb}").unwrap();
        let b = Username::parse("zoe\u{308}").unwrap();
        assert_eq!(a.folded(), b.folded());
    }

    #[test]
    fn unusable_names_and_passwords_are_refused() {
        for name in ["", " anna", "a\nb", &"x".repeat(65)] {
            assert_eq!(Username::parse(name), Err(AccountError::Username), "{name:?}");
        }
        let anna = Username::parse("annaberg").unwrap();
        assert_eq!(normal_password("short", &anna).unwrap_err(), AccountError::Password);
        assert_eq!(normal_password(&"x".repeat(257), &anna).unwrap_err(), AccountError::Password);
        assert_eq!(normal_password("AnnaBerg", &anna).unwrap_err(), AccountError::PasswordIsName);
    }
}
