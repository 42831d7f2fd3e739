//! What the tests of faults share: a home whose hub runs as a process of its own, and file systems of their own.

use crate::durability::Process;
use crate::house::{Device, House, config};
use hearthkey::hub::{Config, verify_audit};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A home whose hub does not run now.
pub struct Home {
    pub dir: TempDir,
    pub data: PathBuf,
    pub ca: Vec<u8>,
    pub owner: String,
    pub hub: String,
}

impl Home {
    pub async fn of(house: House) -> Home {
        let (ca, hub) = (house.hub.identity().ca_der.clone(), house.hub.identity().id.to_string());
        let House { hub: running, dir, owner_token: owner, .. } = house;
        running.shut_down().await;
        Home { data: dir.path().join("hub"), ca: ca.to_vec(), owner, hub, dir }
    }

    pub fn config(&self) -> Config {
        config(&self.dir)
    }

    pub fn caller(&self, process: &Process) -> Caller {
        Caller::new(&self.ca, &self.owner, process.https.port())
    }

    /// The audit of the hub, which is stopped: it has to hold, and to go at least as far as `known`. Where it ends.
    pub async fn audit(&self, known: u64) -> u64 {
        let verdict = verify_audit(&self.config()).await.unwrap();
        // An entry that was in the journal and not in the database was acknowledged to nobody: it is told as a gap, of a batch at most.
        assert!(verdict.gaps.iter().all(|(from, to)| to - from < 256), "{:?}", verdict.gaps);
        let end = verdict.newest.map_or(0, |(seq, _)| seq);
        assert!(end >= known, "the audit ends at {end}, and had been at {known}");
        end
    }
}

/// Who calls the API.
#[derive(Clone)]
pub struct Caller {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Caller {
    /// How many entries the audit has of what begins with `action`.
    pub async fn audited(&self, action: &str) -> u64 {
        let (mut found, mut before) = (0, String::new());
        loop {
            let (status, page) = self.call("GET", &format!("/audit?limit=500&action={action}{before}"), None).await.unwrap();
            assert_eq!(status, 200, "{page}");
            found += page["entries"].as_array().unwrap().len() as u64;
            let Some(next) = page["next"].as_u64() else { return found };
            before = format!("&before={next}");
        }
    }

    pub fn new(ca: &[u8], token: &str, port: u16) -> Caller {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = reqwest::Certificate::from_der(ca).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
        Caller { client, base: format!("https://localhost:{port}/api/v1"), token: token.to_owned() }
    }

    /// A call: status and body; `None` when the hub has gone in the midst of it.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        answered(request).await
    }

    /// Uploads a release.
    pub async fn upload(&self, file: Vec<u8>) -> Option<(u16, Value)> {
        let request = self.client.post(format!("{}/firmware", self.base)).bearer_auth(&self.token);
        answered(request.header("content-type", "application/octet-stream").body(file)).await
    }

    /// Who has a right on a device, as subjects' user names.
    pub async fn holders(&self, device: &Device) -> Vec<String> {
        let (status, answer) = self.call("GET", &format!("/devices/{}/bindings", device.id), None).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        let list = answer["bindings"].as_array().unwrap();
        list.iter().filter_map(|binding| binding["username"].as_str().map(str::to_owned)).collect()
    }
}

async fn answered(request: reqwest::RequestBuilder) -> Option<(u16, Value)> {
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await.ok()?;
    Some((status, serde_json::from_slice(&bytes).unwrap_or_default()))
}

/// A file system of its own, unmounted at the end.
pub struct Mounted {
    at: PathBuf,
    _keep: TempDir,
}

impl Mounted {
    /// In memory, of so many MiB. `None` where nothing may be mounted, which is told.
    pub fn small(mib: u64) -> Option<Mounted> {
        Mounted::by(|at, _| run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs", at]))
    }

    /// ext4 in a file.
    pub fn ext4(mib: u64) -> Option<Mounted> {
        Mounted::by(|at, dir| {
            let image = dir.join("image");
            std::fs::File::create(&image).unwrap().set_len(mib * 1024 * 1024).unwrap();
            let image = image.display().to_string();
            run("mkfs.ext4", &["-q", &image]) && run("mount", &["-o", "loop,errors=remount-ro", &image, at])
        })
    }

    fn by(mount: impl FnOnce(&str, &Path) -> bool) -> Option<Mounted> {
        let keep = tempfile::tempdir().unwrap();
        let at = keep.path().join("disk");
        std::fs::create_dir(&at).unwrap();
        if mount(&at.display().to_string(), keep.path()) {
            return Some(Mounted { at, _keep: keep });
        }
        super::tell("left out: mounting a file system needs root");
        None
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Nothing more can be written on it, as after a fault that it has found in itself.
    pub fn break_off(&self) {
        assert!(run("mount", &["-o", "remount,abort", &self.at.display().to_string()]));
    }

    /// Takes all room, to the last byte.
    pub fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::options().create(true).append(true).open(self.at.join("filler")).unwrap();
        for block in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![7; block]).is_ok() {}
        }
    }

    /// Takes room until so many bytes are left.
    pub fn fill_up_to(&self, left: u64) {
        let found = rustix::fs::statvfs(&self.at).unwrap();
        let free = found.f_bavail * found.f_frsize;
        std::fs::write(self.at.join("filler"), vec![7; usize::try_from(free - left).unwrap()]).unwrap();
    }

    /// Gives it back.
    pub fn clear(&self) {
        std::fs::remove_file(self.at.join("filler")).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &["--lazy", &self.at.display().to_string()]);
    }
}

/// Whether a program did it.
pub fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|done| done.status.success())
}
