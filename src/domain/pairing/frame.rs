//! Messages in fragments (`docs/protocol/pairing.md` §2): a message of up to 4,096 bytes travels as GATT values of what the MTU allows.

/// The largest message, in bytes.
pub const MESSAGE_MAX: usize = 4_096;
/// The largest GATT value used, in bytes.
pub const VALUE_MAX: usize = 509;
/// The smallest room in a GATT value, in bytes: that of the smallest MTU, 23.
pub const VALUE_MIN: usize = 20;

const FIRST: u8 = 0x80;
const LAST: u8 = 0x40;
const SEQUENCE: u8 = 0x3f;

/// Why a message cannot be cut, or fragments are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message of 0 bytes, or one that announces so.
    #[error("an empty message")]
    EmptyMessage,
    /// More than [`MESSAGE_MAX`].
    #[error("a message of {0} bytes, where 4,096 are the most")]
    MessageTooLong(usize),
    /// Values of fewer than [`VALUE_MIN`] or more than [`VALUE_MAX`] bytes.
    #[error("values of {0} bytes, outside 20 to 509")]
    Value(usize),
    /// A fragment without a byte of the message.
    #[error("an empty fragment")]
    EmptyFragment,
    /// A fragment of more than [`VALUE_MAX`] bytes.
    #[error("a fragment of {0} bytes, where 509 are the most")]
    FragmentTooLong(usize),
    /// FIRST within a message.
    #[error("a message begins within another")]
    Restarted,
    /// A later fragment without the first.
    #[error("a message without its beginning")]
    NoFirst,
    /// A fragment is missing, repeated, or out of order.
    #[error("fragment {found} where {expected} was due")]
    Sequence {
        /// The number that was due, modulo 64.
        expected: u8,
        /// The number that came.
        found: u8,
    },
    /// More bytes than announced, or all of them and no LAST.
    #[error("a message longer than the {0} bytes it announced")]
    Exceeded(usize),
    /// LAST, and fewer bytes than announced.
    #[error("a message of {found} bytes that announced {announced}")]
    Short {
        /// The total in the first fragment.
        announced: usize,
        /// What came.
        found: usize,
    },
}

/// How many bytes a GATT value may have on a connection with this ATT MTU: MTU − 3, within [`VALUE_MIN`] … [`VALUE_MAX`].
#[must_use]
pub fn value_max(mtu: u16) -> usize {
    usize::from(mtu).saturating_sub(3).clamp(VALUE_MIN, VALUE_MAX)
}

/// Cuts a message into GATT values of at most `value_max` bytes.
///
/// # Errors
/// [`FrameError::EmptyMessage`], [`FrameError::MessageTooLong`], [`FrameError::Value`].
pub fn fragments(message: &[u8], value_max: usize) -> Result<Vec<Vec<u8>>, FrameError> {
    if !(VALUE_MIN..=VALUE_MAX).contains(&value_max) {
        return Err(FrameError::Value(value_max));
    }
    let total = u16::try_from(message.len()).unwrap_or(u16::MAX);
    match message.len() {
        0 => return Err(FrameError::EmptyMessage),
        1..=MESSAGE_MAX => {}
        length => return Err(FrameError::MessageTooLong(length)),
    }
    let (head, rest) = message.split_at(message.len().min(value_max - 3));
    let parts = std::iter::once(head).chain(rest.chunks(value_max - 1));
    let count = 1 + rest.len().div_ceil(value_max - 1);
    let mut values = Vec::with_capacity(count);
    for (number, part) in parts.enumerate() {
        let mut value = Vec::with_capacity(part.len() + 3);
        let first = if number == 0 { FIRST } else { 0 };
        let last = if number + 1 == count { LAST } else { 0 };
        let sequence = u8::try_from(number % 64).unwrap_or(0);
        value.push(first | last | sequence);
        if number == 0 {
            value.extend(total.to_be_bytes());
        }
        value.extend(part);
        values.push(value);
    }
    Ok(values)
}

/// Puts fragments together again. It holds one message at a time, of at most [`MESSAGE_MAX`] bytes.
#[derive(Debug, Default)]
pub struct Reassembler {
    /// The message under way: how long it will be, and what has come.
    message: Option<(usize, Vec<u8>)>,
    sequence: u8,
}

impl Reassembler {
    /// Waits for a first fragment.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a message has begun and is not whole.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.message.is_some()
    }

    /// Takes the next value. The message, when it is whole with it.
    ///
    /// # Errors
    /// [`FrameError`]. The fragments before it are lost then; the pairing ends.
    pub fn push(&mut self, value: &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        let under_way = self.message.take();
        if value.len() > VALUE_MAX {
            return Err(FrameError::FragmentTooLong(value.len()));
        }
        let (&header, rest) = value.split_first().ok_or(FrameError::EmptyFragment)?;
        let (total, mut message, part) = if header & FIRST != 0 {
            if under_way.is_some() {
                return Err(FrameError::Restarted);
            }
            self.sequence = 0;
            let (total, part) = rest.split_first_chunk().ok_or(FrameError::EmptyFragment)?;
            match usize::from(u16::from_be_bytes(*total)) {
                0 => return Err(FrameError::EmptyMessage),
                total @ 1..=MESSAGE_MAX => (total, Vec::with_capacity(total), part),
                total => return Err(FrameError::MessageTooLong(total)),
            }
        } else {
            let (total, message) = under_way.ok_or(FrameError::NoFirst)?;
            (total, message, rest)
        };
        let (expected, found) = (self.sequence, header & SEQUENCE);
        if expected != found {
            return Err(FrameError::Sequence { expected, found });
        }
        if part.is_empty() {
            return Err(FrameError::EmptyFragment);
        }
        message.extend(part);
        let (whole, last) = (message.len() >= total, header & LAST != 0);
        if message.len() > total || (whole && !last) {
            return Err(FrameError::Exceeded(total));
        }
        if last && !whole {
            return Err(FrameError::Short { announced: total, found: message.len() });
        }
        if last {
            return Ok(Some(message));
        }
        self.sequence = (self.sequence + 1) & SEQUENCE;
        self.message = Some((total, message));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_mtu_leaves_what_it_leaves_within_bounds() {
        let sizes = [0, 3, 22, 23, 24, 185, 247, 512, 513, 517, u16::MAX].map(value_max);
        assert_eq!(sizes, [20, 20, 20, 20, 21, 182, 244, 509, 509, 509, 509]);
    }

    #[test]
    fn a_short_message_is_one_fragment() {
        assert_eq!(fragments(b"abc", 20).unwrap(), [[0xc0, 0, 3, b'a', b'b', b'c']]);
        let two = fragments(&[7; 18], 20).unwrap();
        assert_eq!(two.iter().map(|v| (v[0], v.len())).collect::<Vec<_>>(), [(0x80, 20), (0x41, 2)]);
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        assert_eq!(fragments(&[], 20), Err(FrameError::EmptyMessage));
        assert_eq!(fragments(&[0; 4_097], 20), Err(FrameError::MessageTooLong(4_097)));
        assert_eq!(fragments(&[0; 70_000], 20), Err(FrameError::MessageTooLong(70_000)));
        assert_eq!(fragments(&[0], 19), Err(FrameError::Value(19)));
        assert_eq!(fragments(&[0], 510), Err(FrameError::Value(510)));
    }

    /// What becomes of these values, one after the other.
    fn pushed(values: &[&[u8]]) -> Result<Option<Vec<u8>>, FrameError> {
        let mut reassembler = Reassembler::new();
        let mut last = Ok(None);
        for value in values {
            last = reassembler.push(value);
        }
        last
    }

    #[test]
    fn every_breach_of_the_form_is_named() {
        let cases: [(&[&[u8]], FrameError); 14] = [
            (&[&[]], FrameError::EmptyFragment),
            (&[&[0xc0]], FrameError::EmptyFragment),
            (&[&[0xc0, 0, 1]], FrameError::EmptyFragment),
            (&[&[0x80, 0, 2, 1], &[0x41]], FrameError::EmptyFragment),
            (&[&[0; 510]], FrameError::FragmentTooLong(510)),
            (&[&[0xc0, 0, 0, 1]], FrameError::EmptyMessage),
            (&[&[0x80, 0x10, 0x01, 1]], FrameError::MessageTooLong(4_097)),
            (&[&[0x41, 1]], FrameError::NoFirst),
            (&[&[0x80, 0, 2, 1], &[0xc0, 0, 1, 1]], FrameError::Restarted),
            (&[&[0x81, 0, 2, 1]], FrameError::Sequence { expected: 0, found: 1 }),
            (&[&[0x80, 0, 3, 1], &[0x01, 1], &[0x41, 1]], FrameError::Sequence { expected: 2, found: 1 }),
            (&[&[0x80, 0, 2, 1], &[0x41, 1, 1]], FrameError::Exceeded(2)),
            (&[&[0x80, 0, 2, 1], &[0x01, 1]], FrameError::Exceeded(2)),
            (&[&[0xc0, 0, 2, 1]], FrameError::Short { announced: 2, found: 1 }),
        ];
        for (values, error) in cases {
            assert_eq!(pushed(values), Err(error), "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn every_message_comes_back_whole(message in prop::collection::vec(any::<u8>(), 1..=MESSAGE_MAX), room in VALUE_MIN..=VALUE_MAX) {
            let mut reassembler = Reassembler::new();
            let values = fragments(&message, room).unwrap();
            for value in &values[..values.len() - 1] {
                prop_assert_eq!(value.len(), room);
                prop_assert_eq!(reassembler.push(value), Ok(None));
            }
            prop_assert_eq!(reassembler.push(values.last().unwrap()), Ok(Some(message)));
            prop_assert!(!reassembler.is_under_way());
        }

        #[test]
        fn a_fragment_dropped_repeated_or_moved_is_noticed(
            message in prop::collection::vec(any::<u8>(), 60..=MESSAGE_MAX), room in VALUE_MIN..60usize,
            which in any::<prop::sample::Index>(), how in 0..3u8,
        ) {
            let mut values = fragments(&message, room).unwrap();
            let at = which.index(values.len() - 1);
            match how {
                0 => { values.remove(at); }
                1 => values.insert(at, values[at].clone()),
                _ => values.swap(at, at + 1),
            }
            let mut reassembler = Reassembler::new();
            let outcome = values.iter().try_for_each(|value| reassembler.push(value).map(drop));
            prop_assert!(outcome.is_err());
        }

        #[test]
        fn arbitrary_values_never_bring_it_down(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..40)) {
            let mut reassembler = Reassembler::new();
            for value in values {
                if let Ok(Some(message)) = reassembler.push(&value) {
                    prop_assert!((1..=MESSAGE_MAX).contains(&message.len()));
                }
            }
        }
    }
}
