//! The token endpoint (RFC 6749 §3.2). Services' own grant is `client_credentials`'.

mod client_credentials;

use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::net::problem::Problem;
use crate::service::GrantError;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::http::header::{self, HeaderMap};
use warp::reply::Response;
use zeroize::Zeroizing;

/// Bytes of a form.
const MAX_FORM: usize = 8 * 1024;

pub(in crate::web) async fn token(context: Arc<Context>, mut request: Request) -> Answered {
    context.attempt(request.caller.ip)?;
    request.expect_type(&["application/x-www-form-urlencoded"])?;
    let bytes = request.bytes(&context, MAX_FORM).await?;
    let form = Form::read(&bytes).ok_or(GrantError::InvalidRequest("the form cannot be read, or names something twice"));
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
    match form.taken("grant_type").as_deref() {
        Some("client_credentials") => client_credentials::exchange(context, headers, source, form).await,
        Some(_) => Err(GrantError::UnsupportedGrantType),
        None => Err(GrantError::InvalidRequest("grant_type is missing")),
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
}

/// An error in the form of RFC 6749 §5.2.
fn refused(error: GrantError) -> Result<Response, Problem> {
    let (status, word) = match &error {
        GrantError::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
        GrantError::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
        GrantError::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        GrantError::Refused(_) => {
            let GrantError::Refused(fault) = error else { return Err(Problem::internal()) };
            return Err(refusal::problem(fault));
        }
    };
    let response = answer::json(status, &schema::OauthError { error: word, error_description: error.to_string() })?;
    // A 401 names a scheme (RFC 6749 §5.2).
    Ok(if status == StatusCode::UNAUTHORIZED { answer::with(response, header::WWW_AUTHENTICATE, "Basic") } else { response })
}
