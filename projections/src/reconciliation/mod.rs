//! A provider's settlement list against the log: what the log says of one account is gathered out of its events, not out of read
//! models, and held against the list by `domain::reconciliation`. Reads only.

use std::{collections::BTreeSet, fmt, str::FromStr};

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
/// Any [`Failure`]; of the log `Sql`, `Corrupt`.
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
    gather(pool, tenant, position, &mut books, progress).await?;
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

/// Reads the streams one after the other, each as a whole, so that one of them at a time is held.
async fn gather(
    pool: &PgPool,
    tenant: Option<MerchantId>,
    position: i64,
    books: &mut Books<'_>,
    progress: impl Fn(i64, i64) + Send + Sync,
) -> Result<(), Error> {
    let tenant = tenant.map(tenant_to_uuid);
    let kinds: Vec<&str> = KINDS.into_iter().map(StreamType::as_str).collect();
    let sql =
        "select coalesce(sum(version), 0)::bigint from log.stream_head where stream_type = any($1) and ($2::uuid is null or tenant = $2)";
    let all: i64 = sqlx::query_scalar(sql).bind(kinds.clone()).bind(tenant).fetch_one(pool).await?;
    let sql = AssertSqlSafe(format!(
        "select {EVENT_COLUMNS} from log.event where pos <= $1 and stream_type = any($2) and ($3::uuid is null or tenant = $3) \
         order by tenant, stream_type, stream_id, version"
    ));
    let mut rows = sqlx::query(sql).bind(position).bind(kinds).bind(tenant).fetch(pool);
    let mut stream = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let event = row_to_event(&row)?;
        progress(1, all);
        if stream.first().is_some_and(|first: &RecordedEvent| first.stream != event.stream) {
            books.take(&stream)?;
            stream.clear();
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
