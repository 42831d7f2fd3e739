//! What `--database-url` says: an address as PostgreSQL's own programs take it, and besides it whether and how TLS is used.

use super::DatabaseError;
use std::net::IpAddr;
use std::path::PathBuf;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// A database, and whether it is reached under TLS.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) secure: Option<Secure>,
}

/// By whom the database's certificate is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Secure {
    /// A file of authorities (PEM); without one, the system's.
    pub(super) roots: Option<PathBuf>,
}

/// Reads a URL (`postgresql://…?sslmode=…&sslrootcert=…`), or the form of words and values.
pub(super) fn read(text: &str) -> Result<Target, DatabaseError> {
    let (mut mode, mut roots) = (None, None);
    let mut ours = |part: &str, coded: bool| -> Result<bool, DatabaseError> {
        let Some((name, value)) = part.split_once('=') else { return Ok(false) };
        let value = if coded { decoded(value)? } else { value.trim_matches('\'').to_owned() };
        match name {
            "sslmode" => mode = Some(value),
            "sslrootcert" => roots = Some(value).filter(|file| !file.is_empty() && file != "system").map(PathBuf::from),
            "sslcert" | "sslkey" => {
                return Err(DatabaseError::Tls("certificates of one's own are not shown to a database; use a password"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    };
    let rest = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let mut left = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            if !ours(part, true)? {
                left.push(part);
            }
        }
        if left.is_empty() { address.to_owned() } else { format!("{address}?{}", left.join("&")) }
    } else {
        let mut left = Vec::new();
        for part in text.split(' ') {
            if !ours(part, false)? {
                left.push(part);
            }
        }
        left.join(" ")
    };
    let mut config: Config = rest.parse().map_err(DatabaseError::Url)?;
    let wanted = match mode.as_deref() {
        None | Some("disable") => false,
        Some("require" | "verify-full") => true,
        Some("allow" | "prefer") => return Err(DatabaseError::Tls("what a database may choose protects nothing; say require, or disable")),
        Some("verify-ca") => return Err(DatabaseError::Tls("the name is always verified too; say verify-full")),
        Some(_) => return Err(DatabaseError::Tls("sslmode is disable, require or verify-full")),
    };
    let local = !config.get_hosts().is_empty() && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    let wanted = wanted && !local;
    config.ssl_mode(if wanted { SslMode::Require } else { SslMode::Disable });
    if !wanted && mode.is_none() && config.get_hosts().iter().any(is_elsewhere) {
        tracing::warn!(
            "the way to the database is not encrypted: say sslmode=require in --database-url, or sslmode=disable if it is meant so"
        );
    }
    Ok(Target { config, secure: wanted.then_some(Secure { roots }) })
}

/// Whether a host is another machine, for all that its name tells.
fn is_elsewhere(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name != "localhost" && !name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        Host::Unix(_) => false,
    }
}

/// A value of a query, its `%XX` decoded.
fn decoded(value: &str) -> Result<String, DatabaseError> {
    let wrong = || DatabaseError::Tls("a value of its query cannot be read");
    let (mut bytes, mut rest) = (Vec::with_capacity(value.len()), value.bytes());
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().ok_or_else(wrong)?, rest.next().ok_or_else(wrong)?];
            bytes.extend(data_encoding::HEXLOWER_PERMISSIVE.decode(&digits).map_err(|_| wrong())?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secure(text: &str) -> Option<Secure> {
        read(text).unwrap().secure
    }

    #[test]
    fn tls_is_used_where_it_is_asked_for_and_with_the_authorities_that_are_named() {
        assert_eq!(secure("postgresql://u@db.example/x"), None);
        assert_eq!(secure("postgresql://u@db.example/x?sslmode=disable"), None);
        assert_eq!(secure("postgresql://u@db.example/x?sslmode=require"), Some(Secure { roots: None }));
        let own = Some(Secure { roots: Some(PathBuf::from("/etc/our ca.pem")) });
        assert_eq!(secure("postgresql://u@db.example/x?sslrootcert=%2Fetc%2Four%20ca.pem&sslmode=verify-full&connect_timeout=3"), own);
        assert_eq!(secure("host=db.example sslmode=require user=u"), Some(Secure { roots: None }));
        let target = read("postgresql://u@db.example/x?sslmode=require&connect_timeout=3").unwrap();
        assert_eq!(target.config.get_ssl_mode(), SslMode::Require);
        assert_eq!(target.config.get_connect_timeout().unwrap().as_secs(), 3);
        // A socket of this machine needs none.
        assert_eq!(secure("postgresql:///x?host=/run/postgresql&sslmode=require"), None);
    }

    #[test]
    fn what_would_protect_nothing_is_refused_with_what_to_say() {
        let refused = |text: &str| read(text).unwrap_err().to_string();
        assert!(refused("postgresql://db.example/x?sslmode=prefer").contains("say require"));
        assert!(refused("postgresql://db.example/x?sslmode=verify-ca").contains("verify-full"));
        assert!(refused("postgresql://db.example/x?sslmode=yes").contains("disable, require or verify-full"));
        assert!(refused("postgresql://db.example/x?sslmode=require&sslkey=a").contains("password"));
        assert!(refused("not a url").contains("postgresql://"));
    }
}
