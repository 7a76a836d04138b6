//! The projector: drives one projection from the feed, batch by batch.
//!
//! Rows and checkpoint move in one transaction by compare-and-set, so that a second copy, a crash or a retry changes nothing.
//! An event of unknown type stops the projection with an alarm until a newer build comes. One that cannot be applied halts
//! its stream in this projection (a row in `read.quarantine`); the rest goes on. A rebuild heals it: see [`crate::rebuild`].

use std::{collections::HashMap, sync::Arc, time::Duration};

use domain::{envelope::RecordedEvent, event::ReadEvent};
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    feed::Feed,
    fold::{Batch, Fold, Step},
    projection::Projection,
    row_store::RowStore,
    rows::Rows,
    tables::{Standing, Target},
};

/// Most events of a batch.
pub(crate) const BATCH: usize = 500;
/// Rows kept in memory between batches.
const MOST_ROWS: usize = 20_000;
/// How long a batch is waited for; only bounds how late a shutdown or a lag figure is.
const WAIT: Duration = Duration::from_secs(1);
/// After a batch that left nothing waiting, so that what comes meanwhile shares the next transaction. One event after a quiet
/// time is folded at once; on a busy log twenty transactions a second are enough, and ten that only move the checkpoint.
const PACE: Duration = Duration::from_millis(50);
const PACE_WITHOUT_ROWS: Duration = Duration::from_millis(100);
/// Pauses between tries after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Runs one projection until `shutdown`. `progress` carries the
/// checkpoint; `turns` is shared by the projections of this process. Never gives up: failures are logged and tried again.
pub async fn run(
    projection: Arc<dyn Projection>,
    store: impl RowStore,
    feed: Feed,
    shutdown: CancellationToken,
    progress: watch::Sender<i64>,
    turns: Turns,
) {
    let mut projector = Projector { turns, ..Projector::new(Target::live(projection.as_ref()), projection, store) };
    let mut pause = BACK_OFF.0;
    while !shutdown.is_cancelled() {
        let turn = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            turn = projector.turn(&feed) => turn,
        };
        progress.send_replace(projector.certain());
        let rest = match turn {
            Ok(events) => {
                pause = BACK_OFF.0;
                match events {
                    1..BATCH if projector.wrote_rows => PACE,
                    1..BATCH => PACE_WITHOUT_ROWS,
                    _ => Duration::ZERO,
                }
            }
            Err(error) => {
                projector.failed(&error);
                let rest = pause;
                pause = (pause * 2).min(BACK_OFF.1);
                rest
            }
        };
        if !rest.is_zero() {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
        }
        let lag = feed.tail().saturating_sub(projector.position()).max(0);
        #[expect(clippy::cast_precision_loss, reason = "a gauge; a lag beyond 2^52 events is not a figure anyone reads exactly")]
        metrics::gauge!("smartpos_projection_lag", "projection" => projector.name()).set(lag as f64);
    }
}

/// Projectors running in this process.
pub struct Running {
    /// What feeds them; others may read it too.
    pub feed: Feed,
    /// The checkpoint of each projection, as it moves.
    pub progress: Vec<(&'static str, watch::Receiver<i64>)>,
    /// Ends once `shutdown` was asked for and every projector has stopped.
    pub tasks: tokio::task::JoinSet<()>,
}

/// Starts every projection of [`crate::all`] on one feed.
pub fn start_all(pool: &PgPool, nats: Option<async_nats::Client>, shutdown: &CancellationToken) -> Running {
    let feed = Feed::start(crate::LogReader::new(pool.clone()), nats, None, shutdown.clone());
    let mut progress = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    let turns = Turns::default();
    for projection in crate::all() {
        let (sender, receiver) = watch::channel(0);
        progress.push((projection.name(), receiver));
        tasks.spawn(run(projection, pool.clone(), feed.clone(), shutdown.clone(), sender, turns.clone()));
    }
    Running { feed, progress, tasks }
}

/// Who may fold and write. All projections of a process hear of an event at the same moment, and commands, which share the
/// machine, must not queue behind every one of them.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

impl Turns {
    /// So many at a time.
    pub fn of(permits: usize) -> Self {
        Self(Arc::new(Semaphore::new(permits)))
    }

    /// How long a turn is waited for: one that hangs in the database holds up nobody for longer.
    const PATIENCE: Duration = Duration::from_millis(250);

    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(Self::PATIENCE, Arc::clone(&self.0).acquire_owned()).await.ok().and_then(Result::ok)
    }
}

impl Default for Turns {
    /// One for every two processors.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of((processors / 2).max(1))
    }
}

/// What is in memory of a projection.
struct State {
    standing: Standing,
    fold: Fold,
    /// Hash of the event at the checkpoint, once rows were folded from it: they are void with it.
    newest: Option<[u8; 32]>,
}

/// One projection at one place in the log.
pub(crate) struct Projector<S> {
    projection: Arc<dyn Projection>,
    store: S,
    target: Target,
    /// Nothing until the checkpoint was read, and after a failure.
    state: Option<State>,
    last_position: i64,
    /// Up to this position batches have one event each, to find the one whose rows the database refuses.
    careful_until: i64,
    /// The views are known to name this version.
    serves: bool,
    /// When it was looked for that last.
    looked: Option<tokio::time::Instant>,
    /// The last batch changed rows.
    wrote_rows: bool,
    turns: Turns,
}

impl<S: RowStore> Projector<S> {
    pub(crate) fn new(target: Target, projection: Arc<dyn Projection>, store: S) -> Self {
        let turns = Turns::default();
        Self {
            projection,
            store,
            target,
            state: None,
            last_position: 0,
            careful_until: 0,
            serves: false,
            looked: None,
            wrote_rows: false,
            turns,
        }
    }

    pub(crate) const fn position(&self) -> i64 {
        self.last_position
    }

    /// What queries may take for folded in: nothing after a failure, until the database was asked. Rows are committed without
    /// waiting for the disk, so a database that crashed may have gone back.
    const fn certain(&self) -> i64 {
        match &self.state {
            Some(state) => state.standing.pos,
            None => 0,
        }
    }

    fn name(&self) -> String {
        self.target.name.clone()
    }

    /// Takes one batch from the feed and writes what follows from it; says how many events it had.
    async fn turn(&mut self, feed: &Feed) -> Result<usize, Error> {
        let position = self.resume().await?;
        let most = self.most(position);
        match feed.next_batch(position, most, WAIT).await {
            Ok(events) if events.is_empty() => self.notice_a_move().await.map(|()| 0),
            Ok(events) => {
                let count = events.len();
                let turn = self.turns.wait().await;
                self.fold_and_write(events).await?;
                drop(turn);
                // A busy log is never silent.
                if !self.serves && self.last_position >= feed.tail() && self.looked.is_none_or(|at| at.elapsed() >= WAIT) {
                    self.notice_a_move().await?;
                }
                Ok(count)
            }
            Err(Error::AheadOfLog { after, head }) => {
                tracing::error!(
                    projection = self.name(),
                    after,
                    head,
                    "the database was restored to the past: folding again from the start"
                );
                self.state = None;
                // Nobody may take rows that are about to go for fresh ones.
                self.last_position = 0;
                self.store.wipe(self.projection.as_ref(), &self.target, head).await.map(|()| 0)
            }
            Err(error) => Err(error),
        }
    }

    /// Most events of the next batch.
    pub(crate) const fn most(&self, position: i64) -> usize {
        if position < self.careful_until { 1 } else { BATCH }
    }

    /// A rebuild or a reset may have put another copy in place, or moved the checkpoint, while nothing happened. When all is folded
    /// in, this version is the one to serve.
    async fn notice_a_move(&mut self) -> Result<(), Error> {
        self.looked = Some(tokio::time::Instant::now());
        let (standing, _) = self.store.standing(&self.target).await?;
        if self.state.as_ref().is_some_and(|state| state.standing != standing) {
            self.state = None;
        } else if !self.serves {
            self.serves = self.store.serve(self.projection.as_ref()).await?;
        }
        Ok(())
    }

    /// The position reached; reads checkpoint and quarantine when they are not in memory.
    pub(crate) async fn resume(&mut self) -> Result<i64, Error> {
        if let Some(state) = &self.state {
            return Ok(state.standing.pos);
        }
        let (standing, streams) = self.store.standing(&self.target).await?;
        self.state = Some(State { standing, fold: Fold::new(Rows::new(), streams), newest: None });
        self.last_position = standing.pos;
        Ok(standing.pos)
    }

    /// Folds consecutive events, the first of them right after the position, and writes.
    pub(crate) async fn fold_and_write(&mut self, events: Vec<Arc<ReadEvent>>) -> Result<(), Error> {
        // Taken: whatever goes wrong, the next turn begins at what the database says.
        let Some(State { standing, mut fold, newest }) = self.state.take() else { return Ok(()) };
        let position = standing.pos;
        let projection = Arc::clone(&self.projection);
        let single = if let [event] = events.as_slice() { Some(Arc::clone(event)) } else { None };
        let batch = Batch::new(projection.as_ref(), events);
        let Some((done, stopped)) = self.fold(&mut fold, standing, &batch).await? else { return Ok(()) };
        let Some(to) = done.checked_sub(1).and_then(|index| batch.position(index)) else {
            return stopped.map_or(Ok(()), Err);
        };
        let changes = fold.rows.changes()?;
        self.wrote_rows = !changes.is_empty();
        let hashes: Vec<[u8; 32]> = newest.into_iter().chain(batch.hashes(done)).collect();
        match self.store.commit(&self.target, standing, to, &hashes, &changes, &fold.quarantined).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if error.is_bad_data() => {
                let Some(event) = single else {
                    self.careful_until = to;
                    return Err(error);
                };
                return self.set_aside(&event, standing, &error).await;
            }
            Err(error) => return Err(error),
        }
        self.report(&fold);
        metrics::counter!("smartpos_projection_applied_total", "projection" => self.name()).increment((to - position).unsigned_abs());
        let standing = Standing { pos: to, halted: standing.halted + fold.quarantined.len(), ..standing };
        fold.quarantined.clear();
        fold.rows.written(MOST_ROWS);
        self.state = Some(State { standing, fold, newest: hashes.last().copied() });
        self.last_position = to;
        stopped.map_or(Ok(()), Err)
    }

    /// Passes over the one event whose rows the database refuses, and halts its stream.
    async fn set_aside(&self, event: &RecordedEvent, from: Standing, error: &Error) -> Result<(), Error> {
        let mut fold = Fold::new(Rows::new(), HashMap::new());
        fold.quarantine(event, error.to_string());
        if self.store.commit(&self.target, from, event.pos, &[event.hash], &[], &fold.quarantined).await? {
            self.report(&fold);
        }
        Ok(())
    }

    /// Folds until done or stopped, loading rows as they are asked for. Says how many events are folded in; nothing when the rows in
    /// the database are not those of the checkpoint that the fold began at.
    async fn fold(&self, fold: &mut Fold, at: Standing, batch: &Batch) -> Result<Option<(usize, Option<Error>)>, Error> {
        let projection = self.projection.as_ref();
        let wanted = fold.wanted(projection, batch);
        if !self.load(&mut fold.rows, at, wanted).await? {
            return Ok(None);
        }
        let mut from = 0;
        loop {
            match fold.step(projection, batch, from) {
                Step::Done => return Ok(Some((batch.len(), None))),
                Step::Missing { keys, next } => {
                    if !self.load(&mut fold.rows, at, keys).await? {
                        return Ok(None);
                    }
                    from = next;
                }
                Step::Unknown { next, reason } => {
                    let position = batch.position(next).unwrap_or_default();
                    return Ok(Some((next, Some(Error::Corrupt { position, what: reason }))));
                }
            }
        }
    }

    async fn load(&self, rows: &mut Rows, at: Standing, keys: Vec<(&'static str, String)>) -> Result<bool, Error> {
        if keys.is_empty() {
            return Ok(true);
        }
        let Some(loaded) = self.store.load(&self.target, at, keys).await? else { return Ok(false) };
        for (table, asked, found) in loaded {
            rows.load(table, &asked, found);
        }
        Ok(true)
    }

    fn report(&self, fold: &Fold) {
        for entry in &fold.quarantined {
            metrics::counter!("smartpos_projection_quarantined_total", "projection" => self.name()).increment(1);
            tracing::error!(
                projection = self.name(),
                position = entry.pos,
                stream = %entry.stream.stream_id,
                stream_type = entry.stream.stream_type.as_str(),
                error = entry.error,
                "an event cannot be applied: its stream is halted in this projection"
            );
        }
    }

    fn failed(&self, error: &Error) {
        match error {
            Error::Corrupt { .. } | Error::BadRow { .. } | Error::Rebuild { .. } => {
                tracing::error!(projection = self.name(), %error, "the projection is stopped");
            }
            Error::Sql(_) | Error::AheadOfLog { .. } | Error::Busy | Error::TooMuch => {
                tracing::warn!(projection = self.name(), %error, "the projection will try again");
            }
        }
    }
}
