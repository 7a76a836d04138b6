//! How a query is asked and answered: freshness, pages, entity tags.

use std::{marker::PhantomData, time::Duration};

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use domain::rejection::Rejected;
use projections::{Page, ReadModels, ReadScope, waiting::WaitError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    auth::{Allowed, Policy},
    extract::{Filter, version_of},
    problem::{Kind, Problem},
    resources::{ListOf, Resource},
    state::AppState,
};

/// The log position that a query must have seen.
pub const MIN_POSITION: HeaderName = HeaderName::from_static("smartpos-min-position");
/// How long a query waits for it.
const WAIT: Duration = Duration::from_secs(2);
/// Rows of a page unless told.
const DEFAULT_LIMIT: i64 = 50;
/// Most rows of a page.
const MAX_LIMIT: i64 = 200;

/// Which projections a query reads.
pub trait Reads: Send + Sync + 'static {
    /// Their names.
    const NAMES: &'static [&'static str];
}

macro_rules! reads {
    ($( $(#[$doc:meta])* $name:ident = $projection:literal; )*) => { $(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;
        impl Reads for $name { const NAMES: &'static [&'static str] = &[$projection]; }
    )* };
}

reads! {
    /// Merchants and stores.
    Directory = "directory";
    /// Orders.
    Orders = "orders";
    /// Bills.
    Bills = "bills";
    /// Payments.
    Payments = "payments";
    /// Refunds.
    Refunds = "refunds";
    /// Customers.
    Customers = "customers";
    /// Daily sales.
    DailySales = "daily_sales";
}

#[derive(Debug, Deserialize)]
struct Fresh {
    min_pos: Option<i64>,
}

/// A request that wants to know something, by someone who may, over read models that are as fresh as asked for.
pub struct Ask<P: Policy, R: Reads> {
    /// The read models.
    pub reads: ReadModels,
    /// Whose rows the caller may see.
    pub scope: ReadScope,
    if_none_match: Option<String>,
    kind: PhantomData<(P, R)>,
}

impl<P: Policy, R: Reads> FromRequestParts<AppState> for Ask<P, R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let allowed = Allowed::<P>::from_request_parts(parts, state).await?;
        if let Some(position) = min_position(parts, state).await? {
            state.reads.wait_for(R::NAMES, position, WAIT).await.map_err(|error| match error {
                WaitError::Behind { .. } => Problem::plain(Kind::ReadModelBehind),
                WaitError::Failed(error) => error.into(),
            })?;
        }
        let if_none_match = parts.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Self { reads: state.reads.clone(), scope: allowed.principal.read_scope(), if_none_match, kind: PhantomData })
    }
}

async fn min_position(parts: &mut Parts, state: &AppState) -> Result<Option<i64>, Problem> {
    if let Some(value) = parts.headers.get(MIN_POSITION) {
        let position = value.to_str().ok().and_then(|text| text.parse().ok());
        let invalid = || Problem::new(Kind::ParameterInvalid, "Smartpos-Min-Position must be a log position");
        return position.ok_or_else(invalid).map(Some);
    }
    let Filter(fresh) = Filter::<Fresh>::from_request_parts(parts, state).await?;
    Ok(fresh.min_pos)
}

impl<P: Policy, R: Reads> Ask<P, R> {
    /// The answer to a question about one thing; `missing` says that there is none.
    ///
    /// # Errors
    /// `missing`.
    pub fn one<S, T: Resource<S>>(&self, found: Option<(&S, i64)>, missing: impl Into<Rejected>) -> Result<Response, Problem> {
        let Some((state, version)) = found else { return Err(Problem::missing(missing)) };
        let Some(resource) = T::of(state, version) else { return Err(Problem::missing(missing)) };
        let seen = self.if_none_match.as_deref().is_some_and(|tags| tags.split(',').any(|tag| version_of(tag) == Some(version)));
        let mut headers = HeaderMap::new();
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
            headers.insert(header::ETAG, tag);
        }
        if seen {
            return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
        }
        Ok((headers, Json(resource)).into_response())
    }
}

/// What every list can be asked.
#[derive(Debug, Default, Clone, Deserialize)]
pub struct Paging {
    /// Rows of a page.
    pub limit: Option<i64>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

impl Paging {
    /// The page of the list `name`.
    ///
    /// # Errors
    /// `ParameterInvalid`, `CursorInvalid`.
    pub fn page(&self, name: &str) -> Result<Page, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::new(Kind::ParameterInvalid, format!("limit must be 1 to {MAX_LIMIT}")));
        }
        let after = self.cursor.as_deref().map(|text| read_cursor(name, text)).transpose()?;
        Ok(Page { limit, after })
    }
}

/// The answer to a question about many things. `place` gives a row's position, where the next page begins.
pub fn page_of<R, T>(name: &str, page: Page, rows: Vec<R>, place: impl Fn(&R) -> i64, show: impl Fn(R) -> Option<T>) -> Response
where
    T: Serialize,
{
    let full = i64::try_from(rows.len()).is_ok_and(|count| count >= page.limit);
    let next_cursor = rows.last().filter(|_| full).map(|row| cursor(name, place(row)));
    let data = rows.into_iter().filter_map(show).collect();
    Json(ListOf::<T> { data, next_cursor }).into_response()
}

/// A place in a list, opaque to callers: position and check sum, so that a cursor of another list or a typing error is
/// noticed. It proves nothing; row-level security decides what is seen.
fn cursor(name: &str, position: i64) -> String {
    let place = position.to_be_bytes();
    format!("{}{}", hex::encode(place), hex::encode(check(name, place)))
}

fn read_cursor(name: &str, text: &str) -> Result<i64, Problem> {
    let invalid = || Problem::plain(Kind::CursorInvalid);
    let bytes: [u8; 12] = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(invalid)?;
    let (place, sum) = bytes.split_at(8);
    let place: [u8; 8] = place.try_into().map_err(|_| invalid())?;
    if sum == check(name, place) { Ok(i64::from_be_bytes(place)) } else { Err(invalid()) }
}

fn check(name: &str, place: [u8; 8]) -> [u8; 4] {
    let digest = Sha256::new().chain_update(b"smartpos cursor ").chain_update(name).chain_update([0]).chain_update(place).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_own_list() {
        let text = cursor("orders", 123_456);
        assert_eq!(read_cursor("orders", &text), Ok(123_456));
        let bad = |name: &str, text: &str| read_cursor(name, text).is_err_and(|problem| problem.kind() == Kind::CursorInvalid);
        assert!(bad("bills", &text));
        for garbage in ["", "x", "00", &text[1..], &format!("{text}00"), "1; drop table", "ffffffffffffffffffffffff"] {
            assert!(bad("orders", garbage), "{garbage}");
        }
    }

    #[test]
    fn a_page_has_bounds() {
        let page = |limit: Option<i64>| Paging { limit, cursor: None }.page("orders").map(|page| page.limit);
        assert_eq!(page(None), Ok(50));
        assert_eq!(page(Some(200)), Ok(200));
        for bad in [0, -1, 201, i64::MAX] {
            assert!(page(Some(bad)).is_err_and(|problem| problem.kind() == Kind::ParameterInvalid));
        }
    }

    #[tokio::test]
    async fn the_last_page_has_no_next() {
        let body = async |rows: Vec<i64>| {
            let response = page_of("orders", Page { limit: 2, after: None }, rows, |row| *row, Some);
            let bytes = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
            serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()
        };
        assert_eq!(body(vec![9]).await, serde_json::json!({"data": [9], "next_cursor": null}));
        assert_eq!(body(vec![9, 7]).await["next_cursor"], cursor("orders", 7));
    }

    #[test]
    fn every_projection_that_is_waited_for_exists() {
        let known: Vec<_> = projections::all().iter().map(|projection| projection.name()).collect();
        for name in
            [Directory::NAMES, Orders::NAMES, Bills::NAMES, Payments::NAMES, Refunds::NAMES, Customers::NAMES, DailySales::NAMES].concat()
        {
            assert!(known.contains(&name), "{name}");
        }
    }
}
