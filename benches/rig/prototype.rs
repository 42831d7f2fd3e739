//! The other way a gate could be built: rumqttd's own router behind our listener, with a local link per connection.
//! As small as a fair comparison allows: MQTT 3.1.1, a check of every publish and subscription by prefix, nothing of
//! what the router does wrong put right. It runs in a process of its own.

use super::process::Process;
use bytes::BytesMut;
use rumqttd::local::{LinkBuilder, LinkRx, LinkTx};
use rumqttd::protocol::{self, Disconnect, DisconnectReasonCode, Packet, Protocol, v4::V4};
use rumqttd::{Notification, Router, RouterConfig};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Told to the process: be the prototype, with segments of so many bytes and so many of them.
const FLAG: &str = "--router-prototype";
const MAX_PACKET: usize = 1 << 20;

/// Starts one whose log keeps `segments` segments of `segment_bytes` for each filter.
pub fn start(segment_bytes: usize, segments: usize) -> Process {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([FLAG, &segment_bytes.to_string(), &segments.to_string()])
        .stdout(Stdio::piped())
        // Its router's end is one of the findings, and is told as such.
        .stderr(Stdio::null())
        .spawn()
        .expect("the prototype");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its address");
    Process::new(child, line.trim().parse().expect("an address"))
}

/// Runs the prototype if this process was started for it.
pub fn was_to_serve() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(at) = arguments.iter().position(|a| a == FLAG) else { return false };
    let number = |i: usize| arguments[at + i].parse::<usize>().expect("a number");
    let config = RouterConfig {
        max_connections: 10_000,
        max_outgoing_packet_count: 200,
        max_segment_size: number(1),
        max_segment_count: number(2),
        ..RouterConfig::default()
    };
    let router = Router::new(0, config).spawn();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        super::report::say(&listener.local_addr().expect("an address").to_string());
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let router = router.clone();
            tokio::spawn(async move {
                let (mut reader, writer) = stream.into_split();
                let mut buf = BytesMut::with_capacity(16 * 1024);
                let Some(Packet::Connect(connect, _, _, _, Some(login))) = next(&mut reader, &mut buf).await else { return };
                // Building a link waits for the router's thread.
                let build = move || LinkBuilder::new(&connect.client_id, router).clean_session(true).dynamic_filters(true).build().ok();
                let Ok(Some((tx, rx, ack))) = tokio::task::spawn_blocking(build).await else { return };
                let writing = tokio::spawn(write(writer, rx, ack));
                read(reader, buf, tx, &login.username).await;
                writing.abort();
            });
        }
    });
    true
}

async fn next(reader: &mut OwnedReadHalf, buf: &mut BytesMut) -> Option<Packet> {
    loop {
        match V4.read_mut(buf, MAX_PACKET) {
            Ok(packet) => return Some(packet),
            Err(protocol::Error::InsufficientBytes(_)) => {}
            Err(_) => return None,
        }
        buf.reserve(16 * 1024);
        if reader.read_buf(buf).await.ok()? == 0 {
            return None;
        }
    }
}

async fn read(mut reader: OwnedReadHalf, mut buf: BytesMut, mut tx: LinkTx, username: &str) {
    let room = format!("things/{username}/");
    // What begins with another character than ASCII is let through: whether the router survives it is a question.
    let allowed = |topic: &[u8]| username.starts_with("user:") || topic.starts_with(room.as_bytes()) || !topic.is_ascii();
    let mut packets = Vec::new();
    while let Some(first) = next(&mut reader, &mut buf).await {
        packets.push(first);
        while let Ok(packet) = V4.read_mut(&mut buf, MAX_PACKET) {
            packets.push(packet);
        }
        let refused = packets.iter().any(|p| match p {
            Packet::Publish(publish, _) => !allowed(&publish.topic),
            Packet::Subscribe(subscribe, _) => !subscribe.filters.iter().all(|f| allowed(f.path.as_bytes())),
            _ => false,
        });
        let over = refused || packets.iter().any(|p| matches!(p, Packet::Disconnect(..)));
        if let (false, Some(last)) = (refused, packets.pop()) {
            tx.buffer().extend(packets.drain(..));
            if tx.send(last).await.is_err() {
                return;
            }
        }
        if over {
            return;
        }
    }
    // A link that is only dropped stays for ever.
    let _ = tx.send(Packet::Disconnect(Disconnect { reason_code: DisconnectReasonCode::NormalDisconnection }, None)).await;
}

async fn write(mut writer: OwnedWriteHalf, mut rx: LinkRx, ack: Notification) {
    let mut out = BytesMut::with_capacity(64 * 1024);
    let put = |notification: Notification, out: &mut BytesMut| {
        if let Some(packet) = Option::<Packet>::from(notification) {
            let _ = V4.write(packet, out);
        }
    };
    put(ack, &mut out);
    loop {
        if writer.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
        let Ok(first) = rx.next().await else { return };
        let mut wake = false;
        let past = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now);
        let mut pending = first;
        for _ in 0..400 {
            match pending.take() {
                Some(Notification::Unschedule) => wake = true,
                Some(notification) => put(notification, &mut out),
                None => {}
            }
            match rx.recv_deadline(past) {
                Ok(more) => pending = more,
                Err(_) => break,
            }
        }
        match pending {
            Some(Notification::Unschedule) => wake = true,
            Some(notification) => put(notification, &mut out),
            None => {}
        }
        if wake && rx.wake().await.is_err() {
            return;
        }
    }
}
