//! What every verb starts from: the database, and how the answer is wanted.

use anyhow::Context as _;
use clap::Args;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{answer::Answer, outcome::Failure};

/// Options of every verb.
#[derive(Args)]
pub struct SessionArgs {
    /// The database, under a login that is a member of smartpos_auditor (`smartpos up` prints it); to rebuild
    /// and roll back also of smartpos_worker, to erase of smartpos_app.
    #[arg(long, env = "DATABASE_URL", global = true, hide_env_values = true)]
    database_url: Option<String>,
    /// The same database under its owner, for rebuild and rollback only.
    #[arg(long, env = "MIGRATE_DATABASE_URL", global = true, hide_env_values = true)]
    owner_url: Option<String>,
    /// Answer in JSON lines.
    #[arg(long, global = true)]
    json: bool,
    /// Connections to work with at once.
    #[arg(long, global = true, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
}

/// A question being asked.
pub struct Session {
    database_url: Option<String>,
    owner_url: Option<String>,
    /// Answer in JSON.
    pub json: bool,
    /// Most connections that a verb may read with at once.
    pub connections: u32,
}

impl Session {
    /// From the command line.
    pub fn new(args: SessionArgs) -> Self {
        Self { database_url: args.database_url, owner_url: args.owner_url, json: args.json, connections: args.connections }
    }

    /// A new answer.
    pub fn answer(&self) -> Answer {
        Answer::new(self.json)
    }

    /// Connections that can only read, whatever the login may do: under the auditors' role, which has no right to anything else.
    ///
    /// # Errors
    /// `Usage` without a proper URL; `Fault` when the database does not answer.
    pub async fn reader(&self) -> Result<PgPool, Failure> {
        let options = self.options()?.options([("role", "smartpos_auditor"), ("default_transaction_read_only", "on")]);
        // Two more than work at once: one keeps the snapshot, one asks in between.
        connect(options, self.connections.saturating_add(2)).await
    }

    /// Connections that write read models.
    ///
    /// # Errors
    /// As [`Self::reader`].
    pub async fn writer(&self) -> Result<PgPool, Failure> {
        // Each part reads over one and writes over another.
        connect(self.options()?.options([("role", "smartpos_worker")]), self.connections.saturating_mul(2).saturating_add(2)).await
    }

    /// Connections that make and rename schemas.
    ///
    /// # Errors
    /// `Usage` without the owner's URL; `Fault` when the database does not answer.
    pub async fn owner(&self) -> Result<PgPool, Failure> {
        let missing =
            || Failure::usage("give --owner-url or set MIGRATE_DATABASE_URL: schemas change places, which only their owner may do");
        connect(parse(self.owner_url.as_deref().ok_or_else(missing)?)?, 2).await
    }

    /// The URL that was given.
    ///
    /// # Errors
    /// `Usage` without one.
    pub fn database_url(&self) -> Result<&str, Failure> {
        let missing = || Failure::usage("give --database-url or set DATABASE_URL (`smartpos up` prints it)");
        self.database_url.as_deref().ok_or_else(missing)
    }

    fn options(&self) -> Result<PgConnectOptions, Failure> {
        parse(self.database_url()?)
    }
}

fn parse(url: &str) -> Result<PgConnectOptions, Failure> {
    let options: PgConnectOptions = url.parse().map_err(|error| Failure::usage(format!("the database URL is not one: {error}")))?;
    Ok(options.application_name("replay"))
}

async fn connect(options: PgConnectOptions, size: u32) -> Result<PgPool, Failure> {
    let pool = PgPoolOptions::new().max_connections(size).connect_with(options).await;
    Ok(pool.context("the database does not answer")?)
}
