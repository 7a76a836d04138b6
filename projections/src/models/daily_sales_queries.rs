//! Questions about daily sales. All rows of a period, by date: a period has at most as many as it has days, items or tenders.

use chrono::NaiveDate;
use domain::ids::StoreId;

use super::daily_sales_rows::{DailyItemSalesRow, DailySalesRow, DailyTenderSalesRow};
use crate::{
    error::Error,
    projection::Row,
    queries::{ReadModels, ReadScope, Select},
};

impl ReadModels {
    /// Sales per day, both dates included; of one store or of all in the scope.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn daily_sales(
        &self,
        scope: &ReadScope,
        store: Option<StoreId>,
        from: NaiveDate,
        to: NaiveDate,
    ) -> Result<Vec<DailySalesRow>, Error> {
        self.many(scope, period::<DailySalesRow>(store, from, to).sorted("business_date, store_id")).await
    }

    /// Sales per day and item.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn daily_item_sales(
        &self,
        scope: &ReadScope,
        store: Option<StoreId>,
        from: NaiveDate,
        to: NaiveDate,
    ) -> Result<Vec<DailyItemSalesRow>, Error> {
        self.many(scope, period::<DailyItemSalesRow>(store, from, to).sorted("business_date, store_id, item_code")).await
    }

    /// Money taken and given back per day and tender.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn daily_tender_sales(
        &self,
        scope: &ReadScope,
        store: Option<StoreId>,
        from: NaiveDate,
        to: NaiveDate,
    ) -> Result<Vec<DailyTenderSalesRow>, Error> {
        self.many(scope, period::<DailyTenderSalesRow>(store, from, to).sorted("business_date, store_id, tender")).await
    }
}

fn period<R: Row>(store: Option<StoreId>, from: NaiveDate, to: NaiveDate) -> Select {
    Select::of::<R>().equal("store_id", store.map(|store| store.to_string())).dates(Some(from), Some(to))
}
