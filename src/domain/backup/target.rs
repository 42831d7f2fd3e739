//! Where backups go.

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// Characters of a path, a URL or a name at most.
const TEXT_MAX: usize = 1_024;

/// A place for backups.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Target {
    /// A directory.
    Folder {
        /// Its absolute path.
        path: String,
    },
    /// A directory that must be the mount point of a stick or a disk: when nothing is mounted there, nothing is written, so
    /// that the box's own card is not filled.
    Usb {
        /// Its absolute path.
        path: String,
    },
    /// A bucket of a store that speaks Amazon's S3.
    S3(Bucket),
}

/// A bucket. The secret is redacted in `Debug`, and wiped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// The store's URL, `https://…`; `http` only on this box or in tests.
    pub endpoint: String,
    /// Its region's name; any word where the store has none.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What names begin with, such as `hearthkey/`; may be empty.
    #[serde(default)]
    pub prefix: String,
    /// The access key's id.
    pub access_key: String,
    /// The access key's secret.
    pub secret_key: String,
    /// `https://store/bucket/…` rather than `https://bucket.store/…`, as most stores other than Amazon's want it.
    #[serde(default)]
    pub path_style: bool,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.secret_key.zeroize();
    }
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({} {} {}…)", self.endpoint, self.bucket, self.prefix)
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.shown())
    }
}

impl Target {
    /// As it is shown to people, without the secret.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Target::Folder { path } => format!("folder {path}"),
            Target::Usb { path } => format!("stick at {path}"),
            Target::S3(b) => format!("bucket {} at {}", b.bucket, b.endpoint),
        }
    }

    /// Why it cannot be one.
    ///
    /// # Errors
    /// A text for the person who typed it.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Target::Folder { path } | Target::Usb { path } => {
                if !path.starts_with('/') || path.len() > TEXT_MAX || path.contains('\0') {
                    return Err("target.path: an absolute path, such as /media/stick/backups".into());
                }
            }
            Target::S3(b) => {
                let texts = [&b.endpoint, &b.region, &b.bucket, &b.prefix, &b.access_key, &b.secret_key];
                if texts.iter().any(|t| t.len() > TEXT_MAX || t.contains(char::is_control)) {
                    return Err("target: every text has at most 1024 characters, and no control characters".into());
                }
                if !b.endpoint.starts_with("https://") && !is_loopback(&b.endpoint) {
                    return Err("target.endpoint: a URL that begins with https://".into());
                }
                for (name, text) in
                    [("region", &b.region), ("bucket", &b.bucket), ("access_key", &b.access_key), ("secret_key", &b.secret_key)]
                {
                    if text.is_empty() {
                        return Err(format!("target.{name} is missing"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Plain HTTP never leaves the box.
fn is_loopback(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(h, _)| h);
    ["127.0.0.1", "localhost", "[::1]"].contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_never_leaves_the_box_and_the_secret_is_not_shown() {
        let bucket = |endpoint: &str| {
            Target::S3(Bucket {
                endpoint: endpoint.into(),
                region: "eu".into(),
                bucket: "b".into(),
                prefix: String::new(),
                access_key: "AKIA".into(),
                secret_key: "hush".into(),
                path_style: true,
            })
        };
        for good in ["https://s3.example", "http://127.0.0.1:9000", "http://localhost:9000/", "http://[::1]:9000"] {
            assert_eq!(bucket(good).check(), Ok(()), "{good}");
        }
        for bad in ["http://s3.example", "ftp://localhost", "http://127.0.0.1.evil.example", "http://localhost@evil.example", ""] {
            assert!(bucket(bad).check().is_err(), "{bad}");
        }
        assert!(!format!("{:?}", bucket("https://s3.example")).contains("hush"));
        assert!(Target::Folder { path: "backups".into() }.check().is_err());
    }
}
