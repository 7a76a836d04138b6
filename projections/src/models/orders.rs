//! Orders: each with its document, its lines and its history. Tables `orders`, `order_lines`, `order_timeline`.

use chrono::{DateTime, NaiveDate, Utc};
use domain::{
    decider::Aggregate,
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::{BillId, LineId, MerchantId, OrderId, StoreId, Ulid},
    money::Currency,
    order::{self, Event, Order, OrderType, Status},
    pricing::{Discount, TaxClass},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use super::orders_queries::OrderFilter;
use super::{Stamp, never_opened};
use crate::{
    projection::{ApplyError, Locality, Projection, Row, TableSpec, Visibility, tenant_uuid},
    rows::Rows,
};

/// An order as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// The order.
    #[serde(rename = "key")]
    pub order_id: OrderId,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// Where.
    pub store_id: StoreId,
    /// Life.
    pub status: Status,
    /// How it is served.
    pub order_type: OrderType,
    /// Table, for dine-in.
    pub table_number: Option<String>,
    /// Number for people.
    pub order_number: Option<String>,
    /// The store's business date when it was opened.
    pub business_date: NaiveDate,
    /// Of every amount in it.
    pub currency: Currency,
    /// What it costs as it stands, minor units; nothing when it cannot be priced.
    pub total: Option<i64>,
    /// Lines that are not voided.
    pub line_count: i32,
    /// The standing or paid bill.
    pub bill_id: Option<BillId>,
    /// Places and times.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The order itself.
    pub document: order::State,
}

impl Row for OrderRow {
    const TABLE: &'static str = "orders";
    fn key(&self) -> String {
        self.order_id.to_string()
    }
}

/// A line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLineRow {
    /// `{order_id}|{line_id}`: line ids are unique within their order only.
    pub key: String,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// Where.
    pub store_id: StoreId,
    /// The order.
    pub order_id: OrderId,
    /// The line.
    pub line_id: LineId,
    /// Place among the order's lines, from 0.
    pub position: i32,
    /// The catalogue's code.
    pub item_code: String,
    /// Name as sold.
    pub name: String,
    /// Thousandths of a piece.
    pub quantity_milli: i64,
    /// Minor units for `price_base_milli`.
    pub unit_price: i64,
    /// The quantity that the unit price buys, thousandths: 1,000 for the price of one piece.
    pub price_base_milli: i64,
    /// Class of tax.
    pub tax_class: TaxClass,
    /// Discount of this line.
    pub discount: Option<Discount>,
    /// Taken off.
    pub voided: bool,
    /// Position of the last event that changed it.
    pub updated_pos: i64,
}

impl Row for OrderLineRow {
    const TABLE: &'static str = "order_lines";
    fn key(&self) -> String {
        self.key.clone()
    }
}

/// One event in the history of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderTimelineRow {
    /// `{order_id}|{version}`.
    pub key: String,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// Where.
    pub store_id: StoreId,
    /// The order.
    pub order_id: OrderId,
    /// Place in the stream, from 1.
    pub version: i64,
    /// Place in the log.
    pub pos: i64,
    /// `order.opened`.
    pub event_type: String,
    /// Version of the payload's shape.
    pub schema_version: i16,
    /// Who.
    pub actor: String,
    /// When it came about, UTC.
    pub occurred_at: DateTime<Utc>,
    /// When it was stored, UTC.
    pub recorded_at: DateTime<Utc>,
    /// Ties together all that follows from one request.
    pub correlation_id: Ulid,
    /// The payload as stored.
    pub data: Payload,
}

/// A payload as the log stores it: JSON that is passed on and not read again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(pub Box<RawValue>);

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Payload {}

impl Payload {
    /// As a value, whose fields are in one order: those of the log and those that the database keeps as `jsonb` read the same.
    pub fn value(&self) -> serde_json::Value {
        // It is JSON, or it would not be here.
        serde_json::to_value(&self.0).unwrap_or_default()
    }

    fn of(event: &RecordedEvent) -> Result<Self, ApplyError> {
        let no_json = |error: &dyn std::fmt::Display| ApplyError::Poison(format!("the payload is not JSON: {error}"));
        let text = String::from_utf8(event.payload.clone()).map_err(|error| no_json(&error))?;
        RawValue::from_string(text).map(Self).map_err(|error| no_json(&error))
    }
}

impl Row for OrderTimelineRow {
    const TABLE: &'static str = "order_timeline";
    fn key(&self) -> String {
        self.key.clone()
    }
}

/// The projection.
pub struct Orders;

const TABLES: &[TableSpec] = &[
    TableSpec::of::<OrderRow>(include_str!("../../sql/orders.sql"), Visibility::Store),
    TableSpec::of::<OrderLineRow>(include_str!("../../sql/order_lines.sql"), Visibility::Store),
    TableSpec::of::<OrderTimelineRow>(include_str!("../../sql/order_timeline.sql"), Visibility::Store),
];

impl Projection for Orders {
    fn name(&self) -> &'static str {
        "orders"
    }
    fn version(&self) -> i32 {
        2
    }
    fn tables(&self) -> &'static [TableSpec] {
        TABLES
    }
    fn reads(&self, stream_type: StreamType) -> bool {
        stream_type == StreamType::Order
    }
    fn locality(&self) -> Locality {
        Locality::Stream
    }
    fn reads_back(&self, table: &str) -> bool {
        table == OrderRow::TABLE
    }

    fn prefetch(&self, event: &RecordedEvent, _: &DomainEvent) -> Vec<(&'static str, String)> {
        if event.version == 1 { vec![] } else { vec![(OrderRow::TABLE, OrderId(event.stream.stream_id).to_string())] }
    }

    fn apply(&self, rows: &mut Rows, event: &RecordedEvent, decoded: &DomainEvent) -> Result<(), ApplyError> {
        let DomainEvent::Order(change) = decoded else { return Ok(()) };
        let order_id = OrderId(event.stream.stream_id);
        // A first version has no row yet, so a new order never waits for the database.
        let before: Option<OrderRow> = if event.version == 1 { None } else { rows.get(&order_id.to_string())? };
        let stamp = Stamp::next(before.as_ref().map(|row| &row.stamp), event);
        let document = Order::evolve(before.map(|row| row.document).unwrap_or_default(), change);
        let row = order_row(order_id, event, stamp, document)?;
        put_changed_lines(rows, &row, change, event.pos);
        rows.put(timeline_row(&row, event)?);
        rows.put(row);
        Ok(())
    }
}

fn order_row(order_id: OrderId, event: &RecordedEvent, stamp: Stamp, document: order::State) -> Result<OrderRow, ApplyError> {
    let details = document.details.as_ref().ok_or_else(|| never_opened(event))?;
    Ok(OrderRow {
        order_id,
        tenant: event.stream.tenant,
        store_id: details.store_id,
        status: document.status,
        order_type: details.order_type,
        table_number: details.table_number.clone(),
        order_number: details.order_number.clone(),
        business_date: details.business_date,
        currency: details.currency,
        total: document.priced().and_then(Result::ok).map(|priced| priced.total),
        line_count: i32::try_from(document.live_lines().count()).map_err(|_| ApplyError::overflow("the number of lines"))?,
        bill_id: document.bill_id,
        stamp,
        document,
    })
}

fn put_changed_lines(rows: &mut Rows, order: &OrderRow, change: &Event, pos: i64) {
    let line_id = match change {
        Event::LineAdded(line) => line.line_id,
        Event::LineQuantityChanged(changed) => changed.line_id,
        Event::LineVoided(voided) => voided.line_id,
        Event::LinesAdded(added) => {
            // The newest lines are the last ones; none is looked for.
            let first = order.document.lines.len().saturating_sub(added.lines.len());
            let lines = order.document.lines.iter().enumerate().skip(first);
            lines.filter_map(|(position, line)| line_row(order, position, line, pos)).for_each(|line| rows.put(line));
            return;
        }
        Event::Opened(_)
        | Event::DiscountApplied(_)
        | Event::DiscountRemoved(_)
        | Event::AdjustmentAdded(_)
        | Event::Billed(_)
        | Event::Reopened(_)
        | Event::Completed(_)
        | Event::Cancelled(_) => return,
    };
    let found = order.document.lines.iter().enumerate().find(|(_, line)| line.line.line_id == line_id);
    if let Some(line) = found.and_then(|(position, line)| line_row(order, position, line, pos)) {
        rows.put(line);
    }
}

fn line_row(order: &OrderRow, position: usize, line: &order::Line, pos: i64) -> Option<OrderLineRow> {
    let order::Line { line: sold, voided } = line;
    let line_id = sold.line_id;
    Some(OrderLineRow {
        key: format!("{}|{line_id}", order.order_id),
        tenant: order.tenant,
        store_id: order.store_id,
        order_id: order.order_id,
        line_id,
        position: i32::try_from(position).ok()?,
        item_code: sold.item_code.clone(),
        name: sold.name.clone(),
        quantity_milli: sold.quantity_milli,
        unit_price: sold.unit_price,
        price_base_milli: sold.price_base_milli,
        tax_class: sold.tax_class,
        discount: sold.discount.clone(),
        voided: *voided,
        updated_pos: pos,
    })
}

fn timeline_row(order: &OrderRow, event: &RecordedEvent) -> Result<OrderTimelineRow, ApplyError> {
    Ok(OrderTimelineRow {
        key: format!("{}|{}", order.order_id, event.version),
        tenant: order.tenant,
        store_id: order.store_id,
        order_id: order.order_id,
        version: event.version,
        pos: event.pos,
        event_type: event.event_type.clone(),
        schema_version: event.schema_version,
        actor: event.actor.clone(),
        occurred_at: event.occurred_at,
        recorded_at: event.recorded_at,
        correlation_id: event.correlation_id,
        data: Payload::of(event)?,
    })
}
