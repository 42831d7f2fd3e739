//! Apps of third parties: their registration by an owner, what they ask for, and the person's consent, which gives a code
//! (OAuth 2.1, RFC 6749 §4.1 with RFC 7636). What a code is exchanged for is `oauth_tokens`'.

use super::apps::{AppGrant, check_devices, end_apps_of_client, fresh_id, leave_length, make_room, part_for_app, right_of, shown_name};
use super::rights::require_role;
use super::{Actor, Refusal, Service, audit, random};
use crate::domain::account::UserId;
use crate::domain::app::Client;
use crate::domain::authority::HubAction;
use crate::domain::binding::{Privilege, Subject};
use crate::domain::device::Household;
use crate::domain::ids::DeviceId;
use crate::domain::oauth::{Challenge, RedirectUri, furthest, is_state};
use crate::store::tables::{AuthorizationCode, BindingIndex, ConsentedDevice, subject_prefix};
use crate::store::{Read, StoreError, Tx};
use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;
use std::collections::HashSet;
use zeroize::Zeroizing;

/// Apps that are registered at the same time.
const MAX_CLIENTS: usize = 200;
/// Redirect URIs of one app.
const MAX_URIS: usize = 10;
/// How long a code serves, in ms.
const CODE_MS: u64 = 60_000;
/// Codes of one person that wait to be used: the oldest gives way.
const CODES: usize = 20;
/// What a code begins with.
const CODE_PREFIX: &str = "hkc1.";

/// What an app's page asks for, as it came.
#[derive(Clone, Debug, Default)]
pub struct AuthorizationRequest {
    /// Who asks.
    pub client_id: Option<String>,
    /// Where the answer goes.
    pub redirect_uri: Option<String>,
    /// What is asked for; only `code` is given.
    pub response_type: Option<String>,
    /// How far; to look when left out.
    pub scope: Option<String>,
    /// What the app knows its request by.
    pub state: Option<String>,
    /// SHA-256 of the verifier, in base64url.
    pub code_challenge: Option<String>,
    /// Only `S256`.
    pub code_challenge_method: Option<String>,
}

/// Why a request is not put before the person.
#[derive(Debug, thiserror::Error)]
pub enum RequestRefusal {
    /// The app, or the place to answer to, is not registered: nothing is sent there.
    #[error("there is no such app on this hub, or it does not take answers at this address; ask whoever made it, or an owner")]
    Unregistered,
    /// The app is told, at its place.
    #[error("{description}")]
    Answered {
        /// What is wrong, for a developer.
        description: &'static str,
        /// Where the browser goes.
        redirect: String,
    },
    /// The store failed.
    #[error(transparent)]
    Fault(#[from] Refusal),
}

impl From<StoreError> for RequestRefusal {
    fn from(e: StoreError) -> Self {
        RequestRefusal::Fault(e.into())
    }
}

/// A registered app as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct ClientView {
    /// Its client id.
    pub id: String,
    /// What people see.
    pub name: String,
    /// Where answers may go.
    pub redirect_uris: Vec<RedirectUri>,
    /// Since when, ms since 1970.
    pub created_at: u64,
}

impl From<Client> for ClientView {
    fn from(c: Client) -> Self {
        ClientView { id: c.id, name: c.name, redirect_uris: c.redirect_uris, created_at: c.created_at }
    }
}

/// What a person is asked.
#[derive(Clone, Debug, Serialize)]
pub struct RequestView {
    /// Who asks.
    pub client: Asking,
    /// How far it wants to go.
    pub privilege: Privilege,
    /// The devices one could let it have, and how far.
    pub devices: Vec<Offer>,
    /// Where the answer goes.
    pub redirect_host: String,
}

/// The app in such a view.
#[derive(Clone, Debug, Serialize)]
pub struct Asking {
    /// Its client id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A device in such a view.
#[derive(Clone, Debug, Serialize)]
pub struct Offer {
    /// Which.
    pub id: DeviceId,
    /// What people call it.
    pub name: String,
    /// The furthest that can be given: no further than one's own right, nor than was asked for.
    pub privilege: Privilege,
}

/// What a person answers.
#[derive(Clone, Debug)]
pub struct Consent {
    /// What was asked.
    pub request: AuthorizationRequest,
    /// What is given.
    pub devices: Vec<AppGrant>,
    /// For how long, in ms; 90 days unless given.
    pub expires_in_ms: Option<u64>,
    /// Nothing is given.
    pub deny: bool,
}

/// A request that holds.
struct Checked {
    client: Client,
    redirect_uri: String,
    scope: Privilege,
    state: Option<String>,
    challenge: Challenge,
}

impl Service {
    /// Whether a request can be put before a person. `issuer` is the hub as the browser calls it.
    ///
    /// # Errors
    /// [`RequestRefusal`].
    pub fn check_authorization(&self, request: &AuthorizationRequest, issuer: &str) -> Result<(), RequestRefusal> {
        self.store.read(|v| checked(v, request, issuer)).map(|_| ())
    }

    /// What is asked of the person who is signed in.
    ///
    /// # Errors
    /// [`RequestRefusal`], with [`Refusal::PeopleOnly`] and [`Refusal::RoleTooLow`] for those who cannot consent.
    pub fn authorization_request(
        &self,
        actor: &Actor,
        request: &AuthorizationRequest,
        issuer: &str,
    ) -> Result<RequestView, RequestRefusal> {
        let (person, now) = (Subject::User(actor.user()?.clone()), self.now());
        self.store.read(|v| {
            require_role(v, actor, HubAction::LinkApps, now)?;
            let asked = checked(v, request, issuer)?;
            let mut devices = Vec::new();
            for (_, index) in v.scan::<BindingIndex>(&subject_prefix(&person), 10_000)? {
                let Some(own) = right_of(v, &person, &index.device, now)? else { continue };
                let household = v.get::<Household>(index.device.as_str().as_bytes())?;
                devices.push(Offer {
                    name: household.map(|h| h.name).unwrap_or_default(),
                    privilege: own.terms.privilege.min(asked.scope),
                    id: index.device,
                });
            }
            Ok(RequestView {
                client: Asking { id: asked.client.id, name: asked.client.name },
                privilege: asked.scope,
                devices,
                redirect_host: RedirectUri::host(&asked.redirect_uri).to_owned(),
            })
        })
    }

    /// The person's answer; where the browser goes with it.
    ///
    /// # Errors
    /// [`RequestRefusal`]; within it [`Refusal::PeopleOnly`], [`Refusal::RoleTooLow`], [`Refusal::NotFound`] for a device
    /// one has no right on, [`Refusal::Invalid`] for more than one's own right or than was asked for, [`Refusal::Conflict`] and
    /// [`Refusal::TooMany`] when there are too many apps.
    pub async fn consent(&self, actor: &Actor, consent: Consent, issuer: &str) -> Result<String, RequestRefusal> {
        let user = actor.user()?.clone();
        let asked = self.store.read(|v| {
            require_role(v, actor, HubAction::LinkApps, self.now())?;
            checked(v, &consent.request, issuer)
        })?;
        let (who, now, client) = (actor.clone(), self.now(), format!("client:{}", asked.client.id));
        if consent.deny {
            let name = asked.client.name.clone();
            let told = move |tx: &Tx<'_>| {
                require_role(tx, &who, HubAction::LinkApps, now)?;
                audit::append(tx, now, audit::done(&who, "app.deny", &client, name.clone())).map_err(Refusal::from)
            };
            self.store.write(told).await?;
            let error = ("error", "access_denied");
            return Ok(answer(&asked.redirect_uri, &[error], asked.state.as_deref(), issuer));
        }
        check_devices(&consent.devices)?;
        if consent.devices.iter().any(|d| d.privilege > asked.scope) {
            return Err(Refusal::Invalid("devices: the app asked for less; choose that, or less".into()).into());
        }
        let code = Zeroizing::new(format!("{CODE_PREFIX}{}", BASE64URL_NOPAD.encode(&random::<32>()?)));
        let row = AuthorizationCode {
            client: asked.client.id,
            redirect_uri: asked.redirect_uri.clone(),
            challenge: asked.challenge,
            user,
            devices: consent.devices.iter().cloned().map(ConsentedDevice::from).collect(),
            scope: asked.scope,
            leave_until: now + leave_length(consent.expires_in_ms)?,
            expires_at: now + CODE_MS,
            spent: false,
            app: None,
        };
        let (key, name) = (self.code_key(&code), asked.client.name);
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::LinkApps, now)?;
                // The registration may have ended since the request was looked at.
                tx.get::<Client>(row.client.as_bytes())?.ok_or(Refusal::NotFound("app"))?;
                let mut told = String::new();
                for grant in &consent.devices {
                    part_for_app(tx, &who.subject, grant, row.leave_until, now)?;
                    told.push_str(&format!(" {:?} on {},", grant.privilege, grant.device));
                }
                make_room(tx, &row.user, now)?;
                drop_oldest_code(tx, &row.user)?;
                tx.put(&key, &row)?;
                let detail = format!("{name}:{} until {}", told.to_lowercase(), row.leave_until);
                audit::append(tx, now, audit::done(&who, "app.consent", &client, detail))?;
                Ok::<_, Refusal>(())
            })
            .await?;
        Ok(answer(&asked.redirect_uri, &[("code", &code)], asked.state.as_deref(), issuer))
    }

    pub(super) fn code_key(&self, code: &str) -> [u8; 32] {
        self.keyed_hash(b"authorization code", code.as_bytes())
    }

    /// Registers an app.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for all but owners, [`Refusal::Invalid`], [`Refusal::Conflict`] at the bound.
    pub async fn add_client(&self, actor: &Actor, name: &str, redirect_uris: &[String]) -> Result<ClientView, Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, self.now()))?;
        if redirect_uris.is_empty() || redirect_uris.len() > MAX_URIS {
            return Err(Refusal::Invalid("redirect_uris: name 1 to 10".into()));
        }
        let read = |text: &String| RedirectUri::parse(text).map_err(|e| Refusal::Invalid(e.to_string()));
        let client = Client {
            id: fresh_id()?,
            name: shown_name(name)?,
            redirect_uris: redirect_uris.iter().map(read).collect::<Result<_, _>>()?,
            created_at: self.now(),
            created_by: actor.subject.to_string(),
        };
        let (who, now, view) = (actor.clone(), self.now(), ClientView::from(client.clone()));
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                if tx.scan::<Client>(b"", MAX_CLIENTS)?.len() >= MAX_CLIENTS {
                    return Err(Refusal::Conflict("too many apps are registered: remove one first".into()));
                }
                tx.put(client.id.as_bytes(), &client)?;
                let places = client.redirect_uris.iter().map(RedirectUri::as_str).collect::<Vec<_>>().join(" ");
                let detail = format!("{} at {places}", client.name);
                audit::append(tx, now, audit::done(&who, "client.add", &format!("client:{}", client.id), detail))?;
                Ok::<_, Refusal>(())
            })
            .await?;
        Ok(view)
    }

    /// The registered apps.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for all but owners.
    pub fn clients(&self, actor: &Actor) -> Result<Vec<ClientView>, Refusal> {
        let rows = self.store.read::<_, Refusal>(|v| {
            require_role(v, actor, HubAction::ManageAccess, self.now())?;
            Ok(v.scan::<Client>(b"", MAX_CLIENTS)?)
        })?;
        Ok(rows.into_iter().map(|(_, client)| client.into()).collect())
    }

    /// Ends a registration, and everybody's leave for the app; nothing more reaches it when this returns.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::NotFound`].
    pub async fn end_client(&self, actor: &Actor, id: &str) -> Result<(), Refusal> {
        let (who, id, now) = (actor.clone(), id.to_owned(), self.now());
        let ended = self
            .store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                let client = tx.get::<Client>(id.as_bytes())?.ok_or(Refusal::NotFound("app"))?;
                tx.delete::<Client>(id.as_bytes())?;
                let ended = end_apps_of_client(tx, &client, &who.subject.to_string(), now)?;
                let detail = format!("{}; {} leaves ended", client.name, ended.len());
                audit::append(tx, now, audit::done(&who, "client.end", &format!("client:{id}"), detail))?;
                Ok::<_, Refusal>(ended)
            })
            .await?;
        self.apps_ended(&ended).await;
        Ok(())
    }
}

/// First who asks and where the answer would go: to a place that is not registered, nothing is ever sent (RFC 6749
/// §4.1.2.1). Everything else that is wrong is told there.
fn checked<R: Read>(rows: &R, request: &AuthorizationRequest, issuer: &str) -> Result<Checked, RequestRefusal> {
    let client = request.client_id.as_deref().filter(|id| UserId::parse(id).is_some());
    let client = client.map_or(Ok(None), |id| rows.get::<Client>(id.as_bytes()))?;
    let pair = client.zip(request.redirect_uri.clone());
    let taken = pair.filter(|(client, uri)| client.redirect_uris.iter().any(|registered| registered.takes(uri)));
    let (client, redirect_uri) = taken.ok_or(RequestRefusal::Unregistered)?;
    let state = request.state.clone().filter(|s| is_state(s));
    let wrong = |error: &'static str, description: &'static str| {
        let told = [("error", error), ("error_description", description)];
        RequestRefusal::Answered { description, redirect: answer(&redirect_uri, &told, state.as_deref(), issuer) }
    };
    if request.state.is_some() && state.is_none() {
        return Err(wrong("invalid_request", "state: at most 1024 printable ASCII characters"));
    }
    match request.response_type.as_deref() {
        Some("code") => {}
        None => return Err(wrong("invalid_request", "response_type is missing: send code")),
        Some(_) => return Err(wrong("unsupported_response_type", "response_type: only code is given")),
    }
    if request.code_challenge_method.as_deref() != Some("S256") {
        return Err(wrong("invalid_request", "code_challenge_method: only S256 is taken"));
    }
    let challenge = request.code_challenge.as_deref().and_then(Challenge::parse);
    let challenge = challenge.ok_or_else(|| wrong("invalid_request", "code_challenge: base64url of a SHA-256 is expected"))?;
    let scope = furthest(request.scope.as_deref()).ok_or_else(|| wrong("invalid_scope", "scope: of view, operate and manage"))?;
    Ok(Checked { client, redirect_uri, scope, state, challenge })
}

/// Where the browser goes with an answer: the app's own query stays (RFC 6749 §3.1.2), and the answer says whose it is
/// (RFC 9207).
fn answer(redirect_uri: &str, told: &[(&str, &str)], state: Option<&str>, issuer: &str) -> String {
    let mut all = told.to_vec();
    all.extend(state.map(|s| ("state", s)));
    all.push(("iss", issuer));
    let query = serde_urlencoded::to_string(all).unwrap_or_default();
    let joint = if redirect_uri.contains('?') { '&' } else { '?' };
    format!("{redirect_uri}{joint}{query}")
}

fn drop_oldest_code(tx: &Tx<'_>, user: &UserId) -> Result<(), StoreError> {
    let mut waiting = tx.scan::<AuthorizationCode>(b"", usize::MAX)?;
    waiting.retain(|(_, c)| c.user == *user && c.app.is_none());
    waiting.sort_by_key(|(_, c)| c.expires_at);
    let gone: HashSet<_> = waiting.iter().take((waiting.len() + 1).saturating_sub(CODES)).map(|(key, _)| key.clone()).collect();
    gone.iter().try_for_each(|key| tx.delete::<AuthorizationCode>(key).map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_the_apps_own_query_and_says_whose_it_is() {
        let iss = "https://hub.local:8443";
        let told = answer("https://app.example/cb?a=b", &[("code", "x")], Some("s&t=1"), iss);
        assert_eq!(told, "https://app.example/cb?a=b&code=x&state=s%26t%3D1&iss=https%3A%2F%2Fhub.local%3A8443");
        assert!(
            answer("com.example.app:/x", &[("error", "access_denied")], None, iss)
                .starts_with("com.example.app:/x?error=access_denied&iss=")
        );
    }
}
