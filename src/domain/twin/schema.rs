//! What the twin asks of a device's model, and the words for the two sections and for who writes. The models
//! themselves are elsewhere.

use serde_json::Value;

/// One half of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// What the device is wished to be.
    Desired,
    /// What the device says it is.
    Reported,
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The device itself: `reported`, and `desired` too (a button on the device is a wish).
    Device,
    /// A person, app, service or another device through a binding: `desired` only.
    Person,
    /// The hub: both sections.
    Hub,
}

/// What a model says of attributes. It must be pure: the same question, the same answer.
pub trait Schema {
    /// Judges one top-level attribute as it would stand after the update. `value` holds no null at any depth.
    ///
    /// # Errors
    /// The place and the reason, where the attribute is undeclared, of a wrong type, out of range, or read-only
    /// while `section` is desired.
    fn check(&self, section: Section, name: &str, value: &Value) -> Result<(), Violation>;

    /// Whether a wish for this attribute is safety-critical: accepted for a moment only, never kept in wait.
    fn is_critical(&self, name: &str) -> bool;
}

/// An attribute that its model does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// From the attribute's name on: `colour.hue`. Without the section.
    pub path: String,
    /// What is wrong, for a person to read.
    pub reason: String,
}

/// For a device without a model (an unattested one): everything goes, nothing is critical.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSchema;

impl Schema for NoSchema {
    fn check(&self, _: Section, _: &str, _: &Value) -> Result<(), Violation> {
        Ok(())
    }

    fn is_critical(&self, _: &str) -> bool {
        false
    }
}

impl Section {
    /// Both, in the order in which answers list them.
    pub const BOTH: [Self; 2] = [Self::Desired, Self::Reported];

    /// Its name in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Reported => "reported",
        }
    }
}
