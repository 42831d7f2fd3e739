//! The proof that a restored hub would do: asked of a hub that was started over it for this alone.

use super::content::Summary;
use super::samples::holds;
use crate::domain::account::{Role, User};
use crate::domain::twin::Twin;
use crate::service::passwords::is_password_hash;
use crate::service::{Refusal, Service, SignIn};
use crate::store::tables::UserName;
use crate::store::{Read, Record, StoreError};
use argon2::password_hash::phc::PasswordHash;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr};
use zeroize::Zeroizing;

/// Records looked at, at a time.
const BLOCK: usize = 200;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// What.
    pub what: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What was seen.
    pub detail: String,
}

impl Service {
    /// Looks at what a home needs after a restore: that people can sign in (`person`'s password is tried when it is given),
    /// that twins can be read, that the policy decides as it did when the backup was made (`at`, ms since 1970), and that
    /// the audit is whole.
    pub async fn prove(&self, summary: &Summary, at: u64, person: Option<(String, Zeroizing<String>)>) -> Vec<Proof> {
        let mut all = vec![self.prove_accounts()];
        if let Some((name, password)) = person {
            all.push(self.prove_sign_in(&name, password).await);
        }
        all.push(self.prove_twins(summary));
        all.push(self.prove_decisions(summary, at));
        all.push(match self.verify_audit() {
            Ok(seen) => Proof { what: "audit", holds: true, detail: format!("the chain of {} entries holds", seen.entries) },
            Err(error) => Proof { what: "audit", holds: false, detail: error.to_string() },
        });
        all
    }

    fn prove_accounts(&self) -> Proof {
        let looked = self.store.read::<_, StoreError>(|v| {
            let (mut people, mut owners, mut broken, mut after) = (0, 0, Vec::new(), Vec::new());
            loop {
                let keys = v.keys_after(<User as Record>::TABLE, b"", &after, BLOCK)?;
                let Some(last) = keys.last() else { return Ok((people, owners, broken)) };
                after = last.clone();
                for key in keys {
                    let Some(user) = v.get::<User>(&key)? else { continue };
                    if user.ended {
                        continue;
                    }
                    people += 1;
                    owners += usize::from(user.role == Role::Owner);
                    let found = v.get::<UserName>(user.username.folded().as_bytes())?.is_some_and(|n| n.id == user.id);
                    let hash = is_password_hash(&user.password_hash) || PasswordHash::new(&user.password_hash).is_ok();
                    if !found || !hash {
                        broken.push(user.username.as_str().to_owned());
                    }
                }
            }
        });
        let what = "accounts";
        match looked {
            Ok((people, owners, broken)) if broken.is_empty() && owners > 0 => {
                let detail = format!("{people} people, {owners} of them owners, each found by name and with a password hash");
                Proof { what, holds: true, detail }
            }
            Ok((_, 0, _)) => Proof { what, holds: false, detail: "there is no owner: nobody could sign in to put things right".into() },
            Ok((_, _, broken)) => Proof { what, holds: false, detail: format!("these could not sign in: {}", broken.join(", ")) },
            Err(error) => Proof { what, holds: false, detail: error.to_string() },
        }
    }

    async fn prove_sign_in(&self, name: &str, password: Zeroizing<String>) -> Proof {
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let given = SignIn { username: name, password, second_factor: None, source, via: "rehearsal", agent: "rehearsal" };
        let (holds, detail) = match self.open_session(given).await {
            Ok(_) => (true, format!("{name} was let in with the password")),
            Err(Refusal::SecondFactorRequired) => (true, format!("{name}'s password is right; the second factor would be asked for")),
            Err(error) => (false, format!("{name} was not let in: {error}")),
        };
        Proof { what: "sign-in", holds, detail }
    }

    fn prove_twins(&self, summary: &Summary) -> Proof {
        let table = <Twin as Record>::TABLE;
        let looked = self.store.read::<_, StoreError>(|v| {
            let (mut count, mut after) = (0u64, Vec::new());
            loop {
                let keys = v.keys_after(table, b"", &after, BLOCK)?;
                let Some(last) = keys.last() else { return Ok(count) };
                after = last.clone();
                for key in keys {
                    count += u64::from(v.get::<Twin>(&key)?.is_some());
                }
            }
        });
        let meant = summary.tables.get(table.name()).map_or(0, |sum| sum.rows);
        match looked {
            Ok(count) if count == meant => {
                Proof { what: "twins", holds: true, detail: format!("{count}, byte for byte as they were, and readable") }
            }
            Ok(count) => Proof { what: "twins", holds: false, detail: format!("{count} of {meant} are there") },
            Err(error) => Proof { what: "twins", holds: false, detail: error.to_string() },
        }
    }

    fn prove_decisions(&self, summary: &Summary, at: u64) -> Proof {
        let (what, all) = ("rights", summary.samples.len());
        let mut other = Vec::new();
        for sample in &summary.samples {
            match self.store.read(|v| holds(v, sample, at)) {
                Ok(true) => {}
                Ok(false) => other.push(format!("{} on {}", sample.subject, sample.device)),
                Err(error) => return Proof { what, holds: false, detail: error.to_string() },
            }
        }
        let detail = match other.first() {
            None => format!("{all} of the rights were asked, each for five actions: all decided as before"),
            Some(first) => format!("{} of {all} are decided otherwise, the first: {first}", other.len()),
        };
        Proof { what, holds: other.is_empty(), detail }
    }
}
