//! What the home has set: whether anybody may make an account, its time zone, how much audit is kept,
//! whether devices get the hub's Wi-Fi. A changed time
//! zone changes what weekly windows mean: it is a change of the policy.

use super::rights::require_role;
use super::{Actor, Refusal, Service, audit};
use crate::domain::authority::HubAction;
use crate::store::tables::Settings;
use crate::store::{Read, StoreError};
use jiff::tz::TimeZone;
use serde::Serialize;
use std::sync::PoisonError;

/// Bytes of audit that are kept unless something else is set: some two hundred thousand entries.
const AUDIT_BYTES: u64 = 64 << 20;
/// The least and the most that can be set.
const LEAST_AUDIT_BYTES: u64 = 1 << 20;
const MOST_AUDIT_BYTES: u64 = 4 << 30;
/// The longest name of a time zone that is looked up.
const LONGEST_ZONE: usize = 64;

/// The settings as they are in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingsView {
    /// Whether anybody may make an account, as a guest.
    pub open_registration: bool,
    /// The home's time zone, by its IANA name.
    pub time_zone: String,
    /// How many bytes of audit are kept.
    pub audit_max_bytes: u64,
    /// Whether the hub may hand its own Wi-Fi to devices that are paired.
    pub share_wifi: bool,
}

/// What to change; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct SettingsChange {
    /// Whether anybody may make an account.
    pub open_registration: Option<bool>,
    /// The home's time zone, by its IANA name.
    pub time_zone: Option<String>,
    /// How many bytes of audit are kept.
    pub audit_max_bytes: Option<u64>,
    /// Whether the hub may hand its own Wi-Fi to devices that are paired.
    pub share_wifi: Option<bool>,
}

/// The settings as stored, or none yet.
pub(super) fn settings_in<R: Read>(rows: &R) -> Result<Settings, StoreError> {
    Ok(rows.get::<Settings>(Settings::ROW)?.unwrap_or_default())
}

/// How many bytes of audit are kept.
pub(super) fn audit_max_bytes(settings: &Settings) -> u64 {
    settings.audit_max_bytes.unwrap_or(AUDIT_BYTES)
}

impl Service {
    /// The settings in force.
    ///
    /// # Errors
    /// The store's fault.
    pub fn settings(&self) -> Result<SettingsView, Refusal> {
        Ok(self.shown(&self.store.read::<_, StoreError>(|v| settings_in(v))?))
    }

    /// Changes settings. When this returns, they are in force.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::Invalid`] for a zone that is not known, and for too little or too much audit.
    pub async fn change_settings(&self, actor: &Actor, change: SettingsChange) -> Result<SettingsView, Refusal> {
        let time_zone = change.time_zone.as_deref().map(zone_named).transpose()?;
        if change.audit_max_bytes.is_some_and(|n| !(LEAST_AUDIT_BYTES..=MOST_AUDIT_BYTES).contains(&n)) {
            return Err(Refusal::Invalid(format!("audit_max_bytes: a number from {LEAST_AUDIT_BYTES} to {MOST_AUDIT_BYTES}")));
        }
        let (who, now) = (actor.clone(), self.now());
        let settings = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                let before = settings_in(tx)?;
                let mut settings = before.clone();
                if let Some(open) = change.open_registration {
                    settings.open_registration = open;
                }
                if let Some(zone) = &time_zone {
                    settings.time_zone = Some(zone.clone());
                }
                if let Some(bytes) = change.audit_max_bytes {
                    settings.audit_max_bytes = Some(bytes);
                }
                if let Some(share) = change.share_wifi {
                    settings.share_wifi = share;
                }
                if settings != before {
                    tx.put(Settings::ROW, &settings)?;
                    let detail = format!(
                        "open_registration {}, time_zone {}, audit_max_bytes {}, share_wifi {}",
                        settings.open_registration,
                        settings.time_zone.as_deref().unwrap_or("the box's"),
                        audit_max_bytes(&settings),
                        settings.share_wifi
                    );
                    audit::append(tx, now, audit::done(&who, "hub.settings", "hub", detail))?;
                }
                Ok(settings)
            })
            .await?;
        if self.load_zone()? {
            self.policy_changed().await;
        }
        Ok(self.shown(&settings))
    }

    /// The name of the home's time zone.
    pub(super) fn zone_name(&self) -> String {
        name_of_zone(&self.zone.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts the stored zone in force, or the box's when none is stored; whether that is another one than before.
    pub(super) fn load_zone(&self) -> Result<bool, Refusal> {
        let mut zone = self.zone.write().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that of two changes the later one stays in force.
        let stored = self.store.read::<_, StoreError>(|v| settings_in(v))?.time_zone;
        let now = stored.and_then(|name| TimeZone::get(&name).ok()).unwrap_or_else(|| self.box_zone.clone());
        let changed = *zone != now;
        *zone = now;
        Ok(changed)
    }

    fn shown(&self, settings: &Settings) -> SettingsView {
        SettingsView {
            open_registration: settings.open_registration,
            time_zone: settings.time_zone.clone().unwrap_or_else(|| name_of_zone(&self.box_zone)),
            audit_max_bytes: audit_max_bytes(settings),
            share_wifi: settings.share_wifi,
        }
    }
}

/// The name as the time zone database spells it.
fn zone_named(name: &str) -> Result<String, Refusal> {
    let known = if name.len() <= LONGEST_ZONE { TimeZone::get(name).ok() } else { None };
    let name = known.filter(|zone| !zone.is_unknown()).and_then(|zone| zone.iana_name().map(str::to_owned));
    name.ok_or_else(|| Refusal::Invalid("time_zone: this is no time zone of the IANA database; write it as in Europe/Berlin".into()))
}

fn name_of_zone(zone: &TimeZone) -> String {
    // A box whose zone has no name is as good as one without a zone.
    zone.iana_name().unwrap_or("UTC").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_zone_is_one_of_the_database_and_is_spelled_as_there() {
        assert_eq!(zone_named("europe/berlin").unwrap(), "Europe/Berlin");
        assert_eq!(zone_named("UTC").unwrap(), "UTC");
        for wrong in ["", "Etc/Unknown", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "CET-1CEST", &"x".repeat(1_000)] {
            assert!(zone_named(wrong).is_err(), "{wrong}");
        }
    }
}
