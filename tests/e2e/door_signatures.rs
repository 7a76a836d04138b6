//! Services that sign their requests, over HTTP: what is believed, and what is not.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use api::auth::Role;
use commands::system::SystemClock;
use domain::clock::Clock as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::{Answered, ApiShop, PATIENCE, ShiftedClock, TestPlatform, answered, eventually, patiently_answered};

/// A client as a partner would write it, from the published description alone.
pub struct Service {
    key_id: String,
    key: String,
}

impl Service {
    pub async fn new(platform: &TestPlatform, shop: &ApiShop, nonce_only: bool) -> Self {
        let admin = platform.token(Role::MerchantAdmin, Some(shop.merchant), None);
        let made =
            platform.post(&admin, "/v1/api-keys", json!({"label": "till server", "role": "manager", "nonce_only": nonce_only})).await.ok();
        assert_eq!(made.status.as_u16(), 201);
        let secret = made.body["secret"].as_str().unwrap();
        Self { key_id: made.id(), key: hex::encode(Sha256::digest(secret)) }
    }

    fn sign(&self, message: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_bytes()).unwrap();
        mac.update(message.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }

    pub fn published(&self, method: &str, path: &str, time: i64, body: &str) -> String {
        let signature = self.sign(&format!("{method}\n{path}\n{time}\n{}", hex::encode(Sha256::digest(body))));
        format!("HMAC-SHA256 {}:{time}:{signature}", self.key_id)
    }

    fn with_nonce(&self, method: &str, path: &str, query: &str, time: i64, nonce: &str, body: &str) -> String {
        let body = hex::encode(Sha256::digest(body));
        let signature = self.sign(&format!("HMAC-SHA256-V2\n{method}\n{path}\n{query}\n{time}\n{nonce}\n{body}"));
        format!("HMAC-SHA256-V2 {}:{time}:{nonce}:{signature}", self.key_id)
    }
}

pub fn now() -> i64 {
    SystemClock.now().timestamp()
}

fn nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("nonce-{:016}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn request(platform: &TestPlatform, method: Method, target: &str, authorization: &str, body: &str) -> reqwest::RequestBuilder {
    let request = platform.raw(method, target).header("Authorization", authorization);
    if body.is_empty() {
        return request;
    }
    request.header("Content-Type", "application/json").header("Idempotency-Key", nonce()).body(body.to_owned())
}

/// What a busy machine could not do in time is asked again, which uses up a nonce only once.
async fn send(platform: &TestPlatform, method: Method, target: &str, authorization: &str, body: &str) -> Answered {
    patiently_answered(request(platform, method, target, authorization, body)).await
}

/// A GET, asked once: of one that was not answered in time nobody knows whether it used up its nonce.
async fn get_once(platform: &TestPlatform, target: &str, authorization: &str) -> Option<Answered> {
    let answer = answered(request(platform, Method::GET, target, authorization, "")).await;
    (!answer.may_be_repeated()).then_some(answer)
}

fn order(shop: &ApiShop) -> String {
    support::order_body(shop, 45_00).to_string()
}

fn code(answer: &Answered) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_acts_for_its_merchant_and_in_its_own_name() {
    let platform = TestPlatform::start().await;
    let (shop, other) = (platform.shop().await, platform.shop().await);
    let service = Service::new(&platform, &shop, false).await;
    let body = order(&shop);
    let made = send(&platform, Method::POST, "/v1/orders", &service.published("POST", "/v1/orders", now(), &body), &body).await.ok();
    let actor: String =
        sqlx::query_scalar("select actor from log.event order by pos desc limit 1").fetch_one(&platform.database.admin).await.unwrap();
    assert_eq!(actor, format!("service:{}", service.key_id));
    // Aliases are signed as they are sent.
    let path = format!("/api/v1/orders/{}", made.id());
    platform.settled().await;
    send(&platform, Method::GET, &path, &service.published("GET", &path, now(), ""), "").await.ok();
    // Scope comes from the credential and from nothing else.
    let foreign = order(&other);
    let refused = send(&platform, Method::POST, "/v1/orders", &service.published("POST", "/v1/orders", now(), &foreign), &foreign).await;
    assert_eq!(code(&refused), (404, "StoreNotFound"));
    let mint = r#"{"label":"x","role":"merchant_admin"}"#;
    let refused = send(&platform, Method::POST, "/v1/api-keys", &service.published("POST", "/v1/api-keys", now(), mint), mint).await;
    assert_eq!(code(&refused), (403, "Forbidden"), "a credential makes no others");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_signed_request_is_believed() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let service = Service::new(&platform, &shop, false).await;
    let body = order(&shop);
    let head = platform.database.head().await.pos;
    let (invalid, stale) = ((401, "SignatureInvalid"), (401, "SignatureStale"));
    let altered = body.replace("4500", "4501");
    assert_ne!(altered, body);
    let good = |time: i64| service.published("POST", "/v1/orders", time, &body);
    let wrong_key = Service { key_id: service.key_id.clone(), key: hex::encode(Sha256::digest("sk_another")) };
    let nobody = Service { key_id: "pk_00000000000000000000000000".to_owned(), key: service.key.clone() };
    let replays = [
        (send(&platform, Method::POST, "/v1/orders", &good(now()), &altered).await, invalid, "another body"),
        (send(&platform, Method::POST, "/v1/bills", &good(now()), &body).await, invalid, "another path"),
        (send(&platform, Method::POST, "/orders", &good(now()), &body).await, invalid, "another spelling of the path"),
        (send(&platform, Method::PUT, "/v1/orders", &good(now()), &body).await, invalid, "another method"),
        (
            send(&platform, Method::POST, "/v1/orders", &wrong_key.published("POST", "/v1/orders", now(), &body), &body).await,
            invalid,
            "another key",
        ),
        (
            send(&platform, Method::POST, "/v1/orders", &nobody.published("POST", "/v1/orders", now(), &body), &body).await,
            invalid,
            "an unknown key",
        ),
        (send(&platform, Method::POST, "/v1/orders", &good(now() - 310), &body).await, stale, "too old"),
        (send(&platform, Method::POST, "/v1/orders", &good(now() + 310), &body).await, stale, "too new"),
        (send(&platform, Method::POST, "/v1/orders", "HMAC-SHA256 pk_1", &body).await, (401, "Unauthenticated"), "no signature"),
    ];
    for (answer, wanted, what) in &replays {
        assert_eq!(code(answer), *wanted, "{what}");
    }
    // A stranger cannot tell an unknown key from a wrong one.
    assert_eq!(replays[4].0.body["detail"], replays[5].0.body["detail"]);
    assert_eq!(platform.database.head().await.pos, head, "nothing was done");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_is_good_once_in_every_process_and_after_a_restart() {
    let platform = TestPlatform::start().await;
    let (shop, (second, second_base)) = (platform.shop().await, platform.second_edge().await);
    let service = Service::new(&platform, &shop, true).await;
    let header = eventually("a nonce is used", PATIENCE, || async {
        let header = service.with_nonce("GET", "/v1/orders", "limit=5", now(), &nonce(), "");
        // Not used up by a request that was not believed.
        let unbelieved = send(&platform, Method::GET, "/v1/orders?limit=50", &header, "").await;
        assert_eq!(code(&unbelieved), (401, "SignatureInvalid"), "another query");
        get_once(&platform, "/v1/orders?limit=5", &header).await.map(|answer| {
            answer.ok();
            header
        })
    })
    .await;
    let replayed = (401, "SignatureReplayed");
    assert_eq!(code(&send(&platform, Method::GET, "/v1/orders?limit=5", &header, "").await), replayed);
    let elsewhere = reqwest::Client::new().get(format!("{second_base}/v1/orders?limit=5")).header("Authorization", &header);
    assert_eq!(code(&patiently_answered(elsewhere).await), replayed);
    second.stop().await;
    let (third, third_base) = platform.second_edge().await;
    let later = reqwest::Client::new().get(format!("{third_base}/v1/orders?limit=5")).header("Authorization", &header);
    assert_eq!(code(&patiently_answered(later).await), replayed, "after a restart");
    // Sent sixteen times at once, it acts once.
    eventually("all sixteen are answered in time", PATIENCE, || async {
        let header = service.with_nonce("GET", "/v1/orders", "", now(), &nonce(), "");
        let asked = (0..16).map(|_| get_once(&platform, "/v1/orders", &header));
        let answers = futures_util::future::join_all(asked).await;
        let acted = answers.iter().flatten().filter(|answer| answer.status.is_success()).count();
        assert!(acted <= 1, "{answers:?}");
        // The one that acted may be among those that were not answered in time.
        answers.iter().all(Option::is_some).then(|| assert_eq!(acted, 1, "{answers:?}"))
    })
    .await;
    // This credential was made for requests that cannot be sent twice.
    assert_eq!(
        code(&send(&platform, Method::GET, "/v1/orders", &service.published("GET", "/v1/orders", now(), ""), "").await),
        (401, "SignatureInvalid")
    );
    third.stop().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_shown_once_stored_sealed_and_gone_when_revoked() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let admin = platform.token(Role::MerchantAdmin, Some(shop.merchant), None);
    let wanted = json!({"label": "ERP", "role": "auditor"});
    let made = platform.send(&admin, Method::POST, "/v1/api-keys", Some("one"), Some(&wanted)).await.ok();
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    let again = platform.send(&admin, Method::POST, "/v1/api-keys", Some("one"), Some(&wanted)).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (409, "true"));
    assert!(!String::from_utf8_lossy(&again.bytes).contains(&secret));
    let listed = platform.get(&admin, "/v1/api-keys").await.ok();
    assert_eq!(listed.body["data"].as_array().unwrap().len(), 1);
    assert!(!String::from_utf8_lossy(&listed.bytes).contains("sk_"));
    assert_eq!(platform.get(&shop.manager, "/v1/api-keys").await.status.as_u16(), 403);
    let key = hex::encode(Sha256::digest(&secret));
    let stored: Vec<u8> = sqlx::query_scalar("select secret from partner.credential").fetch_one(&platform.database.admin).await.unwrap();
    assert!(!contains(&stored, key.as_bytes()) && !contains(&stored, secret.as_bytes()) && !contains(&stored, &hex::decode(&key).unwrap()));

    let service = Service { key_id: made.id(), key };
    let read = || async { send(&platform, Method::GET, "/v1/orders", &service.published("GET", "/v1/orders", now(), ""), "").await };
    read().await.ok();
    let elsewhere = platform.shop().await;
    let stranger = platform.token(Role::MerchantAdmin, Some(elsewhere.merchant), None);
    let path = format!("/v1/api-keys/{}/revoke", service.key_id);
    assert_eq!(platform.send(&stranger, Method::POST, &path, None, None).await.status.as_u16(), 404);
    read().await.ok();
    let revoked = platform.send(&admin, Method::POST, &path, None, None).await.ok();
    assert!(revoked.body["revoked_at"].is_string());
    assert_eq!(code(&read().await), (401, "SignatureInvalid"));
    let left: Option<Vec<u8>> =
        sqlx::query_scalar("select secret from partner.credential").fetch_one(&platform.database.admin).await.unwrap();
    assert_eq!(left, None, "the secret is destroyed");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_secret_is_rotated_both_sign_and_then_only_the_new_one() {
    let clock = Arc::new(ShiftedClock::default());
    let platform = TestPlatform::start_by(clock.clone(), |_| {}).await;
    let shop = platform.shop().await;
    let token = || platform.token(Role::MerchantAdmin, Some(shop.merchant), None);
    let old = Service::new(&platform, &shop, false).await;
    let path = format!("/v1/api-keys/{}/rotate-secret", old.key_id);
    let rotate = async |key: &'static str, body: Value| platform.send(&token(), Method::POST, &path, Some(key), Some(&body)).await;
    let answers = async |service: &Service| {
        let time = clock.now().timestamp();
        send(&platform, Method::GET, "/v1/orders", &service.published("GET", "/v1/orders", time, ""), "").await.status.as_u16()
    };
    let elsewhere = platform.shop().await;
    let stranger = platform.token(Role::MerchantAdmin, Some(elsewhere.merchant), None);
    assert_eq!(platform.send(&stranger, Method::POST, &path, None, None).await.status.as_u16(), 404);

    let rotated = rotate("one", json!({})).await.ok();
    let after = |rotated: &Answered| Service {
        key_id: old.key_id.clone(),
        key: hex::encode(Sha256::digest(rotated.body["secret"].as_str().unwrap())),
    };
    let new = after(&rotated);
    assert_eq!((answers(&old).await, answers(&new).await), (200, 200), "both sign");
    let again = rotate("one", json!({})).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (409, "true"));
    assert_eq!(rotate("two", json!({})).await.status.as_u16(), 409, "one rotation at a time");
    let listed = platform.get(&token(), "/v1/api-keys").await.ok();
    assert_eq!(listed.body["data"][0]["previous_secret_until"], rotated.body["previous_secret_until"]);
    assert!(rotated.body["previous_secret_until"].is_string() && !String::from_utf8_lossy(&listed.bytes).contains("sk_"));

    clock.advance(chrono::Duration::hours(24) + chrono::Duration::seconds(1));
    assert_eq!((answers(&old).await, answers(&new).await), (401, 200), "the old one has ended");
    let third = after(&rotate("three", json!({"keep_previous": false})).await.ok());
    assert_eq!((answers(&new).await, answers(&third).await), (401, 200), "a secret in wrong hands ends at once");
    let fourth = after(&rotate("four", json!({})).await.ok());
    assert_eq!((answers(&third).await, answers(&fourth).await), (200, 200));
    platform.send(&token(), Method::POST, &format!("/v1/api-keys/{}/revoke", old.key_id), None, None).await.ok();
    assert_eq!((answers(&third).await, answers(&fourth).await), (401, 401), "both have ended");
    assert_eq!(rotate("five", json!({})).await.status.as_u16(), 409);
    let left: i64 = sqlx::query_scalar("select num_nonnulls(secret, previous_secret)::bigint from partner.credential")
        .fetch_one(&platform.database.admin)
        .await
        .unwrap();
    assert_eq!(left, 0, "the secrets are destroyed");
    platform.stop().await;
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test(flavor = "multi_thread")]
async fn nonces_that_nobody_can_use_any_more_are_swept_up() {
    let platform = TestPlatform::start().await;
    let pool = &platform.database.admin;
    let (then, later) = (SystemClock.now(), SystemClock.now() + chrono::Duration::hours(1));
    for n in 0..40 {
        assert!(commands::partner::take_nonce(pool, "pk", &format!("old {n}"), then, then).await.unwrap());
    }
    for n in 0..20 {
        assert!(commands::partner::take_nonce(pool, "pk", &format!("new {n}"), later + chrono::Duration::hours(1), later).await.unwrap());
    }
    let left: i64 = sqlx::query_scalar("select count(*) from partner.nonce").fetch_one(pool).await.unwrap();
    assert_eq!(left, 20);
    platform.stop().await;
}
