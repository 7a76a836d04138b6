//! Why a payment is as it is: its trail, with what was asked of the API, what was said to and heard from providers, and what its
//! merchant was told, between the events.

mod call_backs;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::{
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::{PaymentIntentId, Ulid, WebhookEndpointId},
    payment_intent,
    postings::{Journal, Posting},
    provider, refund,
};
use serde_json::{Value, json};
use sqlx::{FromRow, PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use crate::{
    error::Error,
    masking,
    projection::tenant_to_uuid,
    search::StreamName,
    trail::{Step, Trail, trail},
};

pub use call_backs::CallBackRow;

/// One exchange with a provider, as it was kept: masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRow {
    /// The attempt or refund that it was about.
    pub subject: String,
    /// The account: `pac_…`, or the provider's name for the platform's own.
    pub provider: String,
    /// `start`, `inquire`, …, or `call_back`.
    pub operation: String,
    /// Method, path and query.
    pub request_line: String,
    /// Body as sent.
    pub request_body: String,
    /// HTTP status; nothing when no answer came.
    pub status: Option<i32>,
    /// Body as received, or what went wrong.
    pub response_body: String,
    /// When it was sent (UTC).
    pub sent_at: DateTime<Utc>,
    /// Milliseconds until the whole answer was there.
    pub took_ms: i64,
    /// What a call-back said, masked, where it is kept.
    pub received: Option<String>,
}

impl FromRow<'_, PgRow> for ExchangeRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            subject: row.try_get("subject")?,
            provider: row.try_get("provider")?,
            operation: row.try_get("operation")?,
            request_line: row.try_get("request_line")?,
            request_body: row.try_get("request_body")?,
            status: row.try_get("status")?,
            response_body: row.try_get("response_body")?,
            sent_at: row.try_get("sent_at")?,
            took_ms: row.try_get("took_ms")?,
            received: None,
        })
    }
}

/// An event on its way to an endpoint of the merchant, and one attempt at it. What the endpoint answered is its owner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// The endpoint.
    pub endpoint: Uuid,
    /// `evt_…`.
    pub event: String,
    /// Its public type.
    pub event_type: String,
    /// Where it stands in the log.
    pub pos: i64,
    /// `pending`, `delivered` or `failed`, by now.
    pub state: String,
    /// Which attempt it was, from 1 on; nothing before the first.
    pub attempt: Option<i32>,
    /// When it was made (UTC).
    pub at: Option<DateTime<Utc>>,
    /// HTTP status; nothing when no answer came.
    pub status: Option<i16>,
    /// How long it took, milliseconds.
    pub elapsed_ms: Option<i32>,
    /// Why no answer came.
    pub error: Option<String>,
}

impl FromRow<'_, PgRow> for DeliveryRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            endpoint: row.try_get("endpoint")?,
            event: row.try_get("event")?,
            event_type: row.try_get("event_type")?,
            pos: row.try_get("pos")?,
            state: row.try_get("state")?,
            attempt: row.try_get("attempt")?,
            at: row.try_get("at")?,
            status: row.try_get("status")?,
            elapsed_ms: row.try_get("elapsed_ms")?,
            error: row.try_get("error")?,
        })
    }
}

/// A call of the API, out of which the events that follow came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// When it was decided (UTC).
    pub at: DateTime<Utc>,
    /// Method and path template.
    pub operation: String,
    /// Who asked.
    pub actor: String,
    /// The device, if any.
    pub device: Option<String>,
    /// Ties together all that follows from it; its answer named it.
    pub correlation_id: Ulid,
}

impl RequestRow {
    /// The call behind an event; nothing for what follows by itself.
    fn behind(event: &RecordedEvent) -> Option<Self> {
        let meta = event.event_meta();
        let (actor, correlation_id) = (event.actor.clone(), event.correlation_id);
        meta.operation.map(|operation| Self { at: event.occurred_at, operation, actor, device: meta.device, correlation_id })
    }
}

/// A line of an explanation.
#[derive(Debug, Clone)]
pub enum Line {
    /// What was asked of the API.
    Request(RequestRow),
    /// A fact of the log, and what it moves from one account to another.
    Event(Step, Vec<Posting>),
    /// A word with a provider.
    Exchange(ExchangeRow),
    /// A word of a provider that had no effect, or of somebody who claims to be one.
    CallBack(CallBackRow),
    /// A word to the merchant.
    Delivery(DeliveryRow),
}

/// What of a payment may be told to whoever asks.
pub struct Seen<F> {
    /// Of its events those that this lets through, and the exchanges that follow from these.
    pub events: F,
    /// Deliveries of these events to endpoints of the merchant.
    pub deliveries: bool,
    /// Call-backs that had no effect.
    pub call_backs: bool,
    /// Up to this position of the log and its time; nothing for all.
    pub until: Option<i64>,
}

/// Why a payment is as it is.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// Events in the order of the log, each exchange and each delivery after the last event that was recorded before it was sent. Empty when
    /// there is no such intent.
    pub lines: Vec<Line>,
    /// More belongs to it, see [`Trail::cut`].
    pub cut: bool,
}

/// Everything around a payment intent that is `seen`. `pool`: a role that is a member of `smartpos_auditor` or `smartpos_worker`. `progress`:
/// as [`trail`] has it.
///
/// # Errors
/// `Sql`, `Corrupt`.
pub async fn explain(
    pool: &PgPool,
    id: PaymentIntentId,
    seen: Seen<impl Fn(&RecordedEvent) -> bool>,
    progress: impl Fn(usize, usize),
) -> Result<Explanation, Error> {
    let Trail { mut steps, cut } = trail(pool, StreamName { stream_type: StreamType::PaymentIntent, id: id.0 }, progress).await?;
    let moved = moved(&steps);
    steps.retain(|step| seen.until.is_none_or(|until| step.event.pos <= until) && (seen.events)(&step.event));
    let Some(first) = steps.first() else { return Ok(Explanation { lines: vec![], cut }) };
    let tenant = tenant_to_uuid(first.event.stream.tenant);
    let mut between = exchanges(pool, tenant, &steps).await?;
    if seen.deliveries {
        between.extend(deliveries(pool, tenant, &steps).await?);
    }
    if seen.call_backs {
        let without_effect = call_backs::without_effect(pool, &steps).await?;
        between.extend(without_effect.into_iter().map(|row| (row.received_at, Line::CallBack(row))));
    }
    if let Some(until) = seen.until {
        let sql = "select recorded_at from log.event where pos = $1";
        let end: Option<DateTime<Utc>> = sqlx::query_scalar(sql).bind(until).fetch_optional(pool).await?;
        between.retain(|(at, _)| end.is_none_or(|end| *at <= end));
    }
    between.sort_by_key(|(at, _)| *at);
    Ok(Explanation { lines: merged(steps, moved, between), cut })
}

/// What events move, by their position. Of a trail that was cut, one may refer to what is not in it: nothing is said of it then.
fn moved(steps: &[Step]) -> HashMap<i64, Vec<Posting>> {
    let mut journal = Journal::default();
    let mut post = |step: &Step| {
        let event = DomainEvent::decode(&step.event).ok()?;
        Some((step.event.pos, journal.post(step.event.stream.stream_id, &event).ok()?))
    };
    steps.iter().filter_map(&mut post).collect()
}

/// Events in their order, with what was said between them, each call of the API before its events.
fn merged(steps: Vec<Step>, mut moved: HashMap<i64, Vec<Posting>>, between: Between) -> Vec<Line> {
    let mut between = between.into_iter().peekable();
    let (mut lines, mut request) = (Vec::new(), None);
    for step in steps {
        while let Some((_, line)) = between.next_if(|(at, _)| *at < step.event.recorded_at) {
            lines.push(line);
        }
        if let Some(behind) = RequestRow::behind(&step.event)
            && request.replace(step.event.causation_id) != Some(step.event.causation_id)
        {
            lines.push(Line::Request(behind));
        }
        let postings = moved.remove(&step.event.pos).unwrap_or_default();
        lines.push(Line::Event(step, postings));
    }
    lines.extend(between.map(|(_, line)| line));
    lines
}

/// Lines that stand between events, each with its time.
type Between = Vec<(DateTime<Utc>, Line)>;

async fn exchanges(pool: &PgPool, tenant: Uuid, steps: &[Step]) -> Result<Between, Error> {
    let subjects: Vec<String> = steps.iter().filter_map(subject).collect();
    let sql = "select subject, provider, operation, request_line, request_body, status, response_body, sent_at, took_ms \
               from gateway.exchange where tenant = $1 and subject = any($2) order by sent_at, id";
    let mut rows: Vec<ExchangeRow> = sqlx::query_as(sql).bind(tenant).bind(subjects).fetch_all(pool).await?;
    let kept: Vec<Uuid> = rows.iter().filter_map(ExchangeRow::call_back).collect();
    let sql = "select id, body from process.webhook where id = any($1)";
    let bodies: HashMap<Uuid, Vec<u8>> = sqlx::query_as(sql).bind(kept).fetch_all(pool).await?.into_iter().collect();
    for row in &mut rows {
        row.received =
            row.call_back().and_then(|id| bodies.get(&id)).map(|body| provider::masking::json(body, provider::masking::is_private));
    }
    Ok(rows.into_iter().map(|row| (row.sent_at, Line::Exchange(row))).collect())
}

impl ExchangeRow {
    /// The stored call-back that it tells of: its line names it, `webhook:…; …`.
    fn call_back(&self) -> Option<Uuid> {
        if self.operation != "call_back" {
            return None;
        }
        self.request_body.strip_prefix("webhook:")?.split(';').next()?.parse().ok()
    }
}

/// One that waits for its first attempt stands behind its event.
async fn deliveries(pool: &PgPool, tenant: Uuid, steps: &[Step]) -> Result<Between, Error> {
    let recorded: HashMap<i64, DateTime<Utc>> = steps.iter().map(|step| (step.event.pos, step.event.recorded_at)).collect();
    let positions: Vec<i64> = recorded.keys().copied().collect();
    let sql = "select d.endpoint, d.event, d.event_type, d.pos, d.status as state, a.n as attempt, a.at, a.status, a.elapsed_ms, a.error \
               from process.webhook_cursor c \
               join process.webhook_delivery d on d.endpoint = c.endpoint and d.pos = any($2) \
               left join process.webhook_attempt a on a.endpoint = d.endpoint and a.event = d.event \
               where c.tenant = $1 order by a.at, d.pos, d.endpoint";
    let rows: Vec<DeliveryRow> = sqlx::query_as(sql).bind(tenant).bind(positions).fetch_all(pool).await?;
    let timed = |row: DeliveryRow| {
        let at = row.at.or_else(|| recorded.get(&row.pos).copied())?;
        Some((at, Line::Delivery(row)))
    };
    Ok(rows.into_iter().filter_map(timed).collect())
}

/// What a provider was called about because of an event.
fn subject(step: &Step) -> Option<String> {
    match DomainEvent::decode(&step.event).ok()? {
        DomainEvent::PaymentIntent(payment_intent::Event::AttemptStarted(started)) => Some(started.attempt_id.to_string()),
        DomainEvent::Refund(refund::Event::Requested(requested)) => Some(requested.refund_id.to_string()),
        DomainEvent::PaymentIntent(_)
        | DomainEvent::Refund(_)
        | DomainEvent::Merchant(_)
        | DomainEvent::Store(_)
        | DomainEvent::Order(_)
        | DomainEvent::Bill(_)
        | DomainEvent::Customer(_)
        | DomainEvent::ProviderAccount(_)
        | DomainEvent::WebhookEndpoint(_)
        | DomainEvent::LedgerAdjustment(_) => None,
    }
}

impl DeliveryRow {
    /// `whe_…`.
    pub fn endpoint_id(&self) -> String {
        WebhookEndpointId(Ulid::from_bytes(*self.endpoint.as_bytes())).to_string()
    }
}

/// Above zero a debit, below zero a credit; minor units.
fn posting(Posting { account, amount }: &Posting) -> Value {
    json!({"account": account.to_string(), "amount": amount.amount, "currency": amount.currency})
}

impl Line {
    /// The line as a JSON object. Tokens of cards are masked.
    pub fn value(&self) -> Value {
        match self {
            Self::Event(step, postings) => {
                let event = &step.event;
                let mut line = json!({
                    "kind": "event",
                    "position": event.pos,
                    "at": event.recorded_at,
                    "stream": StreamName::of(&event.stream).to_string(),
                    "type": event.event_type,
                    "actor": event.actor,
                    "correlation_id": event.correlation_id.to_string(),
                    "causation_id": event.causation_id.to_string(),
                    "because_of": step.cause,
                    "payload": masking::payload_json(event),
                });
                if let Some(line) = line.as_object_mut().filter(|_| !postings.is_empty()) {
                    line.insert("postings".to_owned(), postings.iter().map(posting).collect());
                }
                line
            }
            Self::Exchange(exchange) => {
                let mut line = json!({
                    "kind": "exchange",
                    "at": exchange.sent_at,
                    "subject": exchange.subject,
                    "provider": exchange.provider,
                    "operation": exchange.operation,
                    "request": { "line": exchange.request_line, "body": exchange.request_body },
                    "response": { "status": exchange.status, "body": exchange.response_body },
                    "took_ms": exchange.took_ms,
                });
                if let (Some(received), Some(line)) = (&exchange.received, line.as_object_mut()) {
                    line.insert("received".to_owned(), received.as_str().into());
                }
                line
            }
            Self::Request(request) => json!({
                "kind": "request",
                "at": request.at,
                "operation": request.operation,
                "actor": request.actor,
                "device": request.device,
                "correlation_id": request.correlation_id.to_string(),
            }),
            Self::CallBack(call_back) => call_back.value(),
            Self::Delivery(delivery) => json!({
                "kind": "delivery",
                "at": delivery.at,
                "endpoint": delivery.endpoint_id(),
                "event": delivery.event,
                "type": delivery.event_type,
                "state": delivery.state,
                "attempt": delivery.attempt,
                "status": delivery.status,
                "error": delivery.error,
                "took_ms": delivery.elapsed_ms,
            }),
        }
    }
}
