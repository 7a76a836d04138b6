//! What a process writes itself: taken at once where it lies right on what is known, never otherwise.

use std::sync::{Mutex, MutexGuard};

use async_nats::Client;
use bytes::Bytes;
use domain::{envelope::RecordedEvent, provider::BoxFuture, wire};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::*;
use crate::{log_reader::Head, testing};

/// A log in memory; the head's hash of a log of `n` events is `n` and the number of its history.
#[derive(Default)]
struct Log {
    history: u8,
    events: Vec<Arc<ReadEvent>>,
    asked: usize,
}

#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Log>>);

fn chain(history: u8, pos: usize) -> [u8; 32] {
    let mut hash = [history; 32];
    hash[0] = u8::try_from(pos).unwrap();
    hash
}

/// Another history has other events.
fn event(history: u8, pos: usize) -> Arc<ReadEvent> {
    let blank = testing::blank_event(i64::try_from(pos).unwrap());
    testing::record(blank.pos, blank.stream, blank.pos, "order.cancelled", format!(r#"{{"reason":"{history}"}}"#).into_bytes())
}

/// The commit of this history that holds these positions.
fn commit(history: u8, positions: std::ops::RangeInclusive<usize>) -> Arc<Commit> {
    let (before, hash) = (chain(history, positions.start() - 1), chain(history, *positions.end()));
    Arc::new(Commit { before, hash, events: positions.map(|pos| event(history, pos)).collect() })
}

impl Logs {
    fn of(history: u8, length: usize) -> Self {
        let logs = Self::default();
        logs.becomes(history, length);
        logs
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }

    fn becomes(&self, history: u8, length: usize) {
        let mut log = self.lock();
        (log.history, log.events) = (history, (1..=length).map(|pos| event(history, pos)).collect());
    }

    fn asked(&self) -> usize {
        self.lock().asked
    }
}

impl LogSource for Logs {
    fn head(&self) -> BoxFuture<'_, Result<Head, Error>> {
        Box::pin(async move {
            let mut log = self.lock();
            log.asked += 1;
            let length = log.events.len();
            Ok(Head { pos: i64::try_from(length).unwrap(), epoch: 1, log_id: Uuid::nil(), hash: chain(log.history, length) })
        })
    }

    fn range(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Arc<ReadEvent>>, Error>> {
        Box::pin(async move {
            let events = self.lock().events.clone();
            Ok(events.into_iter().filter(|event| event.pos > after).take(limit).collect())
        })
    }
}

/// A bus on which message `n` is position `n`.
#[derive(Clone, Default)]
struct Bus(Arc<Mutex<Line>>);

#[derive(Default)]
struct Line {
    joined: usize,
    messages: Option<mpsc::UnboundedSender<(u64, Bytes)>>,
    pokes: Option<mpsc::UnboundedSender<i64>>,
}

/// What is sent into the first part comes out of the second.
fn pipe<T: Send + 'static>() -> (mpsc::UnboundedSender<T>, BoxStream<'static, T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|next| (next, receiver))).boxed())
}

impl Bus {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap()
    }

    /// Somebody wrote up to here.
    fn poke(&self, pos: i64) {
        self.lock().pokes.as_ref().unwrap().send(pos).unwrap();
    }

    /// The relay publishes an event; whether anybody listens.
    fn publish(&self, event: &RecordedEvent) -> bool {
        let message = (event.pos.unsigned_abs(), wire::encode(event).into());
        self.lock().messages.as_ref().is_some_and(|messages| messages.send(message).is_ok())
    }
}

impl EventBus for Bus {
    fn is_connected(&self) -> bool {
        true
    }

    fn join<'a>(&'a self, _: &'a str, _: i64) -> BoxFuture<'a, Result<(i64, Messages), String>> {
        let (sender, messages) = pipe();
        let mut line = self.lock();
        line.joined += 1;
        line.messages = Some(sender);
        Box::pin(async { Ok((0, messages.map(Ok).boxed())) })
    }

    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<BoxStream<'static, i64>>> {
        let (sender, pokes) = pipe();
        self.lock().pokes = Some(sender);
        Box::pin(async { Some(pokes) })
    }
}

fn recorded(events: &[Arc<ReadEvent>]) -> Vec<RecordedEvent> {
    events.iter().map(|event| RecordedEvent::clone(event)).collect()
}

struct Reader {
    feed: Feed,
    commits: broadcast::Sender<Arc<Commit>>,
    after: i64,
    _stop: tokio_util::sync::DropGuard,
}

impl Reader {
    /// A process whose memory ends where the log does.
    async fn of(logs: &Logs) -> Self {
        Self::over(logs, None::<Client>).await
    }

    async fn over(logs: &Logs, bus: Option<impl EventBus + 'static>) -> Self {
        let (commits, follow) = broadcast::channel(16);
        let stop = CancellationToken::new();
        let feed = Feed::start(logs.clone(), bus, Some(follow), stop.clone());
        let after = i64::try_from(logs.lock().events.len()).unwrap();
        while feed.tail() != after {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Self { feed, commits, after, _stop: stop.drop_guard() }
    }

    /// What comes within this time.
    async fn read(&mut self, wait: Duration) -> Vec<RecordedEvent> {
        let events = self.feed.next_batch(self.after, 100, wait).await.unwrap();
        self.after = events.last().map_or(self.after, |event| event.pos);
        recorded(&events)
    }
}

/// Less than passes between two questions to the log.
const AT_ONCE: Duration = Duration::from_millis(2);

#[tokio::test(start_paused = true)]
async fn what_this_process_wrote_is_known_at_once_and_without_a_question() {
    let logs = Logs::of(1, 5);
    let mut reader = Reader::of(&logs).await;
    for last in [7, 9] {
        logs.becomes(1, last);
        let asked = logs.asked();
        reader.commits.send(commit(1, last - 1..=last)).unwrap();
        assert_eq!(reader.read(AT_ONCE).await, recorded(&[event(1, last - 1), event(1, last)]));
        assert_eq!(logs.asked(), asked);
    }
    // The log itself says the same.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(reader.read(AT_ONCE).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_lies_on_another_history_is_not_taken() {
    let logs = Logs::of(1, 5);
    let mut reader = Reader::of(&logs).await;
    logs.becomes(1, 6);
    reader.commits.send(commit(1, 6..=6)).unwrap();
    assert_eq!(reader.read(AT_ONCE).await.len(), 1);
    // Restored to the past, grown again to the same length, and now this process writes: the place is right, what lies before is not.
    logs.becomes(2, 7);
    reader.commits.send(commit(2, 7..=7)).unwrap();
    assert!(reader.read(AT_ONCE).await.is_empty());
    // The log is asked and does not hold what is in memory. Whoever read that is told elsewhere, by the epoch.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((reader.feed.tail(), reader.feed.went_back()), (7, 1));
    logs.becomes(2, 8);
    reader.commits.send(commit(2, 8..=8)).unwrap();
    reader.after = 7;
    assert_eq!(reader.read(AT_ONCE).await, recorded(&[event(2, 8)]));
}

#[tokio::test(start_paused = true)]
async fn what_others_wrote_in_between_comes_first() {
    let logs = Logs::of(1, 5);
    let mut reader = Reader::of(&logs).await;
    logs.becomes(1, 7);
    reader.commits.send(commit(1, 7..=7)).unwrap();
    assert!(reader.read(AT_ONCE).await.is_empty(), "there is a gap");
    assert_eq!(reader.read(Duration::from_secs(1)).await, recorded(&[event(1, 6), event(1, 7)]));
    // What was read from the log is as good a ground as what was written.
    logs.becomes(1, 8);
    reader.commits.send(commit(1, 8..=8)).unwrap();
    assert_eq!(reader.read(AT_ONCE).await, recorded(&[event(1, 8)]));
    // An old one changes nothing.
    reader.commits.send(commit(1, 7..=7)).unwrap();
    assert!(reader.read(AT_ONCE).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_stream_is_listened_to_only_while_others_write() {
    let (logs, bus) = (Logs::of(1, 5), Bus::default());
    let mut reader = Reader::over(&logs, Some(bus.clone())).await;
    let mut last = 5;
    let mut writes = async |reader: &mut Reader, seconds: usize| {
        for _ in 0..seconds * 10 {
            last += 1;
            logs.becomes(1, last);
            reader.commits.send(commit(1, last..=last)).unwrap();
            assert_eq!(reader.read(AT_ONCE).await, recorded(&[event(1, last)]));
            bus.publish(&event(1, last));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        last
    };
    writes(&mut reader, 3).await;
    assert_eq!(bus.lock().joined, 0);
    // Another process, of which a poke tells.
    let last = writes(&mut reader, 1).await;
    logs.becomes(1, last + 2);
    bus.poke(i64::try_from(last + 2).unwrap());
    assert_eq!(reader.read(AT_ONCE).await, recorded(&[event(1, last + 1), event(1, last + 2)]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bus.lock().joined, 1);
    logs.becomes(1, last + 3);
    assert!(bus.publish(&event(1, last + 3)));
    assert_eq!(reader.read(AT_ONCE).await, recorded(&[event(1, last + 3)]));
    // Nobody else any more: what the stream brings is known, and it is left.
    for pos in last + 4..last + 134 {
        logs.becomes(1, pos);
        reader.commits.send(commit(1, pos..=pos)).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        bus.publish(&event(1, pos));
    }
    assert!(!bus.publish(&event(1, 1)));
    assert_eq!(bus.lock().joined, 1);
}
