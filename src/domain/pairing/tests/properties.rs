//! The hub's side under a link that loses, repeats, moves and makes up values, under a device that says anything, and under a hub that decides at
//! any time. More of it by hand: `PROPTEST_CASES=100000`.

use proptest::prelude::*;

use super::table::{Device, delivery, id, label, opening};
use crate::domain::pairing::*;

#[derive(Debug, Clone)]
enum Step {
    /// The oldest notification arrives, as it is or otherwise.
    Arrives,
    Lost,
    Twice,
    LaterThanTheNext,
    Changed(u8),
    /// A value of nobody's.
    Noise(Vec<u8>),
    /// The device says something of its own, well sealed.
    Says(u8),
    Acknowledged,
    Pass(u64),
    Hub(u8),
    Hangup,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        200 => Just(Step::Arrives),
        200 => Just(Step::Acknowledged),
        1 => Just(Step::Lost),
        1 => Just(Step::Twice),
        1 => Just(Step::LaterThanTheNext),
        1 => any::<u8>().prop_map(Step::Changed),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Noise),
        2 => (0..8u8).prop_map(Step::Says),
        2 => prop_oneof![4 => 0..2_000u64, 1 => 0..400_000u64].prop_map(Step::Pass),
        14 => prop_oneof![8 => Just(1), 6 => Just(0), 3 => Just(3), 1 => 0..6u8].prop_map(Step::Hub),
        1 => Just(Step::Hangup),
    ];
    prop::collection::vec(step, 0..400)
}

struct World {
    hub: Pairing,
    device: Device,
    now: u64,
    /// Notifications on their way.
    air: std::collections::VecDeque<Vec<u8>>,
    in_flight: bool,
    judged: bool,
    delivered: bool,
    ended: bool,
    complete: bool,
    signed_in: bool,
}

impl World {
    fn new(mtu: u16) -> Self {
        let (hub, device) = (Pairing::start(opening(mtu), 0), Device::new(label(), mtu));
        let [in_flight, judged, delivered, ended, complete, signed_in] = [false; 6];
        Self { hub, device, now: 0, air: Default::default(), in_flight, judged, delivered, ended, complete, signed_in }
    }

    fn arrives(&mut self, value: Option<Vec<u8>>) {
        if let Some(value) = value {
            self.hub.received(&value, self.now);
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Arrives => {
                let value = self.air.pop_front();
                self.arrives(value);
            }
            Step::Lost => drop(self.air.pop_front()),
            Step::Twice => {
                let value = self.air.pop_front();
                self.arrives(value.clone());
                self.arrives(value);
            }
            Step::LaterThanTheNext => {
                if self.air.len() > 1 {
                    self.air.swap(0, 1);
                }
            }
            Step::Changed(by) => {
                if let Some(byte) = self.air.front_mut().and_then(|value| value.last_mut()) {
                    *byte ^= by;
                }
            }
            Step::Noise(value) => self.hub.received(value, self.now),
            Step::Says(which) => self.says(*which),
            Step::Acknowledged => {
                self.hub.written(self.now);
                self.in_flight = false;
            }
            Step::Pass(time) => {
                self.now += time;
                self.hub.tick(self.now);
            }
            Step::Hub(0) => self.hub.want_model(self.now),
            Step::Hub(1) => {
                self.delivered |= self.judged;
                self.hub.deliver(delivery(), self.now);
            }
            Step::Hub(2) => self.hub.refuse(EndCode::NotTrusted, "no", self.now),
            Step::Hub(3) => {
                self.signed_in |= self.delivered;
                self.hub.signed_in(self.now);
            }
            Step::Hub(4) => self.hub.person_asked(self.now),
            Step::Hub(_) => self.hub.cancel(self.now),
            Step::Hangup => self.hub.lost(self.now),
        }
    }

    fn says(&mut self, which: u8) {
        let Some(channel) = &self.device.channel else { return };
        let message = match which {
            0 => Message::Hello(self.device.hello(&channel.h())),
            1 => Message::WantModel(7),
            2 => Message::ModelPart(0, vec![1; 90]),
            3 => Message::Credential(delivery()),
            4 => Message::Stored,
            5 => Message::Progress(DeviceStep::Joining, 1),
            6 => Message::end(EndCode::NetworkFails, "no network"),
            _ => Message::Complete,
        };
        let values = self.device.say(&message);
        self.air.extend(values);
    }

    /// What is to hold after every input.
    fn look(&mut self) -> Result<(), TestCaseError> {
        while let Some(event) = self.hub.poll() {
            prop_assert!(!self.ended, "{:?} after the end", event);
            match event {
                Event::Write(value) => {
                    prop_assert!(!self.in_flight, "a value before the last was acknowledged");
                    self.in_flight = true;
                    let answers = self.device.take(&value);
                    self.air.extend(answers);
                }
                Event::Hello { hello, .. } => {
                    prop_assert_eq!(hello.device, id());
                    self.judged = true;
                }
                Event::Ended(ending) => {
                    self.ended = true;
                    self.complete = ending == Ending::Complete;
                }
                _ => {}
            }
        }
        if self.device.heard.iter().any(|message| matches!(message, Message::Credential(_))) {
            prop_assert!(self.delivered, "a credential without a hello that was judged");
        }
        prop_assert!(!self.complete || self.signed_in);
        prop_assert_eq!(self.hub.deadline().is_none(), self.ended);
        prop_assert!(self.hub.deadline().is_none_or(|deadline| deadline > self.now), "a deadline that is over");
        prop_assert!(!self.ended || self.hub.holds_nothing());
        Ok(())
    }
}

proptest! {
    #[test]
    fn whatever_happens_it_ends_in_its_time_and_hands_over_nothing_unjudged(steps in steps(), mtu in 23..=517u16, full in any::<bool>()) {
        let mut world = World::new(mtu);
        if !full {
            world.device.part.truncate(200);
        }
        world.look()?;
        for step in &steps {
            world.apply(step);
            world.look()?;
        }
        // Nobody does anything any more: each wait ends, and after the last one nothing is waited for.
        let most = world.now + WHOLE_MS + PERSON_MS + SIGN_IN_MS + PARTING_MS;
        for _ in 0..3 {
            let Some(deadline) = world.hub.deadline() else { break };
            prop_assert!(deadline <= most);
            world.now = deadline;
            world.hub.tick(deadline);
            world.look()?;
        }
        prop_assert!(world.ended);
    }

    #[test]
    fn nobody_without_the_code_gets_past_the_greeting(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..60)) {
        let mut hub = Pairing::start(opening(23), 0);
        for value in values {
            hub.written(0);
            hub.received(&value, 0);
            while let Some(event) = hub.poll() {
                prop_assert!(matches!(event, Event::Write(_) | Event::Ended(Ending::Failed(_))), "{:?}", event);
            }
        }
    }
}
