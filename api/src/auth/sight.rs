//! Which events of the log somebody sees: of its merchant, of the kinds of things that it may read by REST, and, limited to one
//! store, what concerns that store. One rule for sockets, the feed and explanations.

use domain::{
    envelope::{RecordedEvent, StreamKey, StreamType},
    ids::{MerchantId, StoreId},
};

use super::{Permission, Role};

/// What somebody sees of a merchant's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// The merchant.
    pub tenant: MerchantId,
    /// The only store that it is limited to, if any.
    pub store: Option<StoreId>,
    /// As what it comes.
    pub role: Role,
}

impl Sight {
    /// Whether it may read things of this kind at all.
    pub const fn reads(&self, kind: StreamType) -> bool {
        self.allows(Permission::to_read(kind))
    }

    /// Whether it may do this for all that it sees.
    pub const fn allows(&self, permission: Permission) -> bool {
        self.role.allows(permission) && !(self.store.is_some() && permission.is_of_the_whole_merchant())
    }

    /// Whether it sees an event on `stream` that concerns `store`. What concerns no store is not for whoever is limited to one.
    pub fn sees(&self, stream: StreamKey, store: Option<StoreId>) -> bool {
        stream.tenant == self.tenant && self.reads(stream.stream_type) && self.store.is_none_or(|own| store == Some(own))
    }

    /// The same for an event out of the log.
    pub fn sees_event(&self, event: &RecordedEvent) -> bool {
        self.sees(event.stream, event.event_meta().store)
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::Ulid;

    use super::*;

    fn sight(role: Role, store: Option<u8>) -> Sight {
        let id = |n: u8| Ulid::from_bytes([n; 16]);
        Sight { tenant: MerchantId(id(1)), store: store.map(|n| StoreId(id(n))), role }
    }

    #[test]
    fn who_sees_which_kind_of_thing() {
        let kinds = |role: Role, store: Option<u8>| {
            let seen = StreamType::ALL.into_iter().filter(|kind| sight(role, store).reads(*kind));
            seen.map(StreamType::as_str).collect::<Vec<_>>().join(" ")
        };
        let till = "store order bill payment_intent refund customer";
        assert_eq!(kinds(Role::Cashier, None), till);
        assert_eq!(kinds(Role::Device, Some(3)), till);
        assert_eq!(
            kinds(Role::Auditor, None),
            "merchant store order bill payment_intent refund ledger_adjustment provider_account",
            "sees everything but persons and endpoints"
        );
        assert_eq!(kinds(Role::MerchantAdmin, None).split(' ').count(), StreamType::ALL.len());
        assert!(!kinds(Role::MerchantAdmin, Some(3)).contains("webhook_endpoint"), "an endpoint is told of every store");
    }

    #[test]
    fn whoever_is_limited_to_a_store_sees_what_concerns_it() {
        let id = |n: u8| Ulid::from_bytes([n; 16]);
        let of = |tenant: u8| StreamKey { tenant: MerchantId(id(tenant)), stream_type: StreamType::Order, stream_id: id(9) };
        let (all, one) = (sight(Role::Cashier, None), sight(Role::Cashier, Some(3)));
        let store = |n: u8| Some(StoreId(id(n)));
        assert!(all.sees(of(1), store(3)) && all.sees(of(1), None) && !all.sees(of(2), store(3)));
        assert!(one.sees(of(1), store(3)) && !one.sees(of(1), store(4)) && !one.sees(of(1), None) && !one.sees(of(2), store(3)));
    }
}
