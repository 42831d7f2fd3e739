//! One accepted connection: HTTP/1.1 or HTTP/2, with deadlines, until it ends or the hub does.

use super::caller::Caller;
use super::{Config, Router};
use crate::net::Peer;
use crate::net::http::{Bounds, serve_http};
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Serves `stream` until the peer leaves, falls silent or breaks the rules, or `shutdown` is cancelled. A WebSocket that
/// grew out of it belongs to it: this returns when that has ended as well, so limits on connections hold for both.
pub async fn serve_connection<S>(stream: S, peer: &Peer, router: Router, config: &Config, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (open, mut ended) = mpsc::channel::<Infallible>(1);
    let caller = Caller { ip: peer.addr.ip(), spki: peer.spki, open };
    let service = TowerToHyperService::new(warp::service(router.0));
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        hyper::service::Service::call(&service, request)
    });
    let bounds = Bounds {
        silence: Duration::from_secs(config.header_s),
        stall: Duration::from_secs(config.stall_s),
        max_headers: config.max_headers,
        max_concurrent_streams: config.max_concurrent_streams,
    };
    serve_http(stream, peer.addr, service, bounds, shutdown).await;
    // Nobody sends: the channel closes when the last holder of its other end is gone.
    while ended.recv().await.is_some() {}
}
