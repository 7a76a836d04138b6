//! Drives the process managers over the log: reads on from a checkpoint, lets each manager react, carries the reactions out.
//!
//! Commands go first, under keys derived from (manager, position, n); then tasks and the checkpoint move in one transaction,
//! by compare-and-set. A crash between the two repeats commands whose keys are taken: nothing happens twice.

use std::time::Duration;

use chrono::Duration as ChronoDuration;
use domain::{
    envelope::RecordedEvent,
    event::{DecodeError, DomainEvent},
    ids::MerchantId,
    process::{self, Happened, Intent, ProcessCommand},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use metrics::{counter, gauge};
use serde_json::json;
use sqlx::{PgPool, types::Json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    error::CommandError,
    event_store::{read_log, uuid_of},
    fail_point,
    handle::{Caller, CommandHandler},
    idempotency::IdempotencyKey,
    process_commands,
};

/// The one checkpoint of all managers: they read the log together.
const CHECKPOINT: &str = "process_managers";
/// Events read at a time.
const PAGE: i64 = 500;
/// Reactions carried out side by side, so that they share commits.
const SIDE_BY_SIDE: usize = 32;
/// Poll of the log when nobody says that it moved.
const POLL: Duration = Duration::from_millis(50);
/// After a page that left nothing waiting, so that what comes meanwhile shares the next one.
const PACE: Duration = Duration::from_millis(10);

/// A reaction that cannot be carried out: kept for a person, while everything else goes on.
struct Stuck {
    pos: i64,
    n: usize,
    manager: &'static str,
    error: String,
}

/// An intent with the place that it follows from.
struct Reaction {
    tenant: MerchantId,
    pos: i64,
    n: usize,
    manager: &'static str,
    event: RecordedEvent,
    intent: Intent,
}

/// Runs until `shutdown`. `moved` wakes it when this process wrote to the log; `tasks` is told when there is new work.
pub async fn run(
    pool: PgPool,
    handler: CommandHandler,
    mut moved: watch::Receiver<i64>,
    tasks: std::sync::Arc<Notify>,
    shutdown: CancellationToken,
) {
    let mut at = None;
    loop {
        let step = tokio::select! {
            () = shutdown.cancelled() => return,
            step = step(&pool, &handler, &tasks, at) => step,
        };
        match step {
            Ok((stands_at, 0)) => {
                at = stands_at;
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = moved.changed() => {}
                    () = tokio::time::sleep(POLL) => {}
                }
            }
            Ok((stands_at, events)) => {
                at = stands_at;
                if i64::try_from(events).is_ok_and(|events| events < PAGE) {
                    tokio::time::sleep(PACE).await;
                }
            }
            Err(error) => {
                at = None;
                counter!("smartpos_process_faults_total").increment(1);
                tracing::warn!(%error, "process managers start over");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Handles one page after `at`, or after the checkpoint. Returns where that stands, as far as it is known without asking,
/// and how many events there were.
async fn step(pool: &PgPool, handler: &CommandHandler, tasks: &Notify, at: Option<i64>) -> Result<(Option<i64>, usize), CommandError> {
    let from = match at {
        Some(at) => at,
        None => checkpoint(pool).await?,
    };
    let page = read_log(pool, from, PAGE).await?;
    let count = page.len();
    // With nothing to read the checkpoint is asked for again: the database may have been restored to the past.
    let Some(to) = page.last().map(|event| event.pos) else { return Ok((None, 0)) };
    let mut scheduled = Vec::new();
    let (mut commands, mut stuck) = (Vec::new(), Vec::new());
    for event in page {
        for reaction in react(&event, &mut stuck)? {
            if matches!(reaction.intent, Intent::Commands(_)) { commands.push(reaction) } else { scheduled.push(reaction) }
        }
    }
    let refused: Vec<Stuck> = stream::iter(commands)
        .map(|reaction| carry_out(handler, reaction))
        .buffer_unordered(SIDE_BY_SIDE)
        .try_filter_map(|stuck| async move { Ok(stuck) })
        .try_collect()
        .await?;
    stuck.extend(refused);
    let news = !scheduled.is_empty();
    if news {
        fail_point::reach("before_task").await;
    }
    let stored = store(pool, from, to, scheduled, stuck).await?;
    if stored && news {
        tasks.notify_one();
    }
    gauge!("smartpos_process_position").set(u32::try_from(to).unwrap_or(u32::MAX));
    Ok((stored.then_some(to), count))
}

async fn checkpoint(pool: &PgPool) -> Result<i64, CommandError> {
    let insert = "insert into process.checkpoint (name, pos) values ($1, 0) on conflict do nothing";
    let found: Option<i64> =
        sqlx::query_scalar("select pos from process.checkpoint where name = $1").bind(CHECKPOINT).fetch_optional(pool).await?;
    if let Some(pos) = found {
        return Ok(pos);
    }
    sqlx::query(insert).bind(CHECKPOINT).execute(pool).await?;
    Ok(0)
}

/// What follows from an event; nothing from history. A payload that nobody can read halts only itself; an event that a newer build wrote halts
/// everything until this build is replaced, because skipping it would lose what must follow.
fn react(event: &RecordedEvent, stuck: &mut Vec<Stuck>) -> Result<Vec<Reaction>, CommandError> {
    // Before it is decoded: history is long.
    if event.actor.starts_with(process::HISTORY) {
        return Ok(vec![]);
    }
    let decoded = match DomainEvent::decode(event) {
        Ok(decoded) => decoded,
        Err(error @ DecodeError::BadPayload { .. }) => {
            stuck.push(Stuck::new(event.pos, 0, "all", error.to_string()));
            return Ok(vec![]);
        }
        Err(error @ (DecodeError::UnknownType(_) | DecodeError::UnknownVersion { .. })) => {
            let stream = format!("{}-{}", event.stream.stream_type.as_str(), event.stream.stream_id);
            return Err(CommandError::Corrupt { stream, version: event.version, error });
        }
    };
    let (tenant, stream_id) = (event.stream.tenant, event.stream.stream_id);
    let happened = Happened { tenant, stream_id, recorded_at: event.recorded_at, event: &decoded };
    let mut reactions = Vec::new();
    for manager in process::ALL {
        for (n, intent) in (manager.react)(&happened).into_iter().enumerate() {
            reactions.push(Reaction { tenant, pos: event.pos, n, manager: manager.name, event: event.clone(), intent });
        }
    }
    Ok(reactions)
}

/// Carries out the commands of a reaction; a refusal by a rule is handed back to be made visible.
async fn carry_out(handler: &CommandHandler, reaction: Reaction) -> Result<Option<Stuck>, CommandError> {
    let Intent::Commands(commands) = &reaction.intent else { return Ok(None) };
    let scope = format!("process:{}", reaction.manager);
    let key = format!("{}:{}", reaction.pos, reaction.n);
    let caller = Caller {
        tenant: reaction.tenant,
        actor: scope.clone(),
        device: None,
        correlation_id: reaction.event.correlation_id,
        idempotency: Some(IdempotencyKey::new(reaction.tenant.0, scope, key, reaction.manager, &json!(reaction.pos))),
        if_match: None,
    };
    match execute(handler, &caller, commands).await {
        Ok(()) => Ok(None),
        Err(error) if error.is_transient() => Err(error),
        // A rule, a broken target stream, a write that the database refuses: it will be the same the next time.
        Err(error) => Ok(Some(Stuck::new(reaction.pos, reaction.n, reaction.manager, error.to_string()))),
    }
}

impl Stuck {
    fn new(pos: i64, n: usize, manager: &'static str, error: String) -> Self {
        tracing::error!(pos, n, manager, error, "a reaction cannot be carried out; see process.stuck");
        counter!("smartpos_process_stuck_total").increment(1);
        Self { pos, n, manager, error }
    }
}

/// Appends commands together, all or nothing.
///
/// # Errors
/// Any [`CommandError`].
pub(crate) async fn execute(handler: &CommandHandler, caller: &Caller, commands: &[ProcessCommand]) -> Result<(), CommandError> {
    let answer = handler
        .transact(caller, |unit| {
            let commands = commands.to_vec();
            Box::pin(async move {
                for command in commands {
                    process_commands::apply(unit, command).await?;
                }
                Ok(unit.done())
            })
        })
        .await;
    answer.map(drop)
}

/// Moves the checkpoint with everything that belongs to it; false when another process was faster.
async fn store(pool: &PgPool, from: i64, to: i64, scheduled: Vec<Reaction>, stuck: Vec<Stuck>) -> Result<bool, CommandError> {
    // A page without a reaction leaves nothing but a checkpoint; a lost one only reads the page again, so no one waits for the
    // disk. Tasks lead to calls outside and are stored before they are seen.
    let idle = scheduled.is_empty() && stuck.is_empty();
    let begin = if idle { "begin; set local synchronous_commit to off" } else { "begin" };
    let mut transaction = pool.begin_with(begin).await?;
    let moved = sqlx::query("update process.checkpoint set pos = $3 where name = $1 and pos = $2")
        .bind(CHECKPOINT)
        .bind(from)
        .bind(to)
        .execute(&mut *transaction)
        .await?;
    if moved.rows_affected() == 0 {
        return Ok(false);
    }
    for reaction in scheduled {
        match reaction.intent {
            Intent::Schedule { key, task, after_ms } => {
                sqlx::query("insert into process.task (key, tenant, task, due_at) values ($1, $2, $3, $4) on conflict (key) do nothing")
                    .bind(key)
                    .bind(uuid_of(reaction.tenant))
                    .bind(Json(task))
                    .bind(reaction.event.recorded_at + ChronoDuration::milliseconds(after_ms))
                    .execute(&mut *transaction)
                    .await?;
            }
            Intent::RememberReference(attempt) => {
                sqlx::query(
                    "insert into process.provider_reference (provider, reference, tenant, attempt) values ($1, $2, $3, $4) on conflict do nothing",
                )
                .bind(&attempt.provider)
                // A name of the provider's own stands beside our reference, in a row of its own.
                .bind(attempt.provider_id.as_ref().unwrap_or(&attempt.reference))
                .bind(uuid_of(reaction.tenant))
                .bind(Json(&attempt))
                .execute(&mut *transaction)
                .await?;
            }
            Intent::Commands(_) => {} // carried out before
        }
    }
    for stuck in stuck {
        sqlx::query("insert into process.stuck (pos, n, manager, error) values ($1, $2, $3, $4) on conflict do nothing")
            .bind(stuck.pos)
            .bind(i32::try_from(stuck.n).unwrap_or(i32::MAX))
            .bind(stuck.manager)
            .bind(stuck.error)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(true)
}
