//! A device on a Bluetooth controller that waits to be told its Wi-Fi, by a protocol that others wrote (see README.md).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use improv_wifi::{
    AuthorizeMode, Capabilities, Connection, DeviceInfo, Error, ImprovWifi, ImprovWifiConfig, Network, WifiConfigurator, find_adapter,
    power_on_adapter,
};

/// Where the device leads a person to once it is in the network.
const URL: &str = "http://192.0.2.42/";

/// The one network that there is.
struct Home {
    ssid: String,
    passphrase: String,
    begin: Instant,
}

impl Home {
    fn say(&self, what: &str) {
        println!("{:8.3}  {what}", self.begin.elapsed().as_secs_f64());
    }
}

impl WifiConfigurator for Home {
    fn capabilities(&self) -> Capabilities {
        Capabilities { identify: true, device_info: true, scan: true, hostname: false }
    }

    async fn identify(&self) -> Result<(), Error> {
        self.say("blinks");
        Ok(())
    }

    async fn device_info(&self) -> Result<DeviceInfo, Error> {
        self.say("tells what it is");
        Ok(DeviceInfo {
            firmware: "peer".into(),
            version: "0.1.3".into(),
            hardware: "virtual".into(),
            device_name: "Kettle".into(),
            os_name: None,
            os_version: None,
        })
    }

    async fn scan(&self) -> Result<Vec<Network>, Error> {
        self.say("tells what networks it sees");
        Ok(vec![Network { ssid: self.ssid.clone(), rssi: -50, auth: "WPA2".into() }])
    }

    async fn get_hostname(&self) -> Result<String, Error> {
        Err(Error::UnknownRPC)
    }

    async fn set_hostname(&self, _name: String) -> Result<(), Error> {
        Err(Error::UnknownRPC)
    }

    async fn provision(&self, ssid: String, password: String) -> Result<Vec<String>, Error> {
        // As long as joining takes at the least.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if ssid == self.ssid && password == self.passphrase {
            self.say("joined the network");
            Ok(vec![URL.into()])
        } else {
            self.say("cannot join the network");
            Err(Error::UnableToConnect)
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [adapter, ssid, passphrase] = arguments.as_slice() else {
        bail!("usage: improv-peer ADAPTER SSID PASSPHRASE");
    };
    let home = Home { ssid: ssid.clone(), passphrase: passphrase.clone(), begin: Instant::now() };
    let bus = Connection::system().await.context("the system bus")?;
    let path = find_adapter(&bus, Some(adapter)).await.with_context(|| format!("the adapter {adapter}"))?;
    power_on_adapter(&bus, &path).await.context("switching the adapter on")?;
    home.say("waits to be told its network");
    let config =
        ImprovWifiConfig { authorize: AuthorizeMode::NotRequired, local_name: Some("Kettle".into()), ..ImprovWifiConfig::default() };
    let service = ImprovWifi::install(bus, path, home, config).await.context("offering the service")?;
    tokio::select! {
        done = service.run() => done.context("the service")?,
        _ = tokio::signal::ctrl_c() => bail!("stopped before it was told"),
    }
    println!("has been told");
    Ok(())
}
