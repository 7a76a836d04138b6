//! What is left to people: payments whose provider does not tell, secrets that are rolled, call-backs that are too old or too early.

use std::time::Duration;

use api::simulated_provider::Simulated;
use chrono::{SecondsFormat, TimeDelta};
use reqwest::Method;
use serde_json::{Value, json};
use support::{ApiShop, ProviderAt, TestPlatform, eventually, reconcile, settlement_list};

use crate::cards::{OWED, STRIPE, thb};

struct Counter {
    platform: TestPlatform,
    shop: ApiShop,
    at: ProviderAt,
}

impl Counter {
    async fn open(provider: Simulated) -> Self {
        let platform = TestPlatform::start().await;
        let shop = platform.shop().await;
        let at = platform.provider(&shop, provider).await;
        Self { platform, shop, at }
    }

    /// A bill whose code waits to be paid; answers the bill's path and the intent's.
    async fn waiting(&self) -> (String, String) {
        let (_, bill) = self.platform.billed(&self.shop, OWED).await;
        let pay = json!({"bill_id": bill, "tender": "promptpay"});
        let payment = self.platform.post(&self.shop.cashier, "/v1/payments", pay).await.ok().body;
        let path = format!("/v1/payment-intents/{}", payment["payment_intent_id"].as_str().unwrap());
        self.until(&path, |intent| intent["status"] == "requires_action").await;
        (format!("/v1/bills/{bill}"), path)
    }

    async fn until(&self, path: &str, good: impl Fn(&Value) -> bool) -> Value {
        self.platform.get_until(&self.shop.cashier, path, good).await
    }

    /// The provider tells nothing of what was paid.
    async fn falls_silent(&self) {
        self.at.lever("faults", json!([{"operation": "inquire", "fault": "http_500", "times": 1_000_000}])).await;
    }

    /// The schedule of questions comes to its end.
    async fn left_to_a_person(&self, path: &str) {
        // A look under way would write its own next task over the change; one that is moved already is left alone.
        let over = "update process.task set due_at = now(), task = jsonb_set(task, '{expires_at}', to_jsonb(now() - interval '2 hours'))
                    where key like 'watch:%' and leased_until is null and (task ->> 'expires_at')::timestamptz > now()";
        let long_ago = || async {
            let moved = sqlx::query(over).execute(&self.platform.database.admin).await.unwrap().rows_affected();
            assert!(moved <= 1, "one attempt is watched");
            let shown = self.platform.get(&self.shop.cashier, path).await.ok().body;
            (shown["outcome"]["step"] == "person").then_some(shown)
        };
        let left = eventually("a person is told", Duration::from_secs(60), long_ago).await;
        assert_eq!(left["needs_attention"], true, "{left}");
    }

    /// The provider speaks again, and the watch asks.
    async fn speaks_again(&self) {
        let cleared = reqwest::Client::new().delete(format!("{}/sim/faults", self.at.base)).send().await.unwrap();
        assert!(cleared.status().is_success());
        sqlx::query("update process.task set due_at = now()").execute(&self.platform.database.admin).await.unwrap();
    }

    async fn resolve(&self, token: &str, path: &str, body: Value) -> support::Answered {
        self.platform.post(token, &format!("{path}/resolve"), body).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_finds_the_money_on_a_statement_that_the_provider_does_not_tell_of() {
    let counter = Counter::open(Simulated::Kbank).await;
    let (bill, path) = counter.waiting().await;
    let shown = counter.platform.get(&counter.shop.cashier, &path).await.ok().body;
    let at = |days: i64| (counter.platform.now() + TimeDelta::days(days)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let found_at = |transaction: &str, paid_at: &str| {
        json!({"paid": true, "statement_reference": "KBank 24 Nov, line 3", "transaction_id": transaction, "amount": thb(OWED),
               "paid_at": paid_at})
    };
    let found = |transaction: &str| found_at(transaction, &at(0));
    let early = counter.resolve(&counter.shop.manager, &path, found("T")).await;
    assert_eq!(early.body["code"], "OutcomeNotUnknown", "the provider is still being asked");
    counter.falls_silent().await;
    let paid = counter.at.lever("pay", json!({"reference": shown["reference"], "webhook": "never"})).await;
    let transaction = paid["transaction_id"].as_str().unwrap().to_owned();
    counter.left_to_a_person(&path).await;
    assert_eq!(counter.resolve(&counter.shop.cashier, &path, found(&transaction)).await.status, 403);
    // Neither a time that has not come nor one that no database holds gets into the log, where it would stand for ever.
    for (paid_at, status) in
        [("-0001-01-01T00:00:00Z", 400), ("0001-01-01T00:00:00+07:00", 400), ("+10000-01-01T00:00:00Z", 400), (&at(1), 422)]
    {
        let refused = counter.resolve(&counter.shop.manager, &path, found_at(&transaction, paid_at)).await;
        assert_eq!(refused.status.as_u16(), status, "{paid_at}: {refused:?}");
        assert!(refused.body["detail"].as_str().unwrap().starts_with("paid_at"), "{refused:?}");
    }
    let other = json!({"paid": true, "statement_reference": "x", "transaction_id": "T", "amount": thb(1), "paid_at": at(0)});
    assert_eq!(counter.resolve(&counter.shop.manager, &path, other).await.body["code"], "TenderAmountDiffers");
    let resolved = counter.resolve(&counter.shop.manager, &path, found(&transaction)).await.ok().body;
    assert_eq!(
        (&resolved["status"], &resolved["captured"], &resolved["needs_attention"]),
        (&json!("succeeded"), &thb(OWED), &json!(false))
    );
    counter.until(&bill, |bill| bill["status"] == "paid").await;
    // The provider tells of the very same money later: it is known.
    counter.speaks_again().await;
    counter.at.lever("lie", json!({"reference": shown["reference"]})).await;
    counter.platform.settled().await;
    let after = counter.platform.get(&counter.shop.cashier, &path).await.ok().body;
    assert_eq!((&after["captured"], &after["unmatched"]), (&thb(OWED), &json!([])));
    counter.at.agrees_with(&counter.platform, &counter.shop).await;
    counter.platform.proves_itself().await;
    counter.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_of_which_the_provider_does_not_tell_is_left_to_a_person_and_its_bill_stays_held() {
    let counter = Counter::open(Simulated::Stripe).await;
    let (platform, shop) = (&counter.platform, &counter.shop);
    let (_, bill) = platform.billed(shop, OWED).await;
    let by_card = json!({"bill_id": bill, "tender": "online_card", "card_token": STRIPE.good, "capture_method": "manual"});
    let path = format!("/v1/payment-intents/{}", platform.post(&shop.cashier, "/v1/payment-intents", by_card).await.id());
    counter.until(&path, |intent| intent["status"] == "requires_capture").await;
    let silent = |operation: &str| json!({"operation": operation, "fault": "http_500", "times": 1_000_000});
    counter.at.lever("faults", json!([silent("inquire"), silent("capture")])).await;
    platform.post(&shop.cashier, &format!("{path}/capture"), json!({})).await.ok();
    let unclear = counter.until(&path, |intent| intent["outcome"]["state"] == "unknown").await;
    let steps: Vec<&Value> = unclear["outcome"]["ladder"].as_array().unwrap().iter().map(|rung| &rung["step"]).collect();
    assert_eq!(steps, [&json!("inquiry"), &json!("person")], "{unclear}");
    // An hour later.
    let over = "update process.task set due_at = now(), task = jsonb_set(task, '{unclear_since}', to_jsonb(now() - interval '1 hour'))
                where key like 'capture:%'";
    let long_ago = || async {
        let moved = sqlx::query(over).execute(&platform.database.admin).await.unwrap().rows_affected();
        let shown = platform.get(&shop.cashier, &path).await.ok().body;
        (moved <= 1 && shown["outcome"]["step"] == "person").then_some(shown)
    };
    let left = eventually("a person is told", Duration::from_secs(30), long_ago).await;
    assert_eq!(left["needs_attention"], true, "{left}");
    let not_made = json!({"paid": false, "statement_reference": "Stripe payout 12 has no such line"});
    let resolved = counter.resolve(&shop.manager, &path, not_made).await.ok().body;
    assert_eq!((&resolved["status"], &resolved["needs_attention"]), (&json!("requires_capture"), &json!(false)), "the hold stands");
    platform.settled().await;
    let held = platform.get(&shop.cashier, &format!("/v1/bills/{bill}")).await.ok().body;
    assert_eq!((&held["reserved"], &held["due"]), (&thb(OWED), &thb(0)), "nobody may be asked for the same money twice");
    // The provider is back, and the hold is captured after all.
    counter.speaks_again().await;
    platform.post(&shop.cashier, &format!("{path}/capture"), json!({})).await.ok();
    counter.until(&path, |intent| intent["status"] == "succeeded").await;
    counter.until(&format!("/v1/bills/{bill}"), |bill| bill["status"] == "paid").await;
    counter.at.agrees_with(platform, shop).await;
    platform.proves_itself().await;
    counter.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_list_shows_the_money_that_a_person_then_resolves_with_its_line() {
    let counter = Counter::open(Simulated::Scb).await;
    let (bill, path) = counter.waiting().await;
    let shown = counter.platform.get(&counter.shop.cashier, &path).await.ok().body;
    counter.falls_silent().await;
    counter.at.lever("pay", json!({"reference": shown["reference"], "webhook": "never"})).await;
    counter.left_to_a_person(&path).await;
    let list = settlement_list(&counter.at.base).await;
    let found = reconcile(&counter.platform.database, &counter.at.account, &list).await;
    let [difference] = found.differences()[..] else { panic!("{found:?}") };
    let on = json!({"payment_intent": shown["id"], "status": "requires_action", "resolvable": true});
    assert_eq!((&difference["difference"], &difference["on"]), (&json!("missing_here"), &on));
    let line = &difference["listed"];
    let body = json!({"paid": true, "statement_reference": format!("settlement list, line {}", line["line"]),
                      "transaction_id": line["transaction_id"], "amount": line["gross"], "paid_at": line["at"]});
    let resolved = counter.resolve(&counter.shop.manager, &path, body).await.ok().body;
    assert_eq!((&resolved["status"], &resolved["needs_attention"]), (&json!("succeeded"), &json!(false)));
    counter.until(&bill, |bill| bill["status"] == "paid").await;
    assert_eq!(reconcile(&counter.platform.database, &counter.at.account, &list).await.sound().matched(), 1);
    counter.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_finds_no_money_and_the_bill_can_be_paid_another_way() {
    let counter = Counter::open(Simulated::Scb).await;
    let (bill, path) = counter.waiting().await;
    counter.falls_silent().await;
    counter.left_to_a_person(&path).await;
    let cash = json!({"bill_id": bill.trim_start_matches("/v1/bills/"), "tender": "cash", "cash_received": thb(OWED)});
    let held = counter.platform.post(&counter.shop.cashier, "/v1/payments", cash.clone()).await;
    assert!(held.status.is_client_error(), "the amount is held: {held:?}");
    let missing = json!({"paid": false, "statement_reference": "SCB 24 Nov, not on it"});
    let resolved = counter.resolve(&counter.shop.manager, &path, missing).await.ok().body;
    assert_eq!((&resolved["status"], &resolved["needs_attention"]), (&json!("requires_payment_method"), &json!(false)));
    counter.platform.post(&counter.shop.cashier, "/v1/payments", cash).await.ok();
    counter.until(&bill, |bill| bill["status"] == "paid").await;
    counter.platform.proves_itself().await;
    counter.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_money_that_the_payer_charges_back_is_not_sent_back_as_well() {
    let counter = Counter::open(Simulated::Stripe).await;
    let (platform, shop) = (&counter.platform, &counter.shop);
    let always = |operation: &str, fault: &str| json!({"operation": operation, "fault": fault, "times": 1_000_000});
    counter.at.lever("faults", json!([always("start", "http_500_after"), always("inquire", "http_500")])).await;
    let by_card = json!({"store_id": shop.store, "amount": thb(OWED), "tender": "online_card", "card_token": STRIPE.good});
    let path = format!("/v1/payment-intents/{}", platform.post(&shop.cashier, "/v1/payment-intents", by_card).await.id());
    platform.settled().await;
    counter.left_to_a_person(&path).await;
    let missing = json!({"paid": false, "statement_reference": "Stripe payout 12 has no such line"});
    let reference = counter.resolve(&shop.manager, &path, missing).await.ok().body["reference"].clone();
    platform.post(&shop.cashier, &format!("{path}/cancel"), json!({"reason": "the guest has left"})).await.ok();
    // It was charged all the same, which the books tell now, and then the payer's bank takes it back.
    counter.speaks_again().await;
    counter.at.lever("lie", json!({"reference": reference})).await;
    let parked = counter.until(&path, |intent| intent["unmatched"][0].is_object()).await;
    let transaction = parked["unmatched"][0]["transaction_id"].as_str().unwrap();
    counter.at.lever("dispute", json!({"reference": reference})).await;
    let resolve = format!("{path}/unmatched/{transaction}/resolve");
    let is_recorded = || async {
        let explained = platform.get(&shop.manager, &format!("{path}/explain")).await.ok().body;
        explained["data"].as_array().unwrap().iter().any(|line| line["type"] == "payment_intent.disputed").then_some(())
    };
    eventually("the dispute is recorded", Duration::from_secs(60), is_recorded).await;
    let back = json!({"decision": "refund", "reason": "paid too late"});
    assert_eq!(platform.post(&shop.manager, &resolve, back.clone()).await.body["code"], "PaymentDisputed");
    let contested = counter.until(&path, |intent| intent["needs_attention"] == true).await;
    assert_eq!((&contested["status"], &contested["dispute"]), (&json!("canceled"), &Value::Null), "there is no payment to contest");
    // What is contested is not the payment; a person may tell how it ended before the provider does.
    let decide = format!("{path}/dispute/resolve");
    let decided = |body| platform.post(&shop.manager, &decide, body);
    let unknown = json!({"outcome": "won", "transaction_id": "ch_of_somebody_else"});
    assert_eq!(decided(unknown).await.body["code"], "UnmatchedNotFound");
    assert_eq!(decided(json!({"outcome": "won"})).await.body["code"], "NotDisputed");
    decided(json!({"outcome": "won", "transaction_id": transaction})).await.ok();
    let goes_back = || async { platform.post(&shop.manager, &resolve, back.clone()).await.status.is_success().then_some(()) };
    eventually("what the shop has won can go back", Duration::from_secs(60), goes_back).await;
    counter.until(&path, |intent| intent["unmatched"][0]["resolution"] == "refunded").await;
    platform.proves_itself().await;
    counter.platform.stop().await;
}

async fn promptpay_pays_a_bill(provider: Simulated, action: &str) {
    let counter = Counter::open(provider).await;
    let (bill, path) = counter.waiting().await;
    let shown = counter.platform.get(&counter.shop.cashier, &path).await.ok().body;
    assert_eq!((&shown["next_action"]["type"], &shown["provider"]), (&json!(action), &json!(provider.name())));
    counter.at.lever("pay", json!({"reference": shown["reference"]})).await;
    counter.until(&path, |intent| intent["status"] == "succeeded").await;
    counter.until(&bill, |bill| bill["status"] == "paid").await;
    counter.at.agrees_with(&counter.platform, &counter.shop).await;
    counter.platform.proves_itself().await;
    counter.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_kbank_pays_a_bill() {
    promptpay_pays_a_bill(Simulated::Kbank, "display_qr").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_omise_pays_a_bill() {
    promptpay_pays_a_bill(Simulated::Omise, "redirect").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_stripe_pays_a_bill() {
    promptpay_pays_a_bill(Simulated::Stripe, "display_qr").await;
}

/// A call-back about a payment that never was, sealed like this.
async fn lie(counter: &Counter, reference: &Value, seal: &str) {
    let webhook = json!({"copies": 1, "badly_sealed": 1, "seal": seal});
    let lie =
        reqwest::Client::new().post(format!("{}/sim/lie", counter.at.base)).json(&json!({"reference": reference, "webhook": webhook}));
    assert_eq!(lie.send().await.unwrap().status(), 202);
}

/// How many call-backs came in this state, by what their signature proved.
async fn inbound(counter: &Counter, state: &str) -> Vec<String> {
    let path = format!("/v1/inbound-webhooks?state={state}&account={}", counter.at.account);
    let page = counter.platform.get(&counter.shop.admin, &path).await.ok().body;
    let mut signatures: Vec<String> =
        page["data"].as_array().unwrap().iter().map(|row| row["signature"].as_str().unwrap().to_owned()).collect();
    signatures.sort();
    signatures
}

async fn refused_by_their_seal(provider: Simulated) {
    let counter = Counter::open(provider).await;
    let (_, path) = counter.waiting().await;
    let before = counter.platform.get(&counter.shop.cashier, &path).await.ok().body;
    counter.platform.settled().await;
    let events = || async {
        let count = sqlx::query_scalar::<_, i64>("select count(*) from log.event");
        count.fetch_one(&counter.platform.database.admin).await.unwrap()
    };
    let told = events().await;
    for seal in ["stale", "future", "bad", "missing"] {
        lie(&counter, &before["reference"], seal).await;
    }
    eventually("all four are refused", Duration::from_secs(10), || async {
        let refused = inbound(&counter, "refused").await;
        let of = |word: &str| refused.iter().filter(|one| *one == word).count();
        // One that was not answered in time is sent again.
        (of("bad") >= 2 && of("stale") >= 2 && of("bad") + of("stale") == refused.len()).then_some(())
    })
    .await;
    for state in ["received", "parked", "done", "unconfirmed"] {
        assert!(inbound(&counter, state).await.is_empty(), "{state}");
    }
    let tasks: i64 = sqlx::query_scalar("select count(*) from process.task where key like 'webhook:%'")
        .fetch_one(&counter.platform.database.admin)
        .await
        .unwrap();
    assert_eq!((tasks, events().await), (0, told), "nothing follows from them");
    assert_eq!(counter.platform.get(&counter.shop.cashier, &path).await.ok().body["version"], before["version"]);
    counter.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_back_of_omise_that_is_stale_early_or_badly_signed_changes_nothing() {
    refused_by_their_seal(Simulated::Omise).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_back_of_stripe_that_is_stale_early_or_badly_signed_changes_nothing() {
    refused_by_their_seal(Simulated::Stripe).await;
}

async fn secret_rolled(provider: Simulated) {
    let counter = Counter::open(provider).await;
    let next = counter.at.known.next_webhook_secret.unwrap();
    let path = format!("/v1/provider-accounts/{}", counter.at.account);
    let change = json!({"secrets": {"webhook_secret": next}, "former_secrets_good_minutes": 1});
    let key = Some("roll-the-secret");
    let changed = counter.platform.send(&counter.shop.admin, Method::PATCH, &path, key, Some(&change)).await.ok();
    let shown = counter.platform.get_until(&counter.shop.admin, &path, |_| true).await;
    let lookup = counter.platform.get(&counter.shop.admin, "/v1/idempotency-keys/roll-the-secret").await;
    for body in [changed.body.to_string(), shown.to_string(), lookup.body.to_string()] {
        assert!(!body.contains(next), "{body}");
    }
    let nobody = json!("NOBODYKNOWSTHIS00001");
    // The simulator signs by the old secret alone (good) or by both (rolled); by a stranger's (bad).
    lie(&counter, &nobody, "good").await;
    lie(&counter, &nobody, "rolled").await;
    eventually("old and new are taken", Duration::from_secs(10), || async { (inbound(&counter, "parked").await.len() == 2).then_some(()) })
        .await;
    lie(&counter, &nobody, "bad").await;
    eventually("a stranger is refused", Duration::from_secs(10), || async {
        let refused = inbound(&counter, "refused").await;
        (!refused.is_empty() && refused.iter().all(|one| one == "bad")).then_some(())
    })
    .await;
    // The minute is over: only the new one proves anything.
    eventually("the old one is refused", Duration::from_secs(90), || async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = (inbound(&counter, "parked").await.len(), inbound(&counter, "refused").await.len());
        lie(&counter, &nobody, "good").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        (inbound(&counter, "refused").await.len() > before.1 && inbound(&counter, "parked").await.len() == before.0).then_some(())
    })
    .await;
    let taken = inbound(&counter, "parked").await.len();
    lie(&counter, &nobody, "rolled").await;
    eventually("the new one is taken", Duration::from_secs(10), || async {
        (inbound(&counter, "parked").await.len() > taken).then_some(())
    })
    .await;
    counter.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_signing_secret_of_omise_is_rolled_both_are_good_and_then_only_the_new_one() {
    secret_rolled(Simulated::Omise).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_signing_secret_of_stripe_is_rolled_both_are_good_and_then_only_the_new_one() {
    secret_rolled(Simulated::Stripe).await;
}
