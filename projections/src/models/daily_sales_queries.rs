//! Questions about daily sales: all rows of a period, by date. There are no pages, and clients name their items as they like: what has more
//! rows than are allowed is refused.

use chrono::NaiveDate;
use domain::ids::StoreId;

use super::daily_sales_rows::{DailyItemSalesRow, DailySalesRow, DailyTenderSalesRow};
use crate::{
    as_of::MOST_ROWS,
    error::Error,
    projection::Row,
    queries::{ReadModels, ReadScope, Select},
};

impl ReadModels {
    /// Most rows of a report; as many as a fold of the past may hold.
    pub const MOST_OF_A_REPORT: usize = MOST_ROWS;

    /// Sales per day, both dates included; of one store or of all in the scope.
    ///
    /// # Errors
    /// `TooMuch` for more rows than `most`; `Sql`, `BadRow`.
    pub async fn daily_sales(
        &self,
        scope: &ReadScope,
        store: Option<StoreId>,
        from: NaiveDate,
        to: NaiveDate,
        most: usize,
    ) -> Result<Vec<DailySalesRow>, Error> {
        self.at_most(scope, period::<DailySalesRow>(store, from, to).sorted("business_date, store_id"), most).await
    }

    /// Sales per day and item.
    ///
    /// # Errors
    /// As [`Self::daily_sales`].
    pub async fn daily_item_sales(
        &self,
        scope: &ReadScope,
        store: Option<StoreId>,
        from: NaiveDate,
        to: NaiveDate,
        most: usize,
    ) -> Result<Vec<DailyItemSalesRow>, Error> {
        self.at_most(scope, period::<DailyItemSalesRow>(store, from, to).sorted("business_date, store_id, item_code"), most).await
    }

    /// Money taken and given back per day and tender.
    ///
    /// # Errors
    /// As [`Self::daily_sales`].
    pub async fn daily_tender_sales(
        &self,
        scope: &ReadScope,
        store: Option<StoreId>,
        from: NaiveDate,
        to: NaiveDate,
        most: usize,
    ) -> Result<Vec<DailyTenderSalesRow>, Error> {
        self.at_most(scope, period::<DailyTenderSalesRow>(store, from, to).sorted("business_date, store_id, tender"), most).await
    }

    async fn at_most<R: Row>(&self, scope: &ReadScope, mut select: Select, most: usize) -> Result<Vec<R>, Error> {
        // One more tells that there are more.
        select.query.push(" limit ").push_bind(i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1));
        let rows: Vec<R> = self.many(scope, select).await?;
        if rows.len() > most { Err(Error::TooMuch) } else { Ok(rows) }
    }
}

fn period<R: Row>(store: Option<StoreId>, from: NaiveDate, to: NaiveDate) -> Select {
    Select::of::<R>().equal("store_id", store.map(|store| store.to_string())).dates(Some(from), Some(to))
}
