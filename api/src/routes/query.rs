//! How a query is asked and answered: freshness, moments of the past, pages, entity tags.

use std::{marker::PhantomData, time::Duration};

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use domain::rejection::Rejected;
use projections::{
    Page, ReadModels, ReadScope,
    as_of::{Moment, MomentError},
    waiting::WaitError,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    auth::{Allowed, Policy, Proof, Sight},
    extract::{Filter, version_of},
    problem::{Kind, Problem},
    resources::{ListOf, Resource},
    state::AppState,
};

/// The log position that a query must have seen.
pub const MIN_POSITION: HeaderName = HeaderName::from_static("smartpos-min-position");
/// The log position that an answer about the past stands for.
pub const AS_OF: HeaderName = HeaderName::from_static("smartpos-as-of");
/// How long a query waits for the read models.
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
    /// Provider accounts.
    ProviderAccounts = "provider_accounts";
    /// Daily sales.
    DailySales = "daily_sales";
    /// Public events and webhook endpoints.
    Events = "events";
}

/// What every query can be asked about time.
#[derive(Debug, Deserialize)]
struct When {
    min_pos: Option<i64>,
    as_of: Option<String>,
}

/// A request that wants to know something, by someone who may, over read models that are as fresh as asked for, or as they
/// stood at a moment of the past.
pub struct Ask<P: Policy, R: Reads> {
    /// The read models.
    pub reads: ReadModels,
    /// Whose rows the caller may see.
    pub scope: ReadScope,
    /// Whose events of the log.
    pub sight: Option<Sight>,
    as_of: Option<i64>,
    if_none_match: Option<String>,
    /// By the token of one payment, which exists.
    is_payer: bool,
    kind: PhantomData<(P, R)>,
}

impl<P: Policy, R: Reads> FromRequestParts<AppState> for Ask<P, R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let allowed = Allowed::<P>::from_request_parts(parts, state).await?;
        let Filter(when) = Filter::<When>::from_request_parts(parts, state).await?;
        if let Some(position) = min_position(parts)?.or(when.min_pos) {
            seen::<R>(&state.reads, position).await?;
        }
        let as_of = match when.as_of {
            Some(text) => Some(past::<R>(&state.reads, &text).await?),
            None => None,
        };
        let reads = as_of.map_or_else(|| state.reads.clone(), |position| state.reads.at(position));
        let if_none_match = parts.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (scope, sight) = (allowed.principal.read_scope(), allowed.principal.sight());
        let is_payer = allowed.principal.proof == Proof::PaymentToken;
        Ok(Self { reads, scope, sight, as_of, if_none_match, is_payer, kind: PhantomData })
    }
}

fn min_position(parts: &Parts) -> Result<Option<i64>, Problem> {
    let Some(value) = parts.headers.get(MIN_POSITION) else { return Ok(None) };
    let position = value.to_str().ok().and_then(|text| text.parse().ok());
    let invalid = || Problem::new(Kind::ParameterInvalid, "Smartpos-Min-Position must be a log position");
    position.ok_or_else(invalid).map(Some)
}

async fn seen<R: Reads>(reads: &ReadModels, position: i64) -> Result<(), Problem> {
    reads.wait_for(R::NAMES, position, WAIT).await.map_err(|error| match error {
        WaitError::Behind { .. } => Problem::plain(Kind::ReadModelBehind),
        WaitError::Unwritten { .. } => Problem::new(Kind::MomentNotCome, format!("min_pos: {error}")),
        WaitError::Failed(error) => error.into(),
    })
}

/// The position that `as_of` stands for. The read models must have come that far: what they had to leave out is left out of
/// the past as well.
async fn past<R: Reads>(reads: &ReadModels, as_of: &str) -> Result<i64, Problem> {
    let moment: Moment = as_of.parse().map_err(of_moment)?;
    let position = reads.position_of(moment).await.map_err(of_moment)?;
    seen::<R>(reads, position).await?;
    Ok(position)
}

fn of_moment(error: MomentError) -> Problem {
    match error {
        MomentError::Malformed => Problem::new(Kind::ParameterInvalid, format!("as_of: {error}")),
        MomentError::Unwritten { .. } | MomentError::Future => Problem::new(Kind::MomentNotCome, format!("as_of: {error}")),
        MomentError::Failed(error) => error.into(),
    }
}

impl<P: Policy, R: Reads> Ask<P, R> {
    /// Whether what was not found may be there once the read models have come to the end of the log, and they have. A payment token is
    /// handed out with its payment, and a page that asks at once, without a position, must not hear that there is none.
    ///
    /// # Errors
    /// `ReadModelBehind`; the database's.
    pub async fn may_have_come(&self) -> Result<bool, Problem> {
        if !self.is_payer || self.is_past() {
            return Ok(false);
        }
        let head = self.reads.lag().await?.iter().map(|lag| lag.head).max();
        seen::<R>(&self.reads, head.unwrap_or_default()).await?;
        Ok(true)
    }

    /// Answers in full whatever version the caller has, where the version does not tell all of it.
    #[must_use]
    pub fn anew(self, anew: bool) -> Self {
        Self { if_none_match: self.if_none_match.filter(|_| !anew), ..self }
    }

    /// The answer to a question about one thing; `missing` says that there is none.
    ///
    /// # Errors
    /// `missing`.
    pub fn one<S, T: Resource<S>>(&self, found: Option<(&S, i64)>, missing: impl Into<Rejected>) -> Result<Response, Problem> {
        self.one_with(found, missing, |resource: T| resource)
    }

    /// The same with something added that no event says.
    ///
    /// # Errors
    /// `missing`.
    pub fn one_with<S, T: Resource<S>>(
        &self,
        found: Option<(&S, i64)>,
        missing: impl Into<Rejected>,
        add: impl FnOnce(T) -> T,
    ) -> Result<Response, Problem> {
        let Some((state, version)) = found else { return Err(Problem::missing(missing)) };
        let Some(resource) = T::of(state, version).map(add) else { return Err(Problem::missing(missing)) };
        let seen = self.if_none_match.as_deref().is_some_and(|tags| tags.split(',').any(|tag| version_of(tag) == Some(version)));
        let mut headers = HeaderMap::new();
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
            headers.insert(header::ETAG, tag);
        }
        if seen {
            return Ok(self.answer((StatusCode::NOT_MODIFIED, headers)));
        }
        Ok(self.answer((headers, Json(resource))))
    }

    /// The page of the list `name` that is asked for. `cursor` is where the page before ended, at the same moment.
    ///
    /// # Errors
    /// `ParameterInvalid`, `CursorInvalid`.
    pub fn page(&self, name: &'static str, limit: Option<i64>, cursor: Option<&str>) -> Result<Page, Problem> {
        ListAt { name, as_of: self.as_of }.page(limit, cursor)
    }

    /// The answer to a question about many things. `place` gives a row's position, where the next page begins.
    pub fn list<S, T: Serialize>(
        &self,
        name: &'static str,
        page: Page,
        rows: Vec<S>,
        place: impl Fn(&S) -> i64,
        show: impl Fn(S) -> Option<T>,
    ) -> Response {
        let next_cursor = ListAt { name, as_of: self.as_of }.next_cursor(page, &rows, place);
        self.answer(Json(ListOf::<T> { data: rows.into_iter().filter_map(show).collect(), next_cursor }))
    }

    /// Whether it is about how things were.
    pub const fn is_past(&self) -> bool {
        self.as_of.is_some()
    }

    /// The position of the log that it is about, when that is not now.
    pub const fn past(&self) -> Option<i64> {
        self.as_of
    }

    /// An answer, with the moment that it stands for when that is not now.
    pub fn answer(&self, body: impl IntoResponse) -> Response {
        let mut response = body.into_response();
        if let Some(position) = self.as_of {
            response.headers_mut().insert(AS_OF, HeaderValue::from(position));
        }
        response
    }
}

/// A list at a moment: what a cursor belongs to.
#[derive(Debug, Clone, Copy)]
struct ListAt {
    name: &'static str,
    /// Nothing: as it stands.
    as_of: Option<i64>,
}

impl ListAt {
    fn page(self, limit: Option<i64>, cursor: Option<&str>) -> Result<Page, Problem> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::new(Kind::ParameterInvalid, format!("limit must be 1 to {MAX_LIMIT}")));
        }
        let after = cursor.map(|text| self.read_cursor(text)).transpose()?;
        Ok(Page { limit, after })
    }

    fn next_cursor<S>(self, page: Page, rows: &[S], place: impl Fn(&S) -> i64) -> Option<String> {
        let full = i64::try_from(rows.len()).is_ok_and(|count| count >= page.limit);
        rows.last().filter(|_| full).map(|row| self.cursor(place(row)))
    }

    /// A place in a list, opaque to callers: position and check sum, so that a cursor of another list, of another moment, or a
    /// typing error is noticed. It proves nothing; row-level security decides what is seen.
    fn cursor(self, position: i64) -> String {
        let place = position.to_be_bytes();
        format!("{}{}", hex::encode(place), hex::encode(self.check(place)))
    }

    fn read_cursor(self, text: &str) -> Result<i64, Problem> {
        let invalid = || Problem::plain(Kind::CursorInvalid);
        let bytes: [u8; 12] = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(invalid)?;
        let (place, sum) = bytes.split_at(8);
        let place: [u8; 8] = place.try_into().map_err(|_| invalid())?;
        if sum == self.check(place) { Ok(i64::from_be_bytes(place)) } else { Err(invalid()) }
    }

    fn check(self, place: [u8; 8]) -> [u8; 4] {
        let digest = Sha256::new().chain_update(b"smartpos cursor ").chain_update(self.name).chain_update([0]).chain_update(place);
        let digest = match self.as_of {
            Some(position) => digest.chain_update(position.to_be_bytes()).finalize(),
            None => digest.finalize(),
        };
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: ListAt = ListAt { name: "orders", as_of: None };

    #[test]
    fn a_cursor_is_good_for_its_own_list_at_its_own_moment() {
        let bad = |list: ListAt, text: &str| list.read_cursor(text).is_err_and(|problem| problem.kind() == Kind::CursorInvalid);
        let then = ListAt { as_of: Some(200_000), ..ORDERS };
        for list in [ORDERS, then] {
            let text = list.cursor(123_456);
            assert_eq!(list.read_cursor(&text), Ok(123_456));
            assert!(bad(ListAt { name: "bills", ..list }, &text));
            assert!(bad(ListAt { as_of: Some(200_001), ..list }, &text));
            for garbage in ["", "x", "00", &text[1..], &format!("{text}00"), "1; drop table", "ffffffffffffffffffffffff"] {
                assert!(bad(list, garbage), "{garbage}");
            }
        }
        assert!(bad(ORDERS, &then.cursor(123_456)));
        assert!(bad(then, &ORDERS.cursor(123_456)));
    }

    #[test]
    fn a_page_has_bounds() {
        let page = |limit: Option<i64>| ORDERS.page(limit, None).map(|page| page.limit);
        assert_eq!(page(None), Ok(50));
        assert_eq!(page(Some(200)), Ok(200));
        for bad in [0, -1, 201, i64::MAX] {
            assert!(page(Some(bad)).is_err_and(|problem| problem.kind() == Kind::ParameterInvalid));
        }
    }

    #[test]
    fn the_last_page_has_no_next() {
        let next = |rows: &[i64]| ORDERS.next_cursor(Page { limit: 2, after: None }, rows, |row| *row);
        assert_eq!(next(&[9]), None);
        assert_eq!(next(&[9, 7]), Some(ORDERS.cursor(7)));
    }

    #[test]
    fn every_projection_that_is_waited_for_exists() {
        let known: Vec<_> = projections::all().iter().map(|projection| projection.name()).collect();
        for name in [
            Directory::NAMES,
            Orders::NAMES,
            Bills::NAMES,
            Payments::NAMES,
            Refunds::NAMES,
            Customers::NAMES,
            ProviderAccounts::NAMES,
            DailySales::NAMES,
            Events::NAMES,
        ]
        .concat()
        {
            assert!(known.contains(&name), "{name}");
        }
    }
}
