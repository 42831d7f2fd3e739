//! A device type: its attributes and commands, as its maker describes them in JSON, and the check of one value against it. Reading the JSON stands
//! in `model/read.rs`; what a value does to a twin, and who may set it, is left to twin and policy.

mod read;

use std::collections::BTreeMap;
use std::fmt;

use ciborium::Value as Cbor;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::brand::{Purpose, StatementError, sign_statement, verify_statement};
use super::cbor::{self, Record};
use super::ids::{BrandId, ModelName};

/// The largest model, in bytes of JSON.
pub const MODEL_MAX: usize = 64 * 1024;
/// The most attributes, and the most commands, of a model.
pub const MEMBERS_MAX: usize = 64;
/// The most arguments of a command, and the most values of a string.
pub const CHOICES_MAX: usize = 64;
/// How long a string may be when its model does not say, in characters.
pub const LENGTH_DEFAULT: usize = 256;
/// How long a model may allow a string to be, in characters.
pub const LENGTH_MAX: usize = 4096;

/// What is wrong, and where. The path is of member names joined by dots, below what was checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Violation {
    /// Where; empty for the whole.
    pub path: String,
    /// What, in words for the author of the value.
    pub reason: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}: {}", self.path, self.reason) }
    }
}

impl Violation {
    fn at(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }

    /// The same, seen from outside: `state.desired` and `target` give `state.desired.target`.
    #[must_use]
    pub fn below(self, outer: &str) -> Self {
        let path = match (outer, self.path.as_str()) {
            ("", _) => self.path,
            (_, "") => outer.to_owned(),
            (_, inner) => format!("{outer}.{inner}"),
        };
        Self { path, ..self }
    }
}

/// A device type. Built only from JSON that holds ([`Model::parse`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its name, unique within the brand.
    pub name: ModelName,
    /// Its name for people.
    pub title: String,
    /// Which edition of the description; a higher one replaces a lower one.
    pub version: u32,
    /// What it is, for icons and controls: `lamp`, `thermostat`, …; 1–64 of `a-z 0-9 -`.
    pub kind: String,
    /// By name.
    pub attributes: BTreeMap<String, Attribute>,
    /// By name.
    pub commands: BTreeMap<String, Command>,
}

/// One attribute of the twin.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    /// Its name for people.
    pub title: Option<String>,
    /// What values it takes.
    pub shape: Shape,
    /// Who sets it.
    pub access: Access,
    /// Whether it can hurt: then it is never kept as a desire for later.
    pub critical: bool,
}

/// Who sets an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The device alone, which reports it.
    Read,
    /// It may also be desired.
    Write,
}

/// What a device can be told to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Its name for people.
    pub title: Option<String>,
    /// Whether it can hurt: then it takes the privilege `manage`.
    pub critical: bool,
    /// By name.
    pub args: BTreeMap<String, Argument>,
}

/// One argument of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// Its name for people.
    pub title: Option<String>,
    /// What values it takes.
    pub shape: Shape,
    /// Whether it may be left out.
    pub optional: bool,
}

/// What values something takes. Bounds are inclusive.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// `true` or `false`.
    Boolean,
    /// A whole number of 64 bits.
    Integer {
        /// What it counts.
        unit: Option<String>,
        /// The least value.
        min: Option<i64>,
        /// The greatest value.
        max: Option<i64>,
        /// The distance between values, counted from `min` or 0; above 0.
        step: Option<i64>,
    },
    /// A finite number.
    Number {
        /// What it measures.
        unit: Option<String>,
        /// The least value.
        min: Option<f64>,
        /// The greatest value.
        max: Option<f64>,
        /// The distance between values, counted from `min` or 0; above 0.
        step: Option<f64>,
    },
    /// One of these strings, in the maker's order.
    OneOf(Vec<String>),
    /// Any string of at most so many characters.
    Text(usize),
}

impl Model {
    /// Whether a value may stand in the twin under this name. Access is not looked at: the device itself reports what others only read.
    ///
    /// # Errors
    /// A [`Violation`] whose path is the attribute's name.
    pub fn check_attribute(&self, name: &str, value: &Value) -> Result<(), Violation> {
        let attribute =
            self.attributes.get(name).ok_or_else(|| Violation::at(name, format!("the model {} has no such attribute", self.name)))?;
        attribute.shape.check(value).map_err(|reason| Violation::at(name, reason))
    }

    /// Whether these are arguments of this command: an object, or `null` for none.
    ///
    /// # Errors
    /// A [`Violation`] whose path is empty for an unknown command, and otherwise leads to the argument, from `args`.
    pub fn check_args(&self, command: &str, args: &Value) -> Result<(), Violation> {
        let known =
            self.commands.get(command).ok_or_else(|| Violation::at("", format!("the model {} has no command {command:?}", self.name)))?;
        let none = Map::new();
        let given = match args {
            Value::Null => &none,
            Value::Object(given) => given,
            _ => return Err(Violation::at("args", "not an object")),
        };
        for (name, value) in given {
            let path = || format!("args.{name}");
            let argument =
                known.args.get(name).ok_or_else(|| Violation::at(path(), format!("the command {command} has no such argument")))?;
            argument.shape.check(value).map_err(|reason| Violation::at(path(), reason))?;
        }
        match known.args.iter().find(|(name, argument)| !argument.optional && !given.contains_key(*name)) {
            Some((name, _)) => Err(Violation::at(format!("args.{name}"), "is missing")),
            None => Ok(()),
        }
    }

    /// An attribute by name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.get(name)
    }

    /// A command by name.
    #[must_use]
    pub fn command(&self, name: &str) -> Option<&Command> {
        self.commands.get(name)
    }

    /// Whether the attribute may be desired. An unknown one may not.
    #[must_use]
    pub fn is_writable(&self, attribute: &str) -> bool {
        self.attributes.get(attribute).is_some_and(|a| a.access == Access::Write)
    }

    /// Whether the attribute can hurt. An unknown one is taken for one that can.
    #[must_use]
    pub fn is_critical_attribute(&self, attribute: &str) -> bool {
        self.attributes.get(attribute).is_none_or(|a| a.critical)
    }

    /// Whether the command can hurt. An unknown one is taken for one that can.
    #[must_use]
    pub fn is_critical_command(&self, command: &str) -> bool {
        self.commands.get(command).is_none_or(|c| c.critical)
    }

    /// The model as JSON: what [`Model::from_json`] reads, with every default left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let attributes: Map<_, _> = self.attributes.iter().map(|(name, a)| (name.clone(), a.to_json())).collect();
        let commands: Map<_, _> = self.commands.iter().map(|(name, c)| (name.clone(), c.to_json())).collect();
        json!({
            "model": self.name.as_str(), "title": self.title, "version": self.version, "kind": self.kind,
            "attributes": attributes, "commands": commands,
        })
    }
}

impl Attribute {
    fn to_json(&self) -> Value {
        let mut members = self.shape.to_json();
        put_title(&mut members, self.title.as_ref());
        members.insert("access".into(), if self.access == Access::Write { "write" } else { "read" }.into());
        if self.critical {
            members.insert("critical".into(), true.into());
        }
        Value::Object(members)
    }
}

impl Command {
    fn to_json(&self) -> Value {
        let mut members = Map::new();
        put_title(&mut members, self.title.as_ref());
        if self.critical {
            members.insert("critical".into(), true.into());
        }
        let args: Map<_, _> = self.args.iter().map(|(name, argument)| (name.clone(), argument.to_json())).collect();
        members.insert("args".into(), args.into());
        Value::Object(members)
    }
}

impl Argument {
    fn to_json(&self) -> Value {
        let mut members = self.shape.to_json();
        put_title(&mut members, self.title.as_ref());
        if self.optional {
            members.insert("optional".into(), true.into());
        }
        Value::Object(members)
    }
}

fn put_title(members: &mut Map<String, Value>, title: Option<&String>) {
    if let Some(title) = title {
        members.insert("title".into(), title.as_str().into());
    }
}

impl Shape {
    /// Whether a value has this shape; if not, why, in words.
    fn check(&self, value: &Value) -> Result<(), String> {
        match self {
            Self::Boolean => value.as_bool().map(|_| ()).ok_or_else(|| "is not a boolean".to_owned()),
            Self::Integer { min, max, step, .. } => {
                let number = whole(value).ok_or("is not an integer")?;
                check_bounds(number, *min, *max)?;
                let from = i128::from(number) - i128::from(min.unwrap_or(0));
                match step {
                    Some(step) if from % i128::from(*step) != 0 => Err(format!("is not a multiple of the step {step}")),
                    _ => Ok(()),
                }
            }
            Self::Number { min, max, step, .. } => {
                let number = value.as_f64().filter(|n| n.is_finite()).ok_or("is not a number")?;
                check_bounds(number, *min, *max)?;
                // A step like 0.1 has no exact binary form: a thousandth of a step is forgiven.
                let steps = step.map_or(0.0, |step| (number - min.unwrap_or(0.0)) / step);
                match step {
                    Some(step) if (steps - steps.round()).abs() > 1e-3 => Err(format!("is not a multiple of the step {step}")),
                    _ => Ok(()),
                }
            }
            Self::OneOf(values) => {
                let text = value.as_str().ok_or("is not a string")?;
                if values.iter().any(|v| v == text) { Ok(()) } else { Err(format!("is not one of: {}", values.join(", "))) }
            }
            Self::Text(max) => {
                let text = value.as_str().ok_or("is not a string")?;
                if text.chars().nth(*max).is_none() { Ok(()) } else { Err(format!("is longer than {max} characters")) }
            }
        }
    }

    fn to_json(&self) -> Map<String, Value> {
        let mut members = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                members.insert(name.to_owned(), value);
            }
        };
        match self {
            Self::Boolean => put("type", Some("boolean".into())),
            Self::Integer { unit, min, max, step } => {
                put("type", Some("integer".into()));
                put("unit", unit.clone().map(Value::from));
                put("min", min.map(Value::from));
                put("max", max.map(Value::from));
                put("step", step.map(Value::from));
            }
            Self::Number { unit, min, max, step } => {
                put("type", Some("number".into()));
                put("unit", unit.clone().map(Value::from));
                put("min", min.map(number));
                put("max", max.map(number));
                put("step", step.map(number));
            }
            Self::OneOf(values) => {
                put("type", Some("string".into()));
                put("values", Some(values.clone().into()));
            }
            Self::Text(max) => {
                put("type", Some("string".into()));
                put("max_length", (*max != LENGTH_DEFAULT).then(|| (*max).into()));
            }
        }
        members
    }
}

fn check_bounds<N: PartialOrd + fmt::Display>(number: N, min: Option<N>, max: Option<N>) -> Result<(), String> {
    match (min, max) {
        (Some(min), _) if number < min => Err(format!("is below {min}")),
        (_, Some(max)) if number > max => Err(format!("is above {max}")),
        _ => Ok(()),
    }
}

/// A JSON number without a fraction, however it is written: `3` and `3.0` are the same number.
fn whole(value: &Value) -> Option<i64> {
    /// Up to here every whole number has its own double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|n| n.fract() == 0.0 && n.abs() <= EXACT && value.is_f64())?;
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        Some(number as i64)
    })
}

/// A number in its shortest JSON: `5`, not `5.0`.
fn number(number: f64) -> Value {
    whole(&number.into()).map_or_else(|| number.into(), Value::from)
}

impl Serialize for Model {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Signs a model with the brand's batch key. `issued` in seconds since 1970.
#[must_use]
pub fn sign_model(key: &SigningKey, brand: &BrandId, model: &Model, issued: u64) -> Vec<u8> {
    let payload = cbor::map([
        (1, cbor::text(brand)),
        (2, cbor::text(&model.name)),
        (3, cbor::text(model.to_json().to_string())),
        (4, Cbor::from(issued)),
    ]);
    sign_statement(key, Purpose::Model, cbor::encode(payload))
}

/// Checks a model statement against the brand's batch key.
///
/// # Errors
/// [`StatementError`], for the signature, the form, or the model itself.
pub fn verify_model(public_key: &[u8; 32], statement: &[u8]) -> Result<(BrandId, Model), StatementError> {
    let mut record = Record::decode("model statement", &verify_statement(public_key, Purpose::Model, statement)?)?;
    let brand = record.take(1, "brand")?.parsed(BrandId::parse)?;
    let name = record.take(2, "model")?.parsed(ModelName::parse)?;
    let json = record.take(3, "JSON")?.text()?;
    record.take(4, "issued")?.uint()?;
    record.finish()?;
    let model = Model::parse(&json)?;
    if model.name == name {
        Ok((brand, model))
    } else {
        Err(StatementError::OtherModel { expected: name.to_string(), found: model.name.to_string() })
    }
}

#[cfg(test)]
mod tests;
