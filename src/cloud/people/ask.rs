//! What people away from home, and the system account, ask of a hub. The cloud asks and the hub decides: what cannot succeed
//! is refused here already, and all the rest goes down as a request by a named subject, for a while only. Ending a right, or
//! the key that is being used, is a mark: it holds here at once.

use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio_postgres::Row;
use zeroize::Zeroizing;

use super::away::{Person, rights_to, standing_row};
use super::seen::Right;
use super::services::Service;
use super::tokens::fresh_id;
use crate::cloud::makers::Makers;
use crate::cloud::makers::acts;
use crate::cloud::reply::Refused;
use crate::domain::account::Username;
use crate::domain::binding::Privilege;
use crate::domain::ids::HubId;
use crate::domain::mirror::wire::{Consent, ItemBody, Kind, Mark, Request, Verb};
use crate::net::problem::Problem;

/// Requests of one person that may wait at the same time.
const WAITING_MAX: i64 = 100;
/// Members of one desire at most.
const MEMBERS_MAX: usize = 64;
/// For how long a command is worth doing, in s: now or never.
const COMMAND_S: u64 = 30;
/// The same for a desire, in s, unless it says otherwise.
const DESIRE_S: u64 = 300;
/// The same for a right that is given, and an account that is made: until the hub is back, within a week.
const WEEK_S: u64 = 7 * 24 * 3600;

/// How a request stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cloud) struct Asked {
    /// Its id.
    pub(in crate::cloud) id: String,
    /// `waiting`, `done` or `refused`.
    pub(in crate::cloud) state: String,
    /// A word for programs, when the hub has answered.
    pub(in crate::cloud) code: String,
    /// For a person.
    pub(in crate::cloud) detail: String,
}

impl Asked {
    fn waiting(id: String) -> Asked {
        Asked { id, state: "waiting".to_owned(), code: String::new(), detail: String::new() }
    }

    fn read(row: &Row, now: u64) -> Asked {
        let (state, ends_at): (String, Option<i64>) = (row.get("state"), row.get("ends_at"));
        let mut asked = Asked { id: row.get("id"), state, code: row.get("code"), detail: row.get("detail") };
        if asked.state == "waiting" && ends_at.is_some_and(|end| end.unsigned_abs() <= now) {
            asked.state = "refused".to_owned();
            asked.code = "expired".to_owned();
            asked.detail = "The hub was not there in time; nothing was done.".to_owned();
        }
        asked
    }
}

/// What is desired of a device's attributes.
pub(in crate::cloud) struct Desire<'a> {
    pub(in crate::cloud) device: &'a str,
    pub(in crate::cloud) patch: &'a Value,
    pub(in crate::cloud) ttl_s: Option<u64>,
}

/// A right to give.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cloud) struct Grant {
    username: String,
    privilege: Privilege,
    #[serde(default)]
    until: Option<u64>,
}

/// An account to make at a home.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cloud) struct NewUser {
    username: String,
    #[serde(default)]
    display_name: String,
    role: String,
    #[serde(deserialize_with = "super::tokens::secret")]
    password: Zeroizing<String>,
}

impl Makers {
    /// Wishes attributes of a device.
    ///
    /// # Errors
    /// `not_found`, `not_allowed`, `not_agreed`, `invalid`, `too_many`.
    pub(in crate::cloud) async fn desire(&self, person: &Person, desire: &Desire<'_>) -> Result<Asked, Refused> {
        let (right, _) = self.device_of(person, desire.device).await?;
        person.require(Consent::Requests)?;
        require(&right, Privilege::Operate)?;
        let members = desire.patch.as_object().ok_or_else(|| Problem::invalid("Send an object: attributes and their values."))?;
        if members.is_empty() || members.len() > MEMBERS_MAX {
            return Err(Problem::invalid("Name 1 to 64 attributes.").into());
        }
        for name in members.keys() {
            covers(&right, name)?;
        }
        let ttl_s = desire.ttl_s.unwrap_or(DESIRE_S);
        if !(5..=86_400).contains(&ttl_s) {
            return Err(Problem::invalid("ttl_s: 5 to 86400 seconds").into());
        }
        self.ask(person, Verb::Desire, Some(desire.device), desire.patch.clone(), ttl_s).await
    }

    /// Runs a command of a device, now or never.
    ///
    /// # Errors
    /// The same.
    pub(in crate::cloud) async fn command(
        &self,
        person: &Person,
        device: &str,
        name: &str,
        params: Option<&Value>,
    ) -> Result<Asked, Refused> {
        let (right, _) = self.device_of(person, device).await?;
        person.require(Consent::Requests)?;
        require(&right, Privilege::Operate)?;
        covers(&right, name)?;
        if params.is_some_and(|params| !params.is_object()) {
            return Err(Problem::invalid("params: an object").into());
        }
        let value = json!({"name": name, "params": params.cloned().unwrap_or_else(|| json!({}))});
        self.ask(person, Verb::Command, Some(device), value, COMMAND_S).await
    }

    /// Gives a right to somebody of the home.
    ///
    /// # Errors
    /// The same.
    pub(in crate::cloud) async fn grant(&self, person: &Person, device: &str, grant: &Grant) -> Result<Asked, Refused> {
        let (right, _) = self.device_of(person, device).await?;
        person.require(Consent::Grants)?;
        require(&right, Privilege::Administer)?;
        match grant.privilege {
            Privilege::Administer => {
                let refused = Problem::not_allowed("To administer a device is given at home only.").next("Give it on the hub's page.");
                return Err(refused.into());
            }
            Privilege::Manage => person.require(Consent::Critical)?,
            Privilege::View | Privilege::Operate => {}
        }
        if grant.until.is_some_and(|until| until <= self.now()) {
            return Err(Problem::invalid("until: it lies in the past").into());
        }
        let username = Username::parse(&grant.username).map_err(|error| Problem::invalid(format!("username: {error}")))?;
        let mut value = json!({"username": username, "privilege": grant.privilege});
        if let (Some(until), Some(members)) = (grant.until, value.as_object_mut()) {
            members.insert("until".to_owned(), until.into());
        }
        self.ask(person, Verb::Grant, Some(device), value, WEEK_S).await
    }

    async fn ask(&self, person: &Person, verb: Verb, device: Option<&str>, value: Value, ttl_s: u64) -> Result<Asked, Refused> {
        let request = Request {
            by: person.user.clone(),
            via: format!("away:{}", person.away.0),
            verb,
            device: device.map(str::to_owned),
            value,
            at: self.now(),
            ttl_s,
        };
        self.ask_as(&person.hub, request).await
    }

    async fn ask_as(&self, hub: &HubId, request: Request) -> Result<Asked, Refused> {
        let (id, now) = (fresh_id().map_err(|error| Refused::fault("no randomness", &error))?, self.now());
        let mut client = self.shards.of_hub(hub).await?;
        let tx = client.transaction().await?;
        let waiting: i64 = tx
            .query_one(
                "SELECT count(*) FROM items WHERE hub_id = $1 AND state = 'waiting' AND by_ = $2 AND coalesce(ends_at, $3) >= $3",
                &[&hub.as_bytes().as_slice(), &request.by, &now.cast_signed()],
            )
            .await?
            .get(0);
        if waiting >= WAITING_MAX {
            let problem = Problem::too_many(60_000).detail("100 requests wait for this hub already.");
            return Err(problem.into());
        }
        self.send_in(&tx, hub, &id, &ItemBody::Request(request)).await?;
        tx.commit().await?;
        Ok(Asked::waiting(id))
    }

    /// How a request of this subject stands.
    ///
    /// # Errors
    /// `not_found`, also for what somebody else has asked.
    pub(in crate::cloud) async fn asked(&self, hub: &HubId, by: &str, id: &str) -> Result<Asked, Refused> {
        let client = self.shards.of_hub(hub).await?;
        let row = client
            .query_opt(
                "SELECT id, state, code, detail, ends_at FROM items WHERE hub_id = $1 AND id = $2 AND kind = 'request' AND by_ = $3",
                &[&hub.as_bytes().as_slice(), &id, &by],
            )
            .await?;
        row.map(|row| Asked::read(&row, self.now())).ok_or_else(|| Problem::not_found().into())
    }

    /// Who has rights to a device: for who administers it.
    ///
    /// # Errors
    /// `not_found`, `not_allowed`.
    pub(in crate::cloud) async fn rights(&self, person: &Person, device: &str) -> Result<Vec<Value>, Refused> {
        let (right, _) = self.device_of(person, device).await?;
        require(&right, Privilege::Administer)?;
        let client = self.shards.of_hub(&person.hub).await?;
        let mut shown = Vec::new();
        let refused = refused_on(&client, &person.hub, device).await?;
        for (key, _, body) in rights_to(&client, &person.hub, device).await? {
            let subject = body.get("subject").and_then(Value::as_str).unwrap_or_default();
            let mut right = json!({"subject": subject, "terms": body.get("terms"), "granted_at": body.get("granted_at")});
            if let Some(id) = subject.strip_prefix("user:")
                && let Some((_, account)) = standing_row(&client, &person.hub, "user", id).await?
                && let Some(members) = right.as_object_mut()
            {
                members.insert("username".to_owned(), account.get("username").cloned().unwrap_or(Value::Null));
            }
            // Somebody wished to end it from away, and the hub did not.
            if let (Some(refusal), Some(members)) = (refused.get(&key), right.as_object_mut()) {
                members.insert("refused".to_owned(), refusal.clone());
            }
            shown.push(right);
        }
        Ok(shown)
    }

    /// Ends a right, at once: one's own, or anybody's by who administers the device.
    ///
    /// # Errors
    /// `not_found`, `not_allowed`; `conflict` when nobody would administer the device any more.
    pub(in crate::cloud) async fn take_away(&self, person: &Person, device: &str, subject: &str) -> Result<Mark, Refused> {
        let (right, _) = self.device_of(person, device).await?;
        if subject != person.subject() {
            require(&right, Privilege::Administer)?;
        }
        let client = self.shards.of_hub(&person.hub).await?;
        let rights = rights_to(&client, &person.hub, device).await?;
        drop(client);
        let key = format!("{device}/{subject}");
        let (_, generation, body) = rights.iter().find(|(known, _, _)| *known == key).ok_or_else(Problem::not_found)?;
        let administers = |body: &Value| body.pointer("/terms/privilege").and_then(Value::as_str) == Some("administer");
        if administers(body) && !rights.iter().any(|(known, _, body)| *known != key && administers(body)) {
            let problem =
                Problem::conflict("Nobody would administer the device any more.").next("Let somebody else administer it first, at home.");
            return Err(problem.into());
        }
        let mark = Mark { kind: Kind::Binding, key, generation: *generation, at: self.now(), by: person.subject() };
        self.raise(&person.hub, &mark).await?;
        Ok(mark)
    }

    /// Ends the key that is being used, at once.
    ///
    /// # Errors
    /// The database's.
    pub(in crate::cloud) async fn sign_out_away(&self, person: &Person) -> Result<(), Refused> {
        let (key, generation) = person.away.clone();
        self.raise(&person.hub, &Mark { kind: Kind::Away, key, generation, at: self.now(), by: person.subject() }).await
    }

    /// Whether a linked hub has a device of a brand.
    ///
    /// # Errors
    /// The database's.
    pub(in crate::cloud) async fn has_brand(&self, hub: &HubId, brand: &str) -> Result<bool, Refused> {
        let client = self.shards.of_hub(hub).await?;
        let row = client
            .query_opt(
                "SELECT 1 FROM hubs h WHERE hub_id = $1 AND unlinked_at IS NULL AND EXISTS (SELECT 1 FROM fleet f \
                 JOIN rows r ON r.hub_id = f.hub_id AND r.kind = 'device' AND r.key = f.device_id \
                 LEFT JOIN marks m ON m.hub_id = f.hub_id AND m.kind = 'device' AND m.key = f.device_id \
                 WHERE f.hub_id = h.hub_id AND f.brand = $2 AND r.gen > coalesce(m.gen, 0))",
                &[&hub.as_bytes().as_slice(), &brand],
            )
            .await?;
        Ok(row.is_some())
    }

    /// Asks a home for an account, for a program of a maker. The hub hears a hash, never the password.
    ///
    /// # Errors
    /// `not_found` for a home that has no device of the brand; `not_agreed`; `invalid`.
    pub(in crate::cloud) async fn ask_for_user(&self, service: &Service, hub: &HubId, new: &NewUser) -> Result<Asked, Refused> {
        let nowhere = || Refused::from(Problem::not_found().detail("No such hub is linked here that has a device of your brand."));
        if !self.has_brand(hub, service.brand.as_str()).await? {
            return Err(nowhere());
        }
        let client = self.shards.of_hub(hub).await?;
        let row = client.query_opt("SELECT consent FROM hubs WHERE hub_id = $1", &[&hub.as_bytes().as_slice()]).await?;
        drop(client);
        let consent = super::away::consents(row.ok_or_else(nowhere)?.get(0));
        if !consent.contains(&Consent::PeopleRequests) {
            let problem = Problem::new(403, "not_agreed", "This home makes its accounts itself")
                .next("An owner can agree to accounts from the cloud: on the hub's page, under Cloud.");
            return Err(problem.into());
        }
        if !matches!(new.role.as_str(), "guest" | "member") {
            return Err(Problem::invalid("role: guest or member; owners are made at home").into());
        }
        let username = Username::parse(&new.username).map_err(|error| Problem::invalid(format!("username: {error}")))?;
        if new.display_name.chars().count() > 64 || new.display_name.chars().any(char::is_control) {
            return Err(Problem::invalid("display_name: at most 64 characters, no line breaks").into());
        }
        let hash = self.passwords.hash(&new.password, &username).await?;
        let value = json!({"username": username, "display_name": new.display_name, "role": new.role, "password_hash": hash});
        let request = Request {
            by: format!("service:{}", service.id),
            via: service.doer.via.clone(),
            verb: Verb::User,
            device: None,
            value,
            at: self.now(),
            ttl_s: WEEK_S,
        };
        let asked = self.ask_as(hub, request).await?;
        let mut client = self.shards.of_hub(hub).await?;
        let tx = client.transaction().await?;
        let act = service.doer.did("user.ask", format!("hub:{hub}"), format!("{} as {}", username.as_str(), new.role));
        acts::append(&tx, self.now(), act).await?;
        tx.commit().await?;
        Ok(asked)
    }
}

/// The rights on a device that a hub has refused to end, by their keys.
async fn refused_on(client: &tokio_postgres::Client, hub: &HubId, device: &str) -> Result<BTreeMap<String, Value>, Refused> {
    let statement = "SELECT key, code, at FROM refused_marks WHERE hub_id = $1 AND kind = 'binding' AND starts_with(key, $2)";
    let rows = client.query(statement, &[&hub.as_bytes().as_slice(), &format!("{device}/")]).await?;
    let refusal = |row: &Row| json!({"code": row.get::<_, String>(1), "at": row.get::<_, i64>(2)});
    Ok(rows.iter().map(|row| (row.get(0), refusal(row))).collect())
}

fn require(right: &Right, least: Privilege) -> Result<(), Refused> {
    if right.terms.privilege >= least {
        return Ok(());
    }
    Err(Problem::not_allowed("Your right to this device does not go that far.").next("Ask who administers it for more.").into())
}

fn covers(right: &Right, name: &str) -> Result<(), Refused> {
    if name.is_empty() || name.len() > 64 {
        return Err(Problem::invalid("A name has 1 to 64 characters.").into());
    }
    if right.covers(name) {
        return Ok(());
    }
    Err(Problem::not_allowed("Your right is to other functions of this device.").next("Ask who administers it for more.").into())
}
