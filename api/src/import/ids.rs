//! Identifiers that follow from the data, so that a second run of an import names the same things.

use chrono::{DateTime, Utc};
use domain::ids::{MerchantId, PspId, Ulid};
use sha2::{Digest, Sha256};

/// A ULID with the millisecond of `at` (0 without one, or before 1970) and 80 bits of SHA-256 over `parts`.
///
/// Each part is hashed with its length before it, so that `["ab", "c"]` and `["a", "bc"]` differ.
pub(super) fn derive<T: From<Ulid>>(at: Option<DateTime<Utc>>, parts: &[&str]) -> T {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize();
    let mut random = [0_u8; 16];
    random[6..].copy_from_slice(&digest[..10]);
    let millis = at.map_or(0, |at| u64::try_from(at.timestamp_millis()).unwrap_or(0));
    T::from(Ulid::from_parts(millis, u128::from_be_bytes(random)))
}

/// The PSP that a mapping names: an id as it is, or the id that follows from a short code.
pub(super) fn psp_of(text: &str) -> PspId {
    text.parse().unwrap_or_else(|_| derive(None, &["psp", text]))
}

/// The merchant with this code under this PSP.
pub(super) fn merchant_of(psp: PspId, code: &str) -> MerchantId {
    derive(None, &["merchant", &psp.to_string(), code])
}

/// Names the things of one order: tenant, source and order key give every id its own place.
#[derive(Debug, Clone, Copy)]
pub(super) struct OrderIds<'a> {
    /// The tenant, as text.
    pub tenant: &'a str,
    /// The mapping's source.
    pub source: &'a str,
    /// The order's key in the source.
    pub key: &'a str,
    /// When the order was opened.
    pub at: DateTime<Utc>,
}

impl OrderIds<'_> {
    /// The id of the thing of this `kind`.
    pub fn id<T: From<Ulid>>(&self, kind: &str) -> T {
        derive(Some(self.at), &[self.tenant, self.source, self.key, kind])
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use domain::ids::{BillId, OrderId};

    use super::*;

    fn ids(key: &str) -> OrderIds<'_> {
        OrderIds { tenant: "mer_1", source: "shop", key, at: Utc.with_ymd_and_hms(2024, 3, 1, 8, 15, 0).unwrap() }
    }

    #[test]
    fn the_same_row_gets_the_same_id_in_every_build() {
        assert_eq!(ids("1-00001").id::<OrderId>("order").to_string(), "ord_01HQWH9CX095T7Q7DVMBZQJ2YW");
        assert_eq!(ids("1-00001").id::<OrderId>("order"), ids("1-00001").id::<OrderId>("order"));
    }

    #[test]
    fn key_kind_source_and_tenant_each_change_the_id() {
        let first: Ulid = ids("a").id("order");
        let other_source = OrderIds { source: "shop2", ..ids("a") };
        let other_tenant = OrderIds { tenant: "mer_2", ..ids("a") };
        let others: [Ulid; 4] = [ids("b").id("order"), ids("a").id("bill"), other_source.id("order"), other_tenant.id("order")];
        assert!(others.iter().all(|other| *other != first));
        assert_eq!(ids("a").id::<BillId>("bill").0.timestamp_ms(), 1_709_280_900_000);
    }

    #[test]
    fn parts_are_not_run_together() {
        assert_ne!(derive::<Ulid>(None, &["ab", "c"]), derive::<Ulid>(None, &["a", "bc"]));
    }

    #[test]
    fn a_psp_is_named_by_id_or_by_code() {
        let id = psp_of("demo");
        assert_eq!(psp_of(&id.to_string()), id);
        assert_ne!(merchant_of(id, "a"), merchant_of(id, "b"));
    }
}
