//! Bills, each with its document. Tables `bills`, `bill_orders`.

use chrono::{DateTime, NaiveDate, Utc};
use domain::{
    bill::{self, Bill, Event, Status},
    decider::Aggregate,
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::{BillId, MerchantId, OrderId, StoreId},
    money::Currency,
};
use serde::{Deserialize, Serialize};

use super::{Stamp, never_opened};
use crate::{
    error::Error,
    projection::{ApplyError, Locality, Projection, Row, TableSpec, Visibility, tenant_uuid},
    queries::{Page, ReadModels, ReadScope, Select},
    rows::Rows,
};

/// A bill as it stands. Amounts in minor units of `currency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillRow {
    /// The bill.
    #[serde(rename = "key")]
    pub bill_id: BillId,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// Where.
    pub store_id: StoreId,
    /// Life.
    pub status: Status,
    /// The store's business date at issue.
    pub business_date: NaiveDate,
    /// The orders on it.
    pub order_ids: Vec<OrderId>,
    /// Of every amount on it.
    pub currency: Currency,
    /// What is asked for.
    pub total: i64,
    /// Sum settled.
    pub paid_total: i64,
    /// Neither settled nor held by a payment under way.
    pub due: i64,
    /// Sum given back.
    pub refunded_total: i64,
    /// Money beyond what was due, waiting for someone to send it back.
    pub parked_total: i64,
    /// When the whole total was settled, UTC.
    pub paid_at: Option<DateTime<Utc>>,
    /// Places and times.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The bill itself.
    pub document: bill::State,
}

impl Row for BillRow {
    const TABLE: &'static str = "bills";
    fn key(&self) -> String {
        self.bill_id.to_string()
    }
}

/// An order on a bill. A table of its own because row-level security keeps PostgreSQL from searching a JSON column by index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillOrderRow {
    /// `{bill_id}|{order_id}`.
    pub key: String,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// Where.
    pub store_id: StoreId,
    /// The bill.
    pub bill_id: BillId,
    /// The order.
    pub order_id: OrderId,
}

impl Row for BillOrderRow {
    const TABLE: &'static str = "bill_orders";
    fn key(&self) -> String {
        self.key.clone()
    }
}

/// The projection.
pub struct Bills;

const TABLES: &[TableSpec] = &[
    TableSpec::of::<BillRow>(include_str!("../../sql/bills.sql"), Visibility::Store),
    TableSpec::of::<BillOrderRow>(include_str!("../../sql/bill_orders.sql"), Visibility::Store),
];

impl Projection for Bills {
    fn name(&self) -> &'static str {
        "bills"
    }
    fn version(&self) -> i32 {
        2
    }
    fn tables(&self) -> &'static [TableSpec] {
        TABLES
    }
    fn reads(&self, stream_type: StreamType) -> bool {
        stream_type == StreamType::Bill
    }
    fn locality(&self) -> Locality {
        Locality::Stream
    }
    fn reads_back(&self, table: &str) -> bool {
        table == BillRow::TABLE
    }

    fn prefetch(&self, event: &RecordedEvent, _: &DomainEvent) -> Vec<(&'static str, String)> {
        if event.version == 1 { vec![] } else { vec![(BillRow::TABLE, BillId(event.stream.stream_id).to_string())] }
    }

    fn apply(&self, rows: &mut Rows, event: &RecordedEvent, decoded: &DomainEvent) -> Result<(), ApplyError> {
        let DomainEvent::Bill(change) = decoded else { return Ok(()) };
        let bill_id = BillId(event.stream.stream_id);
        let before: Option<BillRow> = if event.version == 1 { None } else { rows.get(&bill_id.to_string())? };
        let stamp = Stamp::next(before.as_ref().map(|row| &row.stamp), event);
        let paid_before = before.as_ref().and_then(|row| row.paid_at);
        let paid_at = if matches!(change, Event::Paid(_)) { Some(event.occurred_at) } else { paid_before };
        let document = Bill::evolve(before.map(|row| row.document).unwrap_or_default(), change);
        let details = document.details.as_ref().ok_or_else(|| never_opened(event))?;
        if let Event::Issued(issued) = change {
            let (tenant, store_id) = (event.stream.tenant, issued.store_id);
            for order_id in &issued.order_ids {
                let key = format!("{bill_id}|{order_id}");
                rows.put(BillOrderRow { key, tenant, store_id, bill_id, order_id: *order_id });
            }
        }
        let parked = document.allocations.values().try_fold(0_i64, |sum, allocation| sum.checked_add(allocation.parked));
        rows.put(BillRow {
            bill_id,
            tenant: event.stream.tenant,
            store_id: details.store_id,
            status: document.status,
            business_date: details.business_date,
            order_ids: details.order_ids.clone(),
            currency: details.currency,
            total: details.total,
            paid_total: document.paid_total,
            due: document.due(),
            refunded_total: document.refunded_total,
            parked_total: parked.ok_or_else(|| ApplyError::overflow("the sum of parked money"))?,
            paid_at,
            stamp,
            document,
        });
        Ok(())
    }
}

/// Which bills; empty fields do not restrict.
#[derive(Debug, Clone, Default)]
pub struct BillFilter {
    /// Of this store.
    pub store: Option<StoreId>,
    /// With this order on it.
    pub order: Option<OrderId>,
    /// In this state.
    pub status: Option<Status>,
}

impl ReadModels {
    /// One bill; `None` when there is none in the scope.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn bill(&self, scope: &ReadScope, bill_id: BillId) -> Result<Option<BillRow>, Error> {
        self.one(scope, bill_id).await
    }

    /// Bills, newest first.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn bills(&self, scope: &ReadScope, filter: &BillFilter, page: Page) -> Result<Vec<BillRow>, Error> {
        let select = Select::of::<BillRow>()
            .equal("store_id", filter.store.map(|store| store.to_string()))
            .of_order(filter.order)
            .equal("status", filter.status.map(|status| status.as_str().to_owned()))
            .page(page);
        self.many(scope, select).await
    }
}
