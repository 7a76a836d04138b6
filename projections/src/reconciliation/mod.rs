//! A provider's settlement list against the log: what the log says of one account is gathered out of its events, not out of read
//! models, and held against the list by `domain::reconciliation`. Reads only.

use std::{collections::BTreeSet, fmt, str::FromStr};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    envelope::{RecordedEvent, StreamType},
    ids::{MerchantId, ProviderAccountId, Ulid},
    money::MoneyError,
    reconciliation::{Listed, Period, Report, reconcile},
};
use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::{
    error::Error,
    log_reader::{EVENT_COLUMNS, LogReader, row_to_event},
    projection::tenant_to_uuid,
};

mod books;
mod list;
mod waited;

use books::Books;
pub use list::{BadList, read_list};

/// The streams in which money at providers is told of.
const KINDS: [StreamType; 2] = [StreamType::PaymentIntent, StreamType::Refund];

/// Whose list it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// A merchant's own.
    Merchants(ProviderAccountId),
    /// The platform's, by the provider's name: that of whoever has none.
    Platforms(String),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Merchants(id) => id.fmt(f),
            Self::Platforms(provider) => provider.fmt(f),
        }
    }
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("pac_") {
            return text.parse().map(Self::Merchants).map_err(|error: domain::ids::IdError| error.to_string());
        }
        let is_name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if is_name {
            Ok(Self::Platforms(text.to_owned()))
        } else {
            Err("neither an account (pac_…) nor a provider's name (scb)".to_owned())
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whose list it is.
    pub account: Account,
    /// The time that the list covers.
    pub period: Period,
    /// Only what the log held up to this position; none is the end.
    pub until: Option<i64>,
    /// How much of the log is looked at; none is all of it.
    pub bounds: Option<Bounds>,
}

/// How much of the log is looked at while somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Payments and refunds that were begun within the period, or at most so long before or after it.
    pub around: TimeDelta,
    /// Most movements that are held; with more there is no answer.
    pub movements: usize,
}

/// Milliseconds since 1970 that an id has room for.
const MOST_MILLIS: u64 = (1 << 48) - 1;

impl Question {
    /// The first and the last id of a stream that is looked at. An id begins with the time at which it was made.
    fn streams(&self) -> (Uuid, Uuid) {
        let Some(Bounds { around, .. }) = self.bounds else { return (Uuid::nil(), Uuid::max()) };
        let id = |time: DateTime<Utc>, rest: u128| {
            let millis = u64::try_from(time.timestamp_millis()).unwrap_or(0).min(MOST_MILLIS);
            Uuid::from_bytes(Ulid::from_parts(millis, rest).to_bytes())
        };
        let first = self.period.from.checked_sub_signed(around).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let last = self.period.to.checked_add_signed(around).unwrap_or(DateTime::<Utc>::MAX_UTC);
        (id(first, 0), id(last, u128::MAX))
    }
}

/// A question answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciled {
    /// The last position of the log that was looked at.
    pub position: i64,
    /// What was found.
    pub report: Report,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no such account, or no attempt ever went to it.
    #[error("the log knows of no payment that went to {0}")]
    NoSuchAccount(Account),
    /// A sum does not fit.
    #[error("the sums of the list or of the log: {0}")]
    Sum(#[from] MoneyError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Log(error.into())
    }
}

/// Answers. `pool`: a role that is a member of `smartpos_auditor` or `smartpos_worker`; `progress` hears how many more events were read, of
/// how many. Memory
/// grows with the list and with what moved in the period.
///
/// # Errors
/// Any [`Failure`]; of the log `Sql`, `Corrupt`, and `TooMuch` beyond the question's bounds.
pub async fn answer(
    pool: &PgPool,
    question: &Question,
    list: &[Listed],
    progress: impl Fn(i64, i64) + Send + Sync,
) -> Result<Reconciled, Failure> {
    let head = LogReader::new(pool.clone()).head().await?.pos;
    let position = question.until.map_or(head, |until| until.min(head));
    let unknown = || Failure::NoSuchAccount(question.account.clone());
    let tenant = match question.account {
        Account::Merchants(id) => Some(owner(pool, id).await?.ok_or_else(unknown)?),
        Account::Platforms(_) => None,
    };
    let mut books = Books::new(question, list);
    gather(pool, question, tenant, position, &mut books, progress).await?;
    // A merchant's account without a payment is an account all the same; a name without one is a slip of the pen.
    if tenant.is_none() && !books.is_known {
        return Err(unknown());
    }
    let report = reconcile(list, &books.booked, &books.named, &question.period)?;
    Ok(Reconciled { position, report })
}

/// The merchant of an account.
async fn owner(pool: &PgPool, id: ProviderAccountId) -> Result<Option<MerchantId>, Error> {
    let sql = "select tenant from log.stream_head where stream_type = 'provider_account' and stream_id = $1";
    let tenant: Option<Uuid> = sqlx::query_scalar(sql).bind(Uuid::from_bytes(id.0.to_bytes())).fetch_optional(pool).await?;
    Ok(tenant.map(|tenant| MerchantId(Ulid::from_bytes(*tenant.as_bytes()))))
}

/// The streams of these kinds, and of the tenant in `$3` if there is one, in the order of their heads, and the events of each by its index: what belongs to other tenants is not
/// touched, and nothing but the heads is sorted as a whole.
fn stream_by_stream(of_tenant: &str) -> String {
    format!(
        "(select tenant as of_tenant, stream_type as of_type, stream_id as of_stream from log.stream_head \
          where stream_type = any($2) and {of_tenant} and stream_id between $4 and $5 \
          order by tenant, stream_type, stream_id) h \
         cross join lateral (select * from log.event \
          where stream_id = of_stream and tenant = of_tenant and stream_type = of_type and pos <= $1 offset 0) e \
         order by of_tenant, of_type, of_stream, version"
    )
}

/// Reads the streams one after the other, each as a whole, so that one of them at a time is held.
async fn gather(
    pool: &PgPool,
    question: &Question,
    tenant: Option<MerchantId>,
    position: i64,
    books: &mut Books<'_>,
    progress: impl Fn(i64, i64) + Send + Sync,
) -> Result<(), Error> {
    let (tenant, (first, last)) = (tenant.map(tenant_to_uuid), question.streams());
    let kinds: Vec<&str> = KINDS.into_iter().map(StreamType::as_str).collect();
    // Two texts, so that every plan of the one with a tenant goes by the index that begins with it.
    let of_tenant = if tenant.is_some() { "tenant = $3" } else { "$3::uuid is null" };
    let sql = AssertSqlSafe(format!(
        "select coalesce(sum(version), 0)::bigint from log.stream_head \
         where $1 >= 0 and stream_type = any($2) and {of_tenant} and stream_id between $4 and $5"
    ));
    let all: i64 = sqlx::query_scalar(sql).bind(position).bind(kinds.clone()).bind(tenant).bind(first).bind(last).fetch_one(pool).await?;
    let sql = AssertSqlSafe(format!("select {EVENT_COLUMNS} from {}", stream_by_stream(of_tenant)));
    let mut rows = sqlx::query(sql).bind(position).bind(kinds).bind(tenant).bind(first).bind(last).fetch(pool);
    let most = question.bounds.map_or(usize::MAX, |bounds| bounds.movements);
    let mut stream = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let event = row_to_event(&row)?;
        progress(1, all);
        if stream.first().is_some_and(|first: &RecordedEvent| first.stream != event.stream) {
            books.take(&stream)?;
            stream.clear();
            if books.booked.len() > most {
                return Err(Error::TooMuch);
            }
        }
        stream.push(event);
    }
    books.take(&stream)
}

/// Names on a list by which the log is searched.
#[derive(Debug, Default)]
struct Sought<'l> {
    transactions: BTreeSet<&'l str>,
    references: BTreeSet<&'l str>,
}

impl<'l> Sought<'l> {
    fn of(list: &'l [Listed]) -> Self {
        Self {
            transactions: list.iter().map(|listed| listed.row.transaction_id.as_str()).collect(),
            references: list.iter().filter_map(|listed| listed.row.reference.as_deref()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn question(bounds: Option<Bounds>) -> Question {
        let (account, period) = (Account::Platforms("scb".to_owned()), Period { from: at(0), to: at(60) });
        Question { account, period, until: None, bounds }
    }

    #[test]
    fn what_was_begun_around_the_period_is_looked_at_and_without_bounds_everything() {
        assert_eq!(question(None).streams(), (Uuid::nil(), Uuid::max()));
        let (first, last) = question(Some(Bounds { around: TimeDelta::seconds(30), movements: 1 })).streams();
        let begun = |second: i64, rest: u128| {
            let millis = u64::try_from(at(second).timestamp_millis()).unwrap();
            Uuid::from_bytes(Ulid::from_parts(millis, rest).to_bytes())
        };
        for (id, looked_at) in [(begun(-31, 7), false), (begun(-30, 0), true), (begun(90, u128::MAX), true), (begun(91, 0), false)] {
            assert_eq!((first..=last).contains(&id), looked_at, "{id}");
        }
        let ever = Period { from: DateTime::<Utc>::MIN_UTC, to: DateTime::<Utc>::MAX_UTC };
        let ever = Question { period: ever, ..question(Some(Bounds { around: TimeDelta::days(1), movements: 1 })) };
        assert_eq!(ever.streams(), (Uuid::nil(), Uuid::max()), "ids have room for less");
    }
}
