//! Signed requests of services: HMAC-SHA256 over what is asked, in two versions.
//!
//! The first is the published form: method, path, time and body. Within five minutes it can be sent twice, and its query is not
//! covered. The second covers the query and a nonce that is good once.
//!
//! ```text
//! Authorization: HMAC-SHA256 <key id>:<unix seconds>:<signature>
//!   message = METHOD \n PATH \n TIMESTAMP \n hex(sha256(body))
//! Authorization: HMAC-SHA256-V2 <key id>:<unix seconds>:<nonce>:<signature>
//!   message = HMAC-SHA256-V2 \n METHOD \n PATH \n QUERY \n TIMESTAMP \n NONCE \n hex(sha256(body))
//! key       = the 64 ASCII characters of hex(sha256(secret))
//! signature = hex(hmac_sha256(key, message))
//! ```
//! PATH and QUERY are as sent, byte for byte; QUERY is what follows the question mark, or nothing. A message of one version is
//! none of the other: the second line of the second version is a method, which no path is.

use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

/// A time-stamp further away than this is not believed, seconds.
pub const MAX_SKEW_SECONDS: i64 = 300;

/// Which form a request was signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version<'h> {
    /// The published form.
    Published,
    /// With query and nonce.
    WithNonce(&'h str),
}

/// What `Authorization` says about a signed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed<'h> {
    /// Names the credential.
    pub key_id: &'h str,
    /// The form.
    pub version: Version<'h>,
    /// When it was signed, as sent: these bytes were signed.
    timestamp: &'h str,
    signature: [u8; 32],
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'r> {
    /// Upper case.
    pub method: &'r str,
    /// As sent.
    pub path: &'r str,
    /// As sent, without the question mark; empty when there is none.
    pub query: &'r str,
    /// As received.
    pub body: &'r [u8],
}

/// Whether a header is of this scheme at all; then [`Claimed::parse`] reads it.
pub fn is_signature(authorization: &str) -> bool {
    authorization.get(..11).is_some_and(|scheme| scheme.eq_ignore_ascii_case("HMAC-SHA256"))
}

impl<'h> Claimed<'h> {
    /// Reads the header; nothing when it has another shape.
    pub fn parse(authorization: &'h str) -> Option<Self> {
        let (scheme, rest) = authorization.split_once(' ')?;
        let parts: Vec<&str> = rest.split(':').collect();
        let (key_id, timestamp, version, signature) = match (scheme.to_ascii_uppercase().as_str(), parts.as_slice()) {
            ("HMAC-SHA256", [key_id, timestamp, signature]) => (*key_id, *timestamp, Version::Published, *signature),
            ("HMAC-SHA256-V2", [key_id, timestamp, nonce, signature]) if is_nonce(nonce) => {
                (*key_id, *timestamp, Version::WithNonce(nonce), *signature)
            }
            _ => return None,
        };
        let digits = (1..=12).contains(&timestamp.len()) && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let named = (1..=64).contains(&key_id.len()) && key_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let mut bytes = [0; 32];
        hex::decode_to_slice(signature, &mut bytes).ok()?;
        (digits && named).then_some(Self { key_id, version, timestamp, signature: bytes })
    }

    /// When it was signed, Unix seconds.
    pub fn signed_at(&self) -> i64 {
        self.timestamp.parse().unwrap_or(0)
    }

    /// Whether it was signed about now.
    pub fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        now.timestamp().abs_diff(self.signed_at()) <= MAX_SKEW_SECONDS.unsigned_abs()
    }

    /// Whether the signature is that of `key` over this request. Takes as long whether it is or not.
    pub fn is_of(&self, key: &[u8; 64], request: &Signed<'_>) -> bool {
        self.mac(key, request).verify_slice(&self.signature).is_ok()
    }

    fn mac(&self, key: &[u8; 64], request: &Signed<'_>) -> Hmac<Sha256> {
        let body = hex::encode(Sha256::digest(request.body));
        // As long as a block of SHA-256, so there is no length to refuse.
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new(key.into());
        let lines: Vec<&str> = match self.version {
            Version::Published => vec![request.method, request.path, self.timestamp, &body],
            Version::WithNonce(nonce) => {
                vec!["HMAC-SHA256-V2", request.method, request.path, request.query, self.timestamp, nonce, &body]
            }
        };
        mac.update(lines.join("\n").as_bytes());
        mac
    }
}

/// 16 to 64 characters, so that nobody meets another's by chance.
fn is_nonce(text: &str) -> bool {
    (16..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// hex(sha256("sk_test_51f0c2")), by openssl.
    const KEY: &[u8; 64] = b"0e8ed85c23bf4bf1dbb5ba6932f86b5833cebb68cd4b44fafa97045d077c8c09";
    const BODY: &[u8] = br#"{"amount":10000,"currency":"THB"}"#;
    const PUBLISHED: &str = "f915c98c7a8aa432eddaaf49fd2881b9f1a53244bd956200f5f933b8de128499";
    const EMPTY_BODY: &str = "84460613ba7d538c876c324125a706c6060abe97c41343850266b4a4665fdd9d";
    const WITH_NONCE: &str = "23170b8560913e43e6229a0515550b64ce400fe0659f03f04efb1e5ca3a836e3";

    fn post() -> Signed<'static> {
        Signed { method: "POST", path: "/v1/payment_intents", query: "expand=all&x=%20", body: BODY }
    }

    fn published(signature: &str) -> String {
        format!("HMAC-SHA256 pk_test_1:1800000000:{signature}")
    }

    fn with_nonce(signature: &str) -> String {
        format!("HMAC-SHA256-V2 pk_test_1:1800000000:0123456789abcdef:{signature}")
    }

    #[test]
    fn the_published_form_is_signed_as_openssl_signs_it() {
        assert!(Claimed::parse(&published(PUBLISHED)).unwrap().is_of(KEY, &post()));
        let get = Signed { method: "GET", path: "/v1/payment_intents/pi_1", query: "", body: b"" };
        assert!(Claimed::parse(&published(EMPTY_BODY)).unwrap().is_of(KEY, &get));
        // Upper-case hex is the same number.
        assert!(Claimed::parse(&published(&PUBLISHED.to_uppercase())).unwrap().is_of(KEY, &post()));
        let other_query = Signed { query: "", ..post() };
        assert!(Claimed::parse(&published(PUBLISHED)).unwrap().is_of(KEY, &other_query), "the published form leaves the query open");
    }

    #[test]
    fn the_second_form_is_signed_as_openssl_signs_it() {
        assert!(Claimed::parse(&with_nonce(WITH_NONCE)).unwrap().is_of(KEY, &post()));
    }

    #[test]
    fn nothing_that_is_signed_can_be_changed() {
        let altered = |change: fn(&mut Signed<'static>)| {
            let mut request = post();
            change(&mut request);
            request
        };
        let changes: [fn(&mut Signed<'static>); 4] = [
            |request| request.method = "PUT",
            |request| request.path = "/v1/payment-intents",
            |request| request.body = br#"{"amount":10001,"currency":"THB"}"#,
            |request| request.query = "expand=all&x=%21",
        ];
        for (n, change) in changes.into_iter().enumerate() {
            assert!(!Claimed::parse(&with_nonce(WITH_NONCE)).unwrap().is_of(KEY, &altered(change)), "change {n}");
            let covered = n < 3;
            assert_eq!(Claimed::parse(&published(PUBLISHED)).unwrap().is_of(KEY, &altered(change)), !covered, "change {n}");
        }
        for header in [
            with_nonce(WITH_NONCE).replace("1800000000", "1800000001"),
            with_nonce(WITH_NONCE).replace("0123456789abcdef", "0123456789abcdeF"),
            published(WITH_NONCE),
            with_nonce(PUBLISHED),
        ] {
            assert!(!Claimed::parse(&header).unwrap().is_of(KEY, &post()), "{header}");
        }
        assert!(!Claimed::parse(&published(PUBLISHED)).unwrap().is_of(&[b'0'; 64], &post()));
    }

    #[test]
    fn time_has_five_minutes_of_play_on_either_side() {
        let header = published(PUBLISHED);
        let claimed = Claimed::parse(&header).unwrap();
        let fresh = |seconds: i64| claimed.is_fresh(DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap());
        assert!(fresh(300) && fresh(-300));
        assert!(!fresh(301) && !fresh(-301));
    }

    #[test]
    fn another_shape_is_no_signature() {
        let signature = "0".repeat(64);
        for header in [
            "HMAC-SHA256".to_owned(),
            "HMAC-SHA256 ".to_owned(),
            format!("HMAC-SHA256 pk_1:1800000000:{signature}:x"),
            format!("HMAC-SHA256 pk_1:1800000000:{}", &signature[1..]),
            format!("HMAC-SHA256 pk_1:18e8:{signature}"),
            format!("HMAC-SHA256 pk_1:-1800000000:{signature}"),
            format!("HMAC-SHA256 pk_1:9999999999999:{signature}"),
            format!("HMAC-SHA256 :1800000000:{signature}"),
            format!("HMAC-SHA256 pk|1:1800000000:{signature}"),
            format!("HMAC-SHA256-V2 pk_1:1800000000:{signature}"),
            format!("HMAC-SHA256-V2 pk_1:1800000000:short:{signature}"),
            format!("HMAC-SHA256-V2 pk_1:1800000000:{}:{signature}", "n".repeat(65)),
            format!("HMAC-SHA256-V2 pk_1:1800000000:0123456789abcde|:{signature}"),
            format!("HMAC-SHA256-V3 pk_1:1800000000:0123456789abcdef:{signature}"),
        ] {
            assert!(is_signature(&header), "{header}");
            assert_eq!(Claimed::parse(&header), None, "{header}");
        }
        assert!(!is_signature("Bearer abc") && !is_signature("") && !is_signature("ก"));
    }
}
