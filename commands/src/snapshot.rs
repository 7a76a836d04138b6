//! Snapshots: folded states written beside the path, so that a long stream loads fast. Safe to lose at any time.

use domain::{decider::Aggregate, envelope::StreamKey};
use sqlx::{PgPool, Row};

use crate::{error::CommandError, event_store::uuid_of};

/// A cold load that had to read this many events writes a snapshot.
pub const EVERY: usize = 100;

/// The newest snapshot of this build's state schema: version and state.
///
/// # Errors
/// `Unavailable`. A snapshot that cannot be read counts as absent.
pub async fn load<A: Aggregate>(pool: &PgPool, key: StreamKey) -> Result<Option<(i64, A::State)>, CommandError> {
    let row = sqlx::query("select version, state from log.load_snapshot($1, $2, $3, $4)")
        .bind(uuid_of(key.tenant))
        .bind(key.stream_type.as_str())
        .bind(uuid_of(key.stream_id))
        .bind(A::STATE_SCHEMA)
        .fetch_optional(pool)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let state: Vec<u8> = row.try_get("state")?;
    Ok(serde_json::from_slice(&state).ok().map(|state| (row.try_get("version").unwrap_or(0), state)))
}

/// Writes a snapshot in the background; a failure costs nothing but the next load's time.
pub fn save<A: Aggregate>(pool: PgPool, key: StreamKey, version: i64, state: &A::State) {
    let Ok(state) = serde_json::to_vec(state) else { return };
    tokio::spawn(async move {
        let written = sqlx::query("select log.save_snapshot($1, $2, $3, $4, $5, $6)")
            .bind(uuid_of(key.tenant))
            .bind(key.stream_type.as_str())
            .bind(uuid_of(key.stream_id))
            .bind(version)
            .bind(A::STATE_SCHEMA)
            .bind(state)
            .execute(&pool)
            .await;
        if let Err(error) = written {
            tracing::debug!(%error, "a snapshot was not written");
        }
    });
}
