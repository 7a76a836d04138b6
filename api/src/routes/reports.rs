//! `/v1/reports`: sales by business date.

use axum::{Json, response::Response};
use domain::ids::StoreId;
use projections::ReadModels;
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

/// Longest period of one report.
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

fn report<R, T: From<R> + Serialize>(
    ask: &Ask<may::ReportRead, Sales>,
    rows: Result<Vec<R>, projections::Error>,
) -> Result<Response, Problem> {
    let rows = rows.map_err(|error| refused(error, ask.is_past()))?;
    Ok(ask.answer(Json(Report { data: rows.into_iter().map(T::from).collect() })))
}

/// Why there is no report. Of the past all that lies before the moment counts, and fewer days are of no help.
fn refused(error: projections::Error, past: bool) -> Problem {
    if past || !matches!(error, projections::Error::TooMuch) {
        return error.into();
    }
    let most = ReadModels::MOST_OF_A_REPORT;
    Problem::new(Kind::MomentTooLarge, format!("a report has at most {most} rows; ask for fewer days, or for one store"))
}

/// Sales per store and business date.
#[utoipa::path(get, path = "/v1/reports/daily-sales", tag = "reports", params(Period),
    responses((status = 200, description = "One entry per store and day", body = Report<DailySales>)),
    extensions(("x-permission" = json!("report_read"))))]
async fn daily_sales(ask: Ask<may::ReportRead, Sales>, Filter(period): Filter<Period>) -> Result<Response, Problem> {
    period.check()?;
    let rows = ask.reads.daily_sales(&ask.scope, period.store_id, period.from.0, period.to.0, ReadModels::MOST_OF_A_REPORT).await;
    report::<_, DailySales>(&ask, rows)
}

/// Sales per store, business date and item.
#[utoipa::path(get, path = "/v1/reports/daily-items", tag = "reports", params(Period),
    responses((status = 200, description = "One entry per store, day and item", body = Report<DailyItemSales>)),
    extensions(("x-permission" = json!("report_read"))))]
async fn daily_items(ask: Ask<may::ReportRead, Sales>, Filter(period): Filter<Period>) -> Result<Response, Problem> {
    period.check()?;
    let rows = ask.reads.daily_item_sales(&ask.scope, period.store_id, period.from.0, period.to.0, ReadModels::MOST_OF_A_REPORT).await;
    report::<_, DailyItemSales>(&ask, rows)
}

/// Money taken and given back per store, business date and tender.
#[utoipa::path(get, path = "/v1/reports/daily-tenders", tag = "reports", params(Period),
    responses((status = 200, description = "One entry per store, day and tender", body = Report<DailyTenderSales>)),
    extensions(("x-permission" = json!("report_read"))))]
async fn daily_tenders(ask: Ask<may::ReportRead, Sales>, Filter(period): Filter<Period>) -> Result<Response, Problem> {
    period.check()?;
    let rows = ask.reads.daily_tender_sales(&ask.scope, period.store_id, period.from.0, period.to.0, ReadModels::MOST_OF_A_REPORT).await;
    report::<_, DailyTenderSales>(&ask, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_is_too_long_says_what_to_ask_for_instead() {
        let [now, then] = [false, true].map(|past| refused(projections::Error::TooMuch, past));
        assert_eq!((now.kind(), then.kind()), (Kind::MomentTooLarge, Kind::MomentTooLarge));
        assert!(now.detail().contains("200000 rows; ask for fewer days"), "{}", now.detail());
        assert!(!then.detail().contains("fewer days"), "{}", then.detail());
        assert_eq!(refused(projections::Error::Busy, false).kind(), Kind::Overloaded);
    }
}
