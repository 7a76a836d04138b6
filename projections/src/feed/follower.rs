//! The follower: takes new events from JetStream while that tells the truth, from PostgreSQL otherwise.
//!
//! A message is taken only when it is the next position, sits where the stream's base says, and hashes to what it claims.
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
                    self.check().await;
                    self.join_if_due(&log_id).await;
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

    /// Reads from PostgreSQL whatever the stream has not brought.
    async fn check(&mut self) {
        let found = self.fill().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the log cannot be read");
            0
        });
        if self.connected().is_none() {
            self.joined = None;
        }
        if let Some(joined) = &mut self.joined {
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
    }

    async fn fill(&mut self) -> Result<usize, Error> {
        let tail = self.tail();
        let head = self.reader.head().await?.pos;
        if head < tail || !self.holds_the_newest(tail).await? {
            tracing::error!(head, tail, "the log does not hold what was read: the database was restored to the past");
            self.ring.clear();
            self.joined = None;
            self.tail.send_replace(head);
            return Ok(0);
        }
        let limit = usize::try_from(head - tail).unwrap_or(FILL);
        if limit > FILL {
            // Too far behind for memory: readers take ranges themselves.
            self.ring.clear();
            self.tail.send_replace(head);
            return Ok(FILL);
        }
        let events = if limit == 0 { Vec::new() } else { self.reader.range(tail, limit).await? };
        let found = events.len();
        for event in events {
            let pos = event.pos;
            self.ring.push(event);
            self.tail.send_replace(pos);
        }
        Ok(found)
    }

    /// Whether the newest event in memory is still the log's. A log that was restored to the past may have grown beyond it since.
    async fn holds_the_newest(&mut self, tail: i64) -> Result<bool, Error> {
        let Some((pos, hash)) = self.ring.newest().filter(|(pos, _)| *pos == tail) else { return Ok(true) };
        Ok(self.reader.range(pos - 1, 1).await?.first().is_some_and(|event| event.hash == hash))
    }

    async fn join_if_due(&mut self, log_id: &str) {
        if self.joined.is_some() || Instant::now() < self.next_join {
            return;
        }
        let Some(nats) = self.connected() else { return };
        self.next_join = Instant::now() + REJOIN;
        match tokio::time::timeout(REJOIN, nats.join(log_id, self.tail())).await {
            Ok(Ok((base, messages))) => self.joined = Some(Joined { base, messages, deaf: 0 }),
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
        Some(joined) => joined.messages.next().await,
        None => std::future::pending().await,
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
