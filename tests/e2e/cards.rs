//! Cards through HTTP against the simulators of Omise and Stripe: charged at once, refused, authenticated by the payer.

use std::time::Duration;

use api::simulated_provider::Simulated;
use serde_json::{Value, json};
use support::{ApiShop, ProviderAt, TestPlatform, eventually};

pub const OWED: i64 = 100_00;

/// Tokens of one provider's test cards.
pub struct Cards {
    pub provider: Simulated,
    pub good: &'static str,
    pub short_of_money: &'static str,
    pub asks_payer: &'static str,
    pub slow_refund: &'static str,
    pub refund_fails_later: &'static str,
}

pub const OMISE: Cards = Cards {
    provider: Simulated::Omise,
    good: "tokn_test_ok_1",
    short_of_money: "tokn_test_insufficient_fund_1",
    asks_payer: "tokn_test_threeds_1",
    slow_refund: "tokn_test_slowrefund_1",
    refund_fails_later: "tokn_test_badrefund_1",
};

pub const STRIPE: Cards = Cards {
    provider: Simulated::Stripe,
    good: "pm_card_visa",
    short_of_money: "pm_card_chargeDeclinedInsufficientFunds",
    asks_payer: "pm_card_authenticationRequired",
    slow_refund: "pm_card_pendingRefund",
    refund_fails_later: "pm_card_refundFail",
};

/// A shop that takes cards through one provider.
pub struct CardShop {
    pub platform: TestPlatform,
    pub shop: ApiShop,
    pub provider: ProviderAt,
}

pub fn thb(amount: i64) -> Value {
    json!({"amount": amount, "currency": "THB"})
}

impl CardShop {
    pub async fn open(cards: &Cards) -> Self {
        let platform = TestPlatform::start().await;
        let shop = platform.shop().await;
        let provider = platform.provider(&shop, cards.provider).await;
        Self { platform, shop, provider }
    }

    /// Begins a payment by card of `OWED`; answers its path.
    pub async fn begin(&self, token: &str, more: Value) -> String {
        let mut body = json!({"store_id": self.shop.store, "amount": thb(OWED), "tender": "online_card", "card_token": token,
                              "return_url": "https://shop.example/back"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let intent = self.platform.post(&self.shop.cashier, "/v1/payment-intents", body).await.id();
        format!("/v1/payment-intents/{intent}")
    }

    /// Waits until the intent is in this state.
    pub async fn becomes(&self, path: &str, status: &str) -> Value {
        self.platform.get_until(&self.shop.cashier, path, |intent| intent["status"] == status).await
    }

    /// Asks something of the intent, which must work.
    pub async fn ask(&self, path: &str, verb: &str, body: Value) -> Value {
        self.platform.post(&self.shop.manager, &format!("{path}/{verb}"), body).await.ok().body
    }

    /// Lines of the explanation with this event type, once there are any.
    pub async fn explained(&self, path: &str, event_type: &str) -> Value {
        let path = format!("{path}/explain");
        // For two minutes after a call without an answer a refusal proves nothing.
        eventually(event_type, Duration::from_secs(200), || async {
            let lines = self.platform.get(&self.shop.manager, &path).await.ok().body["data"].as_array()?.clone();
            lines.into_iter().rfind(|line| line["type"] == event_type || line["operation"] == event_type)
        })
        .await
    }

    /// Both ledgers say the same, and the log proves itself.
    pub async fn closes(self) {
        self.provider.agrees_with(&self.platform, &self.shop).await;
        self.platform.proves_itself().await;
        self.platform.stop().await;
    }
}

async fn charged_at_once(cards: Cards) {
    let till = CardShop::open(&cards).await;
    let path = till.begin(cards.good, json!({"merchant_reference": "table 7"})).await;
    let paid = till.becomes(&path, "succeeded").await;
    assert_eq!((&paid["captured"], &paid["capture_method"]), (&thb(OWED), &json!("automatic")));
    assert_eq!((&paid["provider"], &paid["attempts"]), (&json!(cards.provider.name()), &json!(1)));
    let late = till.platform.post(&till.shop.cashier, &format!("{path}/capture"), json!({"amount": thb(1)})).await;
    assert_eq!(late.body["code"], "NothingToCapture");
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_charged_at_once_by_omise() {
    charged_at_once(OMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_charged_at_once_by_stripe() {
    charged_at_once(STRIPE).await;
}

async fn refused_then_paid_by_another(cards: Cards) {
    let till = CardShop::open(&cards).await;
    let path = till.begin(cards.short_of_money, json!({})).await;
    let refused = till.platform.get_until(&till.shop.cashier, &path, |intent| intent["failure"]["code"].is_string()).await;
    assert_eq!((&refused["status"], &refused["failure"]["code"]), (&json!("requires_payment_method"), &json!("insufficient_funds")));
    let without = till.platform.post(&till.shop.cashier, &format!("{path}/confirm"), json!({})).await;
    assert_eq!(without.body["code"], "CardTokenRequired", "a token is good for one attempt");
    till.ask(&path, "confirm", json!({"card_token": cards.good})).await;
    let paid = till.becomes(&path, "succeeded").await;
    assert_eq!((&paid["attempts"], &paid["captured"]), (&json!(2), &thb(OWED)));
    assert_eq!(till.provider.ledger().await["attempts"].as_array().unwrap().len(), 2);
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_omise_refuses_gives_way_to_another() {
    refused_then_paid_by_another(OMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_stripe_refuses_gives_way_to_another() {
    refused_then_paid_by_another(STRIPE).await;
}

async fn authenticated_by_the_payer(cards: Cards) {
    let till = CardShop::open(&cards).await;
    let path = till.begin(cards.asks_payer, json!({})).await;
    let shown = till.becomes(&path, "requires_action").await;
    assert_eq!(shown["next_action"]["type"], "redirect");
    assert!(shown["next_action"]["redirect_url"].as_str().unwrap().starts_with("http"), "{shown}");
    // The browser comes back and somebody says that it was paid: the provider's books say that it was not.
    let reference = shown["reference"].clone();
    let lie = reqwest::Client::new().post(format!("{}/sim/lie", till.provider.base)).json(&json!({"reference": reference}));
    assert_eq!(lie.send().await.unwrap().status(), 202);
    till.explained(&path, "call_back").await;
    till.platform.settled().await;
    let waiting = till.platform.get(&till.shop.cashier, &path).await.ok().body;
    assert_eq!((&waiting["status"], &waiting["captured"]), (&json!("requires_action"), &thb(0)));
    till.provider.lever("pay", json!({"reference": reference})).await;
    till.becomes(&path, "succeeded").await;
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_who_comes_back_from_omise_has_paid_only_once_its_books_say_so() {
    authenticated_by_the_payer(OMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_who_comes_back_from_stripe_has_paid_only_once_its_books_say_so() {
    authenticated_by_the_payer(STRIPE).await;
}

/// As if the attempt's time had run out, until its intent is shown as expired: its watch is due, and says that it ended.
async fn time_runs_out(till: &CardShop, path: &str) -> Value {
    // Not while a worker looks: the watch that it leaves then knows nothing of this.
    let over = "update process.task set due_at = now(), task = jsonb_set(task, '{expires_at}', to_jsonb(now() - interval '10 seconds'))
                where key like 'watch:%' and (leased_until is null or leased_until <= now())
                and (task ->> 'expires_at')::timestamptz > now()";
    let moved = async || sqlx::query(over).execute(&till.platform.database.admin).await.unwrap().rows_affected();
    eventually("an attempt is watched", Duration::from_secs(60), || async { (moved().await == 1).then_some(()) }).await;
    eventually("its intent expires", Duration::from_secs(60), || async {
        moved().await;
        let shown = till.platform.get(&till.shop.cashier, path).await.ok().body;
        (shown["status"] == "expired").then_some(shown)
    })
    .await
}

async fn abandoned_by_the_payer(cards: Cards) {
    let till = CardShop::open(&cards).await;
    let path = till.begin(cards.asks_payer, json!({})).await;
    till.becomes(&path, "requires_action").await;
    let over = time_runs_out(&till, &path).await;
    assert_eq!((&over["captured"], &over["needs_attention"]), (&thb(0), &json!(false)));
    // Proof: nobody can authenticate it any more.
    let states = till.provider.states().await;
    assert!(["expired", "canceled", "reversed"].contains(&states[0].as_str()), "{states:?}");
    let pay = reqwest::Client::new().post(format!("{}/sim/pay", till.provider.base)).json(&json!({"reference": over["reference"]}));
    assert_eq!(pay.send().await.unwrap().status(), 422);
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentication_that_is_abandoned_at_omise_ends_with_proof() {
    abandoned_by_the_payer(OMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentication_that_is_abandoned_at_stripe_ends_with_proof() {
    abandoned_by_the_payer(STRIPE).await;
}
