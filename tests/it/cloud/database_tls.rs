//! A database that is elsewhere, under TLS: a PostgreSQL of its own with a certificate, reached over TCP.

use super::rig::{Dir, config, new_dir, now_s, prepared_dir};
use hearthkey::cloud::{Cloud, Database, StartError};
use hearthkey::net::{Ca, CaKey, ServerKey, Validity};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// PostgreSQL's `pg_ctl`.
fn pg_ctl() -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path().join("bin/pg_ctl"));
    versions.filter(|program| program.exists()).max().unwrap_or_else(|| PathBuf::from("pg_ctl"))
}

/// A PostgreSQL that listens to TCP alone.
struct Server {
    dir: Dir,
    port: u16,
}

impl Server {
    async fn start(ca: &Ca) -> Server {
        let dir = prepared_dir().await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Server { dir, port };
        let (key, day) = (ServerKey::generate().unwrap(), 24 * 3600);
        let validity = Validity { not_before: now_s() - day, not_after: now_s() + day };
        let leaf = ca.issue_server(&key, &["localhost".to_owned()], &[], validity).unwrap();
        server.write("server.crt", &leaf.pem());
        server.write("server.key", &key.to_pem().unwrap());
        server.write("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust\nhostnossl all all 127.0.0.1/32 trust\n");
        server.run("start", "on");
        server
    }

    fn data(&self) -> PathBuf {
        self.dir.0.join("postgres/data")
    }

    fn write(&self, name: &str, text: &str) {
        let (path, owner) = (self.data().join(name), std::fs::metadata(self.data()).unwrap());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    /// Starts it, or starts it again, and waits until it answers.
    fn run(&self, what: &str, ssl: &str) {
        let options = format!("-c ssl={ssl} -c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories= -c fsync=off", self.port);
        let log = self.data().join("tls.log");
        let done = self.ctl().args([what, "-w", "-s", "-m", "fast", "-o", &options, "-l"]).arg(&log).status().unwrap();
        assert!(done.success(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    fn ctl(&self) -> Command {
        let (mut command, owner) = (Command::new(pg_ctl()), std::fs::metadata(self.data()).unwrap());
        command.uid(owner.uid()).gid(owner.gid()).env_clear().env("LC_ALL", "C").current_dir("/").arg("-D").arg(self.data());
        command
    }

    /// A cloud over it, by this host and with these parameters.
    async fn cloud(&self, host: &str, parameters: &str) -> Result<Cloud, StartError> {
        let dir = Dir(new_dir("hkt"));
        let url = format!("postgresql://hearthkey@{host}:{}/hearthkey?{parameters}", self.port);
        Cloud::start(hearthkey::cloud::Config { database: Database::Urls(vec![url]), ..config(&dir.0) }).await
    }

    async fn refused(&self, host: &str, parameters: &str) -> String {
        self.cloud(host, parameters).await.err().expect("a refusal").to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.ctl().args(["stop", "-w", "-s", "-m", "immediate"]).status();
    }
}

fn authority(dir: &Path, name: &str) -> (Ca, String) {
    let ca = Ca::create(CaKey::generate().unwrap(), name).unwrap();
    let file = dir.join(format!("{name}.pem"));
    std::fs::write(&file, ca.certificate().pem()).unwrap();
    (ca, file.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_elsewhere_is_reached_under_tls_with_its_certificate_verified_or_not_at_all() {
    let files = Dir(new_dir("hka"));
    let (ca, ours) = authority(&files.0, "ours");
    let (_, other) = authority(&files.0, "other");
    let server = Server::start(&ca).await;
    // By the right authority and under its own name.
    let cloud = server.cloud("localhost", &format!("sslmode=verify-full&sslrootcert={ours}")).await.unwrap();
    let plain = format!("host=127.0.0.1 port={} user=hearthkey dbname=hearthkey", server.port);
    let (client, connection) = tokio_postgres::connect(&plain, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let count = "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE application_name = 'hearthkey'";
    let seen = client.query_one(count, &[]).await.unwrap();
    assert!(seen.get::<_, i64>(0) > 0 && seen.get::<_, i64>(1) == 0, "the cloud's connections are not under TLS");
    drop(client);
    cloud.shut_down().await;
    // By another authority, under another name, with authorities that are not there, or one that only the system could know.
    let wrong = server.refused("localhost", &format!("sslmode=require&sslrootcert={other}")).await;
    assert!(wrong.contains("certificate"), "{wrong}");
    let named = server.refused("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={ours}")).await;
    assert!(named.contains("certificate"), "{named}");
    let missing = server.refused("localhost", "sslmode=require&sslrootcert=/nowhere.pem").await;
    assert!(missing.contains("/nowhere.pem"), "{missing}");
    // A database without TLS: nothing is said to it in the clear.
    server.run("restart", "off");
    let plain = server.refused("localhost", &format!("sslmode=require&sslrootcert={ours}")).await;
    assert!(plain.contains("TLS"), "{plain}");
}
