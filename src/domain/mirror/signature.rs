//! Signed requests and replies: HTTP Message Signatures (RFC 9421) in the two profiles of `docs/protocol/mirror.md`, over a
//! Content-Digest (RFC 9530). Nothing else is taken: other components, parameters, algorithms or tags, another order,
//! anything twice, a second signature. Whether the time and the nonce are fresh is asked by whoever keeps them.

use std::fmt::Write;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sfv::{Dictionary, InnerList, ListEntry, Parser};
use sha2::{Digest, Sha256};

use super::wire::EPOCH_HEADER;
use crate::domain::ids::HubId;

/// The name of a request's signature.
pub const REQUEST_LABEL: &str = "hub";
/// The name of a reply's signature.
pub const REPLY_LABEL: &str = "cloud";
const REQUEST_TAG: &str = "hearthkey-sync-v1";
const REPLY_TAG: &str = "hearthkey-reply-v1";
/// Bytes of a header that is looked at. Ours have at most 300.
const HEADER_MAX: usize = 1024;
/// The greatest integer of a structured field (RFC 9651 §3.3.1).
const INTEGER_MAX: u64 = 999_999_999_999_999;

/// What is signed of a request, beside the time and the nonce.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The whole URL, on the cloud's public one, with the query when there is one.
    pub target_uri: &'a str,
    /// The body, empty when there is none.
    pub body: &'a [u8],
    /// The value of `Hearthkey-Epoch`.
    pub epoch: u64,
}

/// The values of the headers to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeaders {
    /// `Content-Digest`.
    pub content_digest: String,
    /// `Signature-Input`.
    pub signature_input: String,
    /// `Signature`.
    pub signature: String,
}

impl SignedHeaders {
    /// As they are verified.
    #[must_use]
    pub fn as_headers(&self) -> Headers<'_> {
        Headers { content_digest: &self.content_digest, signature_input: &self.signature_input, signature: &self.signature }
    }
}

/// The values of the headers that came. Of a header that is absent, an empty text; of one that came several times, the
/// values joined by `, ` (RFC 9110 §5.3): it is refused.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    /// `Content-Digest`.
    pub content_digest: &'a str,
    /// `Signature-Input`.
    pub signature_input: &'a str,
    /// `Signature`.
    pub signature: &'a str,
}

/// Why a message is not taken for signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no signature at all.
    #[error("the message is not signed")]
    Unsigned,
    /// A header, the method or the URL is not of its form.
    #[error("{0} is not of its form")]
    Malformed(&'static str),
    /// Signed, but not over what this protocol signs, or with other parameters.
    #[error("the signature is not over the parts, or not with the parameters, of this protocol")]
    Profile,
    /// Signed by a key with another name.
    #[error("the signature is of another key")]
    OtherKey,
    /// The body is not the one whose digest was signed.
    #[error("the body is not the one that was signed")]
    Body,
    /// The signature does not hold.
    #[error("the signature does not hold")]
    Signature,
}

/// Whose request it is, as its signature says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedRequest {
    /// The hub.
    pub hub: HubId,
    /// When it was signed, s since 1970, by the hub's clock.
    pub created_s: u64,
    /// Used once.
    pub nonce: [u8; 16],
}

/// By which a cloud's key is named: the first 16 hexadecimal digits of its SHA-256.
#[must_use]
pub fn fingerprint(public: &[u8; 32]) -> String {
    HEXLOWER.encode(&Sha256::digest(public)).chars().take(16).collect()
}

/// Signs a request with the hub's mirror key. `nonce` is random; `created_s` s since 1970.
#[must_use]
pub fn sign_request(key: &SigningKey, hub: &HubId, parts: &RequestParts, created_s: u64, nonce: [u8; 16]) -> SignedHeaders {
    let (content_digest, params) = (digest_of(parts.body), request_params(hub, created_s, &nonce));
    let signature = key.sign(request_base(parts, &content_digest, &params).as_bytes());
    headers(REQUEST_LABEL, content_digest, &params, &signature)
}

/// The hub that a request says it is of, to find its key. Nothing of it holds before [`verify_request`].
#[must_use]
pub fn claimed_hub(headers: &Headers) -> Option<HubId> {
    let list = input(REQUEST_LABEL, headers).ok()?;
    HubId::parse(text(&list, "keyid").ok()?).ok()
}

/// Verifies a request against the mirror key of the hub that it is of.
///
/// # Errors
/// [`SignatureError`] for everything that [`sign_request`] would not have written.
pub fn verify_request(public: &[u8; 32], parts: &RequestParts, headers: &Headers) -> Result<VerifiedRequest, SignatureError> {
    one_line("the method", parts.method)?;
    one_line("the URL", parts.target_uri)?;
    let list = input(REQUEST_LABEL, headers)?;
    let created_s = created(&list)?;
    let hub = HubId::parse(text(&list, "keyid")?).map_err(|_| SignatureError::OtherKey)?;
    let nonce = BASE64URL_NOPAD.decode(text(&list, "nonce")?.as_bytes()).ok().and_then(|nonce| nonce.try_into().ok());
    let nonce: [u8; 16] = nonce.ok_or(SignatureError::Profile)?;
    let params = request_params(&hub, created_s, &nonce);
    holds(public, REQUEST_LABEL, &params, parts.body, headers, |digest| request_base(parts, digest, &params))?;
    Ok(VerifiedRequest { hub, created_s, nonce })
}

/// Signs a reply with the cloud's key. `request_signature` is the request's `Signature` header, and the reply covers what
/// in it is named `hub`; when there is no such thing, as with an unsigned request, the reply does not cover it.
#[must_use]
pub fn sign_reply(key: &SigningKey, status: u16, body: &[u8], request_signature: &str, created_s: u64) -> SignedHeaders {
    let asked = signature_value(REQUEST_LABEL, request_signature);
    let params = reply_params(&key.verifying_key().to_bytes(), created_s, asked.is_some());
    let content_digest = digest_of(body);
    let signature = key.sign(reply_base(status, &content_digest, asked.as_deref(), &params).as_bytes());
    headers(REPLY_LABEL, content_digest, &params, &signature)
}

/// Verifies a reply against the cloud's key, and gives the time at which it was signed, s since 1970. `request_signature`
/// is the `Signature` header that was sent, or empty when the request was not signed: then the time is nobody's word, as
/// the reply may be an old one.
///
/// # Errors
/// [`SignatureError`] for everything that [`sign_reply`] would not have written.
pub fn verify_reply(cloud: &[u8; 32], status: u16, body: &[u8], request_signature: &str, headers: &Headers) -> Result<u64, SignatureError> {
    let list = input(REPLY_LABEL, headers)?;
    let created_s = created(&list)?;
    if text(&list, "keyid")? != fingerprint(cloud) {
        return Err(SignatureError::OtherKey);
    }
    let asked = signature_value(REQUEST_LABEL, request_signature);
    if asked.is_none() && !request_signature.is_empty() {
        return Err(SignatureError::Malformed("the request's Signature"));
    }
    let params = reply_params(cloud, created_s, asked.is_some());
    holds(cloud, REPLY_LABEL, &params, body, headers, |digest| reply_base(status, digest, asked.as_deref(), &params))?;
    Ok(created_s)
}

/// `Content-Digest` of a body (RFC 9530).
#[must_use]
pub fn digest_of(body: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64.encode(&Sha256::digest(body)))
}

fn request_params(hub: &HubId, created_s: u64, nonce: &[u8; 16]) -> String {
    let (created_s, nonce) = (created_s.min(INTEGER_MAX), BASE64URL_NOPAD.encode(nonce));
    format!(
        "(\"@method\" \"@target-uri\" \"content-digest\" \"{EPOCH_HEADER}\");created={created_s};nonce=\"{nonce}\";keyid=\"{hub}\";\
         alg=\"ed25519\";tag=\"{REQUEST_TAG}\""
    )
}

fn request_base(parts: &RequestParts, content_digest: &str, params: &str) -> String {
    let (epoch, name) = (parts.epoch.to_string(), format!("\"{EPOCH_HEADER}\""));
    let covered = [
        ("\"@method\"", parts.method),
        ("\"@target-uri\"", parts.target_uri),
        ("\"content-digest\"", content_digest),
        (name.as_str(), epoch.as_str()),
    ];
    base(&covered, params)
}

const ASKED: &str = "\"signature\";req;key=\"hub\"";

fn reply_params(cloud: &[u8; 32], created_s: u64, asked: bool) -> String {
    let (created_s, keyid) = (created_s.min(INTEGER_MAX), fingerprint(cloud));
    let asked = if asked { format!(" {ASKED}") } else { String::new() };
    format!("(\"@status\" \"content-digest\"{asked});created={created_s};keyid=\"{keyid}\";alg=\"ed25519\";tag=\"{REPLY_TAG}\"")
}

fn reply_base(status: u16, content_digest: &str, asked: Option<&str>, params: &str) -> String {
    let status = status.to_string();
    let covered = [("\"@status\"", status.as_str()), ("\"content-digest\"", content_digest)];
    let covered: Vec<(&str, &str)> = covered.into_iter().chain(asked.map(|asked| (ASKED, asked))).collect();
    base(&covered, params)
}

/// The signature base (RFC 9421 §2.5): component identifiers, as they are serialised, with their values.
fn base(covered: &[(&str, &str)], params: &str) -> String {
    let mut base = String::new();
    for (identifier, value) in covered {
        // Writing into a text does not fail.
        let _ = writeln!(base, "{identifier}: {value}");
    }
    base + "\"@signature-params\": " + params
}

fn headers(label: &str, content_digest: String, params: &str, signature: &Signature) -> SignedHeaders {
    let signature = format!("{label}=:{}:", BASE64.encode(&signature.to_bytes()));
    SignedHeaders { content_digest, signature_input: format!("{label}={params}"), signature }
}

/// What all verification has in common: the parameters as they are written here, and only they; the body; the signature.
fn holds(
    public: &[u8; 32],
    label: &str,
    params: &str,
    body: &[u8],
    headers: &Headers,
    base: impl Fn(&str) -> String,
) -> Result<(), SignatureError> {
    // One text, one meaning: a parameter twice, in another order, of another type, or one more, makes another text.
    if headers.signature_input.strip_prefix(label).and_then(|rest| rest.strip_prefix('=')) != Some(params) {
        return Err(SignatureError::Profile);
    }
    if headers.content_digest != digest_of(body) {
        return Err(SignatureError::Body);
    }
    let signature = signature_bytes(label, headers.signature).ok_or(SignatureError::Malformed("Signature"))?;
    let key = VerifyingKey::from_bytes(public).map_err(|_| SignatureError::Signature)?;
    key.verify_strict(base(headers.content_digest).as_bytes(), &signature).map_err(|_| SignatureError::Signature)
}

/// The one member of `Signature-Input`.
fn input(label: &str, headers: &Headers) -> Result<InnerList, SignatureError> {
    if headers.signature_input.is_empty() && headers.signature.is_empty() {
        return Err(SignatureError::Unsigned);
    }
    match only_member(label, headers.signature_input) {
        Some(ListEntry::InnerList(list)) => Ok(list),
        _ => Err(SignatureError::Malformed("Signature-Input")),
    }
}

fn only_member(label: &str, header: &str) -> Option<ListEntry> {
    if header.len() > HEADER_MAX {
        return None;
    }
    let mut members = Parser::new(header).parse::<Dictionary>().ok()?.into_iter();
    let (name, member) = members.next()?;
    (name.as_str() == label && members.next().is_none()).then_some(member)
}

fn text<'a>(list: &'a InnerList, name: &str) -> Result<&'a str, SignatureError> {
    list.params.get(name).and_then(|value| value.as_string()).map(|text| text.as_str()).ok_or(SignatureError::Profile)
}

fn created(list: &InnerList) -> Result<u64, SignatureError> {
    let created = list.params.get("created").and_then(|value| value.as_integer());
    created.and_then(|created| u64::try_from(created).ok()).ok_or(SignatureError::Profile)
}

fn signature_bytes(label: &str, header: &str) -> Option<Signature> {
    let ListEntry::Item(item) = only_member(label, header)? else { return None };
    let signature = Signature::from_slice(item.bare_item.as_byte_sequence()?).ok()?;
    // Neither parameters nor another spelling of the same bytes.
    (header == format!("{label}=:{}:", BASE64.encode(&signature.to_bytes()))).then_some(signature)
}

/// A signature as a covered component has it.
fn signature_value(label: &str, header: &str) -> Option<String> {
    signature_bytes(label, header).map(|signature| format!(":{}:", BASE64.encode(&signature.to_bytes())))
}

fn one_line(what: &'static str, text: &str) -> Result<(), SignatureError> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if plain { Ok(()) } else { Err(SignatureError::Malformed(what)) }
}

#[cfg(test)]
mod tests;
