//! Bytes and packets: rumqttd's codecs for MQTT 3.1.1 and 5.0, and what they leave out. The codec keeps a PUBLISH's QoS
//! and packet id to itself, checks no flags, and cannot write a publish that it did not read: those three are here.

use bytes::{BufMut, Bytes, BytesMut};
use rumqttd::protocol::{self, Packet, Protocol, PublishProperties, v4::V4, v5::V5};

/// Why the peer's bytes cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireError {
    /// Not MQTT, or against the standard.
    Malformed,
    /// Well-formed so far, and larger than the hub takes.
    TooLarge,
    /// A CONNECT of another protocol level.
    Version,
}

/// A publish as it came.
#[derive(Debug)]
pub(super) struct IncomingPublish {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) pkid: u16,
    pub(super) properties: Option<PublishProperties>,
}

/// A packet as it came.
#[derive(Debug)]
pub(super) enum Incoming {
    Publish(IncomingPublish),
    Other(Packet),
}

/// One connection's protocol.
#[derive(Clone, Debug)]
pub(super) enum Codec {
    V4(V4),
    V5(V5),
}

struct Frame {
    first: u8,
    header: usize,
    len: usize,
}

/// Finds the next whole frame; `Ok(None)` when bytes are missing.
fn frame(buf: &[u8], max: usize) -> Result<Option<Frame>, WireError> {
    let Some(&first) = buf.first() else { return Ok(None) };
    let (mut remaining, mut header) = (0usize, 1usize);
    loop {
        let Some(&byte) = buf.get(header) else { return if header > 4 { Err(WireError::Malformed) } else { Ok(None) } };
        remaining |= usize::from(byte & 0x7F) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if header > 4 {
            return Err(WireError::Malformed);
        }
    }
    if remaining > max {
        return Err(WireError::TooLarge);
    }
    let len = header + remaining;
    Ok((buf.len() >= len).then_some(Frame { first, header, len }))
}

fn be_u16(buf: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*buf.get(at)?, *buf.get(at + 1)?]))
}

impl Codec {
    /// Chooses by the protocol level of the CONNECT at the start of `buf`; `Ok(None)` when bytes are missing.
    pub(super) fn of_connect(buf: &[u8], max: usize) -> Result<Option<Codec>, WireError> {
        if buf.first().is_some_and(|first| *first != 0x10) {
            return Err(WireError::Malformed);
        }
        let Some(frame) = frame(buf, max)? else { return Ok(None) };
        let name_len = usize::from(be_u16(buf, frame.header).ok_or(WireError::Malformed)?);
        let name = buf.get(frame.header + 2..frame.header + 2 + name_len).ok_or(WireError::Malformed)?;
        let level = *buf.get(frame.header + 2 + name_len).ok_or(WireError::Malformed)?;
        // Bit 0 of the connect flags is reserved (MQTT 3.1.1 §3.1.2.3, 5.0 §3.1.2.3).
        let flags = *buf.get(frame.header + 3 + name_len).ok_or(WireError::Malformed)?;
        match (name, level) {
            (b"MQTT", 4 | 5) if flags & 1 != 0 => Err(WireError::Malformed),
            (b"MQTT", 4) => Ok(Some(Codec::V4(V4))),
            (b"MQTT", 5) => Ok(Some(Codec::V5(V5))),
            (b"MQTT" | b"MQIsdp", _) => Err(WireError::Version),
            _ => Err(WireError::Malformed),
        }
    }

    pub(super) fn is_v5(&self) -> bool {
        matches!(self, Codec::V5(_))
    }

    /// Takes the next packet off `buf`; `Ok(None)` when bytes are missing.
    pub(super) fn decode(&mut self, buf: &mut BytesMut, max: usize) -> Result<Option<Incoming>, WireError> {
        let Some(frame) = frame(buf, max)? else { return Ok(None) };
        let (kind, flags) = (frame.first >> 4, frame.first & 0x0F);
        let (qos, retain) = ((flags >> 1) & 3, flags & 1 != 0);
        let legal = match kind {
            3 => qos < 3 && !(qos == 0 && flags & 8 != 0),
            // PUBREL, SUBSCRIBE and UNSUBSCRIBE carry 0010 (§2.2.2 and §2.1.3).
            6 | 8 | 10 => flags == 2,
            // What only a server sends is not read: CONNACK, SUBACK, UNSUBACK, PINGRESP; nor AUTH, which is not offered.
            1 | 4 | 5 | 7 | 12 | 14 => flags == 0,
            _ => false,
        };
        if !legal {
            return Err(WireError::Malformed);
        }
        let mut pkid = 0;
        if kind == 3 && qos > 0 {
            let topic_len = usize::from(be_u16(buf, frame.header).ok_or(WireError::Malformed)?);
            let at = frame.header + 2 + topic_len;
            pkid = be_u16(buf, at).filter(|id| *id != 0 && at + 2 <= frame.len).ok_or(WireError::Malformed)?;
        }
        // The codec panics on some bodies that no standard allows: that ends this connection and nothing else.
        let packet = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match self {
            Codec::V4(c) => c.read_mut(buf, max),
            Codec::V5(c) => c.read_mut(buf, max),
        }))
        .map_err(|_| WireError::Malformed)?;
        match packet {
            Ok(Packet::Publish(p, properties)) => {
                Ok(Some(Incoming::Publish(IncomingPublish { topic: p.topic, payload: p.payload, qos, retain, pkid, properties })))
            }
            Ok(packet) => Ok(Some(Incoming::Other(packet))),
            Err(protocol::Error::PayloadSizeLimitExceeded(_)) => Err(WireError::TooLarge),
            Err(_) => Err(WireError::Malformed),
        }
    }

    /// Writes a control packet.
    pub(super) fn encode(&self, packet: Packet, out: &mut BytesMut) {
        let written = match self {
            Codec::V4(c) => c.write(packet, out),
            Codec::V5(c) => c.write(packet, out),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "a packet could not be encoded and was left out");
        }
    }

    /// Writes a PUBLISH. `pkid` counts for `qos` > 0 only.
    pub(super) fn encode_publish(&self, head: PublishHead<'_>, properties: Option<PublishProperties>, out: &mut BytesMut) {
        let PublishHead { topic, payload, qos, retain, dup, pkid } = head;
        let first = 0x30 | u8::from(dup) << 3 | qos << 1 | u8::from(retain);
        if let (Codec::V5(codec), Some(properties)) = (self, properties) {
            // With properties the codec writes; it is given the publish in the form its own reader takes.
            let mut raw = BytesMut::with_capacity(5 + topic.len() + payload.len());
            raw.put_u8(first);
            raw.put_u16(pkid);
            raw.put_u16(u16::try_from(topic.len()).unwrap_or(u16::MAX));
            raw.put_slice(topic.as_bytes());
            raw.put_slice(payload);
            let publish = protocol::Publish::deserialize(raw.freeze());
            if let Err(error) = codec.write(Packet::Publish(publish, Some(properties)), out) {
                tracing::warn!(%error, "a publish could not be encoded and was left out");
            }
            return;
        }
        let remaining = 2 + topic.len() + if qos > 0 { 2 } else { 0 } + usize::from(self.is_v5()) + payload.len();
        out.reserve(5 + remaining);
        out.put_u8(first);
        let mut left = remaining;
        loop {
            let byte = (left & 0x7F) as u8;
            left >>= 7;
            out.put_u8(if left > 0 { byte | 0x80 } else { byte });
            if left == 0 {
                break;
            }
        }
        out.put_u16(u16::try_from(topic.len()).unwrap_or(u16::MAX));
        out.put_slice(topic.as_bytes());
        if qos > 0 {
            out.put_u16(pkid);
        }
        if self.is_v5() {
            out.put_u8(0);
        }
        out.put_slice(payload);
    }
}

/// What a PUBLISH on its way out consists of, but for properties.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublishHead<'a> {
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) dup: bool,
    pub(super) pkid: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn publish(codec: &mut Codec, qos: u8, pkid: u16) -> IncomingPublish {
        let mut out = BytesMut::new();
        let head = PublishHead { topic: "things/a/x", payload: b"hello", qos, retain: true, dup: false, pkid };
        codec.encode_publish(head, None, &mut out);
        match codec.decode(&mut out, 1000) {
            Ok(Some(Incoming::Publish(p))) => p,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_publish_is_read_as_it_was_written_in_both_versions() {
        for mut codec in [Codec::V4(V4), Codec::V5(V5)] {
            for (qos, pkid) in [(0, 0), (1, 7), (2, 65535)] {
                let p = publish(&mut codec, qos, pkid);
                assert_eq!((&p.topic[..], &p.payload[..], p.qos, p.pkid, p.retain), (&b"things/a/x"[..], &b"hello"[..], qos, pkid, true));
            }
        }
    }

    #[test]
    fn a_long_publish_is_framed_right() {
        let codec = Codec::V5(V5);
        let payload = vec![1u8; 300_000];
        let mut out = BytesMut::new();
        codec.encode_publish(PublishHead { topic: "t", payload: &payload, qos: 0, retain: false, dup: false, pkid: 0 }, None, &mut out);
        assert_eq!(frame(&out, 1 << 20).unwrap().unwrap().len, out.len());
        assert!(matches!(frame(&out, 1 << 18), Err(WireError::TooLarge)));
    }

    #[test]
    fn wrong_flags_zero_ids_and_other_versions_are_refused() {
        let mut v4 = Codec::V4(V4);
        let refused = |codec: &mut Codec, bytes: &[u8]| codec.decode(&mut BytesMut::from(bytes), 100).unwrap_err();
        assert_eq!(refused(&mut v4, &[0x80, 6, 0, 1, 0, 1, b'a', 0]), WireError::Malformed);
        assert_eq!(refused(&mut v4, &[0x36, 5, 0, 1, b'a', 0, 1]), WireError::Malformed);
        assert_eq!(refused(&mut v4, &[0x32, 5, 0, 1, b'a', 0, 0]), WireError::Malformed);
        assert_eq!(refused(&mut v4, &[0xF0, 0]), WireError::Malformed);
        assert_eq!(Codec::of_connect(b"\x10\x0c\x00\x06MQIsdp\x03\x02\x00\x05", 100).unwrap_err(), WireError::Version);
        assert_eq!(Codec::of_connect(b"GET / HTTP/1.1", 100).unwrap_err(), WireError::Malformed);
    }

    proptest! {
        #[test]
        fn no_bytes_bring_the_codec_down(bytes in proptest::collection::vec(any::<u8>(), 0..80), kind in 1u8..16, five: bool) {
            let mut codec = if five { Codec::V5(V5) } else { Codec::V4(V4) };
            let _ = codec.decode(&mut BytesMut::from(&bytes[..]), 1000);
            // And with a plausible header in front.
            let flags = match kind { 6 | 8 | 10 => 2, 3 => bytes.first().map_or(0, |b| b & 0x0F), _ => 0 };
            let mut framed = BytesMut::from(&[kind << 4 | flags, bytes.len() as u8][..]);
            framed.extend_from_slice(&bytes);
            while let Ok(Some(_)) = codec.decode(&mut framed, 1000) {}
            let mut connect = BytesMut::from(&b"\x10\x00\x00\x04MQTT"[..]);
            connect.put_u8(if five { 5 } else { 4 });
            connect.extend_from_slice(&bytes);
            let len = connect.len() - 2;
            connect[1] = len as u8;
            if let Ok(Some(mut codec)) = Codec::of_connect(&connect, 1000) {
                let _ = codec.decode(&mut connect, 1000);
            }
        }
    }
}
