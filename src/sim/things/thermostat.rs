//! A thermostat in a room that loses warmth to the outside and gains it from a heater.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Fault, Outcome, Refusal, Thing};

/// Outside temperature in °C.
const OUTSIDE: f64 = 8.0;
/// Share of the difference to the outside that is lost each second.
const LOSS: f64 = 0.001;
/// Degrees that the heater gives each second.
const HEAT: f64 = 0.05;
/// What `eco` takes off the target, in degrees.
const ECO: f64 = 3.0;
/// Half the band around the target within which the heater is left as it is, in degrees.
const BAND: f64 = 0.25;
/// What a boost adds to the target, in degrees.
const BOOST: f64 = 2.0;

/// A thermostat.
#[derive(Debug)]
pub struct Thermostat {
    temperature: f64,
    target: f64,
    heating: bool,
    mode: Mode,
    boost: Duration,
    broken: bool,
    told: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Off,
    Heat,
    Eco,
}

impl Default for Thermostat {
    fn default() -> Self {
        Self { temperature: 19.0, target: 20.0, heating: false, mode: Mode::Heat, boost: Duration::ZERO, broken: false, told: 19.0 }
    }
}

impl Thermostat {
    /// Switches the heater by what the temperature is and should be.
    fn control(&mut self) {
        let wanted = match self.mode {
            Mode::Off => f64::NEG_INFINITY,
            Mode::Heat => self.target,
            Mode::Eco => self.target - ECO,
        } + if self.boost.is_zero() { 0.0 } else { BOOST };
        if self.temperature < wanted - BAND {
            self.heating = true;
        } else if self.temperature > wanted + BAND {
            self.heating = false;
        }
    }
}

/// Rounded to a tenth, as such a device shows it.
fn tenth(degrees: f64) -> f64 {
    (degrees * 10.0).round() / 10.0
}

impl Thing for Thermostat {
    fn reported(&self) -> Map<String, Value> {
        let mode = match self.mode {
            Mode::Off => "off",
            Mode::Heat => "heat",
            Mode::Eco => "eco",
        };
        Map::from_iter([
            ("temperature".to_owned(), json!(tenth(self.temperature))),
            ("target".to_owned(), json!(self.target)),
            ("heating".to_owned(), json!(self.heating)),
            ("mode".to_owned(), json!(mode)),
        ])
    }

    fn tick(&mut self, dt: Duration) -> bool {
        let seconds = dt.as_secs_f64();
        self.temperature += (OUTSIDE - self.temperature) * (LOSS * seconds).min(1.0);
        if self.heating && !self.broken {
            self.temperature += HEAT * seconds;
        }
        self.boost = self.boost.saturating_sub(dt);
        let heated = self.heating;
        self.control();
        // A fifth of a degree is worth a message; less would only be noise.
        let moved = (self.temperature - self.told).abs() >= 0.2;
        if moved {
            self.told = self.temperature;
        }
        moved || heated != self.heating
    }

    fn desired(&mut self, delta: &Map<String, Value>) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for (name, value) in delta {
            match name.as_str() {
                "target" => match value.as_f64() {
                    Some(target) if (5.0..=30.0).contains(&target) => self.target = target,
                    _ => refusals.push(Refusal::new(name, "not from 5 to 30 °C")),
                },
                "mode" => match value.as_str() {
                    Some("off") => self.mode = Mode::Off,
                    Some("heat") => self.mode = Mode::Heat,
                    Some("eco") => self.mode = Mode::Eco,
                    _ => refusals.push(Refusal::new(name, "none of off, heat, eco")),
                },
                _ => refusals.push(Refusal::new(name, "cannot be set")),
            }
        }
        self.control();
        refusals
    }

    fn command(&mut self, name: &str, args: &Map<String, Value>) -> Outcome {
        if name != "boost" {
            return Outcome::Failed(format!("no command {name}"));
        }
        match args.get("minutes").map_or(Some(15), |minutes| super::integer(minutes, 1, 120)) {
            Some(minutes) if self.mode != Mode::Off => {
                self.boost = Duration::from_secs(60 * minutes.unsigned_abs());
                self.control();
                Outcome::Done(json!({"minutes": minutes, "heating": self.heating}))
            }
            Some(_) => Outcome::Failed("the heating is off".into()),
            None => Outcome::Failed("minutes is not from 1 to 120".into()),
        }
    }

    fn finished(&mut self) -> Option<Outcome> {
        None
    }

    fn fault(&mut self, fault: Fault, present: bool) -> bool {
        if fault == Fault::NoHeat {
            self.broken = present;
        }
        fault == Fault::NoHeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(thing: &mut Thermostat) {
        for _ in 0..3600 {
            thing.tick(Duration::from_secs(1));
        }
    }

    #[test]
    fn a_room_is_held_near_its_target() {
        let mut thing = Thermostat::default();
        thing.desired(&Map::from_iter([("target".to_owned(), json!(22.5))]));
        hour(&mut thing);
        assert!((thing.temperature - 22.5).abs() < 0.5, "{}", thing.temperature);
    }

    #[test]
    fn a_room_without_heating_drifts_to_the_outside() {
        let mut thing = Thermostat::default();
        thing.desired(&Map::from_iter([("mode".to_owned(), json!("off"))]));
        hour(&mut thing);
        assert!((OUTSIDE..OUTSIDE + 1.0).contains(&thing.temperature), "{}", thing.temperature);
        assert!(!thing.heating);
    }

    #[test]
    fn a_broken_heater_burns_and_does_not_heat() {
        let mut thing = Thermostat::default();
        assert!(thing.fault(Fault::NoHeat, true));
        hour(&mut thing);
        assert!(thing.heating && thing.temperature < 10.0);
    }

    #[test]
    fn a_target_out_of_range_is_refused_and_changes_nothing() {
        let mut thing = Thermostat::default();
        let refusals = thing.desired(&Map::from_iter([("target".to_owned(), json!(31))]));
        assert_eq!(refusals, [Refusal::new("target", "not from 5 to 30 °C")]);
        assert_eq!(thing.reported().get("target"), Some(&json!(20.0)));
    }

    #[test]
    fn a_boost_heats_a_room_that_was_warm_enough_and_ends() {
        let mut thing = Thermostat { temperature: 20.0, ..Thermostat::default() };
        let outcome = thing.command("boost", &Map::from_iter([("minutes".to_owned(), json!(1))]));
        assert_eq!(outcome, Outcome::Done(json!({"minutes": 1, "heating": true})));
        thing.tick(Duration::from_secs(60));
        assert!(thing.boost.is_zero());
    }
}
