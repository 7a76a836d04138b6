//! How far a caller reaches: of one store or of the whole merchant, as what role, and by which way it asks.

mod limits;
mod payers;

use std::collections::BTreeSet;

use api::{auth::Role, simulated_provider::settings};
use commands::handle::{Caller, UnitOfWork};
use domain::{
    ids::{BillId, PaymentIntentId},
    money::Money,
    payment_intent::{self, Created, PaymentIntent, Tender},
};
use futures_util::{FutureExt as _, SinkExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use support::{ApiShop, TestPlatform};
use tokio_tungstenite::tungstenite::Message;

use crate::flow::{Socket, next_frame, next_of, socket};

fn thb(amount: i64) -> Value {
    json!({"amount": amount, "currency": "THB"})
}

/// A bill paid in cash; answers payment intent and bill.
async fn sale(platform: &TestPlatform, shop: &ApiShop) -> (String, String) {
    let (_, bill) = platform.billed(shop, 100_00).await;
    let paid = platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.ok();
    (paid.body["payment_intent_id"].as_str().unwrap().to_owned(), bill)
}

async fn subscribe(socket: &mut Socket, topic: &str) -> Value {
    socket.send(Message::Text(json!({"action": "subscribe", "topic": topic, "after": 0}).to_string().into())).await.unwrap();
    next_frame(socket).await
}

/// The kinds of things of which frames came on a topic, until one of type `last`.
async fn kinds_until(socket: &mut Socket, topic: &str, last: &str) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    loop {
        let frame = next_of(socket, topic, 0).await;
        let name = frame["type"].as_str().unwrap().to_owned();
        kinds.insert(name.split('.').next().unwrap().to_owned());
        if name == last {
            return kinds;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_limited_to_a_store_does_not_reach_what_belongs_to_the_whole_merchant() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let limited = platform.token(Role::MerchantAdmin, Some(shop.merchant), Some(shop.store));
    let input = json!({"url": "https://shop.example/hooks", "events": "*"});
    let endpoint = platform.post(&shop.admin, "/v1/webhook-endpoints", input.clone()).await.id();
    platform.settled().await;
    let path = format!("/v1/webhook-endpoints/{endpoint}");
    let head = platform.database.head().await.pos;
    let asked = [
        (Method::POST, "/v1/webhook-endpoints".to_owned(), Some(input.clone())),
        (Method::GET, "/v1/webhook-endpoints".to_owned(), None),
        (Method::GET, path.clone(), None),
        (Method::PATCH, path.clone(), Some(input)),
        (Method::DELETE, path.clone(), None),
        (Method::POST, format!("{path}/rotate-secret"), None),
        (Method::GET, format!("{path}/deliveries"), None),
        (Method::POST, format!("{path}/resend"), Some(json!({"after": 0}))),
        (Method::POST, format!("{path}/test"), None),
        (Method::POST, format!("{path}/disable"), None),
        (Method::GET, "/v1/inbound-webhooks".to_owned(), None),
        (Method::PATCH, format!("/v1/merchants/{}", shop.merchant), Some(json!({"name": "Mine"}))),
    ];
    for (method, path, body) in asked {
        let refused = platform.send(&limited, method.clone(), &path, None, body.as_ref()).await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (403, &json!("Forbidden")), "{method} {path}: {refused:?}");
    }
    assert_eq!(platform.database.head().await.pos, head, "nothing was done");
    // What may belong to one store is not refused as a whole.
    platform.get(&limited, "/v1/provider-accounts").await.ok();
    platform.get(&limited, "/v1/api-keys").await.ok();
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_tells_each_of_what_it_may_read() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let second = platform.shop_of(shop.merchant, "ARI").await;
    platform.post(&shop.admin, "/v1/webhook-endpoints", json!({"url": "https://shop.example/hooks", "events": "bill.voided"})).await.ok();
    let (_, bill) = sale(&platform, &shop).await;
    let (_, other_bill) = sale(&platform, &second).await;
    platform.settled().await;
    let feed = async |token: &str| {
        let page = platform.get(token, "/v1/events?limit=200").await.ok().body;
        page["data"].as_array().unwrap().clone()
    };
    let objects = |events: &[Value]| events.iter().map(|event| event["object"]["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    let all = feed(&shop.admin).await;
    let of_endpoint =
        all.iter().find(|event| event["type"] == "webhook_endpoint.created").expect("those who manage endpoints hear of them");
    let whole = objects(&all);
    assert!(whole.contains(&bill) && whole.contains(&other_bill));

    let (manager, auditor) =
        (platform.token(Role::Manager, Some(shop.merchant), None), platform.token(Role::Auditor, Some(shop.merchant), None));
    let by_id = format!("/v1/events/{}", of_endpoint["id"].as_str().unwrap());
    for token in [&manager, &auditor] {
        let seen = feed(token).await;
        assert_eq!(seen.len(), all.len() - 1, "all but what happened to the endpoint");
        assert!(seen.iter().all(|event| event["object"]["type"] != "webhook_endpoint"));
        assert_eq!(platform.get(token, &by_id).await.status.as_u16(), 404);
    }
    platform.get(&shop.admin, &by_id).await.ok();

    let limited = platform.token(Role::MerchantAdmin, Some(shop.merchant), Some(shop.store));
    for token in [&shop.manager, &limited] {
        let seen = objects(&feed(token).await);
        assert!(seen.contains(&bill) && !seen.contains(&other_bill), "{seen:?}");
        assert!(seen.iter().all(|id| !id.starts_with("whe_")), "{seen:?}");
        assert_eq!(platform.get(token, &by_id).await.status.as_u16(), 404);
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_tells_each_of_what_it_may_read() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let customer = platform.post(&shop.cashier, "/v1/customers", json!({"profile": {"name": "Ann"}})).await.id();
    let scb = settings(&platform.simulator);
    let opened = json!({"provider": "scb", "name": "SCB", "live": false, "methods": [{"method": "promptpay"}],
        "amounts": [{"currency": "THB", "min": 1, "max": 100_000_00}],
        "settings": {"base_url": platform.simulator, "biller_id": scb.biller_id},
        "secrets": {"api_key": scb.api_key.reveal(), "api_secret": scb.api_secret.reveal(), "webhook_path_secret": "sixteen characters"}});
    let account = platform.post(&shop.admin, "/v1/provider-accounts", opened).await.id();
    platform.post(&shop.admin, "/v1/webhook-endpoints", json!({"url": "https://shop.example/hooks", "events": "bill.voided"})).await.ok();
    let (_, bill) = sale(&platform, &shop).await;
    let everything = format!("merchant.{}", shop.merchant);

    let role = |role: Role| platform.token(role, Some(shop.merchant), None);
    let mut till = socket(&platform, &role(Role::Cashier)).await;
    assert_eq!(subscribe(&mut till, &format!("provider_account.{account}")).await["code"], "NotFound");
    assert_eq!(subscribe(&mut till, &everything).await["type"], "subscribed");
    let kinds = kinds_until(&mut till, &everything, "order.completed").await;
    let expected = ["store", "order", "bill", "payment_intent", "customer"];
    assert_eq!(kinds, expected.map(str::to_owned).into(), "of what a till may read");

    let mut audit = socket(&platform, &role(Role::Auditor)).await;
    assert_eq!(subscribe(&mut audit, &format!("customer.{customer}")).await["code"], "NotFound");
    assert_eq!(subscribe(&mut audit, &everything).await["type"], "subscribed");
    let kinds = kinds_until(&mut audit, &everything, "order.completed").await;
    let expected = ["merchant", "store", "provider_account", "order", "bill", "payment_intent"];
    assert_eq!(kinds, expected.map(str::to_owned).into(), "neither persons nor endpoints");

    let mut office = socket(&platform, &shop.admin).await;
    assert_eq!(subscribe(&mut office, &everything).await["type"], "subscribed");
    assert!(kinds_until(&mut office, &everything, "order.completed").await.contains("webhook_endpoint"));

    // Live as well, and a topic of one thing of one's own goes on as before.
    let of_bill = format!("bill.{bill}");
    assert_eq!(subscribe(&mut till, &of_bill).await["type"], "subscribed");
    kinds_until(&mut till, &of_bill, "bill.paid").await;
    platform.post(&shop.admin, "/v1/webhook-endpoints", json!({"url": "https://shop.example/more", "events": "bill.voided"})).await.ok();
    sale(&platform, &shop).await;
    assert!(!kinds_until(&mut till, &everything, "order.completed").await.contains("webhook_endpoint"));
    platform.stop().await;
}

/// An intent of one store under a bill of another, which no route makes.
async fn across_stores(unit: &mut UnitOfWork, created: Created) -> Result<commands::handle::Reply, commands::error::CommandError> {
    unit.concerns_store(created.store_id);
    let id = created.payment_intent_id;
    unit.decide::<PaymentIntent>(id, payment_intent::Command::Create(Box::new(created))).await?;
    Ok(unit.done())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_tells_a_caller_of_its_own_store() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let second = platform.shop_of(shop.merchant, "ARI").await;
    let (_, bill) = sale(&platform, &shop).await;
    let handler = &platform.platform.commands;
    let created = Created {
        payment_intent_id: PaymentIntentId(handler.ids().next()),
        store_id: second.store,
        bill_id: Some(bill.parse::<BillId>().unwrap()),
        order_id: None,
        amount: Money::thb(1_00),
        tender: Tender::PromptPay,
        expires_at: Some(platform.now() + chrono::Duration::minutes(15)),
        merchant_reference: None,
        description: None,
        merchant_terminal_id: None,
        terms: None,
    };
    let caller = Caller {
        tenant: shop.merchant,
        actor: "user:nobody".to_owned(),
        device: None,
        operation: None,
        correlation_id: handler.ids().next(),
        idempotency: None,
        if_match: None,
    };
    handler.transact(&caller, |unit| across_stores(unit, created.clone()).boxed()).await.unwrap();
    platform.settled().await;
    let path = format!("/v1/payment-intents/{}/explain", created.payment_intent_id);
    let streams = async |token: &str| {
        let lines = platform.get(token, &path).await.ok().body["data"].as_array().unwrap().clone();
        let events = lines.iter().filter(|line| line["kind"] == "event");
        events.map(|line| line["stream"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(streams(&second.cashier).await, BTreeSet::from([created.payment_intent_id.to_string()]), "its own and nothing else");
    let all = streams(&shop.admin).await;
    assert!(all.contains(&bill) && all.len() > 2, "{all:?}");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_reference_is_told_to_those_who_reach_its_store() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let second = platform.shop_of(shop.merchant, "ARI").await;
    let wanted = |at: &ApiShop| json!({"store_id": at.store, "amount": thb(10_00), "merchant_reference": "ORD-1", "confirm": false});
    let holder = platform.post(&shop.cashier, "/v1/payment-intents", wanted(&shop)).await.id();
    let taken = async |token: &str, body: Value| {
        let refused = platform.post(token, "/v1/payment-intents", body).await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (409, &json!("AlreadyTaken")), "{refused:?}");
        refused.body["detail"].as_str().unwrap().contains(&holder)
    };
    assert!(taken(&shop.cashier, wanted(&shop)).await, "in its own store");
    assert!(taken(&shop.admin, wanted(&second)).await, "whoever reaches both");
    assert!(!taken(&second.cashier, wanted(&second)).await, "of another store only that it is taken");
    let (_, bill) = platform.billed(&second, 20_00).await;
    let by_bill = json!({"bill_id": bill, "tender": "promptpay", "merchant_reference": "ORD-1"});
    let refused = platform.post(&second.cashier, "/v1/payments", by_bill).await;
    assert_eq!(refused.body["code"], "AlreadyTaken");
    assert!(!refused.body["detail"].as_str().unwrap().contains(&holder), "{refused:?}");
    platform.stop().await;
}
