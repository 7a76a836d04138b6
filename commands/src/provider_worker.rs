//! The provider worker: leases due tasks, makes the calls, records what they meant.
//!
//! The fact before each call is in the log already; the outcome follows as a command; only then the task is replaced or
//! removed. A crash anywhere repeats the task, which asks the provider under the same identifiers.
//!
//! Here tasks come under way and are held meanwhile; `task` performs one, by the work of the files beside it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::{
    ids::{CommandId, MerchantId},
    process::Task,
};
use metrics::{counter, gauge};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use crate::provider_calls::Providers;
use crate::{
    error::CommandError,
    grouped::Grouped,
    handle::{Caller, CommandHandler},
    leases::{Leases, RENEW_EVERY},
    process_store::{Conclusion, Leased, ProcessStore, Said},
    provider_calls::Calls,
    tasks::{Breadth, Handed, LEASE_SECONDS, Place, Tasks},
};

mod day_ends;
mod hints;
mod holds;
mod refunds;
mod rerouting;
mod task;

/// Conclusions, and what was said, written together at most.
const TOGETHER: usize = 64;
/// How long the ends of tasks, and what was said to providers, wait for company on their way to the database. What follows from a call
/// is in the log by then, and nobody at a counter waits.
const MOMENT: Duration = Duration::from_millis(10);
/// Poll for due tasks.
const POLL: Duration = Duration::from_millis(100);

/// A task that can be read.
struct Held {
    key: String,
    tenant: Uuid,
    task: Task,
    /// Somebody held it before and did not say what came of it: the call may have been made.
    abandoned: bool,
    /// Of one that was handed over.
    place: Option<Place>,
}

/// Runs until `shutdown`; calls under way are finished first. A slow call holds one place, not the others.
pub async fn run(
    store: impl ProcessStore + Clone,
    handler: CommandHandler,
    providers: Providers,
    tasks: Arc<Tasks>,
    shutdown: CancellationToken,
) {
    let (conclude, keep) = (store.clone(), store.clone());
    let (conclusions, concluding) = Grouped::new(TOGETHER, MOMENT, move |conclusions: Vec<Conclusion>| {
        let store = conclude.clone();
        async move { store.conclude(&conclusions).await }
    });
    let (said, keeping) = Grouped::new(TOGETHER, MOMENT, move |said: Vec<Said>| {
        let store = keep.clone();
        async move { store.keep_exchanges(&said).await }
    });
    let (renew, clock, leases) = (store.clone(), handler.clone(), Leases::default());
    let renewing = leases.renew_all(move |keys| {
        let (store, now) = (renew.clone(), clock.clock().now());
        async move { store.renew(&keys, now, LEASE_SECONDS.into()).await }
    });
    let calls = Calls::new(store, said, providers);
    let worker = Arc::new(Worker { calls, conclusions, leases: leases.clone(), handler, fault: AtomicBool::new(true) });
    let attending = async {
        tokio::select! {
            biased;
            () = attend_all(worker, tasks, shutdown) => {}
            never = renewing => match never {},
        }
    };
    // What was handed in is written before this ends.
    tokio::join!(attending, concluding, keeping);
}

async fn attend_all<S: ProcessStore>(worker: Arc<Worker<S>>, tasks: Arc<Tasks>, shutdown: CancellationToken) {
    let (mut calls, mut handed) = (JoinSet::new(), tasks.serve());
    let Breadth { side_by_side, at_once, .. } = tasks.breadth();
    // After a fault it begins with one at a look, and then twice as many with each: all at once would come back together for ever where the
    // database has no connection yet, or cannot keep up.
    let mut width = 1;
    let attend = |calls: &mut JoinSet<()>, task: Held| {
        let worker = Arc::clone(&worker);
        calls.spawn(async move { worker.attend(task).await });
    };
    let take_over = |calls: &mut JoinSet<()>, task: Handed| {
        let worker = Arc::clone(&worker);
        calls.spawn(async move {
            if let Some(held) = worker.held(task).await {
                worker.attend(held).await;
            }
        });
    };
    while !shutdown.is_cancelled() {
        while calls.try_join_next().is_some() {}
        gauge!("smartpos_provider_calls").set(u32::try_from(calls.len()).unwrap_or(u32::MAX));
        let free = side_by_side.saturating_sub(calls.len());
        width = if worker.fault.swap(false, Ordering::Relaxed) { 1 } else { at_once.min(2 * width) };
        let places = free.min(width);
        let mut leasing = std::pin::pin!(worker.lease(places));
        let leased = loop {
            tokio::select! {
                biased;
                Some(task) = handed.recv() => take_over(&mut calls, task),
                leased = &mut leasing => break leased,
            }
        };
        let leased = match leased {
            Ok(leased) => leased,
            Err(error) => {
                counter!("smartpos_provider_worker_faults_total").increment(1);
                worker.fault.store(true, Ordering::Relaxed);
                tracing::warn!(%error, "the provider worker starts over");
                tokio::time::sleep(Duration::from_millis(300)).await;
                continue;
            }
        };
        // With as many as were asked for there may be more; with less nothing more is due.
        let more = leased.len() >= places;
        for task in leased {
            attend(&mut calls, task);
        }
        if more && places == at_once && places < free {
            continue;
        }
        let full = more;
        let look_at = tokio::time::Instant::now() + POLL;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(task) = handed.recv() => {
                    take_over(&mut calls, task);
                    continue;
                }
                () = tasks.news(), if !full => {}
                Some(_) = calls.join_next(), if full => {}
                () = tokio::time::sleep_until(look_at) => {}
            }
            break;
        }
    }
    // What was handed over is this worker's.
    handed.close();
    while let Some(task) = handed.recv().await {
        take_over(&mut calls, task);
    }
    while calls.join_next().await.is_some() {}
}

struct Worker<S> {
    handler: CommandHandler,
    calls: Calls<S>,
    conclusions: Grouped<Conclusion>,
    leases: Leases,
    /// Since the last look the database did not answer in time.
    fault: AtomicBool,
}

impl<S: ProcessStore> Worker<S> {
    const fn store(&self) -> &S {
        &self.calls.store
    }

    /// What was handed over, while its lease holds for long enough to be renewed. Otherwise it is free again, unless it is somebody
    /// else's by now, who takes it for one that was perhaps begun.
    async fn held(&self, Handed { key, tenant, task, leased_until, place }: Handed) -> Option<Held> {
        if self.now() + 2 * RENEW_EVERY <= leased_until {
            return Some(Held { key, tenant, task, abandoned: false, place: Some(place) });
        }
        if let Err(error) = self.store().release(&key, leased_until).await {
            tracing::warn!(%error, key, "a task that was handed over too late waits until its lease runs out");
        }
        None
    }

    async fn attend(&self, mut leased: Held) {
        let (key, _place) = (leased.key.clone(), leased.place.take());
        let lease = self.leases.hold(key.clone());
        let done = self.perform(leased).await;
        drop(lease);
        if let Err(error) = done {
            // Put back for a moment; if that fails as well, the lease runs out.
            tracing::warn!(%error, key, "a provider task is left for later");
            // Others who change the same streams are no reason to do less.
            if error.is_transient() && !matches!(error, CommandError::Conflict) {
                self.fault.store(true, Ordering::Relaxed);
            }
            counter!("smartpos_provider_tasks_failed_total").increment(1);
            let _ = self.store().put_back(&key, self.now() + chrono::Duration::seconds(1)).await;
        }
    }

    async fn lease(&self, count: usize) -> Result<Vec<Held>, CommandError> {
        if count == 0 {
            return Ok(vec![]);
        }
        let found = self.store().lease(self.now(), LEASE_SECONDS.into(), i64::try_from(count).unwrap_or(0)).await?;
        let mut leased = Vec::with_capacity(found.len());
        for Leased { key, tenant, task, abandoned } in found {
            match task {
                Ok(task) => leased.push(Held { key, tenant, task, abandoned, place: None }),
                // Written by another build: a newer one will know it. The others go on.
                Err(error) => {
                    tracing::error!(%error, key, "a provider task cannot be read");
                    counter!("smartpos_provider_tasks_unreadable_total").increment(1);
                    // If that fails it is met again when the lease has run out.
                    if let Err(error) = self.store().put_back(&key, self.now() + chrono::Duration::hours(1)).await {
                        tracing::warn!(%error, key, "a task that cannot be read was not put back");
                    }
                }
            }
        }
        Ok(leased)
    }

    fn now(&self) -> DateTime<Utc> {
        self.handler.clock().now()
    }

    fn caller(&self, tenant: MerchantId) -> Caller {
        Caller {
            tenant,
            actor: "process:provider_worker".to_owned(),
            device: None,
            operation: None,
            correlation_id: CommandId(self.handler.ids().next()).0,
            idempotency: None,
            if_match: None,
        }
    }
}
