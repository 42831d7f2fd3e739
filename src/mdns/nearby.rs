//! The devices on the network that ask to be claimed: a short list of what they say about themselves. Nothing of it is
//! believed; the label's code decides (`docs/protocol/pairing.md`, §1 and §8).

use mdns_sd::ResolvedService;
use std::collections::BTreeMap;

/// What a device that asks to be claimed announces. The name of a service has at most 15 characters (RFC 6763, §7.2).
pub(super) const THING: &str = "_hearthkey-thing._tcp.local.";
/// Devices in the list.
pub(super) const MOST: usize = 64;
/// Longest name of a device, in characters.
const NAME: usize = 64;

/// A device that asks to be claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Tells it from others for as long as it is there: the full name of its service.
    pub id: String,
    /// What it calls itself, for people.
    pub name: String,
    /// The 12 bytes of INFO: version, state, salt, short id.
    pub info: [u8; 12],
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Nearby(BTreeMap<String, Found>);

impl Nearby {
    /// Takes what a service says now. Whether the list changed.
    pub(super) fn heard(&mut self, service: &ResolvedService) -> bool {
        let id = service.fullname.to_lowercase();
        let Some(info) = service.get_property_val_str("i").and_then(read_info) else { return self.gone(&id) };
        let name = service.get_property_val_str("n").map_or_else(|| first_label(&service.fullname), str::to_owned);
        let name: String = name.chars().filter(|c| !c.is_control()).take(NAME).collect();
        if self.0.len() >= MOST && !self.0.contains_key(&id) {
            return false;
        }
        let found = Found { id: id.clone(), name, info };
        self.0.insert(id, found.clone()).as_ref() != Some(&found)
    }

    /// A service said goodbye, or was not heard of for too long. Whether the list changed.
    pub(super) fn gone(&mut self, fullname: &str) -> bool {
        self.0.remove(&fullname.to_lowercase()).is_some()
    }

    pub(super) fn list(&self) -> Vec<Found> {
        self.0.values().cloned().collect()
    }
}

/// INFO in hexadecimal: version 1, and a window that is open.
fn read_info(text: &str) -> Option<[u8; 12]> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
    let info: [u8; 12] = bytes.try_into().ok()?;
    matches!(info, [1, 1 | 2, ..]).then_some(info)
}

fn first_label(fullname: &str) -> String {
    fullname.split("._").next().unwrap_or_default().replace('\\', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mdns_sd::ServiceInfo;

    fn service(name: &str, txt: &[(&str, &str)]) -> ResolvedService {
        ServiceInfo::new(THING, name, "thing.local.", "192.0.2.7", 0, txt).unwrap().as_resolved_service()
    }

    #[test]
    fn a_device_is_listed_while_its_window_is_open() {
        let mut nearby = Nearby::default();
        assert!(nearby.heard(&service("lamp-1", &[("i", "0101aabbccdd010203040506"), ("n", "Desk lamp\u{7}")])));
        assert!(!nearby.heard(&service("lamp-1", &[("i", "0101aabbccdd010203040506"), ("n", "Desk lamp")])));
        let list = nearby.list();
        assert_eq!((list.len(), list[0].name.as_str(), list[0].info[1]), (1, "Desk lamp", 1));
        assert!(nearby.heard(&service("lamp-1", &[("i", "0100aabbccdd010203040506")])), "it closed its window");
        assert!(nearby.list().is_empty());
    }

    #[test]
    fn what_says_nothing_sensible_is_not_listed() {
        let mut nearby = Nearby::default();
        for info in ["", "0101", "0201aabbccdd010203040506", "0103aabbccdd010203040506", "zz01aabbccdd010203040506"] {
            assert!(!nearby.heard(&service("x", &[("i", info)])), "{info}");
        }
        assert!(!nearby.heard(&service("x", &[])));
    }

    #[test]
    fn a_flood_fills_the_list_and_no_more() {
        let mut nearby = Nearby::default();
        for n in 0..2 * MOST {
            nearby.heard(&service(&format!("x{n}"), &[("i", "0101aabbccdd010203040506")]));
        }
        assert_eq!(nearby.list().len(), MOST);
        assert_eq!(nearby.list()[0].name, "x0");
        assert!(nearby.gone(&format!("X0.{THING}")));
    }
}
