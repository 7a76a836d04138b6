//! Figures of the log: how much of what there is.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use domain::{
    envelope::StreamType,
    ids::{MerchantId, Ulid},
};
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use crate::{error::Error, log_reader, search::StreamName, snapshot};

/// Positions added up at once, unless these were more slices than [`MOST_SLICES`].
const SLICE: i64 = 200_000;
/// However far the head says that the log goes.
const MOST_SLICES: i64 = 1_000;
/// Streams listed as largest.
const LARGEST: i64 = 10;

/// Events and the bytes of their payloads, meta data and personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amount<K> {
    /// Of what.
    pub of: K,
    /// How many.
    pub events: i64,
    /// How large, without the table's own overhead.
    pub bytes: i64,
}

/// Figures of the whole log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Where the log ended.
    pub head_pos: i64,
    /// Number of streams, by stored type.
    pub streams: Vec<(String, i64)>,
    /// By event type.
    pub types: Vec<Amount<String>>,
    /// By merchant.
    pub tenants: Vec<Amount<MerchantId>>,
    /// By day of `recorded_at`, UTC.
    pub days: Vec<Amount<NaiveDate>>,
    /// Most events first.
    pub largest: Vec<(StreamName, i64)>,
    /// Partitions of the log, with indexes, in bytes on disk.
    pub partitions: Vec<(String, i64)>,
}

/// Reads them. `pool`: a role that is a member of `smartpos_auditor` or `smartpos_worker`. `progress` hears the position reached, and where the log
/// ends.
///
/// # Errors
/// `Sql`; `Corrupt` for a time that is none.
pub async fn stats(pool: &PgPool, progress: impl Fn(i64, i64)) -> Result<Stats, Error> {
    let mut moment = snapshot::take(pool).await?;
    let connection = &mut *moment.keeper;
    let head_pos = log_reader::head(connection).await?.pos;
    let (types, tenants, days) = amounts(connection, head_pos, progress).await?;
    let streams = "select stream_type, count(*) from log.stream_head group by 1 order by 1";
    let streams = sqlx::query_as(streams).fetch_all(&mut *connection).await?;
    let largest =
        "select stream_type, stream_id, version from log.stream_head order by version desc, tenant, stream_type, stream_id limit $1";
    let largest: Vec<(String, Uuid, i64)> = sqlx::query_as(largest).bind(LARGEST).fetch_all(&mut *connection).await?;
    let partitions = "select inhrelid::regclass::text, pg_total_relation_size(inhrelid) from pg_inherits \
                      where inhparent = 'log.event'::regclass order by 1";
    let partitions = sqlx::query_as(partitions).fetch_all(&mut *connection).await?;
    moment.keeper.commit().await?;
    let named = |(kind, id, version): (String, Uuid, i64)| {
        Some((StreamName { stream_type: StreamType::parse(&kind)?, id: Ulid::from_bytes(*id.as_bytes()) }, version))
    };
    Ok(Stats { head_pos, streams, types, tenants, days, largest: largest.into_iter().filter_map(named).collect(), partitions })
}

type Amounts = (Vec<Amount<String>>, Vec<Amount<MerchantId>>, Vec<Amount<NaiveDate>>);

/// By type, tenant and day, in one pass over the log, slice by slice; the first and the last one take in what lies beyond the log's ends.
async fn amounts(connection: &mut PgConnection, head_pos: i64, progress: impl Fn(i64, i64)) -> Result<Amounts, Error> {
    // Days since 1970: the driver's own conversion of a date panics on infinity, for which the greatest number stands here.
    let sql = "select type, tenant, day, count(*), sum(bytes)::bigint, min(pos) from (select pos, type, tenant, \
               case when isfinite(recorded_at) then (recorded_at at time zone 'UTC')::date - date '1970-01-01' else 2147483647 end as day, \
               octet_length(payload) + octet_length(meta) + coalesce(octet_length(pii), 0) as bytes from log.event \
               where pos > $1 and pos <= $2) e group by grouping sets ((type), (tenant), (day))";
    let (mut types, mut tenants, mut days) = (Sums::new(), Sums::new(), Sums::new());
    let slice = SLICE.max(head_pos / MOST_SLICES);
    let (mut after, mut end) = (i64::MIN, 0_i64);
    while after < i64::MAX {
        end = if head_pos.saturating_sub(end) > slice { end.saturating_add(slice) } else { i64::MAX };
        for row in sqlx::query(sql).bind(after).bind(end).fetch_all(&mut *connection).await? {
            let (event_type, tenant, day): (Option<String>, Option<Uuid>, Option<i32>) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let (events, bytes, first): (i64, i64, i64) = (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
            add(&mut types, event_type, events, bytes);
            add(&mut tenants, tenant, events, bytes);
            add(&mut days, day.map(|day| date(day, first)).transpose()?, events, bytes);
        }
        after = end;
        progress(after.min(head_pos), head_pos);
    }
    let merchants = tenants.into_iter().map(|(id, sum)| (MerchantId(Ulid::from_bytes(*id.as_bytes())), sum));
    Ok((listed(types), listed(merchants), listed(days)))
}

/// So many days after 1970-01-01. `position`: of the first event of that day.
fn date(days: i32, position: i64) -> Result<NaiveDate, Error> {
    NaiveDate::from_epoch_days(days).ok_or_else(|| Error::Corrupt { position, what: "a time is infinite or out of range".to_owned() })
}

/// Events and bytes by what they are of, in its order.
type Sums<K> = BTreeMap<K, (i64, i64)>;

fn add<K: Ord>(sums: &mut Sums<K>, of: Option<K>, events: i64, bytes: i64) {
    if let Some(of) = of {
        let sum = sums.entry(of).or_default();
        *sum = (sum.0.saturating_add(events), sum.1.saturating_add(bytes));
    }
}

fn listed<K>(sums: impl IntoIterator<Item = (K, (i64, i64))>) -> Vec<Amount<K>> {
    sums.into_iter().map(|(of, (events, bytes))| Amount { of, events, bytes }).collect()
}
