//! The data directory: where it is, who owns it at the moment, and whether the servers' account can get into it.
//!
//! ```text
//! <data>/lock              held (flock) by the one smartpos that runs here; holds its process id
//! <data>/connection.json   ports and passwords
//! <data>/postgres/         database cluster           <data>/postgres.log     <data>/run/  its socket
//! <data>/nats/ nats.conf   JetStream files            <data>/nats.log
//! ```

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::EmbeddedError;
use super::account::{Account, running_as_root};

/// `$SMARTPOS_DATA_DIR`; else `/var/lib/smartpos` for root; else `smartpos` in the user's data home.
pub fn default_data_dir() -> PathBuf {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = var("SMARTPOS_DATA_DIR") {
        return dir;
    }
    if running_as_root() {
        return PathBuf::from("/var/lib/smartpos");
    }
    var("XDG_DATA_HOME")
        .or_else(|| var("HOME").map(|home| home.join(".local/share")))
        .map_or_else(|| PathBuf::from("smartpos-data"), |home| home.join("smartpos"))
}

/// Creates the directory if needed and returns its absolute path without symbolic links.
pub(super) fn create(path: &Path) -> Result<PathBuf, EmbeddedError> {
    if !path.is_dir() {
        fs::create_dir_all(path).map_err(EmbeddedError::data_dir("create", path))?;
        // Whatever the umask: the servers' account must be able to pass through; the files inside are private.
        fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(EmbeddedError::data_dir("set the mode of", path))?;
    }
    fs::canonicalize(path).map_err(EmbeddedError::data_dir("resolve", path))
}

/// Takes the directory for this process. The lock ends with the returned file, however the process ends; the children
/// do not inherit it (Rust opens files close-on-exec).
pub(super) async fn lock(data_dir: &Path) -> Result<File, EmbeddedError> {
    let path = data_dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(EmbeddedError::data_dir("open", &path))?;
    // `is_locked` of another process takes a shared lock for an instant, which must not refuse a start.
    for _ in 0..5 {
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(EmbeddedError::data_dir("write", &path))?;
                return Ok(file);
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(40)).await,
            Err(TryLockError::Error(error)) => {
                return Err(EmbeddedError::data_dir("lock", path)(error));
            }
        }
    }
    let owner = fs::read_to_string(&path).ok().and_then(|pid| pid.trim().parse().ok());
    Err(EmbeddedError::Locked { path: data_dir.to_owned(), owner })
}

/// Some process holds the directory.
pub(super) fn is_locked(data_dir: &Path) -> bool {
    File::open(data_dir.join("lock")).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The account can enter the directory and everything above it.
pub(super) fn check_reachable(data_dir: &Path, account: Option<Account>) -> Result<(), EmbeddedError> {
    let Some(Account { uid, gid }) = account else {
        return Ok(());
    };
    // Asking the system as that user respects access control lists too, which the mode bits do not show.
    let can_enter = |dir: &Path| {
        Command::new("test")
            .arg("-x")
            .arg(dir)
            .current_dir("/")
            .stdin(Stdio::null())
            .uid(uid)
            .gid(gid)
            .status()
            .is_ok_and(|status| status.success())
    };
    if can_enter(data_dir) {
        return Ok(());
    }
    let mut from_root: Vec<&Path> = data_dir.ancestors().collect();
    from_root.reverse();
    let path = from_root.into_iter().find(|dir| !can_enter(dir)).unwrap_or(data_dir).to_owned();
    Err(EmbeddedError::Unreachable { path, uid })
}
