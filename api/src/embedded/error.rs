//! What can go wrong with the embedded servers, in words an operator can act on.

use std::io;
use std::path::PathBuf;

/// A fault of the embedded servers or of their data directory.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The data directory, or a file in it, could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    DataDir {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process holds the directory lock.
    #[error(
        "another smartpos{} already runs on {}: stop it, or choose another directory with SMARTPOS_DATA_DIR",
        owner.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        path.display()
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// Process id of the holder, when it wrote one.
        owner: Option<u32>,
    },
    /// The servers' unprivileged account cannot enter a directory above the data.
    #[error(
        "the servers run as user id {uid} and cannot enter {}: move the data directory (SMARTPOS_DATA_DIR), \
         for example to /var/lib/smartpos, or make that directory traversable (chmod o+x)",
        path.display()
    )]
    Unreachable {
        /// The first directory that refuses.
        path: PathBuf,
        /// The account the servers would run as.
        uid: u32,
    },
    /// Started by root, and the machine has no unprivileged account to run servers as.
    #[error("started by root, but /etc/passwd has neither `postgres` nor `nobody` to run the servers as: run scripts/setup.sh")]
    NoAccount,
    /// A server program is not installed.
    #[error("{program} was not found (Debian package `{package}`): run scripts/setup.sh")]
    MissingProgram {
        /// Name of the executable.
        program: &'static str,
        /// The Debian package that brings it.
        package: &'static str,
    },
    /// A program could not be run at all.
    #[error("cannot run {}: {source}", program.display())]
    Spawn {
        /// The executable.
        program: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// `initdb` refused to create the cluster.
    #[error("initdb failed to create the database cluster:\n{output}")]
    Initdb {
        /// The last lines it printed.
        output: String,
    },
    /// A server was started and ended, or stayed silent.
    #[error("{server} {reason}; the end of {} says:\n{log_tail}", log.display())]
    NotAnswering {
        /// Which server.
        server: &'static str,
        /// How it failed.
        reason: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines it logged since this start.
        log_tail: String,
    },
    /// A restart must keep the port, and something else listens there now.
    #[error("{server} cannot start again: port {port} is in use by another program")]
    PortTaken {
        /// Which server.
        server: &'static str,
        /// The port its clients know.
        port: u16,
    },
    /// No free port was found.
    #[error("no free TCP port between {from} and {to} on 127.0.0.1")]
    NoFreePort {
        /// First port tried.
        from: u16,
        /// Last port tried.
        to: u16,
    },
    /// A server of an earlier run does not end.
    #[error("a {server} left over from an earlier run does not stop (processes {pids:?})")]
    Leftover {
        /// Which server.
        server: &'static str,
        /// The processes that stay.
        pids: Vec<u32>,
    },
    /// The cluster exists, the file with its passwords does not.
    #[error("{} is missing, but the directory holds a database: restore that file from a backup", path.display())]
    CredentialsLost {
        /// Where the file belongs.
        path: PathBuf,
    },
    /// The connection file cannot be decoded.
    #[error("{} is damaged: {source}", path.display())]
    CorruptConnection {
        /// The file.
        path: PathBuf,
        /// Where decoding stopped.
        source: serde_json::Error,
    },
    /// PostgreSQL answered with an error while it was being set up.
    #[error("PostgreSQL refused its set-up: {0}")]
    Database(#[from] sqlx::Error),
    /// The system gave no random bytes for a password.
    #[error("no randomness for a password: {0}")]
    Randomness(#[from] getrandom::Error),
}

impl EmbeddedError {
    /// The server ended because its port was taken between our choosing it and its start.
    pub(super) fn is_port_clash(&self) -> bool {
        matches!(self, Self::NotAnswering { log_tail, .. }
            if log_tail.to_ascii_lowercase().contains("address already in use"))
    }

    /// For `map_err` around file operations.
    pub(super) fn data_dir(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::DataDir { action, path, source }
    }
}
