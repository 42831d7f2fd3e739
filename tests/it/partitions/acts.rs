//! What people do, at home and from away, and what is written down of it.

use super::chance::Chance;
use super::doors::{Answer, Doors};
use super::ledger::{Gift, Slot};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The end of a right tells which gift it was: a time in the year 2096, and the gift's number.
pub const FAR: u64 = 4_000_000_000_000;
/// So does what is desired of a lamp's colour temperature.
pub const COLDEST: u64 = 2_200;
/// Gifts whose desires can be told apart.
pub const COLOURS: u64 = 4_300;
/// Who owns the house.
pub const OWNER: &str = "olivia";
const PASSWORD: &str = "another long password";

/// What somebody does.
#[derive(Clone, Debug)]
pub enum Act {
    Give { device: String, name: String, gift: Gift, privilege: &'static str },
    Take { device: String, name: String, user: String },
    Add { name: String },
    End { name: String, user: String },
    Claim { device: String, code: String },
    Remove { device: String },
    Desire { device: String, gift: Gift },
    AwayGive { device: String, name: String, gift: Gift },
    AwayTake { device: String, name: String, user: String, shown: Gift, generation: i64 },
    AwayDesire { device: String, gift: Gift },
    AwayEnd { key: String, token: String },
    MakeKey,
    EndKey { key: String },
}

impl Act {
    /// Asks for it.
    pub async fn ask(&self, doors: &Doors) -> Answer {
        let no = Value::Null;
        match self {
            Act::Give { device, name, gift, privilege } => {
                let body = json!({"username": name, "privilege": privilege, "until": FAR + gift});
                doors.home("POST", &format!("/devices/{device}/bindings"), body).await
            }
            Act::Take { device, user, .. } => doors.home("DELETE", &format!("/devices/{device}/bindings/{user}"), no).await,
            Act::Add { name } => {
                let body = json!({"username": name, "password": PASSWORD, "role": "guest"});
                doors.home("POST", "/users", body).await
            }
            Act::End { user, .. } => doors.home("DELETE", &format!("/users/{user}"), no).await,
            Act::Claim { code, .. } => doors.home("POST", "/claims", json!({"code": code})).await,
            Act::Remove { device } => doors.home("DELETE", &format!("/devices/{device}"), no).await,
            Act::Desire { device, gift } => doors.home("PATCH", &format!("/devices/{device}/twin/desired"), wish(*gift)).await,
            Act::AwayGive { device, name, gift } => {
                let body = json!({"username": name, "privilege": "operate", "until": FAR + gift});
                doors.away("PUT", &format!("/devices/{device}/bindings"), body).await
            }
            Act::AwayTake { device, user, .. } => doors.away("DELETE", &format!("/devices/{device}/bindings/user:{user}"), no).await,
            Act::AwayDesire { device, gift } => doors.away("PATCH", &format!("/devices/{device}/desired?ttl_s=86400"), wish(*gift)).await,
            Act::AwayEnd { token, .. } => doors.outside("DELETE", "/session", token, no).await,
            Act::MakeKey => doors.home("POST", "/me/away", json!({"name": "tablet", "days": 100})).await,
            Act::EndKey { key } => doors.home("DELETE", &format!("/me/away/{key}"), no).await,
        }
    }
}

fn wish(gift: Gift) -> Value {
    json!({"color_temperature": COLDEST + gift % COLOURS})
}

/// A key for use from away.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub token: String,
    pub name: String,
}

/// What has been asked for from away, by the id of the request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Right(String, String),
    Twin(String),
}

/// All that was promised.
#[derive(Default)]
pub struct Book {
    pub gifts: Gift,
    /// By device and name.
    pub rights: BTreeMap<(String, String), Slot>,
    pub people: BTreeMap<String, Slot>,
    pub devices: BTreeMap<String, Slot>,
    pub twins: BTreeMap<String, Slot>,
    pub keys: BTreeMap<String, Slot>,
    pub wishes: BTreeMap<String, (Place, Gift)>,
    /// Accounts that are known to stand: name and id.
    pub accounts: BTreeMap<String, String>,
    pub codes: BTreeMap<String, String>,
    pub tokens: Vec<Key>,
    pub done: BTreeMap<String, u64>,
}

impl Book {
    pub fn gift(&mut self) -> Gift {
        self.gifts += 1;
        self.gifts
    }

    fn in_the_house(&self) -> Vec<String> {
        self.devices.iter().filter(|(_, slot)| slot.stands().1).map(|(id, _)| id.clone()).collect()
    }

    /// What somebody thinks of doing next. `shown`: what the cloud shows of rights, with generations.
    pub fn next(&mut self, chance: &mut Chance, shown: &BTreeMap<(String, String), (Gift, i64)>) -> Option<Act> {
        let devices = self.in_the_house();
        let device = devices.get(chance.below(devices.len().max(1)))?.clone();
        let names: Vec<String> = self.accounts.keys().cloned().collect();
        let name = names.get(chance.below(names.len().max(1))).cloned();
        let gift = self.gift();
        Some(match chance.below(100) {
            0..22 => Act::Give { device, name: name?, gift, privilege: ["view", "operate", "manage"][chance.below(3)] },
            22..36 => {
                let name = name?;
                Act::Take { device, user: self.accounts[&name].clone(), name }
            }
            36..40 if names.len() < 6 => Act::Add { name: format!("guest{gift}") },
            40..43 if names.len() > 2 => {
                let name = name?;
                Act::End { user: self.accounts[&name].clone(), name }
            }
            43..47 => {
                let waiting: Vec<&String> = self.codes.keys().filter(|id| !self.devices[*id].stands().1).collect();
                let device = (*waiting.get(chance.below(waiting.len().max(1)))?).clone();
                Act::Claim { code: self.codes[&device].clone(), device }
            }
            47..50 if devices.len() > 3 => Act::Remove { device },
            50..62 => Act::Desire { device, gift },
            62..74 => Act::AwayDesire { device, gift },
            74..84 => Act::AwayGive { device, name: name?, gift },
            84..94 => {
                let shown: Vec<_> = shown.iter().filter(|((_, name), _)| self.accounts.contains_key(name)).collect();
                let ((device, name), (shown, generation)) = shown.get(chance.below(shown.len().max(1)))?;
                let (device, name) = (device.clone(), name.clone());
                Act::AwayTake { device, user: self.accounts[&name].clone(), name, shown: *shown, generation: *generation }
            }
            94..96 => Act::MakeKey,
            96..98 => {
                let own: Vec<&Key> = self.tokens.iter().filter(|k| k.name == OWNER && self.keys[&k.id].stands().1).collect();
                Act::EndKey { key: own.get(chance.below(own.len().max(1)))?.id.clone() }
            }
            98.. => {
                let free: Vec<&Key> = self.tokens.iter().filter(|k| self.keys[&k.id].stands().1).collect();
                let key = free.get(chance.below(free.len().max(1)))?;
                Act::AwayEnd { key: key.id.clone(), token: key.token.clone() }
            }
            _ => return None,
        })
    }

    fn right(&mut self, device: &str, name: &str) -> &mut Slot {
        self.rights.entry((device.to_owned(), name.to_owned())).or_default()
    }

    /// Writes down what came of it.
    pub fn write(&mut self, act: &Act, answer: &Answer) {
        let word = format!("{act:?}");
        let word = word.split([' ', '{']).next().unwrap_or_default();
        let outcome = match answer {
            Answer::Good(_) => "done".to_owned(),
            Answer::No(status, code) => format!("{status} {code}"),
            Answer::Nobody => "nobody".into(),
            Answer::Perhaps => "perhaps".into(),
        };
        *self.done.entry(format!("{word}: {outcome}")).or_default() += 1;
        let Some(said) = answer.said() else { return };
        let id = if let Answer::Good(value) = answer { value["id"].as_str().map(str::to_owned) } else { None };
        match act {
            Act::Give { device, name, gift, .. } => self.right(device, name).give(*gift, said),
            Act::Take { device, name, .. } => self.right(device, name).take(said),
            Act::Add { name } => {
                self.people.entry(name.clone()).or_default().give(1, said);
                if let Some(id) = id {
                    self.accounts.insert(name.clone(), id);
                }
            }
            Act::End { name, .. } => {
                self.people.entry(name.clone()).or_default().take(said);
                self.rights.iter_mut().filter(|((_, n), _)| n == name).for_each(|(_, slot)| slot.take(said));
                let own: Vec<String> = self.tokens.iter().filter(|k| k.name == *name).map(|k| k.id.clone()).collect();
                own.iter().for_each(|id| self.keys.entry(id.clone()).or_default().take(said));
                self.accounts.remove(name);
            }
            Act::Claim { device, .. } => self.devices.entry(device.clone()).or_default().give(1, said),
            Act::Remove { device } => {
                self.devices.entry(device.clone()).or_default().take(said);
                self.twins.entry(device.clone()).or_default().take(said);
                self.rights.iter_mut().filter(|((d, _), _)| d == device).for_each(|(_, slot)| slot.take(said));
            }
            Act::Desire { device, gift } => self.twins.entry(device.clone()).or_default().give(*gift, said),
            Act::AwayGive { device, name, gift } => {
                self.right(device, name).wish(*gift, said);
                let place = Place::Right(device.clone(), name.clone());
                id.map(|id| self.wishes.insert(id, (place, *gift)));
            }
            Act::AwayDesire { device, gift } => {
                self.twins.entry(device.clone()).or_default().wish(*gift, said);
                id.map(|id| self.wishes.insert(id, (Place::Twin(device.clone()), *gift)));
            }
            Act::AwayTake { device, name, shown, generation, .. } => {
                let same = match answer {
                    Answer::Good(value) => value["revoked"]["gen"].as_i64() == Some(*generation),
                    _ => true,
                };
                let slot = self.right(device, name);
                if !same {
                    slot.take_any_from_away();
                } else if !slot.take_from_away(*shown, said) {
                    *self.done.entry("the cloud showed what was never given".into()).or_default() += 1;
                }
            }
            Act::AwayEnd { key, .. } | Act::EndKey { key } => self.keys.entry(key.clone()).or_default().take(said),
            // One of which the answer did not come is nobody's: its token is not known.
            Act::MakeKey => {
                if let (Some(id), Answer::Good(value)) = (id, answer) {
                    self.keys.insert(id.clone(), Slot::with(1));
                    let token = value["token"].as_str().unwrap_or_default().to_owned();
                    self.tokens.push(Key { id, token, name: OWNER.into() });
                }
            }
        }
    }

    /// Everything that was asked is answered.
    pub fn close_wishes(&mut self) {
        self.wishes.clear();
    }
}
