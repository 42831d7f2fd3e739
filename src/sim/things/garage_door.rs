//! A garage door opener: a tenth of its way every half second, a light, and things that stand in the way.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Fault, Outcome, Refusal, Thing};

/// Time for a step of 10 %.
const STEP: Duration = Duration::from_millis(500);
/// How long an open door waits before `auto_close` closes it.
const AUTO_CLOSE: Duration = Duration::from_secs(30);

/// A garage door.
#[derive(Debug, Default)]
pub struct GarageDoor {
    position: u8,
    target: Option<u8>,
    obstructed: bool,
    obstacle: Option<u8>,
    /// Whether the obstacle was met on the way up; it then blocks that way alone.
    met_opening: Option<bool>,
    auto_close: bool,
    light: bool,
    since_step: Duration,
    open_for: Duration,
    /// Whether a command waits for the movement to end.
    commanded: bool,
    ended: Option<Outcome>,
}

impl GarageDoor {
    fn state(&self) -> &'static str {
        match self.target {
            Some(target) if target > self.position => "opening",
            Some(_) => "closing",
            None if self.obstructed => "obstructed",
            None if self.position == 0 => "closed",
            None => "open",
        }
    }

    fn result(&self) -> Value {
        json!({"position": self.position, "state": self.state()})
    }

    /// Ends the movement, and the command that waits for it.
    fn stop(&mut self, reason: Result<(), &str>) {
        self.target = None;
        if std::mem::take(&mut self.commanded) {
            self.ended = Some(match reason {
                Ok(()) => Outcome::Done(self.result()),
                Err(reason) => Outcome::Failed(reason.to_owned()),
            });
        }
    }

    fn go(&mut self, target: u8) -> Outcome {
        if self.target.is_some() {
            self.stop(Err("another command took over"));
        }
        self.obstructed = false;
        if target == self.position {
            return Outcome::Done(self.result());
        }
        self.target = Some(target);
        self.since_step = Duration::ZERO;
        self.commanded = true;
        Outcome::Running
    }

    /// One step towards the target; an obstacle between here and there stops the door before it.
    fn step(&mut self, target: u8) {
        let next = if target > self.position {
            self.position.saturating_add(10).min(target)
        } else {
            self.position.saturating_sub(10).max(target)
        };
        let opening = target > self.position;
        let between = |at: u8| if opening { at > self.position && at <= next } else { at < self.position && at >= next };
        match self.obstacle {
            Some(at) if between(at) || (at == self.position && self.met_opening == Some(opening)) => {
                self.position = at;
                self.obstructed = true;
                self.met_opening = Some(opening);
                self.stop(Err("something is in the way"));
            }
            _ => {
                self.position = next;
                if next == target {
                    self.stop(Ok(()));
                }
            }
        }
    }
}

impl Thing for GarageDoor {
    fn reported(&self) -> Map<String, Value> {
        Map::from_iter([
            ("position".to_owned(), json!(self.position)),
            ("state".to_owned(), json!(self.state())),
            ("auto_close".to_owned(), json!(self.auto_close)),
            ("light".to_owned(), json!(self.light)),
        ])
    }

    fn tick(&mut self, dt: Duration) -> bool {
        let Some(target) = self.target else {
            self.open_for = if self.position == 0 { Duration::ZERO } else { self.open_for + dt };
            if self.auto_close && !self.obstructed && self.open_for >= AUTO_CLOSE {
                self.open_for = Duration::ZERO;
                self.target = Some(0);
                self.since_step = Duration::ZERO;
                return true;
            }
            return false;
        };
        self.open_for = Duration::ZERO;
        self.since_step += dt;
        let mut moved = false;
        while self.since_step >= STEP && self.target.is_some() {
            self.since_step -= STEP;
            self.step(target);
            moved = true;
        }
        moved
    }

    fn desired(&mut self, delta: &Map<String, Value>) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for (name, value) in delta {
            match (name.as_str(), value.as_bool()) {
                ("auto_close", Some(on)) => self.auto_close = on,
                ("light", Some(on)) => self.light = on,
                ("auto_close" | "light", None) => refusals.push(Refusal::new(name, "not a boolean")),
                _ => refusals.push(Refusal::new(name, "cannot be set")),
            }
        }
        refusals
    }

    fn command(&mut self, name: &str, args: &Map<String, Value>) -> Outcome {
        match name {
            "open" => match args.get("to") {
                None => self.go(100),
                Some(to) => match super::integer(to, 1, 100).and_then(|to| u8::try_from(to).ok()) {
                    Some(to) => self.go(to),
                    None => Outcome::Failed("to is not from 1 to 100".into()),
                },
            },
            "close" => self.go(0),
            "stop" => {
                self.stop(Err("stopped"));
                Outcome::Done(self.result())
            }
            _ => Outcome::Failed(format!("no command {name}")),
        }
    }

    fn finished(&mut self) -> Option<Outcome> {
        self.ended.take()
    }

    fn fault(&mut self, fault: Fault, present: bool) -> bool {
        let Fault::Obstruction { at } = fault else { return false };
        self.obstacle = present.then_some(at);
        self.met_opening = None;
        if !present {
            self.obstructed = false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(door: &mut GarageDoor, steps: u32) {
        door.tick(STEP * steps);
    }

    #[test]
    fn a_door_opens_in_ten_steps_and_then_says_so() {
        let mut door = GarageDoor::default();
        assert_eq!(door.command("open", &Map::new()), Outcome::Running);
        run(&mut door, 9);
        assert_eq!((door.position, door.state()), (90, "opening"));
        assert_eq!(door.finished(), None);
        run(&mut door, 1);
        assert_eq!(door.finished(), Some(Outcome::Done(json!({"position": 100, "state": "open"}))));
        assert_eq!(door.finished(), None);
    }

    #[test]
    fn an_obstacle_stops_the_door_and_fails_the_command() {
        let mut door = GarageDoor::default();
        assert!(door.fault(Fault::Obstruction { at: 60 }, true));
        door.command("open", &Map::new());
        run(&mut door, 20);
        assert_eq!((door.position, door.state()), (60, "obstructed"));
        assert_eq!(door.finished(), Some(Outcome::Failed("something is in the way".into())));
    }

    #[test]
    fn a_door_that_met_an_obstacle_goes_back_and_not_on() {
        let mut door = GarageDoor::default();
        door.fault(Fault::Obstruction { at: 60 }, true);
        door.command("open", &Map::new());
        run(&mut door, 10);
        door.command("open", &Map::new());
        run(&mut door, 10);
        assert_eq!((door.position, door.state()), (60, "obstructed"));
        door.command("close", &Map::new());
        run(&mut door, 6);
        assert_eq!((door.position, door.state()), (0, "closed"));
    }

    #[test]
    fn a_second_command_takes_over_and_the_first_has_failed() {
        let mut door = GarageDoor::default();
        door.command("open", &Map::new());
        run(&mut door, 3);
        assert_eq!(door.command("close", &Map::new()), Outcome::Running);
        assert!(matches!(door.finished(), Some(Outcome::Failed(_))));
        run(&mut door, 3);
        assert_eq!((door.position, door.state()), (0, "closed"));
        assert!(matches!(door.finished(), Some(Outcome::Done(_))));
    }

    #[test]
    fn a_door_left_open_closes_itself_when_told_so() {
        let mut door = GarageDoor { position: 100, auto_close: true, ..GarageDoor::default() };
        assert!(door.tick(AUTO_CLOSE));
        assert_eq!(door.state(), "closing");
    }

    #[test]
    fn the_position_cannot_be_desired() {
        let mut door = GarageDoor::default();
        let delta = Map::from_iter([("position".to_owned(), json!(50)), ("light".to_owned(), json!(true))]);
        assert_eq!(door.desired(&delta), [Refusal::new("position", "cannot be set")]);
        assert_eq!((door.position, door.light), (0, true));
    }
}
