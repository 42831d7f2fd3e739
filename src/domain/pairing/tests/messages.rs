//! What is a message and what is none.

use ciborium::Value;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::table::{Device, delivery, label};
use crate::domain::cbor;
use crate::domain::pairing::*;

fn all() -> Vec<Message> {
    let hello = Device::new(label(), 23).hello(&[0; 32]);
    let least = Hello { hardware: String::new(), firmware: String::new(), resets: 0, voucher: Vec::new(), model_len: 0, ..hello.clone() };
    let open = Wifi::new(vec![0xff], Zeroizing::default()).unwrap();
    vec![
        Message::Hello(hello),
        Message::Hello(least),
        Message::WantModel(0),
        Message::WantModel(u64::MAX),
        Message::ModelPart(3_500, vec![1; MODEL_PIECE_MAX]),
        Message::Credential(delivery()),
        Message::Credential(Delivery { wifi: None, ..delivery() }),
        Message::Credential(Delivery { wifi: Some(open), ..delivery() }),
        Message::Stored,
        Message::Progress(DeviceStep::Joining, 3),
        Message::end(EndCode::Busy, ""),
        Message::Complete,
    ]
}

#[test]
fn every_message_is_read_as_it_was_written() {
    for message in all() {
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
    for (number, code) in (0..).zip(EndCode::ALL) {
        assert_eq!((code as u64, EndCode::from_number(number)), (number, Some(code)));
    }
    assert_eq!(EndCode::from_number(10), None);
}

#[test]
fn the_greatest_of_every_kind_fits_into_a_message() {
    let addresses = vec!["x".repeat(ADDRESS_MAX); ADDRESSES_MAX];
    let wifi = Wifi::new(vec![1; 32], Zeroizing::new("x".repeat(64))).unwrap();
    let delivery = Delivery { ca: vec![1; CA_MAX], addresses, claimed_at: u64::MAX, wifi: Some(wifi), ..delivery() };
    let hello = Device::new(label(), 23).hello(&[0; 32]);
    let labels = ["é".repeat(64), "é".repeat(64)];
    let [hardware, firmware] = labels;
    let hello = Hello { hardware, firmware, voucher: vec![1; SHORT_VOUCHER_MAX], model_len: MODEL_PART_MAX, ..hello };
    for message in [Message::Credential(delivery), Message::Hello(hello), Message::ModelPart(u64::MAX, vec![1; MODEL_PIECE_MAX])] {
        let plaintext = message.encode();
        assert!(plaintext.len() + 16 <= MESSAGE_MAX);
        assert_eq!(Message::decode(&plaintext), Ok(message));
    }
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let hello = Device::new(label(), 23).hello(&[0; 32]);
    let beyond = [
        Message::Hello(Hello { firmware: "x".repeat(65), ..hello.clone() }),
        Message::Hello(Hello { firmware: "a\nb".into(), ..hello.clone() }),
        Message::Hello(Hello { voucher: vec![1; SHORT_VOUCHER_MAX + 1], ..hello.clone() }),
        Message::Hello(Hello { model_len: MODEL_PART_MAX + 1, ..hello.clone() }),
        Message::Hello(Hello { resets: u64::MAX, ..hello }),
        Message::ModelPart(0, Vec::new()),
        Message::ModelPart(0, vec![1; MODEL_PIECE_MAX + 1]),
        Message::Credential(Delivery { ca: Vec::new(), ..delivery() }),
        Message::Credential(Delivery { addresses: vec!["x:1".into(); 9], ..delivery() }),
        Message::Credential(Delivery { addresses: vec!["x".repeat(65)], ..delivery() }),
        Message::Credential(Delivery { wifi: Some(Wifi { ssid: Vec::new(), passphrase: Zeroizing::default() }), ..delivery() }),
        Message::End(EndCode::Busy, "x".repeat(101)),
    ];
    for message in beyond {
        assert!(Message::decode(&message.encode()).is_err(), "{message:?}");
    }
}

#[test]
fn an_unknown_member_is_refused_wherever_it_stands() {
    for message in all() {
        let Value::Array(items) = cbor::decode("test", &message.encode()).unwrap() else { unreachable!() };
        let mut longer = items.clone();
        longer.push(0.into());
        assert!(Message::decode(&cbor::encode(Value::Array(longer))).is_err(), "{message:?}");
        for (at, item) in items.iter().enumerate() {
            let mut other = items.clone();
            let Value::Map(mut entries) = item.clone() else { continue };
            entries.push((10.into(), 0.into()));
            other[at] = Value::Map(entries);
            assert!(Message::decode(&cbor::encode(Value::Array(other))).is_err(), "{message:?}");
        }
    }
}

#[test]
fn a_network_has_a_name_and_a_passphrase_of_the_right_length() {
    let wifi = |ssid: usize, passphrase: usize| Wifi::new(vec![1; ssid], Zeroizing::new("x".repeat(passphrase))).err();
    assert_eq!([wifi(1, 0), wifi(32, 8), wifi(32, 64)], [None, None, None]);
    assert_eq!([wifi(0, 8), wifi(33, 8)], [Some(WifiError::Ssid); 2]);
    assert_eq!([wifi(1, 7), wifi(1, 65)], [Some(WifiError::Passphrase); 2]);
}

#[test]
fn what_is_handed_over_does_not_show_itself() {
    let shown = format!("{:?}", delivery());
    assert!(!shown.contains("correct horse") && shown.contains("OperationalSecret(…)") && shown.contains("Wifi(…)"), "{shown}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_bring_the_reader_down(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(&*message.encode(), &bytes);
        }
    }

    #[test]
    fn a_changed_message_is_refused_or_is_another_in_its_one_form(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let messages = all();
        let mut bytes = messages[which.index(messages.len())].encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(&*message.encode(), &bytes);
        }
    }
}
