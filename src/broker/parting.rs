//! The end of a connection whose place another has taken: before it is closed, whoever is at its other end is asked whether
//! it is still there. A socket that nobody holds any more says nothing; two things that act as one device both answer.
//! What that proves is the service's to say.
//!
//! Every client is asked in a way that every client answers: a PUBREL with an identifier that is not in use, to which the
//! standard demands a PUBCOMP (MQTT 3.1.1 and 5.0 §4.3.3). A device that listens to `proof/challenge` is asked for its
//! key as well. The newcomer waits for none of this, and nothing else that comes is acted on.

use super::Broker;
use super::connection::Client;
use super::session::Session;
use super::wire::{Codec, Incoming};
use super::writer::say_goodbye;
use crate::domain::binding::Subject;
use crate::domain::topic::{self, Place, locate};
use crate::service::{Answer, SignedIn};
use bytes::BytesMut;
use data_encoding::BASE64URL_NOPAD;
use rumqttd::protocol::{DisconnectReasonCode, Packet, PubComp, PubRel, PubRelReason, Publish};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Who was displaced.
pub(super) struct Displaced {
    signed_in: SignedIn,
    session: Arc<Session>,
    codec: Codec,
    /// Whether it listens for a challenge of its key, and on which topic that comes.
    challenged_at: Option<String>,
}

impl Displaced {
    pub(super) fn of(client: &Client) -> Displaced {
        let challenged_at = match &client.signed_in.subject {
            Subject::Device(id) => Some(format!("{}proof/challenge", topic::room(id.as_str()))),
            _ => None,
        };
        let subscriptions = client.session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let listens = |name: &String| subscriptions.keys().any(|filter| topic::matches(filter, name));
        Displaced {
            signed_in: client.signed_in.clone(),
            session: client.session.clone(),
            codec: client.codec.clone(),
            challenged_at: challenged_at.filter(listens),
        }
    }
}

impl Broker {
    /// Asks, waits for what comes back, says goodbye, and tells the service.
    pub(super) async fn part(
        &self,
        mut displaced: Displaced,
        by: &SignedIn,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        mut buf: BytesMut,
        shutdown: &CancellationToken,
    ) {
        let mut asked = None;
        if let Some(probe) = self.service.probe(&displaced.signed_in) {
            let packet = displaced.session.spare_pkid(probe.packet);
            let mut out = BytesMut::new();
            if let Some(topic) = &displaced.challenged_at {
                let body = serde_json::json!({"challenge": BASE64URL_NOPAD.encode(&probe.challenge)}).to_string();
                displaced.codec.encode(Packet::Publish(Publish::new(topic.clone().into_bytes(), body.into_bytes(), false), None), &mut out);
            }
            displaced.codec.encode(Packet::PubRel(PubRel { pkid: packet, reason: PubRelReason::Success }, None), &mut out);
            let patience = Duration::from_millis(self.config.parting_ms);
            let mut answer = Answer::Silent;
            let exchange = async {
                writer.write_all(&out).await.ok()?;
                writer.flush().await.ok()?;
                listen(&mut displaced, packet, &mut reader, &mut buf, &mut answer).await
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = timeout(patience, exchange) => {}
            }
            asked = Some((probe, answer));
        }
        say_goodbye(&mut writer, &displaced.codec, Some(DisconnectReasonCode::SessionTakenOver)).await;
        if let Some((probe, answer)) = asked {
            self.service.displaced(&displaced.signed_in, by, &displaced.session.client_id, &probe.challenge, &answer).await;
        }
    }
}

/// Reads until the best answer has come that can be expected, or the stream ends.
async fn listen(
    displaced: &mut Displaced,
    packet: u16,
    reader: &mut (impl AsyncRead + Unpin),
    buf: &mut BytesMut,
    answer: &mut Answer,
) -> Option<()> {
    loop {
        while let Some(incoming) = displaced.codec.decode(buf, MAX_ANSWER).ok()? {
            match incoming {
                Incoming::Other(Packet::PubComp(PubComp { pkid, .. }, _)) if pkid == packet => {
                    if *answer == Answer::Silent {
                        *answer = Answer::Alive;
                    }
                    if displaced.challenged_at.is_none() {
                        return Some(());
                    }
                }
                Incoming::Publish(publish) => {
                    let name = std::str::from_utf8(&publish.topic).unwrap_or_default();
                    if locate(name).is_some_and(|at| at.place == Place::ProofResponse) {
                        *answer = Answer::Response(publish.payload.to_vec());
                        return Some(());
                    }
                }
                Incoming::Other(_) => {}
            }
        }
        if reader.read_buf(buf).await.ok()? == 0 {
            return None;
        }
    }
}
