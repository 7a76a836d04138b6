//! Public events as they are told: the same in the feed and in a delivery.

use domain::{
    bill::Bill,
    decider::Aggregate,
    envelope::{RecordedEvent, StreamType},
    event::AggregateEvent as _,
    order::Order,
    payment_intent::PaymentIntent,
    refund::Refund,
    webhook_endpoint::WebhookEndpoint,
};
use projections::{ReadModels, models::events::PublicEvent};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{BillResource, OrderResource, PaymentIntentResource, RefundResource, Resource, WebhookEndpointResource};
use crate::problem::Problem;

/// The version of the shapes in `data`.
pub const API_VERSION: &str = "1";

/// Something that happened, with the thing as it was right after.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventResource {
    /// `evt_…`; the same in the feed and, as `webhook-id`, at every attempt of every delivery.
    #[schema(examples("evt_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// What happened.
    #[schema(examples("payment_intent.succeeded"))]
    pub r#type: String,
    /// Place among all events of the platform, rising with gaps; what `after` takes.
    pub position: i64,
    /// Place among the events of this thing, from 1, without gaps over all types.
    pub sequence: i64,
    /// The thing that it happened to.
    pub object: EventObject,
    /// When it came about, UTC, with nine digits of a second.
    #[schema(examples("2026-11-24T09:30:00.123456000Z"))]
    pub occurred_at: String,
    /// The version of the shapes in `data`.
    pub api_version: &'static str,
    /// The thing as it was at this version, in the shape of its resource. No personal data.
    #[schema(value_type = Object)]
    pub data: Value,
}

/// A thing that something happened to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EventObject {
    /// `order`, `bill`, `payment_intent`, `refund` or `webhook_endpoint`.
    pub r#type: String,
    /// Its id.
    pub id: String,
    /// Its version after the event.
    pub version: i64,
}

/// What is told of these events, in their order. All of one tenant.
///
/// # Errors
/// `Unavailable`; `Internal` for a stream that cannot be read.
pub async fn told(reads: &ReadModels, rows: &[PublicEvent]) -> Result<Vec<EventResource>, Problem> {
    let events = reads.streams_of(rows).await?;
    rows.iter().map(|row| tell(row, &events).ok_or_else(|| Problem::internal(&format!("event {} cannot be shown", row.event_id)))).collect()
}

fn tell(row: &PublicEvent, events: &[RecordedEvent]) -> Option<EventResource> {
    let own: Vec<&RecordedEvent> = events.iter().filter(|event| event.stream == row.stream && event.version <= row.version).collect();
    let kind = row.stream.stream_type;
    let data = match kind {
        StreamType::Order => snapshot::<Order, OrderResource>(&own, row.version),
        StreamType::Bill => snapshot::<Bill, BillResource>(&own, row.version),
        StreamType::PaymentIntent => snapshot::<PaymentIntent, PaymentIntentResource>(&own, row.version),
        StreamType::Refund => snapshot::<Refund, RefundResource>(&own, row.version),
        StreamType::WebhookEndpoint => snapshot::<WebhookEndpoint, WebhookEndpointResource>(&own, row.version),
        StreamType::Merchant | StreamType::Store | StreamType::LedgerAdjustment | StreamType::Customer | StreamType::ProviderAccount => {
            None
        }
    };
    Some(EventResource {
        id: row.event_id.to_string(),
        r#type: row.event_type.to_string(),
        position: row.pos,
        sequence: row.version,
        object: EventObject { r#type: kind.as_str().to_owned(), id: row.object_id(), version: row.version },
        occurred_at: row.occurred_at.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true),
        api_version: API_VERSION,
        data: data?,
    })
}

/// The thing as it was at a version; nothing unless all events up to there can be read.
fn snapshot<A: Aggregate, R: Resource<A::State>>(events: &[&RecordedEvent], version: i64) -> Option<Value> {
    let decode = |event: &&RecordedEvent| A::Event::decode(&event.event_type, event.schema_version, &event.payload).ok();
    let decoded: Vec<A::Event> = events.iter().map(decode).collect::<Option<_>>()?;
    let complete = i64::try_from(decoded.len()).is_ok_and(|count| count == version);
    let state = complete.then(|| A::fold(&decoded))?;
    serde_json::to_value(R::of(&state, version)?).ok()
}
