//! A broker as a process of its own, so that its processor time and its memory are its own (read from `/proc`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// Kernel ticks per second in `/proc/<pid>/stat`; 100 on every Linux that matters (`getconf CLK_TCK`).
const TICKS: f64 = 100.0;

/// A running broker; ends with the value.
pub struct Process {
    child: Child,
    /// Where it takes plain MQTT.
    pub address: SocketAddr,
}

impl Process {
    /// Takes charge of a started broker.
    pub fn new(child: Child, address: SocketAddr) -> Process {
        Process { child, address }
    }

    /// Processor time used so far, user and system.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // Fields are counted after the command's closing bracket: it may hold spaces.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let tick = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        Duration::from_secs_f64((tick(11) + tick(12)) / TICKS)
    }

    /// Resident memory now and at its highest, in MB (10⁶ bytes); 0 when the process is gone.
    pub fn memory_mb(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let of = |key: &str| {
            let line = status.lines().find(|l| l.starts_with(key));
            line.and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0 / 1e6
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Bytes that it has caused to be written to the disk so far (`write_bytes` of `proc_pid_io(5)`).
    pub fn written(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap_or_default();
        io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).expect("what the process has written")
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Asked first: a store that was not closed is checked and repaired at the next start.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        for _ in 0..600 {
            if !self.is_alive() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A group of processes that may have so much memory together, as a service manager makes one (`MemoryMax=`); needs root. Ends with the value.
pub struct Group {
    dir: PathBuf,
    unified: bool,
}

impl Group {
    /// Makes one; `None` where that is not allowed.
    pub fn with_memory(bytes: u64) -> Option<Group> {
        let name = format!("hearthkey-bench-{}", std::process::id());
        // Version 1 has a tree for each resource, version 2 one for all (`cgroups(7)`).
        [("/sys/fs/cgroup/memory", "memory.limit_in_bytes", false), ("/sys/fs/cgroup", "memory.max", true)].into_iter().find_map(
            |(root, limit, unified)| {
                let dir = Path::new(root).join(&name);
                std::fs::create_dir(&dir).ok()?;
                let group = Group { dir, unified };
                std::fs::write(group.dir.join(limit), bytes.to_string()).ok().map(|()| group)
            },
        )
    }

    /// Whoever writes its process's id here is in the group.
    pub fn processes(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    /// The most memory that it had, with what it has of files, in MB; and how often processes of it were ended for want of memory.
    pub fn seen(&self) -> (f64, u64) {
        let read = |name: &str| std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        let (peak, events) =
            if self.unified { ("memory.peak", "memory.events") } else { ("memory.max_usage_in_bytes", "memory.oom_control") };
        let kills = read(events).lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0);
        (read(peak).trim().parse::<f64>().unwrap_or(0.0) / 1e6, kills)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// A loopback port that was free a moment ago.
pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

/// Waits until something listens at `address`.
pub fn wait_for(address: SocketAddr) {
    for _ in 0..500 {
        if std::net::TcpStream::connect(address).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing listens at {address}");
}
