//! The peer: Debian's mosquitto, with a password file and an ACL that allow exactly what the hub allows.

use super::hub::Credentials;
use super::process::{Process, free_address, wait_for};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where mosquitto is, if it is installed, and its version.
pub fn find() -> Option<(PathBuf, String)> {
    let path =
        ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"].map(PathBuf::from).into_iter().find(|p| p.exists())?;
    let said = Command::new(&path).arg("-h").output().ok()?;
    let first = String::from_utf8_lossy(&said.stdout).lines().next().unwrap_or_default().to_owned();
    Some((path, first.replace("mosquitto version ", "")))
}

/// Starts one: devices may use their own room, the person may read all of them.
pub fn start(program: &Path, dir: &Path, who: &Credentials) -> Process {
    let address = free_address();
    let (passwords, acl, config) = (dir.join("passwd"), dir.join("acl"), dir.join("mosquitto.conf"));
    let mut lines = format!("{}:{}\n", who.person.0, who.person.1);
    let mut rights = format!("user {}\ntopic read things/+/bench\n", who.person.0);
    for (name, secret) in &who.devices {
        lines += &format!("{name}:{secret}\n");
        rights += &format!("\nuser {name}\ntopic readwrite things/{name}/#\n");
    }
    std::fs::write(&passwords, lines).expect("the password file");
    std::fs::write(&acl, rights).expect("the ACL file");
    let hashed = Command::new("mosquitto_passwd").arg("-U").arg(&passwords).status().expect("mosquitto_passwd");
    assert!(hashed.success(), "mosquitto_passwd failed");
    // As many messages in flight as the hub allows: the default of 20 would hold mosquitto back.
    let text = format!(
        "listener {} 127.0.0.1\nallow_anonymous false\npassword_file {}\nacl_file {}\nlog_type none\npersistence false\n\
         max_queued_messages 0\nmax_inflight_messages 256\nset_tcp_nodelay true\nuser root\n",
        address.port(),
        passwords.display(),
        acl.display()
    );
    std::fs::write(&config, text).expect("the configuration");
    let child = Command::new(program).arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mosquitto");
    wait_for(address);
    Process::new(child, address)
}
