//! Move orders for devices of a stolen hub, for a home whose makers are in no cloud: made of the device keys themselves, for
//! the hub that asks.

use std::path::{Path, PathBuf};

use super::files::{self, Mode};
use super::run::RunChoice;
use super::{FactoryError, Workshop, now, random};
use crate::domain::ids::{BrandId, DeviceId, HubId};
use crate::domain::keys::seal_order;
use crate::domain::rehome::{FILE_ORDERS_MAX, MoveRequest, write_orders};
use std::io::Write;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovesReport {
    /// The hub that the devices are told to go to.
    pub hub: HubId,
    /// The hubs that they may be leaving.
    pub from: Vec<HubId>,
    /// How many devices are told.
    pub devices: u64,
    /// The number of their orders.
    pub counter: u64,
    /// Where it is.
    pub path: PathBuf,
}

impl Workshop {
    /// Writes orders for `devices` of the chosen runs (all of them when it is empty) to move to the hub that printed `request`.
    /// `counter` is above every one that was made before for these devices; the time in s when it is left out, as a cloud
    /// counts too.
    ///
    /// # Errors
    /// [`FactoryError::Statement`] when the request does not hold; [`FactoryError::NoRun`]; [`FactoryError::Order`] when there is
    /// nobody to tell, or too many.
    pub fn rehome(
        &self,
        brand: &BrandId,
        choice: &RunChoice,
        request: &str,
        devices: &[DeviceId],
        counter: Option<u64>,
        out: &Path,
    ) -> Result<MovesReport, FactoryError> {
        let request = MoveRequest::parse(request)?;
        let (made, counter) = (now(), counter.unwrap_or_else(now));
        let order = request.order(made);
        let mut orders = Vec::new();
        for run in self.choose(brand, choice)? {
            for device in run.devices() {
                let device = device?;
                if !devices.is_empty() && !devices.contains(&device.device_id) {
                    continue;
                }
                if orders.len() >= FILE_ORDERS_MAX {
                    return Err(FactoryError::Order("a file has orders for at most 10000 devices: name those of the home with --device"));
                }
                let sealed = seal_order(&device.key, &device.device_id, counter, random()?, &order);
                orders.push(sealed.map_err(|_| FactoryError::Order("the counter is 1 to 2^63 - 1"))?);
            }
        }
        if orders.is_empty() {
            return Err(FactoryError::Order("none of these devices is in the chosen runs"));
        }
        let (mut file, part) = files::begin(out, Mode::Private)?;
        let bytes = write_orders(&orders);
        let written = file.write_all(&bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&part, out));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&part);
            return Err(files::at(out)(error));
        }
        Ok(MovesReport { hub: request.hub(), from: request.from, devices: orders.len() as u64, counter, path: out.to_path_buf() })
    }
}
