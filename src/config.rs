//! Where a hub's configuration comes from: defaults, then a TOML file, then the environment, then flags; each over the
//! one before it. What can be set is declared by the rooms.

use crate::hub::Config;
use anyhow::{Context, anyhow};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use std::path::Path;

/// Prefix of environment variables: `HEARTHKEY_HTTPS__ADDRESS` sets `https.address`.
const ENV_PREFIX: &str = "HEARTHKEY_";
/// Variables with the prefix that other parts of the program use.
const ENV_OTHERS: &[&str] = &["UI_DIST", "FACTORY", "LOG", "CONFIG", "UI_DIR"];

/// Loads the configuration. `flags` is what the command line sets, in the shape of the file.
///
/// # Errors
/// For a person: the file, the line, and what is wrong with it.
pub fn load(file: Option<&Path>, flags: figment::value::Dict) -> anyhow::Result<Config> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the configuration {}", path.display()))?;
        // Read on its own first: this parser knows the line of what is wrong.
        toml::from_str::<Config>(&text).map_err(|e| {
            let line = e.span().map_or(1, |s| text.get(..s.start).unwrap_or_default().matches('\n').count() + 1);
            anyhow!("{}, line {line}: {}", path.display(), e.message())
        })?;
        figment = figment.merge(Toml::string(&text));
    }
    figment
        .merge(Env::prefixed(ENV_PREFIX).ignore(ENV_OTHERS).split("__"))
        .merge(Serialized::defaults(flags))
        .extract()
        .map_err(|e| anyhow!("the configuration is wrong: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> anyhow::Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.toml");
        std::fs::write(&path, text).unwrap();
        load(Some(&path), figment::value::Dict::new())
    }

    #[test]
    fn a_file_sets_what_it_names_and_leaves_the_rest() {
        let config = load_text("name = \"attic\"\n[https]\naddress = \"127.0.0.1:9443\"\n").unwrap();
        assert_eq!((config.name.as_str(), config.https.address.port()), ("attic", 9443));
        assert_eq!(config.mqtts.address.port(), 8883);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_its_line() {
        let error = load_text("name = \"attic\"\n\n[broker]\nmax_packet_bites = 3\n").unwrap_err().to_string();
        assert!(error.contains("line 4") && error.contains("max_packet_bites"), "{error}");
    }

    #[test]
    fn a_wrong_type_is_an_error_that_names_its_line() {
        let error = load_text("[https]\naddress = 12\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_flag_goes_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.toml");
        std::fs::write(&path, "name = \"attic\"\n").unwrap();
        let flags = figment::util::nest("name", "cellar".into()).into_dict().unwrap();
        assert_eq!(load(Some(&path), flags).unwrap().name, "cellar");
    }
}
