//! Snapshots: folded states written beside the path, so that a long stream loads fast. Safe to lose at any time.

use std::sync::Arc;

use domain::{decider::Aggregate, envelope::StreamKey};
use sqlx::{PgPool, Row};

use crate::{error::CommandError, event_log::EventLog, event_store::uuid_of};

/// A cold load that had to read this many events writes a snapshot.
pub const EVERY: usize = 100;

/// The newest snapshot of this build's state schema: version and state.
///
/// # Errors
/// `Unavailable`. A snapshot that cannot be read counts as absent.
pub async fn load<A: Aggregate>(log: &dyn EventLog, key: StreamKey) -> Result<Option<(i64, A::State)>, CommandError> {
    let found = log.load_snapshot(key, A::STATE_SCHEMA).await?;
    Ok(found.and_then(|(version, state)| serde_json::from_slice(&state).ok().map(|state| (version, state))))
}

/// Writes a snapshot in the background; a failure costs nothing but the next load's time.
pub fn save<A: Aggregate>(log: Arc<dyn EventLog>, key: StreamKey, version: i64, state: &A::State) {
    let Ok(state) = serde_json::to_vec(state) else { return };
    tokio::spawn(async move {
        if let Err(error) = log.save_snapshot(key, version, A::STATE_SCHEMA, state).await {
            tracing::debug!(%error, "a snapshot was not written");
        }
    });
}

pub(crate) async fn read(pool: &PgPool, key: StreamKey, schema: i16) -> Result<Option<(i64, Vec<u8>)>, sqlx::Error> {
    let row = sqlx::query("select version, state from log.load_snapshot($1, $2, $3, $4)")
        .bind(uuid_of(key.tenant))
        .bind(key.stream_type.as_str())
        .bind(uuid_of(key.stream_id))
        .bind(schema)
        .fetch_optional(pool)
        .await?;
    row.map(|row| Ok((row.try_get("version")?, row.try_get("state")?))).transpose()
}

pub(crate) async fn write(pool: &PgPool, key: StreamKey, version: i64, schema: i16, state: Vec<u8>) -> Result<(), sqlx::Error> {
    sqlx::query("select log.save_snapshot($1, $2, $3, $4, $5, $6)")
        .bind(uuid_of(key.tenant))
        .bind(key.stream_type.as_str())
        .bind(uuid_of(key.stream_id))
        .bind(version)
        .bind(schema)
        .bind(state)
        .execute(pool)
        .await
        .map(drop)
}
