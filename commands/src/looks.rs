//! Looks at a provider's books on request: what a caller need not wait for the schedule to hear.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ids::{AttemptId, MerchantId},
    payment_intent::AttemptStarted,
    process::{Task, work::hint::HINT_TRIES},
};
use quick_cache::sync::Cache;
use sqlx::{PgPool, types::Json};
use tokio::time::{Instant, sleep};

use crate::{event_log::StoreError, event_store::uuid_of, process_store::ProcessStore, tasks::Tasks};

/// How often it is asked whether a look was made: ever more rarely, from the first to the second.
const POLL: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];
/// A look is good for so long: who asks again meanwhile is told what it found, so that nobody uses up what a provider lets us ask.
const GOOD_FOR: TimeDelta = TimeDelta::seconds(3);
/// Attempts of which a process remembers when they were looked at.
const REMEMBERED: usize = 10_000;

/// The looks of a process.
#[derive(Debug)]
pub struct Looks(Cache<AttemptId, DateTime<Utc>>);

impl Default for Looks {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Looks {
    /// Has the books be asked about an attempt, and waits until what they said is in the log, or for `patience`. One look at a time: whoever
    /// comes while one is awaited waits for that. It is tried once; the schedule of a payment under way goes on beside it.
    ///
    /// # Errors
    /// The store's.
    pub async fn look(
        &self,
        store: &impl ProcessStore,
        tasks: &Tasks,
        (tenant, attempt): (MerchantId, &AttemptStarted),
        now: DateTime<Utc>,
        patience: Duration,
    ) -> Result<(), StoreError> {
        if self.0.get(&attempt.attempt_id).is_some_and(|looked_at| (now - looked_at).abs() < GOOD_FOR) {
            return Ok(());
        }
        let key = format!("look:{}", attempt.attempt_id);
        let (provider, reference) = (attempt.account().to_owned(), attempt.reference.clone());
        let task = Task::FollowHint { provider, reference, transaction_id: None, tried: HINT_TRIES };
        store.look_now(tenant, &key, &task, now).await?;
        tasks.notify();
        let [mut pause, longest] = POLL;
        let until = Instant::now() + patience;
        while Instant::now() < until {
            sleep(pause).await;
            pause = (pause * 2).min(longest);
            if !store.looks_now(tenant, &key).await? {
                self.0.insert(attempt.attempt_id, now);
                break;
            }
        }
        Ok(())
    }
}

/// Leaves the task.
///
/// # Errors
/// The driver's.
pub(crate) async fn ask(pool: &PgPool, tenant: MerchantId, key: &str, task: &Task, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let sql = "select process.look_now($1, $2, $3, $4)";
    sqlx::query(sql).bind(uuid_of(tenant)).bind(key).bind(Json(task)).bind(now).execute(pool).await.map(drop)
}

/// Whether it is still there.
///
/// # Errors
/// The driver's.
pub(crate) async fn is_awaited(pool: &PgPool, tenant: MerchantId, key: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select process.looks_now($1, $2)").bind(uuid_of(tenant)).bind(key).fetch_one(pool).await
}
