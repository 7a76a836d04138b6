//! Questions about orders.

use chrono::NaiveDate;
use domain::{
    envelope::{RecordedEvent, StreamType},
    ids::{OrderId, StoreId},
    order::Status,
};

use super::orders::OrderRow;
use crate::{
    as_of::too_slow,
    error::Error,
    log_reader,
    projection::tenant_to_uuid,
    queries::{Page, ReadModels, ReadScope, Select},
};

/// Which orders; empty fields do not restrict.
#[derive(Debug, Clone, Default)]
pub struct OrderFilter {
    /// Of this store.
    pub store: Option<StoreId>,
    /// In this state.
    pub status: Option<Status>,
    /// Opened on this business date or later.
    pub business_date_from: Option<NaiveDate>,
    /// Opened on this business date or before.
    pub business_date_to: Option<NaiveDate>,
}

impl ReadModels {
    /// One order; `None` when there is none in the scope.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn order(&self, scope: &ReadScope, order_id: OrderId) -> Result<Option<OrderRow>, Error> {
        self.one(scope, order_id).await
    }

    /// Orders, newest first.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn orders(&self, scope: &ReadScope, filter: &OrderFilter, page: Page) -> Result<Vec<OrderRow>, Error> {
        let select = Select::of::<OrderRow>()
            .equal("store_id", filter.store.map(|store| store.to_string()))
            .equal("status", filter.status.map(|status| status.as_str().to_owned()))
            .dates(filter.business_date_from, filter.business_date_to)
            .page(page);
        self.many(scope, select).await
    }

    /// The history of an order, oldest first, as far as the order that [`Self::order`] answers has come; nothing when there is none in the
    /// scope. It is read from the log, where it stands already.
    ///
    /// # Errors
    /// `Sql`, `BadRow`, `Corrupt`.
    pub async fn order_timeline(&self, scope: &ReadScope, order_id: OrderId) -> Result<Vec<RecordedEvent>, Error> {
        let Some(order) = self.order(scope, order_id).await? else { return Ok(vec![]) };
        let (tenant, kind) = (tenant_to_uuid(order.tenant), StreamType::Order.as_str());
        let mut connection = self.pool.acquire().await?;
        log_reader::of_streams(&mut connection, &[tenant], &[kind], &[order_id.0], order.stamp.updated_pos).await.map_err(too_slow)
    }
}
