//! Stock MQTT devices (ESPHome, Tasmota): an identity that the hub makes, with a password of its own, and no proof of
//! anything. Always shown as unattested.

use crate::domain::authority::HubAction;
use crate::domain::binding::{Privilege, Terms};
use crate::domain::claim::ClaimHash;
use crate::domain::device::{Household, Origin, Registered, Standing};
use crate::domain::ids::{BrandId, DeviceId, ModelName};
use crate::domain::keys::OperationalSecret;
use crate::domain::model::Model;
use crate::service::bindings::put_binding;
use crate::service::claims::short;
use crate::service::rights::require_role;
use crate::service::{Actor, Change, DeviceView, Refusal, Service, audit, random};
use crate::store::tables::{Credential, StoredModel, model_key};
use crate::store::{Read, Tx};
use data_encoding::{BASE64, HEXLOWER};
use serde::Serialize;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Stock devices that a hub takes.
const MOST: usize = 1_000;
/// The brand and the model of all of them: no maker has this name, as a brand is trusted by its root key.
const BRAND: &str = "stock";
const MODEL: &str = "mqtt";
/// What is known of every stock device: nothing. It tells what it measures, on topics of its own.
const MODEL_JSON: &str = r#"{"model": "mqtt", "title": "MQTT device", "version": 1, "kind": "thing", "attributes": {}, "commands": {}}"#;

/// What a stock device is set up with; shown once.
pub struct MadeStockDevice {
    /// The device.
    pub device: DeviceView,
    /// Its MQTT user name.
    pub username: String,
    /// Its MQTT password.
    pub password: Zeroizing<String>,
    /// The hub's host name or address.
    pub host: String,
    /// Its port for MQTT over TLS.
    pub port: u16,
    /// The hub's CA (PEM).
    pub ca: String,
    /// The same to be pasted.
    pub settings: StockSettings,
}

/// Settings to paste. They hold the password.
#[derive(Clone, Serialize)]
pub struct StockSettings {
    /// For ESPHome (YAML).
    pub esphome: String,
    /// For Tasmota (console).
    pub tasmota: String,
}

impl Service {
    /// Makes an identity for a stock device. It belongs to `actor`, who may claim.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::PeopleOnly`]; [`Refusal::Invalid`] without a name; [`Refusal::Conflict`] when
    /// there are too many, or the hub has no door for MQTT over TLS.
    pub async fn add_stock_device(self: &Arc<Self>, actor: &Actor, name: &str, room: &str) -> Result<MadeStockDevice, Refusal> {
        self.may_pair(actor)?;
        let (name, room) = (short(name), short(room));
        if name.is_empty() {
            return Err(Refusal::Invalid("name: what shall people call it?".into()));
        }
        let no_door = || Refusal::Conflict("the hub is not reached over MQTT with TLS: switch mqtts on in its configuration".into());
        let reached = self.addresses();
        let (host, port) = best(&reached).ok_or_else(no_door)?;
        let id = DeviceId::parse(&format!("mqtt-{}", HEXLOWER.encode(&random::<6>()?)))
            .map_err(|_| Refusal::Conflict("no id could be made; try again".into()))?;
        let secret = OperationalSecret::from_bytes(random()?);
        let keyed_hash = self.keyed_hash(b"operational", secret.as_bytes());
        let (service, who, device, now) = (self.clone(), actor.clone(), id.clone(), self.now());
        self.store.write(move |tx| service.add_stock_in(tx, &who, &device, keyed_hash, &name, &room, now)).await?;
        self.policy_changed().await;
        self.changed(Change::Device { id: id.clone() });
        let (password, ca) = (secret.password(), pem(&self.hub.ca_der));
        let settings = StockSettings { esphome: esphome(&id, &host, port, &password, &ca), tasmota: tasmota(&id, &host, port, &password) };
        Ok(MadeStockDevice { device: self.device(actor, &id)?, username: id.to_string(), password, host, port, ca, settings })
    }

    #[expect(clippy::too_many_arguments, reason = "who, what, and what to call it")]
    fn add_stock_in(
        &self,
        tx: &Tx<'_>,
        who: &Actor,
        device: &DeviceId,
        keyed_hash: [u8; 32],
        name: &str,
        room: &str,
        now: u64,
    ) -> Result<(), Refusal> {
        require_role(tx, who, HubAction::ClaimDevice, now)?;
        let unfit = |_| Refusal::Conflict("the built-in model cannot be named".into());
        let (brand, model) = (BrandId::parse(BRAND).map_err(unfit)?, ModelName::parse(MODEL).map_err(unfit)?);
        let key = device.as_str().as_bytes();
        if tx.get::<Registered>(key)?.is_some() {
            return Err(Refusal::Conflict("the id is taken; try again".into()));
        }
        if tx.scan::<Registered>(b"mqtt-", usize::MAX)?.iter().filter(|(_, r)| r.origin == Origin::Unattested).count() >= MOST {
            return Err(Refusal::Conflict(format!("the hub has {MOST} stock devices already: remove one first")));
        }
        let row = Registered {
            id: device.clone(),
            brand: brand.clone(),
            model: model.clone(),
            hardware: String::new(),
            serial: String::new(),
            // No code hashes to this, so nobody claims it by one.
            claim_hash: ClaimHash([0; 32]),
            made: now / 1000,
            origin: Origin::Unattested,
            added_at: now,
        };
        tx.put(key, &row)?;
        if tx.get::<StoredModel>(&model_key(&brand, &model))?.is_none() {
            let built_in = Model::parse(MODEL_JSON).map_err(|e| Refusal::Conflict(format!("the built-in model does not hold: {e}")))?;
            tx.put(&model_key(&brand, &model), &StoredModel { json: built_in.to_json().to_string(), issued: 0 })?;
        }
        let household = Household {
            standing: Standing::Ready,
            claimed_at: Some(now),
            name: name.to_owned(),
            room: room.to_owned(),
            version: 1,
            ..Household::default()
        };
        tx.put(key, &household)?;
        tx.put(key, &Credential { keyed_hash, undelivered: None, made_at: now })?;
        put_binding(tx, &who.subject, device, &Terms::of(Privilege::Administer), "claim", &self.origin(), now)?;
        audit::append(tx, now, audit::done(who, "device.add", device.as_str(), "unattested: a password given by hand"))?;
        Ok(())
    }
}

/// The name or address to write into settings: a name that the certificate has goes before an address.
fn best(reached: &[String]) -> Option<(String, u16)> {
    let parts = |at: &String| {
        let (host, port) = at.rsplit_once(':')?;
        Some((host.to_owned(), port.parse().ok()?))
    };
    let all: Vec<(String, u16)> = reached.iter().filter_map(parts).collect();
    let named = all.iter().find(|(host, _)| host.ends_with(".local"));
    named.or_else(|| all.first()).cloned()
}

fn pem(der: &[u8]) -> String {
    // RFC 7468 §3: 64 characters a line.
    let encoded = BASE64.encode(der);
    let lines: Vec<String> = encoded.as_bytes().chunks(64).map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The section of an ESPHome configuration. Its TLS needs an ESP32.
fn esphome(id: &DeviceId, host: &str, port: u16, password: &str, ca: &str) -> String {
    let ca: String = ca.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "# For an ESP32: other chips have no TLS in ESPHome. Without an `api:` section nothing else is needed;\n\
         # with one that nobody uses, set `reboot_timeout: 0s` in it.\n\
         mqtt:\n  broker: {host}\n  port: {port}\n  username: {id}\n  password: \"{password}\"\n  client_id: {id}\n  \
         topic_prefix: things/{id}\n  discovery: false\n  certificate_authority: |\n{ca}"
    )
}

/// Lines for the console of Tasmota. It takes no CA at run time: it learns the hub's key at the first connection, and
/// from then on takes no other.
fn tasmota(id: &DeviceId, host: &str, port: u16, password: &str) -> String {
    let learn = ["00"; 20].join(" ");
    format!(
        "SetOption103 1\nSetOption132 1\nMqttFingerprint1 {learn}\nSetOption19 1\n\
         Backlog MqttHost {host}; MqttPort {port}; MqttUser {id}; MqttPassword {password}; MqttClient {id}; \
         FullTopic things/{id}/%prefix%/\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_the_room_of_the_device_and_pin_the_hub() {
        let id = DeviceId::parse("mqtt-0011").unwrap();
        let ca = pem(&[7; 100]);
        let yaml = esphome(&id, "hearthkey.local", 8883, "hks1.abc", &ca);
        for line in [
            "  broker: hearthkey.local",
            "  port: 8883",
            "  topic_prefix: things/mqtt-0011",
            "  discovery: false",
            "    -----END CERTIFICATE-----",
        ] {
            assert!(yaml.lines().any(|l| l == line), "{line} in {yaml}");
        }
        let console = tasmota(&id, "hearthkey.local", 8883, "hks1.abc");
        assert!(console.contains("FullTopic things/mqtt-0011/%prefix%/") && console.contains("SetOption103 1"), "{console}");
    }

    #[test]
    fn the_built_in_model_holds_and_a_name_goes_before_an_address() {
        assert!(Model::parse(MODEL_JSON).is_ok());
        let reached = ["10.0.0.2:8883".to_owned(), "[fd00::1]:8883".to_owned(), "hearthkey.local:8883".to_owned()];
        assert_eq!(best(&reached), Some(("hearthkey.local".into(), 8883)));
        assert_eq!(best(&reached[..1]), Some(("10.0.0.2".into(), 8883)));
        assert_eq!(best(&[]), None);
    }
}
