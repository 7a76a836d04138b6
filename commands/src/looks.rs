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

use crate::{event_store::uuid_of, tasks::Tasks};

/// How often it is asked whether a look was made.
const POLL: Duration = Duration::from_millis(50);

fn key_of(attempt: AttemptId) -> String {
    format!("look:{attempt}")
}

/// Has the books be asked about an attempt, and waits until what they said is in the log, or for `patience`. One look at a time: whoever
/// comes while one is awaited waits for that. It is tried once; the schedule of a payment under way goes on beside it.
///
/// # Errors
/// The driver's.
pub async fn look(
    pool: &PgPool,
    tasks: &Tasks,
    (tenant, attempt): (MerchantId, &AttemptStarted),
    now: DateTime<Utc>,
    patience: Duration,
) -> Result<(), sqlx::Error> {
    let (key, tenant) = (key_of(attempt.attempt_id), uuid_of(tenant));
    let (provider, reference) = (attempt.account().to_owned(), attempt.reference.clone());
    let task = Task::FollowHint { provider, reference, transaction_id: None, tried: HINT_TRIES };
    let sql = "select process.look_now($1, $2, $3, $4)";
    sqlx::query(sql).bind(tenant).bind(&key).bind(Json(task)).bind(now).execute(pool).await?;
    tasks.notify();
    let until = Instant::now() + patience;
    while Instant::now() < until {
        sleep(POLL).await;
        let awaited: bool = sqlx::query_scalar("select process.looks_now($1, $2)").bind(tenant).bind(&key).fetch_one(pool).await?;
        if !awaited {
            break;
        }
    }
    Ok(())
}
