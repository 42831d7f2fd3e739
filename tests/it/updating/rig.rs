//! What the tests of updates share: a vendor that signs releases, a hub under its supervisor, and a web server that gives releases out and may
//! break off.

use crate::house::{HERE, config};
use hearthkey::factory::{HubReleaseOrder, Version, make_hub_release, new_hub_key};
use hearthkey::hub::{self, Config, HealthReport};
use hearthkey::net::tls::{Clock, Material, Protocol};
use hearthkey::net::{Ca, CaKey, ServerKey, TlsReloader, Validity};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

pub const REAL: &str = env!("CARGO_BIN_EXE_hearthkey");
const PATIENCE: Duration = Duration::from_secs(120);

/// What is wrong with a version. It is the real program otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It ends at once.
    Crash,
    /// It never does anything.
    Hang,
    /// It never says that it serves.
    Mute,
    /// Its doctor says that it does not serve.
    Unwell,
    /// It makes something else of the database, and ends.
    Migrate,
    /// It says of itself that it is another version.
    Impostor,
    /// It takes its time to say its version.
    Slow,
}

/// A home, its vendor, and the vendor's releases.
pub struct Rig {
    pub dir: TempDir,
    pub config: Config,
    pub key: PathBuf,
}

impl Rig {
    pub fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("vendor.json");
        let public = new_hub_key(&key).unwrap();
        let mut config = config(&dir);
        config.update.key = Some(public);
        config.update.healthy_s = 1;
        config.update.health_every_s = 1;
        config.update.ready_s = 6;
        config.update.starts = 1;
        Rig { dir, config, key }
    }

    /// Where the vendor's files are.
    pub fn site(&self) -> PathBuf {
        self.dir.path().join("site")
    }

    /// A program that is the real one under another version, with a fault.
    pub fn program(&self, version: &str, fault: Fault) -> PathBuf {
        let says = if fault == Fault::Impostor { "0.0.1" } else { version };
        let database = self.config.data_dir.join("hub.redb");
        let act = match fault {
            Fault::None | Fault::Impostor | Fault::Slow => String::new(),
            Fault::Crash => "[ \"$1\" = hub ] && exit 7".into(),
            Fault::Hang => "[ \"$1\" = hub ] && exec sleep 600".into(),
            Fault::Mute => "[ \"$1\" = hub ] && unset NOTIFY_SOCKET".into(),
            Fault::Unwell => "[ \"$1\" = doctor ] && { echo 'the twins do not answer' >&2; exit 1; }".into(),
            Fault::Migrate => format!("[ \"$1\" = hub ] && {{ echo new > '{}'; exit 7; }}", database.display()),
        };
        let path = self.dir.path().join(format!("program-{version}"));
        let pause = if fault == Fault::Slow { "sleep 0.1; " } else { "" };
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && {{ {pause}echo 'hearthkey {says}'; exit 0; }}\n{act}\nexport RUNS='{version}'\nexec '{REAL}' \"$@\"\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A release of it: its archive, with what is signed beside it.
    pub fn release(&self, version: &str, fault: Fault) -> PathBuf {
        self.release_as(version, fault, |_| ())
    }

    pub fn release_as(&self, version: &str, fault: Fault, change: impl FnOnce(&mut HubReleaseOrder)) -> PathBuf {
        let layout = hub::DATABASE_LAYOUT;
        let mut order = HubReleaseOrder {
            program: self.program(version, fault),
            version: Version::parse(version).unwrap(),
            rel: None,
            platform: hub::platform().into(),
            layouts: (layout, layout),
            percent: 100,
            notes: format!("What is new in {version}."),
        };
        change(&mut order);
        make_hub_release(&order, &self.key, &self.site()).unwrap()
    }

    /// The supervisor, in this process.
    pub fn supervisor(&self) -> hearthkey::update::Supervisor {
        hub::supervisor(&self.config, REAL.into(), Vec::new()).unwrap()
    }

    /// The supervisor as a process, for whoever wants it otherwise.
    pub fn command(&self) -> Command {
        let file = self.dir.path().join("hub.toml");
        fs::write(&file, toml::to_string(&self.config).unwrap()).unwrap();
        let mut command = Command::new(REAL);
        command.args(["run", "--announce-json", "--config"]).arg(&file);
        command.env_remove("NOTIFY_SOCKET").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Starts the supervisor as a process.
    pub fn supervise(&self) -> Running {
        self.supervise_by(self.command())
    }

    /// The same, by this command.
    pub fn supervise_by(&self, mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        let heard = watch::Sender::new(Heard::default());
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let said = heard.clone();
        let announced =
            tokio::spawn(listen(out, move |line| said.send_modify(|heard| heard.announced.push(serde_json::from_str(&line).unwrap()))));
        let said = heard.clone();
        tokio::spawn(listen(err, move |line| said.send_modify(|heard| heard.log.push(line))));
        Running { child, data_dir: self.config.data_dir.clone(), heard, announced }
    }

    /// What the supervisor has written down.
    pub fn ledger(&self) -> Value {
        let (ledger, current, last_good) = hub::update_ledger(&self.config);
        json!({"ledger": ledger, "current": current, "last_good": last_good})
    }

    /// Waits for the end of the update with this number.
    pub async fn ended(&self, number: u64, running: &Running) -> Value {
        running
            .until("the update ends", async || {
                let ledger = self.ledger();
                (ledger["ledger"]["last"]["number"].as_u64() >= Some(number)).then_some(ledger)
            })
            .await
    }
}

/// What a supervisor and its hubs have said.
#[derive(Default)]
pub struct Heard {
    /// One line for each hub that serves, or that is in recovery mode.
    pub announced: Vec<Value>,
    /// Their logs.
    pub log: Vec<String>,
}

async fn listen(from: impl AsyncRead + Unpin, said: impl Fn(String)) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        said(line);
    }
}

/// A supervisor that runs.
pub struct Running {
    child: Child,
    data_dir: PathBuf,
    pub heard: watch::Sender<Heard>,
    /// Ends when nobody is left who could announce something: neither the supervisor nor a hub of it.
    announced: JoinHandle<()>,
}

impl Running {
    /// Waits until a hub serves.
    pub async fn serving(&self) -> HealthReport {
        let mut found = None;
        self.until("a hub serves", async || {
            let report = hub::ask_health(&self.data_dir).await.ok().filter(|report| report.problem.is_none())?;
            found = Some(report);
            Some(())
        })
        .await;
        found.unwrap()
    }

    /// Waits for something that comes by itself: looks whenever something was said, and now and then.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let (mut heard, until) = (self.heard.subscribe(), Instant::now() + PATIENCE);
        loop {
            heard.borrow_and_update();
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < until, "{what}: not in time\n{}", heard.borrow().log.join("\n"));
            let _ = timeout(Duration::from_secs(1), heard.changed()).await;
        }
    }

    /// What the newest hub has announced.
    pub fn announced(&self) -> Value {
        self.heard.borrow().announced.last().cloned().unwrap_or_default()
    }

    /// The supervisor's number.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// SIGKILL. Its hub notices, and stops; waits for that.
    pub async fn die(&mut self) {
        self.child.kill().await.unwrap();
        timeout(PATIENCE, &mut self.announced).await.expect("a hub is left without its supervisor").unwrap();
    }

    /// SIGTERM, and its end.
    pub async fn stop(mut self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        assert!(self.child.wait().await.unwrap().success());
    }
}

/// A web server over TLS that gives out a directory.
pub struct Site {
    pub address: SocketAddr,
    /// How many bytes of a body it gives before it breaks off, once each, in this order.
    pub cuts: Arc<Mutex<Vec<usize>>>,
    /// How many requests asked for a part.
    pub ranged: Arc<AtomicU64>,
}

impl Site {
    /// Serves the rig's site, and lets its hub know where it is.
    pub async fn of(rig: &mut Rig) -> Site {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = Ca::create(CaKey::generate().unwrap(), "test").unwrap();
        let key = ServerKey::generate().unwrap();
        let validity = Validity { not_before: 0, not_after: 4_000_000_000 };
        let leaf = ca.issue_server(&key, &["localhost".into()], &[HERE], validity).unwrap();
        let clock = Clock::new(|| u64::try_from(jiff::Timestamp::now().as_second()).unwrap());
        let tls = TlsReloader::new(Protocol::Https, &Material { leaf: &leaf, key: &key, ca: ca.certificate() }, clock).unwrap();
        let acceptor = TlsAcceptor::from(tls.current().config.clone());
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let site = Site { address: listener.local_addr().unwrap(), cuts: Arc::default(), ranged: Arc::default() };
        let file = rig.dir.path().join("site-ca.pem");
        fs::write(&file, ca.certificate().pem()).unwrap();
        rig.config.update.ca_file = Some(file);
        rig.config.update.url = Some(format!("https://localhost:{}/manifest.json", site.address.port()));
        let (root, cuts, ranged) = (rig.site(), site.cuts.clone(), site.ranged.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, root, cuts, ranged) = (acceptor.clone(), root.clone(), cuts.clone(), ranged.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = serve(stream, &root, &cuts, &ranged).await;
                    }
                });
            }
        });
        site
    }
}

/// One request of a connection.
async fn serve(
    mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    root: &Path,
    cuts: &Mutex<Vec<usize>>,
    ranged: &AtomicU64,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let path = head.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
    let from: usize = head.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok()).unwrap_or(0);
    let Ok(body) = fs::read(root.join(&path)) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    };
    let rest = &body[from.min(body.len())..];
    let status = if from > 0 {
        ranged.fetch_add(1, Ordering::Relaxed);
        format!("206 Partial Content\r\ncontent-range: bytes {from}-{}/{}", body.len() - 1, body.len())
    } else {
        "200 OK".to_owned()
    };
    stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", rest.len()).as_bytes()).await?;
    let cut = if path.ends_with(".tar.gz") { cuts.lock().unwrap().pop() } else { None };
    stream.write_all(&rest[..cut.unwrap_or(rest.len()).min(rest.len())]).await?;
    stream.flush().await?;
    if cut.is_none() { stream.shutdown().await } else { Ok(()) }
}
