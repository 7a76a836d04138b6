//! The follower: takes new events from JetStream while that tells the truth, from PostgreSQL otherwise.
//!
//! A message is taken only when the log was seen, after joining, to hold what is in memory, and when it is the next position, sits where
//! the stream's base says, and hashes to what it claims.
//! Anything else is read from PostgreSQL, and the stream is joined anew.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{envelope::RecordedEvent, event::ReadEvent, integrity::recorded_hash, wire};
use futures_util::stream::{BoxStream, StreamExt as _};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    bus::{EventBus, Messages},
    ring::Ring,
};
use crate::{error::Error, log_reader::LogSource};

/// Between questions to PostgreSQL while there is no stream to listen to.
const POLL: Duration = Duration::from_millis(50);
/// Between questions to PostgreSQL while the stream is silent: it may have lost something.
const IDLE_CHECK: Duration = Duration::from_millis(500);
/// How long an announced position may take through the stream before PostgreSQL is asked for it.
const POKE_GRACE: Duration = Duration::from_millis(25);
/// Between attempts to join the stream.
const REJOIN: Duration = Duration::from_secs(2);
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
    ring: Arc<Ring>,
    tail: watch::Sender<i64>,
    joined: Option<Joined>,
    next_join: Instant,
    next_check: Instant,
}

enum Wake {
    Stop,
    Message(Option<Result<(u64, Bytes), String>>),
    Poke(i64),
    NoPokes,
    Check,
}

impl Follower {
    pub(super) fn new(reader: Arc<dyn LogSource>, nats: Option<Arc<dyn EventBus>>, ring: Arc<Ring>, tail: watch::Sender<i64>) -> Self {
        let now = Instant::now();
        Self { reader, nats, ring, tail, joined: None, next_join: now, next_check: now }
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let Some(log_id) = self.begin(&shutdown).await else { return };
        let mut pokes = listen(self.connected(), &log_id).await;
        loop {
            let wake = tokio::select! {
                biased;
                () = shutdown.cancelled() => Wake::Stop,
                message = next_message(&mut self.joined) => Wake::Message(message),
                poke = next_poke(&mut pokes) => poke.map_or(Wake::NoPokes, Wake::Poke),
                () = tokio::time::sleep_until(self.next_check) => Wake::Check,
            };
            match wake {
                Wake::Stop => return,
                Wake::Message(message) => self.take(message),
                Wake::Poke(pos) => self.poked(pos),
                Wake::NoPokes => pokes = None,
                Wake::Check => {
                    if self.check().await {
                        self.join_if_due(&log_id).await;
                    }
                    if pokes.is_none() && self.joined.is_some() {
                        pokes = listen(self.connected(), &log_id).await;
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
                    self.tail.send_replace(head.pos);
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

    fn push(&self, event: RecordedEvent) {
        let pos = event.pos;
        self.ring.push(ReadEvent::shared(event));
        self.tail.send_replace(pos);
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
                if let Some(event) = news {
                    self.push(event);
                }
                self.next_check = Instant::now() + IDLE_CHECK;
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
        // More than one read can bring: go on at once.
        let pause = match (&self.joined, found >= FILL) {
            (_, true) => Duration::ZERO,
            (Some(_), false) => IDLE_CHECK,
            (None, false) => POLL,
        };
        self.next_check = Instant::now() + pause;
        filled.is_ok()
    }

    /// Gives how many events were found.
    async fn fill(&mut self) -> Result<usize, Error> {
        let tail = self.tail();
        let head = self.reader.head().await?.pos;
        let Ok(missing) = usize::try_from(head - tail) else { return Ok(self.went_back(head)) };
        if missing > FILL {
            // Too far behind for memory: readers take ranges themselves.
            self.ring.clear();
            self.tail.send_replace(head);
            return Ok(FILL);
        }
        // With the newest in memory, which is to be still the log's: one that was restored to the past may have grown beyond it since.
        let newest = self.ring.newest().filter(|(pos, _)| *pos == tail);
        let known = usize::from(newest.is_some());
        if missing + known == 0 {
            return Ok(0);
        }
        let mut events = self.reader.range(tail - i64::from(newest.is_some()), missing + known).await?.into_iter();
        if let Some((_, hash)) = newest
            && events.next().is_none_or(|event| event.hash != hash)
        {
            return Ok(self.went_back(head));
        }
        let mut found = 0;
        for event in events {
            let pos = event.pos;
            self.ring.push(event);
            self.tail.send_replace(pos);
            found += 1;
        }
        Ok(found)
    }

    fn went_back(&mut self, head: i64) -> usize {
        tracing::error!(head, tail = self.tail(), "the log does not hold what was read: the database was restored to the past");
        self.ring.clear();
        self.joined = None;
        self.tail.send_replace(head);
        0
    }

    async fn join_if_due(&mut self, log_id: &str) {
        if self.joined.is_some() || Instant::now() < self.next_join {
            return;
        }
        let Some(nats) = self.connected() else { return };
        self.next_join = Instant::now() + REJOIN;
        match tokio::time::timeout(REJOIN, nats.join(log_id, self.tail())).await {
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
