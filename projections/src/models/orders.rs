//! Orders: each with its document, in which its lines stand. Table `orders`. Their history is the log's own, see [`super::orders_queries`].

use chrono::NaiveDate;
use domain::{
    decider::Aggregate,
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::{BillId, MerchantId, OrderId, StoreId},
    money::Currency,
    order::{self, Order, OrderType, Status},
};
use serde::{Deserialize, Serialize};

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

/// The projection.
pub struct Orders;

const TABLES: &[TableSpec] = &[TableSpec::of::<OrderRow>(include_str!("../../sql/orders.sql"), Visibility::Store)];

impl Projection for Orders {
    fn name(&self) -> &'static str {
        "orders"
    }
    fn version(&self) -> i32 {
        3
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
        rows.put(order_row(order_id, event, stamp, document)?);
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
