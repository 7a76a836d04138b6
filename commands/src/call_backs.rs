//! What the provider worker does with a stored call-back: find the attempt that it names, park it when nobody here knows the
//! name, look again when somebody does.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    clock::Clock,
    ids::{AttemptId, MerchantId, WebhookId},
    process::AttemptRef,
    provider::Exchange,
};
use metrics::{counter, gauge};
use sqlx::{PgPool, Row as _, types::Json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{event_store::uuid_of, process_store::ProcessStore};

/// How often parked call-backs are looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// Most parked call-backs looked at in one sweep; the next one goes on behind them.
const SWEEP_LIMIT: i64 = 500;

/// The stored call-back that a task with this key looks into; nothing for tasks of an older build.
pub(crate) fn of_task(key: &str) -> Option<Uuid> {
    key.strip_prefix("webhook:").and_then(|id| id.parse().ok())
}

/// Names the task that looks into a stored call-back.
pub(crate) fn task_key(id: WebhookId) -> String {
    format!("webhook:{}", uuid_of(id))
}

/// How a call-back about an attempt stands beside the calls; its body stays in `process.webhook`.
pub(crate) fn exchange(attempt: &AttemptRef, key: &str, transaction_id: Option<&str>, now: DateTime<Utc>) -> Exchange {
    Exchange {
        operation: "call_back",
        request_line: format!("POST /webhooks/{}", attempt.provider),
        request_body: format!("{key}; transaction {}", transaction_id.unwrap_or("not named")),
        status: Some(200),
        response_body: String::new(),
        sent_at: now,
        took_ms: 0,
    }
}

/// The attempt that an account knows by this reference or by its own name, and whose it is.
///
/// # Errors
/// The driver's.
pub(crate) async fn attempt_of(pool: &PgPool, account: &str, name: &str) -> Result<Option<(Uuid, AttemptRef)>, sqlx::Error> {
    let row = sqlx::query(include_str!("sql/attempt_of_name.sql")).bind(account).bind(name).fetch_optional(pool).await?;
    let Some(row) = row else { return Ok(None) };
    let Json::<AttemptRef>(mut attempt) = row.try_get("attempt")?;
    attempt.provider_id = attempt.provider_id.or(row.try_get("provider_id")?);
    Ok(Some((row.try_get("tenant")?, attempt)))
}

/// Keeps a provider's own name for an attempt, for call-backs that know no other.
///
/// # Errors
/// The driver's.
pub(crate) async fn remember(pool: &PgPool, attempt: &AttemptRef, provider_id: &str) -> Result<(), sqlx::Error> {
    sqlx::query("insert into process.provider_object (account, provider_id, reference) values ($1, $2, $3) on conflict do nothing")
        .bind(&attempt.provider)
        .bind(provider_id)
        .bind(&attempt.reference)
        .execute(pool)
        .await
        .map(drop)
}

/// When a merchant's attempts are looked at next at their providers, UTC; of what is over, or waits for nothing, there is none.
///
/// # Errors
/// The driver's.
pub async fn next_looks(
    pool: &PgPool,
    tenant: MerchantId,
    attempts: &[AttemptId],
) -> Result<HashMap<AttemptId, DateTime<Utc>>, sqlx::Error> {
    let names: Vec<String> = attempts.iter().map(ToString::to_string).collect();
    let rows =
        sqlx::query("select attempt, due_at from process.next_looks($1, $2)").bind(uuid_of(tenant)).bind(&names).fetch_all(pool).await?;
    let mut looks = HashMap::new();
    for row in rows {
        if let Ok(attempt) = row.try_get::<String, _>("attempt")?.parse() {
            looks.insert(attempt, row.try_get("due_at")?);
        }
    }
    Ok(looks)
}

/// Puts a call-back aside until its name becomes known, and its task away.
///
/// # Errors
/// The driver's.
pub(crate) async fn park(pool: &PgPool, id: Uuid, key: &str) -> Result<(), sqlx::Error> {
    counter!("smartpos_webhooks_parked_total").increment(1);
    let sql = "with gone as (delete from process.task where key = $2) update process.webhook set state = 'parked' where id = $1";
    sqlx::query(sql).bind(id).bind(key).execute(pool).await.map(drop)
}

/// Takes parked call-backs up again whose name has become known, until `shutdown`. Two processes that do so are harmless.
pub async fn run(store: impl ProcessStore, clock: std::sync::Arc<dyn Clock>, shutdown: CancellationToken) {
    let mut after = 0;
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
        match store.unpark(clock.now(), after).await {
            Ok(sweep) => {
                after = sweep.next;
                if sweep.reopened > 0 {
                    tracing::info!(count = sweep.reopened, "parked call-backs are looked into again");
                }
            }
            Err(error) => tracing::warn!(%error, "parked call-backs could not be looked at"),
        }
    }
}

/// What a sweep did, and behind which place the next one goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// Taken up again.
    pub reopened: i64,
    /// Behind this place; 0 is the beginning.
    pub next: i64,
}

pub(crate) async fn unpark(pool: &PgPool, now: DateTime<Utc>, after: i64) -> Result<Sweep, sqlx::Error> {
    if after == 0 {
        let parked: i64 = sqlx::query_scalar("select count(*) from process.webhook where state = 'parked'").fetch_one(pool).await?;
        gauge!("smartpos_webhooks_parked").set(u32::try_from(parked).unwrap_or(u32::MAX));
        if parked == 0 {
            return Ok(Sweep { reopened: 0, next: 0 });
        }
    }
    let sql = include_str!("sql/unpark_webhooks.sql");
    let row = sqlx::query(sql).bind(now).bind(after).bind(SWEEP_LIMIT).fetch_one(pool).await?;
    let (looked, last): (i64, Option<i64>) = (row.try_get("looked")?, row.try_get("last")?);
    // A short page was the last one: from the beginning again.
    let next = last.filter(|_| looked == SWEEP_LIMIT).unwrap_or(0);
    Ok(Sweep { reopened: row.try_get("reopened")?, next })
}

#[cfg(test)]
mod tests {
    use domain::process::Task;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_task_that_the_database_writes_is_one_that_the_worker_reads() {
        let written = json!({"kind": "follow_hint", "provider": "pac_1", "reference": "R", "transaction_id": null, "tried": 0});
        let task = Task::FollowHint { provider: "pac_1".into(), reference: "R".into(), transaction_id: None, tried: 0 };
        assert_eq!(serde_json::from_value::<Task>(written).unwrap(), task);
        let sql = include_str!("sql/unpark_webhooks.sql");
        for field in ["'kind', 'follow_hint'", "'provider', ", "'reference', ", "'transaction_id', ", "'tried', 0"] {
            assert!(sql.contains(field), "{field}");
        }
    }

    #[test]
    fn a_task_names_its_call_back() {
        let id = Uuid::from_u128(7);
        assert_eq!(of_task(&format!("webhook:{id}")), Some(id));
        assert_eq!(of_task(&task_key(WebhookId(ulid::Ulid(7)))), Some(id));
        assert_eq!(of_task("hint:scb:T1"), None);
    }
}
