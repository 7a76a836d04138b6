//! `/v1/reports`: sales by business date.

use axum::{Json, response::Response};
use domain::ids::StoreId;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::query::{Ask, DailySales as Sales};
use crate::{
    auth::may,
    extract::{Filter, day::Day},
    problem::{Kind, Problem},
    resources::report::{DailyItemSales, DailySales, DailyTenderSales, Report},
    state::AppState,
};

/// Longest period of one report; a bound on its rows.
const MAX_DAYS: i64 = 400;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(daily_sales)).routes(routes!(daily_items)).routes(routes!(daily_tenders))
}

/// Which sales.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Period {
    /// Of this store, `sto_…`; of all that the caller may see unless told.
    #[param(value_type = Option<String>)]
    store_id: Option<StoreId>,
    /// First business date.
    #[param(value_type = String, format = Date)]
    from: Day,
    /// Last business date; at most 400 days after the first.
    #[param(value_type = String, format = Date)]
    to: Day,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// As it was then: a log position, or an RFC 3339 time with its offset; `Smartpos-As-Of` answers the position.
    pub as_of: Option<String>,
}

impl Period {
    fn check(&self) -> Result<(), Problem> {
        let days = self.to.0.signed_duration_since(self.from.0).num_days();
        if (0..=MAX_DAYS).contains(&days) {
            return Ok(());
        }
        Err(Problem::new(Kind::ParameterInvalid, format!("to must not lie before from, nor more than {MAX_DAYS} days after it")))
    }
}

fn report<R, T: From<R> + Serialize>(ask: &Ask<may::ReportRead, Sales>, rows: Vec<R>) -> Response {
    ask.answer(Json(Report { data: rows.into_iter().map(T::from).collect() }))
}

/// Sales per store and business date.
#[utoipa::path(get, path = "/v1/reports/daily-sales", tag = "reports", params(Period),
    responses((status = 200, description = "One entry per store and day", body = Report<DailySales>)),
    extensions(("x-permission" = json!("report_read"))))]
async fn daily_sales(ask: Ask<may::ReportRead, Sales>, Filter(period): Filter<Period>) -> Result<Response, Problem> {
    period.check()?;
    let rows = ask.reads.daily_sales(&ask.scope, period.store_id, period.from.0, period.to.0).await?;
    Ok(report::<_, DailySales>(&ask, rows))
}

/// Sales per store, business date and item.
#[utoipa::path(get, path = "/v1/reports/daily-items", tag = "reports", params(Period),
    responses((status = 200, description = "One entry per store, day and item", body = Report<DailyItemSales>)),
    extensions(("x-permission" = json!("report_read"))))]
async fn daily_items(ask: Ask<may::ReportRead, Sales>, Filter(period): Filter<Period>) -> Result<Response, Problem> {
    period.check()?;
    let rows = ask.reads.daily_item_sales(&ask.scope, period.store_id, period.from.0, period.to.0).await?;
    Ok(report::<_, DailyItemSales>(&ask, rows))
}

/// Money taken and given back per store, business date and tender.
#[utoipa::path(get, path = "/v1/reports/daily-tenders", tag = "reports", params(Period),
    responses((status = 200, description = "One entry per store, day and tender", body = Report<DailyTenderSales>)),
    extensions(("x-permission" = json!("report_read"))))]
async fn daily_tenders(ask: Ask<may::ReportRead, Sales>, Filter(period): Filter<Period>) -> Result<Response, Problem> {
    period.check()?;
    let rows = ask.reads.daily_tender_sales(&ask.scope, period.store_id, period.from.0, period.to.0).await?;
    Ok(report::<_, DailyTenderSales>(&ask, rows))
}
