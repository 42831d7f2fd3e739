//! OAuth: what the hub offers (RFC 8414), an app's request and the person's answer (RFC 6749 §4.1), tokens (§5) and their
//! end (RFC 7009). Services' own grant is `client_credentials`'.

mod client_credentials;

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::net::problem::Problem;
use crate::service::{AuthorizationRequest, CodeExchange, Consent, GrantError, IssuedTokens, RequestRefusal};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::http::header::{self, HeaderMap};
use warp::reply::Response;
use zeroize::Zeroizing;

/// Bytes of a query or a form.
const MAX_FORM: usize = 8 * 1024;

pub(in crate::web) async fn metadata(request: Request) -> Answered {
    let issuer = request.origin;
    let at = |path: &str| format!("{issuer}{path}");
    answer::ok(&schema::OauthMetadata {
        authorization_endpoint: at("/oauth/authorize"),
        token_endpoint: at("/oauth/token"),
        revocation_endpoint: at("/oauth/revoke"),
        scopes_supported: crate::domain::oauth::SCOPES.iter().map(|(name, _)| *name).collect(),
        response_types_supported: vec!["code"],
        response_modes_supported: vec!["query"],
        grant_types_supported: vec!["authorization_code", "refresh_token", "client_credentials"],
        token_endpoint_auth_methods_supported: vec!["none", "client_secret_basic", "client_secret_post"],
        revocation_endpoint_auth_methods_supported: vec!["none"],
        code_challenge_methods_supported: vec!["S256"],
        authorization_response_iss_parameter_supported: true,
        issuer,
    })
}

/// An app has sent the browser here: to the page where the person is asked, or back with what is wrong. Anyone may ask
/// this, so it says nothing that an app's registration does not say itself.
pub(in crate::web) async fn authorize(context: Arc<Context>, request: Request) -> Answered {
    context.exchange(request.caller.ip)?;
    let asked = asked(&request.query)?;
    let to = match context.service.check_authorization(&asked, &request.origin) {
        Ok(()) => format!("/#/consent?{}", written(&asked)?),
        Err(RequestRefusal::Answered { redirect, .. }) => redirect,
        Err(refused) => return Err(problem(refused)),
    };
    Ok(answer::with(answer::status_only(StatusCode::SEE_OTHER), header::LOCATION, &to))
}

pub(in crate::web) async fn show(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let asked = asked(&request.query)?;
    answer::ok(&context.service.authorization_request(&session.actor, &asked, &request.origin).map_err(problem)?)
}

pub(in crate::web) async fn consent(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::ConsentAnswer = request.json(&context).await?;
    let consent = Consent {
        request: AuthorizationRequest {
            client_id: Some(body.client_id),
            redirect_uri: Some(body.redirect_uri),
            response_type: Some("code".into()),
            scope: body.scope,
            state: body.state,
            code_challenge: Some(body.code_challenge),
            code_challenge_method: Some("S256".into()),
        },
        devices: body.devices.into_iter().map(schema::AppDeviceChoice::into_grant).collect::<Result<_, _>>()?,
        expires_in_ms: body.expires_in_ms,
        deny: body.deny,
    };
    let redirect = context.service.consent(&session.actor, consent, &request.origin).await.map_err(problem)?;
    answer::ok(&schema::Redirect { redirect })
}

pub(in crate::web) async fn token(context: Arc<Context>, mut request: Request) -> Answered {
    context.exchange(request.caller.ip)?;
    let form = request.form(&context).await?;
    Ok(match exchange(&context, &request.headers, request.caller.ip, form).await {
        Ok(tokens) => answer::ok(&tokens)?,
        Err(error) => refused(error)?,
    })
}

async fn exchange(
    context: &Context,
    headers: &HeaderMap,
    source: IpAddr,
    form: Result<Form, GrantError>,
) -> Result<schema::Tokens, GrantError> {
    let mut form = form?;
    let grant_type = form.needed("grant_type", "grant_type is missing")?;
    let issued = match grant_type.as_str() {
        "authorization_code" => {
            let asked = CodeExchange {
                code: form.needed("code", "code is missing")?,
                client_id: form.needed("client_id", "client_id is missing")?,
                redirect_uri: form.needed("redirect_uri", "redirect_uri is missing")?,
                code_verifier: form.needed("code_verifier", "code_verifier is missing")?,
            };
            context.service.exchange_code(asked, source).await?
        }
        "refresh_token" => {
            let client = form.needed("client_id", "client_id is missing")?;
            let token = Zeroizing::new(form.needed("refresh_token", "refresh_token is missing")?);
            context.service.refresh(&client, &token, form.taken("scope").as_deref(), source).await?
        }
        "client_credentials" => return client_credentials::exchange(context, headers, source, form).await,
        _ => return Err(GrantError::UnsupportedGrantType),
    };
    Ok(told(&issued))
}

fn told(issued: &IssuedTokens) -> schema::Tokens {
    schema::Tokens {
        access_token: issued.access.reveal().to_owned(),
        token_type: "Bearer".into(),
        expires_in: issued.expires_in_ms / 1000,
        refresh_token: Some(issued.refresh.reveal().to_owned()),
        scope: Some(issued.scope.into()),
        app_id: Some(issued.app.clone()),
    }
}

pub(in crate::web) async fn revoke(context: Arc<Context>, mut request: Request) -> Answered {
    context.exchange(request.caller.ip)?;
    let form = request.form(&context).await?;
    let source = request.caller.ip;
    let ended = async {
        let mut form = form?;
        let token = Zeroizing::new(form.needed("token", "token is missing")?);
        context.service.revoke_token(form.taken("client_id").as_deref(), &token, source).await
    };
    match ended.await {
        Ok(()) => Ok(answer::status_only(StatusCode::OK)),
        Err(error) => refused(error),
    }
}

/// The members of a form, each once (RFC 6749 §3.2). Wiped after use: it may hold secrets.
struct Form(HashMap<String, Zeroizing<String>>);

impl Form {
    /// `None` when a member comes twice, or it is no form.
    fn read(bytes: &[u8]) -> Option<Form> {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_bytes(bytes).ok()?;
        let mut members = HashMap::new();
        // One without a value counts as left out (RFC 6749 §3.1).
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            if members.insert(name, Zeroizing::new(value)).is_some() {
                return None;
            }
        }
        Some(Form(members))
    }

    fn taken(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).map(|value| value.to_string())
    }

    fn needed(&mut self, name: &str, missing: &'static str) -> Result<String, GrantError> {
        self.taken(name).ok_or(GrantError::InvalidRequest(missing))
    }
}

impl Request {
    /// The body as a form; the inner error is one in the words of OAuth.
    async fn form(&mut self, context: &Context) -> Result<Result<Form, GrantError>, Problem> {
        self.expect_type(&["application/x-www-form-urlencoded"])?;
        let bytes = self.bytes(context, MAX_FORM).await?;
        Ok(Form::read(&bytes).ok_or(GrantError::InvalidRequest("the form cannot be read, or names something twice")))
    }
}

/// What a query asks for.
fn asked(query: &str) -> Result<AuthorizationRequest, Problem> {
    let read = if query.len() > MAX_FORM { None } else { Form::read(query.as_bytes()) };
    let mut form = read.ok_or_else(|| Problem::invalid("The request cannot be read, is too long, or names something twice."))?;
    Ok(AuthorizationRequest {
        client_id: form.taken("client_id"),
        redirect_uri: form.taken("redirect_uri"),
        response_type: form.taken("response_type"),
        scope: form.taken("scope"),
        state: form.taken("state"),
        code_challenge: form.taken("code_challenge"),
        code_challenge_method: form.taken("code_challenge_method"),
    })
}

/// The same as a query: nothing goes on to the page but what is known.
fn written(asked: &AuthorizationRequest) -> Result<String, Problem> {
    let all = [
        ("response_type", &asked.response_type),
        ("client_id", &asked.client_id),
        ("redirect_uri", &asked.redirect_uri),
        ("scope", &asked.scope),
        ("state", &asked.state),
        ("code_challenge", &asked.code_challenge),
        ("code_challenge_method", &asked.code_challenge_method),
    ];
    let given: Vec<(&str, &str)> = all.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    serde_urlencoded::to_string(given).map_err(|_| Problem::internal())
}

fn problem(refused: RequestRefusal) -> Problem {
    match refused {
        RequestRefusal::Unregistered | RequestRefusal::Answered { .. } => Problem::invalid(refused.to_string()),
        RequestRefusal::Fault(fault) => refusal::problem(fault),
    }
}

/// An error in the form of RFC 6749 §5.2.
fn refused(error: GrantError) -> Result<Response, Problem> {
    let (status, word) = match &error {
        GrantError::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
        GrantError::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
        GrantError::InvalidGrant => (StatusCode::BAD_REQUEST, "invalid_grant"),
        GrantError::UnauthorizedClient => (StatusCode::BAD_REQUEST, "unauthorized_client"),
        GrantError::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        GrantError::InvalidScope => (StatusCode::BAD_REQUEST, "invalid_scope"),
        GrantError::Refused(_) => {
            let GrantError::Refused(fault) = error else { return Err(Problem::internal()) };
            return Err(refusal::problem(fault));
        }
    };
    let response = answer::json(status, &schema::OauthError { error: word, error_description: error.to_string() })?;
    // A 401 names a scheme (RFC 6749 §5.2).
    let response = if status == StatusCode::UNAUTHORIZED { answer::with(response, header::WWW_AUTHENTICATE, "Basic") } else { response };
    Ok(response)
}
