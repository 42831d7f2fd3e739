//! Identities of devices that were never made, in the form that a maker uploads (identity.md §9), to try uploads with.

use crate::domain::ids::{BrandId, ModelName};
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use std::io::{self, Write};
use zeroize::Zeroizing;

/// Bytes of randomness for one: its id and its key.
const EACH: usize = 10 + 32;
/// Identities whose randomness is drawn at a time.
const AT_A_TIME: usize = 1_000;

/// Writes `count` lines, each with a random id and key.
///
/// # Errors
/// When `brand` or `model` is no name, when it cannot be written, or when there is no randomness.
pub fn write(out: &mut dyn Write, count: u64, brand: &str, model: &str) -> io::Result<()> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, format!("{what}: {error}"));
    let brand = BrandId::parse(brand).map_err(|error| wrong("--brand", &error))?;
    let model = ModelName::parse(model).map_err(|error| wrong("--model", &error))?;
    let mut out = io::BufWriter::new(out);
    let mut random = Zeroizing::new(vec![0; EACH * AT_A_TIME]);
    let mut written = 0;
    while written < count {
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        for each in random.chunks_exact(EACH).take(usize::try_from(count - written).unwrap_or(AT_A_TIME)) {
            let Some((id, key)) = each.split_at_checked(10) else { continue };
            let id = BASE32_NOPAD.encode(id).to_lowercase();
            let key = Zeroizing::new(BASE64URL_NOPAD.encode(key));
            writeln!(
                out,
                r#"{{"v":1,"device_id":"{model}-{id}","brand":"{brand}","model":"{model}","hardware":"A","serial":"L{written}","device_key":"{}"}}"#,
                key.as_str()
            )?;
            written += 1;
        }
    }
    out.flush()
}
