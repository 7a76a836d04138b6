//! The group committer: everything that is waiting goes to the log in one transaction. The running commit is the timer.
//!
//! [`CommitterCore`] is the pure step; [`spawn`] drives it over one connection. Promises: an item is answered exactly once;
//! a refused item fails alone and the rest of its batch goes again; a second item on a stream or key of the batch waits for
//! the next batch; every queue is bounded; after a broken connection the batch is looked up before anything is claimed.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use domain::{envelope::StreamKey, event::Commit};
use metrics::{counter, gauge, histogram};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    batch::{AppendItem, BatchAnswer, Refusal, StoredKey},
    error::CommandError,
    event_log::{Appender, StoreError},
};

/// Most items in one commit.
pub const MAX_ITEMS: usize = 256;
/// Most payload bytes in one commit.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Most items waiting; beyond that callers are told to come back.
const QUEUE: usize = 4096;
/// How long a batch is retried over new connections before its callers are told, who stand at a counter. One call of the append function may
/// take a second more before its connection is given up.
const PATIENCE: Duration = Duration::from_secs(4);

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemOutcome {
    /// Written; the position of its last event (or of the log's head when it had none).
    Committed {
        /// Position of its last event.
        last_pos: i64,
    },
    /// A stream had another version.
    Conflict {
        /// The stream.
        stream: StreamKey,
    },
    /// One of its keys (by index) was taken before.
    KeyTaken {
        /// Which of the item's keys.
        index: usize,
        /// By what.
        stored: StoredKey,
    },
    /// Nothing was attempted: the database is away.
    Unavailable,
    /// It may or may not be written.
    Unknown,
    /// The database refuses this item whatever its company.
    Failed(String),
}

/// One step of the committer, as data.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<T> {
    /// Call the append function with [`CommitterCore::batch`].
    Append,
    /// Answer a caller.
    Reply(T, ItemOutcome),
}

struct Waiting<T> {
    item: AppendItem,
    reply: T,
}

/// The pure core. `T` stands for whoever waits for the answer.
pub struct CommitterCore<T> {
    waiting: VecDeque<Waiting<T>>,
    /// The batch under way, and who waits for each of its items.
    batch: Vec<AppendItem>,
    replies: Vec<T>,
    /// After a batch was refused as a whole its items go one by one, so that the bad one harms no neighbour.
    singly: usize,
}

impl<T> Default for CommitterCore<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), batch: Vec::new(), replies: Vec::new(), singly: 0 }
    }
}

impl<T> CommitterCore<T> {
    /// Takes an item; the next [`Self::form`] may send it.
    pub fn submit(&mut self, item: AppendItem, reply: T) {
        self.waiting.push_back(Waiting { item, reply });
    }

    /// The batch under way.
    pub fn batch(&self) -> &[AppendItem] {
        &self.batch
    }

    /// Items waiting or under way.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.batch.len()
    }

    /// Nothing is waiting or under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forms the next batch if none is under way.
    pub fn form(&mut self) -> Option<Effect<T>> {
        if !self.batch.is_empty() || self.waiting.is_empty() {
            return None;
        }
        let limit = if self.singly > 0 { 1 } else { MAX_ITEMS };
        self.singly = self.singly.saturating_sub(1);
        let (mut streams, mut keys) = (HashSet::new(), HashSet::new());
        let mut bytes = 0;
        let mut deferred = VecDeque::new();
        while let Some(next) = self.waiting.pop_front() {
            let key_names = || next.item.keys.iter().map(|key| (key.tenant, key.scope.clone(), key.key.clone()));
            let overlaps =
                next.item.streams.iter().any(|write| streams.contains(&write.key)) || key_names().any(|name| keys.contains(&name));
            // What overlaps keeps its place before everything younger, also before younger items on the same streams.
            streams.extend(next.item.streams.iter().map(|write| write.key));
            keys.extend(key_names());
            if overlaps {
                deferred.push_back(next);
                continue;
            }
            bytes += next.item.size();
            self.batch.push(next.item);
            self.replies.push(next.reply);
            if self.batch.len() >= limit || bytes >= MAX_BYTES {
                break;
            }
        }
        while let Some(item) = deferred.pop_back() {
            self.waiting.push_front(item);
        }
        Some(Effect::Append)
    }

    /// Takes the answer of the batch under way.
    pub fn answer(&mut self, answer: BatchAnswer) -> Vec<Effect<T>> {
        let items = std::mem::take(&mut self.batch).into_iter();
        let batch: Vec<_> = items.zip(std::mem::take(&mut self.replies)).map(|(item, reply)| Waiting { item, reply }).collect();
        match answer {
            BatchAnswer::Committed { first_pos, .. } => committed(batch, first_pos),
            BatchAnswer::Refused(refusals) => self.refused(batch, &refusals),
            BatchAnswer::Failed(reason) if batch.len() == 1 => reply_all(batch, &ItemOutcome::Failed(reason)),
            BatchAnswer::Failed(_) => {
                self.singly = batch.len();
                self.requeue(batch);
                Vec::new()
            }
            BatchAnswer::Lost { attempted } => {
                let outcome = if attempted { ItemOutcome::Unknown } else { ItemOutcome::Unavailable };
                self.singly = 0;
                let waiting = std::mem::take(&mut self.waiting).into();
                let mut effects = reply_all(batch, &outcome);
                effects.extend(reply_all(waiting, &ItemOutcome::Unavailable));
                effects
            }
        }
    }

    fn requeue(&mut self, batch: Vec<Waiting<T>>) {
        for item in batch.into_iter().rev() {
            self.waiting.push_front(item);
        }
    }

    fn refused(&mut self, batch: Vec<Waiting<T>>, refusals: &[Refusal]) -> Vec<Effect<T>> {
        let mut effects = Vec::new();
        let mut rest = Vec::new();
        let (mut stream_base, mut key_base) = (0, 0);
        for waiting in batch {
            let (streams, keys) = (waiting.item.streams.len(), waiting.item.keys.len());
            match outcome_of(&waiting.item, refusals, stream_base, key_base) {
                Some(outcome) => effects.push(Effect::Reply(waiting.reply, outcome)),
                None => rest.push(waiting),
            }
            stream_base += streams;
            key_base += keys;
        }
        self.requeue(rest);
        effects
    }
}

/// A key that was taken speaks before a version that moved: the repeat of a request finds its own effect there.
fn outcome_of(item: &AppendItem, refusals: &[Refusal], stream_base: usize, key_base: usize) -> Option<ItemOutcome> {
    let key = refusals.iter().find_map(|refusal| match refusal {
        Refusal::Key { index, stored } if (key_base..key_base + item.keys.len()).contains(index) => {
            Some(ItemOutcome::KeyTaken { index: index - key_base, stored: stored.clone() })
        }
        Refusal::Key { .. } | Refusal::Version { .. } => None,
    });
    key.or_else(|| {
        refusals.iter().find_map(|refusal| match refusal {
            Refusal::Version { index, .. } if (stream_base..stream_base + item.streams.len()).contains(index) => {
                Some(ItemOutcome::Conflict { stream: item.streams[index - stream_base].key })
            }
            Refusal::Key { .. } | Refusal::Version { .. } => None,
        })
    })
}

fn committed<T>(batch: Vec<Waiting<T>>, first_pos: i64) -> Vec<Effect<T>> {
    let mut last_pos = first_pos - 1;
    let reply = |waiting: Waiting<T>| {
        last_pos += i64::try_from(waiting.item.events.len()).unwrap_or(0);
        Effect::Reply(waiting.reply, ItemOutcome::Committed { last_pos })
    };
    batch.into_iter().map(reply).collect()
}

fn reply_all<T>(batch: Vec<Waiting<T>>, outcome: &ItemOutcome) -> Vec<Effect<T>> {
    batch.into_iter().map(|waiting| Effect::Reply(waiting.reply, outcome.clone())).collect()
}

type Replier = oneshot::Sender<ItemOutcome>;

/// A handle to a running committer; cheap to clone.
#[derive(Clone)]
pub struct Committer {
    queue: mpsc::Sender<(AppendItem, Replier)>,
}

impl Committer {
    /// Appends one item and waits for what became of it.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full, `Unavailable` when the committer has stopped.
    pub async fn append(&self, item: AppendItem) -> Result<ItemOutcome, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send((item, reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => CommandError::Unavailable("the committer has stopped".to_owned()),
        })?;
        answer.await.map_err(|_| CommandError::OutcomeUnknown)
    }
}

/// Whom a committer tells what it wrote; by default nobody.
#[derive(Debug, Clone, Default)]
pub struct News {
    /// Follows the newest position that this process wrote.
    pub moved: Arc<watch::Sender<i64>>,
    /// Is handed every commit, before `moved` moves. Whoever lets too many wait reads what they miss from the log.
    pub commits: Option<broadcast::Sender<Arc<Commit>>>,
}

/// Commits that may wait for the slowest of those who are handed them.
const HANDED_ON: usize = 256;

impl News {
    /// Hands on every commit.
    pub fn of_commits() -> Self {
        Self { commits: Some(broadcast::channel(HANDED_ON).0), ..Self::default() }
    }

    /// For one more of those who are handed the commits from now on.
    pub fn follow(&self) -> Option<broadcast::Receiver<Arc<Commit>>> {
        self.commits.as_ref().map(broadcast::Sender::subscribe)
    }
}

/// Starts a committer on an appender of its own. It stops when `shutdown` is cancelled and nothing is waiting.
pub fn spawn<L: Appender + 'static>(log: L, news: News, shutdown: CancellationToken) -> (Committer, tokio::task::JoinHandle<()>) {
    spawn_patient(log, news, shutdown, PATIENCE)
}

/// The same for callers who would rather wait for this long than be told sooner that the log is away.
pub fn spawn_patient<L: Appender + 'static>(
    log: L,
    news: News,
    shutdown: CancellationToken,
    patience: Duration,
) -> (Committer, tokio::task::JoinHandle<()>) {
    let (queue, inbox) = mpsc::channel(QUEUE);
    let driver = Driver { log, news, patience };
    let task = tokio::spawn(drive(driver, inbox, shutdown));
    (Committer { queue }, task)
}

async fn drive<L: Appender>(mut driver: Driver<L>, mut inbox: mpsc::Receiver<(AppendItem, Replier)>, shutdown: CancellationToken) {
    let mut core = CommitterCore::default();
    let mut closing = false;
    loop {
        if core.is_empty() {
            let next = tokio::select! {
                biased;
                () = shutdown.cancelled(), if !closing => {
                    // Refuse new items, serve those that are in.
                    inbox.close();
                    closing = true;
                    continue;
                }
                next = inbox.recv() => next,
            };
            let Some((item, reply)) = next else { return };
            core.submit(item, reply);
        }
        while core.len() < QUEUE {
            let Ok((item, reply)) = inbox.try_recv() else { break };
            core.submit(item, reply);
        }
        gauge!("smartpos_committer_waiting").set(u32::try_from(core.len()).unwrap_or(u32::MAX));
        if core.form().is_some() {
            let answer = driver.append(core.batch()).await;
            for effect in core.answer(answer) {
                if let Effect::Reply(reply, outcome) = effect {
                    // A caller that went away has no use for the answer; the effect stands.
                    let _ = reply.send(outcome);
                }
            }
            // Those who were just answered may have something next: it joins this batch instead of waiting for it.
            tokio::task::yield_now().await;
        }
    }
}

struct Driver<L> {
    log: L,
    news: News,
    patience: Duration,
}

impl<L: Appender> Driver<L> {
    /// Calls the append function until it answers or time is up; never reports a batch as failed that may be in the log.
    async fn append(&mut self, batch: &[AppendItem]) -> BatchAnswer {
        let started = Instant::now();
        let mut attempted = false;
        loop {
            let repeated = attempted;
            match timeout(self.patience + Duration::from_secs(1), self.try_append(batch, &mut attempted)).await {
                Ok(Ok(answer)) => {
                    self.observe(batch, &answer, started);
                    return answer;
                }
                // Of the earlier call nobody knows whether it was stored, or is under way still.
                Ok(Err(StoreError::Refused(error))) if repeated => {
                    tracing::error!(%error, items = batch.len(), "the log refused a batch that it may have");
                    return BatchAnswer::Lost { attempted };
                }
                Ok(Err(StoreError::Refused(error))) => {
                    tracing::error!(%error, items = batch.len(), "the log refused a batch");
                    return BatchAnswer::Failed(error);
                }
                Ok(Err(StoreError::Lost(error))) => tracing::warn!(%error, "the log's connection broke"),
                Err(_) => tracing::warn!("the log did not answer in time"),
            }
            self.log.disconnect();
            counter!("smartpos_committer_reconnects_total").increment(1);
            if started.elapsed() >= self.patience {
                return BatchAnswer::Lost { attempted };
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn try_append(&mut self, batch: &[AppendItem], attempted: &mut bool) -> Result<BatchAnswer, StoreError> {
        let repeated = *attempted;
        self.log.connect().await?;
        *attempted = true;
        let answer = self.log.append(batch).await;
        if repeated && matches!(answer, Ok(BatchAnswer::Refused(_)) | Err(StoreError::Refused(_))) {
            // The earlier call may have been stored before its connection broke; then its first event is in place.
            if let Some(first_pos) = self.written_at(batch).await? {
                return Ok(BatchAnswer::Committed { first_pos, link: None });
            }
        }
        answer
    }

    async fn written_at(&mut self, batch: &[AppendItem]) -> Result<Option<i64>, StoreError> {
        let Some(event) = batch.iter().flat_map(|item| &item.events).next() else { return Ok(None) };
        self.log.find_written(event.stream, event.version, &event.hash).await
    }

    fn observe(&self, batch: &[AppendItem], answer: &BatchAnswer, started: Instant) {
        if let BatchAnswer::Committed { first_pos, link } = answer {
            let events: usize = batch.iter().map(|item| item.events.len()).sum();
            histogram!("smartpos_commit_seconds").record(started.elapsed().as_secs_f64());
            counter!("smartpos_commits_total").increment(1);
            counter!("smartpos_events_appended_total").increment(u64::try_from(events).unwrap_or(0));
            if let (Some(commits), Some(link)) = (&self.news.commits, link)
                && commits.receiver_count() > 0
            {
                let _ = commits.send(Arc::new(link.commit(batch, *first_pos)));
            }
            self.news.moved.send_replace(first_pos - 1 + i64::try_from(events).unwrap_or(0));
        }
    }
}

#[cfg(test)]
#[path = "committer_tests.rs"]
mod tests;
