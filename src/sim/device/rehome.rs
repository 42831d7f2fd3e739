//! A device whose hub does not answer any more, or is another than the one it knows, asks the hubs near it whether there is
//! an order for it to move. What they say is believed only if it was made with the device's own key.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::event::Event;
use super::{Device, DeviceError};
use crate::sim::identity::ORDER_MAX;
use crate::sim::network;
use crate::sim::tls::{self, Address, Security, Trust};

/// Bytes of an answer's head at most.
const HEAD_MAX: usize = 16 * 1024;
/// Hubs that are asked at a time.
const ASKED: usize = 8;
/// The port of a hub's page, where nothing else is known.
const HTTPS: u16 = 8443;
/// How long hubs are looked for by mDNS.
const LOOK: Duration = Duration::from_secs(3);

/// A hub near the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its HTTPS.
    pub https: Address,
    /// Its MQTT over TLS.
    pub mqtts: Address,
}

impl Device {
    /// Whether it has moved to another hub: then it connects again at once.
    pub(super) async fn look_for_order(&mut self) -> Result<bool, DeviceError> {
        // One that belongs nowhere waits to be claimed instead.
        if !self.tls || !self.flash.belongs_to(self.hub_id) {
            return Ok(false);
        }
        let mut near = self.nearby.clone();
        if let Some(interfaces) = &self.search {
            near.extend(network::hubs(interfaces, LOOK).await.unwrap_or_default());
        }
        if near.is_empty() {
            // Another box may stand where its hub stood.
            near.push(Neighbour { https: Address { host: self.hub.host.clone(), port: HTTPS }, mqtts: self.hub.clone() });
        }
        for hub in near.into_iter().take(ASKED) {
            let Some(order) = fetch(&hub.https, &self.secret.device_id, self.step).await else { continue };
            match self.secret.open_order(&order, self.flash.rehomed(), self.hub_id) {
                Ok(order) => {
                    // On the disk before anything else is done; from here on it is the new hub's.
                    self.flash.move_to(self.hub_id, &order)?;
                    self.keys = self.secret.for_hub(order.to);
                    (self.hub_id, self.hub) = (order.to, hub.mqtts);
                    (self.refusals, self.fallen_back, self.patient) = (0, false, false);
                    self.tell(Event::Moved { hub: order.to, counter: order.counter });
                    return Ok(true);
                }
                Err(error) => self.tell(Event::MoveRefused { reason: error.to_string() }),
            }
        }
        Ok(false)
    }
}

/// What a hub has for this device; nothing for any reason.
async fn fetch(address: &Address, device_id: &str, step: Duration) -> Option<Vec<u8>> {
    let connection = tls::dial(address, &Security { trust: Trust::FirstUse, client: None }, step).await.ok()?;
    let mut stream = connection.stream;
    let asking = async {
        let request = format!("GET /rehome/{device_id} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        let mut part = [0u8; 4096];
        // Read to its end, whatever it claims to be.
        loop {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => break,
                Ok(read) => answer.extend_from_slice(part.get(..read).unwrap_or_default()),
            }
            if answer.len() > HEAD_MAX + ORDER_MAX || whole(&answer).is_some() {
                break;
            }
        }
        whole(&answer)
    };
    timeout(step, asking).await.ok().flatten()
}

/// The body of an answer `200` with a length, once all of it is there.
fn whole(answer: &[u8]) -> Option<Vec<u8>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    lines.next().filter(|line| line.starts_with("HTTP/1.1 200"))?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    answer.get(end + 4..end + 4 + length.min(ORDER_MAX)).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_that_says_yes_is_an_order() {
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), Some(b"abc".to_vec()));
        for other in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc"[..],
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n",
            b"",
        ] {
            assert_eq!(whole(other), None);
        }
    }
}
