//! Where PostgreSQL is on this machine, and as whom it runs.

use super::ClusterError;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where Debian keeps what is not in the path.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The directory of PostgreSQL's programs.
#[derive(Clone, Debug)]
pub(super) struct Programs(PathBuf);

impl Programs {
    /// Those of the version that made the files, if there are files and Debian has that version; else in the path, or the
    /// newest that Debian has installed.
    pub(super) fn find(made_by: &str) -> Option<Programs> {
        let same = Path::new(DEBIAN).join(made_by).join("bin");
        if !made_by.is_empty() && is_complete(&same) {
            return Some(Programs(same));
        }
        let in_path = std::env::var_os("PATH").and_then(|path| std::env::split_paths(&path).find(|dir| is_complete(dir)));
        in_path.or_else(newest_of_debian).map(Programs)
    }

    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }
}

fn is_complete(dir: &Path) -> bool {
    // A link into another directory, as wrappers have it, is followed.
    ["initdb", "postgres", "pg_ctl"].iter().all(|program| dir.join(program).is_file())
}

fn newest_of_debian() -> Option<PathBuf> {
    let versions = std::fs::read_dir(DEBIAN).ok()?.flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let programs = entry.path().join("bin");
        is_complete(&programs).then_some((version, programs))
    });
    versions.max_by_key(|(version, _)| *version).map(|(_, programs)| programs)
}

/// A user of this machine.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// As whom PostgreSQL runs: `None` means as this process does.
    pub(super) fn to_run_as() -> Result<Option<User>, ClusterError> {
        // Who this process is shows in whom its own entry in /proc belongs to.
        if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
            return Ok(None);
        }
        let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = ["postgres", "nobody"].iter().find_map(|name| User::named(&known, name));
        found.map(Some).ok_or(ClusterError::User)
    }

    /// A line of `passwd(5)`.
    fn named(known: &str, name: &str) -> Option<User> {
        known.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(User { name: name.to_owned(), uid, gid })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let known = "root:x:0:0:root:/root:/bin/sh\npostgresql:x:1:1::/:\npostgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";
        let user = User::named(known, "postgres").unwrap();
        assert_eq!((user.uid, user.gid), (101, 104));
        assert!(User::named(known, "nobody").is_none());
    }
}
