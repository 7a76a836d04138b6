//! One connected terminal: subscribes to topics, gets frames in order, resumes from its last sequence.
//!
//! Client to server: `{"action":"subscribe","topic":"order.ord_…","after":3}`, `{"action":"unsubscribe","topic":…}`,
//! `{"action":"ping"}`. Server to client: `{topic, epoch, seq, position, type, body}` for an event; `type` is `subscribed`,
//! `unsubscribed`, `pong`, `resync` (too far behind, or the log is busy: read the resource, then subscribe without `after`) or `error`
//! otherwise. An `error` says again nothing of what could not be read.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use commands::event_store::{load_stream, recorded_event, uuid_of};
use domain::{
    envelope::{RecordedEvent, StreamKey},
    event::ReadEvent,
};
use metrics::gauge;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use sqlx::PgPool;
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc},
    time::{Instant, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    hub::{Delivery, Frame, Hub, SESSION_QUEUE},
    topic::{Topic, stream_id},
};
use crate::{auth::Sight, extract::card::holds_card_number, problem::Kind};

/// Topics that one session may listen to.
const MAX_TOPICS: usize = 64;
/// Ping this often; two without an answer end the session.
const PING_EVERY: Duration = Duration::from_secs(30);
/// A client that does not take a frame for this long is cut off.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// A resume reads at most this many log positions back.
const RESUME_WINDOW: i64 = 50_000;
/// Resumes that read the log at the same time: connections are left for whoever else reads and writes by this pool.
static RESUMES: Semaphore = Semaphore::const_new(4);
/// A resume waits this long for its turn.
const WAIT_FOR_A_TURN: Duration = Duration::from_secs(5);
/// Events of a merchant that a resume reads in one go.
const PAGE: i64 = 1_000;
/// By the index `event_of_tenant`: what others wrote is not touched.
const EVENTS_OF_TENANT: &str = "select * from log.event where tenant = $1 and pos > $2 and pos <= $3 order by pos limit $4";

#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Subscribe { topic: String, after: Option<i64> },
    Unsubscribe { topic: String },
    Ping {},
}

/// Why a session ends.
enum End {
    Gone,
    Slow,
    Stopping,
}

/// A running session.
pub struct Session {
    socket: WebSocket,
    hub: Hub,
    log: PgPool,
    epoch: i32,
    /// See [`Hub::beginnings`].
    beginning: u64,
    who: Sight,
    id: u64,
    queue: mpsc::Receiver<Delivery>,
    /// Given to the hub with each topic; dropped here, so that being cut off everywhere closes the queue.
    sender: mpsc::WeakSender<Delivery>,
    /// Topics with the last sequence sent.
    topics: HashMap<Topic, i64>,
}

impl Session {
    /// Serves a socket until it ends.
    pub async fn run(socket: WebSocket, hub: Hub, log: PgPool, who: Sight, shutdown: CancellationToken) {
        let (epoch, beginning) = (hub.epoch(), hub.beginnings());
        let id = hub.next_session();
        gauge!("smartpos_ws_sessions").increment(1);
        let (sender, queue) = mpsc::channel(SESSION_QUEUE);
        let mut session = Self { socket, hub, log, epoch, beginning, who, id, queue, sender: sender.downgrade(), topics: HashMap::new() };
        let end = session.serve(sender, shutdown).await;
        session.hub.leave(session.id, session.topics.keys().copied().collect::<Vec<_>>());
        let close = match end {
            End::Gone => None,
            // What the client has seen is of an epoch that is over.
            End::Slow if session.beginning != session.hub.beginnings() => {
                Some((4009, "the log was restored to the past; read everything again"))
            }
            End::Slow => Some((4008, "too slow; resume from your last sequence")),
            End::Stopping => Some((1012, "restarting; resume from your last sequence")),
        };
        if let Some((code, reason)) = close {
            let frame = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            let _ = timeout(Duration::from_secs(1), session.socket.send(frame)).await;
        }
        gauge!("smartpos_ws_sessions").decrement(1);
    }

    async fn serve(&mut self, sender: mpsc::Sender<Delivery>, shutdown: CancellationToken) -> End {
        // Kept alive here only until the first topic holds a sender of its own.
        let mut first = Some(sender);
        let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        let mut unanswered = 0;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return End::Stopping,
                _ = pings.tick() => {
                    unanswered += 1;
                    if unanswered > 2 || self.send(Message::Ping(Vec::new().into())).await.is_err() {
                        return End::Gone;
                    }
                }
                delivery = self.queue.recv() => {
                    let Some(delivery) = delivery else { return End::Slow };
                    if self.forward(&delivery).await.is_err() {
                        return End::Slow;
                    }
                }
                message = self.socket.recv() => {
                    let Some(Ok(message)) = message else { return End::Gone };
                    unanswered = 0;
                    let answered = match message {
                        Message::Text(text) => self.request(text.as_str(), &mut first).await,
                        Message::Binary(_) => self.say_error(None, "NotText", "send JSON text").await,
                        Message::Close(_) => return End::Gone,
                        Message::Ping(_) | Message::Pong(_) => Ok(()),
                    };
                    if answered.is_err() {
                        return End::Gone;
                    }
                }
            }
        }
    }

    async fn request(&mut self, text: &str, first: &mut Option<mpsc::Sender<Delivery>>) -> Result<(), axum::Error> {
        // Nothing of a text that is refused is said again, since it may hold anything.
        if holds_card_number(text) {
            let refused = Kind::CardNumberRefused;
            return self.say_error(None, refused.code(), refused.title()).await;
        }
        match serde_json::from_str(text) {
            Ok(Request::Ping {}) => self.say(&json!({"type": "pong", "position": self.hub.position()})).await,
            Ok(Request::Unsubscribe { topic }) => {
                let Some(parsed) = Topic::parse(&topic) else { return self.say_topic_unknown().await };
                if self.topics.remove(&parsed).is_some() {
                    // The queue must outlive the last topic; while there are others, being cut off from them must close it.
                    if self.topics.is_empty() {
                        first.get_or_insert_with(|| self.sender.upgrade().unwrap_or_else(|| mpsc::channel(1).0));
                    }
                    self.hub.leave(self.id, [parsed]);
                }
                self.say(&json!({"type": "unsubscribed", "topic": topic})).await
            }
            Ok(Request::Subscribe { topic, after }) => self.subscribe(&topic, after, first).await,
            Err(error) => self.say_error(None, "BadRequest", &unread(&error)).await,
        }
    }

    async fn subscribe(&mut self, name: &str, after: Option<i64>, first: &mut Option<mpsc::Sender<Delivery>>) -> Result<(), axum::Error> {
        let Some(topic) = Topic::parse(name) else { return self.say_topic_unknown().await };
        if !topic.is_open_to(&self.who) {
            return self.say_error(Some(name), "NotFound", "there is no such topic for you").await;
        }
        if after.is_some_and(i64::is_negative) {
            return self.say_error(Some(name), "BadRequest", "after is a sequence, not negative").await;
        }
        if self.topics.len() >= MAX_TOPICS && !self.topics.contains_key(&topic) {
            return self.say_error(Some(name), "TooManyTopics", "a session listens to at most 64 topics").await;
        }
        // Its turn is waited for before the queue fills; listening starts before the past is read, so that nothing falls between.
        let turn = match after {
            Some(after) if self.reads_the_log(topic, after) => a_turn().await,
            Some(_) | None => None,
        };
        if !self.hub.listen(self.id, topic, self.who, &self.sender) {
            return Ok(());
        }
        *first = None;
        if self.topics.is_empty() {
            (self.epoch, self.beginning) = (self.hub.epoch(), self.hub.beginnings());
        }
        self.topics.insert(topic, after.unwrap_or(0));
        self.say(&json!({"type": "subscribed", "topic": name, "epoch": self.epoch, "position": self.hub.position()})).await?;
        match after {
            Some(after) => self.resume(topic, after, turn).await,
            None => Ok(()),
        }
    }

    /// Whether what was missed has to be looked for in the log of the merchant.
    fn reads_the_log(&self, topic: Topic, after: i64) -> bool {
        match topic {
            Topic::Stream(..) => false,
            Topic::Store(_) | Topic::Tenant(_) => {
                self.hub.kept_after(after).is_none() && self.hub.position().saturating_sub(after) <= RESUME_WINDOW
            }
        }
    }

    /// Sends what happened on a topic after a sequence.
    async fn resume(&mut self, topic: Topic, after: i64, turn: Option<SemaphorePermit<'static>>) -> Result<(), axum::Error> {
        let past = match topic {
            Topic::Stream(kind, id) => {
                let key = StreamKey { tenant: self.who.tenant, stream_type: kind, stream_id: id };
                let log = self.log.clone();
                load_stream(&log, key, after).await.map(|events| Some(events.into_iter().map(ReadEvent::shared).collect()))
            }
            Topic::Store(_) | Topic::Tenant(_) => {
                let (hub, log) = (self.hub.clone(), self.log.clone());
                log_after(&hub, &log, self.who, after, turn).await
            }
        };
        match past {
            Ok(Some(events)) => {
                let events: Vec<Arc<ReadEvent>> = events;
                let who = self.who;
                let on_topic = |event: &RecordedEvent| Topic::of(event.stream, event.event_meta().store).into_iter().any(|of| of == topic);
                for event in events.into_iter().filter(|event| on_topic(event) && who.sees_event(event)) {
                    self.forward(&Frame::new(topic, event)).await?;
                }
                Ok(())
            }
            Ok(None) => self.say(&json!({"type": "resync", "topic": topic.name(), "position": self.hub.position()})).await,
            Err(error) => {
                tracing::warn!(%error, "a resume could not be read");
                self.say(&json!({"type": "resync", "topic": topic.name(), "position": self.hub.position()})).await
            }
        }
    }

    /// Sends an event unless the topic has it already.
    async fn forward(&mut self, frame: &Frame) -> Result<(), axum::Error> {
        let sequence = frame.topic.sequence(&frame.event);
        match self.topics.get_mut(&frame.topic) {
            Some(last) if *last < sequence => *last = sequence,
            Some(_) | None => return Ok(()),
        }
        // One process has one epoch: what one session sends is what all send.
        let text = frame.text(|| body(frame.topic, self.epoch, sequence, &frame.event).to_string().into());
        self.send(Message::Text(text)).await
    }

    async fn say(&mut self, body: &serde_json::Value) -> Result<(), axum::Error> {
        self.send(Message::Text(body.to_string().into())).await
    }

    async fn say_topic_unknown(&mut self) -> Result<(), axum::Error> {
        let detail = "topics are store., order., bill., payment_intent., refund., customer., provider_account. or merchant. and an id";
        self.say_error(None, "TopicUnknown", detail).await
    }

    /// `topic` is one that there can be.
    async fn say_error(&mut self, topic: Option<&str>, code: &str, detail: &str) -> Result<(), axum::Error> {
        self.say(&json!({"type": "error", "topic": topic, "code": code, "detail": detail})).await
    }

    async fn send(&mut self, message: Message) -> Result<(), axum::Error> {
        timeout(SEND_TIMEOUT, self.socket.send(message)).await.map_err(axum::Error::new)?
    }
}

/// Why a text is no request, without a word of it: the parser's own message quotes what it met.
fn unread(error: &serde_json::Error) -> String {
    let known = r#"a request is {"action":"subscribe","topic":…,"after":…}, {"action":"unsubscribe","topic":…} or {"action":"ping"}"#;
    format!("{known}; this one cannot be read, at line {} column {}", error.line(), error.column())
}

/// A turn at the log, unless too many others resume.
async fn a_turn() -> Option<SemaphorePermit<'static>> {
    timeout(WAIT_FOR_A_TURN, RESUMES.acquire()).await.ok()?.ok()
}

/// What the holder of a scope may see of the log after a position; nothing when that is too far back, or there is no `turn` to read it.
async fn log_after(
    hub: &Hub,
    log: &PgPool,
    who: Sight,
    after: i64,
    turn: Option<SemaphorePermit<'static>>,
) -> Result<Option<Vec<Arc<ReadEvent>>>, sqlx::Error> {
    if let Some(kept) = hub.kept_after(after) {
        return Ok(Some(kept));
    }
    // What comes after it, the session's queue has.
    let until = hub.position();
    if until.saturating_sub(after) > RESUME_WINDOW {
        return Ok(None);
    }
    // What was kept a moment ago may be gone by now.
    let Some(_turn) = turn.or_else(|| RESUMES.try_acquire().ok()) else { return Ok(None) };
    let (mut events, mut from) = (Vec::new(), after);
    loop {
        let rows = sqlx::query(EVENTS_OF_TENANT).bind(uuid_of(who.tenant)).bind(from).bind(until).bind(PAGE).fetch_all(log).await?;
        let page = rows.iter().map(recorded_event).collect::<Result<Vec<_>, _>>()?;
        let Some(last) = page.last().map(|event| event.pos) else { return Ok(Some(events)) };
        from = last;
        events.extend(page.into_iter().filter(|event| who.sees_event(event)).map(ReadEvent::shared));
    }
}

fn body(topic: Topic, epoch: i32, sequence: i64, event: &RecordedEvent) -> serde_json::Value {
    let shown = projections::masking::payload(event);
    let data = std::str::from_utf8(&shown).ok().and_then(|text| serde_json::from_str::<Box<RawValue>>(text).ok());
    json!({
        "topic": topic.name(),
        "epoch": epoch,
        "seq": sequence,
        "position": event.pos,
        "type": event.event_type,
        "body": {
            "id": stream_id(event.stream.stream_type, event.stream.stream_id),
            "version": event.version,
            "occurred_at": event.occurred_at,
            "correlation_id": event.correlation_id.to_string(),
            "data": data,
        },
    })
}

#[cfg(test)]
mod tests {
    use domain::ids::{MerchantId, Ulid};
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::auth::Role;

    #[tokio::test]
    async fn a_resume_takes_its_turn_at_the_log_and_does_not_wait_for_long() {
        let away = PgPoolOptions::new().acquire_timeout(Duration::from_millis(50)).connect_lazy("postgres://x@127.0.0.1:1/x").unwrap();
        let (hub, who) = (Hub::starting_at(1_000, 1), Sight { tenant: MerchantId(Ulid::nil()), store: None, role: Role::Cashier });
        let others = RESUMES.acquire_many(4).await.unwrap();
        assert!(log_after(&hub, &away, who, 1_000, None).await.unwrap().is_some(), "what is kept needs no turn");
        assert!(log_after(&hub, &away, who, 500, a_turn().await).await.unwrap().is_none(), "others have all turns");
        drop(others);
        assert!(log_after(&hub, &away, who, 500, a_turn().await).await.is_err(), "it asks the log, which is away");
    }
}
