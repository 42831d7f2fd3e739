//! The bytes of MQTT 3.1.1 and 5.0: what the client says becomes a frame, and a frame that has come in becomes one
//! version-neutral [`Inbound`]. Sockets, deadlines and packet identifiers are the client's affair (`mqtt`).

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use mqtt_proto::{Pid, PollHeader, QoS, QosPid, TopicFilter, TopicName, v3, v5};

use super::{Closed, Connack, ConnectOptions, Error, Message, Publish, Qos, Version};

/// One packet from the broker, the same for both versions. Codes are the bytes as they were on the wire.
#[derive(Debug)]
pub(super) enum Inbound {
    Connack(Connack),
    Publish(Publish, Option<u16>),
    Puback(u16, u8),
    Pubrec(u16, u8),
    Pubrel(u16),
    Pubcomp(u16, u8),
    Suback(u16, Vec<u8>),
    Unsuback(u16, Vec<u8>),
    Pong,
    Disconnect(Closed),
}

/// Takes one whole frame off the front of `buffer`, if there is one.
///
/// # Errors
/// [`Error::Malformed`] when the bytes are no MQTT packet a broker may send, [`Error::TooLarge`] when the frame
/// announces more than `limit` bytes.
pub(super) fn decode(version: Version, buffer: &mut BytesMut, limit: usize) -> Result<Option<Inbound>, Error> {
    let Some((control, body_length, header_length)) = fixed_header(buffer)? else {
        return Ok(None);
    };
    let total = header_length.saturating_add(body_length);
    if total > limit {
        return Err(Error::TooLarge { bytes: total, limit });
    }
    if buffer.len() < total {
        buffer.reserve(total - buffer.len());
        return Ok(None);
    }
    let mut frame = buffer.split_to(total);
    frame.advance(header_length);
    let lengths = (u32::try_from(body_length).unwrap_or(u32::MAX), u32::try_from(total).unwrap_or(u32::MAX));
    match version {
        Version::V4 => decode_v4(control, lengths, &frame),
        Version::V5 => decode_v5(control, lengths, &frame),
    }
    .map(Some)
}

/// The first byte, the length of the body and the length of the header itself; nothing while bytes are missing.
fn fixed_header(buffer: &[u8]) -> Result<Option<(u8, usize, usize)>, Error> {
    let Some((&control, rest)) = buffer.split_first() else {
        return Ok(None);
    };
    let mut length = 0usize;
    for (index, &byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((control, length, index + 2)));
        }
    }
    if rest.len() >= 4 {
        return Err(Error::Malformed("a remaining length of more than four bytes".into()));
    }
    Ok(None)
}

fn decode_v4(control: u8, (body, total): (u32, u32), frame: &[u8]) -> Result<Inbound, Error> {
    let header = <v3::Header as PollHeader>::new_with(control, body, total).map_err(malformed)?;
    let packet = match PollHeader::build_empty_packet(&header) {
        Some(packet) => packet,
        None => PollHeader::decode_buffer(header, frame, &mut 0).map_err(malformed)?,
    };
    Ok(match packet {
        v3::Packet::Connack(p) => {
            Inbound::Connack(Connack { session_present: p.session_present, code: p.code as u8, ..Connack::default() })
        }
        v3::Packet::Publish(p) => {
            let (qos, pid) = qos_of(p.qos_pid);
            let publish = Publish { topic: Arc::from(&*p.topic_name), payload: p.payload, qos, retain: p.retain, dup: p.dup };
            Inbound::Publish(publish, pid)
        }
        v3::Packet::Puback(pid) => Inbound::Puback(pid.value(), 0),
        v3::Packet::Pubrec(pid) => Inbound::Pubrec(pid.value(), 0),
        v3::Packet::Pubrel(pid) => Inbound::Pubrel(pid.value()),
        v3::Packet::Pubcomp(pid) => Inbound::Pubcomp(pid.value(), 0),
        v3::Packet::Suback(p) => Inbound::Suback(p.pid.value(), p.topics.iter().map(|code| *code as u8).collect()),
        v3::Packet::Unsuback(pid) => Inbound::Unsuback(pid.value(), Vec::new()),
        v3::Packet::Pingresp => Inbound::Pong,
        other => return Err(Error::Malformed(format!("a broker must not send {:?}", other.get_type()))),
    })
}

fn decode_v5(control: u8, (body, total): (u32, u32), frame: &[u8]) -> Result<Inbound, Error> {
    let header = <v5::Header as PollHeader>::new_with(control, body, total).map_err(malformed)?;
    let packet = match PollHeader::build_empty_packet(&header) {
        Some(packet) => packet,
        None => PollHeader::decode_buffer(header, frame, &mut 0).map_err(malformed)?,
    };
    Ok(match packet {
        v5::Packet::Connack(p) => Inbound::Connack(Connack {
            session_present: p.session_present,
            code: p.reason_code as u8,
            reason: p.properties.reason_string.map(|text| text.to_string()),
            assigned_client_id: p.properties.assigned_client_id.map(|text| text.to_string()),
            server_keep_alive_s: p.properties.server_keep_alive,
            session_expiry_s: p.properties.session_expiry_interval,
            receive_maximum: p.properties.receive_max,
            maximum_packet: p.properties.max_packet_size,
        }),
        v5::Packet::Publish(p) => {
            let (qos, pid) = qos_of(p.qos_pid);
            let publish = Publish { topic: Arc::from(&*p.topic_name), payload: p.payload, qos, retain: p.retain, dup: p.dup };
            Inbound::Publish(publish, pid)
        }
        v5::Packet::Puback(p) => Inbound::Puback(p.pid.value(), p.reason_code as u8),
        v5::Packet::Pubrec(p) => Inbound::Pubrec(p.pid.value(), p.reason_code as u8),
        v5::Packet::Pubrel(p) => Inbound::Pubrel(p.pid.value()),
        v5::Packet::Pubcomp(p) => Inbound::Pubcomp(p.pid.value(), p.reason_code as u8),
        v5::Packet::Suback(p) => Inbound::Suback(p.pid.value(), p.topics.iter().map(|code| *code as u8).collect()),
        v5::Packet::Unsuback(p) => Inbound::Unsuback(p.pid.value(), p.topics.iter().map(|code| *code as u8).collect()),
        v5::Packet::Pingresp => Inbound::Pong,
        v5::Packet::Disconnect(p) => {
            Inbound::Disconnect(Closed { code: Some(p.reason_code as u8), reason: p.properties.reason_string.map(|text| text.to_string()) })
        }
        other => return Err(Error::Malformed(format!("a broker must not send {}", other.get_type()))),
    })
}

fn qos_of(qos: QosPid) -> (Qos, Option<u16>) {
    match qos {
        QosPid::Level0 => (Qos::AtMostOnce, None),
        QosPid::Level1(pid) => (Qos::AtLeastOnce, Some(pid.value())),
        QosPid::Level2(pid) => (Qos::ExactlyOnce, Some(pid.value())),
    }
}

/// CONNECT.
///
/// # Errors
/// [`Error::Invalid`] when a text does not fit MQTT (more than 65,535 bytes, a wildcard in the will's topic).
pub(super) fn connect(out: &mut BytesMut, options: &ConnectOptions) -> Result<(), Error> {
    let texts = [Some(options.client_id.as_str()), options.username.as_deref(), options.password.as_ref().map(|text| text.as_str())];
    let will_bytes = options.will.as_ref().map_or(0, |will| will.payload.len());
    if will_bytes.max(texts.into_iter().flatten().map(str::len).max().unwrap_or(0)) > usize::from(u16::MAX) {
        return Err(Error::Invalid("a text of CONNECT is longer than 65,535 bytes".into()));
    }
    let client_id: Arc<str> = options.client_id.as_str().into();
    let username = options.username.as_deref().map(Arc::from);
    let password = options.password.as_ref().map(|text| Bytes::copy_from_slice(text.as_bytes()));
    match options.version {
        Version::V4 => {
            let mut packet = v3::Connect::new(client_id, options.keep_alive_s);
            packet.clean_session = options.clean;
            packet.username = username;
            packet.password = password;
            packet.last_will = match &options.will {
                Some(will) => Some(v3::LastWill {
                    qos: level(will.qos),
                    retain: will.retain,
                    topic_name: topic_name(&will.topic)?,
                    message: will.payload.clone(),
                }),
                None => None,
            };
            append(out, v3::Packet::Connect(packet).encode())
        }
        Version::V5 => {
            let mut packet = v5::Connect::new(client_id, options.keep_alive_s);
            packet.clean_start = options.clean;
            packet.properties.session_expiry_interval = options.session_expiry_s;
            packet.properties.receive_max = options.receive_maximum;
            packet.username = username;
            packet.password = password;
            packet.last_will = match &options.will {
                Some(will) => {
                    let mut last = v5::LastWill::new(level(will.qos), topic_name(&will.topic)?, will.payload.clone());
                    last.retain = will.retain;
                    Some(last)
                }
                None => None,
            };
            append(out, v5::Packet::Connect(packet).encode())
        }
    }
}

/// PUBLISH; `pid` is absent for QoS 0 alone.
pub(super) fn publish(version: Version, out: &mut BytesMut, message: &Message, pid: Option<u16>) -> Result<(), Error> {
    let qos_pid = match (message.qos, pid) {
        (Qos::AtMostOnce, _) | (_, None) => QosPid::Level0,
        (Qos::AtLeastOnce, Some(pid)) => QosPid::Level1(identifier(pid)?),
        (Qos::ExactlyOnce, Some(pid)) => QosPid::Level2(identifier(pid)?),
    };
    let topic = topic_name(&message.topic)?;
    match version {
        Version::V4 => {
            let mut packet = v3::Publish::new(qos_pid, topic, message.payload.clone());
            packet.retain = message.retain;
            packet.dup = message.dup;
            append(out, v3::Packet::Publish(packet).encode())
        }
        Version::V5 => {
            let mut packet = v5::Publish::new(qos_pid, topic, message.payload.clone());
            packet.retain = message.retain;
            packet.dup = message.dup;
            append(out, v5::Packet::Publish(packet).encode())
        }
    }
}

/// SUBSCRIBE.
pub(super) fn subscribe(version: Version, out: &mut BytesMut, pid: u16, filters: &[(&str, Qos)]) -> Result<(), Error> {
    let pid = identifier(pid)?;
    let mut topics = Vec::with_capacity(filters.len());
    for (filter, qos) in filters {
        topics.push((topic_filter(filter)?, level(*qos)));
    }
    match version {
        Version::V4 => append(out, v3::Packet::Subscribe(v3::Subscribe::new(pid, topics)).encode()),
        Version::V5 => {
            let topics = topics
                .into_iter()
                .map(|(filter, qos)| {
                    let mut options = v5::SubscriptionOptions::new(qos);
                    options.retain_as_published = false;
                    (filter, options)
                })
                .collect();
            append(out, v5::Packet::Subscribe(v5::Subscribe::new(pid, topics)).encode())
        }
    }
}

/// UNSUBSCRIBE.
pub(super) fn unsubscribe(version: Version, out: &mut BytesMut, pid: u16, filters: &[&str]) -> Result<(), Error> {
    let pid = identifier(pid)?;
    let topics = filters.iter().map(|filter| topic_filter(filter)).collect::<Result<Vec<_>, _>>()?;
    match version {
        Version::V4 => append(out, v3::Packet::Unsubscribe(v3::Unsubscribe { pid, topics }).encode()),
        Version::V5 => append(out, v5::Packet::Unsubscribe(v5::Unsubscribe::new(pid, topics)).encode()),
    }
}

/// The four acknowledgements of QoS 1 and 2, told apart by the first byte of their fixed header. Success needs no
/// reason code in either version (MQTT 5.0, 3.4.2.1), so one form serves both.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ack {
    Puback = 0x40,
    Pubrec = 0x50,
    Pubrel = 0x62,
    Pubcomp = 0x70,
}

pub(super) fn acknowledge(out: &mut BytesMut, ack: Ack, pid: u16) {
    out.extend_from_slice(&[ack as u8, 2]);
    out.extend_from_slice(&pid.to_be_bytes());
}

pub(super) fn ping(out: &mut BytesMut) {
    out.extend_from_slice(&[0xC0, 0]);
}

/// DISCONNECT; `code` travels in MQTT 5 only, 0x04 there asks for the will to be published.
pub(super) fn disconnect(version: Version, out: &mut BytesMut, code: u8) {
    match (version, code) {
        (Version::V4, _) | (Version::V5, 0) => out.extend_from_slice(&[0xE0, 0]),
        (Version::V5, code) => out.extend_from_slice(&[0xE0, 1, code]),
    }
}

fn append<B: AsRef<[u8]>>(out: &mut BytesMut, encoded: Result<B, mqtt_proto::Error>) -> Result<(), Error> {
    out.extend_from_slice(encoded.map_err(|error| Error::Invalid(error.to_string()))?.as_ref());
    Ok(())
}

fn level(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::Level0,
        Qos::AtLeastOnce => QoS::Level1,
        Qos::ExactlyOnce => QoS::Level2,
    }
}

fn identifier(pid: u16) -> Result<Pid, Error> {
    Pid::try_from(pid).map_err(|error| Error::Invalid(error.to_string()))
}

fn topic_name(topic: &str) -> Result<TopicName, Error> {
    TopicName::try_from(topic).map_err(|error| Error::Invalid(error.to_string()))
}

fn topic_filter(filter: &str) -> Result<TopicFilter, Error> {
    TopicFilter::try_from(filter).map_err(|error| Error::Invalid(error.to_string()))
}

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::Malformed(error.to_string())
}
