//! A simulated hub: what its house has, and how that changes.

use super::Settings;
use super::line::{Bytes, Failure, Line, now_ms};
use crate::domain::mirror::statement::LinkStatement;
use crate::domain::mirror::wire::{ClockReading, Consent, Kind, Mark, Row, SyncReply, SyncRequest, VERSION};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

/// What a call came to.
#[derive(Default)]
pub(super) struct Done {
    pub rows: usize,
    pub marks: usize,
    pub up: Bytes,
    pub down: Bytes,
}

/// A batch that is on its way: sent again as it is until it is answered.
struct Batch {
    body: Vec<u8>,
    rows: usize,
    marks: usize,
}

/// A house's hub.
pub(super) struct Hub {
    line: Line,
    cloud: [u8; 32],
    region: String,
    devices: usize,
    rows: usize,
    mark_every: usize,
    batch: u64,
    cursor: u64,
    /// Counts changes; versions are made of it.
    changes: u64,
    /// Generation of the right that is ended and given again.
    generation: u64,
    waiting: Option<Batch>,
    stream: Option<reqwest::Response>,
}

impl Hub {
    pub(super) fn new(line: Line, region: &str, cloud: [u8; 32], settings: &Settings) -> Hub {
        Hub {
            line,
            cloud,
            region: region.to_owned(),
            devices: settings.devices,
            rows: settings.rows,
            mark_every: settings.mark_every,
            batch: 1,
            cursor: 0,
            changes: 0,
            generation: 1,
            waiting: None,
            stream: None,
        }
    }

    /// Links: devices, rights and twins are mirrored, nothing may be asked for.
    pub(super) async fn link(&mut self) -> Result<Done, Failure> {
        let link = LinkStatement {
            identity: self.line.identity.verifying_key().to_bytes(),
            mirror: self.line.mirror.verifying_key().to_bytes(),
            epoch: 1,
            recovery: None,
            recipient: age::x25519::Identity::generate().to_public().to_string(),
            name: String::new(),
            region: self.region.clone(),
            consent: [Consent::Devices, Consent::Twins].into(),
            at_s: now_ms() / 1000,
            cloud: self.cloud,
            code: String::new(),
        };
        let body = json!({"link": BASE64URL_NOPAD.encode(&link.sign(&self.line.identity))});
        let reply = self.line.post("/v1/hubs", body.to_string().into_bytes()).await?;
        Ok(Done { up: reply.up, down: reply.down, ..Done::default() })
    }

    /// Opens the stream of wake-ups, and holds it.
    pub(super) async fn wake(&mut self) -> Result<Done, Failure> {
        let path = format!("/v1/hubs/{}/wake?cursor={}", self.line.hub, self.cursor);
        let (stream, up, down) = self.line.stream(&path).await?;
        self.stream = Some(stream);
        Ok(Done { up, down, ..Done::default() })
    }

    /// Sends everything, or what has changed.
    pub(super) async fn sync(&mut self, whole: bool) -> Result<Done, Failure> {
        if self.waiting.is_none() {
            self.waiting = Some(self.prepare(whole)?);
        }
        let Some(batch) = &self.waiting else { return Err(Failure::Here("there is no batch".to_owned())) };
        let path = format!("/v1/hubs/{}/sync", self.line.hub);
        let reply = match self.line.post(&path, batch.body.clone()).await {
            Ok(reply) => reply,
            Err(failure) => {
                if let Failure::Refused { batch: Some(expected), .. } = failure {
                    self.batch = expected;
                    self.waiting = None;
                }
                return Err(failure);
            }
        };
        let taken: SyncReply = serde_json::from_slice(&reply.body).map_err(|error| Failure::Here(format!("a reply: {error}")))?;
        if taken.ack != self.batch {
            return Err(Failure::Here("a reply is to another batch".to_owned()));
        }
        let done = Done { rows: batch.rows, marks: batch.marks, up: reply.up, down: reply.down };
        self.waiting = None;
        self.batch += 1;
        self.cursor = taken.cursor;
        Ok(done)
    }

    fn prepare(&mut self, whole: bool) -> Result<Batch, Failure> {
        let mut request = SyncRequest {
            v: VERSION,
            epoch: 1,
            batch: self.batch,
            cursor: self.cursor,
            clock: ClockReading { now: now_ms(), grade: "ntp".to_owned() },
            ..SyncRequest::default()
        };
        if whole {
            request.put.push(self.user());
            for device in 0..self.devices {
                request.put.push(self.device(device));
                request.put.push(self.binding(device));
                request.twin.push(self.twin(device));
            }
        } else {
            let ends = self.mark_every > 0 && self.batch.is_multiple_of(self.mark_every as u64);
            if ends {
                request.revoke.push(self.end());
                request.put.push(self.binding(0));
            }
            // Of four changes, three are what devices say and one is of a right.
            while request.put.len() + request.twin.len() < self.rows {
                self.changes += 1;
                let device = usize::try_from(self.changes).unwrap_or(0) % self.devices;
                if self.changes.is_multiple_of(4) {
                    request.put.push(self.binding(device));
                } else {
                    request.twin.push(self.twin(device));
                }
            }
        }
        let (rows, marks) = (request.put.len() + request.twin.len(), request.revoke.len());
        let body = serde_json::to_vec(&request).map_err(|error| Failure::Here(error.to_string()))?;
        Ok(Batch { body, rows, marks })
    }

    fn row(&self, kind: Kind, key: String, generation: u64, body: Value) -> Row {
        Row { kind, key, generation, version: self.changes + 1, origin: self.line.hub.to_string(), body }
    }

    /// Ids are found nowhere else: a device belongs to one house.
    fn id(&self, device: usize) -> String {
        let hub: String = self.line.hub.to_string().chars().take(16).collect();
        format!("load-{hub}-{device}")
    }

    fn person(&self) -> String {
        format!("user:{}", &self.line.hub)
    }

    fn user(&self) -> Row {
        self.row(Kind::User, self.line.hub.to_string(), 1, json!({"role": "owner"}))
    }

    fn device(&self, device: usize) -> Row {
        let body = json!({
            "brand": "load", "claimed_at": now_ms(), "firmware": "1.0.0", "hardware": "A", "model": "lamp", "name": "Lamp", "resets": 0,
            "room": "Hall", "serial": format!("S{device}"), "standing": "active", "trust": "attested",
        });
        self.row(Kind::Device, self.id(device), 1, body)
    }

    fn binding(&self, device: usize) -> Row {
        let id = self.id(device);
        let body = json!({
            "device": id, "granted_at": now_ms(), "granted_by": self.person(), "subject": self.person(),
            "terms": {"privilege": "administer", "scope": "all"},
        });
        let generation = if device == 0 { self.generation } else { 1 };
        self.row(Kind::Binding, format!("{id}/{}", self.person()), generation, body)
    }

    fn twin(&self, device: usize) -> Row {
        let (brightness, celsius) = (self.changes % 100, 20.0 + (self.changes % 50) as f64 / 10.0);
        let body = json!({
            "at": now_ms(), "desired": {"brightness": brightness, "on": true},
            "reported": {"brightness": brightness, "celsius": celsius, "on": true, "rssi": -61}, "version": self.changes + 1,
        });
        self.row(Kind::Twin, self.id(device), 1, body)
    }

    /// Ends the right to the first device; it is given again in the same batch.
    fn end(&mut self) -> Mark {
        let key = format!("{}/{}", self.id(0), self.person());
        let mark = Mark { kind: Kind::Binding, key, generation: self.generation, at: now_ms(), by: self.person() };
        self.generation += 1;
        mark
    }
}
