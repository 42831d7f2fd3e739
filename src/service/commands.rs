//! Commands: what a person tells a device to do now. Sent only while the device is connected, never queued beyond that
//! connection (see `held`); the last
//! thousand are kept in memory with their outcome, and all of them in the audit for good.

use super::held::{Asker, Held};
use super::{Actor, Change, Refusal, Service, audit, lock};
use crate::domain::audit::Outcome;
use crate::domain::ids::DeviceId;
use crate::domain::policy::Action;
use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long a command may run when nothing is said, in ms.
const DEFAULT_TTL_MS: u64 = 30_000;
/// Longest life of a command, in ms.
const MAX_TTL_MS: u64 = 10 * 60 * 1000;
/// Longest that a caller may wait for the result, in ms.
const MAX_WAIT_MS: u64 = 30_000;
/// Commands remembered; of those that are over, the oldest go first.
const REMEMBERED: usize = 1_000;
/// Commands of one device that may run at once.
const AT_ONCE: usize = 50;
/// Longest result a device may return, in bytes of JSON.
const RESULT_MAX: usize = 8 * 1024;
/// Longest message of a device, in characters.
const MESSAGE_MAX: usize = 256;
/// How often a device may say of one command that it is running.
const RUNNING_MAX: u8 = 10;

/// A command to run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// Which.
    pub name: String,
    /// With what; an object.
    #[serde(default)]
    pub args: Value,
    /// For how long it is worth doing, in ms.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// How long to wait for the result, in ms.
    #[serde(default)]
    pub wait_ms: Option<u64>,
    /// Comes back with the command's news over MQTT, for whoever asked to know it by.
    #[serde(skip)]
    pub client_token: Option<String>,
}

/// A command and how far it is.
#[derive(Clone, Debug, Serialize)]
pub struct CommandView {
    /// Its id.
    pub id: String,
    /// Of which device.
    pub device_id: DeviceId,
    /// Which.
    pub name: String,
    /// With what.
    pub args: Value,
    /// `waiting` (connected, and it does not listen yet), `sent` (a session of the device has it), `running`, `done`, `failed`
    /// or `expired`.
    pub status: String,
    /// What the device says about it.
    pub message: String,
    /// What it returned.
    pub result: Value,
    /// Who asked.
    pub by: String,
    /// When, ms since 1970.
    pub at: u64,
    /// Until when it may be done, ms since 1970.
    pub expires: u64,
}

impl CommandView {
    fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "done" | "failed" | "expired")
    }
}

/// The commands in memory.
#[derive(Default)]
pub(super) struct Commands {
    recent: VecDeque<Running>,
}

pub(super) struct Running {
    pub(super) view: CommandView,
    pub(super) token: Option<String>,
    pub(super) deadline: u64,
    /// What is to be handed to the device, until a session of it has it.
    pub(super) held: Option<Held>,
    /// How often the device has said that it is running.
    reports: u8,
    news: Arc<Notify>,
}

/// What whoever follows a command is told.
pub(super) struct News {
    pub(super) view: CommandView,
    pub(super) token: Option<String>,
    pub(super) news: Arc<Notify>,
}

impl Commands {
    /// The commands that wait until this device listens: id, name, and whose right is asked again.
    pub(super) fn waiting(&self, device: &DeviceId) -> Vec<(String, String, Option<Asker>)> {
        let waits = |r: &&Running| r.view.device_id == *device && !r.view.is_over();
        let held = |r: &Running| r.held.as_ref().map(|held| (r.view.id.clone(), r.view.name.clone(), held.asker.clone()));
        self.recent.iter().filter(waits).filter_map(held).collect()
    }

    /// Ends those that wait for a device, or one of them.
    pub(super) fn fail_waiting(&mut self, device: &DeviceId, one: Option<&str>, why: &str) -> Vec<News> {
        let waits = |r: &&mut Running| r.view.device_id == *device && !r.view.is_over() && one.is_none_or(|id| r.view.id == id);
        let mut ended = Vec::new();
        for running in self.recent.iter_mut().filter(waits) {
            if running.held.take().is_some() {
                (running.view.status, running.view.message) = ("failed".into(), why.into());
                ended.push(News { view: running.view.clone(), token: running.token.clone(), news: running.news.clone() });
            }
        }
        ended
    }

    pub(super) fn find(&mut self, device: &DeviceId, id: &str) -> Option<&mut Running> {
        self.recent.iter_mut().rev().find(|r| r.view.id == id && r.view.device_id == *device)
    }

    /// Whether one more may be sent: what still runs is never forgotten to make room.
    fn has_room(&self, device: &DeviceId) -> bool {
        let running = || self.recent.iter().filter(|r| !r.view.is_over());
        running().count() < REMEMBERED && running().filter(|r| r.view.device_id == *device).count() < AT_ONCE
    }

    fn remember(&mut self, command: Running) {
        if self.recent.len() >= REMEMBERED
            && let Some(over) = self.recent.iter().position(|r| r.view.is_over())
        {
            self.recent.remove(over);
        }
        self.recent.push_back(command);
    }

    /// Forgets the commands of a device that has left the house.
    pub(super) fn forget(&mut self, device: &DeviceId) {
        self.recent.retain(|r| {
            let stays = r.view.device_id != *device;
            if !stays {
                r.news.notify_waiters();
            }
            stays
        });
    }
}

impl Service {
    /// Checks, records and sends a command; waits for its result as long as the caller asks.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] (a critical command needs `manage`), [`Refusal::Offline`], [`Refusal::TooMany`] when too
    /// many run already, [`Refusal::Invalid`] with the path of what does not fit the model.
    pub async fn command(self: &Arc<Self>, actor: &Actor, device: &DeviceId, request: CommandRequest) -> Result<CommandView, Refusal> {
        let name = request.name.clone();
        let sent = self.send_command(actor, device, request).await;
        if let Err(refusal) = &sent {
            self.audit_refused_act(actor, "command.send", device, &name, refusal);
        }
        sent
    }

    async fn send_command(self: &Arc<Self>, actor: &Actor, device: &DeviceId, request: CommandRequest) -> Result<CommandView, Refusal> {
        // First whether the device may be seen at all, and the command is one of those the right is to: else the model
        // would tell.
        self.store.read(|v| self.require_each(v, actor, device, Action::View, std::iter::once(request.name.as_str())).map(|_| ()))?;
        self.keep_pace(actor, device)?;
        let model = self.model_of(device)?;
        let args = if request.args.is_null() { Value::Object(serde_json::Map::new()) } else { request.args };
        let action = match &model {
            Some(model) => {
                model.check_args(&request.name, &args).map_err(|v| Refusal::Invalid(v.to_string()))?;
                if model.is_critical_command(&request.name) { Action::OperateCritical } else { Action::Operate }
            }
            // Without a model nobody has said what is harmless.
            None if is_name(&request.name) => Action::OperateCritical,
            None => return Err(Refusal::Invalid("a command's name has 1 to 64 of a-z, 0-9 and _".into())),
        };
        let ttl = request.ttl_ms.unwrap_or(DEFAULT_TTL_MS).clamp(1, MAX_TTL_MS);
        let now = self.now();
        let view = CommandView {
            id: uuid::Uuid::now_v7().to_string(),
            device_id: device.clone(),
            name: request.name,
            args,
            status: "waiting".into(),
            message: String::new(),
            result: Value::Null,
            by: actor.subject.to_string(),
            at: now,
            expires: now + ttl,
        };
        let (service, who, id, line) = (self.clone(), actor.clone(), device.clone(), format!("{} {}", view.name, view.id));
        let name = view.name.clone();
        let used_up = self
            .store
            .write(move |tx| {
                let rows = service.require_each(tx, &who, &id, action, std::iter::once(name.as_str()))?;
                if !service.is_online(&id) {
                    return Err(Refusal::Offline);
                }
                if !lock(&service.commands).has_room(&id) {
                    return Err(Refusal::TooMany(1_000));
                }
                audit::append(tx, now, audit::done(&who, "command.send", id.as_str(), line.clone()))?;
                Ok::<_, Refusal>(rows.spend(tx)?)
            })
            .await?;
        if used_up {
            self.policy_changed().await;
        }
        let news = Arc::new(Notify::new());
        let deadline = self.clock.monotonic_ms() + ttl;
        lock(&self.commands).remember(Running {
            view: view.clone(),
            token: request.client_token.clone(),
            deadline,
            held: Some(Held {
                topic: format!("things/{device}/commands/{}", view.name),
                body: serde_json::json!({"id": view.id, "args": view.args, "expires_ms": ttl}).to_string(),
                asker: (!used_up).then(|| Asker { actor: actor.clone(), action }),
            }),
            reports: 0,
            news: news.clone(),
        });
        if !self.offer_command(device, &view.id) {
            if used_up || !self.is_online(device) {
                self.end_untaken(device, &view.id).await;
            } else {
                self.tell(&view, request.client_token.as_deref());
            }
        }
        let wait = Duration::from_millis(request.wait_ms.unwrap_or(0).min(MAX_WAIT_MS).min(ttl + 1_000));
        let _ = tokio::time::timeout(wait, async {
            loop {
                let heard = news.notified();
                if self.command_state(device, &view.id).is_none_or(|c| c.is_over()) {
                    return;
                }
                heard.await;
            }
        })
        .await;
        let latest = self.command_state(device, &view.id).unwrap_or(view);
        // Whoever may send it may see it; a right that has ended in the meantime sees what was sent, and no result.
        let blank = CommandView { status: "sent".into(), message: String::new(), result: Value::Null, ..latest.clone() };
        Ok(self.command_shown(actor, latest).unwrap_or(blank))
    }

    /// What becomes of a command, to everybody who may hear it: live views, and over MQTT. There the values of the
    /// device's attributes are left out of the result: those stand in the twin, and one who may run a command need not
    /// be one who may read them.
    pub(super) fn tell(&self, view: &CommandView, token: Option<&str>) {
        self.changed(Change::Command(Box::new(view.clone())));
        let mut body = serde_json::json!({
            "id": view.id, "status": view.status, "message": view.message, "result": self.without_attributes(view, &BTreeSet::new()).result,
        });
        if let (Some(token), Value::Object(members)) = (token, &mut body) {
            members.insert("clientToken".into(), token.into());
        }
        self.publish(&format!("things/{}/commands/{}/result", view.device_id, view.name), body.to_string(), 1, false);
    }

    /// The command without what its result says of attributes that are not among `shown`. Without a model nobody has
    /// said what an attribute is: then nothing of the result is shown.
    fn without_attributes(&self, view: &CommandView, shown: &BTreeSet<String>) -> CommandView {
        let result = match (self.model_of(&view.device_id), &view.result) {
            (Ok(Some(model)), Value::Object(members)) => {
                let stays = |name: &String| !model.attributes.contains_key(name) || shown.contains(name);
                Value::Object(members.iter().filter(|(name, _)| stays(name)).map(|(n, v)| (n.clone(), v.clone())).collect())
            }
            (Ok(Some(_)), other) => other.clone(),
            _ => Value::Null,
        };
        CommandView { result, ..view.clone() }
    }

    /// A command as `actor` may see it: whose right is to a part of the device sees the commands that belong to it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a device or a command that it may not know of, [`Refusal::NotAllowed`].
    pub fn command_shown(&self, actor: &Actor, view: CommandView) -> Result<CommandView, Refusal> {
        let rows = self.store.read(|v| self.require(v, actor, &view.device_id, Action::View))?;
        match rows.only() {
            None => Ok(view),
            Some(only) if only.contains(&view.name) => Ok(self.without_attributes(&view, &only)),
            Some(_) => Err(Refusal::NotFound("command")),
        }
    }

    fn command_state(&self, device: &DeviceId, id: &str) -> Option<CommandView> {
        lock(&self.commands).find(device, id).map(|r| r.view.clone())
    }

    /// A command and how far it is.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], also once it is forgotten.
    pub fn command_view(&self, actor: &Actor, device: &DeviceId, id: &str) -> Result<CommandView, Refusal> {
        self.store.read(|v| self.require(v, actor, device, Action::View).map(|_| ()))?;
        self.command_shown(actor, self.command_state(device, id).ok_or(Refusal::NotFound("command"))?)
    }

    /// The device reports on a command. One that is over, unknown or of another name changes nothing.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a malformed report or too long a result, [`Refusal::TooMany`] for the same news too often;
    /// the store's fault.
    pub async fn command_result(&self, device: &DeviceId, name: &str, payload: &[u8]) -> Result<(), Refusal> {
        #[derive(Deserialize)]
        struct Report {
            id: String,
            status: String,
            #[serde(default)]
            message: String,
            #[serde(default)]
            result: Value,
        }
        let report: Report = serde_json::from_slice(payload).map_err(|e| Refusal::Invalid(format!("not a command's result: {e}")))?;
        if !matches!(report.status.as_str(), "running" | "done" | "failed") {
            return Err(Refusal::Invalid("status is running, done or failed".into()));
        }
        if report.result.to_string().len() > RESULT_MAX {
            return Err(Refusal::Invalid(format!("result: at most {RESULT_MAX} bytes")));
        }
        let (view, token, news) = {
            let mut commands = lock(&self.commands);
            let taken = |r: &&mut Running| r.view.name == name && !r.view.is_over() && r.held.is_none();
            let Some(running) = commands.find(device, &report.id).filter(taken) else {
                return Ok(());
            };
            if report.status == "running" {
                if running.reports >= RUNNING_MAX {
                    return Err(Refusal::TooMany(1_000));
                }
                running.reports += 1;
            }
            running.view.status = report.status;
            running.view.message = report.message.chars().filter(|c| !c.is_control()).take(MESSAGE_MAX).collect();
            running.view.result = report.result;
            (running.view.clone(), running.token.clone(), running.news.clone())
        };
        // Whoever waits is told even if the audit cannot be written.
        let audited = if view.is_over() { self.audit_command(&view, format!("device:{device}")).await } else { Ok(()) };
        news.notify_waiters();
        self.tell(&view, token.as_deref());
        audited
    }

    /// Ends commands whose time is over. Called by the hub's clock, about once a second.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn expire_commands(&self) -> Result<(), Refusal> {
        let now = self.clock.monotonic_ms();
        let over: Vec<(CommandView, Option<String>, Arc<Notify>)> = lock(&self.commands)
            .recent
            .iter_mut()
            .filter(|r| !r.view.is_over() && r.deadline <= now)
            .map(|r| {
                r.view.status = "expired".into();
                let waited = r.held.take().is_some();
                r.view.message = if waited { "the device did not listen in time" } else { "the device did not answer in time" }.into();
                (r.view.clone(), r.token.clone(), r.news.clone())
            })
            .collect();
        let mut audited = Ok(());
        for (view, token, news) in over {
            news.notify_waiters();
            self.tell(&view, token.as_deref());
            audited = self.audit_command(&view, "hub".into()).await.and(audited);
        }
        audited
    }

    pub(super) async fn audit_command(&self, view: &CommandView, actor: String) -> Result<(), Refusal> {
        let now = self.now();
        let detail = format!("{} {} {}", view.name, view.id, view.message).trim().to_owned();
        let event = audit::event(actor, "command.end", view.device_id.as_str(), Outcome::Done, &view.status, detail, "mqtt");
        self.store.write::<_, StoreError, _>(move |tx| audit::append(tx, now, event.clone())).await?;
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
