//! The relay: copies the log to JetStream, which is a cache that may be wiped at any moment.
//!
//! Message sequence = log position − base, where the base of a stream incarnation stands in its description
//! (`epoch=1 base=0`). Every publish names the sequence that must come before it, so two relays cannot double and a loss
//! shows as a number. Nothing is remembered between rounds: the stream itself says where to go on.
//!
//! A database restored to the past shows at the stream's end: it lies beyond the log's head or, once the log has grown past
//! it again, its last message is another event than the log has at that position.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{self, stream},
};
use domain::{envelope::RecordedEvent, wire};
use futures_util::future::join_all;
use metrics::{counter, gauge};
use sqlx::PgPool;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::event_store::{self, LogHead};

/// Events read and published at a time.
const PAGE: i64 = 500;
/// Poll of the log when nobody says that it moved.
const POLL: Duration = Duration::from_millis(50);
/// Compare stream and log anew at least this often.
const INSPECT_EVERY: Duration = Duration::from_secs(3);
/// How long one request to NATS may take.
const NATS_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that the cache keeps; older ones are read from the log.
const MAX_MESSAGES: i64 = 1_000_000;

/// What the relay sees of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamView {
    /// The log's epoch when it was created.
    pub epoch: i32,
    /// Position of the event before its first message.
    pub base: i64,
    /// Its last sequence.
    pub last_sequence: i64,
    /// Nothing says that its last message is not the log's event at that position. False for a message that cannot be read;
    /// true when there is none, be the stream new or purged: what is gone contradicts nothing.
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
    /// The stream holds what the log does not: the database was restored to the past. Alarm, raise the epoch, start anew.
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
        Some(view) if !view.last_is_ours || view.base + view.last_sequence > head.pos => Plan::AheadOfLog,
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
    let (epoch, base) = text.split_once(' ')?;
    Some((epoch.strip_prefix("epoch=")?.parse().ok()?, base.strip_prefix("base=")?.parse().ok()?))
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
    Log(#[from] sqlx::Error),
    #[error("NATS does not answer: {0}")]
    Nats(String),
    #[error("NATS did not take position {0}")]
    Refused(i64),
}

fn nats(error: impl std::fmt::Display) -> RelayError {
    RelayError::Nats(error.to_string())
}

/// Runs the relay until `shutdown`. `moved` is bumped when this process writes to the log; others poke over NATS.
pub async fn run(pool: PgPool, client: async_nats::Client, mut moved: watch::Receiver<i64>, shutdown: CancellationToken) {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(NATS_TIMEOUT);
    while !shutdown.is_cancelled() {
        let round = tokio::select! {
            () = shutdown.cancelled() => return,
            round = round(&pool, &client, &context, &mut moved) => round,
        };
        if let Err(error) = round {
            counter!("smartpos_relay_faults_total").increment(1);
            tracing::warn!(%error, "the relay starts over");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// From looking at both sides until something is off or it is time to look again.
async fn round(
    pool: &PgPool,
    client: &async_nats::Client,
    context: &jetstream::Context,
    moved: &mut watch::Receiver<i64>,
) -> Result<(), RelayError> {
    let view = inspect(pool, context, &event_store::log_head(pool).await?).await?;
    // Read after the stream: what another relay has published by then is in the log by then.
    let head = event_store::log_head(pool).await?;
    let log = head.log_id.simple().to_string();
    gauge!("smartpos_relay_ahead_of_log").set(0.0);
    let mut last = match plan(view, head) {
        Plan::Create { base } => return create(context, &head, base).await,
        Plan::AheadOfLog => {
            gauge!("smartpos_relay_ahead_of_log").set(1.0);
            tracing::error!(?view, ?head, "the bus holds what the log does not: the database was restored to the past; a new epoch begins");
            sqlx::query("select log.raise_epoch()").execute(pool).await?;
            return timeout(NATS_TIMEOUT, context.delete_stream(stream_name(&head))).await.map_err(nats)?.map(drop).map_err(nats);
        }
        Plan::OtherEpoch => {
            return timeout(NATS_TIMEOUT, context.delete_stream(stream_name(&head))).await.map_err(nats)?.map(drop).map_err(nats);
        }
        Plan::Publish { after } => after,
        Plan::Idle => head.pos,
    };
    let base = view.map_or(0, |view| view.base);
    let mut pokes = client.subscribe(poke_subject(&head)).await.map_err(nats)?;
    let inspect_at = tokio::time::Instant::now() + INSPECT_EVERY;
    loop {
        // A stream that lags far is looked at only once it has caught up; its publishes notice trouble by themselves.
        last = publish_after(pool, context, &log, base, last).await?;
        if tokio::time::Instant::now() >= inspect_at {
            return Ok(());
        }
        tokio::select! {
            // Without a writer in this process, or a subscription, the poll alone is left.
            Ok(()) = moved.changed() => {}
            Some(_) = futures_util::StreamExt::next(&mut pokes) => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn inspect(pool: &PgPool, context: &jetstream::Context, head: &LogHead) -> Result<Option<StreamView>, RelayError> {
    let found = timeout(NATS_TIMEOUT, context.get_stream(stream_name(head))).await.map_err(nats)?;
    let stream = match found {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), jetstream::context::GetStreamErrorKind::JetStream(ref e) if e.code() == 404) => {
            return Ok(None);
        }
        Err(error) => return Err(nats(error)),
    };
    let info = stream.cached_info();
    let description = info.config.description.as_deref().unwrap_or_default();
    let (epoch, base) = parse_description(description).ok_or_else(|| nats(format!("unreadable stream description '{description}'")))?;
    let last_sequence = i64::try_from(info.state.last_sequence).unwrap_or(i64::MAX);
    let last_is_ours = match last_message(&stream).await? {
        None => true,
        // Read after the stream, as the head is: what another relay has published by then is in the log by then.
        Some(body) => match event_store::read_log(pool, base.saturating_add(last_sequence).saturating_sub(1), 1).await?.first() {
            None => false,
            Some(event) => is_event(&body, event),
        },
    };
    // The message may be that of a newer stream under the same name, which another relay made in the meantime.
    if !last_is_ours && timeout(NATS_TIMEOUT, stream.get_info()).await.map_err(nats)?.map_err(nats)?.created != info.created {
        return Err(nats("the stream was replaced while it was looked at"));
    }
    Ok(Some(StreamView { epoch, base, last_sequence, last_is_ours }))
}

/// The body of a stream's last message; nothing when the stream is empty or the message is gone.
async fn last_message(stream: &stream::Stream) -> Result<Option<Vec<u8>>, RelayError> {
    let last_sequence = stream.cached_info().state.last_sequence;
    if last_sequence == 0 {
        return Ok(None);
    }
    match timeout(NATS_TIMEOUT, stream.get_raw_message(last_sequence)).await.map_err(nats)? {
        Ok(message) => Ok(Some(message.payload.to_vec())),
        Err(error) if error.kind() == stream::RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(nats(error)),
    }
}

/// Whether a message is this event of the log.
fn is_event(body: &[u8], event: &RecordedEvent) -> bool {
    match wire::decode(body) {
        Ok(sent) => sent.pos == event.pos && sent.hash == event.hash,
        // Some events do not survive the way; they are still the ones that were sent.
        Err(_) => body == wire::encode(event),
    }
}

async fn create(context: &jetstream::Context, head: &LogHead, base: i64) -> Result<(), RelayError> {
    let wanted = stream::Config {
        name: stream_name(head),
        description: Some(description(head.epoch, base)),
        subjects: vec![format!("ev.{}.>", head.log_id.simple())],
        max_messages: MAX_MESSAGES,
        storage: stream::StorageType::File,
        discard: stream::DiscardPolicy::Old,
        num_replicas: 1,
        ..stream::Config::default()
    };
    let made = timeout(NATS_TIMEOUT, context.create_stream(wanted.clone())).await.map_err(nats)?.map_err(nats)?;
    let echo = &made.cached_info().config;
    // Old servers drop fields that they do not know without a word.
    if echo.description != wanted.description || echo.subjects != wanted.subjects || echo.max_messages != wanted.max_messages {
        return Err(nats("the server changed the stream's configuration"));
    }
    counter!("smartpos_relay_streams_created_total").increment(1);
    tracing::info!(base, epoch = head.epoch, "created the event stream");
    Ok(())
}

/// Publishes what the log holds after `last`, page by page; the next page is read while the last one is being acknowledged.
/// Gives the newest position published.
async fn publish_after(pool: &PgPool, context: &jetstream::Context, log: &str, base: i64, mut last: i64) -> Result<i64, RelayError> {
    let mut page = event_store::read_log(pool, last, PAGE).await?;
    while let Some(newest) = page.last().map(|event| event.pos) {
        let acks = send(context, log, base, &page).await?;
        let next = async {
            let full = i64::try_from(page.len()).unwrap_or(0) == PAGE;
            if full { event_store::read_log(pool, newest, PAGE).await } else { Ok(Vec::new()) }
        };
        let (acknowledged, next) = tokio::join!(acknowledged(acks, base, &page), next);
        acknowledged?;
        last = newest;
        gauge!("smartpos_relay_position").set(u32::try_from(newest).unwrap_or(u32::MAX));
        page = next?;
    }
    Ok(last)
}

/// Sends a page with all its messages in flight; each names the sequence before it.
async fn send(context: &jetstream::Context, log: &str, base: i64, page: &[RecordedEvent]) -> Result<Vec<Ack>, RelayError> {
    let mut acks = Vec::with_capacity(page.len());
    for event in page {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", event.pos.to_string());
        headers.insert("Nats-Expected-Last-Sequence", (event.pos - base - 1).to_string());
        headers.insert("Smartpos-Position", event.pos.to_string());
        let sent = context.publish_with_headers(subject(log, event), headers, wire::encode(event).into());
        acks.push(timeout(NATS_TIMEOUT, sent).await.map_err(nats)?.map_err(nats)?.into_future());
    }
    Ok(acks)
}

/// Waits until the stream has taken every event of `page` at its own sequence.
async fn acknowledged(acks: Vec<Ack>, base: i64, page: &[RecordedEvent]) -> Result<(), RelayError> {
    let answers = timeout(NATS_TIMEOUT * 2, join_all(acks)).await.map_err(nats)?;
    for (event, answer) in page.iter().zip(answers) {
        let ack = answer.map_err(|_| RelayError::Refused(event.pos))?;
        if i64::try_from(ack.sequence).unwrap_or(-1) != event.pos - base {
            return Err(RelayError::Refused(event.pos));
        }
    }
    counter!("smartpos_relay_published_total").increment(u64::try_from(page.len()).unwrap_or(0));
    Ok(())
}

type Ack = <jetstream::context::PublishAckFuture as IntoFuture>::IntoFuture;

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use domain::{
        envelope::{StreamKey, StreamType},
        ids::{MerchantId, Ulid},
        integrity::recorded_hash,
    };

    use super::*;

    fn head(pos: i64, epoch: i32) -> LogHead {
        LogHead { pos, epoch, log_id: uuid::Uuid::nil() }
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

    #[test]
    fn the_description_reads_back() {
        assert_eq!(parse_description(&description(3, 4711)), Some((3, 4711)));
        assert_eq!(parse_description("something else"), None);
    }
}
