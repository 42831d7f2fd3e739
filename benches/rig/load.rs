//! The load generator: publishers on blocking threads with frames encoded beforehand, receivers on one thread that
//! parse in place. It is the same for every broker, speaks MQTT 3.1.1, and counts every delivery by its number.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// Bytes of payload: time stamp (8), publisher (4), number (8), and filling.
pub const PAYLOAD: usize = 128;
/// Publishes per write, flat out, unless a plan says otherwise.
pub const BATCH: usize = 32;
/// Publishes of QoS 1 that a publisher leaves unacknowledged.
const WINDOW: usize = 256;
/// Nothing comes any more when nothing has come for so long.
const QUIET: Duration = Duration::from_millis(1_500);

/// Who connects.
#[derive(Clone)]
pub struct Login {
    /// The client id.
    pub client_id: String,
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
}

/// Who publishes where, who receives what.
pub struct Plan {
    /// Logins and topics.
    pub publishers: Vec<(Login, String)>,
    /// Logins and filters; each receiver gets what every publisher sends.
    pub receivers: Vec<(Login, String)>,
    /// 0 or 1, of publishers and receivers.
    pub qos: u8,
    /// Publishes per write, at most [`BATCH`].
    pub batch: usize,
    /// Whether the receivers' sessions outlive their connections.
    pub kept: bool,
    /// Receivers (the first ones) that stop reading now and then, and for how long each time.
    pub lagging: (usize, Duration),
}

/// How publishers go.
#[derive(Clone, Copy)]
pub enum Pace {
    /// As fast as the broker takes it.
    FlatOut(Duration),
    /// So many messages a second over all publishers.
    Rate(f64, Duration),
}

/// What came of it.
#[derive(Clone, Default)]
pub struct Outcome {
    /// Messages published.
    pub sent: u64,
    /// Deliveries that came.
    pub delivered: u64,
    /// Deliveries that never came.
    pub missing: u64,
    /// Deliveries that came twice or out of order.
    pub disorder: u64,
    /// Connections that the broker ended before the end.
    pub cut: u64,
    /// Seconds in which publishers published (QoS 1: until the last acknowledgement).
    pub publishing_s: f64,
    /// Seconds from the first publish to the last delivery.
    pub span_s: f64,
    /// From just before the write to the parse, in ns, sorted.
    pub latencies: Vec<u32>,
}

impl Outcome {
    /// Messages per second that went through: what was sent, over the time until all of it had arrived.
    pub fn messages_per_s(&self) -> f64 {
        self.sent as f64 / self.span_s.max(1e-9)
    }

    /// In one line.
    pub fn summary(&self) -> String {
        let Outcome { sent, delivered, missing, disorder, cut, publishing_s, span_s, .. } = self;
        format!(
            "sent {sent} in {publishing_s:.2} s, delivered {delivered} in {span_s:.2} s, missing {missing}, disorder {disorder}, cut {cut}"
        )
    }

    /// Deliveries per second.
    pub fn deliveries_per_s(&self) -> f64 {
        self.delivered as f64 / self.span_s.max(1e-9)
    }
}

/// Runs a plan against the broker at `address`. Latencies are kept only with [`Pace::Rate`].
pub fn run(address: SocketAddr, plan: &Plan, pace: Pace) -> Outcome {
    let epoch = Instant::now();
    let publishers = plan.publishers.len();
    let progress = Arc::new(AtomicU64::new(0));
    let stop = CancellationToken::new();
    let receiver = |(login, filter): &(Login, String)| {
        if plan.kept { kept_subscriber(address, login, filter, plan.qos) } else { subscriber(address, login, filter, plan.qos) }
    };
    let streams: Vec<TcpStream> = plan.receivers.iter().map(receiver).collect();
    let receiving = {
        let (progress, stop, lagging) = (progress.clone(), stop.clone(), plan.lagging);
        let keep = matches!(pace, Pace::Rate(..));
        std::thread::spawn(move || receive_all(streams, &Receiving { epoch, publishers, keep, lagging, progress, stop }))
    };
    let began = epoch.elapsed();
    let sending: Vec<_> = plan
        .publishers
        .iter()
        .enumerate()
        .map(|(index, (login, topic))| {
            let stream = connect(address, login);
            let mut publisher = Publisher::new(stream, topic, plan.qos, index, epoch, plan.batch);
            let share = publishers as f64;
            std::thread::spawn(move || {
                match pace {
                    Pace::FlatOut(time) => publisher.flat_out(time),
                    Pace::Rate(rate, time) => publisher.paced(rate / share, time),
                }
                (publisher, epoch.elapsed())
            })
        })
        .collect();
    let ends: Vec<(Publisher, Duration)> = sending.into_iter().map(|s| s.join().expect("a publisher")).collect();
    let sent: Vec<u64> = ends.iter().map(|(p, _)| p.number).collect();
    let published = ends.iter().map(|(_, at)| *at).max().unwrap_or_default();
    let expected = sent.iter().sum::<u64>() * plan.receivers.len() as u64;
    let (mut seen, mut at) = (0, Instant::now());
    loop {
        let now = progress.load(Ordering::Relaxed);
        if now >= expected || (now == seen && at.elapsed() > QUIET) {
            break;
        }
        if now != seen {
            (seen, at) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    stop.cancel();
    let seen = receiving.join().expect("the receivers");
    let cut = ends.iter().filter(|(p, _)| p.cut).count() as u64;
    for (mut publisher, _) in ends {
        let _ = publisher.stream.write_all(&[0xE0, 0]);
    }
    let mut out = Outcome { cut, sent: sent.iter().sum(), publishing_s: (published - began).as_secs_f64(), ..Outcome::default() };
    let mut last = published;
    for s in seen {
        out.delivered += s.delivered;
        out.disorder += s.disorder;
        out.cut += u64::from(s.cut);
        out.missing += s.gaps + s.next.iter().zip(&sent).map(|(next, sent)| sent.saturating_sub(*next)).sum::<u64>();
        out.latencies.extend(s.latencies);
        last = last.max(s.last);
    }
    assert_eq!(out.delivered + out.missing, expected, "the generator has miscounted");
    out.span_s = (last - began).as_secs_f64();
    out.latencies.sort_unstable();
    out
}

/// Whether the broker signs `login` in and hands it what it publishes to `topic`, within three seconds each.
pub fn serves(address: SocketAddr, login: &Login, topic: &str) -> bool {
    let attempt = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        stream.write_all(&hello(login, false))?;
        stream.read_exact(&mut [0; 4])?;
        stream.write_all(&subscription(topic, 0))?;
        stream.read_exact(&mut [0; 5])?;
        let sent = publish(topic, 0, 0, b"x");
        stream.write_all(&sent)?;
        let mut got = vec![0; sent.len()];
        stream.read_exact(&mut got)?;
        Ok(got == sent)
    };
    attempt().unwrap_or(false)
}

fn hello(login: &Login, kept: bool) -> Vec<u8> {
    let mut body = Vec::from(&b"\x00\x04MQTT\x04"[..]);
    body.extend([if kept { 0xC0 } else { 0xC2 }, 0, 0]);
    for text in [&login.client_id, &login.username, &login.password] {
        put_text(&mut body, text);
    }
    frame(0x10, &body)
}

fn subscription(filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    put_text(&mut body, filter);
    body.push(qos);
    frame(0x82, &body)
}

/// A signed-in connection.
pub fn connect(address: SocketAddr, login: &Login) -> TcpStream {
    connect_with(address, login, false)
}

fn connect_with(address: SocketAddr, login: &Login, kept: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
    stream.write_all(&hello(login, kept)).expect("a CONNECT");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("a CONNACK");
    assert_eq!((answer[0], answer[3]), (0x20, 0), "{} was refused", login.username);
    stream
}

/// A signed-in connection with one subscription.
pub fn subscriber(address: SocketAddr, login: &Login, filter: &str, qos: u8) -> TcpStream {
    subscribe(connect(address, login), login, filter, qos)
}

/// The same in a session that outlives the connection, begun anew.
fn kept_subscriber(address: SocketAddr, login: &Login, filter: &str, qos: u8) -> TcpStream {
    // The end of the session before, if there is one.
    drop(connect(address, login));
    subscribe(connect_with(address, login, true), login, filter, qos)
}

fn subscribe(mut stream: TcpStream, login: &Login, filter: &str, qos: u8) -> TcpStream {
    stream.write_all(&subscription(filter, qos)).expect("a SUBSCRIBE");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("a SUBACK");
    assert_eq!((answer[0], answer[4]), (0x90, qos), "{filter} was refused to {}", login.username);
    stream
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// A packet: first byte, remaining length, body.
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut left = body.len();
    loop {
        let byte = (left & 0x7F) as u8;
        left >>= 7;
        out.push(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

/// A PUBLISH.
pub fn publish(topic: &str, qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, topic);
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(payload);
    frame(0x30 | qos << 1, &body)
}

struct Publisher {
    stream: TcpStream,
    /// [`BATCH`] frames, one after another.
    frames: Vec<u8>,
    size: usize,
    qos: u8,
    epoch: Instant,
    number: u64,
    batch: usize,
    cut: bool,
}

impl Publisher {
    fn new(stream: TcpStream, topic: &str, qos: u8, index: usize, epoch: Instant, batch: usize) -> Publisher {
        let mut payload = vec![b'x'; PAYLOAD];
        payload[8..12].copy_from_slice(&(index as u32).to_be_bytes());
        let one = publish(topic, qos, 1, &payload);
        let size = one.len();
        Publisher { stream, frames: one.repeat(BATCH), size, qos, epoch, number: 0, batch: batch.clamp(1, BATCH), cut: false }
    }

    /// Writes the next `n` messages, stamped with `stamp`.
    fn send(&mut self, n: usize, stamp: u64) -> bool {
        for i in 0..n {
            let at = i * self.size;
            let payload = at + self.size - PAYLOAD;
            self.frames[payload..payload + 8].copy_from_slice(&stamp.to_be_bytes());
            self.frames[payload + 12..payload + 20].copy_from_slice(&self.number.to_be_bytes());
            if self.qos > 0 {
                let id = (self.number % 65_535) as u16 + 1;
                self.frames[payload - 2..payload].copy_from_slice(&id.to_be_bytes());
            }
            self.number += 1;
        }
        self.cut |= self.stream.write_all(&self.frames[..n * self.size]).is_err();
        !self.cut
    }

    fn flat_out(&mut self, time: Duration) {
        let until = Instant::now() + time;
        let (mut unacknowledged, mut answers, mut kept) = (0usize, [0; 4096], 0usize);
        loop {
            let over = Instant::now() >= until;
            if !over && (self.qos == 0 || unacknowledged + self.batch <= WINDOW) {
                let stamp = self.epoch.elapsed().as_nanos() as u64;
                if !self.send(self.batch, stamp) {
                    return;
                }
                unacknowledged += self.batch;
                continue;
            }
            if self.qos == 0 || unacknowledged == 0 {
                return;
            }
            match self.stream.read(&mut answers) {
                // PUBACKs only, four bytes each.
                Ok(n) if n > 0 => {
                    unacknowledged -= (kept + n) / 4;
                    kept = (kept + n) % 4;
                }
                _ => {
                    self.cut = true;
                    return;
                }
            }
        }
    }

    fn paced(&mut self, rate: f64, time: Duration) {
        const TICK: Duration = Duration::from_millis(1);
        let mut answers = self.stream.try_clone().expect("a second handle");
        answers.set_read_timeout(None).expect("an option");
        let reading = std::thread::spawn(move || {
            let _ = std::io::copy(&mut answers, &mut std::io::sink());
        });
        let began = Instant::now();
        let mut due = began;
        let mut owed = 0.0;
        while due < began + time {
            due += TICK;
            owed += rate * TICK.as_secs_f64();
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // A stamp is never later than its due time plus the jitter of a timer: a broker that holds a write up is
            // charged for what waits behind it.
            let stamp = Instant::now().min(due + 2 * TICK);
            let stamp = (stamp - self.epoch).as_nanos() as u64;
            while owed >= 1.0 {
                let n = (owed as usize).min(BATCH);
                if !self.send(n, stamp) {
                    return;
                }
                owed -= n as f64;
            }
        }
        // Acknowledgements may still come, and nobody minds them.
        let _ = self.stream.shutdown(Shutdown::Read);
        let _ = reading.join();
    }
}

struct Receiving {
    epoch: Instant,
    publishers: usize,
    keep: bool,
    lagging: (usize, Duration),
    progress: Arc<AtomicU64>,
    stop: CancellationToken,
}

/// What one receiver has seen.
struct Seen {
    next: Vec<u64>,
    delivered: u64,
    gaps: u64,
    disorder: u64,
    cut: bool,
    last: Duration,
    latencies: Vec<u32>,
}

fn receive_all(streams: Vec<TcpStream>, how: &Receiving) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let tasks = streams.into_iter().enumerate().map(|(i, stream)| {
            stream.set_nonblocking(true).expect("an option");
            let stream = tokio::net::TcpStream::from_std(stream).expect("a stream");
            receive(stream, how, i < how.lagging.0)
        });
        futures_util::future::join_all(tasks).await
    })
}

async fn receive(mut stream: tokio::net::TcpStream, how: &Receiving, lags: bool) -> Seen {
    let mut seen =
        Seen { next: vec![0; how.publishers], delivered: 0, gaps: 0, disorder: 0, cut: false, last: Duration::ZERO, latencies: Vec::new() };
    let (mut buf, mut len, mut acks, mut reads) = (vec![0u8; 128 * 1024], 0, Vec::new(), 0u64);
    loop {
        let n = tokio::select! {
            biased;
            n = stream.read(&mut buf[len..]) => n,
            () = how.stop.cancelled() => break,
        };
        let Ok(n @ 1..) = n else {
            seen.cut = true;
            break;
        };
        len += n;
        let before = seen.delivered;
        let used = seen.take(&buf[..len], how, &mut acks);
        buf.copy_within(used..len, 0);
        len -= used;
        if seen.delivered > before {
            seen.last = how.epoch.elapsed();
            how.progress.fetch_add(seen.delivered - before, Ordering::Relaxed);
        }
        if !acks.is_empty() {
            if stream.write_all(&acks).await.is_err() {
                seen.cut = true;
                break;
            }
            acks.clear();
        }
        reads += 1;
        if lags && reads.is_multiple_of(20) {
            tokio::time::sleep(how.lagging.1).await;
        }
    }
    let _ = stream.write_all(&[0xE0, 0]).await;
    seen
}

impl Seen {
    /// Takes whole frames off the front of `buf`; returns how many bytes they were.
    fn take(&mut self, buf: &[u8], how: &Receiving, acks: &mut Vec<u8>) -> usize {
        let now = how.epoch.elapsed().as_nanos() as u64;
        let mut at = 0;
        while let Some((first, body, end)) = next_frame(&buf[at..]) {
            let body = &buf[at + body..at + end];
            at += end;
            if first >> 4 != 3 {
                continue;
            }
            let mut head = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
            if first & 0x06 != 0 {
                acks.extend([0x40, 2, body[head], body[head + 1]]);
                head += 2;
            }
            self.note(&body[head..], now, how.keep);
        }
        at
    }

    fn note(&mut self, payload: &[u8], now: u64, keep: bool) {
        let Some((stamp, rest)) = payload.split_first_chunk::<8>() else { return };
        let Some((publisher, rest)) = rest.split_first_chunk::<4>() else { return };
        let Some((number, _)) = rest.split_first_chunk::<8>() else { return };
        let Some(next) = self.next.get_mut(u32::from_be_bytes(*publisher) as usize) else { return };
        let number = u64::from_be_bytes(*number);
        if number < *next {
            // Either a repetition, or a gap counted before turns out to have been none.
            self.disorder += 1;
            return;
        }
        self.gaps += number - *next;
        *next = number + 1;
        self.delivered += 1;
        if keep {
            self.latencies.push(u32::try_from(now.saturating_sub(u64::from_be_bytes(*stamp))).unwrap_or(u32::MAX));
        }
    }
}

/// First byte, start of the body, end of the frame.
fn next_frame(buf: &[u8]) -> Option<(u8, usize, usize)> {
    let first = *buf.first()?;
    let (mut remaining, mut header) = (0usize, 1usize);
    loop {
        let byte = *buf.get(header)?;
        remaining |= usize::from(byte & 0x7F) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (buf.len() >= header + remaining).then_some((first, header, header + remaining))
}
