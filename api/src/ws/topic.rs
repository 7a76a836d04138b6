//! Topics: what a terminal can listen to. `store.sto_…`, `order.ord_…`, `bill.bill_…`, `payment_intent.pi_…`, `refund.ref_…`,
//! `customer.cus_…`, `provider_account.pac_…`, `merchant.mer_…` (everything of the tenant).

use domain::{
    envelope::{RecordedEvent, StreamKey, StreamType},
    ids::{
        BillId, CustomerId, LedgerAdjustmentId, MerchantId, OrderId, PaymentIntentId, ProviderAccountId, RefundId, StoreId, Ulid,
        WebhookEndpointId,
    },
};

use crate::auth::Sight;

/// Something to listen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// One aggregate; the sequence is its version, without gaps.
    Stream(StreamType, Ulid),
    /// All events that concern a store; the sequence is the log position, rising with gaps.
    Store(StoreId),
    /// All events of the tenant; the sequence is the log position, rising with gaps.
    Tenant(MerchantId),
}

impl Topic {
    /// Reads a topic's name.
    pub fn parse(name: &str) -> Option<Self> {
        let (kind, id) = name.split_once('.')?;
        match kind {
            "store" => id.parse().ok().map(Self::Store),
            "merchant" => id.parse().ok().map(Self::Tenant),
            "order" => id.parse::<OrderId>().ok().map(|id| Self::Stream(StreamType::Order, id.0)),
            "bill" => id.parse::<BillId>().ok().map(|id| Self::Stream(StreamType::Bill, id.0)),
            "payment_intent" => id.parse::<PaymentIntentId>().ok().map(|id| Self::Stream(StreamType::PaymentIntent, id.0)),
            "provider_account" => id.parse::<ProviderAccountId>().ok().map(|id| Self::Stream(StreamType::ProviderAccount, id.0)),
            "customer" => id.parse::<CustomerId>().ok().map(|id| Self::Stream(StreamType::Customer, id.0)),
            "refund" => id.parse::<RefundId>().ok().map(|id| Self::Stream(StreamType::Refund, id.0)),
            _ => None,
        }
    }

    /// The topic's name.
    pub fn name(&self) -> String {
        match self {
            Self::Store(id) => format!("store.{id}"),
            Self::Tenant(id) => format!("merchant.{id}"),
            Self::Stream(kind, id) => format!("{}.{}", kind.as_str(), stream_id(*kind, *id)),
        }
    }

    /// The sequence of an event on this topic.
    pub fn sequence(&self, event: &RecordedEvent) -> i64 {
        match self {
            Self::Stream(..) => event.version,
            Self::Store(_) | Self::Tenant(_) => event.pos,
        }
    }

    /// Whether somebody may listen to it. Whose events are on it is looked at for each event.
    pub fn is_open_to(&self, who: &Sight) -> bool {
        match self {
            Self::Tenant(tenant) => *tenant == who.tenant && who.store.is_none(),
            Self::Store(store) => who.store.is_none_or(|own| own == *store),
            Self::Stream(kind, _) => who.reads(*kind),
        }
    }

    /// The topics that an event on `stream` appears on, which concerns `store`.
    pub fn of(stream: StreamKey, store: Option<StoreId>) -> impl IntoIterator<Item = Self> {
        let own = Self::Stream(stream.stream_type, stream.stream_id);
        [own, Self::Tenant(stream.tenant)].into_iter().chain(store.map(Self::Store))
    }
}

/// An aggregate's id as the outside writes it.
pub fn stream_id(kind: StreamType, id: Ulid) -> String {
    match kind {
        StreamType::Merchant => MerchantId(id).to_string(),
        StreamType::Store => StoreId(id).to_string(),
        StreamType::Order => OrderId(id).to_string(),
        StreamType::Bill => BillId(id).to_string(),
        StreamType::PaymentIntent => PaymentIntentId(id).to_string(),
        StreamType::Refund => RefundId(id).to_string(),
        StreamType::LedgerAdjustment => LedgerAdjustmentId(id).to_string(),
        StreamType::Customer => CustomerId(id).to_string(),
        StreamType::ProviderAccount => ProviderAccountId(id).to_string(),
        StreamType::WebhookEndpoint => WebhookEndpointId(id).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_reads_back_its_name() {
        let id = Ulid::from_bytes([9; 16]);
        for topic in [
            Topic::Store(StoreId(id)),
            Topic::Tenant(MerchantId(id)),
            Topic::Stream(StreamType::Order, id),
            Topic::Stream(StreamType::Bill, id),
        ] {
            assert_eq!(Topic::parse(&topic.name()), Some(topic));
        }
        for bad in ["", "order", "order.*", "order.>", "store.ord_01", "everything.x"] {
            assert_eq!(Topic::parse(bad), None, "{bad}");
        }
    }
}
