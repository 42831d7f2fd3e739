//! "Why can't I?": the policy's own answer for a subject, an action and a device, now or at another time.

use super::rights::Rows;
use super::{Actor, Refusal, Service};
use crate::domain::account::Username;
use crate::domain::authority::HubAction;
use crate::domain::binding::{Privilege, Subject};
use crate::domain::ids::DeviceId;
use crate::domain::policy::{Action, Reason, decide};
use crate::domain::time::{Grade, Moment};
use crate::store::Read;
use crate::store::tables::UserName;
use serde::Serialize;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// On which device.
    pub device: DeviceId,
    /// To do what.
    pub action: Action,
    /// With which attribute or command; with the device as a whole when empty.
    pub name: Option<String>,
    /// About whom: a user name, or a subject's text (`device:…`, `app:…`, `service:…`); oneself when empty.
    pub username: Option<String>,
    /// At which time, ms since 1970; now when empty.
    pub at: Option<u64>,
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Whether it may.
    pub allowed: bool,
    /// Why, as a word.
    pub reason: Reason,
    /// Why, and what to do, for a person.
    pub explanation: &'static str,
    /// How old the knowledge of revocations from outside is, in ms.
    pub policy_age_ms: u64,
    /// The privilege that the action needs.
    pub needs: Privilege,
    /// The privilege that the binding gives, if there is one.
    pub privilege: Option<Privilege>,
    /// Who gave it.
    pub granted_by: Option<String>,
}

impl Service {
    /// Answers with the same function that decides. About others only who administers the device, or an owner, may ask.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a device one may not know of or an account that is not there; [`Refusal::NotAllowed`].
    pub fn explain(&self, actor: &Actor, question: &Question) -> Result<Explanation, Refusal> {
        let (own, now) = (actor.subject.clone(), self.moment());
        self.store.read(|v| {
            let meant = |name: &str| match name {
                name if Subject::parse(name).is_some_and(|s| s.user().is_none()) => {
                    Subject::parse(name).ok_or(Refusal::NotFound("account"))
                }
                name => {
                    let folded = Username::parse(name)?.folded();
                    let name = v.get::<UserName>(folded.as_bytes())?.ok_or(Refusal::NotFound("account"))?;
                    Ok(Subject::User(name.id))
                }
            };
            let subject = question.username.as_deref().map_or_else(|| Ok(own.clone()), meant);
            let sees_all = actor.may(HubAction::SeeAllDevices);
            // First whether one may ask about others at all: whoever may not is not told which accounts there are.
            if !sees_all && !matches!(&subject, Ok(asked) if *asked == own) {
                self.require(v, actor, &question.device, Action::Administer)?;
            }
            let subject = subject?;
            if subject == own && !sees_all && Rows::load(v, &own, &question.device, &now)?.own.binding.is_none() {
                return Err(Refusal::NotFound("device"));
            }
            let rows = Rows::load(v, &subject, &question.device, &now)?;
            // Who asks about another time supposes that it is that time.
            let then = question.at.map_or_else(|| (*now).clone(), |at| Moment { at, grade: Grade::Vouched, zone: now.zone.clone() });
            let decision = decide(&rows.facts(question.name.as_deref()), question.action, &then);
            Ok::<_, Refusal>(Explanation {
                allowed: decision.allowed,
                reason: decision.reason,
                explanation: decision.reason.explain(),
                policy_age_ms: decision.policy_age_ms,
                needs: question.action.needs(),
                privilege: rows.own.binding.as_ref().map(|b| b.terms.privilege),
                granted_by: rows.own.binding.map(|b| b.granted_by),
            })
        })
    }
}
