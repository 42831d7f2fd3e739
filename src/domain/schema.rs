//! A device's model as the schema of its twin: declared attributes, their types and ranges, and who may set them.

use super::model::Model;
use super::twin::{Schema, Section, Violation};
use serde_json::Value;

impl Schema for Model {
    fn check(&self, section: Section, name: &str, value: &Value) -> Result<(), Violation> {
        self.check_attribute(name, value).map_err(|v| Violation { path: v.path, reason: v.reason })?;
        if section == Section::Desired && !self.is_writable(name) {
            return Err(Violation { path: name.to_owned(), reason: "only the device reports it: it cannot be desired".into() });
        }
        Ok(())
    }

    fn is_critical(&self, name: &str) -> bool {
        self.is_critical_attribute(name)
    }
}
