//! Events of the log by what they are, streamed in the order of positions.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use domain::{
    envelope::{RecordedEvent, StreamKey, StreamType},
    ids::{
        BillId, CustomerId, LedgerAdjustmentId, MerchantId, OrderId, PaymentId, PaymentIntentId, ProviderAccountId, RefundId, StoreId,
        Ulid, WebhookEndpointId,
    },
};
use futures_util::stream::{BoxStream, StreamExt as _};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{error::Error, log_reader::row_to_event, projection::tenant_to_uuid};

const SQL: &str = "select pos, tenant, stream_type, stream_id, version, type, schema_version, slice, occurred_at, recorded_at, \
                   correlation_id, causation_id, actor, meta, payload, pii, hash from log.event \
                   where pos > $1 and pos <= $2 and ($3::text is null or type like $3) and ($4::uuid is null or tenant = $4) \
                   and ($5::text is null or actor like $5) and ($6::bytea is null or position($6 in payload) > 0) \
                   and ($7::uuid is null or stream_id = $7) and ($8::text is null or stream_type = $8) \
                   order by pos limit $9";

/// Names a stream: by its public id (`ord_01J…`, `pay_…` is the intent's) or as `order-01J…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    /// The kind.
    pub stream_type: StreamType,
    /// The id without prefix.
    pub id: Ulid,
}

impl StreamName {
    /// Of an event's stream.
    pub const fn of(stream: &StreamKey) -> Self {
        Self { stream_type: stream.stream_type, id: stream.stream_id }
    }

    fn public(text: &str) -> Option<Self> {
        let named = |stream_type, id: Ulid| Some(Self { stream_type, id });
        match text.split_once('_')?.0 {
            MerchantId::PREFIX => named(StreamType::Merchant, text.parse::<MerchantId>().ok()?.0),
            StoreId::PREFIX => named(StreamType::Store, text.parse::<StoreId>().ok()?.0),
            OrderId::PREFIX => named(StreamType::Order, text.parse::<OrderId>().ok()?.0),
            BillId::PREFIX => named(StreamType::Bill, text.parse::<BillId>().ok()?.0),
            PaymentIntentId::PREFIX => named(StreamType::PaymentIntent, text.parse::<PaymentIntentId>().ok()?.0),
            PaymentId::PREFIX => named(StreamType::PaymentIntent, text.parse::<PaymentId>().ok()?.0),
            LedgerAdjustmentId::PREFIX => named(StreamType::LedgerAdjustment, text.parse::<LedgerAdjustmentId>().ok()?.0),
            ProviderAccountId::PREFIX => named(StreamType::ProviderAccount, text.parse::<ProviderAccountId>().ok()?.0),
            CustomerId::PREFIX => named(StreamType::Customer, text.parse::<CustomerId>().ok()?.0),
            WebhookEndpointId::PREFIX => named(StreamType::WebhookEndpoint, text.parse::<WebhookEndpointId>().ok()?.0),
            RefundId::PREFIX => named(StreamType::Refund, text.parse::<RefundId>().ok()?.0),
            _ => None,
        }
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stream_type {
            StreamType::Merchant => MerchantId(self.id).fmt(f),
            StreamType::Store => StoreId(self.id).fmt(f),
            StreamType::Order => OrderId(self.id).fmt(f),
            StreamType::Bill => BillId(self.id).fmt(f),
            StreamType::PaymentIntent => PaymentIntentId(self.id).fmt(f),
            StreamType::Refund => RefundId(self.id).fmt(f),
            StreamType::LedgerAdjustment => LedgerAdjustmentId(self.id).fmt(f),
            StreamType::Customer => CustomerId(self.id).fmt(f),
            StreamType::ProviderAccount => ProviderAccountId(self.id).fmt(f),
            StreamType::WebhookEndpoint => WebhookEndpointId(self.id).fmt(f),
        }
    }
}

impl FromStr for StreamName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let typed = || {
            let (kind, id) = text.split_once('-')?;
            let id = Ulid::from_string(id).ok().filter(|ulid| ulid.to_string() == id)?;
            Some(Self { stream_type: StreamType::parse(kind)?, id })
        };
        Self::public(text).or_else(typed).ok_or_else(|| format!("'{text}' names no stream: wanted is an id like ord_01J…, or order-01J…"))
    }
}

/// Which events; everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// After this position.
    pub after: i64,
    /// Up to and including this one; none is the end.
    pub until: Option<i64>,
    /// Type with `*` and `?`, such as `payment_intent.*`.
    pub event_type: Option<String>,
    /// Merchant.
    pub tenant: Option<MerchantId>,
    /// Actor with `*` and `?`.
    pub actor: Option<String>,
    /// Exact bytes somewhere in the payload.
    pub text: Option<String>,
    /// Of one stream.
    pub stream: Option<StreamName>,
}

/// The events that a filter lets through, at most `limit`, in order; memory does not grow with their number. `pool`: a role
/// that is a member of `smartpos_auditor` or `smartpos_worker`.
pub fn search<'a>(pool: &'a PgPool, filter: &Filter, limit: Option<i64>) -> BoxStream<'a, Result<RecordedEvent, Error>> {
    sqlx::query(SQL)
        .bind(filter.after)
        .bind(filter.until.unwrap_or(i64::MAX))
        .bind(filter.event_type.as_deref().map(like))
        .bind(filter.tenant.map(tenant_to_uuid))
        .bind(filter.actor.as_deref().map(like))
        .bind(filter.text.as_ref().map(|text| text.as_bytes().to_vec()))
        .bind(filter.stream.map(|stream| Uuid::from_bytes(stream.id.to_bytes())))
        .bind(filter.stream.map(|stream| stream.stream_type.as_str()))
        .bind(limit)
        .fetch(pool)
        .map(|row| row_to_event(&row?))
        .boxed()
}

/// The last position recorded before `time`: what the log was then, for the whole platform.
///
/// # Errors
/// `Sql`.
pub async fn position_before(pool: &PgPool, time: DateTime<Utc>) -> Result<i64, Error> {
    let sql = "select coalesce(max(last_pos), 0) from log.commit where recorded_at < $1";
    Ok(sqlx::query_scalar(sql).bind(time).fetch_one(pool).await?)
}

/// A pattern with `*` and `?` as one of SQL's.
fn like(glob: &str) -> String {
    let mut pattern = String::with_capacity(glob.len());
    for letter in glob.chars() {
        match letter {
            '*' => pattern.push('%'),
            '?' => pattern.push('_'),
            '%' | '_' | '\\' => pattern.extend(['\\', letter]),
            other => pattern.push(other),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_by_its_public_id_or_its_kind() {
        let id = Ulid::from_bytes([7; 16]);
        let order = StreamName { stream_type: StreamType::Order, id };
        for text in [OrderId(id).to_string(), format!("order-{id}")] {
            assert_eq!(text.parse(), Ok(order));
        }
        let intent = StreamName { stream_type: StreamType::PaymentIntent, id };
        for text in [PaymentId(id).to_string(), PaymentIntentId(id).to_string(), format!("payment_intent-{id}")] {
            assert_eq!(text.parse(), Ok(intent));
        }
        for kind in StreamType::ALL {
            let name = StreamName { stream_type: kind, id };
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for bad in ["", "ord_", "order-1", "lin_00000000000000000000000000", &format!("order-{}", id.to_string().to_lowercase())] {
            assert!(bad.parse::<StreamName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_takes_nothing_literally_but_letters() {
        assert_eq!(like("payment_intent.*"), "payment\\_intent.%");
        assert_eq!(like("a?%\\"), "a_\\%\\\\");
    }
}
