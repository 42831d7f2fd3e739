//! Commands for a device that is connected and does not listen yet: it has signed in, and not subscribed. Such a command waits
//! until the device listens, its time is over, the right of whoever sent it ends, or the device goes: it never outlives the
//! connection, so nothing is done by surprise after a return. `sent` means that at least one session of the device has it.

use super::{Actor, Service, lock};
use crate::domain::binding::Subject;
use crate::domain::ids::DeviceId;
use crate::domain::policy::Action;
use crate::service::commands::News;
use bytes::Bytes;
use std::time::Duration;

/// Whose right is asked again before a command goes out that waited.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) actor: Actor,
    pub(super) action: Action,
}

/// A command that nobody has taken yet.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) topic: String,
    pub(super) body: String,
    /// `None` when what is asked for was the last use of a right: then it is now or never.
    pub(super) asker: Option<Asker>,
}

impl Service {
    /// Offers a command that waits to its device; whether a session of it has it now.
    pub(super) fn offer_command(&self, device: &DeviceId, id: &str) -> bool {
        let mut commands = lock(&self.commands);
        let Some(running) = commands.find(device, id) else { return false };
        let left = running.deadline.saturating_sub(self.clock.monotonic_ms());
        let Some(held) = running.held.take_if(|_| left > 0) else { return false };
        // Under the lock: whoever subscribes meanwhile comes after this, and finds what was put back.
        let (payload, life) = (Bytes::from(held.body.clone()), Duration::from_millis(left));
        let taken = self.outlet().is_none_or(|outlet| outlet.hand(&Subject::Device(device.clone()), &held.topic, payload, life));
        if taken {
            running.view.status = "sent".into();
            // And the device's answer is told after this.
            self.tell(&running.view.clone(), running.token.clone().as_deref());
        } else {
            running.held = Some(held);
        }
        taken
    }

    /// A device listens to something that it did not listen to before: what waits for it is offered again.
    pub fn device_listens(&self, device: &DeviceId) {
        for (id, name, asker) in lock(&self.commands).waiting(device) {
            let may = asker.is_some_and(|asker| {
                let names = std::iter::once(name.as_str());
                self.store.read(|v| self.require_each(v, &asker.actor, device, asker.action, names).map(drop)).is_ok()
            });
            if may {
                self.offer_command(device, &id);
            }
        }
    }

    /// A device is connected no more: what waited for it is not done.
    pub(super) async fn drop_held_commands(&self, device: &DeviceId) {
        let ended = lock(&self.commands).fail_waiting(device, None, "the device went before it listened");
        self.told_ended(ended).await;
    }

    /// A command that is now or never, and that nobody has taken.
    pub(super) async fn end_untaken(&self, device: &DeviceId, id: &str) {
        let ended = lock(&self.commands).fail_waiting(device, Some(id), "the device is connected and does not listen yet");
        self.told_ended(ended).await;
    }

    async fn told_ended(&self, ended: Vec<News>) {
        for News { view, token, news } in ended {
            news.notify_waiters();
            self.tell(&view, token.as_deref());
            if let Err(error) = self.audit_command(&view, "hub".into()).await {
                tracing::error!(%error, command = view.id, "the end of a command could not be written");
            }
        }
    }
}
