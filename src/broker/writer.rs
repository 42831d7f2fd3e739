//! The writing half of a connection: takes what waits, checks each message again, and puts it on the wire.

use super::Broker;
use super::session::{Connection, Delivery, Outgoing, Session};
use super::wire::{Codec, PublishHead};
use bytes::BytesMut;
use rumqttd::protocol::{Disconnect, DisconnectReasonCode, Packet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Longest a peer may take to accept one batch of bytes.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Publishes per batch: small enough that a revocation waits for little.
const BATCH: usize = 256;

impl Broker {
    /// Writes until the connection is killed or the peer stops taking bytes. The stream comes back open, on a packet's
    /// boundary, when another has taken the connection's place.
    pub(super) async fn write_loop<W: AsyncWrite + Unpin>(
        self: Arc<Self>,
        mut writer: W,
        session: Arc<Session>,
        codec: Codec,
        connection: Connection,
    ) -> Option<W> {
        let mut batch = Vec::new();
        let mut out = BytesMut::new();
        let max_packet = session.max_packet.load(Ordering::Relaxed);
        let whole = loop {
            tokio::select! {
                biased;
                () = connection.kill.cancelled() => break true,
                () = session.ready() => {}
            }
            session.drain(&mut batch, BATCH);
            let sent = batch.iter().filter_map(|outgoing| match outgoing {
                Outgoing::Publish { delivery, .. } if delivery.qos == 2 => session.owes(delivery),
                _ => None,
            });
            let sent: Vec<_> = sent.collect();
            // Under which identifier it goes is known after a power cut too: the client takes it once.
            if !sent.is_empty()
                && let Err(error) = self.keeper.keep_sent(&session, sent).await
                && !error.is_no_room()
            {
                tracing::error!(%error, who = %session.principal, "messages of QoS 2 could not be written down, and are not sent");
                connection.kill.cancel();
                break true;
            }
            // From the check to the write nobody may believe that nothing is on its way.
            let writing = session.writing.lock().await;
            let policy = self.policy(&session);
            for outgoing in batch.drain(..) {
                match outgoing {
                    Outgoing::Control(packet) => codec.encode(*packet, &mut out),
                    Outgoing::Publish { delivery, pkid, dup } => {
                        if policy.table.receive(&delivery.message.topic) {
                            let before = out.len();
                            encode(&codec, &delivery, pkid, dup, &mut out);
                            if out.len() - before > max_packet {
                                // It would not be read (MQTT 5.0 §3.1.2.11.4): dropped as if it had been sent.
                                out.truncate(before);
                                session.finish(pkid);
                            }
                        } else {
                            session.finish(pkid);
                        }
                    }
                }
            }
            let sent = tokio::select! {
                biased;
                () = connection.kill.cancelled() => false,
                sent = timeout(WRITE_DEADLINE, async { writer.write_all(&out).await?; writer.flush().await }) => matches!(sent, Ok(Ok(()))),
            };
            drop(writing);
            if !sent {
                connection.kill.cancel();
                break false;
            }
            out.clear();
            if out.capacity() > 64 * 1024 {
                out = BytesMut::new();
            }
        };
        let reason = *connection.reason.lock().unwrap_or_else(PoisonError::into_inner);
        let taken_over = reason == Some(DisconnectReasonCode::SessionTakenOver);
        if whole && taken_over && connection.successor.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Some(writer);
        }
        // Only on a frame's boundary.
        say_goodbye(&mut writer, &codec, reason.filter(|_| whole)).await;
        None
    }
}

/// Ends the stream, saying why where the protocol can: MQTT 3.1.1 has no DISCONNECT from the server.
pub(super) async fn say_goodbye(writer: &mut (impl AsyncWrite + Unpin), codec: &Codec, reason: Option<DisconnectReasonCode>) {
    if let (true, Some(reason_code)) = (codec.is_v5(), reason) {
        let mut out = BytesMut::new();
        codec.encode(Packet::Disconnect(Disconnect { reason_code }, None), &mut out);
        let _ = timeout(Duration::from_secs(1), writer.write_all(&out)).await;
    }
    let _ = timeout(Duration::from_secs(1), writer.shutdown()).await;
}

fn encode(codec: &Codec, delivery: &Delivery, pkid: u16, dup: bool, out: &mut BytesMut) {
    let m = &delivery.message;
    let head = PublishHead { topic: &m.topic, payload: &m.payload, qos: delivery.qos, retain: delivery.retain, dup, pkid };
    if m.properties.is_none() && delivery.identifiers.is_empty() && m.expires.is_none() {
        return codec.encode_publish(head, None, out);
    }
    let mut properties = m.properties.as_deref().cloned().unwrap_or_default();
    properties.subscription_identifiers.clone_from(&delivery.identifiers);
    // The receiver learns what is left of the message's life (MQTT 5.0 §3.3.2.3.3).
    properties.message_expiry_interval =
        m.expires.map(|at| u32::try_from(at.saturating_duration_since(Instant::now()).as_secs().max(1)).unwrap_or(u32::MAX));
    codec.encode_publish(head, Some(properties), out);
}
