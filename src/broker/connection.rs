//! One connection from CONNECT to its end: sign-in, session, a reader that acts on packets in their order, a writer
//! that checks every message again before it leaves.

use super::keeper::Owed;
use super::parting::Displaced;
use super::reader::TOPIC_ALIASES;
use super::route::Memory;
use super::session::{Compiled, Connection, Session};
use super::wire::{Codec, Incoming, IncomingPublish, WireError};
use super::{Broker, Peer};
use crate::domain::binding::Subject;
use crate::domain::topic::{self, Place, locate};
use crate::service::{SignInAttempt, SignInRefusal, SignedIn};
use bytes::{Bytes, BytesMut};
use rumqttd::protocol::{
    ConnAck, ConnAckProperties, Connect, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, LastWill, LastWillProperties, Login,
    Packet, PublishProperties,
};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longest a peer may take to accept the answer to its CONNECT.
const SEND_DEADLINE: Duration = Duration::from_secs(10);

/// The client id of every re-base session; no client can send it.
const REBASE: &str = "rebase\0";
/// Largest CONNECT, in bytes; its will is the only part that may be long.
const MAX_CONNECT: usize = 32 * 1024;

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

/// A CONNECT as it was read.
struct ConnectPacket {
    connect: Connect,
    properties: ConnectProperties,
    will: Option<(LastWill, Option<LastWillProperties>)>,
    login: Option<Login>,
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
    /// Messages of QoS 1 that it has sent and that are not acknowledged yet, in their order.
    pub(super) unsettled: Vec<Unsettled>,
}

/// A message of QoS 1 to be acknowledged once nobody loses it.
pub(super) struct Unsettled {
    pub(super) pkid: u16,
    pub(super) owed: Vec<Owed>,
}

/// Lets go of the session however the connection's task ends: after a fault the device must be able to come back.
struct Unwinding {
    broker: Arc<Broker>,
    session: Arc<Session>,
    connection: Connection,
}

impl Drop for Unwinding {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(who = %self.session.principal, "a connection's task failed; its session is ended");
            self.connection.kill.cancel();
            self.session.detach();
            self.broker.end_session(&self.session);
            *self.session.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
            if let Subject::Device(id) = self.session.principal.clone() {
                let broker = self.broker.clone();
                tokio::spawn(async move { broker.service.device_disconnected(&id).await });
            }
        }
        self.connection.done.cancel();
    }
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
        // Only the wait for the peer is cut short: from sign-in on, what was begun is brought to its end.
        let connect = tokio::select! {
            () = shutdown.cancelled() => return,
            connect = timeout(deadline, self.read_connect(&mut reader, &mut writer, &mut buf)) => connect,
        };
        let Ok(Some((codec, connect))) = connect else { return };
        let Some((mut client, connection)) = self.open(&mut writer, codec, connect, &peer).await else { return };
        let session = client.session.clone();
        let guard = Unwinding { broker: self.clone(), session: session.clone(), connection: connection.clone() };
        let writing = tokio::spawn(self.clone().write_loop(writer, session.clone(), client.codec.clone(), connection.clone()));
        let end = self.read_loop(&mut reader, &mut buf, &mut client, &connection).await;
        if let End::Reason(reason) = end {
            connection.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        }
        connection.kill.cancel();
        let writer = writing.await.ok().flatten();
        let reason = *connection.reason.lock().unwrap_or_else(PoisonError::into_inner);
        let displaced = Displaced::of(&client);
        self.close_client(client, end, reason).await;
        drop(guard);
        // From here on the newcomer has the session; who was displaced is asked whether it is still there.
        let successor = connection.successor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(writer), Some(by)) = (writer, successor) {
            self.part(displaced, &by, reader, writer, buf, &shutdown).await;
        }
    }

    async fn read_connect(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        buf: &mut BytesMut,
    ) -> Option<(Codec, ConnectPacket)> {
        // Nobody is signed in yet: what anyone may make the hub hold is small.
        let max = self.config.max_packet_bytes.min(MAX_CONNECT);
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
        match codec.decode(buf, max) {
            Ok(Some(Incoming::Other(Packet::Connect(connect, properties, will, will_properties, login)))) => {
                let properties = properties.unwrap_or_else(no_properties);
                let will = will.map(|w| (w, will_properties));
                Some((codec, ConnectPacket { connect, properties, will, login }))
            }
            _ => None,
        }
    }

    /// Signs in and finds the session; the CONNACK has been sent when this returns a client.
    async fn open(
        self: &Arc<Self>,
        writer: &mut (impl AsyncWrite + Unpin),
        codec: Codec,
        packet: ConnectPacket,
        peer: &Peer,
    ) -> Option<(Client, Connection)> {
        let ConnectPacket { connect, properties, will, login } = packet;
        let refuse = |code| ConnAck { session_present: false, code };
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
            max_packet_size: u32::try_from(self.config.max_packet_bytes).ok(),
            receive_max: Some(super::session::UNRELEASED),
            topic_alias_max: Some(TOPIC_ALIASES),
            assigned_client_identifier: assigned,
            session_expiry_interval: Some(session_expiry),
            ..ConnAckProperties::default()
        };
        let ack = ConnAck { session_present: present, code: ConnectReturnCode::Success };
        send(&codec, writer, ack, Some(answer)).await;
        let keep_alive = (connect.keep_alive > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1500));
        if let (Subject::Device(id), false) = (&signed_in.subject, signed_in.rebase) {
            self.service.device_connected(id).await;
        }
        let (aliases, memory, unsettled) = (HashMap::new(), Memory::default(), Vec::new());
        let client = Client { signed_in, session, codec, keep_alive, session_expiry, will, aliases, memory, unsettled };
        Some((client, connection))
    }

    /// Finds or makes the session, and ends whoever had it. `None` when the principal has too many, or has lost its
    /// standing while this went on.
    async fn attach(
        self: &Arc<Self>,
        signed_in: &SignedIn,
        connect: &Connect,
        assigned: Option<String>,
        properties: &ConnectProperties,
        v5: bool,
    ) -> Option<(Arc<Session>, Connection, bool, u32)> {
        // Whoever holds an old token must not end the sessions of the device that holds the newer ones, nor use up its
        // connections: there is one re-base session for each device, beside the others.
        let client_id = if signed_in.rebase { REBASE.to_owned() } else { assigned.unwrap_or_else(|| connect.client_id.clone()) };
        let key = (signed_in.subject.clone(), client_id);
        let asked = match (v5, connect.clean_session) {
            (true, _) => properties.session_expiry_interval.unwrap_or(0),
            (false, true) => 0,
            (false, false) => u32::MAX,
        };
        // A session that may only re-base its counter keeps nothing.
        let expiry = if signed_in.rebase { 0 } else { asked.min(self.config.session_expiry_s) };
        let fresh = connect.clean_session || signed_in.rebase;
        let connection = Connection {
            kill: CancellationToken::new(),
            done: CancellationToken::new(),
            reason: Arc::new(Mutex::new(None)),
            successor: Arc::new(Mutex::new(None)),
        };
        let (session, present, changed) = loop {
            let holder = self.sessions().get(&key).and_then(|s| s.take_over(signed_in));
            if let Some(end) = holder {
                end.cancelled().await;
            }
            // Looked up in a statement of its own: the lock must be free again when the session is ended.
            let stale = self.sessions().get(&key).filter(|s| fresh && !s.is_connected()).cloned();
            if let Some(session) = stale {
                // Unless another connection has taken it up in the meantime.
                self.end_session_if(&session, |s| !s.is_connected());
                // The client is told that it is gone.
                self.keeper.flush().await;
            }
            let (epoch, table) = (self.service.epoch(), self.service.compile_for(signed_in));
            let mut sessions = self.sessions();
            let known = sessions.get(&key).cloned();
            if known.as_ref().is_some_and(|s| s.is_connected()) {
                // Another connection was quicker: it is the one to take over from now.
                continue;
            }
            let mine = || sessions.iter().filter(|((who, id), _)| *who == signed_in.subject && id != REBASE);
            if mine().filter(|(_, s)| s.is_connected()).count() >= self.config.max_connections_per_principal
                || (known.is_none() && mine().count() >= self.config.max_sessions_per_principal)
            {
                return None;
            }
            let present = known.is_some();
            let compiled = || Compiled { epoch, table: table.clone() };
            let kept = || (expiry > 0).then(|| self.keeper.keep_as(key.0.clone()));
            let session = known.unwrap_or_else(|| Session::new(key.0.clone(), key.1.clone(), compiled(), kept()));
            let changed = session.set_expiry(expiry) | session.set_let_in_by(signed_in.let_in_by());
            session.narrowed.fetch_max(epoch, Ordering::AcqRel);
            session.policy.store(Arc::new(compiled()));
            *session.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
            *session.holder.lock().unwrap_or_else(PoisonError::into_inner) = Some(signed_in.clone());
            *session.expires.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let max_packet = properties.max_packet_size.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
            session.max_packet.store(max_packet, Ordering::Relaxed);
            let window = properties.receive_maximum.unwrap_or(u16::MAX).min(self.config.max_in_flight);
            session.attach(usize::from(window));
            sessions.insert(key.clone(), session.clone());
            break (session, present, changed && present);
        };
        // From here on a revocation finds the session. One that came between the sign-in and now is caught here; a person
        // who signs out changes no policy.
        let moved = !matches!(signed_in.subject, Subject::Device(_)) || self.service.epoch() != signed_in.epoch;
        if moved && !self.service.still_stands(signed_in) {
            session.detach();
            self.end_session(&session);
            *session.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
            connection.done.cancel();
            return None;
        }
        let lost = present && self.check_subscriptions(&session);
        if lost || changed {
            self.keeper.keep_later(&session);
            self.keeper.flush().await;
        }
        Some((session, connection, present, expiry))
    }

    /// A restored session may have lost rights since: its subscriptions and its queue are checked again. Says whether it has lost one.
    pub(super) fn check_subscriptions(&self, session: &Arc<Session>) -> bool {
        let policy = self.policy(session);
        let mut subscriptions = session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let before = subscriptions.len();
        subscriptions.retain(|filter, _| {
            let allowed = topic::split_share(filter).is_ok_and(|(_, inner)| policy.table.subscribe(inner));
            if !allowed {
                self.trie.unsubscribe(filter, session);
            }
            allowed
        });
        session.purge(|name| policy.table.receive(name));
        subscriptions.len() < before
    }

    async fn close_client(self: &Arc<Self>, client: Client, end: End, reason: Option<DisconnectReasonCode>) {
        let Client { signed_in, session, will, session_expiry, memory, .. } = client;
        session.detach();
        if let (Subject::Device(id), false) = (&signed_in.subject, signed_in.rebase) {
            self.service.device_disconnected(id).await;
        }
        let changed = session.set_expiry(session_expiry);
        if session_expiry == 0 {
            // Before it is given free: whoever comes back now must not find a session that is about to go.
            self.end_session(&session);
            if session.kept.is_some() {
                self.keeper.flush().await;
            }
        } else {
            let at = Instant::now() + Duration::from_secs(u64::from(session_expiry));
            *session.expires.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
            if changed {
                self.keeper.keep_later(&session);
            }
        }
        *session.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Whoever the hub has shut out has no last word either.
        let shut_out = matches!(reason, Some(DisconnectReasonCode::NotAuthorized | DisconnectReasonCode::AdministrativeAction));
        let Some((will, properties)) = will.filter(|_| !shut_out && !matches!(end, End::Goodbye)) else { return };
        // At the latest when the session ends (MQTT 5.0 §3.1.3.2.2).
        let delay = properties.as_ref().and_then(|p| p.delay_interval).unwrap_or(0).min(session_expiry);
        if delay == 0 {
            self.send_will(&signed_in, &session, memory, will, properties).await;
            return;
        }
        let (broker, attached) = (self.clone(), session.attached());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(u64::from(delay))).await;
            // A client that has come back in the meantime is not dead.
            if session.attached() == attached {
                broker.send_will(&signed_in, &session, memory, will, properties).await;
            }
        });
    }

    /// Publishes a will, checked as any publish is, with the policy of now. No will is a command: what is done now must be
    /// meant now, and nobody means to lose a connection.
    async fn send_will(
        &self,
        signed_in: &SignedIn,
        session: &Arc<Session>,
        mut memory: Memory,
        will: LastWill,
        properties: Option<LastWillProperties>,
    ) {
        // What let it in may be over by its time, and the connection not yet cut for it.
        if !self.service.still_stands(signed_in) {
            return;
        }
        let policy = self.policy(session);
        let Some((name, verdict)) = memory.verdict(&policy, &will.topic, will.retain) else { return };
        if locate(&name).is_some_and(|at| matches!(at.place, Place::Command(_))) {
            self.counters.publish_denied.fetch_add(1, Ordering::Relaxed);
            self.service.will_refused(signed_in, &name);
            return;
        }
        let incoming = IncomingPublish {
            topic: will.topic,
            payload: will.message,
            qos: will.qos as u8,
            retain: will.retain,
            pkid: 0,
            properties: properties.map(will_publish_properties),
        };
        // Nobody is left to be told of a failure.
        if let Ok(owed) = self.act(signed_in, session, &mut memory, name, verdict, incoming).await {
            let _ = self.secure(owed).await;
        }
    }
}

async fn send(codec: &Codec, writer: &mut (impl AsyncWrite + Unpin), ack: ConnAck, properties: Option<ConnAckProperties>) {
    let mut out = BytesMut::new();
    codec.encode(Packet::ConnAck(ack, properties), &mut out);
    let _ = timeout(SEND_DEADLINE, async { writer.write_all(&out).await.and(writer.flush().await) }).await;
}

/// Maps a refusal to the codes of `docs/protocol/mqtt.md`; for 3.1.1 only those that version has.
fn refusal_code(refusal: &SignInRefusal, v5: bool) -> ConnectReturnCode {
    match (refusal, v5) {
        (SignInRefusal::BadCredentials, _) => ConnectReturnCode::BadUserNamePassword,
        (SignInRefusal::Banned, true) => ConnectReturnCode::Banned,
        (SignInRefusal::Banned, false) => ConnectReturnCode::NotAuthorized,
        (SignInRefusal::Retired, true) => ConnectReturnCode::ServerMoved,
        (SignInRefusal::Retired, false) => ConnectReturnCode::ServiceUnavailable,
        (SignInRefusal::Unavailable, true) => ConnectReturnCode::ServerUnavailable,
        (SignInRefusal::Unavailable, false) => ConnectReturnCode::ServiceUnavailable,
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
