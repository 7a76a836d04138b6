//! Looks at a provider's books on request: what a caller need not wait for the schedule to hear.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    ids::{AttemptId, MerchantId},
    payment_intent::AttemptStarted,
    process::{Task, work::hint::HINT_TRIES},
};
use sqlx::{PgPool, types::Json};
use tokio::time::{Instant, sleep};

use crate::{event_log::StoreError, event_store::uuid_of, process_store::ProcessStore, tasks::Tasks};

/// How often it is asked whether a look was made.
const POLL: Duration = Duration::from_millis(50);

fn key_of(attempt: AttemptId) -> String {
    format!("look:{attempt}")
}

/// Has the books be asked about an attempt, and waits until what they said is in the log, or for `patience`. One look at a time: whoever
/// comes while one is awaited waits for that. It is tried once; the schedule of a payment under way goes on beside it.
///
/// # Errors
/// The store's.
pub async fn look(
    store: &impl ProcessStore,
    tasks: &Tasks,
    (tenant, attempt): (MerchantId, &AttemptStarted),
    now: DateTime<Utc>,
    patience: Duration,
) -> Result<(), StoreError> {
    let key = key_of(attempt.attempt_id);
    let (provider, reference) = (attempt.account().to_owned(), attempt.reference.clone());
    let task = Task::FollowHint { provider, reference, transaction_id: None, tried: HINT_TRIES };
    store.look_now(tenant, &key, &task, now).await?;
    tasks.notify();
    let until = Instant::now() + patience;
    while Instant::now() < until {
        sleep(POLL).await;
        if !store.looks_now(tenant, &key).await? {
            break;
        }
    }
    Ok(())
}

pub(crate) async fn ask(pool: &PgPool, tenant: MerchantId, key: &str, task: &Task, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let sql = "select process.look_now($1, $2, $3, $4)";
    sqlx::query(sql).bind(uuid_of(tenant)).bind(key).bind(Json(task)).bind(now).execute(pool).await.map(drop)
}

pub(crate) async fn is_awaited(pool: &PgPool, tenant: MerchantId, key: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select process.looks_now($1, $2)").bind(uuid_of(tenant)).bind(key).fetch_one(pool).await
}
