//! The reading half of a connection: acts on packets in their order, and acknowledges each only when it is done.

use super::Broker;
use super::connection::{Client, End, Unsettled};
use super::keeper::{Owed, Unkept, is_secure};
use super::route::Memory;
use super::session::{Connection, Delivery, Message, Session};
use super::trie::Options;
use super::wire::{Incoming, IncomingPublish, WireError};
use crate::domain::policy::PublishVerdict;
use crate::domain::topic;
use crate::service::{Refusal, RetainedMessage, SignedIn};
use bytes::{Bytes, BytesMut};
use rumqttd::protocol::{
    Disconnect, DisconnectReasonCode, Filter, Packet, PingResp, PubAck, PubAckReason, PubComp, PubCompReason, PubRec, PubRecReason, PubRel,
    PubRelReason, PublishProperties, QoS, RetainForwardRule, SubAck, SubscribeReasonCode, UnsubAck, UnsubAckReason,
};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Answers that may wait for a peer that does not read them.
const MAX_CONTROL: usize = 1_000;
/// Messages that are made safe together, at most.
const TOGETHER: usize = 256;
/// Topic aliases a client of MQTT 5 may set.
pub(super) const TOPIC_ALIASES: u16 = 16;

impl Broker {
    /// Reads until the connection ends; says why.
    pub(super) async fn read_loop(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        buf: &mut BytesMut,
        client: &mut Client,
        connection: &Connection,
    ) -> End {
        loop {
            loop {
                match client.codec.decode(buf, self.config.max_packet_bytes) {
                    Ok(None) => break,
                    Err(WireError::TooLarge) => return End::Reason(DisconnectReasonCode::PacketTooLarge),
                    Err(_) => return End::Reason(DisconnectReasonCode::MalformedPacket),
                    Ok(Some(Incoming::Publish(publish))) => {
                        if let Err(end) = self.on_publish(client, publish).await {
                            return end;
                        }
                    }
                    Ok(Some(Incoming::Other(packet))) => {
                        if let Err(end) = self.on_packet(client, packet).await {
                            return end;
                        }
                    }
                }
                if connection.kill.is_cancelled() {
                    return End::Gone;
                }
            }
            if let Err(end) = self.settle(client).await {
                return end;
            }
            // A client may have 65,535 publishes on their way unanswered: it is read on when its answers are out. One
            // that does not take them ends by the writer's deadline.
            tokio::select! {
                biased;
                () = connection.kill.cancelled() => return End::Gone,
                () = client.session.answered(MAX_CONTROL) => {}
            }
            if buf.is_empty() && buf.capacity() > 64 * 1024 {
                *buf = BytesMut::new();
            }
            buf.reserve(1024);
            // The only wait that a kill interrupts: what a packet has begun, effects and all, is brought to its end.
            let read = async {
                let read = reader.read_buf(buf);
                match client.keep_alive {
                    Some(limit) => timeout(limit, read).await,
                    None => Ok(read.await),
                }
            };
            let read = tokio::select! {
                biased;
                () = connection.kill.cancelled() => return End::Gone,
                read = read => read,
            };
            let Ok(read) = read else { return End::Reason(DisconnectReasonCode::KeepAliveTimeout) };
            match read {
                Ok(0) | Err(_) => return End::Gone,
                Ok(_) => {}
            }
        }
    }

    async fn on_publish(&self, client: &mut Client, mut publish: IncomingPublish) -> Result<(), End> {
        // An alias is resolved before any check (MQTT 5.0 §3.3.2.3.4).
        if let Some(alias) = publish.properties.as_mut().and_then(|p| p.topic_alias.take()) {
            if alias == 0 || alias > TOPIC_ALIASES {
                return Err(End::Reason(DisconnectReasonCode::TopicAliasInvalid));
            }
            if publish.topic.is_empty() {
                publish.topic = client.aliases.get(&alias).cloned().ok_or(End::Reason(DisconnectReasonCode::ProtocolError))?;
            } else {
                client.aliases.insert(alias, Bytes::copy_from_slice(&publish.topic));
            }
        }
        if publish.properties.as_ref().is_some_and(|p| !p.subscription_identifiers.is_empty()) {
            return Err(End::Reason(DisconnectReasonCode::ProtocolError));
        }
        let (qos, pkid) = (publish.qos, publish.pkid);
        let policy = self.policy(&client.session);
        let Some((name, verdict)) = client.memory.verdict(&policy, &publish.topic, publish.retain) else {
            return Err(End::Reason(DisconnectReasonCode::TopicNameInvalid));
        };
        // Acknowledgements keep the order of what they are for (MQTT 5.0 §4.6).
        if qos != 1 || verdict != PublishVerdict::Deliver {
            self.settle(client).await?;
        }
        if verdict == PublishVerdict::Ignore {
            return self.pass_over(client, qos, pkid);
        }
        if verdict == PublishVerdict::Deny {
            self.counters.publish_denied.fetch_add(1, Ordering::Relaxed);
            self.service.publish_denied(&client.signed_in, &name);
            // Where the protocol can say no to one message, the connection stays.
            return match (client.codec.is_v5(), qos) {
                (true, 1) => {
                    client.session.control(Packet::PubAck(PubAck { pkid, reason: PubAckReason::NotAuthorized }, None));
                    Ok(())
                }
                (true, 2) => {
                    client.session.control(Packet::PubRec(PubRec { pkid, reason: PubRecReason::NotAuthorized }, None));
                    Ok(())
                }
                _ => Err(End::Reason(DisconnectReasonCode::NotAuthorized)),
            };
        }
        if qos == 2 {
            match client.session.receive_once(pkid) {
                Some(true) => {}
                Some(false) => {
                    client.session.control(Packet::PubRec(PubRec { pkid, reason: PubRecReason::Success }, None));
                    return Ok(());
                }
                None => return Err(End::Reason(DisconnectReasonCode::ReceiveMaximumExceeded)),
            }
        }
        // Nobody has it then: said again, it is a new one.
        let forget = |_: &End| {
            if qos == 2 {
                client.session.forget_received(pkid);
            }
        };
        let acted = self.act(&client.signed_in, &client.session, &mut client.memory, name, verdict, publish).await;
        let owed = acted.inspect_err(forget)?;
        // Acknowledged only when what it changed is committed, whom it reaches has it queued, and who is away does not lose it.
        match qos {
            1 if owed.is_empty() && client.unsettled.is_empty() => {
                client.session.control(Packet::PubAck(PubAck { pkid, reason: PubAckReason::Success }, None));
            }
            1 => {
                client.unsettled.push(Unsettled { pkid, owed });
                if client.unsettled.len() >= TOGETHER {
                    self.settle(client).await?;
                }
            }
            2 => {
                let reason = if self.secure(owed).await.inspect_err(forget)? {
                    client.session.received();
                    self.keep(&client.session).await?;
                    PubRecReason::Success
                } else {
                    client.session.forget_received(pkid);
                    refuse_unkept(client)?;
                    PubRecReason::QuotaExceeded
                };
                client.session.control(Packet::PubRec(PubRec { pkid, reason }, None));
            }
            _ => {}
        }
        Ok(())
    }

    /// Acknowledges what is not acknowledged yet, once nobody loses it.
    async fn settle(&self, client: &mut Client) -> Result<(), End> {
        if client.unsettled.is_empty() {
            return Ok(());
        }
        let unsettled = std::mem::take(&mut client.unsettled);
        let (mut answers, mut owed) = (Vec::with_capacity(unsettled.len()), Vec::new());
        for one in unsettled {
            answers.push((one.pkid, one.owed.iter().map(|owed| owed.kept.clone()).collect::<Vec<_>>()));
            owed.extend(one.owed);
        }
        let all = self.secure(owed).await?;
        for (pkid, kept) in answers {
            let reason = if all || kept.iter().all(is_secure) {
                PubAckReason::Success
            } else {
                refuse_unkept(client)?;
                PubAckReason::QuotaExceeded
            };
            client.session.control(Packet::PubAck(PubAck { pkid, reason }, None));
        }
        Ok(())
    }

    /// Whether these are safe; else there is no room for them.
    pub(super) async fn secure(&self, owed: Vec<Owed>) -> Result<bool, End> {
        if owed.is_empty() {
            return Ok(true);
        }
        match self.keeper.secure(owed).await {
            Ok(()) => Ok(true),
            Err(Unkept::NoRoom) => Ok(false),
            Err(Unkept::Fault(error)) => {
                tracing::error!(%error, "a message could not be kept for who is away");
                Err(End::Reason(DisconnectReasonCode::ServerBusy))
            }
        }
    }

    /// Does nothing with a publish, and keeps the connection: MQTT 5 can say so, 3.1.1 lets it be acknowledged (§3.3.5).
    fn pass_over(&self, client: &Client, qos: u8, pkid: u16) -> Result<(), End> {
        self.counters.publish_denied.fetch_add(1, Ordering::Relaxed);
        let refused = client.codec.is_v5();
        match qos {
            1 => {
                let reason = if refused { PubAckReason::NotAuthorized } else { PubAckReason::Success };
                client.session.control(Packet::PubAck(PubAck { pkid, reason }, None));
            }
            2 => {
                let reason = if refused { PubRecReason::NotAuthorized } else { PubRecReason::Success };
                client.session.control(Packet::PubRec(PubRec { pkid, reason }, None));
            }
            _ => {}
        }
        Ok(())
    }

    /// Does what an allowed publish asks for: what is to be kept for whom.
    pub(super) async fn act(
        &self,
        signed_in: &SignedIn,
        session: &Arc<Session>,
        memory: &mut Memory,
        name: Arc<str>,
        verdict: PublishVerdict,
        publish: IncomingPublish,
    ) -> Result<Vec<Owed>, End> {
        let IncomingPublish { payload, qos, retain, properties, .. } = publish;
        match verdict {
            PublishVerdict::Deny | PublishVerdict::Ignore => Ok(Vec::new()),
            PublishVerdict::Handle => self.handle(signed_in, &name, &payload).await.map(|()| Vec::new()).map_err(End::Reason),
            PublishVerdict::Deliver => {
                if retain {
                    let by = signed_in.subject.to_string();
                    let life = properties.as_ref().and_then(|p| p.message_expiry_interval);
                    let expires_at = life.map(|s| self.service.now() + u64::from(s) * 1000);
                    let kept = RetainedMessage { payload: payload.to_vec(), qos, by, expires_at };
                    let kept = (!payload.is_empty()).then_some(kept);
                    let (count, bytes) = (self.config.max_retained_per_principal, self.config.max_retained_bytes_per_principal);
                    if kept.as_ref().is_some_and(|k| !self.retained.has_room(&name, k, count, bytes)) {
                        return Err(End::Reason(DisconnectReasonCode::QuotaExceeded));
                    }
                    self.service.retain(&name, kept.clone()).await.map_err(|refusal| {
                        let full = refusal.is_no_room();
                        End::Reason(if full { DisconnectReasonCode::QuotaExceeded } else { DisconnectReasonCode::ServerBusy })
                    })?;
                    self.retained.set(&name, kept);
                }
                let expires =
                    properties.as_ref().and_then(|p| p.message_expiry_interval).map(|s| Instant::now() + Duration::from_secs(s.into()));
                let properties = properties.filter(has_content).map(Box::new);
                let message = Message { topic: name, payload, qos, retain, properties, from: session.id, expires, momentary: false };
                Ok(self.deliver(message, memory).await)
            }
        }
    }

    async fn on_packet(&self, client: &mut Client, packet: Packet) -> Result<(), End> {
        // Acknowledgements first: somebody may wait for them who is waited for here.
        if !matches!(packet, Packet::PubAck(..) | Packet::PubRec(..) | Packet::PubComp(..)) {
            self.settle(client).await?;
        }
        let session = &client.session;
        // What it sends is a use of its token, and that it is told something is none: acknowledgements do not count.
        if matches!(packet, Packet::PingReq(_) | Packet::Subscribe(..) | Packet::Unsubscribe(..)) {
            self.service.heard_from(&client.signed_in);
        }
        match packet {
            Packet::PingReq(_) => session.control(Packet::PingResp(PingResp)),
            Packet::PubAck(PubAck { pkid, .. }, _) => {
                session.finish(pkid);
            }
            Packet::PubRec(PubRec { pkid, reason }, _) => {
                if matches!(reason, PubRecReason::Success | PubRecReason::NoMatchingSubscribers) {
                    let released = session.release(pkid);
                    let known = released.is_some();
                    if let Some(message) = released {
                        self.kept(session, self.keeper.keep_released(session, message).await)?;
                    }
                    let reason = if known { PubRelReason::Success } else { PubRelReason::PacketIdentifierNotFound };
                    session.control(Packet::PubRel(PubRel { pkid, reason }, None));
                } else {
                    session.finish(pkid);
                }
            }
            Packet::PubComp(PubComp { pkid, .. }, _) => {
                session.finish(pkid);
            }
            Packet::PubRel(PubRel { pkid, .. }, _) => {
                let known = session.forget_received(pkid);
                if known {
                    self.keep(session).await?;
                }
                let reason = if known { PubCompReason::Success } else { PubCompReason::PacketIdentifierNotFound };
                session.control(Packet::PubComp(PubComp { pkid, reason }, None));
            }
            Packet::Subscribe(subscribe, properties) => {
                let identifier = properties.and_then(|p| p.id);
                if subscribe.filters.is_empty() || subscribe.pkid == 0 || identifier == Some(0) {
                    return Err(End::Reason(DisconnectReasonCode::ProtocolError));
                }
                let mut codes = Vec::new();
                let mut first = Vec::new();
                let mut changed = false;
                // No Local on a shared subscription is a protocol error (MQTT 5.0 §3.8.3.1).
                if subscribe.filters.iter().any(|f| f.nolocal && f.path.starts_with("$share/")) {
                    return Err(End::Reason(DisconnectReasonCode::ProtocolError));
                }
                self.subscribing(&client.signed_in).await.map_err(End::Reason)?;
                for filter in &subscribe.filters {
                    codes.push(self.subscribe(client, filter, identifier, &mut first, &mut changed));
                }
                if changed {
                    self.keep(session).await?;
                }
                session.control(Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes: codes }, None));
                let mut owed = Vec::new();
                for delivery in first {
                    session.offer(delivery, &mut owed);
                }
                self.keeper.secure_later(owed);
                self.subscribed(&client.signed_in, session, &subscribe.filters).await.map_err(End::Reason)?;
            }
            Packet::Unsubscribe(unsubscribe, _) => {
                if unsubscribe.filters.is_empty() || unsubscribe.pkid == 0 {
                    return Err(End::Reason(DisconnectReasonCode::ProtocolError));
                }
                let mut reasons = Vec::new();
                let mut changed = false;
                for filter in &unsubscribe.filters {
                    let known = session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).remove(filter).is_some();
                    self.trie.unsubscribe(filter, session);
                    changed |= known;
                    reasons.push(if known { UnsubAckReason::Success } else { UnsubAckReason::NoSubscriptionExisted });
                }
                if changed {
                    self.keep(session).await?;
                }
                session.control(Packet::UnsubAck(UnsubAck { pkid: unsubscribe.pkid, reasons }, None));
            }
            Packet::Disconnect(Disconnect { reason_code }, properties) => {
                if let Some(asked) = properties.and_then(|p| p.session_expiry_interval) {
                    if client.session_expiry == 0 && asked > 0 {
                        return Err(End::Reason(DisconnectReasonCode::ProtocolError));
                    }
                    client.session_expiry = asked.min(self.config.session_expiry_s);
                }
                return Err(match reason_code {
                    DisconnectReasonCode::NormalDisconnection => End::Goodbye,
                    _ => End::GoodbyeWithWill,
                });
            }
            _ => return Err(End::Reason(DisconnectReasonCode::ProtocolError)),
        }
        Ok(())
    }

    /// Writes down how a session is that is kept. On a full disk it goes on without: who is connected is served.
    async fn keep(&self, session: &Arc<Session>) -> Result<(), End> {
        self.kept(session, self.keeper.keep(session).await)
    }

    fn kept(&self, session: &Arc<Session>, outcome: Result<(), Refusal>) -> Result<(), End> {
        match outcome {
            Err(refusal) if refusal.is_no_room() => {
                self.keeper.keep_later(session);
                tracing::warn!(who = %session.principal, "no room on the disk to keep an MQTT session: a sudden end of the hub would lose it");
                Ok(())
            }
            kept => kept.map_err(|error| {
                tracing::error!(%error, who = %session.principal, "an MQTT session could not be written down");
                End::Reason(DisconnectReasonCode::ServerBusy)
            }),
        }
    }

    /// `changed` is set when the session subscribes otherwise than before.
    fn subscribe(
        &self,
        client: &Client,
        filter: &Filter,
        identifier: Option<usize>,
        first: &mut Vec<Delivery>,
        changed: &mut bool,
    ) -> SubscribeReasonCode {
        let v5 = client.codec.is_v5();
        let refuse = |code| if v5 { code } else { SubscribeReasonCode::Failure };
        let Ok((group, inner)) = topic::split_share(&filter.path) else { return refuse(SubscribeReasonCode::TopicFilterInvalid) };
        if !topic::is_valid_filter(inner) {
            return refuse(SubscribeReasonCode::TopicFilterInvalid);
        }
        let session = &client.session;
        let policy = self.policy(session);
        if !policy.table.subscribe(inner) {
            self.counters.subscribe_denied.fetch_add(1, Ordering::Relaxed);
            self.service.subscribe_denied(&client.signed_in, &filter.path);
            return refuse(SubscribeReasonCode::NotAuthorized);
        }
        let options = Options { qos: filter.qos as u8, no_local: filter.nolocal, retain_as_published: filter.preserve_retain, identifier };
        {
            let mut subscriptions = session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
            if !subscriptions.contains_key(&filter.path) && subscriptions.len() >= self.config.max_subscriptions {
                return refuse(SubscribeReasonCode::QuotaExceeded);
            }
            *changed |= subscriptions.insert(filter.path.clone(), options.clone()).as_ref() != Some(&options);
        }
        let new = self.trie.subscribe(&filter.path, session, options);
        let send_retained = group.is_none()
            && match filter.retain_forward_rule {
                RetainForwardRule::OnEverySubscribe => true,
                RetainForwardRule::OnNewSubscribe => new,
                RetainForwardRule::Never => false,
            };
        if send_retained {
            for (name, kept) in self.retained.matching(inner, self.service.now()) {
                let message = Message {
                    topic: name.into(),
                    payload: kept.payload.into(),
                    qos: kept.qos,
                    retain: true,
                    properties: None,
                    from: 0,
                    expires: kept.expires_at.map(|at| Instant::now() + Duration::from_millis(at.saturating_sub(self.service.now()))),
                    momentary: false,
                };
                first.push(Delivery {
                    qos: kept.qos.min(filter.qos as u8),
                    message: Arc::new(message),
                    retain: true,
                    identifiers: identifier.into_iter().collect(),
                    kept: None,
                });
            }
        }
        match filter.qos {
            QoS::AtMostOnce => SubscribeReasonCode::QoS0,
            QoS::AtLeastOnce => SubscribeReasonCode::QoS1,
            QoS::ExactlyOnce => SubscribeReasonCode::QoS2,
        }
    }
}

/// MQTT 5 can say that a message was not kept; an older client is disconnected without an acknowledgement.
fn refuse_unkept(client: &Client) -> Result<(), End> {
    if client.codec.is_v5() { Ok(()) } else { Err(End::Reason(DisconnectReasonCode::QuotaExceeded)) }
}

fn has_content(p: &PublishProperties) -> bool {
    p.payload_format_indicator.is_some()
        || p.response_topic.is_some()
        || p.correlation_data.is_some()
        || p.content_type.is_some()
        || !p.user_properties.is_empty()
}
