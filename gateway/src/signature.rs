//! Signed call-backs: `HMAC-SHA256(key, timestamp "." body)` in hexadecimal, good for 300 s on either side.

use chrono::{DateTime, Utc};
use domain::provider::{RawWebhook, WebhookRefusal};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Providers' libraries allow 300 s of age; a time ahead of ours is bounded in the same way.
const TOLERANCE_SECONDS: u64 = 300;

/// The signature of a body.
pub(crate) fn sign(key: &[u8], timestamp: &str, body: &[u8]) -> [u8; 32] {
    let mut mac = mac(key);
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.finalize().into_bytes().into()
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    // Every key length is good for an HMAC; the error exists for other constructions.
    <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).unwrap_or_else(|_| <Hmac<Sha256> as hmac::KeyInit>::new(&[0; 64].into()))
}

/// Any match of `signatures` is enough: several are sent while a secret is rolled. Texts that are not hexadecimal are skipped.
///
/// # Errors
/// `NotAuthentic`; `Stale` for what was signed well but long ago, or ahead of time.
pub(crate) fn check<'a>(
    raw: &RawWebhook<'_>,
    key: &[u8],
    timestamp: &str,
    signatures: impl Iterator<Item = &'a str>,
) -> Result<(), WebhookRefusal> {
    let expected = sign(key, timestamp, raw.body);
    let matches = |given: &str| hex::decode(given).is_ok_and(|given| bool::from(given.ct_eq(&expected)));
    // Every one is compared, so that the time does not tell which.
    if signatures.map(matches).filter(|matched| *matched).count() == 0 {
        return Err(WebhookRefusal::NotAuthentic);
    }
    let signed_at: i64 = timestamp.parse().map_err(|_| WebhookRefusal::NotAuthentic)?;
    if is_fresh(signed_at, raw.received_at) { Ok(()) } else { Err(WebhookRefusal::Stale) }
}

fn is_fresh(signed_at: i64, now: DateTime<Utc>) -> bool {
    now.timestamp().abs_diff(signed_at) <= TOLERANCE_SECONDS
}

/// A header by its lower-case name; empty when it is absent.
pub(crate) fn header<'a>(raw: &RawWebhook<'a>, name: &str) -> &'a str {
    raw.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
}
