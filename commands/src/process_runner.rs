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
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    error::CommandError,
    event_log::EventLog,
    fail_point,
    handle::{Caller, CommandHandler},
    idempotency::IdempotencyKey,
    process_commands,
    process_store::{Leaves, ProcessStore, Stuck},
};

/// Events read at a time.
const PAGE: i64 = 500;
/// Reactions carried out side by side, so that they share commits.
const SIDE_BY_SIDE: usize = 32;
/// Poll of the log when nobody says that it moved.
const POLL: Duration = Duration::from_millis(50);
/// After a page that left nothing waiting, so that what comes meanwhile shares the next one. Somebody waits at a counter for what
/// follows from the events, so it is short.
const PACE: Duration = Duration::from_millis(3);

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
    store: impl ProcessStore + EventLog,
    handler: CommandHandler,
    mut moved: watch::Receiver<i64>,
    tasks: std::sync::Arc<Notify>,
    shutdown: CancellationToken,
) {
    let mut at = None;
    loop {
        let step = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            step = step(&store, &handler, &tasks, at) => step,
        };
        match step {
            Ok((Some(to), events)) => {
                at = Some(to);
                if events == PAGE {
                    continue;
                }
                if events > 0 {
                    tokio::time::sleep(PACE).await;
                }
                let news = moved.has_changed().unwrap_or(false);
                let newest = *moved.borrow_and_update();
                // What this process wrote before the last read, and that did not show, is void: the log went back.
                let more = newest > to && (events > 0 || news);
                if !more {
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return,
                        _ = moved.changed() => {}
                        // Nobody here wrote anything: the database may have been restored to the past.
                        () = tokio::time::sleep(POLL) => at = None,
                    }
                }
            }
            Ok((None, _)) => at = None,
            Err(error) => {
                at = None;
                counter!("smartpos_process_faults_total").increment(1);
                tracing::warn!(%error, "process managers start over");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Handles one page after `at`, or after the checkpoint. Returns where that stands, unless somebody else moved it, and how many events
/// there were.
async fn step(
    store: &(impl ProcessStore + EventLog),
    handler: &CommandHandler,
    tasks: &Notify,
    at: Option<i64>,
) -> Result<(Option<i64>, i64), CommandError> {
    let from = match at {
        Some(at) => at,
        None => store.checkpoint().await?,
    };
    let page = store.read(from, PAGE).await?;
    let Some(to) = page.last().map(|event| event.pos) else { return Ok((Some(from), 0)) };
    let count = i64::try_from(page.len()).unwrap_or(PAGE);
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
    if !scheduled.is_empty() {
        fail_point::reach("before_task").await;
    }
    // What is due later is found by the worker's poll.
    let news = scheduled.iter().any(|reaction| matches!(reaction.intent, Intent::Schedule { after_ms: 0, .. }));
    let leaves = scheduled.into_iter().filter_map(left).collect();
    let stored = store.advance(from, to, leaves, stuck).await?;
    if stored && news {
        tasks.notify_one();
    }
    gauge!("smartpos_process_position").set(u32::try_from(to).unwrap_or(u32::MAX));
    Ok((stored.then_some(to), count))
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
            stuck.push(stuck_at(event.pos, 0, "all", error.to_string()));
            return Ok(vec![]);
        }
        Err(error @ (DecodeError::UnknownType(_) | DecodeError::UnknownVersion { .. })) => {
            let stream = format!("{}-{}", event.stream.stream_type.as_str(), event.stream.stream_id);
            return Err(CommandError::Corrupt { stream, version: event.version, error });
        }
    };
    let (tenant, stream_id) = (event.stream.tenant, event.stream.stream_id);
    let happened = Happened { tenant, stream_id, position: event.pos, recorded_at: event.recorded_at, event: &decoded };
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
        Ok(_) => Ok(None),
        Err(error) if error.is_transient() => Err(error),
        // A rule, a broken target stream, a write that the database refuses: it will be the same the next time.
        Err(error) => Ok(Some(stuck_at(reaction.pos, reaction.n, reaction.manager, error.to_string()))),
    }
}

fn stuck_at(pos: i64, n: usize, manager: &'static str, error: String) -> Stuck {
    tracing::error!(pos, n, manager, error, "a reaction cannot be carried out; see process.stuck");
    counter!("smartpos_process_stuck_total").increment(1);
    Stuck { pos, n, manager, error }
}

/// Appends commands together, all or nothing; says whether anything followed from them.
///
/// # Errors
/// Any [`CommandError`].
pub(crate) async fn execute(handler: &CommandHandler, caller: &Caller, commands: &[ProcessCommand]) -> Result<bool, CommandError> {
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
    answer.map(|answer| answer.position.is_some())
}

/// What a reaction leaves in the store.
fn left(reaction: Reaction) -> Option<Leaves> {
    let Reaction { tenant, event, intent, .. } = reaction;
    match intent {
        Intent::Schedule { key, task, after_ms } => {
            let due_at = event.recorded_at + ChronoDuration::milliseconds(after_ms);
            Some(Leaves::Task { key, tenant, task: Box::new(task), due_at })
        }
        Intent::RememberReference(attempt) => Some(Leaves::Reference { tenant, attempt: Box::new(attempt) }),
        Intent::Commands(_) => None, // carried out before
    }
}
