//! The log as the write side needs it: a port, so that the very same logic runs on PostgreSQL and in a simulation.
//!
//! A pool is an [`EventLog`], [`PgAppender`] is an [`Appender`]; the statements are in [`crate::event_store`].

use std::future::Future;

use domain::{
    envelope::{RecordedEvent, StreamKey},
    ids::{MerchantId, Ulid},
    provider::BoxFuture,
};
use sqlx::{
    Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgDatabaseError, PgSeverity},
};

use crate::{
    batch::{AppendItem, BatchAnswer, StoredKey},
    event_store::{self, LogHead},
    snapshot,
};

/// Why the log, or what stands beside it, gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It refused the statement itself: the same again would be refused again.
    #[error("{0}")]
    Refused(String),
    /// It could not be reached, or not until it answered: what was asked for may have happened.
    #[error("{0}")]
    Lost(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_statement_error(&error) { Self::Refused(error.to_string()) } else { Self::Lost(error.to_string()) }
    }
}

/// An answer of the server about the statement itself, not about the connection or the server's state.
fn is_statement_error(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else { return matches!(error, sqlx::Error::Encode(_) | sqlx::Error::ColumnDecode { .. }) };
    // FATAL ends the connection: it speaks of the server ("could not write init file", on a full disk), whatever its code.
    let of_server = |error: &PgDatabaseError| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic);
    if database.try_downcast_ref::<PgDatabaseError>().is_some_and(of_server) {
        return false;
    }
    !database.code().is_some_and(|code| passes_by_itself(&code))
}

/// 08 connection, 25 transaction (a standby that is not the server yet takes no writes), 40 rollback, 53 resources, 55 lock not available,
/// 57 operator intervention. 0A000 is what a connection says of a statement whose result has another type since a migration: a new one
/// does not.
fn passes_by_itself(code: &str) -> bool {
    ["08", "25", "40", "53", "55", "57", "0A000"].iter().any(|class| code.starts_with(class))
}

/// A round trip to the log.
pub type Reading<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Reads the log. Object-safe, because command handling is passed around everywhere: a box for each round trip.
pub trait EventLog: Send + Sync {
    /// A stream's events after version `after`, in order.
    fn load_stream(&self, key: StreamKey, after: i64) -> Reading<'_, Vec<RecordedEvent>>;
    /// Whether all these streams of one tenant have exactly these versions, seen at one moment.
    fn stand_at<'a>(&'a self, tenant: MerchantId, versions: &'a [(StreamKey, i64)]) -> Reading<'a, bool>;
    /// The stored answer of an idempotency key, if it was used.
    fn find_key<'a>(&'a self, tenant: Ulid, scope: &'a str, key: &'a str) -> Reading<'a, Option<StoredKey>>;
    /// The newest snapshot of a stream with this state schema: version and encoded state.
    fn load_snapshot(&self, key: StreamKey, schema: i16) -> Reading<'_, Option<(i64, Vec<u8>)>>;
    /// Keeps a snapshot in place of the older one.
    fn save_snapshot(&self, key: StreamKey, version: i64, schema: i16, state: Vec<u8>) -> Reading<'_, ()>;
    /// The newest position, the epoch and the identity of the log.
    fn head(&self) -> Reading<'_, LogHead>;
    /// The log after position `after`, at most `limit` events, in order.
    fn read(&self, after: i64, limit: i64) -> Reading<'_, Vec<RecordedEvent>>;
    /// Notes that the log went back in time: streams of the epoch before are not its own.
    fn raise_epoch(&self, beyond: i32) -> Reading<'_, ()>;
}

impl EventLog for PgPool {
    fn load_stream(&self, key: StreamKey, after: i64) -> Reading<'_, Vec<RecordedEvent>> {
        Box::pin(async move { Ok(event_store::load_stream(self, key, after).await?) })
    }

    fn stand_at<'a>(&'a self, tenant: MerchantId, versions: &'a [(StreamKey, i64)]) -> Reading<'a, bool> {
        Box::pin(async move { Ok(event_store::stand_at(self, tenant, versions).await?) })
    }

    fn find_key<'a>(&'a self, tenant: Ulid, scope: &'a str, key: &'a str) -> Reading<'a, Option<StoredKey>> {
        Box::pin(async move { Ok(event_store::find_key(self, tenant, scope, key).await?) })
    }

    fn load_snapshot(&self, key: StreamKey, schema: i16) -> Reading<'_, Option<(i64, Vec<u8>)>> {
        Box::pin(async move { Ok(snapshot::read(self, key, schema).await?) })
    }

    fn save_snapshot(&self, key: StreamKey, version: i64, schema: i16, state: Vec<u8>) -> Reading<'_, ()> {
        Box::pin(async move { Ok(snapshot::write(self, key, version, schema, state).await?) })
    }

    fn head(&self) -> Reading<'_, LogHead> {
        Box::pin(async move { Ok(event_store::log_head(self).await?) })
    }

    fn read(&self, after: i64, limit: i64) -> Reading<'_, Vec<RecordedEvent>> {
        Box::pin(async move { Ok(event_store::read_log(self, after, limit).await?) })
    }

    fn raise_epoch(&self, beyond: i32) -> Reading<'_, ()> {
        Box::pin(async move { Ok(sqlx::query("select log.raise_epoch($1)").bind(beyond).execute(self).await.map(drop)?) })
    }
}

/// Appends to the log over one connection of its own.
pub trait Appender: Send {
    /// Connects unless it is connected.
    fn connect(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Gives the connection up: nothing is known of what was asked last.
    fn disconnect(&mut self);
    /// Appends a batch: everything or nothing. A refusal by version or key is an answer, not an error.
    fn append(&mut self, batch: &[AppendItem]) -> impl Future<Output = Result<BatchAnswer, StoreError>> + Send;
    /// Position of the event with this hash at this place of its stream, if it was written.
    fn find_written(
        &mut self,
        key: StreamKey,
        version: i64,
        hash: &[u8; 32],
    ) -> impl Future<Output = Result<Option<i64>, StoreError>> + Send;
}

/// Appends to PostgreSQL.
pub struct PgAppender {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl PgAppender {
    /// Over a connection with these options, which is made when it is needed first.
    pub const fn new(options: PgConnectOptions) -> Self {
        Self { options, connection: None }
    }

    fn connected(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.connection.as_mut().ok_or_else(|| StoreError::Lost("not connected".to_owned()))
    }
}

impl Appender for PgAppender {
    async fn connect(&mut self) -> Result<(), StoreError> {
        if self.connection.is_none() {
            self.connection = Some(PgConnection::connect_with(&self.options).await?);
        }
        Ok(())
    }

    fn disconnect(&mut self) {
        self.connection = None;
    }

    async fn append(&mut self, batch: &[AppendItem]) -> Result<BatchAnswer, StoreError> {
        Ok(event_store::append(self.connected()?, batch).await?)
    }

    async fn find_written(&mut self, key: StreamKey, version: i64, hash: &[u8; 32]) -> Result<Option<i64>, StoreError> {
        Ok(event_store::find_written(self.connected()?, key, version, hash).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::passes_by_itself;

    #[test]
    fn what_the_state_of_the_server_refuses_is_tried_again_and_what_is_wrong_with_the_statement_is_not() {
        for code in ["25006", "40001", "53300", "55P03", "57P01", "08006", "0A000"] {
            assert!(passes_by_itself(code), "{code}");
        }
        for code in ["22P05", "23505", "42501", "54000", "P0001"] {
            assert!(!passes_by_itself(code), "{code}");
        }
    }
}
