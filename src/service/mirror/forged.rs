//! What the cloud finds of a device that was paired here on the word of its voucher alone: that its attestation tag does not
//! hold, so it knows the code of a label and lacks the key. Then it is shut out until an owner has looked, as when the hub
//! finds so itself. That is all such a word can do: a device that has proved its key, or was never paired, is not touched by it,
//! nor one that has been paired anew since.

use super::arrive::answer;
use super::news::put_notice;
use crate::domain::audit::Outcome;
use crate::domain::device::{Household, Origin, Registered};
use crate::domain::ids::DeviceId;
use crate::domain::mirror::wire::{Done, Forged, Notice, Paired};
use crate::service::{Change, Refusal, Service, audit};
use crate::store::tables::PairingTranscript;
use crate::store::{Read, StoreError, Tx};

const TEXT: &str = "The cloud knows this device's key, and what the device said when it was paired was not made with it: it knows the code of a \
     label, and may be a copy. It is shut out. Compare the serial number on its label and ask its maker or seller; if you are sure of \
     it, let it in again, or remove it and pair it anew.";

impl Service {
    /// Shuts out a device that the cloud has found to lack its key; how that ended.
    pub(super) async fn forged_came(&self, item: &str, forged: &Forged) -> Result<Done, Refusal> {
        let Ok(device) = DeviceId::parse(&forged.device) else { return Ok(answer(item, "malformed", "this is no device id")) };
        let (id, tag, now) = (device.clone(), forged.tag.clone(), self.now());
        let shut_out = self.store.write::<_, StoreError, _>(move |tx| shut_out(tx, &id, &tag, now)).await?;
        Ok(match shut_out {
            None => answer(item, "not_concerned", "this device has not said that here, or has proved its key since"),
            Some(new) => {
                if new {
                    self.attested(vec![(device, false)]).await;
                    self.changed(Change::Cloud);
                }
                Done { id: item.to_owned(), ok: true, code: "done".into(), detail: String::new() }
            }
        })
    }
}

/// Whether the device was let in until now; `None` when the cloud's word does not concern it.
fn shut_out(tx: &Tx<'_>, device: &DeviceId, tag: &str, now: u64) -> Result<Option<bool>, StoreError> {
    let key = device.as_str().as_bytes();
    let voucher = tx.get::<Registered>(key)?.is_some_and(|row| row.origin == Origin::Voucher);
    // What it said is kept: should its key come later, it shows whether the cloud was right.
    let said = tx.get::<PairingTranscript>(key)?.is_some_and(|kept| Paired::of(&kept.transcript).tag == tag);
    let Some(mut household) = tx.get::<Household>(key)?.filter(|_| voucher && said) else { return Ok(None) };
    let new = household.quarantine();
    if new {
        tx.put(key, &household)?;
        let event = audit::event("cloud", "device.attest", device.as_str(), Outcome::Denied, "wrong_tag", "", "cloud");
        audit::append(tx, now, event)?;
        put_notice(tx, &Notice { code: "wrong_tag".into(), device: Some(device.to_string()), text: TEXT.into(), at: now })?;
    }
    Ok(Some(new))
}
