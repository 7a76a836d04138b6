//! Signatures of deliveries. Source: Standard Webhooks 1.0.0, symmetric (`v1`).
//!
//! Signed is `id.timestamp.body`, byte for byte, with HMAC-SHA256 under the decoded secret.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// What a secret begins with where it is shown.
const PREFIX: &str = "whsec_";
/// How far a receiver's clock may be from the sender's, seconds.
pub const TOLERANCE_SECONDS: i64 = 300;

/// A signing secret. Shown by [`Self::reveal`] only.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Which rule a signed message breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The secret is not one.
    #[error("secret: it must be whsec_ and the base64 of 24 to 64 bytes")]
    Secret,
    /// The timestamp is not a number of seconds.
    #[error("clock: webhook-timestamp is not a number of seconds")]
    Timestamp,
    /// The message is too old, or from the future.
    #[error("clock: the message was signed {0} s away from now; {TOLERANCE_SECONDS} s are allowed")]
    Clock(i64),
    /// The body is not the one that was sent.
    #[error("body: its SHA-256 is not the one in smartpos-body-sha256; sign the raw bytes, before anything parses them")]
    Body,
    /// No `v1` signature at all.
    #[error("signature: webhook-signature holds no v1 signature")]
    Missing,
    /// Everything else is right, so it is the secret (or the id or the timestamp was changed on the way).
    #[error("secret: no signature was made with this secret over this id, timestamp and body")]
    Mismatch,
}

/// A signed message as a receiver has it.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`.
    pub timestamp: &'a str,
    /// `webhook-signature`.
    pub signatures: &'a str,
    /// `smartpos-body-sha256`, if it is at hand.
    pub body_hash: Option<&'a str>,
    /// The raw body.
    pub body: &'a [u8],
}

impl Secret {
    /// A secret of these bytes; 24 to 64 of them.
    ///
    /// # Errors
    /// `Secret`.
    pub fn new(bytes: Vec<u8>) -> Result<Self, SignatureError> {
        if (24..=64).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(SignatureError::Secret) }
    }

    /// Reads what [`Self::reveal`] shows.
    ///
    /// # Errors
    /// `Secret`.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SignatureError::Secret)?;
        Self::new(STANDARD.decode(encoded).map_err(|_| SignatureError::Secret)?)
    }

    /// The text for the merchant, shown once.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of any length; the type cannot say so.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        Some(mac)
    }

    /// `v1,<base64>`.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mac = self.mac(id, &timestamp.to_string(), body);
        format!("v1,{}", mac.map(|mac| STANDARD.encode(mac.finalize().into_bytes())).unwrap_or_default())
    }

    /// Checks a message as of `now`, unix seconds, and says which rule it breaks.
    ///
    /// # Errors
    /// Any [`SignatureError`].
    pub fn verify(&self, message: Signed<'_>, now: i64) -> Result<(), SignatureError> {
        let timestamp: i64 = message.timestamp.parse().map_err(|_| SignatureError::Timestamp)?;
        let away = now.saturating_sub(timestamp);
        if away.saturating_abs() > TOLERANCE_SECONDS {
            return Err(SignatureError::Clock(away));
        }
        let mut given = message.signatures.split_ascii_whitespace().filter_map(|text| text.strip_prefix("v1,")).peekable();
        if given.peek().is_none() {
            return Err(SignatureError::Missing);
        }
        let matches = |text: &str| {
            let mac = self.mac(message.id, message.timestamp, message.body);
            // Compared in constant time.
            mac.zip(STANDARD.decode(text).ok()).is_some_and(|(mac, given)| mac.verify_slice(&given).is_ok())
        };
        if given.any(matches) {
            return Ok(());
        }
        let other_body = message.body_hash.is_some_and(|hash| !hash.trim().eq_ignore_ascii_case(&body_hash(message.body)));
        Err(if other_body { SignatureError::Body } else { SignatureError::Mismatch })
    }
}

/// SHA-256 of a body, lower-case hex.
pub fn body_hash(body: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(body).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn secret() -> Secret {
        Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()
    }
    fn message<'a>(signatures: &'a str, body: &'a [u8], hash: Option<&'a str>) -> Signed<'a> {
        Signed { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp: "1614265330", signatures, body_hash: hash, body }
    }

    #[test]
    fn the_signature_is_the_one_of_the_standards_own_example() {
        let signed = secret().sign("msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, BODY);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(secret().verify(message(&format!("v1a,x v1,AAAA {signed}"), BODY, None), NOW), Ok(()));
    }

    #[test]
    fn the_rule_that_is_broken_is_named() {
        let signed = secret().sign("msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, BODY);
        let hash = body_hash(BODY);
        let verify = |signatures: &str, body: &[u8], now: i64| secret().verify(message(signatures, body, Some(&hash)), now).err();
        assert_eq!(verify(&signed, BODY, NOW + 300), None);
        assert_eq!(verify(&signed, BODY, NOW + 301), Some(SignatureError::Clock(301)));
        assert_eq!(verify(&signed, BODY, NOW - 301), Some(SignatureError::Clock(-301)));
        assert_eq!(verify(&signed, br#"{"test":2432232314}"#, NOW), Some(SignatureError::Body));
        assert_eq!(verify("", BODY, NOW), Some(SignatureError::Missing));
        assert_eq!(verify("v2,abc v1a,abc", BODY, NOW), Some(SignatureError::Missing));
        let other = Secret::new(vec![7; 32]).unwrap();
        assert_eq!(other.verify(message(&signed, BODY, Some(&hash)), NOW), Err(SignatureError::Mismatch));
        let bad = Signed { timestamp: "soon", ..message(&signed, BODY, None) };
        assert_eq!(secret().verify(bad, NOW), Err(SignatureError::Timestamp));
    }

    #[test]
    fn a_secret_reads_back_and_shows_itself_nowhere_else() {
        assert_eq!(Secret::parse(&secret().reveal()), Ok(secret()));
        assert_eq!(format!("{:?}", secret()), "Secret(..)");
        for bad in ["", "whsec_", "whsec_!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA"] {
            assert_eq!(Secret::parse(bad), Err(SignatureError::Secret), "{bad}");
        }
    }
}
