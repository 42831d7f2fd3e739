//! What a file is, in words, never showing a secret.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::firmware::read_release;
use super::{FactoryError, files};
use crate::domain::batch::HubRequest;
use crate::domain::brand::Fingerprint;
use crate::domain::firmware::release::MAGIC;
use crate::domain::model::Model;
use crate::domain::voucher::verify_voucher_file;

/// Says what a voucher, secret, model, key, hub request, batch or release of firmware is, line by line.
///
/// # Errors
/// [`FactoryError::Content`] when it is none of these, or does not hold.
pub fn describe(path: &Path) -> Result<String, FactoryError> {
    let bytes = files::read(path)?;
    if bytes.starts_with(b"age-encryption.org/v1\n") {
        let size = bytes.len();
        return Ok(format!(
            "an encrypted file (age), {size} bytes: a registry batch, if the factory made it\nonly the hub it was made for can open it\n"
        ));
    }
    if bytes.starts_with(MAGIC) {
        return firmware(&bytes);
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.starts_with("HKREQ1.") => request(text),
        Ok(text) if text.trim_start().starts_with('{') => json(path, text),
        _ => voucher(&bytes),
    }
}

fn request(line: &str) -> Result<String, FactoryError> {
    let request = HubRequest::parse(line)?;
    Ok(lines(
        "a hub request; its signature holds",
        &[("hub", request.hub.to_string()), ("recipient", request.recipient), ("made", date(request.created))],
    ))
}

fn firmware(bytes: &[u8]) -> Result<String, FactoryError> {
    let (release, fingerprint) = read_release(bytes)?;
    let hardware: Vec<&str> = release.hardware.iter().map(|text| if text.is_empty() { "(none)" } else { text }).collect();
    let from = |rel: u64| if rel == 0 { "any".to_owned() } else { format!("{rel} and above") };
    Ok(lines(
        "a firmware release; image and signatures hold, if the fingerprint is the brand's",
        &[
            ("brand", release.brand.to_string()),
            ("fingerprint", fingerprint.to_string()),
            ("model", release.model.to_string()),
            ("hardware", hardware.join(", ")),
            ("release", release.rel.to_string()),
            ("version", release.version),
            ("size", format!("{} bytes", release.size)),
            ("sha256", release.sha256.to_string()),
            ("from", from(release.least_before)),
            ("safe", from(release.security_minimum)),
            ("made", date(release.made_at)),
            ("notes", release.notes),
        ],
    ))
}

fn voucher(bytes: &[u8]) -> Result<String, FactoryError> {
    let introduction = verify_voucher_file(bytes, |_, _| true)?;
    let (voucher, model) = (introduction.voucher, introduction.model);
    Ok(lines(
        "a voucher; its signatures hold, if the fingerprint is the brand's",
        &[
            ("device", voucher.device_id.to_string()),
            ("brand", voucher.brand.to_string()),
            ("fingerprint", introduction.fingerprint.to_string()),
            ("model", format!("{} ({}, version {})", voucher.model, model.title, model.version)),
            ("hardware", voucher.hardware),
            ("serial", voucher.serial),
            ("made", date(voucher.made)),
        ],
    ))
}

fn json(path: &Path, text: &str) -> Result<String, FactoryError> {
    let value: Value = serde_json::from_str(text).map_err(|e| files::content(path, e.to_string()))?;
    let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
    if value.get("device_key").is_some() {
        return Ok(lines(
            "the secret of one device; its key is not shown",
            &[
                ("device", field("device_id")),
                ("brand", field("brand")),
                ("model", field("model")),
                ("hardware", field("hardware")),
                ("serial", field("serial")),
            ],
        ));
    }
    if value.get("secret_key").is_some() {
        return Ok(lines("a signing key of a brand; it is not shown", &[("brand", field("brand")), ("purpose", field("purpose"))]));
    }
    if value.get("root_public_key").is_some() {
        let key =
            data_encoding::BASE64URL_NOPAD.decode(field("root_public_key").as_bytes()).ok().and_then(|key| <[u8; 32]>::try_from(key).ok());
        let key = key.ok_or_else(|| files::content(path, "the root public key is not 32 bytes of base64url"))?;
        return Ok(lines("the public side of a brand", &[("brand", field("brand")), ("fingerprint", Fingerprint::of(&key).to_string())]));
    }
    if value.get("model").is_some() && value.get("run").is_none() {
        let model = Model::from_json(&value)?;
        return Ok(lines(
            "a model; it is valid",
            &[
                ("model", model.name.to_string()),
                ("title", model.title),
                ("version", model.version.to_string()),
                ("attributes", model.attributes.into_keys().collect::<Vec<_>>().join(", ")),
                ("commands", model.commands.into_keys().collect::<Vec<_>>().join(", ")),
            ],
        ));
    }
    Err(files::content(path, "is no file of the factory"))
}

fn lines(what: &str, fields: &[(&str, String)]) -> String {
    let mut text = format!("{what}\n");
    for (name, value) in fields {
        let _ = writeln!(text, "  {name:<12}{value}");
    }
    text
}

fn date(seconds: u64) -> String {
    let timestamp = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(|| seconds.to_string(), |timestamp| timestamp.to_string())
}
