//! `<data>/connection.json`: ports and generated passwords of the embedded servers, kept across starts, mode 0600.
//!
//! Other commands on the same machine read it to talk to a running platform; `ready` is true exactly while the owner
//! of the directory lock has both servers up.

use std::fmt::{self, Write as _};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{EmbeddedError, data_dir};

/// Database name, name of the runtime login role, and NATS user.
pub(super) const NAME: &str = "smartpos";

/// How to reach a running platform. Its `Debug` hides the URLs: they carry passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// PostgreSQL as the owner of the database, for migrations.
    pub admin_url: String,
    /// PostgreSQL as the unprivileged runtime login role.
    pub database_url: String,
    /// NATS with user and password; connect with [`super::connect_nats`].
    pub nats_url: String,
    /// HTTP base address of the running platform, once it listens.
    pub api_url: Option<String>,
}

impl fmt::Debug for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfo").field("api_url", &self.api_url).finish_non_exhaustive()
    }
}

/// The file's content.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ConnectionFile {
    pub ready: bool,
    pub postgres: PostgresAccess,
    pub nats: NatsAccess,
    pub api_url: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct PostgresAccess {
    pub port: Option<u16>,
    pub admin_password: String,
    pub password: String,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct NatsAccess {
    pub port: Option<u16>,
    pub password: String,
}

impl ConnectionFile {
    /// New passwords, no ports yet.
    pub fn generate() -> Result<Self, EmbeddedError> {
        Ok(Self {
            ready: false,
            postgres: PostgresAccess { port: None, admin_password: password()?, password: password()? },
            nats: NatsAccess { port: None, password: password()? },
            api_url: None,
        })
    }

    /// `None` when the directory has no such file.
    pub fn load(data_dir: &Path) -> Result<Option<Self>, EmbeddedError> {
        let path = path(data_dir);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(EmbeddedError::data_dir("read", path)(error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| EmbeddedError::CorruptConnection { path, source })
    }

    /// Replaces the file in one step, so that a crash leaves the old or the new one.
    pub fn save(&self, data_dir: &Path) -> Result<(), EmbeddedError> {
        let path = path(data_dir);
        let json = serde_json::to_vec_pretty(self).map_err(|source| EmbeddedError::CorruptConnection { path: path.clone(), source })?;
        let fresh = data_dir.join("connection.json.new");
        write_private(&fresh, &json)?;
        fs::rename(&fresh, &path).map_err(EmbeddedError::data_dir("replace", path))
    }

    pub fn admin_url(&self) -> String {
        postgres_url("postgres", &self.postgres.admin_password, self.postgres.port)
    }

    pub fn info(&self) -> ConnectionInfo {
        ConnectionInfo {
            admin_url: self.admin_url(),
            database_url: postgres_url(NAME, &self.postgres.password, self.postgres.port),
            nats_url: format!("nats://{NAME}:{}@127.0.0.1:{}", self.nats.password, self.nats.port.unwrap_or_default()),
            api_url: self.api_url.clone(),
        }
    }
}

/// The connection of the platform running on `data_dir`; `None` when none runs there, or it is still starting.
pub fn running_connection(data_dir: &Path) -> Option<ConnectionInfo> {
    if !data_dir::is_locked(data_dir) {
        return None;
    }
    let file = ConnectionFile::load(data_dir).ok()??;
    file.ready.then(|| file.info())
}

/// Publishes the HTTP address of the running platform in the connection file. A stop or a new start removes it.
///
/// # Errors
/// `DataDir` or `CorruptConnection` when the file cannot be read or written; `CredentialsLost` when it is not there.
pub fn write_api_url(data_dir: &Path, api_url: &str) -> Result<(), EmbeddedError> {
    let mut file = ConnectionFile::load(data_dir)?.ok_or_else(|| EmbeddedError::CredentialsLost { path: path(data_dir) })?;
    file.api_url = Some(api_url.to_owned());
    file.save(data_dir)
}

/// Writes a file only its owner can read, and flushes it to disk.
pub(super) fn write_private(path: &Path, content: &[u8]) -> Result<(), EmbeddedError> {
    // The mode applies to a file that is created, so an older one must go first.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(EmbeddedError::data_dir("replace", path)(error));
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .map_err(EmbeddedError::data_dir("write", path))
}

pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("connection.json")
}

/// `sslmode` is explicit so that a `PGSSLMODE` in the environment cannot ask a loopback server for TLS.
fn postgres_url(role: &str, password: &str, port: Option<u16>) -> String {
    let port = port.unwrap_or_default();
    format!("postgres://{role}:{password}@127.0.0.1:{port}/{NAME}?sslmode=disable")
}

/// The same URL by the socket in `dir`.
pub(super) fn by_socket(url: &str, dir: &Path) -> String {
    let mut host = String::from("@");
    for byte in dir.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() {
            host.push(char::from(*byte));
        } else {
            let _ = write!(host, "%{byte:02X}");
        }
    }
    url.replacen("@127.0.0.1", &host, 1)
}

/// 192 random bits in hex: needs no quoting in a URL, in SQL or in a NATS configuration.
fn password() -> Result<String, EmbeddedError> {
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}
