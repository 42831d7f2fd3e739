//! What is said when a hub was stolen: a new hub asks for the devices to be sent to it, and whoever has the household's
//! recovery code says that it is the one. The orders for devices are `keys`'. `docs/protocol/rehome.md`.

use ciborium::Value;
use ed25519_dalek::SigningKey;

use super::batch::recipient;
use super::brand::{Purpose, StatementError, sign_statement, unverified_payload, verify_statement};
use super::cbor::{self, CborError, Field, Record};
use super::ids::HubId;
use super::keys::{ADDRESSES_MAX, MoveOrder, REHOMED_MAX, is_address};

/// What the printed form of a move request begins with.
const PREFIX: &str = "HKMOVE1.";
/// Bytes of a statement that is looked at.
const STATEMENT_MAX: usize = 8 * 1024;
/// Bytes of a CA certificate at most.
const CA_MAX: usize = 4 * 1024;
/// What a file of orders begins with.
const FILE: &str = "hkmv1";
/// Orders of one file at most, and its bytes.
pub const FILE_ORDERS_MAX: usize = 10_000;
/// Bytes of a file of orders at most.
pub const FILE_MAX: usize = 16 * 1024 * 1024;

/// A hub to which devices are to move, by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveRequest {
    /// Its Ed25519 identity key, which signs.
    pub identity: [u8; 32],
    /// Its age X25519 recipient, to which registry batches are encrypted.
    pub recipient: String,
    /// Its CA certificate (DER).
    pub ca: Vec<u8>,
    /// The hubs that the devices may be leaving: the stolen one first.
    pub from: Vec<HubId>,
    /// `host:port` where its MQTT over TLS may be found; may be empty.
    pub addresses: Vec<String>,
    /// When, s since 1970.
    pub at_s: u64,
}

impl MoveRequest {
    /// Signs it with the new hub's identity key.
    #[must_use]
    pub fn sign(&self, identity: &SigningKey) -> Vec<u8> {
        let payload = cbor::map([
            (1, cbor::bytes(&self.identity)),
            (2, cbor::text(&self.recipient)),
            (3, cbor::bytes(&self.ca)),
            (4, Value::Array(self.from.iter().map(|hub| cbor::bytes(hub.as_bytes())).collect())),
            (5, Value::Array(self.addresses.iter().map(cbor::text).collect())),
            (6, Value::from(self.at_s)),
        ]);
        sign_statement(identity, Purpose::Move, cbor::encode(payload))
    }

    /// Reads a request and checks it against the identity key in it.
    ///
    /// # Errors
    /// [`StatementError`] for anything else.
    pub fn read(statement: &[u8]) -> Result<Self, StatementError> {
        const WHAT: &str = "move request";
        bounded(WHAT, statement)?;
        let mut record = Record::decode(WHAT, &unverified_payload(Purpose::Move, statement)?)?;
        let read = Self {
            identity: record.take(1, "identity key")?.fixed()?,
            recipient: record.take(2, "age recipient")?.parsed(recipient)?,
            ca: record.take(3, "CA certificate")?.bytes()?,
            from: hubs(record.take(4, "hubs left")?)?,
            addresses: record.take(5, "addresses")?.items()?.into_iter().map(|a| a.parsed(address)).collect::<Result<_, _>>()?,
            at_s: record.take(6, "time")?.uint()?,
        };
        record.finish()?;
        let sound = (1..=REHOMED_MAX).contains(&read.from.len()) && read.addresses.len() <= ADDRESSES_MAX && read.ca.len() <= CA_MAX;
        if !sound {
            return Err(StatementError::TooLarge(WHAT));
        }
        if read.from.contains(&read.hub()) {
            return Err(StatementError::NotThatHub);
        }
        verify_statement(&read.identity, Purpose::Move, statement)?;
        Ok(read)
    }

    /// The new hub.
    #[must_use]
    pub fn hub(&self) -> HubId {
        HubId::from_public_key(&self.identity)
    }

    /// What a device of the stolen hub is told.
    #[must_use]
    pub fn order(&self, made: u64) -> MoveOrder {
        MoveOrder { from: self.from.clone(), identity: self.identity, ca: self.ca.clone(), addresses: self.addresses.clone(), made }
    }

    /// As a hub shows it for its makers: one line.
    #[must_use]
    pub fn line(statement: &[u8]) -> String {
        format!("{PREFIX}{}", data_encoding::BASE64URL_NOPAD.encode(statement))
    }

    /// Reads such a line. White space around it does not matter.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn parse(line: &str) -> Result<Self, StatementError> {
        let refused = || StatementError::NotAStatement("move request");
        if line.len() > STATEMENT_MAX * 2 {
            return Err(StatementError::TooLarge("the move request"));
        }
        let text = line.trim().strip_prefix(PREFIX).ok_or_else(refused)?;
        Self::read(&data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| refused())?)
    }
}

/// A hub was stolen, and another follows it. Signed by the recovery key of the stolen one, which it cannot make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RehomeStatement {
    /// The hub that was stolen.
    pub hub: HubId,
    /// Above its last epoch: it is over, as by an epoch statement.
    pub epoch: u64,
    /// The new hub's mirror key.
    pub mirror: [u8; 32],
    /// The new hub's move request, signed by its identity.
    pub request: Vec<u8>,
    /// When, s since 1970.
    pub at_s: u64,
}

impl RehomeStatement {
    /// Signs it with the recovery code's key for the stolen hub.
    #[must_use]
    pub fn sign(&self, recovery: &SigningKey) -> Vec<u8> {
        let payload = cbor::map([
            (1, cbor::bytes(self.hub.as_bytes())),
            (2, Value::from(self.epoch)),
            (3, cbor::bytes(&self.mirror)),
            (4, cbor::bytes(&self.request)),
            (5, Value::from(self.at_s)),
        ]);
        sign_statement(recovery, Purpose::Rehome, cbor::encode(payload))
    }

    /// Checks it against the recovery key that was pinned, and the request in it against the new hub's own key. Whether hub
    /// and epoch fit, the caller asks.
    ///
    /// # Errors
    /// [`StatementError`] for anything else.
    pub fn verify(recovery: &[u8; 32], statement: &[u8]) -> Result<(Self, MoveRequest), StatementError> {
        const WHAT: &str = "rehome statement";
        let mut record = Record::decode(WHAT, &verify_statement(recovery, Purpose::Rehome, bounded(WHAT, statement)?)?)?;
        let read = Self {
            hub: HubId::from_bytes(record.take(1, "hub id")?.fixed()?),
            epoch: record.take(2, "epoch")?.uint()?,
            mirror: record.take(3, "mirror key")?.fixed()?,
            request: record.take(4, "move request")?.bytes()?,
            at_s: record.take(5, "time")?.uint()?,
        };
        record.finish()?;
        let request = MoveRequest::read(&read.request)?;
        if !request.from.contains(&read.hub) {
            return Err(StatementError::NotThatHub);
        }
        Ok((read, request))
    }
}

/// A file of orders, as a maker's tool writes it.
#[must_use]
pub fn write_orders(orders: &[Vec<u8>]) -> Vec<u8> {
    let orders = Value::Array(orders.iter().map(|order| cbor::bytes(order)).collect());
    cbor::encode(Value::Array(vec![cbor::text(FILE), orders]))
}

/// Reads such a file. What is in an order, its device alone can tell.
///
/// # Errors
/// [`StatementError`] for anything else, or too much.
pub fn read_orders(file: &[u8]) -> Result<Vec<Vec<u8>>, StatementError> {
    const WHAT: &str = "file of move orders";
    if file.len() > FILE_MAX {
        return Err(StatementError::TooLarge("the file of move orders"));
    }
    let mut row = cbor::Row::decode(WHAT, file)?;
    row.take("marker")?.is(FILE)?;
    let orders = row.take("orders")?.items()?;
    row.finish()?;
    if orders.len() > FILE_ORDERS_MAX {
        return Err(StatementError::TooLarge("the file of move orders"));
    }
    Ok(orders.into_iter().map(Field::bytes).collect::<Result<_, _>>()?)
}

fn bounded<'a>(what: &'static str, statement: &'a [u8]) -> Result<&'a [u8], StatementError> {
    if statement.len() > STATEMENT_MAX { Err(StatementError::TooLarge(what)) } else { Ok(statement) }
}

fn hubs(field: Field) -> Result<Vec<HubId>, CborError> {
    field.items()?.into_iter().map(|hub| Ok(HubId::from_bytes(hub.fixed()?))).collect()
}

fn address(text: &str) -> Result<String, &'static str> {
    if is_address(text) { Ok(text.to_owned()) } else { Err("is no address") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mirror::recovery::RecoveryCode;

    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    fn old() -> HubId {
        HubId::from_public_key(SigningKey::from_bytes(&[1; 32]).verifying_key().as_bytes())
    }

    fn request(identity: &SigningKey) -> MoveRequest {
        MoveRequest {
            identity: identity.verifying_key().to_bytes(),
            recipient: RECIPIENT.into(),
            ca: vec![0x30; 400],
            from: vec![old()],
            addresses: vec!["hub.local:8883".into()],
            at_s: 1_790_000_000,
        }
    }

    fn statement(request: Vec<u8>) -> RehomeStatement {
        RehomeStatement { hub: old(), epoch: 3, mirror: [4; 32], request, at_s: 1_790_000_001 }
    }

    #[test]
    fn only_the_recovery_key_of_the_stolen_hub_says_which_one_follows_it() {
        let (code, identity) = (RecoveryCode::from_bytes([9; 20]), SigningKey::from_bytes(&[2; 32]));
        let key = code.epoch_key(&old());
        let said = statement(request(&identity).sign(&identity));
        let signed = said.sign(&key);
        let public = key.verifying_key().to_bytes();
        let (read, asked) = RehomeStatement::verify(&public, &signed).unwrap();
        assert_eq!((read, asked), (said.clone(), request(&identity)));
        // Neither the thief, with the identity, nor the code of another house.
        for other in [SigningKey::from_bytes(&[1; 32]), RecoveryCode::from_bytes([8; 20]).epoch_key(&old())] {
            assert!(RehomeStatement::verify(&public, &said.sign(&other)).is_err());
        }
        assert!(RehomeStatement::verify(&public, &signed[..signed.len() - 1]).is_err());
    }

    #[test]
    fn a_request_is_by_the_hub_it_names_and_not_for_itself() {
        let (identity, thief) = (SigningKey::from_bytes(&[2; 32]), SigningKey::from_bytes(&[3; 32]));
        assert!(MoveRequest::read(&request(&identity).sign(&thief)).is_err());
        let own = MoveRequest { from: vec![request(&identity).hub()], ..request(&identity) };
        assert_eq!(MoveRequest::read(&own.sign(&identity)), Err(StatementError::NotThatHub));
        let nobody = MoveRequest { from: Vec::new(), ..request(&identity) };
        assert!(MoveRequest::read(&nobody.sign(&identity)).is_err());
        let line = MoveRequest::line(&request(&identity).sign(&identity));
        assert_eq!(MoveRequest::parse(&format!(" {line}\n")), Ok(request(&identity)));
        assert!(MoveRequest::parse(line.trim_start_matches("HKMOVE1.")).is_err());
        // One that names other hubs than the statement is of says nothing about that hub.
        let code = RecoveryCode::from_bytes([9; 20]).epoch_key(&old());
        let other = MoveRequest { from: vec![HubId::from_bytes([7; 16])], ..request(&identity) };
        let signed = statement(other.sign(&identity)).sign(&code);
        assert_eq!(RehomeStatement::verify(&code.verifying_key().to_bytes(), &signed), Err(StatementError::NotThatHub));
    }

    #[test]
    fn a_file_of_orders_is_read_as_it_was_written() {
        let orders = vec![vec![1, 2, 3], vec![4]];
        let file = write_orders(&orders);
        assert_eq!(read_orders(&file), Ok(orders));
        assert!(read_orders(&file[1..]).is_err() && read_orders(b"").is_err());
        assert!(read_orders(&write_orders(&vec![Vec::new(); FILE_ORDERS_MAX + 1])).is_err());
    }
}
