//! Proofs of callers: signed requests, bearer tokens, payment tokens. Whatever is changed in one, it is none any more.

use std::sync::Arc;

use api::auth::{
    Role, SigningKey, TokenIssuer, TokenRequest, TokenVerifier,
    payment_token::{payment_token, verify},
    signature::{Claimed, Signed},
};
use chrono::{DateTime, Duration, Utc};
use commands::{
    personal::{Keyring, MasterKey},
    system::SystemRandom,
};
use domain::ids::{MerchantId, PaymentIntentId, PspId, StoreId, Ulid};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::{Tally, edits::Samples, fuzz};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn key() -> [u8; 64] {
    hex::encode(Sha256::digest("sk_of_the_fuzzer")).into_bytes().try_into().unwrap()
}

fn mac(message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key()).unwrap();
    mac.update(message.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

/// A request to be signed: method, path, query and body.
type Asked = (&'static str, &'static str, &'static str, &'static str);

const ASKED: [Asked; 3] = [
    ("POST", "/v1/payment_intents", "expand=all&x=%20", r#"{"amount":10000,"currency":"THB"}"#),
    ("GET", "/v1/orders/ord_01J00000000000000000000000", "", ""),
    ("PATCH", "/v1/orders", "limit=1", "{}"),
];

/// What is signed, in the published form or with query and nonce; written after the published description.
fn message((method, path, query, body): Asked, nonce: Option<&str>) -> String {
    let body = hex::encode(Sha256::digest(body));
    match nonce {
        None => format!("{method}\n{path}\n1800000000\n{body}"),
        Some(nonce) => format!("HMAC-SHA256-V2\n{method}\n{path}\n{query}\n1800000000\n{nonce}\n{body}"),
    }
}

const NONCE: &str = "0123456789abcdef";

/// One request on four lines: header, method, path and query, body.
fn signed(asked: Asked, nonce: Option<&str>) -> Vec<u8> {
    let signature = mac(&message(asked, nonce));
    let header = match nonce {
        None => format!("HMAC-SHA256 pk_test_1:1800000000:{signature}"),
        Some(nonce) => format!("HMAC-SHA256-V2 pk_test_1:1800000000:{nonce}:{signature}"),
    };
    format!("{header}\n{}\n{}\n{}\n{}", asked.0, asked.1, asked.2, asked.3).into_bytes()
}

#[test]
fn nothing_that_is_signed_can_be_changed() {
    let tally = Tally::default();
    let samples = ASKED.into_iter().flat_map(|asked| [signed(asked, None), signed(asked, Some(NONCE))]).collect();
    let known: Vec<String> = ASKED.into_iter().flat_map(|asked| [message(asked, None), message(asked, Some(NONCE))]).collect();
    let key = key();
    fuzz!(1_500, Samples::these(samples), |input| {
        let text = String::from_utf8_lossy(&input.bytes);
        let mut lines = text.splitn(5, '\n');
        let mut next = || lines.next().unwrap_or_default();
        let (header, request) = (next(), Signed { method: next(), path: next(), query: next(), body: next().as_bytes() });
        let Some(claimed) = Claimed::parse(header) else { return tally.refused() };
        let _ = (claimed.is_fresh(now()), claimed.signed_at());
        if !claimed.is_of(&key, &request) {
            return tally.refused();
        }
        tally.accepted();
        let body = hex::encode(Sha256::digest(request.body));
        let parts: Vec<&str> = header.split_once(' ').unwrap().1.split(':').collect();
        let covered = match parts.as_slice() {
            [_, time, _] => format!("{}\n{}\n{time}\n{body}", request.method, request.path),
            [_, time, nonce, _] => {
                format!("HMAC-SHA256-V2\n{}\n{}\n{}\n{time}\n{nonce}\n{body}", request.method, request.path, request.query)
            }
            _ => panic!("{header}"),
        };
        assert!(known.contains(&covered), "signed by nobody: {covered}");
        assert_eq!(parts.last().map(|signature| signature.to_ascii_lowercase()), Some(mac(&covered)));
    });
    tally.has_seen_both("signatures");
}

#[test]
fn a_bearer_token_that_was_changed_is_none() {
    let tally = Tally::default();
    let signing = SigningKey::generate().unwrap();
    let (issuer, verifier) = (TokenIssuer::new(&signing).unwrap(), TokenVerifier::new(&signing).unwrap());
    let id = |n: u8| Ulid::from_bytes([n; 16]);
    let token = |role, store: Option<StoreId>| {
        let (subject, lifetime) = ("ann".to_owned(), Duration::minutes(10));
        let merchant = Some(MerchantId(id(2)));
        let request = TokenRequest { subject, role, psp: PspId(id(1)), merchant, store, device: None, lifetime };
        issuer.issue(request, id(9), now()).unwrap()
    };
    let tokens = [token(Role::Cashier, Some(StoreId(id(3)))), token(Role::MerchantAdmin, None)];
    // Everything about it is right but the signature: nobody's, and that of another key.
    let stranger = TokenIssuer::new(&SigningKey::generate().unwrap()).unwrap();
    let request = TokenRequest {
        subject: "eve".to_owned(),
        role: Role::PlatformAdmin,
        psp: PspId(id(1)),
        merchant: None,
        store: None,
        device: None,
        lifetime: Duration::minutes(10),
    };
    let forged = stranger.issue(request, id(8), now()).unwrap();
    let samples = tokens.iter().chain([&forged]).map(|token| token.clone().into_bytes()).collect();
    fuzz!(1_500, Samples::these(samples), |input| {
        let Some(text) = input.text() else { return tally.refused() };
        match verifier.verify(text, now()) {
            Ok(_) => {
                tally.accepted();
                assert!(tokens.iter().any(|token| token == text), "believed: {text}");
                assert!(verifier.verify(text, now() + Duration::minutes(11)).is_err());
            }
            Err(_) => tally.refused(),
        }
    });
    tally.has_seen_both("bearer tokens");
}

#[test]
fn a_payment_token_that_was_changed_opens_nothing() {
    let tally = Tally::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let pool = sqlx::PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
    let ring = Keyring::new(pool, MasterKey::new(zeroed_but_for(7)), Arc::new(SystemRandom));
    let (tenant, intents) = (MerchantId(Ulid::from_bytes([1; 16])), [2_u8, 3].map(|n| PaymentIntentId(Ulid::from_bytes([n; 16]))));
    let tokens = intents.map(|intent| payment_token(&ring, tenant, intent, now()));
    let samples = tokens.iter().map(|token| token.clone().into_bytes()).collect();
    fuzz!(1_500, Samples::these(samples), |input| {
        let Some(text) = input.text() else { return tally.refused() };
        for (intent, token) in intents.iter().zip(&tokens) {
            match verify(&ring, text, *intent, now()) {
                Some((merchant, _)) => {
                    tally.accepted();
                    assert!(merchant == tenant && text.eq_ignore_ascii_case(token), "opened: {text}");
                }
                None => tally.refused(),
            }
        }
    });
    tally.has_seen_both("payment tokens");
}

/// Key material of a test.
fn zeroed_but_for(first: u8) -> zeroize::Zeroizing<[u8; 32]> {
    let mut key = zeroize::Zeroizing::new([0; 32]);
    key[0] = first;
    key
}
