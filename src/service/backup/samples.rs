//! How the policy decides about some of the rights there are: taken down when a backup is made, asked again when it is
//! rehearsed. Both at the time of the backup, vouched for, in the home's zone, and without a pending review.

use super::BackupError;
use crate::domain::account::User;
use crate::domain::binding::{Binding, Subject};
use crate::domain::ids::DeviceId;
use crate::domain::policy::{Action, decide};
use crate::domain::time::{Grade, Moment};
use crate::service::rights::{Now, Rows};
use crate::service::settings::settings_in;
use crate::store::tables::BindingIndex;
use crate::store::{Read, Record};
use ciborium::Value;
use jiff::tz::TimeZone;

/// Rights that are looked at, at most; all actions are asked of each.
const MOST: usize = 200;

/// The decisions about one subject and one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Who: a subject's text.
    pub subject: String,
    /// On which device.
    pub device: String,
    /// Whether it may, for each action, weakest first: bit 0 is `view`.
    pub allowed: u8,
}

impl Sample {
    pub(super) fn to_value(&self) -> Value {
        Value::Array(vec![Value::Text(self.subject.clone()), Value::Text(self.device.clone()), self.allowed.into()])
    }

    pub(super) fn from_value(value: Value) -> Option<Sample> {
        let mut parts = value.into_array().ok()?.into_iter();
        let (subject, device) = (parts.next()?.into_text().ok()?, parts.next()?.into_text().ok()?);
        let allowed = u8::try_from(parts.next()?.as_integer()?).ok()?;
        Some(Sample { subject, device, allowed })
    }
}

/// Samples of what stands in `rows`, spread over all rights, as of `at` (ms since 1970).
///
/// # Errors
/// The database's fault.
pub(super) fn samples<R: Read>(rows: &R, at: u64) -> Result<Vec<Sample>, BackupError> {
    let every = (rows.count(<Binding as Record>::TABLE)? as usize).div_ceil(MOST).max(1);
    let mut out = Vec::new();
    let (mut after, mut number) = (Vec::new(), 0usize);
    loop {
        let keys = rows.keys_after(<BindingIndex as Record>::TABLE, b"", &after, 500)?;
        let Some(last) = keys.last() else { return Ok(out) };
        after = last.clone();
        for key in keys {
            number += 1;
            let text = String::from_utf8_lossy(&key).into_owned();
            if (number - 1).is_multiple_of(every)
                && out.len() < MOST
                && let Some((subject, device)) = text.split_once('\0')
                && let (Some(who), Ok(what)) = (Subject::parse(subject), DeviceId::parse(device))
            {
                if is_vendor(rows, &who)? {
                    continue;
                }
                let allowed = decided(rows, &who, &what, at)?;
                out.push(Sample { subject: subject.to_owned(), device: device.to_owned(), allowed });
            }
        }
    }
}

/// Asks again what a sample tells.
///
/// # Errors
/// The database's fault.
pub(super) fn holds<R: Read>(rows: &R, sample: &Sample, at: u64) -> Result<bool, BackupError> {
    let (Some(who), Ok(what)) = (Subject::parse(&sample.subject), DeviceId::parse(&sample.device)) else { return Ok(false) };
    Ok(decided(rows, &who, &what, at)? == sample.allowed)
}

/// What a maker's people may do hangs on support sessions, which no backup has.
fn is_vendor<R: Read>(rows: &R, subject: &Subject) -> Result<bool, BackupError> {
    let Some(id) = subject.user() else { return Ok(false) };
    Ok(rows.get::<User>(id.as_str().as_bytes())?.is_some_and(|user| user.role.is_vendor()))
}

fn decided<R: Read>(rows: &R, subject: &Subject, device: &DeviceId, at: u64) -> Result<u8, BackupError> {
    let zone = settings_in(rows)?.time_zone.and_then(|name| TimeZone::get(&name).ok()).unwrap_or(TimeZone::UTC);
    let now = Now { moment: Moment { at, grade: Grade::Vouched, zone }, policy_age_ms: 0 };
    let mut known = Rows::load(rows, subject, device, &now)?;
    known.without_review();
    let mut allowed = 0;
    for (bit, action) in Action::ALL.into_iter().enumerate() {
        allowed |= u8::from(decide(&known.facts(None), action, &now).allowed) << bit;
    }
    Ok(allowed)
}
