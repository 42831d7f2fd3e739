//! Who acts, and through what.

use super::Refusal;
use crate::domain::account::{Role, UserId};
use crate::domain::authority::{Authority, HubAction};
use crate::domain::binding::Subject;
use crate::domain::ids::DeviceId;
use std::net::IpAddr;

/// Who acts, and through what: the first argument of every use case.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Who: a person, an app, a service, a device.
    pub subject: Subject,
    /// The person an app acts for.
    pub behalf: Option<UserId>,
    /// What it may do to the hub, as it was when the request came in.
    pub authority: Authority,
    /// The protocol and the source, as the audit shows it.
    pub via: String,
    /// The source's address.
    pub source: IpAddr,
}

impl Actor {
    /// Whoever holds the box itself: its configuration is an owner's word.
    #[must_use]
    pub fn console() -> Actor {
        let source = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        Actor::person(UserId::console(), Role::Owner, "console".into(), source)
    }

    /// A person.
    #[must_use]
    pub fn person(user: UserId, role: Role, via: String, source: IpAddr) -> Actor {
        Actor { subject: Subject::User(user), behalf: None, authority: Authority::Role(role), via, source }
    }

    /// A device, in what it does to others.
    #[must_use]
    pub fn device(id: DeviceId, via: String, source: IpAddr) -> Actor {
        Actor { subject: Subject::Device(id), behalf: None, authority: Authority::Nothing, via, source }
    }

    /// The account of the person who acts.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`] for everything that is not a person, also for an app that acts for one.
    pub fn user(&self) -> Result<&UserId, Refusal> {
        self.subject.user().ok_or(Refusal::PeopleOnly)
    }

    /// Whether what let it in ends without use: so it is with service accounts and a maker's people.
    #[must_use]
    pub fn ends_unused(&self) -> bool {
        matches!(self.authority, Authority::Service(_)) || self.authority.role().is_some_and(Role::is_vendor)
    }

    /// Whether it may do this to the hub, as far as was known when the request came in; a transaction asks again.
    #[must_use]
    pub fn may(&self, action: HubAction) -> bool {
        self.authority.may(action)
    }
}
