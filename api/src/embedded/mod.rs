//! PostgreSQL and NATS as child processes in one data directory: what `smartpos up`, the demo and the tests run on.
//!
//! Owns the data directory and everything in it, and touches nothing outside. Invariants: one owner at a time (directory
//! lock); servers listen on 127.0.0.1 only, PostgreSQL also on a socket in a directory of its account alone, and ask for a password;
//! started by root they run as an unprivileged account;
//! servers that outlive a killed owner are ended before new ones start; ports and passwords survive a restart.

mod account;
mod connection;
mod data_dir;
mod error;
mod nats;
mod ports;
mod postgres;
mod process;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use connection::{ConnectionInfo, running_connection, write_api_url};
pub use data_dir::default_data_dir;
pub use error::EmbeddedError;
pub use nats::{connect_nats, nats_options};

use tokio::time::{Instant, sleep};

use connection::ConnectionFile;
use nats::Nats;
use postgres::Postgres;
use process::Signal;

/// How often a start is tried when another program takes the chosen port in between.
const PORT_ATTEMPTS: u32 = 3;
/// How long a restart waits for its port to become free.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

/// Where the embedded servers keep everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// Created when missing; see [`default_data_dir`].
    pub data_dir: PathBuf,
}

/// The two running servers. End them with [`Embedded::stop`]; dropping asks them to shut down without waiting.
pub struct Embedded {
    postgres: Postgres,
    nats: Nats,
    file: ConnectionFile,
    info: ConnectionInfo,
    data_dir: PathBuf,
    /// Last, so that it is released after the servers were told to end.
    _lock: File,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Takes the directory, ends servers an earlier run left there, creates the database cluster the first time, starts
    /// both servers and returns when both answer.
    ///
    /// # Errors
    /// `Locked` when a platform runs there already; `MissingProgram`, `Unreachable` and `NoAccount` when the machine is
    /// not set up; `NotAnswering` with the end of the server's log when one does not come up.
    pub async fn start(config: &EmbeddedConfig) -> Result<Self, EmbeddedError> {
        let data_dir = data_dir::create(&config.data_dir)?;
        let lock = data_dir::lock(&data_dir).await?;
        let account = account::choose(&postgres::cluster_dir(&data_dir))?;
        data_dir::check_reachable(&data_dir, account)?;
        let postgres = Postgres::new(&data_dir, account)?;
        let nats = Nats::new(&data_dir, account)?;
        let mut file = match ConnectionFile::load(&data_dir)? {
            Some(file) => file,
            None if postgres.is_initialized() => {
                return Err(EmbeddedError::CredentialsLost { path: connection::path(&data_dir) });
            }
            None => ConnectionFile::generate()?,
        };
        file.ready = false;
        file.api_url = None;
        // Before initdb: a cluster never exists without its password on disk.
        file.save(&data_dir)?;
        if !postgres.is_initialized() {
            postgres.initialize(&file.postgres.admin_password).await?;
        }
        let mut embedded = Self { postgres, nats, info: file.info(), file, data_dir, _lock: lock };
        match embedded.start_servers().await {
            Ok(()) => Ok(embedded),
            Err(error) => {
                if let Err(stop_error) = embedded.stop().await {
                    tracing::warn!(error = %stop_error, "cannot clean up after a failed start");
                }
                Err(error)
            }
        }
    }

    async fn start_servers(&mut self) -> Result<(), EmbeddedError> {
        // Leftovers hold the kept ports, so they go before a port is chosen.
        self.postgres.end_leftovers().await?;
        self.nats.end_leftovers().await?;
        self.start_postgres(Port::MayMove).await?;
        postgres::create_database(&self.file.admin_url(), &self.file.postgres.password).await?;
        self.start_nats(Port::MayMove).await?;
        self.info = self.file.info();
        self.file.ready = true;
        self.file.save(&self.data_dir)
    }

    async fn start_postgres(&mut self, rule: Port) -> Result<(), EmbeddedError> {
        let mut attempt = 1;
        loop {
            let port = rule.apply(postgres::PROGRAM, self.file.postgres.port).await?;
            self.file.postgres.port = Some(port);
            match self.postgres.start(port, &self.file.admin_url()).await {
                Err(error) if error.is_port_clash() && attempt < PORT_ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn start_nats(&mut self, rule: Port) -> Result<(), EmbeddedError> {
        let mut attempt = 1;
        loop {
            let port = rule.apply(nats::PROGRAM, self.file.nats.port).await?;
            self.file.nats.port = Some(port);
            let url = self.file.info().nats_url;
            match self.nats.start(port, &self.file.nats.password, &url).await {
                Err(error) if error.is_port_clash() && attempt < PORT_ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    /// The data directory, absolute.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// All addresses at once; `api_url` is empty here, see [`write_api_url`].
    pub fn connection(&self) -> &ConnectionInfo {
        &self.info
    }

    /// PostgreSQL as superuser and owner of the database `smartpos`: for migrations only.
    pub fn admin_url(&self) -> &str {
        &self.info.admin_url
    }

    /// PostgreSQL as the runtime login role `smartpos`, which owns nothing and does not bypass row-level security. It is
    /// NOINHERIT: after a migration granted it a group role, `SET ROLE` takes that role's privileges up.
    pub fn database_url(&self) -> &str {
        &self.info.database_url
    }

    /// One of the two URLs above by the server's socket, which is less work than TCP; for the owner of the data directory.
    pub fn by_socket(&self, url: &str) -> String {
        match postgres::socket_dir(&self.data_dir) {
            Some(dir) => connection::by_socket(url, &dir),
            None => url.to_owned(),
        }
    }

    /// NATS with user and password: connect with [`connect_nats`].
    pub fn nats_url(&self) -> &str {
        &self.info.nats_url
    }

    /// Process id of the postmaster; `None` once it was killed or seen to end.
    pub fn postgres_pid(&self) -> Option<u32> {
        self.postgres.server.as_ref()?.pid()
    }

    /// Process id of nats-server; `None` once it was killed or seen to end.
    pub fn nats_pid(&self) -> Option<u32> {
        self.nats.server.as_ref()?.pid()
    }

    /// kill -9 of the postmaster, as in a crash; returns when its backends are gone as well.
    ///
    /// # Errors
    /// `Leftover` when a backend survives.
    pub async fn kill_postgres(&mut self) -> Result<(), EmbeddedError> {
        self.postgres.kill().await
    }

    /// kill -9 of nats-server, as in a crash.
    pub async fn kill_nats(&mut self) {
        self.nats.kill().await;
    }

    /// Starts PostgreSQL again on the same port, after stopping it if it still runs.
    ///
    /// # Errors
    /// `PortTaken` when another program listens there now; otherwise as [`Embedded::start`].
    pub async fn restart_postgres(&mut self) -> Result<(), EmbeddedError> {
        self.postgres.stop().await;
        self.postgres.end_leftovers().await?;
        self.start_postgres(Port::Fixed).await
    }

    /// Starts nats-server again on the same port, after stopping it if it still runs.
    ///
    /// # Errors
    /// As [`Embedded::restart_postgres`].
    pub async fn restart_nats(&mut self) -> Result<(), EmbeddedError> {
        self.nats.stop().await;
        self.nats.end_leftovers().await?;
        self.start_nats(Port::Fixed).await
    }

    /// Restarts whichever server has ended by itself, and nats-server when its JetStream has not answered for some seconds; names
    /// them. For the owner's watch loop.
    ///
    /// # Errors
    /// As [`Embedded::restart_postgres`].
    pub async fn revive(&mut self) -> Result<Vec<&'static str>, EmbeddedError> {
        let ended = |server: &mut Option<process::Server>| server.as_mut().is_none_or(|server| server.exited().is_some());
        let mut revived = Vec::new();
        if ended(&mut self.postgres.server) {
            self.restart_postgres().await?;
            revived.push(postgres::PROGRAM);
        }
        if ended(&mut self.nats.server) || self.nats.is_silent(self.file.nats.port, &self.info.nats_url).await {
            self.restart_nats().await?;
            revived.push(nats::PROGRAM);
        }
        Ok(revived)
    }

    /// Stops both servers in order (PostgreSQL with a fast shutdown and its checkpoint) within 8 seconds, by force if
    /// need be, and gives the directory back.
    ///
    /// # Errors
    /// `DataDir` when the connection file cannot be updated; the servers are stopped all the same.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        let unpublished = self.unpublish();
        tokio::join!(self.postgres.stop(), self.nats.stop());
        unpublished
    }

    fn unpublish(&mut self) -> Result<(), EmbeddedError> {
        self.file.ready = false;
        self.file.save(&self.data_dir)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        let postgres = self.postgres.server.take();
        let nats = self.nats.server.take();
        if postgres.is_none() && nats.is_none() {
            return;
        }
        if let Err(error) = self.unpublish() {
            tracing::warn!(%error, "cannot update the connection file");
        }
        // No waiting in a destructor: the next start on this directory ends what is still shutting down.
        if let Some(server) = postgres {
            server.signal(Signal::Int);
        }
        if let Some(server) = nats {
            server.signal(Signal::Term);
        }
    }
}

/// Which port a server may start on.
#[derive(Clone, Copy)]
enum Port {
    /// The kept one, or another when that is taken.
    MayMove,
    /// The one its clients know, as soon as it is free.
    Fixed,
}

impl Port {
    async fn apply(self, server: &'static str, kept: Option<u16>) -> Result<u16, EmbeddedError> {
        let port = match (self, kept) {
            (Self::Fixed, Some(port)) => port,
            (Self::MayMove, _) | (Self::Fixed, None) => return ports::choose(kept),
        };
        let deadline = Instant::now() + PORT_PATIENCE;
        while !ports::is_free(port) {
            if Instant::now() > deadline {
                return Err(EmbeddedError::PortTaken { server, port });
            }
            sleep(process::POLL).await;
        }
        Ok(port)
    }
}
