//! MQTT byte by byte, over plain TCP: for what no well-behaved client says, and to see properties that clients hide.
//! Everything here waits for an answer of the hub, and gives up loudly after ten seconds.

use crate::house::{Device, House};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

pub const PATIENCE: Duration = Duration::from_secs(10);

/// Property identifiers of MQTT 5.0 §2.2.2.2.
pub mod property {
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const SUBSCRIPTION_ID: u8 = 0x0B;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_PACKET: u8 = 0x27;
}

/// A packet as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub first: u8,
    pub body: Vec<u8>,
}

/// A PUBLISH of the hub, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub pid: u16,
    /// Identifier and value; numbers only (strings are left out).
    pub properties: Vec<(u8, u32)>,
}

/// What CONNECT says.
pub struct Hello {
    pub v5: bool,
    pub client_id: String,
    pub username: String,
    pub password: String,
    pub clean: bool,
    pub keep_alive: u16,
    pub properties: Vec<u8>,
    /// Topic, payload, and QoS 1 if set.
    pub will: Option<(String, Vec<u8>)>,
}

/// One connection.
pub struct Wire {
    pub stream: TcpStream,
    v5: bool,
    buffer: Vec<u8>,
    waiting: VecDeque<Packet>,
}

pub fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u16).to_be_bytes()[..], s.as_bytes()].concat()
}

pub fn number(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (n & 0x7F) as u8;
        n >>= 7;
        out.push(if n > 0 { byte | 0x80 } else { byte });
        if n == 0 {
            return out;
        }
    }
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &number(body.len()), body].concat()
}

fn with_length(properties: &[u8]) -> Vec<u8> {
    [number(properties.len()), properties.to_vec()].concat()
}

pub fn u16_property(id: u8, value: u16) -> Vec<u8> {
    [&[id][..], &value.to_be_bytes()].concat()
}

pub fn u32_property(id: u8, value: u32) -> Vec<u8> {
    [&[id][..], &value.to_be_bytes()].concat()
}

impl Hello {
    /// A clean MQTT 5.0 session of a device, without TLS, with its next counter.
    pub fn of(device: &Device, client_id: &str) -> Hello {
        Hello {
            v5: true,
            client_id: client_id.into(),
            username: device.id.to_string(),
            password: device.keys.token(device.next_counter(), &[5; 16], &[]),
            clean: true,
            keep_alive: 0,
            properties: Vec::new(),
            will: None,
        }
    }

    /// A clean MQTT 5.0 session of a person.
    pub fn person(name: &str, token: &str, client_id: &str) -> Hello {
        Hello {
            v5: true,
            client_id: client_id.into(),
            username: format!("user:{name}"),
            password: token.into(),
            clean: true,
            keep_alive: 0,
            properties: Vec::new(),
            will: None,
        }
    }

    pub fn v4(mut self) -> Hello {
        self.v5 = false;
        self
    }

    /// Keeps the session for an hour, and takes up one that is there.
    pub fn kept(mut self) -> Hello {
        self.clean = false;
        self.properties.extend(u32_property(property::SESSION_EXPIRY, 3_600));
        self
    }

    pub fn with(mut self, properties: Vec<u8>) -> Hello {
        self.properties.extend(properties);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = 0xC0 | u8::from(self.clean) << 1;
        let mut will = Vec::new();
        if let Some((topic, payload)) = &self.will {
            flags |= 0x04 | 0x08;
            if self.v5 {
                will.push(0);
            }
            will.extend(text(topic));
            will.extend((payload.len() as u16).to_be_bytes());
            will.extend(payload);
        }
        let mut body = text("MQTT");
        body.extend([if self.v5 { 5 } else { 4 }, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        if self.v5 {
            body.extend(with_length(&self.properties));
        }
        body.extend(text(&self.client_id));
        body.extend(will);
        body.extend(text(&self.username));
        body.extend(text(&self.password));
        packet(0x10, &body)
    }
}

impl Wire {
    /// A TCP connection that has said nothing yet. `receive_buffer` bounds what the kernel takes for it, in bytes.
    pub async fn silent(house: &House, receive_buffer: Option<u32>) -> Wire {
        Wire::silent_at(house.hub.addresses.mqtt.unwrap(), receive_buffer).await
    }

    /// The same to any hub.
    pub async fn silent_at(hub: SocketAddr, receive_buffer: Option<u32>) -> Wire {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let stream = socket.connect(hub).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { stream, v5: true, buffer: Vec::new(), waiting: VecDeque::new() }
    }

    /// Connects; returns the connection and CONNACK's flags and code.
    pub async fn try_connect(house: &House, hello: &Hello) -> (Wire, u8, u8) {
        let mut wire = Wire::silent(house, None).await;
        let (flags, code) = wire.hello(hello).await;
        (wire, flags, code)
    }

    /// Connects and is let in.
    pub async fn connect(house: &House, hello: &Hello) -> Wire {
        let (wire, _, code) = Wire::try_connect(house, hello).await;
        assert_eq!(code, 0);
        wire
    }

    /// Says hello on a silent connection.
    pub async fn hello(&mut self, hello: &Hello) -> (u8, u8) {
        self.v5 = hello.v5;
        self.send(&hello.bytes()).await;
        let ack = self.expect(2).await;
        (ack.body[0], ack.body[1])
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next packet; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Packet> {
        match self.waiting.pop_front() {
            Some(packet) => Some(packet),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.take() {
                return Some(packet);
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("nothing came");
            if !matches!(read, Ok(n) if n > 0) {
                return None;
            }
        }
    }

    fn take(&mut self) -> Option<Packet> {
        let (mut len, mut at) = (0, 1);
        loop {
            let byte = *self.buffer.get(at)?;
            len |= usize::from(byte & 0x7F) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if self.buffer.len() < at + len {
            return None;
        }
        let frame: Vec<u8> = self.buffer.drain(..at + len).collect();
        Some(Packet { first: frame[0], body: frame[at..].to_vec() })
    }

    /// The next packet of this type; all others wait.
    pub async fn expect(&mut self, kind: u8) -> Packet {
        if let Some(at) = self.waiting.iter().position(|p| p.first >> 4 == kind) {
            return self.waiting.remove(at).unwrap();
        }
        loop {
            let packet = self.read().await.unwrap_or_else(|| panic!("closed, while waiting for a packet of type {kind}"));
            if packet.first >> 4 == kind {
                return packet;
            }
            self.waiting.push_back(packet);
        }
    }

    /// Reads until the connection ends: the code of the hub's DISCONNECT, if it sent one.
    pub async fn end(&mut self) -> Option<u8> {
        let mut code = None;
        while let Some(packet) = self.next().await {
            if packet.first == 0xE0 {
                code = Some(packet.body.first().copied().unwrap_or(0));
            }
        }
        code
    }

    /// Subscribes with raw option bytes and properties; the codes of SUBACK.
    pub async fn subscribe_with(&mut self, filters: &[(&str, u8)], properties: &[u8]) -> Vec<u8> {
        let mut body = vec![0, 77];
        if self.v5 {
            body.extend(with_length(properties));
        }
        for (filter, options) in filters {
            body.extend(text(filter));
            body.push(*options);
        }
        self.send(&packet(0x82, &body)).await;
        let ack = self.expect(9).await;
        assert_eq!(ack.body[..2], [0, 77]);
        ack.body[if self.v5 { 3 } else { 2 }..].to_vec()
    }

    /// Subscribes to one filter and is granted it.
    pub async fn subscribe(&mut self, filter: &str, qos: u8) {
        assert_eq!(self.subscribe_with(&[(filter, qos)], &[]).await, [qos], "{filter}");
    }

    /// The bytes of a PUBLISH. `flags` are those of the first byte (DUP 8, QoS 2 and 4, RETAIN 1).
    pub fn publish_bytes(&self, topic: &str, payload: &[u8], flags: u8, pid: u16, properties: &[u8]) -> Vec<u8> {
        let mut body = text(topic);
        if flags & 6 != 0 {
            body.extend(pid.to_be_bytes());
        }
        if self.v5 {
            body.extend(with_length(properties));
        }
        body.extend(payload);
        packet(0x30 | flags, &body)
    }

    /// Publishes with QoS 1; the reason code of PUBACK.
    pub async fn publish(&mut self, topic: &str, payload: &[u8], retain: bool, properties: &[u8]) -> u8 {
        let bytes = self.publish_bytes(topic, payload, 2 | u8::from(retain), 9, properties);
        self.send(&bytes).await;
        let ack = self.expect(4).await;
        assert_eq!(ack.body[..2], [0, 9]);
        ack.body.get(2).copied().unwrap_or(0)
    }

    /// The next message; acknowledges nothing.
    pub async fn message(&mut self) -> Published {
        let packet = self.expect(3).await;
        self.dissect(&packet)
    }

    /// Messages that are here after two exchanges: all that the hub had queued before.
    pub async fn messages(&mut self) -> Vec<Published> {
        self.fence().await;
        let (messages, rest): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|p| p.first >> 4 == 3);
        self.waiting.extend(rest);
        messages.iter().map(|p| self.dissect(p)).collect()
    }

    /// Two pings: what the hub had queued before the first has come before the second's answer.
    pub async fn fence(&mut self) {
        for _ in 0..2 {
            self.send(&[0xC0, 0]).await;
            self.expect(13).await;
        }
    }

    /// Sends an acknowledgement: 4 PUBACK, 5 PUBREC, 6 PUBREL, 7 PUBCOMP.
    pub async fn acknowledge(&mut self, kind: u8, pid: u16) {
        let first = kind << 4 | if kind == 6 { 2 } else { 0 };
        self.send(&packet(first, &pid.to_be_bytes())).await;
    }

    fn dissect(&self, packet: &Packet) -> Published {
        let Packet { first, body } = packet;
        let qos = first >> 1 & 3;
        let len = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let mut at = 2 + len;
        let topic = String::from_utf8(body[2..at].to_vec()).unwrap();
        let mut pid = 0;
        if qos > 0 {
            pid = u16::from_be_bytes([body[at], body[at + 1]]);
            at += 2;
        }
        let mut properties = Vec::new();
        if self.v5 {
            let (len, used) = variable(&body[at..]);
            at += used;
            let end = at + len;
            while at < end {
                let id = body[at];
                at += 1;
                let be = |at: usize, n: usize| body[at..at + n].iter().fold(0u32, |v, b| v << 8 | u32::from(*b));
                let (value, used) = match id {
                    0x01 => (be(at, 1), 1),
                    0x02 => (be(at, 4), 4),
                    0x0B => {
                        let (value, used) = variable(&body[at..]);
                        (value as u32, used)
                    }
                    0x23 => (be(at, 2), 2),
                    0x03 | 0x08 | 0x09 => (0, 2 + be(at, 2) as usize),
                    other => panic!("property {other:#04x}"),
                };
                properties.push((id, value));
                at += used;
            }
        }
        Published { topic, payload: body[at..].to_vec(), qos, retain: first & 1 != 0, dup: first & 8 != 0, pid, properties }
    }
}

fn variable(bytes: &[u8]) -> (usize, usize) {
    let (mut value, mut at) = (0, 0);
    loop {
        value |= usize::from(bytes[at] & 0x7F) << (7 * at);
        at += 1;
        if bytes[at - 1] & 0x80 == 0 {
            return (value, at);
        }
    }
}
