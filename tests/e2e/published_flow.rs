//! The published flow as it is published: what a partner's server signs, what its page does with the payment token.

use gateway::promptpay::{ParsedQr, Target};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Answered, ApiShop, PATIENCE, TestPlatform, eventually, order_body, patiently_answered as answered};

use crate::{
    cards::{CardShop, OMISE, thb},
    door_signatures::{Service, now},
};

const COLLECTION: &str = "/v1/payment_intents";

/// A partner's server.
struct Partner<'a> {
    platform: &'a TestPlatform,
    service: Service,
}

impl<'a> Partner<'a> {
    async fn new(platform: &'a TestPlatform, shop: &ApiShop) -> Self {
        Self { platform, service: Service::new(platform, shop, false).await }
    }

    /// Asks under a signature of the published form.
    async fn ask(&self, method: Method, path: &str, key: Option<&str>, body: Option<&Value>) -> Answered {
        let text = body.map(Value::to_string).unwrap_or_default();
        let signed = self.service.published(method.as_str(), path, now(), &text);
        let mut request = self.platform.raw(method, path).header("Authorization", signed);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if body.is_some() {
            request = request.header("Content-Type", "application/json").body(text);
        }
        answered(request).await
    }

    /// Creates an intent without a key, which the published example has none of.
    async fn create(&self, body: &Value) -> Answered {
        self.ask(Method::POST, COLLECTION, None, Some(body)).await
    }
}

/// What the bank calls the payment behind a QR.
fn reference_in(qr: &Value) -> String {
    let payload = qr.as_str().unwrap_or_else(|| panic!("no QR: {qr}"));
    let Target::Bill { reference1, .. } = ParsedQr::parse(payload).expect("a QR").target else { panic!("{payload} is no bill payment") };
    reference1
}

fn code(answer: &Answered) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_paid_and_given_back_in_the_published_flow() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let partner = Partner::new(&platform, &shop).await;
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 120_00)).await.id();
    let bill = platform.post(&shop.cashier, "/v1/bills", json!({"order_id": order})).await.ok();
    let total = bill.body["due"].clone();
    let body = json!({"amount": total["amount"], "currency": "THB", "order_id": order, "payment_method_type": "qr_mpm",
        "processing_mode": "pgw_processed", "merchant_ref_id": "ใบ 7", "merchant_store_id": shop.store, "merchant_terminal_id": "T-1",
        "description": "Lunch", "expires_in_minutes": 30});

    let made = partner.create(&body).await.ok();
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!((&made.body["amount"], &made.body["currency"]), (&total["amount"], &json!("THB")));
    assert_eq!((&made.body["order_id"], &made.body["bill_id"]), (&json!(order), &bill.body["id"]), "the bill of the order is paid");
    assert_eq!((&made.body["merchant_ref_id"], &made.body["payment_method_types"]), (&json!("ใบ 7"), &json!(["qr_mpm"])));
    let token = made.body["payment_token"].as_str().expect("a token").to_owned();
    let repeat = partner.create(&body).await.ok();
    assert_eq!((repeat.id(), repeat.header("idempotency-replayed")), (made.id(), "true"), "sent again it is not made again");
    let mut other = body.clone();
    other["description"] = json!("Dinner");
    assert_eq!(code(&partner.create(&other).await), (422, "IdempotencyKeyReused"), "a reference is used once");

    // The page has the token and nothing else.
    let path = format!("{COLLECTION}/{}", made.id());
    let confirm = json!({"payment_token": token});
    let ask = async || answered(platform.raw(Method::POST, &format!("{path}/confirm")).json(&confirm)).await.ok().body;
    let mut confirmed = ask().await;
    while confirmed["status"] == "processing" {
        confirmed = ask().await; // not within its five seconds, on a machine with much to do
    }
    assert_eq!(confirmed["status"], "requires_action", "{confirmed}");
    let poll = async || answered(platform.raw(Method::GET, &format!("{path}?payment_token={token}"))).await.ok().body;
    let waiting = eventually("the page is shown the code", PATIENCE, || async {
        let shown = poll().await;
        (shown["status"] == "requires_action").then_some(shown)
    })
    .await;
    assert_eq!(waiting["qr_content"], confirmed["qr_content"]);

    let canonical = path.replace("payment_intents", "payment-intents");
    platform.pay(&reference_in(&confirmed["qr_content"]), json!({})).await;
    platform.get_until(&shop.cashier, &canonical, |intent| intent["status"] == "succeeded").await;
    assert_eq!(poll().await["status"], "succeeded", "as the page sees it");
    platform.get_until(&shop.cashier, &format!("/v1/orders/{order}"), |order| order["status"] == "completed").await;

    let synced = partner.ask(Method::POST, &format!("{path}/sync"), None, None).await.ok().body;
    assert_eq!((&synced["status"], &synced["amount"]), (&json!("succeeded"), &total["amount"]));
    let late = json!({"amount": 1_00});
    assert_eq!(partner.ask(Method::POST, &format!("{path}/capture"), Some("c"), Some(&late)).await.body["code"], "NothingToCapture");
    let listed = partner.ask(Method::GET, COLLECTION, None, None).await.ok().body;
    assert_eq!((&listed["data"][0]["id"], &listed["data"][0]["merchant_ref_id"]), (&json!(made.id()), &json!("ใบ 7")), "{listed}");

    let payment = format!("/v1/payments/{}", made.body["payment_id"].as_str().expect("a payment"));
    let back = json!({"reason": "cold"});
    partner.ask(Method::POST, &format!("{payment}/refund"), Some("r"), Some(&back)).await.ok();
    platform.get_until(&shop.cashier, &canonical, |intent| intent["refunded"] == total).await;
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_published_form_cannot_mean_here_is_refused_by_its_name() {
    let platform = TestPlatform::start().await;
    let (shop, other) = (platform.shop().await, platform.shop().await);
    let partner = Partner::new(&platform, &shop).await;
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 120_00)).await.id();
    let asked = |reference: &str, more: Value| {
        let mut body = json!({"amount": 120_00, "currency": "THB", "payment_method_types": ["qr_mpm"], "merchant_ref_id": reference});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let head = platform.database.head().await.pos;
    for (n, (more, wanted, words)) in [
        (json!({"order_id": order}), (422, "OrderNotBilled"), "no bill"),
        (json!({"order_id": order, "merchant_store_id": other.store}), (404, "OrderNotFound"), ""),
        (json!({"order_id": "ord_01HZY3T5V6W7X8Y9Z0A1B2C3D4"}), (404, "OrderNotFound"), ""),
        (json!({"merchant_store_id": shop.store, "processing_mode": "external"}), (422, "RuleBroken"), "/v1/payments"),
        (json!({"merchant_store_id": shop.store, "processing_mode": "manual"}), (422, "RuleBroken"), "pgw_processed"),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = partner.create(&asked(&format!("R-{n}"), more.clone())).await;
        assert_eq!(code(&refused), wanted, "{more}");
        assert!(refused.body["detail"].as_str().unwrap().contains(words), "{refused:?}");
    }
    let nameless = json!({"amount": 120_00, "currency": "THB", "payment_method_types": ["qr_mpm"], "merchant_store_id": shop.store});
    assert_eq!(code(&partner.create(&nameless).await), (400, "IdempotencyKeyMissing"), "nothing tells a repeat of it");
    assert_eq!(platform.database.head().await.pos, head, "nothing was done");

    // An intent that is not paid is cancelled by the page.
    let made = partner.create(&asked("R-9", json!({"merchant_store_id": shop.store}))).await.ok();
    let path = format!("{COLLECTION}/{}", made.id());
    let cancel = platform.raw(Method::POST, &format!("{path}/cancel")).json(&json!({"payment_token": made.body["payment_token"]}));
    answered(cancel).await.ok();
    platform.get_until(&shop.cashier, &path, |intent| intent["status"] == "cancelled").await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_captured_in_the_published_form_by_a_number() {
    let till = CardShop::open(&OMISE).await;
    let partner = Partner::new(&till.platform, &till.shop).await;
    let body = json!({"amount": 100_00, "currency": "THB", "payment_method_types": ["credit_card"], "merchant_ref_id": "CARD-1",
        "merchant_store_id": till.shop.store, "processing_mode": "pgw_processed", "card_token": OMISE.good, "capture_method": "manual",
        "return_url": "https://shop.example/back"});
    let path = format!("{COLLECTION}/{}", partner.create(&body).await.ok().id());
    let canonical = path.replace("payment_intents", "payment-intents");
    till.becomes(&canonical, "requires_capture").await;
    let capture = format!("{path}/capture");
    let baht = |amount: i64, currency: &str| json!({"amount": amount, "currency": currency});
    let foreign = partner.ask(Method::POST, &capture, Some("foreign"), Some(&baht(60_00, "USD"))).await;
    assert_eq!(foreign.status, 422, "{foreign:?}");
    partner.ask(Method::POST, &capture, Some("part"), Some(&json!({"amount": 60_00}))).await.ok();
    assert_eq!(till.becomes(&canonical, "succeeded").await["captured"], thb(60_00));
    till.closes().await;
}
