//! Why a payment is as it is: its trail, with what was said to and heard from providers between the events.

use chrono::{DateTime, Utc};
use domain::{
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::PaymentIntentId,
    payment_intent, refund,
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    error::Error,
    masking,
    projection::tenant_to_uuid,
    search::StreamName,
    trail::{Step, trail},
};

/// One exchange with a provider, as it was kept: masked.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
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
}

/// A line of an explanation.
#[derive(Debug, Clone)]
pub enum Line {
    /// A fact of the log.
    Event(Step),
    /// A word with a provider.
    Exchange(ExchangeRow),
}

/// Everything around a payment intent: events in the order of the log, each exchange after the last event that was recorded
/// before it was sent. Of the events only those that `sees` lets through, and the exchanges that follow from these. Empty when there
/// is no such intent. `pool`: a role that is a member of `smartpos_worker`.
///
/// # Errors
/// `Sql`, `Corrupt`.
pub async fn explain(pool: &PgPool, id: PaymentIntentId, sees: impl Fn(&RecordedEvent) -> bool) -> Result<Vec<Line>, Error> {
    let mut steps = trail(pool, StreamName { stream_type: StreamType::PaymentIntent, id: id.0 }).await?;
    steps.retain(|step| sees(&step.event));
    let Some(first) = steps.first() else { return Ok(vec![]) };
    let subjects: Vec<String> = steps.iter().filter_map(subject).collect();
    let sql = "select subject, provider, operation, request_line, request_body, status, response_body, sent_at, took_ms \
               from gateway.exchange where tenant = $1 and subject = any($2) order by sent_at, id";
    let tenant = tenant_to_uuid(first.event.stream.tenant);
    let exchanges: Vec<ExchangeRow> = sqlx::query_as(sql).bind(tenant).bind(subjects).fetch_all(pool).await?;
    let mut exchanges = exchanges.into_iter().peekable();
    let mut lines = Vec::new();
    for step in steps {
        while let Some(exchange) = exchanges.next_if(|exchange| exchange.sent_at < step.event.recorded_at) {
            lines.push(Line::Exchange(exchange));
        }
        lines.push(Line::Event(step));
    }
    lines.extend(exchanges.map(Line::Exchange));
    Ok(lines)
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

impl Line {
    /// The line as a JSON object. Tokens of cards are masked.
    pub fn value(&self) -> Value {
        match self {
            Self::Event(step) => {
                let event = &step.event;
                json!({
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
                })
            }
            Self::Exchange(exchange) => json!({
                "kind": "exchange",
                "at": exchange.sent_at,
                "subject": exchange.subject,
                "provider": exchange.provider,
                "operation": exchange.operation,
                "request": { "line": exchange.request_line, "body": exchange.request_body },
                "response": { "status": exchange.status, "body": exchange.response_body },
                "took_ms": exchange.took_ms,
            }),
        }
    }
}
