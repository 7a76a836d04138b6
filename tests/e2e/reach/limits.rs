//! How much one merchant may have, and may keep others from.

use std::{collections::BTreeMap, time::Duration};

use api::platform::ProcessRole;
use chrono::{DateTime, Utc};
use commands::{database::Role, webhook_deliveries};
use domain::ids::{EventId, MerchantId, Ulid};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use support::TestPlatform;

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_has_at_most_fifty_credentials_in_force_and_sees_them_all() {
    let platform = TestPlatform::start().await;
    let (shop, other) = (platform.shop().await, platform.shop().await);
    let make = |label: usize| platform.post(&shop.admin, "/v1/api-keys", json!({"label": format!("till {label}"), "role": "cashier"}));
    let answers = join_all((0..56).map(make)).await;
    let made: Vec<String> = answers.iter().filter(|answer| answer.status.as_u16() == 201).map(support::Answered::id).collect();
    let full = answers.iter().filter(|answer| answer.status.as_u16() == 409).count();
    assert_eq!((made.len(), full), (50, 6));
    platform.send(&shop.admin, Method::POST, &format!("/v1/api-keys/{}/revoke", made[0]), None, None).await.ok();
    let next = make(56).await.id();
    assert_eq!(make(57).await.status.as_u16(), 409);
    platform.post(&other.admin, "/v1/api-keys", json!({"label": "till", "role": "cashier"})).await.ok();

    let (mut listed, mut cursor) = (Vec::<Value>::new(), String::new());
    loop {
        let page = platform.get(&shop.admin, &format!("/v1/api-keys?limit=20{cursor}")).await.ok().body;
        listed.extend(page["data"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let ids: Vec<&str> = listed.iter().map(|key| key["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[0]), (51, next.as_str()), "newest first, the revoked one among them");
    assert!(made.iter().all(|id| ids.contains(&id.as_str())));
    let times: Vec<DateTime<Utc>> = listed.iter().map(|key| key["created_at"].as_str().unwrap().parse().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    assert_eq!(platform.get(&shop.admin, "/v1/api-keys?cursor=x").await.body["code"], "CursorInvalid");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_has_at_most_sixteen_webhook_endpoints() {
    let platform = TestPlatform::start().await;
    let (shop, other) = (platform.shop().await, platform.shop().await);
    let input = json!({"url": "https://shop.example/hooks", "events": "bill.voided"});
    let make = || platform.post(&shop.admin, "/v1/webhook-endpoints", input.clone());
    let answers = join_all((0..24).map(|_| make())).await;
    let made: Vec<String> = answers.iter().filter(|answer| answer.status.as_u16() == 201).map(support::Answered::id).collect();
    let full = answers.iter().filter(|answer| answer.body["code"] == "TooManyWebhookEndpoints").count();
    assert_eq!((made.len(), full), (16, 8), "{:?}", answers.iter().map(|answer| answer.body["code"].clone()).collect::<Vec<_>>());
    platform.post(&other.admin, "/v1/webhook-endpoints", input.clone()).await.ok();
    platform.send(&shop.admin, Method::DELETE, &format!("/v1/webhook-endpoints/{}", made[3]), None, None).await.ok();
    make().await.ok();
    assert_eq!(make().await.status.as_u16(), 409);
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_with_many_slow_endpoints_leaves_deliveries_to_others() {
    let platform = TestPlatform::start_as(&[ProcessRole::Api], |_| {}).await;
    let tenant = |n: u8| MerchantId(Ulid::from_bytes([n; 16]));
    let waiting = async |merchant: u8, endpoint: u8, deliveries: u8| {
        let (owner, endpoint) = (Ulid::from_bytes([merchant; 16]), Ulid::from_bytes([endpoint; 16]));
        let cursor = "insert into process.webhook_cursor (endpoint, tenant, pos, resends_pos) values ($1, $2, 0, 0)";
        let uuid = |id: Ulid| uuid::Uuid::from_bytes(id.to_bytes());
        sqlx::query(cursor).bind(uuid(endpoint)).bind(uuid(owner)).execute(&platform.database.admin).await.unwrap();
        for n in 0..deliveries {
            let delivery = "insert into process.webhook_delivery (endpoint, event, tenant, pos, event_type, due_at) \
                            values ($1, $2, $3, $4, 'bill.paid', now() - interval '1 hour' + $4 * interval '1 second')";
            let event = EventId(Ulid::from_bytes([n; 16])).to_string();
            let query = sqlx::query(delivery).bind(uuid(endpoint)).bind(event).bind(uuid(owner)).bind(i64::from(n));
            query.execute(&platform.database.admin).await.unwrap();
        }
    };
    for endpoint in 0..10 {
        waiting(1, endpoint, 20).await;
    }
    waiting(2, 100, 20).await;
    // One moment for all, since a lease of the first may be over before a busy machine comes to the last.
    let now = platform.now();
    let worker = platform.database.pool(Role::Worker);
    let lease = async |most: i64| {
        let leased = webhook_deliveries::lease(&worker, now, most).await.unwrap();
        let mut by_merchant = BTreeMap::<MerchantId, usize>::new();
        for one in leased {
            *by_merchant.entry(one.tenant).or_default() += 1;
        }
        by_merchant
    };
    assert_eq!(lease(4).await, BTreeMap::from([(tenant(1), 2), (tenant(2), 2)]), "with little room each gets of it");
    assert_eq!(lease(256).await, BTreeMap::from([(tenant(1), 30), (tenant(2), 6)]), "32 under way of a merchant, 8 of an endpoint");
    assert_eq!(lease(256).await, BTreeMap::new(), "those are still under way");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_come_is_not_waited_for() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    platform.settled().await;
    let head = platform.database.head().await.pos;
    for position in [head + 1_000, i64::MAX] {
        let mut quickest = Duration::MAX;
        for _ in 0..3 {
            let started = std::time::Instant::now();
            let early = platform.get(&shop.cashier, &format!("/v1/orders?min_pos={position}")).await;
            quickest = quickest.min(started.elapsed());
            assert_eq!((early.status.as_u16(), &early.body["code"]), (400, &json!("MomentNotCome")), "{early:?}");
        }
        assert!(quickest < Duration::from_secs(1), "{quickest:?}");
    }
    let input = json!({"url": "https://shop.example/hooks", "events": "bill.voided"});
    let endpoint = platform.post(&shop.admin, "/v1/webhook-endpoints", input).await.id();
    for range in [json!({"after": 5, "until": 5}), json!({"after": 5, "until": 4})] {
        let refused = platform.post(&shop.admin, &format!("/v1/webhook-endpoints/{endpoint}/resend"), range).await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (400, &json!("BodyInvalid")), "{refused:?}");
    }
    platform.stop().await;
}
