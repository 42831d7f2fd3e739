//! What simulated devices do: a small physics behind the trait [`Thing`]. Connections, twins and command ids are
//! `sim::device`'s; a thing sees attributes, commands and the passing of time alone, so that it needs no clock.

mod garage_door;
mod lamp;
mod thermostat;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};

pub use garage_door::GarageDoor;
pub use lamp::Lamp;
pub use thermostat::Thermostat;

/// A simulated thing.
pub trait Thing: Send {
    /// All attributes as they are now.
    fn reported(&self) -> Map<String, Value>;

    /// Lets `dt` pass. True when an attribute has changed that is worth reporting.
    fn tick(&mut self, dt: Duration) -> bool;

    /// Takes what is desired of it; what it cannot do is answered with a reason per attribute, and changes nothing.
    fn desired(&mut self, delta: &Map<String, Value>) -> Vec<Refusal>;

    /// Starts or does a command.
    fn command(&mut self, name: &str, args: &Map<String, Value>) -> Outcome;

    /// How the command ended that [`Outcome::Running`] started, once.
    fn finished(&mut self) -> Option<Outcome>;

    /// Puts a fault in or takes it away. False when the thing has no such fault.
    fn fault(&mut self, fault: Fault, present: bool) -> bool;
}

/// How a command went.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done, with a result.
    Done(Value),
    /// Under way; [`Thing::finished`] tells the end.
    Running,
    /// Not done, and why.
    Failed(String),
}

/// An attribute that cannot be set as desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The attribute.
    pub attribute: String,
    /// Why.
    pub reason: &'static str,
}

/// What can be wrong with a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Something is in the way of the door at this position (%).
    Obstruction {
        /// Position in per cent, 0–100.
        at: u8,
    },
    /// The heating does not heat.
    NoHeat,
}

/// The kinds of things there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A garage door opener.
    GarageDoor,
    /// A thermostat.
    Thermostat,
    /// A lamp.
    Lamp,
}

impl Kind {
    /// A new thing of this kind.
    pub fn build(self) -> Box<dyn Thing> {
        match self {
            Self::GarageDoor => Box::new(GarageDoor::default()),
            Self::Thermostat => Box::new(Thermostat::default()),
            Self::Lamp => Box::new(Lamp::default()),
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    /// `garage-door`, `thermostat`, `lamp`, or a model name that holds one of these words (`acme-lamp-2`).
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("garage") {
            Ok(Self::GarageDoor)
        } else if text.contains("thermostat") {
            Ok(Self::Thermostat)
        } else if text.contains("lamp") {
            Ok(Self::Lamp)
        } else {
            Err(format!("{text} is none of garage-door, thermostat, lamp: name one with --kind"))
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GarageDoor => "garage-door",
            Self::Thermostat => "thermostat",
            Self::Lamp => "lamp",
        })
    }
}

impl FromStr for Fault {
    type Err = String;

    /// `obstruction@60` or `no-heat`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('@') {
            None if text == "no-heat" => Ok(Self::NoHeat),
            None if text == "obstruction" => Ok(Self::Obstruction { at: 50 }),
            Some(("obstruction", at)) => match at.parse() {
                Ok(at @ 0..=100) => Ok(Self::Obstruction { at }),
                _ => Err(format!("{at} is no position from 0 to 100")),
            },
            _ => Err(format!("{text} is none of obstruction@POSITION, no-heat")),
        }
    }
}

impl Refusal {
    fn new(attribute: &str, reason: &'static str) -> Self {
        Self { attribute: attribute.to_owned(), reason }
    }
}

/// An integer within bounds.
fn integer(value: &Value, least: i64, most: i64) -> Option<i64> {
    value.as_i64().filter(|number| (least..=most).contains(number))
}
