//! What both sides say: the hub at its door, the cloud in its database.

use super::acts::{COLDEST, FAR};
use super::doors::Doors;
use super::ledger::Gift;
use super::machines::Machines;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What stands on one side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Devices and their names.
    pub devices: BTreeMap<String, String>,
    /// Accounts: id and name.
    pub people: BTreeMap<String, String>,
    /// By device and subject: privilege, and until when.
    pub rights: BTreeMap<(String, String), (String, Option<u64>)>,
    /// Version and what is desired.
    pub twins: BTreeMap<String, (u64, Value)>,
}

/// What only the cloud's database tells.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    pub keys: BTreeSet<String>,
    /// Requests and how they stand.
    pub requests: BTreeMap<String, String>,
    pub codes: BTreeMap<String, i64>,
    pub waiting: i64,
    /// Rows at or under their mark.
    pub under_a_mark: i64,
    pub marks: BTreeMap<(String, String), i64>,
    /// Kinds of which the copies differed at some time.
    pub differed: i64,
    pub conflicts: i64,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What the hub says; `None` when it does not answer.
pub async fn of_hub(doors: &Doors) -> Option<Sight> {
    let mut sight = Sight::default();
    for user in doors.read_home("/users").await?["users"].as_array()? {
        sight.people.insert(text(&user["id"]), text(&user["username"]));
    }
    for device in doors.read_home("/devices").await?["devices"].as_array()? {
        let id = text(&device["id"]);
        if device["state"] == "waiting" {
            continue;
        }
        sight.devices.insert(id.clone(), text(&device["name"]));
        for right in doors.read_home(&format!("/devices/{id}/bindings")).await?["bindings"].as_array()? {
            let terms = (text(&right["privilege"]), right["until"].as_u64());
            sight.rights.insert((id.clone(), text(&right["subject"])), terms);
        }
        let twin = doors.read_home(&format!("/devices/{id}/twin")).await?;
        if twin["version"].as_u64().unwrap_or(0) > 0 {
            sight.twins.insert(id, (twin["version"].as_u64()?, twin["desired"].clone()));
        }
    }
    Some(sight)
}

/// What the cloud has.
pub async fn of_cloud(machines: &Machines) -> Result<(Sight, Beside), tokio_postgres::Error> {
    let database = machines.database().await?;
    let (mut sight, mut beside) = (Sight::default(), Beside::default());
    let standing =
        "SELECT r.kind, r.key, r.ver, r.body FROM rows r LEFT JOIN marks m USING (hub_id, kind, key) WHERE r.gen > coalesce(m.gen, 0)";
    for row in database.query(standing, &[]).await? {
        let (kind, key, version): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
        let body: Value = serde_json::from_str(row.get(3)).unwrap();
        match kind.as_str() {
            "device" => drop(sight.devices.insert(key, text(&body["name"]))),
            "user" => drop(sight.people.insert(key, text(&body["username"]))),
            "binding" => {
                let terms = (text(&body["terms"]["privilege"]), body["terms"]["until"].as_u64());
                sight.rights.insert((text(&body["device"]), text(&body["subject"])), terms);
            }
            "twin" => drop(sight.twins.insert(key, (version as u64, body["desired"].clone()))),
            _ => drop(beside.keys.insert(key)),
        }
    }
    for row in database.query("SELECT id, state, code FROM items WHERE kind = 'request'", &[]).await? {
        let (id, state): (String, String) = (row.get(0), row.get(1));
        beside.requests.insert(id, state);
        *beside.codes.entry(row.get(2)).or_default() += 1;
    }
    for row in database.query("SELECT kind, key, gen FROM marks", &[]).await? {
        beside.marks.insert((row.get(0), row.get(1)), row.get(2));
    }
    let number = async |query: &str| database.query_one(query, &[]).await.map(|row| row.get::<_, i64>(0));
    beside.waiting = number("SELECT count(*) FROM items WHERE kind = 'request' AND state = 'waiting'").await?;
    beside.under_a_mark = number("SELECT count(*) FROM rows JOIN marks m USING (hub_id, kind, key) WHERE rows.gen <= m.gen").await?;
    beside.differed = number("SELECT count(*) FROM kinds WHERE asked_at > 0").await?;
    beside.conflicts = number("SELECT coalesce(sum(conflicts), 0)::bigint FROM kinds").await?;
    Ok((sight, beside))
}

/// What the cloud shows of rights that were given here: which gift, and its generation.
pub async fn shown_rights(machines: &Machines) -> Result<BTreeMap<(String, String), (Gift, i64)>, tokio_postgres::Error> {
    let database = machines.database().await?;
    let query = "SELECT r.gen, r.body, u.body FROM rows r JOIN rows u ON u.hub_id = r.hub_id AND u.kind = 'user' \
        AND r.key LIKE '%/user:' || u.key LEFT JOIN marks m ON m.hub_id = r.hub_id AND m.kind = r.kind AND m.key = r.key \
        WHERE r.kind = 'binding' AND r.gen > coalesce(m.gen, 0)";
    let mut shown = BTreeMap::new();
    for row in database.query(query, &[]).await? {
        let (right, user): (Value, Value) = (serde_json::from_str(row.get(1)).unwrap(), serde_json::from_str(row.get(2)).unwrap());
        if let Some(gift) = gift(right["terms"]["until"].as_u64()) {
            shown.insert((text(&right["device"]), text(&user["username"])), (gift, row.get(0)));
        }
    }
    Ok(shown)
}

/// Whether the last comparison of each kind found that both copies are the same, and nothing has changed since.
pub async fn compared(machines: &Machines) -> Result<bool, tokio_postgres::Error> {
    let query =
        "SELECT count(*) FROM kinds WHERE kind IN ('device', 'binding', 'user', 'away') AND digest IS NOT NULL AND NOT begun AND asked = 0";
    Ok(machines.database().await?.query_one(query, &[]).await?.get::<_, i64>(0) == 4)
}

/// Which gift ends then.
pub fn gift(until: Option<u64>) -> Option<Gift> {
    until?.checked_sub(FAR)
}

/// Which gift is desired.
pub fn colour(desired: &Value) -> Option<Gift> {
    desired["color_temperature"].as_u64()?.checked_sub(COLDEST)
}

impl Sight {
    /// Where two sides differ.
    pub fn differences(&self, other: &Sight) -> Vec<String> {
        fn of<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
            what: &str,
            one: &BTreeMap<K, V>,
            other: &BTreeMap<K, V>,
        ) -> Vec<String> {
            let keys: BTreeSet<&K> = one.keys().chain(other.keys()).collect();
            let differs = keys.into_iter().filter(|k| one.get(k) != other.get(k));
            differs.map(|k| format!("{what} {k:?}: hub {:?}, cloud {:?}", one.get(k), other.get(k))).collect()
        }
        let mut all = of("device", &self.devices, &other.devices);
        all.extend(of("account", &self.people, &other.people));
        all.extend(of("right", &self.rights, &other.rights));
        all.extend(of("twin", &self.twins, &other.twins));
        all
    }
}
