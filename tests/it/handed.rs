//! Sockets that a service manager has opened for the hub: they are served instead of the configured addresses, and outlive the hub's restarts.

use crate::house::{HERE, config};
use hearthkey::hub;
use serde_json::Value;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const REAL: &str = env!("CARGO_BIN_EXE_hearthkey");
const PATIENCE: Duration = Duration::from_secs(120);

/// As systemd does it: sockets from descriptor 3 on, the variables, and then the program in the place of this one. Prints each socket's port.
const MANAGER: &str = r"
import os, socket, sys
names, program = sys.argv[1].split(':'), sys.argv[2:]
made = []
for name in names:
    one = socket.socket()
    one.bind(('127.0.0.1', 0))
    one.listen(64)
    print(one.getsockname()[1], flush=True)
    made.append(os.dup(one.fileno()))
high = [__import__('fcntl').fcntl(fd, 0, 100) for fd in made]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=':'.join(names))
os.execv(program[0], program)
";

struct Managed {
    dir: TempDir,
    config: hub::Config,
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    ports: Vec<u16>,
}

/// Starts `hearthkey <what>` with sockets of these names.
async fn manage(what: &str, names: &str) -> Managed {
    manage_by(what, names, |_| ()).await
}

async fn manage_by(what: &str, names: &str, change: impl FnOnce(&mut hub::Config)) -> Managed {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    change(&mut config);
    let file = dir.path().join("hub.toml");
    fs::write(&file, toml::to_string(&config).unwrap()).unwrap();
    let log = File::create(dir.path().join("log")).unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", MANAGER, names, REAL, what, "--announce-json", "--config"]).arg(&file);
    command.env_remove("NOTIFY_SOCKET").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ports = Vec::new();
    for _ in names.split(':') {
        ports.push(said.next_line().await.unwrap().unwrap().parse().unwrap());
    }
    Managed { dir, config, child, said, ports }
}

impl Managed {
    /// The next start that a hub announces.
    async fn announced(&mut self) -> Value {
        let line = timeout(PATIENCE, self.said.next_line()).await.expect("a hub starts").unwrap();
        serde_json::from_str(&line.unwrap_or_else(|| panic!("it ended: {}", self.log()))).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    async fn stop(mut self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        assert!(self.child.wait().await.unwrap().success(), "{}", self.log());
    }
}

/// Asks for the page that hands out the hub's authority, on a connection that is there.
async fn asks_for_trust(mut stream: TcpStream) -> String {
    stream.write_all(b"GET /trust HTTP/1.1\r\nhost: hearthkey.local\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer comes").unwrap();
    answer
}

fn port(announced: &Value, listener: &str) -> u16 {
    announced[listener].as_str().unwrap().parse::<SocketAddr>().unwrap().port()
}

#[tokio::test]
async fn the_sockets_of_a_service_manager_go_before_the_configured_addresses() {
    let mut managed = manage("hub", "https:http:mqtts").await;
    let announced = managed.announced().await;
    for (at, listener) in ["https", "http", "mqtts"].iter().enumerate() {
        assert_eq!(port(&announced, listener), managed.ports[at], "{listener}");
    }
    let answer = asks_for_trust(TcpStream::connect((HERE, managed.ports[1])).await.unwrap()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    managed.stop().await;
}

#[tokio::test]
async fn a_listener_that_nobody_hands_over_has_its_configured_address() {
    let mut managed = manage("hub", "http").await;
    let announced = managed.announced().await;
    assert_eq!(port(&announced, "http"), managed.ports[0]);
    TcpStream::connect((HERE, port(&announced, "mqtts"))).await.unwrap();
    managed.stop().await;
}

#[tokio::test]
async fn a_socket_of_a_listener_that_is_switched_off_is_told_of() {
    let mut managed = manage_by("hub", "https:http", |config| config.http.enabled = false).await;
    let announced = managed.announced().await;
    assert!(announced["http"].is_null(), "{announced}");
    assert!(managed.log().contains("a listener that is switched off"), "{}", managed.log());
    managed.stop().await;
}

/// In one thread, where nothing of the hub has run on between its start and the question.
#[tokio::test]
async fn a_hub_that_has_started_is_there_for_whoever_asks_how_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let hub = hub::Hub::start(config.clone()).await.unwrap();
    assert!(std::os::unix::net::UnixStream::connect(config.data_dir.join("health.sock")).is_ok());
    let report = hub::ask_health(&config.data_dir).await.unwrap();
    assert_eq!((report.pid, report.problem), (std::process::id(), None));
    hub.shut_down().await;
    assert!(hub::ask_health(&config.data_dir).await.is_err());
}

#[tokio::test]
async fn who_connects_while_a_supervised_hub_restarts_waits_and_is_served() {
    let mut managed = manage("run", "http").await;
    assert_eq!(port(&managed.announced().await, "http"), managed.ports[0]);
    let first = hub::ask_health(&managed.config.data_dir).await.unwrap().pid;
    assert!(Command::new("kill").args(["-KILL", &first.to_string()]).status().await.unwrap().success());
    // Whether the kernel has taken the hub away yet or not: what it accepted is reset, what it did not is the next hub's.
    let ended = format!("/proc/{first}/fd/3");
    while fs::read_link(&ended).is_ok() {
        tokio::task::yield_now().await;
    }
    let waiting = TcpStream::connect((HERE, managed.ports[0])).await.expect("the socket is still there");
    let answer = asks_for_trust(waiting).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    managed.announced().await;
    assert_ne!(hub::ask_health(&managed.config.data_dir).await.unwrap().pid, first);
    managed.stop().await;
}

#[tokio::test]
async fn a_socket_that_no_listener_is_named_like_is_refused_with_what_to_write() {
    // Plain MQTT is for this box alone: a socket for it might be the network's.
    let all = [("hearthkey.socket", "FileDescriptorName=https"), ("mqtt", "FileDescriptorName=https"), ("http:http", "two sockets named")];
    for (names, wanted) in all {
        let mut managed = manage("hub", names).await;
        assert!(!managed.child.wait().await.unwrap().success());
        assert!(managed.log().contains(wanted), "{}", managed.log());
    }
}
