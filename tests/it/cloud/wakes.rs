//! Wake-ups: a connected hub hears of what waits for it, whoever has put it there.

use super::rig::{PATIENCE, Rig, TestHub, now_s};
use futures_util::StreamExt;
use sse_stream::SseByteStream;
use std::pin::Pin;

pub type Events = Pin<Box<dyn futures_util::Stream<Item = u64> + Send>>;

pub async fn stream(hub: &TestHub, cursor: u64) -> Events {
    let (request, _) = hub.signed("GET", &hub.own(&format!("/wake?cursor={cursor}")), Vec::new(), now_s());
    let reply = request.send().await.unwrap();
    assert_eq!(reply.status().as_u16(), 200);
    let events = SseByteStream::new(reply.bytes_stream());
    Box::pin(events.filter_map(|event| async move {
        let event = event.ok()?;
        (event.event.as_deref() == Some("cursor")).then(|| event.data.unwrap().trim().parse().unwrap())
    }))
}

pub async fn next(events: &mut Events) -> Option<u64> {
    tokio::time::timeout(PATIENCE, events.next()).await.expect("a word in time")
}

#[tokio::test]
async fn a_connected_hub_is_woken_and_one_that_missed_something_is_told_at_once() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    let mut events = stream(&hub, 0).await;
    let operator = rig.operator().await;
    let id = hub.id.to_string();
    // Another process than the one that serves the stream.
    operator.notify(&id, "a", "x", 1).await.unwrap();
    assert_eq!(next(&mut events).await, Some(1));
    operator.notify(&id, "b", "x", 1).await.unwrap();
    assert_eq!(next(&mut events).await, Some(2));
    let mut late = stream(&hub, 1).await;
    assert_eq!(next(&mut late).await, Some(2));
    assert_eq!(hub.sync(|_| {}).await.items.len(), 2);
    operator.close().await;
    // A hub that is unlinked, and a cloud that stops, end the stream.
    assert_eq!(hub.unlink().await.status, 204);
    assert_eq!(next(&mut events).await, None);
    let mut other = stream(&rig.linked(2).await, 0).await;
    let ended = tokio::spawn(async move { next(&mut other).await });
    rig.end().await;
    assert_eq!(ended.await.unwrap(), None);
}

#[tokio::test]
async fn streams_are_bounded() {
    let rig = Rig::with(|config| config.limits.wakes = 2).await;
    let hubs = [rig.linked(1).await, rig.linked(2).await, rig.linked(3).await];
    let _kept = [stream(&hubs[0], 0).await, stream(&hubs[1], 0).await, stream(&hubs[1], 0).await, stream(&hubs[1], 0).await];
    for hub in [&hubs[2], &hubs[1]] {
        let refused = hub.call("GET", &hub.own("/wake"), Vec::new()).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "unavailable"));
    }
    drop(_kept);
    rig.end().await;
}
