//! What of an update happens on a connection: reports that go out one after the other, offers and pieces that come in. What is made of them
//! is `sim::firmware`'s.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::event::Event;
use super::session::{Session, Stop};
use super::{DeviceError, End};
use crate::sim::firmware::fetch::Fetch;
use crate::sim::firmware::update::Do;
use crate::sim::mqtt::{Message, Publish, Qos};

/// A request for a piece without an answer is made again after this.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Requests without an answer after which a download has failed.
const UNANSWERED: u32 = 12;
/// How far a download is, is told not more often than this.
const PROGRESS: Duration = Duration::from_secs(1);

/// A connection's part of an update.
pub(super) struct Line {
    reports: VecDeque<Value>,
    /// The report that is on its way, under this packet identifier.
    sent: Option<(u16, Value)>,
    /// The last report that went out, and when.
    last: Option<(Value, Instant)>,
    /// When the piece that is missing was asked for, and how often.
    asked: Option<Instant>,
    unanswered: u32,
    /// A piece is to be asked for.
    ask: bool,
    pub(super) fetch: Option<Fetch>,
    /// The hub has refused a subscription: it keeps this device to its update.
    pub(super) narrowed: bool,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { reports: VecDeque::new(), sent: None, last: None, asked: None, unanswered: 0, ask: false, fetch: None, narrowed: false }
    }
}

/// The next piece from the hub's page; none ever when nothing is fetched there.
pub(super) async fn fetched(fetch: &mut Option<Fetch>) -> Result<Vec<u8>, String> {
    match fetch {
        Some(fetch) => fetch.next().await,
        None => std::future::pending().await,
    }
}

impl Session<'_> {
    /// The topics of its room that it listens to for its firmware.
    pub(super) const FIRMWARE_TOPICS: [&'static str; 2] = ["firmware/offer", "firmware/chunk"];

    /// It has taken its place at the hub.
    pub(super) fn firmware_begins(&mut self) -> Result<Option<End>, Stop> {
        match self.device.firmware.as_mut().map(|firmware| firmware.signed_in()) {
            None => Ok(None),
            Some(todo) => self.carry_out(todo.map_err(DeviceError::from)?),
        }
    }

    /// A message on one of [`Session::FIRMWARE_TOPICS`].
    pub(super) fn firmware_message(&mut self, topic: &str, publish: &Publish) -> Result<Option<End>, Stop> {
        let Some(firmware) = &mut self.device.firmware else { return Ok(None) };
        let todo = match topic {
            "firmware/offer" => firmware.offered(&publish.payload).map_err(DeviceError::from)?,
            _ => match firmware.chunk(&publish.payload).map_err(DeviceError::from)? {
                Some(todo) => {
                    (self.line.asked, self.line.unanswered) = (None, 0);
                    todo
                }
                None => Vec::new(),
            },
        };
        self.carry_out(todo)
    }

    /// A piece came from the hub's page, or none will.
    pub(super) fn firmware_piece(&mut self, piece: Result<Vec<u8>, String>) -> Result<Option<End>, Stop> {
        let Some(firmware) = &mut self.device.firmware else { return Ok(None) };
        let todo = match piece {
            Ok(piece) => firmware.piece(&piece).map_err(DeviceError::from)?,
            Err(reason) => firmware.no_page(reason),
        };
        self.carry_out(todo)
    }

    /// The hub has acknowledged something.
    pub(super) fn firmware_acknowledged(&mut self, pid: u16, code: u8) -> Result<Option<End>, Stop> {
        let Some((_, report)) = self.line.sent.take_if(|(sent, _)| *sent == pid) else { return Ok(None) };
        let Some(firmware) = &mut self.device.firmware else { return Ok(None) };
        if code >= 0x80 {
            let message = "the hub refuses reports of firmware".into();
            self.device.tell(Event::ReportRefused { code: code.into(), message });
            return Ok(None);
        }
        let todo = firmware.heard(&report).map_err(DeviceError::from)?;
        let end = self.carry_out(todo)?;
        let confirmed = report.get("state").and_then(Value::as_str) == Some("confirmed");
        // What it was not allowed to listen to before, it may now.
        Ok(end.or_else(|| (confirmed && self.line.narrowed).then_some(End::AtOnce)))
    }

    fn carry_out(&mut self, todo: Vec<Do>) -> Result<Option<End>, Stop> {
        for step in todo {
            match step {
                Do::Tell(event) => self.device.tell(Event::Firmware(event)),
                Do::Report(report) => self.line.reports.push_back(report),
                Do::StopFetching => (self.line.fetch, self.line.ask, self.line.asked) = (None, false, None),
                Do::Fetch => self.fetch()?,
                Do::Restart => return Ok(Some(End::Restart)),
                Do::PowerCut => {
                    self.device.tell(Event::Firmware(crate::sim::firmware::Event::PowerCut));
                    return Ok(Some(End::PowerCut));
                }
            }
        }
        Ok(None)
    }

    /// Gets the next of the image: from the hub's page once the hub is known, else by asking for a piece.
    fn fetch(&mut self) -> Result<(), Stop> {
        if self.line.fetch.is_some() {
            return Ok(());
        }
        let device = &*self.device;
        let Some(wanted) = device.firmware.as_ref().and_then(|firmware| firmware.wants()) else { return Ok(()) };
        match (&wanted.source, device.flash.active(device.hub_id)) {
            (Some(source), Some(credential)) if device.tls => {
                let fetch = Fetch::begin(&device.hub.host, credential.ca.clone(), source.clone(), &wanted, device.step);
                self.line.fetch = Some(fetch);
            }
            _ => self.line.ask = true,
        }
        Ok(())
    }

    /// Lets time pass for an update.
    pub(super) fn firmware_tick(&mut self, now: Instant) -> Result<Option<End>, Stop> {
        let Some(firmware) = &mut self.device.firmware else { return Ok(None) };
        if firmware.wants().is_none() {
            return Ok(None);
        }
        let overdue = self.line.asked.is_some_and(|asked| now.duration_since(asked) >= ASK_AGAIN);
        if overdue {
            self.line.unanswered += 1;
            (self.line.asked, self.line.ask) = (None, true);
            if self.line.unanswered >= UNANSWERED {
                let todo = firmware.fail("download", "the hub gives no more of it").map_err(DeviceError::from)?;
                return self.carry_out(todo);
            }
        }
        let report = firmware.report();
        let due = self.line.last.as_ref().is_none_or(|(last, at)| *last != report && now.duration_since(*at) >= PROGRESS);
        if due && self.line.reports.is_empty() && self.line.sent.is_none() {
            self.line.reports.push_back(report);
        }
        Ok(None)
    }

    /// Puts what is to be told or asked for into the send buffer: one report at a time.
    pub(super) fn firmware_send(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        if self.line.sent.is_none()
            && let Some(report) = self.line.reports.pop_front()
        {
            let message = Message::new(format!("{}firmware/report", self.room), report.to_string(), Qos::AtLeastOnce);
            self.line.last = Some((report.clone(), now));
            self.line.sent = self.client.start_publish(&message)?.map(|pid| (pid, report));
        }
        if std::mem::take(&mut self.line.ask)
            && let Some(wanted) = self.device.firmware.as_ref().and_then(|firmware| firmware.wants())
        {
            let ask = json!({"offer": wanted.offer, "offset": wanted.offset, "length": wanted.chunk}).to_string();
            self.client.start_publish(&Message::new(format!("{}firmware/get", self.room), ask, Qos::AtMostOnce))?;
            self.line.asked = Some(now);
        }
        Ok(())
    }
}
