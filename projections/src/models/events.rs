//! The event feed and the endpoints that it is delivered to. Tables `events`, `webhook_endpoints`.
//!
//! One projection, so that a filter is never older than the events that it is applied to. A row of `events` only says which
//! event of the log it is: what is told is made from the log when it is read.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use domain::{
    decider::Aggregate,
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::{EventId, MerchantId, StoreId, WebhookEndpointId},
    process,
    public_event::public_type,
    webhook_endpoint::{Event, State, Status, WebhookEndpoint},
};
use serde::{Deserialize, Serialize};

use super::Stamp;
use crate::{
    error::Error,
    projection::{ApplyError, Locality, Projection, Row, TableSpec, Visibility, tenant_uuid},
    queries::{Page, ReadModels, ReadScope, Select},
    rows::Rows,
    search::StreamName,
};

/// Most requests to send again that are remembered of one endpoint.
const MOST_RESENDS: usize = 100;

/// A public event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// Its name.
    #[serde(rename = "key")]
    pub event_id: EventId,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// The shop concerned, where there is one.
    pub store_id: Option<StoreId>,
    /// Place in the log.
    pub pos: i64,
    /// The public type.
    pub event_type: Cow<'static, str>,
    /// The kind of thing: the word of its stream type.
    pub object_type: Cow<'static, str>,
    /// The thing: `pi_…`.
    pub object_id: String,
    /// Place in the thing's stream, from 1, without gaps.
    pub version: i64,
    /// When it came about, UTC.
    pub occurred_at: DateTime<Utc>,
    /// Imported: in the feed, not delivered.
    pub historic: bool,
}

impl EventRow {
    /// The stream of the thing; nothing for a row that names none.
    pub fn stream(&self) -> Option<StreamName> {
        self.object_id.parse().ok()
    }
}

impl Row for EventRow {
    const TABLE: &'static str = "events";
    fn key(&self) -> String {
        self.event_id.to_string()
    }
}

/// A request to deliver again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resend {
    /// Position of the request.
    pub pos: i64,
    /// Events after this position …
    pub after: i64,
    /// … up to and including this one.
    pub until: i64,
}

/// A webhook endpoint as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookEndpointRow {
    /// The endpoint.
    #[serde(rename = "key")]
    pub webhook_endpoint_id: WebhookEndpointId,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// Life.
    pub status: Status,
    /// The aggregate's state.
    pub document: State,
    /// Its newest secret and the one before it as ciphertexts, lower-case hex; nothing once deleted.
    pub secrets: Vec<String>,
    /// Requests to deliver again, the newest last.
    pub resends: Vec<Resend>,
    /// Places and times.
    #[serde(flatten)]
    pub stamp: Stamp,
}

impl Row for WebhookEndpointRow {
    const TABLE: &'static str = "webhook_endpoints";
    fn key(&self) -> String {
        self.webhook_endpoint_id.to_string()
    }
}

/// The projection.
pub struct Events;

const TABLES: &[TableSpec] = &[
    TableSpec::of::<EventRow>(include_str!("../../sql/events.sql"), Visibility::Store),
    TableSpec::of::<WebhookEndpointRow>(include_str!("../../sql/webhook_endpoints.sql"), Visibility::Tenant),
];

impl Projection for Events {
    fn name(&self) -> &'static str {
        "events"
    }
    fn version(&self) -> i32 {
        1
    }
    fn tables(&self) -> &'static [TableSpec] {
        TABLES
    }
    fn reads(&self, stream_type: StreamType) -> bool {
        match stream_type {
            StreamType::Order | StreamType::Bill | StreamType::PaymentIntent | StreamType::Refund | StreamType::WebhookEndpoint => true,
            StreamType::Merchant
            | StreamType::Store
            | StreamType::LedgerAdjustment
            | StreamType::Customer
            | StreamType::ProviderAccount => false,
        }
    }
    fn locality(&self) -> Locality {
        Locality::Stream
    }
    fn reads_back(&self, table: &str) -> bool {
        table == WebhookEndpointRow::TABLE
    }

    fn prefetch(&self, event: &RecordedEvent, _: &DomainEvent) -> Vec<(&'static str, String)> {
        let known = event.stream.stream_type == StreamType::WebhookEndpoint && event.version > 1;
        if known { vec![(WebhookEndpointRow::TABLE, WebhookEndpointId(event.stream.stream_id).to_string())] } else { vec![] }
    }

    fn apply(&self, rows: &mut Rows, event: &RecordedEvent, decoded: &DomainEvent) -> Result<(), ApplyError> {
        if let DomainEvent::WebhookEndpoint(change) = decoded {
            apply_endpoint(rows, event, change)?;
        }
        if let Some(event_type) = public_type(decoded) {
            rows.put(EventRow {
                event_id: event.event_id(),
                tenant: event.stream.tenant,
                store_id: event.event_meta().store,
                pos: event.pos,
                event_type: event_type.into(),
                object_type: event.stream.stream_type.as_str().into(),
                object_id: StreamName::of(&event.stream).to_string(),
                version: event.version,
                occurred_at: event.occurred_at,
                historic: event.actor.starts_with(process::HISTORY),
            });
        }
        Ok(())
    }
}

fn apply_endpoint(rows: &mut Rows, event: &RecordedEvent, change: &Event) -> Result<(), ApplyError> {
    let webhook_endpoint_id = WebhookEndpointId(event.stream.stream_id);
    let before: Option<WebhookEndpointRow> = if event.version == 1 { None } else { rows.get(&webhook_endpoint_id.to_string())? };
    let stamp = Stamp::next(before.as_ref().map(|row| &row.stamp), event);
    let (state, mut secrets, mut resends) = before.map_or_else(Default::default, |row| (row.document, row.secrets, row.resends));
    let document = WebhookEndpoint::evolve(state, change);
    match change {
        Event::Created(_) | Event::SecretRotated(_) => {
            secrets.splice(0..0, event.pii.as_deref().map(hex::encode));
            secrets.truncate(2);
        }
        Event::ResendRequested(range) => {
            resends.push(Resend { pos: event.pos, after: range.after, until: range.until.unwrap_or(event.pos) });
            let surplus = resends.len().saturating_sub(MOST_RESENDS);
            resends.drain(..surplus);
        }
        Event::Deleted(_) => secrets.clear(),
        Event::Updated(_) | Event::Disabled(_) | Event::Enabled(_) | Event::TestRequested(_) => {}
    }
    let status = document.status;
    rows.put(WebhookEndpointRow { webhook_endpoint_id, tenant: event.stream.tenant, status, document, secrets, resends, stamp });
    Ok(())
}

impl ReadModels {
    /// Public events after a position up to and including another, in order, at most `limit`.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn events(&self, scope: &ReadScope, after: i64, until: i64, limit: i64) -> Result<Vec<EventRow>, Error> {
        self.events_of(scope, &StreamType::ALL, after, until, limit).await
    }

    /// The same of things of these kinds only. A scope of one store sees what concerns that store, not what concerns none.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn events_of(
        &self,
        scope: &ReadScope,
        kinds: &[StreamType],
        after: i64,
        until: i64,
        limit: i64,
    ) -> Result<Vec<EventRow>, Error> {
        let mut select = Select::of::<EventRow>().of_tenant(scope.tenant).equal("store_id", scope.store.map(|store| store.to_string()));
        if kinds.len() < StreamType::ALL.len() {
            let words: Vec<String> = kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
            select.query.push(" and t.object_type = any(").push_bind(words).push(")");
        }
        select.query.push(" and t.pos > ").push_bind(after).push(" and t.pos <= ").push_bind(until);
        select.query.push(" order by t.pos limit ").push_bind(limit);
        self.many(scope, select).await
    }

    /// One public event; of a scope of one store only when it concerns that store.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn event(&self, scope: &ReadScope, event_id: EventId) -> Result<Option<EventRow>, Error> {
        let select = Select::of::<EventRow>().equal("store_id", scope.store.map(|store| store.to_string()));
        Ok(self.many(scope, select.equal("key", Some(event_id.to_string()))).await?.pop())
    }

    /// One webhook endpoint; `None` when there is none in the scope.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn webhook_endpoint(&self, scope: &ReadScope, id: WebhookEndpointId) -> Result<Option<WebhookEndpointRow>, Error> {
        self.one(scope, id).await
    }

    /// Webhook endpoints that were not deleted, newest first.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn webhook_endpoints(&self, scope: &ReadScope, page: Page) -> Result<Vec<WebhookEndpointRow>, Error> {
        let mut select = Select::of::<WebhookEndpointRow>();
        select.query.push(" and t.status <> 'deleted'");
        self.many(scope, select.page(page)).await
    }

    /// The endpoints of these tenants to which deliveries are made; of all tenants without. For the worker's pool, to which
    /// row-level security shows all.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn enabled_endpoints(&self, tenants: Option<&[MerchantId]>) -> Result<Vec<WebhookEndpointRow>, Error> {
        let mut select = Select::of::<WebhookEndpointRow>();
        select.query.push(" and t.status = 'enabled'");
        if let Some(tenants) = tenants {
            let tenants: Vec<_> = tenants.iter().map(|tenant| crate::projection::tenant_to_uuid(*tenant)).collect();
            select.query.push(" and t.tenant = any(").push_bind(tenants).push(")");
        }
        self.many(&ReadScope::default(), select).await
    }

    /// How far the feed has come.
    ///
    /// # Errors
    /// `Sql`.
    pub async fn events_position(&self) -> Result<i64, Error> {
        let sql = "select pos from read.checkpoint where name = $1 and version = $2";
        Ok(sqlx::query_scalar(sql).bind(Events.name()).bind(Events.version()).fetch_optional(&self.pool).await?.unwrap_or(0))
    }

    /// The events of the things that these rows are about, up to the newest row, in order.
    ///
    /// # Errors
    /// `Sql`, `Corrupt`.
    pub async fn streams_of(&self, rows: &[EventRow]) -> Result<Vec<RecordedEvent>, Error> {
        let (Some(tenant), Some(last)) = (rows.first().map(|row| row.tenant), rows.iter().map(|row| row.pos).max()) else {
            return Ok(vec![]);
        };
        let mut names: Vec<StreamName> = rows.iter().filter_map(EventRow::stream).collect();
        names.sort_unstable();
        names.dedup();
        let mut kinds: Vec<&str> = names.iter().map(|name| name.stream_type.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let streams: Vec<_> = names.iter().map(|name| name.id).collect();
        let mut connection = self.pool.acquire().await?;
        crate::log_reader::of_streams(&mut connection, &[crate::projection::tenant_to_uuid(tenant)], &kinds, &streams, last).await
    }
}
