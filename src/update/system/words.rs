//! What RAUC says, in words that say what to do next.

use super::rauc::RaucError;

/// Characters of RAUC's own words that are shown.
const SAID_MAX: usize = 300;

/// Why RAUC does not take a bundle, or did not install it.
pub(super) fn explain(error: &RaucError) -> String {
    match error {
        RaucError::Absent => NONE.to_owned(),
        RaucError::NoAnswer => "RAUC does not answer: try again in a minute; if it stays so, restart the box".to_owned(),
        RaucError::Said(text) => explain_said(text),
    }
}

/// There is no RAUC here.
pub(super) const NONE: &str =
    "this box has no RAUC: its system is not updated by the hub. Whoever set it up updates it with the means of the system that it runs on";

/// RAUC's own message.
pub(super) fn explain_said(text: &str) -> String {
    let said: String = text.trim().chars().filter(|c| !c.is_control()).take(SAID_MAX).collect();
    let lower = said.to_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if any(&["mismatch"]) && any(&["compatible"]) {
        format!("RAUC refuses: the bundle is for another machine ({said}). Get the one for this box")
    } else if any(&["signature verification", "certificate", "verify error", "untrusted"]) {
        format!(
            "RAUC does not believe the signature ({said}). Only what the builder of this box's system has signed is taken: get the file from there again"
        )
    } else if any(&["invalid bundle", "bundle size", "too small", "identifier", "squashfs"]) {
        format!("The file is not a whole bundle ({said}): get it again, and send it again")
    } else if any(&["no space", "too large", "does not fit"]) {
        format!("The bundle does not fit into the slot ({said}). Ask the builder of this box's system")
    } else if lower.is_empty() || any(&["info error"]) {
        "RAUC does not take the file: it is not a whole bundle, or is not signed by the builder of this box's system. Get it from there again".to_owned()
    } else {
        format!("RAUC says: {said}. Nothing was changed in the system that runs; try again, or ask the builder of this box's system")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_of_rauc_becomes_one_that_says_what_to_do() {
        // As RAUC 1.8 says it.
        for (said, expected) in [
            ("signature verification failed: Verify error: self-signed certificate", "builder of this box's system has signed"),
            ("signature verification failed: error:1700009E:CMS routines::verification failure", "does not believe the signature"),
            ("Installation error: Compatible mismatch: Expected 'a' but bundle manifest has 'b'", "for another machine"),
            ("Invalid bundle format: Signature size (1115510085234471002) exceeds bundle size", "not a whole bundle"),
            ("rauc info error", "not a whole bundle, or is not signed"),
            ("No space left on device", "does not fit"),
            ("something else", "RAUC says: something else"),
        ] {
            let told = explain_said(said);
            assert!(told.contains(expected), "{said}: {told}");
        }
        assert!(explain_said(&"x".repeat(10_000)).len() < 600, "what is shown is bounded");
        assert!(!explain_said("a\u{1b}[2Jb").contains('\u{1b}'));
    }
}
