//! Drives the process managers over the log: reads on from a checkpoint, lets each manager react, carries the reactions out.
//!
//! Commands go first, under keys derived from (manager, position, n); then tasks and the checkpoint move in one transaction,
//! by compare-and-set. A crash between the two repeats commands whose keys are taken: nothing happens twice.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Duration as ChronoDuration, Utc};
use domain::{
    event::{DecodeError, ReadEvent},
    ids::MerchantId,
    process::{self, Happened, Intent, ProcessCommand},
};
use futures_util::{StreamExt, stream};
use metrics::{counter, gauge};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    error::CommandError,
    event_log::EventLog,
    event_store::uuid_of,
    fail_point,
    handle::{Caller, CommandHandler},
    idempotency::IdempotencyKey,
    own_commits::OwnCommits,
    process_commands,
    process_store::{Leaves, ProcessStore, Stuck},
    tasks::{Handed, Tasks, leased_until},
};

/// Events read at a time, at most: all that follows from a page is done anew when part of it failed, so that a page after a fault is small.
const PAGE: usize = 500;
/// Events read at a time for each reaction that may be under way at once.
const PAGE_OF_ONE: usize = 16;
/// Reactions carried out side by side, so that they share commits; at most. At the start, and after a fault, it is one, and twice as many
/// with each that went well: thirty-two at once would each open a connection, and on a machine that is busy none of them is open before the
/// patience of all has ended, again and again.
const SIDE_BY_SIDE: usize = 32;
/// Poll of the log when nobody says that it moved.
const POLL: Duration = Duration::from_millis(50);
/// After a page from which something followed, so that what comes meanwhile shares the next one. Somebody waits at a counter for it, so
/// it is short.
const PACE: Duration = Duration::from_millis(2);
/// Events from which nothing followed before the checkpoint moves beyond them all the same.
const MOST_BEHIND: i64 = 1_000;

/// An intent with the place that it follows from.
struct Reaction {
    tenant: MerchantId,
    pos: i64,
    n: usize,
    manager: &'static str,
    event: Arc<ReadEvent>,
    intent: Intent,
}

/// Runs until `shutdown`. `moved` wakes it when this process wrote to the log, `own` is what it wrote; `tasks` is handed new work, or told
/// of it.
pub async fn run(
    store: impl ProcessStore + EventLog,
    handler: CommandHandler,
    mut moved: watch::Receiver<i64>,
    own: OwnCommits,
    tasks: Arc<Tasks>,
    shutdown: CancellationToken,
) {
    let mut managers = Managers { store, handler, own, tasks, place: None, doubtful: true, side_by_side: 1 };
    // A step is not given up half way: what it leaves leased it hands over, or nobody would know that it was not begun.
    while !shutdown.is_cancelled() {
        match managers.step().await {
            Ok(Some(Step { seen, events, full, acted })) => {
                if full {
                    continue;
                }
                if acted {
                    tokio::time::sleep(PACE).await;
                }
                let news = moved.has_changed().unwrap_or(false);
                let newest = *moved.borrow_and_update();
                // What this process wrote before the last read, and that did not show, is void: the log went back.
                let more = newest > seen && (events > 0 || news);
                if !more {
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return,
                        _ = moved.changed() => {}
                        // Nobody here wrote anything: the database may have been restored to the past.
                        () = tokio::time::sleep(POLL) => managers.rest().await,
                    }
                }
            }
            Ok(None) => managers.start_over(),
            Err(error) => {
                managers.start_over();
                managers.side_by_side = 1;
                counter!("smartpos_process_faults_total").increment(1);
                tracing::warn!(%error, "process managers start over");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// What came of a step.
struct Step {
    /// Up to where events were looked at.
    seen: i64,
    /// How many of them.
    events: usize,
    /// As many as are read at a time: there may be more.
    full: bool,
    /// Something followed from them.
    acted: bool,
}

/// Where the managers stand.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The checkpoint in the store.
    stored: i64,
    /// Up to where events were looked at; behind the checkpoint nothing followed from them.
    seen: i64,
    /// Hash of the event there, once one was looked at.
    hash: Option<[u8; 32]>,
}

struct Managers<S> {
    store: S,
    handler: CommandHandler,
    own: OwnCommits,
    tasks: Arc<Tasks>,
    /// Nothing: as the store says.
    place: Option<Place>,
    /// Something went wrong: what this process wrote before the store answers again may be void.
    doubtful: bool,
    /// So many reactions may be under way at once now.
    side_by_side: usize,
}

impl<S: ProcessStore + EventLog> Managers<S> {
    /// Handles what comes next; nothing when somebody else moved the checkpoint.
    async fn step(&mut self) -> Result<Option<Step>, CommandError> {
        let place = if let Some(place) = self.place {
            place
        } else {
            let stored = self.store.checkpoint().await?;
            if std::mem::take(&mut self.doubtful) {
                self.own.forget();
            }
            Place { stored, seen: stored, hash: None }
        };
        let most = PAGE.min(self.side_by_side * PAGE_OF_ONE);
        let own = if self.place.is_some() { self.own.take(place.seen, most) } else { Vec::new() };
        let page =
            if own.is_empty() { self.own.read(&self.store, place.seen, 0, i64::try_from(most).unwrap_or(i64::MAX)).await? } else { own };
        self.place = Some(place);
        let Some((seen, hash)) = page.last().map(|event| (event.pos, event.hash)) else {
            return Ok(Some(Step { seen: place.seen, events: 0, full: false, acted: false }));
        };
        let (events, page) = (page.len(), Page::of(&page)?);
        let acted = !page.is_empty();
        if page.commands.is_empty() {
            // Long history from which nothing follows is not read in small pages.
            self.widen();
        }
        let stored = if acted || seen - place.stored >= MOST_BEHIND {
            self.handle(place.stored, (seen, hash), page).await?.then_some(seen)
        } else {
            Some(place.stored)
        };
        self.place = stored.map(|stored| Place { stored, seen, hash: Some(hash) });
        gauge!("smartpos_process_position").set(u32::try_from(seen).unwrap_or(u32::MAX));
        Ok(stored.map(|_| Step { seen, events, full: events >= most, acted }))
    }

    /// Nothing that is in memory counts any more.
    const fn start_over(&mut self) {
        (self.place, self.doubtful) = (None, true);
    }

    fn widen(&mut self) {
        self.side_by_side = (2 * self.side_by_side).min(SIDE_BY_SIDE);
    }

    /// While nothing happens: the checkpoint comes after what was seen, and is read anew with the next step.
    async fn rest(&mut self) {
        let Some(Place { stored, seen, hash }) = self.place.take() else { return };
        if seen > stored && !matches!(self.store.advance(stored, (seen, hash), vec![], vec![]).await, Ok(Some(_))) {
            self.start_over();
        }
    }

    /// Carries out what follows from a page and moves the checkpoint; false when somebody else moved it.
    async fn handle(&mut self, from: i64, (to, hash): (i64, [u8; 32]), page: Page) -> Result<bool, CommandError> {
        let Page { commands, scheduled, mut stuck, .. } = page;
        stuck.extend(self.carry_out_all(commands).await?);
        if !scheduled.is_empty() {
            fail_point::reach("before_task").await;
        }
        let mut left = Left::default();
        for reaction in scheduled {
            left.take(reaction, &self.tasks, self.handler.clock().now());
        }
        let Left { leaves, mut held, news } = left;
        let stored = self.store.advance(from, (to, Some(hash)), leaves, stuck).await?;
        for task in stored.iter().flatten().filter_map(|key| held.remove(key)) {
            self.tasks.hand_over_or_release(&self.store, task).await;
        }
        if stored.is_some() && news {
            self.tasks.notify();
        }
        Ok(stored.is_some())
    }

    /// Carries out commands side by side, see [`SIDE_BY_SIDE`]; what cannot be. After a fault none is begun, and those that were are
    /// finished: what they have done, and the connections that they opened, need not be done again.
    async fn carry_out_all(&mut self, commands: Vec<Reaction>) -> Result<Vec<Stuck>, CommandError> {
        let (mut commands, mut stuck) = (commands.into_iter(), Vec::new());
        while commands.len() > 0 {
            let wave = if self.side_by_side < SIDE_BY_SIDE { self.side_by_side } else { commands.len() };
            let (handler, failed) = (&self.handler, &AtomicBool::new(false));
            let begin = |reaction| async move {
                if failed.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                carry_out(handler, reaction).await.inspect_err(|_| failed.store(true, Ordering::Relaxed))
            };
            let carried_out = stream::iter(commands.by_ref().take(wave)).map(begin).buffer_unordered(self.side_by_side);
            let carried_out: Vec<_> = carried_out.collect().await;
            for refused in carried_out {
                stuck.extend(refused?);
            }
            self.widen();
        }
        Ok(stuck)
    }
}

/// What follows from some events.
#[derive(Default)]
struct Page {
    commands: Vec<Reaction>,
    scheduled: Vec<Reaction>,
    stuck: Vec<Stuck>,
}

impl Page {
    fn of(events: &[Arc<ReadEvent>]) -> Result<Self, CommandError> {
        let mut page = Self::default();
        for event in events {
            for reaction in react(event, &mut page.stuck)? {
                let commands = matches!(reaction.intent, Intent::Commands(_));
                if commands { page.commands.push(reaction) } else { page.scheduled.push(reaction) }
            }
        }
        Ok(page)
    }

    const fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.scheduled.is_empty() && self.stuck.is_empty()
    }
}

/// Counts what somebody who watches over the platform wants to hear of; more than once where a page is read again.
fn tell(event_type: &str) {
    match event_type {
        "payment_intent.unmatched_payment_received" => counter!("smartpos_payments_unmatched_total").increment(1),
        "payment_intent.outcome_unknown" => counter!("smartpos_outcomes_unknown_total", "of" => "payment").increment(1),
        "refund.outcome_unknown" => counter!("smartpos_outcomes_unknown_total", "of" => "refund").increment(1),
        "payment_intent.left_to_person" => counter!("smartpos_left_to_person_total", "of" => "payment").increment(1),
        "refund.left_to_person" => counter!("smartpos_left_to_person_total", "of" => "refund").increment(1),
        _ => {}
    }
}

/// What follows from an event; nothing from history. A payload that nobody can read halts only itself; an event that a newer build wrote halts
/// everything until this build is replaced, because skipping it would lose what must follow.
fn react(event: &Arc<ReadEvent>, stuck: &mut Vec<Stuck>) -> Result<Vec<Reaction>, CommandError> {
    // Before it is decoded: history is long.
    if event.actor.starts_with(process::HISTORY) {
        return Ok(vec![]);
    }
    let decoded = match event.decoded() {
        Ok(decoded) => decoded,
        Err(error @ DecodeError::BadPayload { .. }) => {
            stuck.push(stuck_at(event.pos, 0, "all", error.to_string()));
            return Ok(vec![]);
        }
        Err(error @ (DecodeError::UnknownType(_) | DecodeError::UnknownVersion { .. })) => {
            let stream = format!("{}-{}", event.stream.stream_type.as_str(), event.stream.stream_id);
            return Err(CommandError::Corrupt { stream, version: event.version, error: error.clone() });
        }
    };
    tell(&event.event_type);
    let (tenant, stream_id) = (event.stream.tenant, event.stream.stream_id);
    let happened = Happened { tenant, stream_id, position: event.pos, recorded_at: event.recorded_at, event: decoded };
    let mut reactions = Vec::new();
    for manager in process::ALL {
        for (n, intent) in (manager.react)(&happened).into_iter().enumerate() {
            reactions.push(Reaction { tenant, pos: event.pos, n, manager: manager.name, event: Arc::clone(event), intent });
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
        operation: None,
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

/// What a page leaves in the store.
#[derive(Default)]
struct Left {
    leaves: Vec<Leaves>,
    /// Of the tasks those that are left leased, to be handed to the worker of this process.
    held: HashMap<String, Handed>,
    /// Something is due that is not handed to anybody. What is due later is found by the worker's poll.
    news: bool,
}

impl Left {
    fn take(&mut self, reaction: Reaction, tasks: &Tasks, now: DateTime<Utc>) {
        let Reaction { tenant, event, intent, .. } = reaction;
        match intent {
            Intent::Schedule { key, task, after_ms } => {
                let due_at = event.recorded_at + ChronoDuration::milliseconds(after_ms);
                let place = if after_ms == 0 { tasks.place() } else { None };
                self.news |= after_ms == 0 && place.is_none();
                let until = leased_until(now);
                let leased_until = place.as_ref().map(|_| until);
                if let Some(place) = place {
                    let handed = || Handed { key: key.clone(), tenant: uuid_of(tenant), task: task.clone(), leased_until: until, place };
                    self.held.entry(key.clone()).or_insert_with(handed);
                }
                self.leaves.push(Leaves::Task { key, tenant, task: Box::new(task), due_at, leased_until });
            }
            Intent::RememberReference(attempt) => self.leaves.push(Leaves::Reference { tenant, attempt: Box::new(attempt) }),
            Intent::Commands(_) => {} // carried out before
        }
    }
}
