//! Messages in fragments, and back (pairing.md §2).

/// The longest message, in bytes.
pub const MESSAGE: usize = 4096;
const FIRST: u8 = 0x80;
const LAST: u8 = 0x40;
const SEQUENCE: u8 = 0x3F;

/// The longest value at this MTU, in bytes: 20 to 509.
pub fn value_max(mtu: u16) -> usize {
    usize::from(mtu).saturating_sub(3).clamp(20, 509)
}

/// Cuts a message into values of at most `most` bytes; nothing when it is empty or too long, or `most` below 4.
pub fn cut(message: &[u8], most: usize) -> Vec<Vec<u8>> {
    let total = match u16::try_from(message.len()) {
        Ok(total @ 1..=4096) if most >= 4 => total,
        _ => return Vec::new(),
    };
    let (first, rest) = message.split_at_checked(most - 3).unwrap_or((message, &[]));
    let mut value = vec![FIRST];
    value.extend(total.to_be_bytes());
    value.extend(first);
    let mut values = vec![value];
    for (part, sequence) in rest.chunks(most - 1).zip(1u64..) {
        let mut value = vec![sequence.to_le_bytes()[0] & SEQUENCE];
        value.extend(part);
        values.push(value);
    }
    if let Some(head) = values.last_mut().and_then(|value| value.first_mut()) {
        *head |= LAST;
    }
    values
}

/// Fragments that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the fragments are no message: {0}")]
pub struct Broken(pub &'static str);

/// Puts fragments of one direction together.
#[derive(Debug, Default)]
pub struct Assembler {
    /// The message under way, its total length, and the sequence number that is next.
    under_way: Option<(zeroize::Zeroizing<Vec<u8>>, usize, u8)>,
}

impl Assembler {
    /// Takes a value of at most `most` bytes. The whole message, when this was its last one.
    ///
    /// # Errors
    /// [`Broken`]: nothing more is to be read from this side.
    pub fn push(&mut self, value: &[u8], most: usize) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, Broken> {
        let Some((head, rest)) = value.split_first().filter(|_| value.len() <= most) else {
            return Err(Broken("a value that is empty or too long"));
        };
        let (mut message, total, expected, part) = match (self.under_way.take(), head & FIRST != 0) {
            (Some(_), true) => return Err(Broken("a message begins within another")),
            (None, false) => return Err(Broken("a message begins in its middle")),
            (Some((message, total, expected)), false) => (message, total, expected, rest),
            (None, true) => {
                let (total, part) = rest.split_first_chunk::<2>().ok_or(Broken("no length"))?;
                let total = usize::from(u16::from_be_bytes(*total));
                if !(1..=MESSAGE).contains(&total) {
                    return Err(Broken("a length that none has"));
                }
                (zeroize::Zeroizing::new(Vec::with_capacity(total)), total, 0, part)
            }
        };
        if head & SEQUENCE != expected {
            return Err(Broken("a gap"));
        }
        if part.is_empty() {
            return Err(Broken("an empty fragment"));
        }
        message.extend_from_slice(part);
        let last = head & LAST != 0;
        match message.len().cmp(&total) {
            std::cmp::Ordering::Greater => Err(Broken("longer than it says")),
            std::cmp::Ordering::Equal if last => Ok(Some(message)),
            std::cmp::Ordering::Less if last => Err(Broken("shorter than it says")),
            // A fragment must follow that has at least one byte.
            std::cmp::Ordering::Equal => Err(Broken("longer than it says")),
            std::cmp::Ordering::Less => {
                self.under_way = Some((message, total, (expected + 1) & SEQUENCE));
                Ok(None)
            }
        }
    }
}
