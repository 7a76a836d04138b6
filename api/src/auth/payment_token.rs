//! Payment tokens: what a browser or WebView needs to see, confirm and cancel one payment intent, and nothing else.
//!
//! `ptk_` and hex of merchant (16 bytes), end (8 bytes, Unix seconds) and a tag over these and the intent's id that only the
//! master key makes. Nothing is stored: the same intent always has the same token.

use chrono::{DateTime, Duration, Utc};
use commands::personal::Keyring;
use domain::ids::{MerchantId, PaymentIntentId, Ulid};
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "ptk_";
const PURPOSE: &str = "payment tokens";
/// How long after the end of its intent a token still shows what became of it. The intent itself takes nothing any more.
const AFTERGLOW: Duration = Duration::minutes(15);

/// The token of an intent of `tenant` that accepts payment until `expires_at`.
pub fn payment_token(keyring: &Keyring, tenant: MerchantId, intent: PaymentIntentId, expires_at: DateTime<Utc>) -> String {
    let (tenant, end) = (tenant.0.to_bytes(), (expires_at + AFTERGLOW).timestamp().to_be_bytes());
    let tag = tag(keyring, &tenant, end, intent);
    format!("{PREFIX}{}", hex::encode([&tenant[..], &end, &tag].concat()))
}

/// Whether a text is meant to be a payment token.
pub fn is_payment_token(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// The merchant of the intent and the end of the token, if it is the token of this intent and good at `now`.
pub fn verify(keyring: &Keyring, token: &str, intent: PaymentIntentId, now: DateTime<Utc>) -> Option<(MerchantId, DateTime<Utc>)> {
    let mut bytes = [0_u8; 56];
    hex::decode_to_slice(token.strip_prefix(PREFIX)?, &mut bytes).ok()?;
    let (tenant, rest) = bytes.split_first_chunk::<16>()?;
    let (end, given) = rest.split_first_chunk::<8>()?;
    let good: bool = tag(keyring, tenant, *end, intent).as_slice().ct_eq(given).into();
    let ends = DateTime::from_timestamp(i64::from_be_bytes(*end), 0)?;
    (good && now <= ends).then_some((MerchantId(Ulid::from_bytes(*tenant)), ends))
}

fn tag(keyring: &Keyring, tenant: &[u8; 16], end: [u8; 8], intent: PaymentIntentId) -> [u8; 32] {
    keyring.tag(PURPOSE, &[tenant, &end, &intent.0.to_bytes()])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use commands::{personal::MasterKey, system::SystemRandom};
    use zeroize::Zeroizing;

    use super::*;

    fn keyring(master: u8) -> Keyring {
        let pool = sqlx::PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
        Keyring::new(pool, MasterKey::new(Zeroizing::new([master; 32])), Arc::new(SystemRandom))
    }

    #[tokio::test]
    async fn a_token_is_good_for_its_intent_until_a_while_after_its_end() {
        let (ring, id) = (keyring(1), |n: u8| Ulid::from_bytes([n; 16]));
        let end = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let token = payment_token(&ring, MerchantId(id(1)), PaymentIntentId(id(2)), end);
        assert_eq!(token, payment_token(&ring, MerchantId(id(1)), PaymentIntentId(id(2)), end), "a repeated answer has the same");
        let good = |token: &str, intent: u8, after: i64| {
            verify(&ring, token, PaymentIntentId(id(intent)), end + Duration::minutes(after)).map(|(tenant, _)| tenant)
        };
        assert_eq!(good(&token, 2, 15), Some(MerchantId(id(1))));
        assert_eq!(good(&token, 2, 16), None);
        assert_eq!(good(&token, 3, 0), None, "of another intent");
        assert!(verify(&keyring(2), &token, PaymentIntentId(id(2)), end).is_none(), "of another platform");
        for at in PREFIX.len()..token.len() {
            let digit = if &token[at..=at] == "0" { "1" } else { "0" };
            let altered = format!("{}{digit}{}", &token[..at], &token[at + 1..]);
            assert_eq!(good(&altered, 2, 0), None, "digit {at}");
        }
        for other in ["", "ptk_", &token[..token.len() - 2], &token[4..], "ptk_ก"] {
            assert_eq!(good(other, 2, 0), None);
        }
    }
}
