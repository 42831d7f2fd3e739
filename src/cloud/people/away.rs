//! Somebody away from home, by a token that they made at their hub: who that is, and which of their rights stand. Everything
//! is read anew for each request from what the hub has mirrored; a mark ends it at once, whichever side made it.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use deadpool_postgres::Object;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio_postgres::Row;

use super::seen::Right;
use crate::cloud::makers::Makers;
use crate::cloud::reply::Refused;
use crate::domain::ids::HubId;
use crate::domain::mirror::wire::Consent;
use crate::net::problem::Problem;

/// What the token begins with; then the hub, a dot, and 43 characters.
const PREFIX: &str = "hka1.";
const SECRET: usize = 43;

/// Somebody away from home.
#[derive(Clone, Debug)]
pub(in crate::cloud) struct Person {
    /// At which hub.
    pub(in crate::cloud) hub: HubId,
    /// What people call it.
    pub(in crate::cloud) hub_name: String,
    /// When it was last heard of, ms since 1970.
    pub(in crate::cloud) hub_seen: Option<u64>,
    /// What its owner has agreed to.
    pub(in crate::cloud) consent: BTreeSet<Consent>,
    /// The account's id.
    pub(in crate::cloud) user: String,
    /// Its row.
    pub(in crate::cloud) account: Value,
    /// `owner`, `member` or `guest`.
    pub(in crate::cloud) role: String,
    /// The token's id, and its generation.
    pub(in crate::cloud) away: (String, u64),
    /// Until when it serves.
    pub(in crate::cloud) until: Option<u64>,
}

impl Person {
    /// The home has agreed to this, or the person is told that it has not.
    ///
    /// # Errors
    /// 403 `not_agreed`.
    pub(in crate::cloud) fn require(&self, consent: Consent) -> Result<(), Refused> {
        if self.consent.contains(&consent) {
            return Ok(());
        }
        let problem = Problem::new(403, "not_agreed", "This home has not agreed to that from away")
            .next("An owner can agree to it at home: on the hub's page, under Cloud.");
        Err(problem.into())
    }

    /// Its subject, as rights and marks name it.
    #[must_use]
    pub(in crate::cloud) fn subject(&self) -> String {
        format!("user:{}", self.user)
    }
}

/// Which hub a token names.
#[must_use]
pub(in crate::cloud) fn hub_of(token: &str) -> Option<HubId> {
    let (hub, secret) = token.strip_prefix(PREFIX)?.split_once('.')?;
    let whole = secret.len() == SECRET && secret.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    HubId::parse(hub).ok().filter(|_| whole)
}

/// A row that no mark has ended, with its generation.
fn standing(row: &Row) -> Option<(u64, Value)> {
    let (generation, mark): (i64, Option<i64>) = (row.get("gen"), row.get("mark"));
    let body = serde_json::from_str(row.get("body")).ok()?;
    (generation > mark.unwrap_or(0)).then_some((generation.unsigned_abs(), body))
}

/// Rows with the marks on them.
pub(super) const STANDING: &str = "SELECT r.key, r.gen, r.body, m.gen AS mark FROM rows r \
     LEFT JOIN marks m ON m.hub_id = r.hub_id AND m.kind = r.kind AND m.key = r.key WHERE r.hub_id = $1";

impl Makers {
    /// Who holds a token, if it stands.
    ///
    /// # Errors
    /// `signed_out`: one answer for every reason.
    pub(in crate::cloud) async fn person(&self, token: &str) -> Result<Person, Refused> {
        let out = || Refused::from(Problem::signed_out().next("Make a new key at home, on your page at the hub."));
        let (hub, now) = (hub_of(token).ok_or_else(out)?, self.now());
        let id = hub.as_bytes().as_slice();
        let hash = HEXLOWER.encode(&Sha256::digest(token.as_bytes()));
        let client = self.shards.of_hub(&hub).await?;
        let statement =
            client.prepare_cached("SELECT name, consent, synced_at FROM hubs WHERE hub_id = $1 AND unlinked_at IS NULL").await?;
        let at_hub = client.query_opt(&statement, &[&id]).await?.ok_or_else(out)?;
        let statement = client.prepare_cached(&format!("{STANDING} AND r.kind = 'away' AND position($2 in r.body) > 0")).await?;
        let rows = client.query(&statement, &[&id, &hash]).await?;
        let found = rows.iter().find_map(|row| {
            let (generation, body) = standing(row)?;
            let until = body.get("until").and_then(Value::as_u64);
            let fits = body.get("hash").and_then(Value::as_str).is_some_and(|known| known.as_bytes().ct_eq(hash.as_bytes()).into());
            let user = body.get("user").and_then(Value::as_str)?.to_owned();
            (fits && until.is_none_or(|until| now < until)).then(|| (row.get::<_, String>("key"), generation, user, until))
        });
        let (away, generation, user, until) = found.ok_or_else(out)?;
        let statement = client.prepare_cached(&format!("{STANDING} AND r.kind = 'user' AND r.key = $2")).await?;
        let row = client.query_opt(&statement, &[&id, &user]).await?;
        let (_, account) = row.as_ref().and_then(standing).ok_or_else(out)?;
        let role = account.get("role").and_then(Value::as_str).unwrap_or("guest").to_owned();
        Ok(Person {
            hub,
            hub_name: at_hub.get(0),
            consent: consents(at_hub.get(1)),
            hub_seen: at_hub.get::<_, Option<i64>>(2).map(i64::unsigned_abs),
            user,
            account,
            role,
            away: (away, generation),
            until,
        })
    }

    /// The rights of a person that stand and are in force, with the devices' rows.
    pub(in crate::cloud) async fn devices_of(&self, person: &Person) -> Result<Vec<(Right, Value)>, Refused> {
        let client = self.shards.of_hub(&person.hub).await?;
        let (id, now) = (person.hub.as_bytes().as_slice(), self.now());
        let statement = client.prepare_cached(&format!("{STANDING} AND r.kind = 'binding' AND right(r.key, $3) = $2")).await?;
        let ending = format!("/{}", person.subject());
        let length = i32::try_from(ending.len()).unwrap_or(i32::MAX);
        let rows = client.query(&statement, &[&id, &ending, &length]).await?;
        let rights: Vec<Right> = rows.iter().filter_map(standing).filter_map(|(_, body)| Right::read(&body, now)).collect();
        let ids: Vec<&str> = rights.iter().map(|right| right.device.as_str()).collect();
        let statement = client.prepare_cached(&format!("{STANDING} AND r.kind = 'device' AND r.key = ANY($2)")).await?;
        let rows = client.query(&statement, &[&id, &ids]).await?;
        let mut devices: std::collections::HashMap<String, Value> =
            rows.iter().filter_map(|row| standing(row).map(|(_, body)| (row.get("key"), body))).collect();
        let mut all: Vec<(Right, Value)> =
            rights.into_iter().filter_map(|right| devices.remove(&right.device).map(|body| (right, body))).collect();
        all.sort_by(|a, b| a.0.device.cmp(&b.0.device));
        Ok(all)
    }

    /// A person's right to one device, with the device's row.
    ///
    /// # Errors
    /// `not_found`: there is none, or none that they may see.
    pub(in crate::cloud) async fn device_of(&self, person: &Person, device: &str) -> Result<(Right, Value), Refused> {
        let client = self.shards.of_hub(&person.hub).await?;
        let right = standing_row(&client, &person.hub, "binding", &format!("{device}/{}", person.subject())).await?;
        let right = right.and_then(|(_, body)| Right::read(&body, self.now())).filter(|right| right.device == device);
        let body = standing_row(&client, &person.hub, "device", device).await?;
        match (right, body) {
            (Some(right), Some((_, body))) => Ok((right, body)),
            _ => Err(Problem::not_found().into()),
        }
    }

    /// What was mirrored of a device's state.
    pub(in crate::cloud) async fn twin_of(&self, hub: &HubId, device: &str) -> Result<Option<Value>, Refused> {
        let client = self.shards.of_hub(hub).await?;
        Ok(standing_row(&client, hub, "twin", device).await?.map(|(_, body)| body))
    }
}

/// A row that stands, with its generation.
pub(super) async fn standing_row(client: &Object, hub: &HubId, kind: &str, key: &str) -> Result<Option<(u64, Value)>, Refused> {
    let statement = client.prepare_cached(&format!("{STANDING} AND r.kind = $2 AND r.key = $3")).await?;
    let row = client.query_opt(&statement, &[&hub.as_bytes().as_slice(), &kind, &key]).await?;
    Ok(row.as_ref().and_then(standing))
}

/// All rights to a device that stand, with their keys and generations.
pub(super) async fn rights_to(client: &Object, hub: &HubId, device: &str) -> Result<Vec<(String, u64, Value)>, Refused> {
    let statement =
        client.prepare_cached(&format!("{STANDING} AND r.kind = 'binding' AND starts_with(r.key, $2) ORDER BY r.key LIMIT 1000")).await?;
    let rows = client.query(&statement, &[&hub.as_bytes().as_slice(), &format!("{device}/")]).await?;
    Ok(rows.iter().filter_map(|row| standing(row).map(|(generation, body)| (row.get("key"), generation, body))).collect())
}

/// What an owner has agreed to, as it is kept.
#[must_use]
pub(in crate::cloud) fn consents(text: &str) -> BTreeSet<Consent> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    words.filter_map(|word| serde_json::from_value(word.into()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_hub_and_nothing_else_is_one() {
        let hub = HubId::from_bytes([7; 16]);
        let good = format!("hka1.{hub}.{}", "a".repeat(43));
        assert_eq!(hub_of(&good), Some(hub));
        for bad in [good.replace("hka1", "hka2"), good.replace('.', "-"), format!("{good}a"), good.replace("aaa", "a%a"), String::new()] {
            assert_eq!(hub_of(&bad), None, "{bad}");
        }
    }

    #[test]
    fn consent_is_read_in_whatever_list_it_stands() {
        let both = BTreeSet::from([Consent::Twins, Consent::PeopleRequests]);
        for text in ["twins people_requests", "[\"people_requests\",\"twins\"]", "twins,people_requests,unheard_of"] {
            assert_eq!(consents(text), both, "{text}");
        }
    }
}
