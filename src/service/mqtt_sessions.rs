//! MQTT sessions that outlive their connections, as they are kept: what they subscribe to, and what waits for them. What is in them is the
//! gate's; that it is on the disk before somebody is told so is done here.

use super::{Refusal, Service};
use crate::domain::binding::Subject;
use crate::store::tables::{MqttSession, WaitingMessage, mqtt_session_key, waiting_key};
use crate::store::{Read, Record, StoreError};
use std::collections::BTreeSet;

/// A session as it was kept, with what waits for it in its order.
#[derive(Debug)]
pub struct KeptSession {
    /// Whose it is.
    pub subject: Subject,
    /// Its number, which no other session has.
    pub number: u64,
    /// What it is.
    pub row: MqttSession,
    /// What waits, by rising numbers.
    pub waiting: Vec<(u64, WaitingMessage)>,
}

/// A message to be kept, if at the moment of writing it is still owed.
pub struct MessageToKeep {
    /// Its key: [`kept_message_key`].
    pub key: Vec<u8>,
    /// What it is.
    pub row: WaitingMessage,
    /// Asked in the transaction, perhaps more than once: whether it is still owed.
    pub owed: Box<dyn Fn() -> bool + Send>,
}

/// What is to be kept of a session, if at the moment of writing it has not ended.
pub struct SessionToKeep {
    /// Its key: [`kept_session_key`].
    pub key: Vec<u8>,
    /// Asked in the transaction, perhaps more than once: what it is now.
    pub now: Box<dyn Fn() -> Option<MqttSession> + Send>,
}

/// What is written at once.
#[derive(Default)]
pub struct SessionChanges {
    /// Sessions.
    pub sessions: Vec<SessionToKeep>,
    /// Messages.
    pub messages: Vec<MessageToKeep>,
    /// Keys of sessions that have ended: what waits for them goes too.
    pub ended: Vec<Vec<u8>>,
    /// Keys of messages that are done.
    pub done: Vec<Vec<u8>>,
}

impl SessionChanges {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.messages.is_empty() && self.ended.is_empty() && self.done.is_empty()
    }
}

/// The key of a session.
#[must_use]
pub fn kept_session_key(subject: &Subject, number: u64) -> Vec<u8> {
    mqtt_session_key(subject, number)
}

/// The key of a message that waits for it.
#[must_use]
pub fn kept_message_key(subject: &Subject, number: u64, message: u64) -> Vec<u8> {
    waiting_key(subject, number, message)
}

impl Service {
    /// The sessions that are kept. What waits for none of them is forgotten.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn kept_sessions(&self) -> Result<Vec<KeptSession>, Refusal> {
        let (found, orphans) = self.store.read::<_, StoreError>(|v| {
            let mut found = Vec::new();
            let mut known = BTreeSet::new();
            for (key, row) in v.scan::<MqttSession>(b"", usize::MAX)? {
                let Some((subject, number)) = parse_key(&key) else { continue };
                let waiting = v.scan::<WaitingMessage>(&key, usize::MAX)?;
                let waiting = waiting.into_iter().filter_map(|(key, row)| Some((number_at_end(&key)?, row))).collect();
                found.push(KeptSession { subject, number, row, waiting });
                known.insert(key);
            }
            let mut orphans = v.keys_after(WaitingMessage::TABLE, b"", b"", usize::MAX)?;
            let session_of = |key: &[u8]| key.split_last_chunk::<8>().map(|(session, _)| session.to_vec());
            orphans.retain(|key| session_of(key).is_none_or(|session| !known.contains(&session)));
            Ok((found, orphans))
        })?;
        if !orphans.is_empty()
            && let Err(error) = self.keep_sessions(SessionChanges { done: orphans, ..SessionChanges::default() }).await
        {
            tracing::warn!(%error, "messages that wait for no MQTT session stay on the disk until the next start");
        }
        Ok(found)
    }

    /// How many messages are on the disk, for all sessions together; some of them may be done.
    ///
    /// # Errors
    /// The store's fault.
    pub fn kept_messages(&self) -> Result<u64, Refusal> {
        Ok(self.store.read::<_, StoreError>(|v| v.count(WaitingMessage::TABLE))?)
    }

    /// Writes what has changed; it is on the disk when this returns.
    ///
    /// # Errors
    /// The store's fault; then nothing of it is written.
    pub async fn keep_sessions(&self, changes: SessionChanges) -> Result<(), Refusal> {
        self.store
            .write::<_, StoreError, _>(move |tx| {
                for key in &changes.ended {
                    tx.delete::<MqttSession>(key)?;
                    tx.delete_prefix::<WaitingMessage>(key)?;
                }
                for key in &changes.done {
                    tx.delete::<WaitingMessage>(key)?;
                }
                for session in &changes.sessions {
                    if let Some(now) = (session.now)() {
                        tx.put(&session.key, &now)?;
                    }
                }
                for message in &changes.messages {
                    if (message.owed)() {
                        tx.put(&message.key, &message.row)?;
                    }
                }
                Ok(())
            })
            .await?;
        Ok(())
    }
}

fn number_at_end(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|number| u64::from_be_bytes(*number))
}

fn parse_key(key: &[u8]) -> Option<(Subject, u64)> {
    let (subject, number) = key.split_last_chunk::<8>()?;
    let subject = std::str::from_utf8(subject.strip_suffix(b"\0")?).ok()?;
    Some((Subject::parse(subject)?, u64::from_be_bytes(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::DeviceId;

    #[test]
    fn a_key_is_read_as_it_was_made_whatever_its_number() {
        let subject = Subject::Device(DeviceId::parse("lamp-1").unwrap());
        for number in [0, 1, 255, 1 << 32, u64::MAX] {
            assert_eq!(parse_key(&kept_session_key(&subject, number)), Some((subject.clone(), number)));
            assert_eq!(number_at_end(&kept_message_key(&subject, 7, number)), Some(number));
        }
        assert_eq!(parse_key(b"short"), None);
    }
}
