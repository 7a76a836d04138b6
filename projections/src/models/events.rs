//! The event feed and the endpoints that it is delivered to. Table `webhook_endpoints`.
//!
//! The feed is the log itself, as far as this projection has come, so that a filter is never older than the events that it is applied to, and
//! without the streams that are halted in it: what is told of an event is made from the whole stream of its thing. That is why it reads
//! streams of which it keeps nothing.

use chrono::{DateTime, Utc};
use domain::{
    decider::Aggregate,
    envelope::{RecordedEvent, StreamKey, StreamType},
    event::{DecodeError, DomainEvent},
    ids::{EventId, MerchantId, WebhookEndpointId},
    process,
    public_event::public_type,
    webhook_endpoint::{Event, State, Status, WebhookEndpoint},
};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use super::Stamp;
use crate::{
    error::Error,
    log_reader::{self, EVENT_COLUMNS, row_to_event},
    projection::{ApplyError, Locality, Projection, Row, TableSpec, Visibility, tenant_to_uuid, tenant_uuid},
    queries::{Page, ReadModels, ReadScope, Select},
    rows::Rows,
    search::StreamName,
};

/// Most requests to send again that are remembered of one endpoint.
const MOST_RESENDS: usize = 100;

/// A public event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicEvent {
    /// Its name.
    pub event_id: EventId,
    /// Place in the log.
    pub pos: i64,
    /// The public type.
    pub event_type: &'static str,
    /// The thing that it happened to.
    pub stream: StreamKey,
    /// Place in the thing's stream, from 1, without gaps.
    pub version: i64,
    /// When it came about, UTC.
    pub occurred_at: DateTime<Utc>,
    /// Imported: in the feed, not delivered.
    pub historic: bool,
    /// See [`domain::integrity::event_hash`].
    pub hash: [u8; 32],
}

impl PublicEvent {
    /// Of an event of the log; nothing for one that merchants are not told of.
    ///
    /// # Errors
    /// `Corrupt` for one that this build cannot read.
    fn of(event: &RecordedEvent) -> Result<Option<Self>, Error> {
        let unreadable = |error: DecodeError| Error::Corrupt { position: event.pos, what: error.to_string() };
        let Some(event_type) = public_type(&DomainEvent::decode(event).map_err(unreadable)?) else { return Ok(None) };
        Ok(Some(Self {
            event_id: event.event_id(),
            pos: event.pos,
            event_type,
            stream: event.stream,
            version: event.version,
            occurred_at: event.occurred_at,
            historic: event.actor.starts_with(process::HISTORY),
            hash: event.hash,
        }))
    }

    /// Whether this is a name of it: its own, or half of its hash, as events were named before names began with the position.
    pub fn is_named(&self, name: EventId) -> bool {
        name == self.event_id || self.hash.starts_with(&name.0.to_bytes())
    }

    /// The public id of the thing: `pi_…`.
    pub fn object_id(&self) -> String {
        StreamName::of(&self.stream).to_string()
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

const TABLES: &[TableSpec] = &[TableSpec::of::<WebhookEndpointRow>(include_str!("../../sql/webhook_endpoints.sql"), Visibility::Tenant)];

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
    /// Public events of the scope's merchant after a position up to and including another, in order, at most `limit`.
    ///
    /// # Errors
    /// `Sql`, `Corrupt`.
    pub async fn events(&self, scope: &ReadScope, after: i64, until: i64, limit: i64) -> Result<Vec<PublicEvent>, Error> {
        self.events_of(scope, &StreamType::ALL, after, until, limit).await
    }

    /// The same of things of these kinds only. A scope of one store sees what concerns that store, not what concerns none.
    ///
    /// # Errors
    /// `Sql`, `Corrupt`.
    pub async fn events_of(
        &self,
        scope: &ReadScope,
        kinds: &[StreamType],
        after: i64,
        until: i64,
        limit: i64,
    ) -> Result<Vec<PublicEvent>, Error> {
        let Some(tenant) = scope.tenant else { return Ok(vec![]) };
        let told: Vec<&str> = kinds.iter().filter(|kind| Events.reads(**kind)).map(|kind| kind.as_str()).collect();
        let sql = AssertSqlSafe(format!("select {EVENT_COLUMNS} from read.public_events($1, $2, $3, $4, $5, $6, $7, $8)"));
        let query = sqlx::query(sql).bind(Events.name()).bind(Events.version()).bind(tenant_to_uuid(tenant)).bind(told);
        let query = query.bind(scope.store.map(|store| store.to_string())).bind(after);
        // One by one: of a payload nothing is kept.
        let mut rows = query.bind(self.no_later_than(until)).bind(limit).fetch(&self.pool);
        let mut events = Vec::new();
        while let Some(row) = rows.try_next().await? {
            events.extend(PublicEvent::of(&row_to_event(&row)?)?);
        }
        Ok(events)
    }

    /// One public event; of a scope of one store only when it concerns that store.
    ///
    /// # Errors
    /// `Sql`, `Corrupt`.
    pub async fn event(&self, scope: &ReadScope, event_id: EventId) -> Result<Option<PublicEvent>, Error> {
        Ok(self.event_at(scope, event_id.position()).await?.filter(|event| event.event_id == event_id))
    }

    /// The public event at a position, in the same way.
    ///
    /// # Errors
    /// `Sql`, `Corrupt`.
    pub async fn event_at(&self, scope: &ReadScope, position: i64) -> Result<Option<PublicEvent>, Error> {
        Ok(self.events(scope, position.saturating_sub(1), position, 1).await?.pop())
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
            let tenants: Vec<_> = tenants.iter().map(|tenant| tenant_to_uuid(*tenant)).collect();
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
        let position = sqlx::query_scalar(sql).bind(Events.name()).bind(Events.version()).fetch_optional(&self.pool).await?;
        Ok(self.no_later_than(position.unwrap_or(0)))
    }

    /// All events of the things that these, all of one merchant, happened to, up to the newest of them, in order.
    ///
    /// # Errors
    /// `Sql`, `Corrupt`.
    pub async fn streams_of(&self, events: &[PublicEvent]) -> Result<Vec<RecordedEvent>, Error> {
        let (Some(first), Some(last)) = (events.first(), events.iter().map(|event| event.pos).max()) else { return Ok(vec![]) };
        let mut kinds: Vec<&str> = events.iter().map(|event| event.stream.stream_type.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let mut streams: Vec<_> = events.iter().map(|event| event.stream.stream_id).collect();
        streams.sort_unstable();
        streams.dedup();
        let mut connection = self.pool.acquire().await?;
        log_reader::of_streams(&mut connection, &[tenant_to_uuid(first.stream.tenant)], &kinds, &streams, last).await
    }
}
