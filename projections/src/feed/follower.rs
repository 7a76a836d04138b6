//! The follower: takes new events from this process's own commits, from JetStream while that tells the truth, from PostgreSQL otherwise.
//!
//! A commit is taken only when the whole log before it, by the hash of the chain, is the one that is in memory. As long as nobody else
//! writes, that is all that is listened to, and pokes say when it is no longer so.
//! A message is taken only when the log was seen, after joining, to hold what is in memory, and when it is the next position, sits where
//! the stream's base says, and hashes to what it claims.
//! Anything else is read from PostgreSQL, and the stream is joined anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use domain::{
    envelope::RecordedEvent,
    event::{Commit, ReadEvent},
    integrity::recorded_hash,
    wire,
};
use futures_util::stream::{BoxStream, StreamExt as _};
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        watch,
    },
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    bus::{EventBus, Messages},
    ring::Ring,
};
use crate::{
    error::Error,
    log_reader::{Head, LogSource},
};

/// Between questions to PostgreSQL while there is no stream to listen to.
const POLL: Duration = Duration::from_millis(50);
/// Between questions to PostgreSQL while the stream is silent: it may have lost something.
const IDLE_CHECK: Duration = Duration::from_millis(500);
/// How long an announced position may take through the stream before PostgreSQL is asked for it.
const POKE_GRACE: Duration = Duration::from_millis(25);
/// Between attempts to join the stream.
const REJOIN: Duration = Duration::from_secs(2);
/// How long the stream is listened to after somebody else wrote.
const OTHERS_FOR: Duration = Duration::from_secs(10);
/// Silent checks in a row that found something, after which the stream is joined anew.
const DEAF_AFTER: u32 = 3;
/// Most events read from PostgreSQL at once.
const FILL: usize = 2_000;

/// A joined stream: message `s` carries position `base + s`.
struct Joined {
    base: i64,
    messages: Messages,
    deaf: u32,
    /// Since it was joined the log was seen to hold what is in memory. Before that nothing is taken from it: it may be the stream of
    /// another history, that goes on where memory ends, and with its event on top nobody would look at what lies beneath any more.
    vetted: bool,
}

pub(super) struct Follower {
    reader: Arc<dyn LogSource>,
    nats: Option<Arc<dyn EventBus>>,
    /// What this process writes, as it is written; nothing when it does not write, or has ended.
    commits: Option<Receiver<Arc<Commit>>>,
    ring: Arc<Ring>,
    tail: watch::Sender<i64>,
    /// How often the log turned out to hold less than was in memory.
    went_back: Arc<AtomicU64>,
    /// The head's hash at the tail, where it is known.
    chain: Option<[u8; 32]>,
    /// Events that were read from the log and may be this process's own: its commit comes a moment later then.
    unexplained: usize,
    /// This process's own events that were not taken when their commit came: they are found elsewhere.
    passed_over: usize,
    /// When an event came last that was not this process's own.
    others_wrote: Option<Instant>,
    joined: Option<Joined>,
    pokes: Option<BoxStream<'static, i64>>,
    next_join: Instant,
    next_check: Instant,
    last_check: Instant,
}

enum Wake {
    Stop,
    Commit(Option<Arc<Commit>>),
    Message(Option<Result<(u64, Bytes), String>>),
    Poke(i64),
    NoPokes,
    Check,
}

impl Follower {
    pub(super) fn new(
        reader: Arc<dyn LogSource>,
        nats: Option<Arc<dyn EventBus>>,
        commits: Option<Receiver<Arc<Commit>>>,
        ring: Arc<Ring>,
        tail: watch::Sender<i64>,
        went_back: Arc<AtomicU64>,
    ) -> Self {
        let now = Instant::now();
        Self {
            reader,
            nats,
            commits,
            ring,
            tail,
            went_back,
            chain: None,
            unexplained: 0,
            passed_over: 0,
            others_wrote: None,
            joined: None,
            pokes: None,
            next_join: now,
            next_check: now,
            last_check: now,
        }
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let Some(log_id) = self.begin(&shutdown).await else { return };
        loop {
            let wake = tokio::select! {
                biased;
                () = shutdown.cancelled() => Wake::Stop,
                // Before the stream, which brings the same later.
                commit = next_commit(&mut self.commits) => Wake::Commit(commit),
                message = next_message(&mut self.joined) => Wake::Message(message),
                poke = next_poke(&mut self.pokes) => poke.map_or(Wake::NoPokes, Wake::Poke),
                () = tokio::time::sleep_until(self.next_check) => Wake::Check,
            };
            match wake {
                Wake::Stop => return,
                Wake::Commit(Some(commit)) => self.committed(&commit),
                Wake::Commit(None) => self.commits = None,
                Wake::Message(message) => self.take(message),
                Wake::Poke(pos) => self.poked(pos),
                Wake::NoPokes => self.pokes = None,
                Wake::Check => {
                    if self.pokes.is_none() {
                        self.pokes = listen(self.connected(), &log_id).await;
                    }
                    if self.check().await {
                        self.join_if_due(&log_id).await;
                    }
                }
            }
        }
    }

    /// Finds the end of the log, however long PostgreSQL takes to answer. `None`: shut down.
    async fn begin(&mut self, shutdown: &CancellationToken) -> Option<String> {
        loop {
            match self.reader.head().await {
                Ok(head) => {
                    self.start_at(&head);
                    return Some(head.log_id.simple().to_string());
                }
                Err(error) => tracing::warn!(%error, "the end of the log cannot be read yet"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep(IDLE_CHECK) => {}
            }
        }
    }

    fn connected(&self) -> Option<Arc<dyn EventBus>> {
        self.nats.clone().filter(|nats| nats.is_connected())
    }

    fn tail(&self) -> i64 {
        *self.tail.borrow()
    }

    /// Nothing is in memory, and what comes next comes after this.
    fn start_at(&mut self, head: &Head) {
        self.ring.clear();
        self.chain = Some(head.hash);
        self.tail.send_replace(head.pos);
    }

    fn push(&mut self, event: Arc<ReadEvent>, source: &'static str) {
        let pos = event.pos;
        self.ring.push(event);
        self.chain = None;
        self.tail.send_replace(pos);
        metrics::counter!("smartpos_feed_events_total", "source" => source).increment(1);
    }

    /// Takes what this process wrote when the log before it is the one in memory, whatever the stream says.
    fn committed(&mut self, commit: &Commit) {
        let tail = self.tail();
        if commit.events.last().is_none_or(|last| last.pos <= tail) {
            self.unexplained = self.unexplained.saturating_sub(commit.events.len());
            return;
        }
        if self.chain.map(|hash| (tail, hash)) != commit.place_before() {
            // Another process wrote in between, and the stream brings both; or the log is another one. Now and then it is asked, so that
            // the next ones can be taken.
            let at = if self.joined.is_some() { self.last_check + IDLE_CHECK } else { Instant::now() + POKE_GRACE };
            self.next_check = self.next_check.min(at);
            self.passed_over += commit.events.len();
            return;
        }
        for event in &commit.events {
            self.push(Arc::clone(event), "commit");
        }
        self.chain = Some(commit.hash);
    }

    fn take(&mut self, message: Option<Result<(u64, Bytes), String>>) {
        let Some(joined) = &mut self.joined else { return };
        let verdict = match message {
            Some(Ok((sequence, body))) => verify(sequence, &body, joined.base, *self.tail.borrow(), |pos| self.ring.hash_at(pos)),
            Some(Err(error)) => Err(error),
            None => Err("the stream ended".to_owned()),
        };
        match verdict {
            Ok(news) => {
                joined.deaf = 0;
                self.next_check = Instant::now() + IDLE_CHECK;
                if let Some(event) = news {
                    if self.passed_over > 0 {
                        self.passed_over -= 1;
                    } else {
                        self.others_wrote = Some(Instant::now());
                    }
                    self.push(ReadEvent::shared(event), "stream");
                } else if !self.needs_the_stream() {
                    self.joined = None;
                }
            }
            Err(reason) => {
                tracing::info!(reason, tail = self.tail(), "events are read from the log instead of the stream");
                metrics::counter!("smartpos_projection_gap_fills_total").increment(1);
                self.joined = None;
                self.next_check = Instant::now();
            }
        }
    }

    /// Something was committed up to `pos`: it should come through the stream in a moment; without one, look at once.
    fn poked(&mut self, pos: i64) {
        if pos > self.tail() {
            let grace = if self.joined.is_some() { POKE_GRACE } else { Duration::ZERO };
            self.next_check = self.next_check.min(Instant::now() + grace);
        }
    }

    /// Reads from PostgreSQL whatever the stream has not brought; says whether that answered. A stream is left that nobody vouches for.
    async fn check(&mut self) -> bool {
        self.last_check = Instant::now();
        if std::mem::take(&mut self.unexplained) > 0 {
            self.others_wrote = Some(self.last_check);
        }
        let filled = self.fill().await;
        if let Err(error) = &filled {
            tracing::warn!(%error, "the log cannot be read");
        }
        if self.connected().is_none() || filled.is_err() {
            self.joined = None;
        }
        let found = *filled.as_ref().unwrap_or(&0);
        if let Some(joined) = &mut self.joined {
            joined.vetted = true;
            joined.deaf = if found > 0 { joined.deaf + 1 } else { 0 };
            if joined.deaf >= DEAF_AFTER {
                metrics::counter!("smartpos_projection_gap_fills_total").increment(1);
                self.joined = None;
            }
        }
        self.unexplained = found.saturating_sub(std::mem::take(&mut self.passed_over));
        let told = self.joined.is_some() || (!self.needs_the_stream() && self.pokes.is_some() && self.connected().is_some());
        // More than one read can bring: go on at once.
        let pause = match (found >= FILL, told) {
            (true, _) => Duration::ZERO,
            (false, true) => IDLE_CHECK,
            (false, false) => POLL,
        };
        self.next_check = Instant::now() + pause;
        filled.is_ok()
    }

    /// Whether others write: what this process writes itself it knows already.
    fn needs_the_stream(&self) -> bool {
        self.commits.is_none() || self.others_wrote.is_some_and(|last| last.elapsed() < OTHERS_FOR)
    }

    /// Gives how many events were found.
    async fn fill(&mut self) -> Result<usize, Error> {
        let tail = self.tail();
        let head = self.reader.head().await?;
        let Ok(missing) = usize::try_from(head.pos - tail) else { return Ok(self.went_back(&head)) };
        if missing > FILL {
            // Too far behind for memory: readers take ranges themselves.
            self.start_at(&head);
            return Ok(FILL);
        }
        // With the newest in memory, which is to be still the log's: one that was restored to the past may have grown beyond it since.
        let newest = self.ring.newest().filter(|(pos, _)| *pos == tail);
        let known = usize::from(newest.is_some());
        let mut found = 0;
        if missing + known > 0 {
            let mut events = self.reader.range(tail - i64::from(newest.is_some()), missing + known).await?.into_iter();
            if let Some((_, hash)) = newest
                && events.next().is_none_or(|event| event.hash != hash)
            {
                return Ok(self.went_back(&head));
            }
            for event in events {
                self.push(event, "log");
                found += 1;
            }
        }
        // The log that had this hash may be gone by the time that its events were read. Then no commit comes after it.
        if self.tail() == head.pos {
            self.chain = Some(head.hash);
        }
        Ok(found)
    }

    fn went_back(&mut self, head: &Head) -> usize {
        tracing::error!(head = head.pos, tail = self.tail(), "the log does not hold what was read: the database was restored to the past");
        self.joined = None;
        self.start_at(head);
        self.went_back.fetch_add(1, Ordering::Release);
        0
    }

    async fn join_if_due(&mut self, log_id: &str) {
        if self.joined.is_some() || !self.needs_the_stream() || Instant::now() < self.next_join {
            return;
        }
        let Some(nats) = self.connected() else { return };
        let joined = tokio::time::timeout(REJOIN, nats.join(log_id, self.tail())).await;
        self.next_join = Instant::now() + REJOIN;
        match joined {
            Ok(Ok((base, messages))) => {
                self.joined = Some(Joined { base, messages, deaf: 0, vetted: false });
                self.next_check = Instant::now();
            }
            Ok(Err(error)) => tracing::debug!(error, "the stream cannot be joined"),
            Err(_) => tracing::debug!("joining the stream took too long"),
        }
    }
}

async fn listen(nats: Option<Arc<dyn EventBus>>, log_id: &str) -> Option<BoxStream<'static, i64>> {
    nats?.listen(log_id).await
}

/// The event of a message; `None` when it is known already. `known` is the hash of what was read at a position: if the stream has
/// another event there, the log may have gone back and grown again beyond it, and what was read is void.
fn verify(
    sequence: u64,
    body: &[u8],
    base: i64,
    tail: i64,
    known: impl Fn(i64) -> Option<[u8; 32]>,
) -> Result<Option<RecordedEvent>, String> {
    let placed = i64::try_from(sequence).map_err(|error| error.to_string())? + base;
    if placed <= tail {
        let other = known(placed).is_some_and(|hash| wire::decode(body).is_ok_and(|event| event.hash != hash));
        return if other { Err(format!("another event than was read sits at {placed}")) } else { Ok(None) };
    }
    let event = wire::decode(body)?;
    if event.pos != placed {
        return Err(format!("position {} sits at the place of {placed}", event.pos));
    }
    if event.pos != tail + 1 {
        return Err(format!("position {} came after {tail}", event.pos));
    }
    if recorded_hash(&event) != event.hash {
        return Err(format!("position {} does not hash to what it claims", event.pos));
    }
    Ok(Some(event))
}

/// What this process wrote next; `None` when it writes no more.
async fn next_commit(commits: &mut Option<Receiver<Arc<Commit>>>) -> Option<Arc<Commit>> {
    let Some(commits) = commits else { return std::future::pending().await };
    loop {
        match commits.recv().await {
            Ok(commit) => return Some(commit),
            // The log brings those.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}

async fn next_message(joined: &mut Option<Joined>) -> Option<Result<(u64, Bytes), String>> {
    match joined {
        Some(joined) if joined.vetted => joined.messages.next().await,
        Some(_) | None => std::future::pending().await,
    }
}

/// The announced position; `None` when the subscription ended.
async fn next_poke(pokes: &mut Option<BoxStream<'static, i64>>) -> Option<i64> {
    match pokes {
        Some(pokes) => pokes.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_message_is_taken_only_when_it_is_the_next_and_true() {
        let event = testing::blank_event(8);
        let (body, none) = (wire::encode(&event), |_| None);
        assert_eq!(verify(3, &body, 5, 7, none), Ok(Some((**event).clone())));
        assert_eq!(verify(3, &body, 5, 8, none), Ok(None));
        assert!(verify(3, &body, 5, 6, none).is_err(), "a gap");
        assert!(verify(4, &body, 5, 8, none).is_err(), "another place than the base says");
        assert!(verify(3, b"{}", 5, 7, none).is_err(), "not an event");
        assert_eq!(verify(3, &body, 5, 9, |_| Some(event.hash)), Ok(None));
        assert!(verify(3, &body, 5, 9, |_| Some([7; 32])).is_err(), "what was read there is void");
        let forged = String::from_utf8(body).unwrap().replace("\"actor\":\"", "\"actor\":\"x");
        assert!(verify(3, forged.as_bytes(), 5, 7, none).is_err(), "another hash");
    }
}
