//! Watchers: clients that hear all that they may, and keep it. A device that watches answers its commands.

use hearthkey::sim::mqtt::{Client, Event, Message, Publish, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What one watcher has seen, and whose eyes they are.
pub struct Watcher {
    name: &'static str,
    stop: oneshot::Sender<()>,
    seen: JoinHandle<Vec<Publish>>,
}

/// Watches as `name`, whose subscriptions stand; a device as whom it watches has its own `room`.
pub fn watch(name: &'static str, mut client: Client<Stream>, room: Option<String>) -> Watcher {
    let (stop, mut stopped) = oneshot::channel();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            tokio::select! {
                event = client.next() => if let Event::Publish(p) = event.unwrap_or_else(|e| panic!("{name} was put out: {e}")) {
                    if let Some(answer) = room.as_deref().and_then(|room| answer(room, &p)) {
                        client.publish(&answer).await.unwrap();
                    }
                    seen.push(p);
                },
                _ = &mut stopped => break,
            }
        }
        // Two exchanges: what was queued for it before the first is here after the second.
        client.ping().await.unwrap();
        client.ping().await.unwrap();
        while let Some(p) = client.receive(Duration::ZERO).await.unwrap() {
            seen.push(p);
        }
        seen
    });
    Watcher { name, stop, seen }
}

/// What a device says to a command.
fn answer(room: &str, message: &Publish) -> Option<Message> {
    let name = message.topic.strip_prefix(room)?.strip_prefix("commands/")?;
    if name.contains('/') {
        return None;
    }
    let body: Value = serde_json::from_slice(&message.payload).ok()?;
    let done = json!({"id": body["id"], "status": "done"}).to_string();
    Some(Message::new(format!("{}/result", message.topic), done, Qos::AtMostOnce))
}

impl Watcher {
    /// Whose eyes they were, and all that they have seen.
    pub async fn end(self) -> (&'static str, Vec<Publish>) {
        self.stop.send(()).unwrap();
        (self.name, self.seen.await.unwrap())
    }
}
