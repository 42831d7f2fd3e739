//! A private D-Bus daemon in a directory of its own, ended with the value that holds it.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use data_encoding::HEXLOWER;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::AirError;

/// Within this time the daemon says where it listens.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How much of the daemon's complaint is shown, in bytes.
const COMPLAINT: u64 = 2048;

/// The daemon and its directory.
pub(in crate::sim) struct Bus {
    directory: PathBuf,
    child: Option<Child>,
}

impl Bus {
    pub(in crate::sim) async fn start() -> Result<Self, AirError> {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).map_err(|error| AirError::Entropy(error.to_string()))?;
        // A short path: the name of a socket has at most 107 bytes.
        let directory = std::env::temp_dir().join(format!("hearthkey-air-{}", HEXLOWER.encode(&random)));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&directory);
        let mut bus = Self { directory, child: None };
        made.and_then(|()| std::fs::write(bus.configuration(), bus.policy()))
            .map_err(|error| AirError::Bus(format!("{}: {error}", bus.directory.display())))?;
        bus.spawn().await?;
        Ok(bus)
    }

    /// Where a client connects.
    pub(in crate::sim) fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// Starts the daemon if it does not run; it listens when this returns.
    pub(super) async fn spawn(&mut self) -> Result<(), AirError> {
        if self.child.is_some() {
            return Ok(());
        }
        let _ = std::fs::remove_file(self.socket());
        let spawned = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", self.configuration().display()))
            .args(["--nofork", "--nopidfile", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(AirError::NoBus),
            Err(error) => return Err(AirError::Bus(error.to_string())),
            Ok(child) => child,
        };
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = BufReader::new(stdout.take(4096));
            let read = timeout(READY_WITHIN, stdout.read_line(&mut line)).await;
            read.map_err(|_| AirError::Bus("it does not say where it listens".into()))?
                .map_err(|error| AirError::Bus(error.to_string()))?;
        }
        if line.trim().is_empty() {
            let mut complaint = String::new();
            if let Some(stderr) = child.stderr.take() {
                let _ = timeout(READY_WITHIN, stderr.take(COMPLAINT).read_to_string(&mut complaint)).await;
            }
            return Err(AirError::Bus(complaint.trim().to_owned()));
        }
        self.child = Some(child);
        Ok(())
    }

    /// Ends the daemon.
    pub(super) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().await;
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("bus")
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("bus.conf")
    }

    fn policy(&self) -> String {
        format!(
            r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>{}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#,
            self.address()
        )
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // The daemon ends with its `Child`.
        drop(self.child.take());
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
