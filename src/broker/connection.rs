//! One connection from CONNECT to its end: sign-in, session, a reader that acts on packets in their order, a writer
//! that checks every message again before it leaves.

use super::reader::TOPIC_ALIASES;
use super::route::Memory;
use super::session::{Compiled, Connection, Session};
use super::wire::{Codec, Incoming, IncomingPublish, WireError};
use super::{Broker, Peer};
use crate::domain::binding::Subject;
use crate::domain::topic;
use crate::service::{SignInAttempt, SignInRefusal, SignedIn};
use bytes::{Bytes, BytesMut};
use rumqttd::protocol::{
    ConnAck, ConnAckProperties, Connect, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, LastWill, LastWillProperties, Packet,
    PublishProperties,
};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Why the reader stopped.
pub(super) enum End {
    /// The client said goodbye; its will is void.
    Goodbye,
    /// The client asks for its will to be sent.
    GoodbyeWithWill,
    /// The hub ends it.
    Reason(DisconnectReasonCode),
    /// The peer vanished.
    Gone,
}

pub(super) struct Client {
    pub(super) signed_in: SignedIn,
    pub(super) session: Arc<Session>,
    pub(super) codec: Codec,
    pub(super) keep_alive: Option<Duration>,
    pub(super) session_expiry: u32,
    pub(super) will: Option<(LastWill, Option<LastWillProperties>)>,
    pub(super) aliases: HashMap<u16, Bytes>,
    pub(super) memory: Memory,
}

/// An MQTT connection as this room serves it: any stream, TLS or WebSocket below it or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

impl Broker {
    /// Serves one connection until it ends.
    pub async fn serve(self: Arc<Self>, stream: impl Stream, peer: Peer, shutdown: CancellationToken) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut buf = BytesMut::with_capacity(1024);
        let deadline = Duration::from_secs(self.config.connect_deadline_s);
        let opened = tokio::select! {
            () = shutdown.cancelled() => return,
            opened = timeout(deadline, self.open(&mut reader, &mut writer, &mut buf, &peer)) => opened,
        };
        let Ok(Some((mut client, connection))) = opened else { return };
        let session = client.session.clone();
        let writing = tokio::spawn(self.clone().write_loop(writer, session.clone(), client.codec.clone(), connection.clone()));
        let end = tokio::select! {
            () = connection.kill.cancelled() => End::Gone,
            end = self.read_loop(&mut reader, &mut buf, &mut client, &connection) => end,
        };
        if let End::Reason(reason) = end {
            connection.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        }
        connection.kill.cancel();
        let _ = writing.await;
        self.close_client(client, end).await;
        connection.done.cancel();
    }

    async fn open(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        buf: &mut BytesMut,
        peer: &Peer,
    ) -> Option<(Client, Connection)> {
        let max = self.config.max_packet_bytes;
        let mut codec = loop {
            match Codec::of_connect(buf, max) {
                Ok(Some(codec)) => break codec,
                Ok(None) => {}
                Err(WireError::Version) => {
                    // MQTT 3.1.1 §3.1.2.2: unacceptable protocol level. No codec for it, so by hand.
                    let _ = writer.write_all(&[0x20, 2, 0, 1]).await;
                    return None;
                }
                Err(_) => return None,
            }
            if reader.read_buf(buf).await.ok()? == 0 {
                return None;
            }
        };
        let Ok(Some(Incoming::Other(Packet::Connect(connect, properties, will, will_properties, login)))) = codec.decode(buf, max) else {
            return None;
        };
        let refuse = |code| ConnAck { session_present: false, code };
        let properties = properties.unwrap_or_else(no_properties);
        if properties.authentication_method.is_some() {
            send(&codec, writer, refuse(ConnectReturnCode::BadAuthenticationMethod), None).await;
            return None;
        }
        let clean_v4 = !codec.is_v5() && connect.clean_session;
        if connect.client_id.len() > 128
            || connect.client_id.chars().any(char::is_control)
            || (connect.client_id.is_empty() && !codec.is_v5() && !clean_v4)
        {
            send(&codec, writer, refuse(ConnectReturnCode::ClientIdentifierNotValid), None).await;
            return None;
        }
        let attempt = SignInAttempt {
            username: login.as_ref().map_or_else(String::new, |l| l.username.clone()),
            password: login.map_or_else(String::new, |l| l.password).into(),
            certificate: peer.certificate.clone(),
            spki: peer.spki,
            source: peer.ip,
        };
        let signed_in = match self.service.sign_in(attempt).await {
            Ok(signed_in) => signed_in,
            Err(refusal) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                send(&codec, writer, refuse(refusal_code(&refusal, codec.is_v5())), None).await;
                return None;
            }
        };
        let assigned = connect.client_id.is_empty().then(|| format!("hk-{}", uuid::Uuid::now_v7().simple()));
        let attached = self.attach(&signed_in, &connect, assigned.clone(), &properties, codec.is_v5()).await;
        let Some((session, connection, present, session_expiry)) = attached else {
            send(
                &codec,
                writer,
                refuse(if codec.is_v5() { ConnectReturnCode::QuotaExceeded } else { ConnectReturnCode::ServiceUnavailable }),
                None,
            )
            .await;
            return None;
        };
        self.counters.signed_in.fetch_add(1, Ordering::Relaxed);
        let answer = ConnAckProperties {
            max_packet_size: u32::try_from(max).ok(),
            topic_alias_max: Some(TOPIC_ALIASES),
            assigned_client_identifier: assigned,
            session_expiry_interval: Some(session_expiry),
            ..ConnAckProperties::default()
        };
        let ack = ConnAck { session_present: present, code: ConnectReturnCode::Success };
        send(&codec, writer, ack, Some(answer)).await;
        let keep_alive = (connect.keep_alive > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1500));
        if let Subject::Device(id) = &signed_in.subject {
            self.service.device_connected(id).await;
        }
        let will = will.map(|w| (w, will_properties));
        let client =
            Client { signed_in, session, codec, keep_alive, session_expiry, will, aliases: HashMap::new(), memory: Memory::default() };
        Some((client, connection))
    }

    /// Finds or makes the session, and ends whoever had it. `None` when the principal has too many.
    async fn attach(
        &self,
        signed_in: &SignedIn,
        connect: &Connect,
        assigned: Option<String>,
        properties: &ConnectProperties,
        v5: bool,
    ) -> Option<(Arc<Session>, Connection, bool, u32)> {
        let client_id = assigned.unwrap_or_else(|| connect.client_id.clone());
        let key = (signed_in.subject.clone(), client_id.clone());
        let asked = if v5 {
            properties.session_expiry_interval.unwrap_or(0)
        } else if connect.clean_session {
            0
        } else {
            u32::MAX
        };
        // A session that may only re-base its counter keeps nothing.
        let expiry = if signed_in.rebase { 0 } else { asked.min(self.config.session_expiry_s) };
        let fresh = connect.clean_session || signed_in.rebase;
        let mut known = self.sessions().get(&key).cloned();
        if let Some(session) = &known {
            if let Some(end) = session.kill(DisconnectReasonCode::SessionTakenOver) {
                end.cancelled().await;
            }
            // Its end may have ended the session too.
            known = self.sessions().get(&key).cloned();
        }
        if fresh && let Some(session) = known.take() {
            self.end_session(&session);
        }
        let connection = Connection { kill: CancellationToken::new(), done: CancellationToken::new(), reason: Arc::new(Mutex::new(None)) };
        let epoch = self.service.epoch();
        let table = self.service.compile_for(signed_in);
        let present = known.is_some();
        let session = {
            let mut sessions = self.sessions();
            let mine = || sessions.iter().filter(|((who, _), _)| *who == signed_in.subject);
            if mine().filter(|(_, s)| s.is_online()).count() >= self.config.max_connections_per_principal
                || (known.is_none() && mine().count() >= self.config.max_sessions_per_principal)
            {
                return None;
            }
            let session =
                known.unwrap_or_else(|| Session::new(signed_in.subject.clone(), client_id, Compiled { epoch: 0, table: table.clone() }));
            *session.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
            session.policy.store(Arc::new(Compiled { epoch, table }));
            *session.expires.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let window = properties.receive_maximum.unwrap_or(u16::MAX).min(self.config.max_in_flight);
            session.attach(usize::from(window));
            sessions.insert(key, session.clone());
            session
        };
        if present {
            self.check_subscriptions(&session);
        }
        Some((session, connection, present, expiry))
    }

    /// A restored session may have lost rights since: its subscriptions and its queue are checked again.
    fn check_subscriptions(&self, session: &Arc<Session>) {
        let policy = self.policy(session);
        let mut subscriptions = session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        subscriptions.retain(|filter, _| {
            let allowed = topic::split_share(filter).is_ok_and(|(_, inner)| policy.table.subscribe(inner));
            if !allowed {
                self.trie.unsubscribe(filter, session);
            }
            allowed
        });
        session.purge(|name| policy.table.receive(name));
    }

    async fn close_client(&self, client: Client, end: End) {
        let Client { signed_in, session, will, session_expiry, mut memory, .. } = client;
        session.detach();
        if let Subject::Device(id) = &signed_in.subject {
            self.service.device_disconnected(id).await;
        }
        *session.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if session_expiry == 0 {
            self.end_session(&session);
        } else {
            let at = Instant::now() + Duration::from_secs(u64::from(session_expiry));
            *session.expires.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        }
        if let (Some((will, properties)), false) = (will, matches!(end, End::Goodbye)) {
            // Checked as any publish is, and with the policy of now: a revoked sender's will is void.
            let policy = self.policy(&session);
            if let Some((name, verdict)) = memory.verdict(&policy, &will.topic, will.retain) {
                let incoming = IncomingPublish {
                    topic: will.topic,
                    payload: will.message,
                    qos: will.qos as u8,
                    retain: will.retain,
                    pkid: 0,
                    properties: properties.map(will_publish_properties),
                };
                let _ = self.act(&signed_in, &session, &mut memory, name, verdict, incoming).await;
            }
        }
    }
}

async fn send(codec: &Codec, writer: &mut (impl AsyncWrite + Unpin), ack: ConnAck, properties: Option<ConnAckProperties>) {
    let mut out = BytesMut::new();
    codec.encode(Packet::ConnAck(ack, properties), &mut out);
    if writer.write_all(&out).await.is_ok() {
        let _ = writer.flush().await;
    }
}

/// Maps a refusal to the codes of `docs/protocol/mqtt.md`; for 3.1.1 only those that version has.
fn refusal_code(refusal: &SignInRefusal, v5: bool) -> ConnectReturnCode {
    match (refusal, v5) {
        (SignInRefusal::BadCredentials, _) => ConnectReturnCode::BadUserNamePassword,
        (SignInRefusal::Banned, true) => ConnectReturnCode::Banned,
        (SignInRefusal::Banned, false) => ConnectReturnCode::NotAuthorized,
        (SignInRefusal::TooMany, true) => ConnectReturnCode::ConnectionRateExceeded,
        (SignInRefusal::Unavailable, true) => ConnectReturnCode::ServerUnavailable,
        (SignInRefusal::TooMany | SignInRefusal::Unavailable, false) => ConnectReturnCode::ServiceUnavailable,
    }
}

fn will_publish_properties(p: LastWillProperties) -> PublishProperties {
    PublishProperties {
        payload_format_indicator: p.payload_format_indicator,
        message_expiry_interval: p.message_expiry_interval,
        content_type: p.content_type,
        response_topic: p.response_topic,
        correlation_data: p.correlation_data,
        user_properties: p.user_properties,
        ..PublishProperties::default()
    }
}

fn no_properties() -> ConnectProperties {
    ConnectProperties {
        session_expiry_interval: None,
        receive_maximum: None,
        max_packet_size: None,
        topic_alias_max: None,
        request_response_info: None,
        request_problem_info: None,
        user_properties: Vec::new(),
        authentication_method: None,
        authentication_data: None,
    }
}
