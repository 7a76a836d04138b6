//! The unprivileged account the servers run as when root starts them (PostgreSQL refuses to run as root).

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use super::EmbeddedError;

/// Accounts to run as, the preferred one first.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// Numeric user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub uid: u32,
    pub gid: u32,
}

/// Effective user is root. Read from `/proc`, because asking the C library takes unsafe code.
pub(super) fn running_as_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// The account to drop to, or `None` when the caller is not root and the servers simply run as the caller.
/// A cluster that exists keeps the account that owns it.
pub(super) fn choose(cluster_dir: &Path) -> Result<Option<Account>, EmbeddedError> {
    if !running_as_root() {
        return Ok(None);
    }
    if let Ok(meta) = fs::metadata(cluster_dir)
        && meta.uid() != 0
    {
        return Ok(Some(Account { uid: meta.uid(), gid: meta.gid() }));
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    NAMES.iter().find_map(|name| find(&passwd, name)).map(Some).ok_or(EmbeddedError::NoAccount)
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some(Account { uid, gid })
    })
}

/// Hands a file or directory to the account.
pub(super) fn give(path: &Path, account: Option<Account>) -> Result<(), EmbeddedError> {
    let Some(Account { uid, gid }) = account else {
        return Ok(());
    };
    chown(path, Some(uid), Some(gid)).map_err(EmbeddedError::data_dir("change the owner of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:admin,,,:/var/lib/postgresql:/bin/bash\n";

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        assert_eq!(find(PASSWD, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(find(PASSWD, "postgre"), None);
    }

    #[test]
    fn root_is_never_the_account_to_drop_to() {
        assert_eq!(find(PASSWD, "root"), None);
    }
}
