//! The relay: copies the log to JetStream, which is a cache that may be wiped at any moment.
//!
//! Message sequence = log position − base, where the base of a stream incarnation stands in its description
//! (`epoch=1 base=41 hash=…`, the hash of the event before its first message). Every publish names the sequence that must come before
//! it, so two relays cannot double and a loss shows as a number; and the very message, so that nothing gets in behind one that is not
//! the log's. Nothing is remembered between rounds: the stream itself says where to go on.
//!
//! A database restored to the past shows at the stream's end: it lies beyond the log's head or, once the log has grown past
//! it again, its last message (while there is none, the event that its description names) is another event than the log has at
//! that position.

use std::{future::Future, sync::Arc, time::Duration};

use domain::{envelope::RecordedEvent, event::ReadEvent, wire};
use futures_util::{StreamExt as _, stream::BoxStream};
use metrics::{counter, gauge};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    bus::{Bus, BusError, FoundStream, MessageId, NATS_TIMEOUT, NewStream, Outgoing, message_id},
    event_log::{EventLog, StoreError},
    event_store::LogHead,
    own_commits::OwnCommits,
};

/// Events read and published at a time.
const PAGE: u16 = 500;
/// Poll of the log when nobody says that it moved.
const POLL: Duration = Duration::from_millis(50);
/// After a page, so that what comes meanwhile shares the next one. A process knows its own events without the bus: only who listens in
/// another one waits for this.
const PACE: Duration = Duration::from_millis(4);
/// Compare stream and log anew at least this often.
const INSPECT_EVERY: Duration = Duration::from_secs(3);

/// What the relay sees of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamView {
    /// The log's epoch when it was created.
    pub epoch: i32,
    /// Position of the event before its first message.
    pub base: i64,
    /// Its last sequence.
    pub last_sequence: i64,
    /// Nothing says that its end is not the log's event at that position. False for a message that cannot be read; true for one that
    /// is gone: what was purged contradicts nothing.
    pub last_is_ours: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// There is no stream: create one that goes on from the log's head; older events are read from the log.
    Create {
        /// Base of the new incarnation.
        base: i64,
    },
    /// The stream holds what the log does not, or is of a later epoch: the database was restored to the past. Alarm, raise the epoch
    /// beyond the stream's, start anew.
    AheadOfLog,
    /// The stream belongs to another epoch: start anew.
    OtherEpoch,
    /// Publish what follows this position.
    Publish {
        /// The last published position.
        after: i64,
    },
    /// Nothing to do.
    Idle,
}

/// The pure step: compares the stream with the log.
pub fn plan(stream: Option<StreamView>, head: LogHead) -> Plan {
    match stream {
        None => Plan::Create { base: head.pos },
        // An epoch that the log has not reached: it was restored once more, to a backup of before the last time.
        Some(view) if !view.last_is_ours || view.base + view.last_sequence > head.pos || view.epoch > head.epoch => Plan::AheadOfLog,
        Some(view) if view.epoch != head.epoch => Plan::OtherEpoch,
        Some(view) if view.base + view.last_sequence < head.pos => Plan::Publish { after: view.base + view.last_sequence },
        Some(_) => Plan::Idle,
    }
}

/// Writes what a stream's description says about it.
pub fn description(epoch: i32, base: i64) -> String {
    format!("epoch={epoch} base={base}")
}

/// Reads a stream's description.
pub fn parse_description(text: &str) -> Option<(i32, i64)> {
    Some((word(text, "epoch=")?.parse().ok()?, word(text, "base=")?.parse().ok()?))
}

fn word<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_whitespace().find_map(|word| word.strip_prefix(name))
}

/// The hash in a stream's description, of the event before its first message; streams of before had none.
fn begins_after(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    hex::decode_to_slice(word(text, "hash=")?, &mut hash).ok()?;
    Some(hash)
}

/// The name of a log's stream.
pub fn stream_name(head: &LogHead) -> String {
    format!("EVENTS_{}", head.log_id.simple())
}

/// The core NATS subject on which committers say that the log moved.
pub fn poke_subject(head: &LogHead) -> String {
    format!("poke.{}", head.log_id.simple())
}

/// The subject of an event: ids never stand in it.
fn subject(log: &str, event: &RecordedEvent) -> String {
    format!("ev.{log}.{}.{}.{}", event.slice, event.stream.stream_type.as_str(), event.event_type)
}

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("the log does not answer: {0}")]
    Log(#[from] StoreError),
    #[error("NATS does not answer: {0}")]
    Bus(#[from] BusError),
    #[error("NATS does not answer: {0}")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("NATS did not take what was sent up to position {0}: {1}")]
    Refused(i64, BusError),
    #[error("the log no longer holds what was published at {0}")]
    Past(i64),
}

/// One request to the bus, in time.
async fn asked<T>(request: impl Future<Output = Result<T, BusError>>) -> Result<T, RelayError> {
    timeout(NATS_TIMEOUT, request).await?.map_err(RelayError::Bus)
}

/// Runs the relay until `shutdown`. `moved` is bumped when this process writes to the log, `own` is what it writes; others poke over the
/// bus.
pub async fn run(log: impl EventLog, bus: impl Bus, mut moved: watch::Receiver<i64>, mut own: OwnCommits, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let round = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            round = round(&log, &bus, &mut moved, &mut own) => round,
        };
        if let Err(error) = round {
            counter!("smartpos_relay_faults_total").increment(1);
            tracing::warn!(%error, "the relay starts over");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// From looking at both sides until something is off or it is time to look again.
async fn round(log: &impl EventLog, bus: &impl Bus, moved: &mut watch::Receiver<i64>, own: &mut OwnCommits) -> Result<(), RelayError> {
    // What waited while something was off is not kept for later, and may be void by now.
    own.forget();
    let found = inspect(log, bus, &log.head().await?).await?;
    // Read after the stream: what another relay has published by then is in the log by then.
    let head = log.head().await?;
    own.forget();
    let log_name = head.log_id.simple().to_string();
    gauge!("smartpos_relay_ahead_of_log").set(0.0);
    let view = found.map(|(view, _)| view);
    match plan(view, head) {
        Plan::Create { base } => return create(log, bus, &head, base).await,
        Plan::AheadOfLog => {
            gauge!("smartpos_relay_ahead_of_log").set(1.0);
            tracing::error!(?view, ?head, "the bus holds what the log does not: the database was restored to the past; a new epoch begins");
            log.raise_epoch(view.map_or(0, |view| view.epoch)).await?;
            return asked(bus.delete(&stream_name(&head))).await;
        }
        Plan::OtherEpoch => return asked(bus.delete(&stream_name(&head))).await,
        Plan::Publish { .. } | Plan::Idle => {}
    }
    // What was seen at the stream's end, and not what the log has there by now.
    let Some((StreamView { base, .. }, mut last)) = found else { return Ok(()) };
    let mut pokes = bus.pokes(poke_subject(&head)).await?;
    let inspect_at = tokio::time::Instant::now() + INSPECT_EVERY;
    loop {
        // A stream that lags far is looked at only once it has caught up; its publishes notice trouble by themselves.
        let before = last.pos;
        last = publish_after(log, bus, &log_name, base, own, last).await?;
        if tokio::time::Instant::now() >= inspect_at {
            return Ok(());
        }
        if last.pos > before {
            tokio::time::sleep(PACE).await;
            if *moved.borrow_and_update() > last.pos {
                continue;
            }
        }
        news(last.pos, moved, &mut pokes).await;
    }
}

/// Waits until somebody says that the log goes beyond `last`; both say so of most events, and one look is enough. The poll is for what
/// nobody says: without a writer in this process, or a subscription, it alone is left.
async fn news(last: i64, moved: &mut watch::Receiver<i64>, pokes: &mut BoxStream<'static, i64>) {
    let poll = tokio::time::Instant::now() + POLL;
    loop {
        let newest = tokio::select! {
            biased;
            Ok(()) = moved.changed() => *moved.borrow_and_update(),
            Some(newest) = pokes.next() => newest,
            () = tokio::time::sleep_until(poll) => return,
        };
        if newest > last {
            return;
        }
    }
}

/// The stream, and where it ends.
async fn inspect(log: &impl EventLog, bus: &impl Bus, head: &LogHead) -> Result<Option<(StreamView, Published)>, RelayError> {
    let name = stream_name(head);
    let Some(found) = asked(bus.stream(&name)).await? else { return Ok(None) };
    let FoundStream { description, last_sequence, created_ns } = found;
    let (epoch, base) =
        parse_description(&description).ok_or_else(|| BusError(format!("unreadable stream description '{description}'")))?;
    let last = if last_sequence == 0 { None } else { asked(bus.message(&name, last_sequence)).await? };
    let pos = base.saturating_add(last_sequence);
    // Read after the stream, as the head is: what another relay has published by then is in the log by then.
    let event = log.read(pos.saturating_sub(1), 1).await?.into_iter().find(|event| event.pos == pos);
    let last_is_ours = match last {
        Some(body) => event.as_ref().is_some_and(|event| is_event(&body, event)),
        None if last_sequence > 0 => true,
        None => begins_after(&description).is_none_or(|hash| event.as_ref().is_some_and(|event| event.hash == hash)),
    };
    // The message may be that of a newer stream under the same name, which another relay made in the meantime.
    if !last_is_ours && asked(bus.stream(&name)).await?.is_none_or(|now| now.created_ns != created_ns) {
        return Err(BusError("the stream was replaced while it was looked at".to_owned()).into());
    }
    let end = Published { pos, hash: event.map(|event| event.hash), id: None };
    Ok(Some((StreamView { epoch, base, last_sequence, last_is_ours }, end)))
}

/// Whether a message is this event of the log.
fn is_event(body: &[u8], event: &RecordedEvent) -> bool {
    match wire::decode(body) {
        Ok(sent) => sent.pos == event.pos && sent.hash == event.hash,
        // Some events do not survive the way; they are still the ones that were sent.
        Err(_) => body == wire::encode(event),
    }
}

/// Creates the stream, to go on behind the log's event at `base`.
async fn create(log: &impl EventLog, bus: &impl Bus, head: &LogHead, base: i64) -> Result<(), RelayError> {
    let mut description = description(head.epoch, base);
    if base > 0 {
        let event = log.read(base - 1, 1).await?.into_iter().next().ok_or(RelayError::Past(base))?;
        description = format!("{description} hash={}", hex::encode(event.hash));
    }
    asked(bus.create(NewStream { name: stream_name(head), description, subjects: format!("ev.{}.>", head.log_id.simple()) })).await?;
    counter!("smartpos_relay_streams_created_total").increment(1);
    tracing::info!(base, epoch = head.epoch, "created the event stream");
    Ok(())
}

/// What was published last.
#[derive(Clone, Copy)]
struct Published {
    pos: i64,
    /// Its event's; nothing at the beginning of the log.
    hash: Option<[u8; 32]>,
    /// Its message, where this relay sent it and the server knows it as the newest.
    id: Option<MessageId>,
}

/// The log after what was published last, which has to stand there still: a log that was restored to the past and has grown beyond
/// it since would otherwise go on behind events that it does not have. Of what this process wrote the chain says so.
async fn page_after(log: &impl EventLog, own: &mut OwnCommits, last: Published) -> Result<Vec<Arc<ReadEvent>>, RelayError> {
    let written = own.take(last.pos, PAGE.into());
    if !written.is_empty() {
        return Ok(written);
    }
    let Some(hash) = last.hash else { return Ok(own.read(log, last.pos, 0, PAGE.into()).await?) };
    let mut page = own.read(log, last.pos, 1, PAGE.into()).await?;
    if page.first().is_none_or(|event| event.pos != last.pos || event.hash != hash) {
        return Err(RelayError::Past(last.pos));
    }
    page.remove(0);
    Ok(page)
}

/// Publishes what the log holds after `last`, page by page; gives the newest that the stream has taken. While it takes a page the next one is
/// sent, for which the log was asked before: a message names the one that it follows, so that none is taken after one that was not.
async fn publish_after<B: Bus>(
    log: &impl EventLog,
    bus: &B,
    log_name: &str,
    base: i64,
    own: &mut OwnCommits,
    mut last: Published,
) -> Result<Published, RelayError> {
    let mut page = page_after(log, own, last).await?;
    let mut under_way: Option<Sent<B>> = None;
    while let Some(event) = page.last() {
        let newest = Published { pos: event.pos, hash: Some(event.hash), id: None };
        let full = page.len() >= usize::from(PAGE);
        let next = async { if full { page_after(log, own, newest).await } else { Ok(Vec::new()) } };
        let before = under_way.take();
        let publish = async {
            let sent = send(bus, log_name, base, last.id, &page).await?;
            if let Some(before) = before {
                before.acknowledged(base).await?;
            }
            Ok::<_, RelayError>(sent)
        };
        // Asked for first, so that the log is busy meanwhile.
        let (next, sent) = tokio::join!(next, publish);
        under_way = sent?;
        last = Published { id: under_way.as_ref().map(|sent| sent.newest), ..newest };
        page = next?;
    }
    if let Some(sent) = under_way {
        sent.acknowledged(base).await?;
    }
    Ok(last)
}

/// A page that was sent.
struct Sent<B: Bus> {
    events: usize,
    /// Position and id of the newest message.
    last: i64,
    newest: MessageId,
    /// Of the newest message, and by it of the page.
    ack: B::Ack,
}

/// Sends a page with all its messages in flight. Each names the one before it and is not taken without it, so that who hears that the last one
/// was taken knows it of all: the server does not acknowledge the others.
async fn send<B: Bus>(
    bus: &B,
    log_name: &str,
    base: i64,
    mut after: Option<MessageId>,
    events: &[Arc<ReadEvent>],
) -> Result<Option<Sent<B>>, RelayError> {
    let message = |event: &ReadEvent, after| {
        let (body, position) = (wire::encode(event), event.pos);
        Outgoing { id: message_id(&body), subject: subject(log_name, event), position, expected: position - base - 1, after, body }
    };
    let Some((last, before)) = events.split_last() else { return Ok(None) };
    for event in before {
        let message = message(event, after);
        after = Some(message.id);
        asked(bus.send(message)).await?;
    }
    let message = message(last, after);
    let (newest, last) = (message.id, last.pos);
    Ok(Some(Sent { events: events.len(), last, newest, ack: asked(bus.publish(message)).await? }))
}

impl<B: Bus> Sent<B> {
    /// Waits until the stream has taken the page, with its last event at its own sequence.
    async fn acknowledged(self, base: i64) -> Result<(), RelayError> {
        let sequence = timeout(NATS_TIMEOUT * 2, self.ack).await?.map_err(|error| RelayError::Refused(self.last, error))?;
        if sequence != self.last - base {
            return Err(RelayError::Refused(self.last, BusError(format!("it lies at sequence {sequence}"))));
        }
        counter!("smartpos_relay_published_total").increment(u64::try_from(self.events).unwrap_or(0));
        gauge!("smartpos_relay_position").set(u32::try_from(self.last).unwrap_or(u32::MAX));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{future, sync::Mutex};

    use chrono::DateTime;
    use domain::{
        envelope::{StreamKey, StreamType},
        ids::{MerchantId, Ulid},
        integrity::recorded_hash,
    };

    use super::*;
    use crate::{batch::StoredKey, event_log::Reading};

    fn head(pos: i64, epoch: i32) -> LogHead {
        LogHead { pos, epoch, log_id: uuid::Uuid::nil(), hash: [0; 32] }
    }
    #[expect(clippy::unnecessary_wraps, reason = "what the plan takes")]
    fn view(epoch: i32, base: i64, last_sequence: i64) -> Option<StreamView> {
        Some(StreamView { epoch, base, last_sequence, last_is_ours: true })
    }
    fn event(pos: i64, payload: &[u8]) -> RecordedEvent {
        let (id, time) = (Ulid::from_bytes([1; 16]), DateTime::UNIX_EPOCH);
        let stream = StreamKey { tenant: MerchantId(id), stream_type: StreamType::Order, stream_id: id };
        let mut event = RecordedEvent {
            pos,
            stream,
            version: 1,
            event_type: "order.cancelled".into(),
            schema_version: 1,
            slice: stream.slice(),
            occurred_at: time,
            recorded_at: time,
            correlation_id: id,
            causation_id: id,
            actor: "user:test".into(),
            meta: b"{}".to_vec(),
            payload: payload.to_vec(),
            pii: None,
            hash: [0; 32],
        };
        event.hash = recorded_hash(&event);
        event
    }

    #[test]
    fn a_missing_stream_is_created_at_the_head_of_the_log() {
        assert_eq!(plan(None, head(70, 1)), Plan::Create { base: 70 });
    }

    #[test]
    fn a_stream_behind_the_log_is_filled_from_its_own_last_sequence() {
        assert_eq!(plan(view(1, 70, 5), head(90, 1)), Plan::Publish { after: 75 });
        assert_eq!(plan(view(1, 70, 20), head(90, 1)), Plan::Idle);
    }

    #[test]
    fn a_stream_ahead_of_the_log_means_that_the_database_went_back_in_time() {
        assert_eq!(plan(view(1, 70, 21), head(90, 1)), Plan::AheadOfLog);
        assert_eq!(plan(view(1, 70, 3), head(90, 2)), Plan::OtherEpoch);
        assert_eq!(plan(view(2, 70, 3), head(90, 1)), Plan::AheadOfLog, "it was restored a second time");
    }

    #[test]
    fn a_foreign_last_message_means_the_same_wherever_the_log_ends_by_now() {
        for pos in [74, 75, 90] {
            let foreign = view(1, 70, 5).map(|view| StreamView { last_is_ours: false, ..view });
            assert_eq!(plan(foreign, head(pos, 1)), Plan::AheadOfLog);
        }
    }

    #[test]
    fn a_message_is_the_event_with_its_position_and_its_hash() {
        let ours = event(7, b"{\"reason\":\"x\"}");
        assert!(is_event(&wire::encode(&ours), &ours));
        assert!(!is_event(&wire::encode(&event(7, b"{\"reason\":\"y\"}")), &ours));
        assert!(!is_event(&wire::encode(&RecordedEvent { pos: 8, ..ours.clone() }), &ours));
        assert!(!is_event(b"{}", &ours), "unreadable is not ours");
        // What does not survive the way is no reason to raise the epoch again and again.
        let unreadable = event(7, b"not json");
        assert!(is_event(&wire::encode(&unreadable), &unreadable));
    }

    /// A log of so many events that is only read.
    struct Log(Vec<RecordedEvent>);

    impl EventLog for Log {
        fn read(&self, after: i64, limit: i64) -> Reading<'_, Vec<RecordedEvent>> {
            let page = self.0.iter().filter(move |event| event.pos > after).take(usize::try_from(limit).unwrap()).cloned().collect();
            Box::pin(async move { Ok(page) })
        }
        fn load_stream(&self, _: StreamKey, _: i64) -> Reading<'_, Vec<RecordedEvent>> {
            unreachable!()
        }
        fn stand_at<'a>(&'a self, _: MerchantId, _: &'a [(StreamKey, i64)]) -> Reading<'a, bool> {
            unreachable!()
        }
        fn find_key<'a>(&'a self, _: Ulid, _: &'a str, _: &'a str) -> Reading<'a, Option<StoredKey>> {
            unreachable!()
        }
        fn load_snapshot(&self, _: StreamKey, _: i16) -> Reading<'_, Option<(i64, Vec<u8>)>> {
            unreachable!()
        }
        fn save_snapshot(&self, _: StreamKey, _: i64, _: i16, _: Vec<u8>) -> Reading<'_, ()> {
            unreachable!()
        }
        fn head(&self) -> Reading<'_, LogHead> {
            unreachable!()
        }
        fn raise_epoch(&self, _: i32) -> Reading<'_, ()> {
            unreachable!()
        }
    }

    /// A stream that takes what follows its newest message, and loses the one at `loses`.
    #[derive(Default)]
    struct Stream {
        loses: i64,
        taken: Mutex<Vec<i64>>,
        sent: Mutex<i64>,
    }

    impl Bus for Stream {
        type Ack = future::Ready<Result<i64, BusError>>;

        async fn publish(&self, message: Outgoing) -> Result<Self::Ack, BusError> {
            *self.sent.lock().unwrap() = message.position;
            let mut taken = self.taken.lock().unwrap();
            let newest = i64::try_from(taken.len()).unwrap();
            if message.position == self.loses || message.expected != newest {
                return Ok(future::ready(Err(BusError("wrong last sequence".to_owned()))));
            }
            taken.push(message.position);
            Ok(future::ready(Ok(newest + 1)))
        }
        async fn send(&self, message: Outgoing) -> Result<(), BusError> {
            // What is not acknowledged is not refused either.
            self.publish(message).await.map(drop)
        }
        async fn stream(&self, _: &str) -> Result<Option<FoundStream>, BusError> {
            unreachable!()
        }
        async fn message(&self, _: &str, _: i64) -> Result<Option<Vec<u8>>, BusError> {
            unreachable!()
        }
        async fn create(&self, _: NewStream) -> Result<(), BusError> {
            unreachable!()
        }
        async fn delete(&self, _: &str) -> Result<(), BusError> {
            unreachable!()
        }
        async fn pokes(&self, _: String) -> Result<BoxStream<'static, i64>, BusError> {
            unreachable!()
        }
    }

    async fn published(events: i64, bus: &Stream) -> Result<i64, RelayError> {
        let log = Log((1..=events).map(|pos| event(pos, b"{}")).collect());
        let begin = Published { pos: 0, hash: None, id: None };
        publish_after(&log, bus, "log", 0, &mut OwnCommits::default(), begin).await.map(|last| last.pos)
    }

    #[tokio::test]
    async fn every_page_is_published_in_its_order() {
        for events in [0, 1, 500, 501, 1_750] {
            let bus = Stream::default();
            assert_eq!(published(events, &bus).await.unwrap(), events);
            assert_eq!(bus.taken.into_inner().unwrap(), (1..=events).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn nothing_is_published_behind_a_message_that_was_lost_though_the_next_page_is_on_its_way() {
        let bus = Stream { loses: 300, ..Stream::default() };
        let refused = published(5_000, &bus).await.unwrap_err();
        assert!(matches!(refused, RelayError::Refused(500, _)), "{refused}");
        assert_eq!(bus.taken.into_inner().unwrap(), (1..300).collect::<Vec<_>>());
        assert_eq!(bus.sent.into_inner().unwrap(), 1_000, "two pages are in flight at most");
    }

    #[test]
    fn the_description_reads_back() {
        assert_eq!(parse_description(&description(3, 4711)), Some((3, 4711)));
        let named = format!("{} hash={}", description(3, 4711), "0a".repeat(32));
        assert_eq!((parse_description(&named), begins_after(&named)), (Some((3, 4711)), Some([10; 32])));
        assert_eq!(begins_after(&description(3, 4711)), None);
        assert_eq!(parse_description("something else"), None);
    }
}
