//! MQTT over WebSocket (MQTT 5 §6, RFC 6455) at `/mqtt`: bytes go between the socket and a stream that the broker serves
//! as it serves any other. Who signs in is the broker's to ask.

use super::caller::{self, Caller, Carrier};
use super::{Context, answer};
use crate::net::problem::Problem;
use futures_util::{SinkExt, StreamExt};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;
use warp::filters::BoxedFilter;
use warp::host::Authority;
use warp::http::StatusCode;
use warp::http::header::{self, HeaderMap};
use warp::reply::Response;
use warp::ws::{Message, WebSocket, Ws};
use warp::{Filter, Reply};

/// The name that MQTT has among subprotocols.
const SUBPROTOCOL: &str = "mqtt";
/// Bytes under way in each direction, and the longest message to the client.
const BUFFER: usize = 16 * 1024;
/// How long the client may take to accept a message.
const WRITE: Duration = Duration::from_secs(30);
/// How long the broker has to say goodbye when the hub stops.
const GOODBYE: Duration = Duration::from_secs(5);

/// The far end of a WebSocket, for the broker.
#[derive(Debug)]
pub struct MqttSocket {
    /// What the client sends and receives, as bytes.
    pub stream: DuplexStream,
    /// The client's address.
    pub ip: IpAddr,
    /// SHA-256 of the SubjectPublicKeyInfo that the client was shown; `None` without TLS.
    pub spki: Option<[u8; 32]>,
}

/// `/mqtt`.
pub(super) fn routes(context: Arc<Context>) -> BoxedFilter<(Response,)> {
    let upgrade = warp::ws().map(Some).or(warp::any().map(|| None)).unify();
    warp::path("mqtt")
        .and(warp::path::end())
        .and(upgrade)
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Caller>())
        .and(warp::host::optional())
        .map(move |ws: Option<Ws>, headers: HeaderMap, caller: Caller, authority: Option<Authority>| {
            let own = caller::own_origin(&caller, authority.as_ref().map_or("", Authority::as_str));
            open(&context, ws, &headers, caller, &own).unwrap_or_else(|problem| answer::problem(&problem))
        })
        .boxed()
}

fn open(context: &Context, ws: Option<Ws>, headers: &HeaderMap, caller: Caller, own: &str) -> Result<Response, Problem> {
    let Some(ws) = ws else {
        let needed = Problem::new(426, "upgrade_required", "MQTT is spoken here over WebSocket")
            .next("Connect with a WebSocket client over HTTP/1.1.");
        return Ok(answer::with(answer::problem(&needed), header::UPGRADE, "websocket"));
    };
    if headers.contains_key(header::ORIGIN) {
        // Browsers let any page open a WebSocket: a foreign one could guess passwords from inside the house.
        caller::check_origin(headers, Some(Carrier::Cookie), own)?;
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    if !offered.into_iter().any(|name| name.trim() == SUBPROTOCOL) {
        return Err(Problem::malformed("The subprotocol mqtt is not among those offered."));
    }
    let Ok(place) = context.hooks.mqtt.clone().try_reserve_owned() else {
        return Err(Problem::unavailable("The broker is busy.", 5));
    };
    let (near, stream) = tokio::io::duplex(BUFFER);
    let shutdown = context.hooks.shutdown.clone();
    let reply = ws.max_message_size(context.config.socket_message_bytes).max_frame_size(context.config.socket_message_bytes).on_upgrade(
        move |socket| async move {
            let Caller { ip, spki, open } = caller;
            place.send(MqttSocket { stream, ip, spki });
            pump(socket, near, shutdown).await;
            // The connection counts as open until here.
            drop(open);
        },
    );
    let response = reply.into_response();
    debug_assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    Ok(answer::with(response, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL))
}

/// Carries bytes both ways until either side ends, or the hub does.
async fn pump(socket: WebSocket, near: DuplexStream, shutdown: CancellationToken) {
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_broker, mut to_broker) = tokio::io::split(near);
    let inward = async {
        while let Some(Ok(message)) = from_client.next().await {
            if message.is_binary() {
                if to_broker.write_all(message.as_bytes()).await.is_err() {
                    return;
                }
            } else if message.is_text() || message.is_close() {
                // MQTT is binary; anything else ends the connection (MQTT-6.0.0-1).
                return;
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; BUFFER];
        while let Ok(n @ 1..) = from_broker.read(&mut buffer).await {
            let part = buffer.get(..n).unwrap_or_default().to_vec();
            if !matches!(tokio::time::timeout(WRITE, to_client.send(Message::binary(part))).await, Ok(Ok(()))) {
                return;
            }
        }
        let _ = tokio::time::timeout(GOODBYE, to_client.close()).await;
    };
    let stopped = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GOODBYE).await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
        () = stopped => {}
    }
}
