//! Time-based one-time passwords (RFC 6238 over RFC 4226) with what every authenticator app can do: SHA-1, six digits,
//! steps of 30 s. That a step serves once is the keeper's to remember; here is which step a code belongs to.

use totp_rs::{Algorithm, TOTP};

/// Bytes of a secret, as RFC 4226 §4 recommends.
pub const SECRET_BYTES: usize = 20;
/// Length of a step, in seconds.
const STEP_S: u64 = 30;
/// Steps before and after the present one that are taken: clocks differ, and typing takes its time (RFC 6238 §5.2).
const SKEW: u64 = 1;
/// What the app shows beside the account.
const ISSUER: &str = "Hearthkey";

/// The step in which `code` is right, among the present one and its neighbours, and later than `last`, the last one that
/// was taken. `now` is in ms since 1970.
#[must_use]
pub fn step_of(secret: &[u8; SECRET_BYTES], code: &str, last: Option<u64>, now: u64) -> Option<u64> {
    let present = now / 1000 / STEP_S;
    let is_code = code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit());
    let after = last.map_or(0, |l| l.saturating_add(1));
    let steps = present.saturating_sub(SKEW).max(after)..=present.saturating_add(SKEW);
    // All are compared, so that the time taken tells nothing.
    let fits = steps.filter(|step| subtle::ConstantTimeEq::ct_eq(at(secret, *step).as_bytes(), code.as_bytes()).into());
    let found = fits.fold(None, |found: Option<u64>, step| found.or(Some(step)));
    found.filter(|_| is_code)
}

/// The code of a step.
fn at(secret: &[u8; SECRET_BYTES], step: u64) -> String {
    TOTP::new_unchecked(Algorithm::SHA1, 6, 0, STEP_S, secret.to_vec()).generate(step.saturating_mul(STEP_S))
}

/// The secret as a person types it into an app: base32 without padding (RFC 4648 §6).
#[must_use]
pub fn shown(secret: &[u8; SECRET_BYTES]) -> zeroize::Zeroizing<String> {
    data_encoding::BASE32_NOPAD.encode(secret).into()
}

/// The address from which an app learns the secret and how it is used (the `otpauth` format of Google Authenticator's
/// documentation, "Key Uri Format"); `account` is how the app is to call it.
#[must_use]
pub fn uri(secret: &[u8; SECRET_BYTES], account: &str) -> zeroize::Zeroizing<String> {
    let mut label = String::new();
    for byte in account.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => label.push(char::from(byte)),
            other => label.push_str(&format!("%{other:02X}")),
        }
    }
    let secret = shown(secret);
    format!("otpauth://totp/{ISSUER}:{label}?secret={}&issuer={ISSUER}&algorithm=SHA1&digits=6&period={STEP_S}", secret.as_str()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: seconds, and the last six digits of the code for SHA-1.
    const RFC: [(u64, &str); 6] = [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ];
    const SECRET: &[u8; 20] = b"12345678901234567890";

    #[test]
    fn the_vectors_of_the_standard_hold() {
        for (seconds, code) in RFC {
            assert_eq!(step_of(SECRET, code, None, seconds * 1000), Some(seconds / 30), "{seconds}");
        }
    }

    #[test]
    fn a_code_serves_one_step_early_or_late_and_never_after_it_or_a_later_one_was_taken() {
        let (seconds, code) = RFC[3];
        let (step, now) = (seconds / 30, |s: u64| (s * 30 + 7) * 1000);
        for (at, fits) in [(step - 2, false), (step - 1, true), (step, true), (step + 1, true), (step + 2, false)] {
            assert_eq!(step_of(SECRET, code, None, now(at)).is_some(), fits, "{at}");
        }
        assert_eq!(step_of(SECRET, code, Some(step - 1), now(step)), Some(step));
        assert_eq!(step_of(SECRET, code, Some(step), now(step)), None);
        assert_eq!(step_of(SECRET, code, Some(step + 1), now(step)), None);
    }

    #[test]
    fn what_is_no_code_is_none() {
        for other in ["", "00592", "0059240", "00592a", "٠٠٥٩٢٤"] {
            assert_eq!(step_of(SECRET, other, None, RFC[3].0 * 1000), None, "{other}");
        }
        assert_eq!(step_of(SECRET, RFC[0].1, None, u64::MAX), None);
    }

    #[test]
    fn an_app_reads_the_account_whatever_it_is_called() {
        let uri = uri(SECRET, "Zoë & co");
        assert!(uri.starts_with("otpauth://totp/Hearthkey:Zo%C3%AB%20%26%20co?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&"), "{}", *uri);
    }
}
