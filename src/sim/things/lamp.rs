//! A dimmable lamp with a colour temperature.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Fault, Outcome, Refusal, Thing};

/// How long `identify` blinks.
const IDENTIFY: Duration = Duration::from_secs(3);

/// A lamp.
#[derive(Debug)]
pub struct Lamp {
    on: bool,
    brightness: i64,
    color_temperature: i64,
    blinking: Option<Duration>,
    ended: bool,
}

impl Default for Lamp {
    fn default() -> Self {
        Self { on: false, brightness: 80, color_temperature: 2700, blinking: None, ended: false }
    }
}

impl Thing for Lamp {
    fn reported(&self) -> Map<String, Value> {
        Map::from_iter([
            ("on".to_owned(), json!(self.on)),
            ("brightness".to_owned(), json!(self.brightness)),
            ("color_temperature".to_owned(), json!(self.color_temperature)),
        ])
    }

    fn tick(&mut self, dt: Duration) -> bool {
        match self.blinking.map(|left| left.saturating_sub(dt)) {
            Some(Duration::ZERO) => {
                self.blinking = None;
                self.ended = true;
            }
            left => self.blinking = left,
        }
        false
    }

    fn desired(&mut self, delta: &Map<String, Value>) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for (name, value) in delta {
            match name.as_str() {
                "on" => match value.as_bool() {
                    Some(on) => self.on = on,
                    None => refusals.push(Refusal::new(name, "not a boolean")),
                },
                "brightness" => match super::integer(value, 1, 100) {
                    Some(brightness) => self.brightness = brightness,
                    None => refusals.push(Refusal::new(name, "not from 1 to 100 %")),
                },
                "color_temperature" => match super::integer(value, 2200, 6500) {
                    Some(kelvin) => self.color_temperature = kelvin,
                    None => refusals.push(Refusal::new(name, "not from 2200 to 6500 K")),
                },
                _ => refusals.push(Refusal::new(name, "cannot be set")),
            }
        }
        refusals
    }

    fn command(&mut self, name: &str, _args: &Map<String, Value>) -> Outcome {
        match name {
            "identify" if self.blinking.is_some() => Outcome::Failed("it blinks already".into()),
            "identify" => {
                self.blinking = Some(IDENTIFY);
                Outcome::Running
            }
            _ => Outcome::Failed(format!("no command {name}")),
        }
    }

    fn finished(&mut self) -> Option<Outcome> {
        std::mem::take(&mut self.ended).then(|| Outcome::Done(json!({"blinked_s": IDENTIFY.as_secs()})))
    }

    fn fault(&mut self, _fault: Fault, _present: bool) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lamp_takes_what_is_in_range_and_refuses_the_rest() {
        let mut lamp = Lamp::default();
        let delta = Map::from_iter([("on".to_owned(), json!(true)), ("brightness".to_owned(), json!(0))]);
        assert_eq!(lamp.desired(&delta), [Refusal::new("brightness", "not from 1 to 100 %")]);
        assert_eq!(lamp.reported().get("on"), Some(&json!(true)));
        assert_eq!(lamp.reported().get("brightness"), Some(&json!(80)));
    }

    #[test]
    fn identify_runs_for_its_time_and_is_done_once() {
        let mut lamp = Lamp::default();
        assert_eq!(lamp.command("identify", &Map::new()), Outcome::Running);
        lamp.tick(IDENTIFY / 2);
        assert_eq!(lamp.finished(), None);
        lamp.tick(IDENTIFY / 2);
        assert!(matches!(lamp.finished(), Some(Outcome::Done(_))));
        assert_eq!(lamp.finished(), None);
    }
}
