//! Questions about orders.

use chrono::NaiveDate;
use domain::{
    ids::{OrderId, StoreId},
    order::Status,
};

use super::orders::{OrderLineRow, OrderRow, OrderTimelineRow};
use crate::{
    error::Error,
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

    /// The lines of an order in the order they were added, voided ones included.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn order_lines(&self, scope: &ReadScope, order_id: OrderId) -> Result<Vec<OrderLineRow>, Error> {
        self.many(scope, Select::of::<OrderLineRow>().of_stream(order_id).equal("order_id", Some(order_id.to_string())).sorted("position"))
            .await
    }

    /// The history of an order, oldest first.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn order_timeline(&self, scope: &ReadScope, order_id: OrderId) -> Result<Vec<OrderTimelineRow>, Error> {
        self.many(
            scope,
            Select::of::<OrderTimelineRow>().of_stream(order_id).equal("order_id", Some(order_id.to_string())).sorted("version"),
        )
        .await
    }
}
