//! Identifiers: ULIDs with a prefix that says what they name (`ord_01J…`).
//!
//! Stored as 16 bytes, written as text on the wire. Order among things is their log position, never the time inside an id.

use std::{fmt, str::FromStr};

pub use ulid::Ulid;

/// Text that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not an id of the form {prefix}_<26 characters of Crockford base32>")]
pub struct IdError {
    /// The wanted prefix.
    pub prefix: &'static str,
    /// What was given, shortened.
    pub text: String,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Ulid);

        impl $name {
            /// The text before the underscore.
            pub const PREFIX: &'static str = $prefix;
        }
        const _: () = assert!($prefix.len() + 1 + ulid::ULID_LEN <= size_of::<Written>());
        impl From<Ulid> for $name { fn from(ulid: Ulid) -> Self { Self(ulid) } }
        impl From<$name> for Ulid { fn from(id: $name) -> Self { id.0 } }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(written(Self::PREFIX, self.0, &mut Written::default())) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> { parse(Self::PREFIX, text).map(Self) }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(written(Self::PREFIX, self.0, &mut Written::default()))
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_str(Parsed(std::marker::PhantomData))
            }
        }
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": concat!("^", $prefix, "_[0-9A-HJKMNP-TV-Z]{26}$")})
            }
        }
    )*};
}

ids! {
    /// A payment service provider: the top organisation.
    PspId = "psp";
    /// A business or brand; also the tenant of everything it owns.
    MerchantId = "mer";
    /// A physical place of a merchant.
    StoreId = "sto";
    /// A purchase before payment.
    OrderId = "ord";
    /// One line of an order.
    LineId = "lin";
    /// A request for payment made from an order.
    BillId = "bill";
    /// One tender against a bill; the gateway's entity. `pay_…` with the same ULID is the shop's view of it.
    PaymentIntentId = "pi";
    /// The shop's view of a payment intent: same ULID, other prefix.
    PaymentId = "pay";
    /// One conversation with a provider under an intent; also the provider's idempotency key.
    AttemptId = "att";
    /// Money given back.
    RefundId = "ref";
    /// An amount on a store's books outside orders, payments and refunds.
    LedgerAdjustmentId = "adj";
    /// A person known to a merchant.
    CustomerId = "cus";
    /// One command; the causation id of its events.
    CommandId = "cmd";
    /// A merchant's account at a payment provider.
    ProviderAccountId = "pac";
    /// One stored inbound webhook delivery.
    WebhookId = "whk";
    /// An address of a merchant that is told what happens.
    WebhookEndpointId = "whe";
    /// An event as merchants see it: its position in the log and the beginning of its hash, so that it has one name wherever it is read and is
    /// found by it. See [`EventId::of`].
    EventId = "evt";
}

impl EventId {
    /// Names the event with this hash at this position (below 2^48): six bytes of the position, ten of the hash.
    pub fn of(pos: i64, hash: &[u8; 32]) -> Self {
        let [_, _, position @ ..] = pos.to_be_bytes();
        let mut name = [0; 16];
        name[..6].copy_from_slice(&position);
        name[6..].copy_from_slice(&hash[..10]);
        Self(Ulid::from_bytes(name))
    }

    /// Where the event stands, if there is one of this name.
    pub fn position(self) -> i64 {
        let mut position = [0; 8];
        position[2..].copy_from_slice(&self.0.to_bytes()[..6]);
        i64::from_be_bytes(position)
    }
}

impl PaymentIntentId {
    /// The shop's name for the same payment.
    pub const fn payment_id(self) -> PaymentId {
        PaymentId(self.0)
    }
}

impl PaymentId {
    /// The gateway's name for the same payment.
    pub const fn intent_id(self) -> PaymentIntentId {
        PaymentIntentId(self.0)
    }
}

/// Room for the longest prefix, the underscore and a ULID: ids are written and read without a detour over the heap, since every event, row and
/// answer holds several.
type Written = [u8; 32];

fn written<'a>(prefix: &str, ulid: Ulid, room: &'a mut Written) -> &'a str {
    let mut digits = [0; ulid::ULID_LEN];
    let digits = ulid.array_to_str(&mut digits).as_bytes();
    let mut length = 0;
    for (place, byte) in room.iter_mut().zip(prefix.bytes().chain([b'_']).chain(digits.iter().copied())) {
        *place = byte;
        length += 1;
    }
    // Prefixes and digits are ASCII.
    room.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
}

/// Reads an id out of whatever string there is.
struct Parsed<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = IdError>> serde::de::Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

fn parse(prefix: &'static str, text: &str) -> Result<Ulid, IdError> {
    let error = || IdError { prefix, text: text.chars().take(40).collect() };
    let rest = text.strip_prefix(prefix).and_then(|r| r.strip_prefix('_')).ok_or_else(error)?;
    // Only the canonical upper-case form: one thing has one name, also in subjects, keys and logs.
    let canonical = rest.len() == 26 && rest.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    if !canonical {
        return Err(error());
    }
    let ulid = Ulid::from_string(rest).map_err(|_| error())?;
    if ulid.array_to_str(&mut [0; ulid::ULID_LEN]) == rest { Ok(ulid) } else { Err(error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_wrote() {
        let id = OrderId(Ulid::from_bytes([7; 16]));
        assert_eq!(id.to_string().parse::<OrderId>(), Ok(id));
    }

    #[test]
    fn an_events_name_tells_where_it_stands_and_which_it_is() {
        let hash = std::array::from_fn(|n| u8::try_from(n).unwrap());
        for pos in [1, 4711, (1 << 48) - 1] {
            let name = EventId::of(pos, &hash);
            assert_eq!(name.position(), pos);
            assert_eq!(name.to_string().parse::<EventId>(), Ok(name));
            assert_ne!(EventId::of(pos, &[7; 32]), name);
        }
        assert!(EventId::of(10, &hash).to_string() > EventId::of(9, &[255; 32]).to_string(), "in the order of positions");
    }

    #[test]
    fn an_id_of_another_kind_or_spelling_is_refused() {
        let text = OrderId(Ulid::from_bytes([7; 16])).to_string();
        assert!(text.parse::<BillId>().is_err());
        assert!(text.to_lowercase().parse::<OrderId>().is_err());
        for bad in ["", "ord_", "ord_*", "ord_>", "ord_81111111111111111111111111", "ord_0000000000000000000000000U"] {
            assert!(bad.parse::<OrderId>().is_err(), "{bad} was accepted");
        }
    }
}
