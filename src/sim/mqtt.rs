//! A small MQTT client (3.1.1 and 5.0) over any byte stream, for simulated devices, the demo's tour and the load
//! generator. It shows what the broker said as it was said: the codes of CONNACK, SUBACK, PUBACK and DISCONNECT.
//!
//! One task owns a [`Client`]; nothing runs in the background. Every call is cancel-safe: bytes that came in or have
//! still to go out stay in the client, and an answer whose caller went away turns up in [`Client::next`]. TLS and TCP
//! are `sim::tls`'s; what the topics mean is `sim::device`'s.

mod codec;
#[cfg(test)]
mod tests;
mod types;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

use codec::{Ack, Inbound};
pub use types::{Closed, Connack, ConnectOptions, Error, Event, Message, Publish, Qos, Version};

/// The largest packet the client takes, in bytes.
const PACKET_LIMIT: usize = 1024 * 1024;
/// Events kept for a caller that waits for something else.
const BACKLOG_LIMIT: usize = 65_536;

/// A connected client. `S` is any byte stream; see the module for what it promises.
pub struct Client<S> {
    stream: S,
    version: Version,
    connack: Connack,
    inbound: BytesMut,
    outbound: BytesMut,
    needs_flush: bool,
    backlog: VecDeque<Event>,
    in_flight: HashMap<u16, Waiting>,
    publishes_in_flight: usize,
    window: usize,
    unreleased: HashSet<u16>,
    next_pid: u16,
    step: Duration,
    keep_alive: Option<Duration>,
    last_sent: Instant,
    ping: Option<Ping>,
}

/// What a packet identifier waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Puback,
    Pubrec,
    Pubcomp,
    Suback,
    Unsuback,
}

#[derive(Debug, Clone, Copy)]
struct Ping {
    sent: Instant,
    asked_for: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Sends CONNECT and waits for CONNACK.
    ///
    /// # Errors
    /// [`Error::Refused`] carries the CONNACK of a refusal; [`Error::Deadline`] after `options.step`.
    pub async fn connect(stream: S, options: &ConnectOptions) -> Result<Self, Error> {
        let mut client = Self {
            stream,
            version: options.version,
            connack: Connack::default(),
            inbound: BytesMut::with_capacity(4096),
            outbound: BytesMut::new(),
            needs_flush: false,
            backlog: VecDeque::new(),
            in_flight: HashMap::new(),
            publishes_in_flight: 0,
            window: usize::from(u16::MAX) - 1,
            unreleased: HashSet::new(),
            next_pid: 0,
            step: options.step,
            keep_alive: None,
            last_sent: Instant::now(),
            ping: None,
        };
        codec::connect(&mut client.outbound, options)?;
        let deadline = Instant::now() + options.step;
        let answer = timeout_at(deadline, client.packet()).await.map_err(|_| Error::Deadline("CONNACK", options.step))?;
        let connack = match answer? {
            Inbound::Connack(connack) if connack.code == 0 => connack,
            Inbound::Connack(connack) => return Err(Error::Refused(connack)),
            Inbound::Disconnect(closed) => return Err(Error::Closed(closed)),
            _ => return Err(Error::Malformed("something before CONNACK".into())),
        };
        let keep_alive_s = connack.server_keep_alive_s.unwrap_or(options.keep_alive_s);
        client.keep_alive = (keep_alive_s > 0).then(|| Duration::from_secs(u64::from(keep_alive_s)));
        if let Some(most) = connack.receive_maximum {
            client.window = client.window.min(usize::from(most));
        }
        client.connack = connack;
        Ok(client)
    }

    /// What the broker said to CONNECT.
    pub fn connack(&self) -> &Connack {
        &self.connack
    }

    /// The stream, for what its type can tell (TLS).
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The next event, waiting without end. Pings are sent and answered meanwhile.
    ///
    /// # Errors
    /// [`Error::Closed`] when the connection has ended, and the broker's reason; [`Error::Deadline`] when a ping stays
    /// unanswered.
    pub async fn next(&mut self) -> Result<Event, Error> {
        match self.backlog.pop_front() {
            Some(event) => Ok(event),
            None => self.event().await,
        }
    }

    /// The next message, or nothing within `wait`. Other events stay for [`Client::next`].
    ///
    /// # Errors
    /// As [`Client::next`].
    pub async fn receive(&mut self, wait: Duration) -> Result<Option<Publish>, Error> {
        let found = self.await_event(Instant::now() + wait, |event| matches!(event, Event::Publish(_))).await?;
        Ok(found.and_then(|event| if let Event::Publish(publish) = event { Some(publish) } else { None }))
    }

    /// Subscribes and returns one code per filter: the QoS granted, or 0x80 and above for a refusal.
    ///
    /// # Errors
    /// [`Error::Deadline`] without an answer, and what ends a connection.
    pub async fn subscribe(&mut self, filters: &[(&str, Qos)]) -> Result<Vec<u8>, Error> {
        let sent = self.start_subscribe(filters)?;
        match self.answer("SUBACK", |event| matches!(event, Event::SubAck { pid, .. } if *pid == sent)).await? {
            Event::SubAck { codes, .. } => Ok(codes),
            _ => Err(Error::Malformed("another answer than SUBACK".into())),
        }
    }

    /// Unsubscribes and returns one code per filter (5.0), or nothing (3.1.1).
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn unsubscribe(&mut self, filters: &[&str]) -> Result<Vec<u8>, Error> {
        let sent = self.free_pid()?;
        codec::unsubscribe(self.version, &mut self.outbound, sent, filters)?;
        self.in_flight.insert(sent, Waiting::Unsuback);
        match self.answer("UNSUBACK", |event| matches!(event, Event::UnsubAck { pid, .. } if *pid == sent)).await? {
            Event::UnsubAck { codes, .. } => Ok(codes),
            _ => Err(Error::Malformed("another answer than UNSUBACK".into())),
        }
    }

    /// Publishes and returns the reason code: of PUBACK (QoS 1), of PUBCOMP or a refusing PUBREC (QoS 2); 0 as soon as a
    /// QoS 0 message is handed to the stream, and always in 3.1.1.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn publish(&mut self, message: &Message) -> Result<u8, Error> {
        match self.start_publish(message)? {
            None => {
                self.flush().await?;
                Ok(0)
            }
            Some(sent) => {
                let answer = self.answer("acknowledgement", |event| matches!(event, Event::PubAck { pid, .. } if *pid == sent));
                match answer.await? {
                    Event::PubAck { code, .. } => Ok(code),
                    _ => Err(Error::Malformed("another answer than PUBACK".into())),
                }
            }
        }
    }

    /// Puts a PUBLISH into the send buffer and returns its packet identifier (nothing for QoS 0). Any call that awaits
    /// sends it; [`Client::flush`] does nothing else. The answer is an [`Event::PubAck`].
    ///
    /// # Errors
    /// [`Error::WindowFull`], [`Error::Invalid`].
    pub fn start_publish(&mut self, message: &Message) -> Result<Option<u16>, Error> {
        let waiting = match message.qos {
            Qos::AtMostOnce => {
                codec::publish(self.version, &mut self.outbound, message, None)?;
                return Ok(None);
            }
            Qos::AtLeastOnce => Waiting::Puback,
            Qos::ExactlyOnce => Waiting::Pubrec,
        };
        if self.publishes_in_flight >= self.window {
            return Err(Error::WindowFull(self.publishes_in_flight));
        }
        let pid = self.free_pid()?;
        codec::publish(self.version, &mut self.outbound, message, Some(pid))?;
        self.in_flight.insert(pid, waiting);
        self.publishes_in_flight += 1;
        Ok(Some(pid))
    }

    /// Puts a SUBSCRIBE into the send buffer; the answer is an [`Event::SubAck`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter MQTT does not know.
    pub fn start_subscribe(&mut self, filters: &[(&str, Qos)]) -> Result<u16, Error> {
        let pid = self.free_pid()?;
        codec::subscribe(self.version, &mut self.outbound, pid, filters)?;
        self.in_flight.insert(pid, Waiting::Suback);
        Ok(pid)
    }

    /// Puts a PINGREQ into the send buffer; the answer is an [`Event::Pong`].
    pub fn start_ping(&mut self) {
        codec::ping(&mut self.outbound);
        self.ping = Some(Ping { sent: Instant::now(), asked_for: true });
    }

    /// Sends a ping and returns how long the answer took.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn ping(&mut self) -> Result<Duration, Error> {
        let begin = Instant::now();
        self.start_ping();
        self.answer("PINGRESP", |event| matches!(event, Event::Pong)).await?;
        Ok(begin.elapsed())
    }

    /// Bytes that wait in the send buffer.
    pub fn unsent(&self) -> usize {
        self.outbound.len()
    }

    /// Acknowledged publishes under way, and how many the broker takes.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.publishes_in_flight, self.window)
    }

    /// Puts any bytes into the send buffer: to see how a broker takes what no client should say.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.outbound.extend_from_slice(bytes);
    }

    /// Hands what waits in the send buffer to the stream, within the step's time.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Deadline`] when the broker takes nothing.
    pub async fn flush(&mut self) -> Result<(), Error> {
        let step = self.step;
        timeout_at(Instant::now() + step, poll_fn(|cx| self.poll_send(cx))).await.map_err(|_| Error::Deadline("room to write", step))?
    }

    /// Says good-bye (0; 0x04 in 5.0 asks for the will) and closes the stream. Dropping the client instead is what a
    /// power cut looks like.
    ///
    /// # Errors
    /// As [`Client::flush`]: the connection is gone in any case.
    pub async fn disconnect(mut self, code: u8) -> Result<(), Error> {
        codec::disconnect(self.version, &mut self.outbound, code);
        self.flush().await?;
        let closing = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx));
        timeout_at(Instant::now() + self.step, closing).await.map_err(|_| Error::Deadline("close", self.step))?.map_err(Error::Io)
    }

    /// Waits for the one event that answers a request.
    async fn answer(&mut self, what: &'static str, wanted: impl Fn(&Event) -> bool) -> Result<Event, Error> {
        let step = self.step;
        self.await_event(Instant::now() + step, wanted).await?.ok_or(Error::Deadline(what, step))
    }

    /// The first event, already here or still to come, that is `wanted`; all others are kept.
    async fn await_event(&mut self, until: Instant, wanted: impl Fn(&Event) -> bool) -> Result<Option<Event>, Error> {
        if let Some(index) = self.backlog.iter().position(&wanted) {
            return Ok(self.backlog.remove(index));
        }
        loop {
            let event = match timeout_at(until, self.event()).await {
                Err(_) => return Ok(None),
                Ok(event) => event?,
            };
            if wanted(&event) {
                return Ok(Some(event));
            }
            if self.backlog.len() >= BACKLOG_LIMIT {
                return Err(Error::Overrun);
            }
            self.backlog.push_back(event);
        }
    }

    /// The next event off the wire, past those in the backlog.
    async fn event(&mut self) -> Result<Event, Error> {
        loop {
            let packet = match self.wake_up_at() {
                None => self.packet().await?,
                Some(at) => match timeout_at(at, self.packet()).await {
                    Ok(packet) => packet?,
                    Err(_) => {
                        self.keep_alive_due()?;
                        continue;
                    }
                },
            };
            if let Some(event) = self.settle(packet)? {
                return Ok(event);
            }
        }
    }

    /// When the keep-alive next needs attention: a ping is overdue, or time to send one. Three quarters of the
    /// interval leave the ping time to travel.
    fn wake_up_at(&self) -> Option<Instant> {
        match (&self.ping, self.keep_alive) {
            (Some(ping), _) => Some(ping.sent + self.step),
            (None, Some(interval)) => Some(self.last_sent + interval.mul_f32(0.75)),
            (None, None) => None,
        }
    }

    fn keep_alive_due(&mut self) -> Result<(), Error> {
        if self.ping.is_some() {
            return Err(Error::Deadline("PINGRESP", self.step));
        }
        codec::ping(&mut self.outbound);
        self.ping = Some(Ping { sent: Instant::now(), asked_for: false });
        Ok(())
    }

    /// Acknowledges what came in, settles what it answers, and says what of it the caller should know.
    fn settle(&mut self, packet: Inbound) -> Result<Option<Event>, Error> {
        Ok(match packet {
            Inbound::Publish(publish, None) => Some(Event::Publish(publish)),
            Inbound::Publish(publish, Some(pid)) if publish.qos == Qos::AtLeastOnce => {
                codec::acknowledge(&mut self.outbound, Ack::Puback, pid);
                Some(Event::Publish(publish))
            }
            Inbound::Publish(publish, Some(pid)) => {
                // Until PUBREL a repeated identifier is the same message, and is not handed on again.
                codec::acknowledge(&mut self.outbound, Ack::Pubrec, pid);
                self.unreleased.insert(pid).then_some(Event::Publish(publish))
            }
            Inbound::Pubrel(pid) => {
                self.unreleased.remove(&pid);
                codec::acknowledge(&mut self.outbound, Ack::Pubcomp, pid);
                None
            }
            Inbound::Puback(pid, code) => self.published(pid, Waiting::Puback, code)?,
            Inbound::Pubcomp(pid, code) => self.published(pid, Waiting::Pubcomp, code)?,
            Inbound::Pubrec(pid, code) if code >= 0x80 => self.published(pid, Waiting::Pubrec, code)?,
            Inbound::Pubrec(pid, _) => {
                match self.in_flight.get_mut(&pid) {
                    Some(waiting @ (Waiting::Pubrec | Waiting::Pubcomp)) => *waiting = Waiting::Pubcomp,
                    _ => return Err(unasked("PUBREC", pid)),
                }
                codec::acknowledge(&mut self.outbound, Ack::Pubrel, pid);
                None
            }
            Inbound::Suback(pid, codes) => {
                self.answered(pid, Waiting::Suback)?;
                Some(Event::SubAck { pid, codes })
            }
            Inbound::Unsuback(pid, codes) => {
                self.answered(pid, Waiting::Unsuback)?;
                Some(Event::UnsubAck { pid, codes })
            }
            Inbound::Pong => self.ping.take().filter(|ping| ping.asked_for).map(|_| Event::Pong),
            Inbound::Disconnect(closed) => return Err(Error::Closed(closed)),
            Inbound::Connack(_) => return Err(Error::Malformed("a second CONNACK".into())),
        })
    }

    fn published(&mut self, pid: u16, expected: Waiting, code: u8) -> Result<Option<Event>, Error> {
        self.answered(pid, expected)?;
        self.publishes_in_flight = self.publishes_in_flight.saturating_sub(1);
        Ok(Some(Event::PubAck { pid, code }))
    }

    fn answered(&mut self, pid: u16, expected: Waiting) -> Result<(), Error> {
        match self.in_flight.get(&pid) {
            Some(waiting) if *waiting == expected => {
                self.in_flight.remove(&pid);
                Ok(())
            }
            _ => Err(unasked("an acknowledgement", pid)),
        }
    }

    /// A packet identifier that nothing waits on.
    fn free_pid(&mut self) -> Result<u16, Error> {
        if self.in_flight.len() >= usize::from(u16::MAX) {
            return Err(Error::WindowFull(self.in_flight.len()));
        }
        loop {
            self.next_pid = self.next_pid.checked_add(1).unwrap_or(1);
            if !self.in_flight.contains_key(&self.next_pid) {
                return Ok(self.next_pid);
            }
        }
    }

    /// The next packet off the wire; writes while it waits, so that neither direction stalls the other.
    async fn packet(&mut self) -> Result<Inbound, Error> {
        poll_fn(|cx| self.poll_packet(cx)).await
    }

    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<Result<Inbound, Error>> {
        // A broker that refuses writes may have told the reason before: read what it said, and only then report.
        let writing = match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Some(error),
            _ => None,
        };
        loop {
            match codec::decode(self.version, &mut self.inbound, PACKET_LIMIT) {
                Ok(Some(packet)) => return Poll::Ready(Ok(packet)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            let mut scratch = [0u8; 8192];
            let mut read = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    return Poll::Ready(Err(Error::Closed(Closed::default())));
                }
                Poll::Ready(Ok(())) => self.inbound.extend_from_slice(read.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(ended(error))),
                Poll::Pending => return writing.map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.outbound.is_empty() {
            let written = match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outbound)) {
                Ok(0) => return Poll::Ready(Err(Error::Closed(Closed::default()))),
                Ok(written) => written,
                Err(error) => return Poll::Ready(Err(ended(error))),
            };
            self.outbound.advance(written);
            self.needs_flush = true;
            self.last_sent = Instant::now();
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(ended)?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// A connection that the other side cut is a closed one, however the operating system calls it.
fn ended(error: std::io::Error) -> Error {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => Error::Closed(Closed::default()),
        _ => Error::Io(error),
    }
}

fn unasked(what: &str, pid: u16) -> Error {
    Error::Malformed(format!("{what} for packet {pid}, which waits for none"))
}

impl<S> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("version", &self.version).finish_non_exhaustive()
    }
}
