//! Topics on which the hub itself acts: each is handed to its use case. The outcome is published by the use case, so
//! that here only a fault of the hub ends a connection.

use super::Broker;
use super::session::Session;
use crate::domain::binding::Subject;
use crate::domain::ids::DeviceId;
use crate::domain::topic::{self, Place, locate};
use crate::service::{Refusal, SignedIn};
use rumqttd::protocol::{DisconnectReasonCode, Filter, Packet, Publish};

impl Broker {
    /// Acts on a publish that the policy has allowed and that is for the hub.
    pub(super) async fn handle(&self, who: &SignedIn, topic: &str, payload: &[u8]) -> Result<(), DisconnectReasonCode> {
        let Some(at) = locate(topic) else { return Ok(()) };
        let Ok(device) = DeviceId::parse(at.device) else { return Ok(()) };
        self.service.heard_from(who);
        let outcome = match at.place {
            Place::ShadowRequest { shadow, verb } => self.service.shadow_request(who, &device, shadow, verb, payload, at.aws).await,
            Place::CommandResult(name) => self.service.command_result(&device, name, payload).await,
            Place::FirmwareReport => self.service.firmware_report(who, &device, payload).await,
            Place::FirmwareGet => {
                self.service.firmware_get(&device, payload).await;
                Ok(())
            }
            Place::ClaimHello => match self.service.claim_hello(&device, payload, &who.via).await {
                // It was reset: this connection belongs to the life before.
                Ok(true) => return Err(DisconnectReasonCode::AdministrativeAction),
                heard => heard.map(|_| ()),
            },
            Place::RebaseResponse => {
                let answered = self.service.rebase(&device, payload, &who.via).await;
                // Right or wrong, the challenge is spent and this session has no other use.
                return Err(match answered {
                    Ok(()) => DisconnectReasonCode::AdministrativeAction,
                    Err(_) => DisconnectReasonCode::NotAuthorized,
                });
            }
            Place::Command(name) => match &who.actor {
                Some(actor) => self.service.command_request(actor, &device, name, payload).await,
                None => Ok(()),
            },
            _ => Ok(()),
        };
        match outcome {
            Err(Refusal::Store(error)) => {
                tracing::error!(%error, topic, "a message could not be acted on");
                Err(DisconnectReasonCode::ServerBusy)
            }
            Err(refusal) => {
                tracing::info!(%refusal, topic, who = %who.subject, "not acted on");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Before anything is granted: what one of a maker's people listens to is recorded.
    pub(super) async fn subscribing(&self, who: &SignedIn) -> Result<(), DisconnectReasonCode> {
        let Some(actor) = &who.actor else { return Ok(()) };
        self.service.record_looks(actor, None).await.map_err(|error| {
            tracing::error!(%error, "a look could not be recorded");
            DisconnectReasonCode::ServerBusy
        })
    }

    /// After SUBACK, and before the answer to anything later: a device in a re-base session that listens for its
    /// challenge gets one, and one that listens for firmware is told what it is offered.
    pub(super) async fn subscribed(&self, who: &SignedIn, session: &Session, filters: &[Filter]) -> Result<(), DisconnectReasonCode> {
        let Subject::Device(id) = &who.subject else { return Ok(()) };
        let offers = format!("things/{id}/firmware/offer");
        let inner = |f: &Filter| topic::split_share(&f.path).map_or_else(|()| String::new(), |(_, inner)| inner.to_owned());
        let heard: Vec<String> = filters.iter().map(inner).filter(|f| topic::matches(f, &offers)).collect();
        if !who.rebase && !heard.is_empty() {
            self.service.firmware_listening(id, heard.contains(&offers)).await;
        }
        let listens = filters.iter().any(|f| locate(&f.path).is_some_and(|at| at.place == Place::RebaseChallenge));
        if !who.rebase {
            self.service.device_listens(id);
        }
        if !who.rebase || !listens {
            return Ok(());
        }
        let challenge = self.service.rebase_challenge(id).map_err(|_| DisconnectReasonCode::ServerBusy)?;
        let message = Publish::new(format!("things/{id}/rebase/challenge").into_bytes(), challenge, false);
        session.control(Packet::Publish(message, None));
        Ok(())
    }
}
