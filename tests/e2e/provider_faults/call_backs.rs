//! Faults of call-backs that providers make.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::{Received, Receiver, TestPlatform};

use super::{
    calls::{NEVER_MS, nobody_looks, succeeded_unanswered},
    stage::{Bank, Setup, Stage, at_each, patiently},
};

fn each<W: Future<Output = ()>>(banks: impl IntoIterator<Item = Bank>, work: impl Fn(Bank) -> W) -> impl Future<Output = Vec<()>> {
    join_all(banks.into_iter().map(work).collect::<Vec<_>>())
}

/// A stage whose call-backs come to the test first.
async fn tapped(platform: &Arc<TestPlatform>, bank: Bank) -> (Stage, Receiver) {
    let receiver = Receiver::start().await;
    let setup = Setup { webhook_url: Some(receiver.url.clone()), ..Setup::default() };
    (Stage::open_with(platform, bank, setup).await, receiver)
}

/// What came, once there are so many.
pub async fn heard(receiver: &Receiver, count: usize) -> Vec<Received> {
    patiently("the provider calls back", || async {
        let heard = receiver.received();
        (heard.len() >= count).then_some(heard)
    })
    .await
}

pub async fn hand_on(stage: &Stage, heard: &Received) -> u16 {
    stage.deliver(&stage.door(), &heard.headers, heard.body.clone()).await.status.as_u16()
}

pub async fn f11_a_call_back_in_twenty_copies_has_one_effect(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        let (intent, reference) = stage.payable(50_00).await;
        let paid = stage.pay(&reference, json!({"webhook": {"copies": 20, "retry_ms": 1_000}})).await;
        let shown = stage.status(&intent, "succeeded").await;
        assert_eq!((&shown["unmatched"], &shown["captured"]["amount"]), (&json!([]), &json!(50_00)), "{paid}");
        stage.ledgers_agree().await;
        // Every copy was answered with the provider's own form of success, or it would be sent again.
        stage.one_call_back("done", 20).await;
    })
    .await;
}

pub async fn f12_call_backs_in_the_wrong_order_do_not_turn_the_state_back(platform: Arc<TestPlatform>) {
    let (stage, receiver) = tapped(&platform, Bank::Omise).await;
    let intent = stage.intent(50_00).await;
    stage.pay_and_tell(&stage.reference(&intent).await).await;
    // Known by asking; the call-back of the payment is still on its way.
    stage.status(&intent, "succeeded").await;
    let refund = stage.refund(&intent, Some(20_00)).await.id();
    stage.refund_until("it went back", &refund, |shown| shown["status"] == "succeeded").await;
    let heard = heard(&receiver, 2).await;
    for (n, call_back) in heard.iter().enumerate().rev() {
        assert_eq!(hand_on(&stage, call_back).await, 200, "call-back {n}");
    }
    stage.ledgers_agree().await;
    let shown = stage.until("its payment counts it", &intent, |shown| shown["refunded"]["amount"] == 20_00).await;
    assert_eq!((&shown["status"], &shown["unmatched"]), (&json!("succeeded"), &json!([])));
    // A hold that was captured before its own call-back came.
    let (stage, receiver) = tapped(&platform, Bank::Stripe).await;
    let intent = stage.card_intent(90_00, "pm_card_visa", json!({"capture_method": "manual"})).await;
    stage.status(&intent, "requires_capture").await;
    stage.post(&stage.shop.cashier, &format!("/v1/payment-intents/{intent}/capture"), json!({})).await.ok();
    stage.status(&intent, "succeeded").await;
    for call_back in self::heard(&receiver, 2).await.iter().rev() {
        assert_eq!(hand_on(&stage, call_back).await, 200);
    }
    stage.ledgers_agree().await;
    stage.status(&intent, "succeeded").await;
}

pub async fn f12_that_a_charge_was_made_is_told_after_it_was_paid_and_changes_nothing(platform: Arc<TestPlatform>) {
    at_each(&platform, [Bank::Omise, Bank::Stripe], |stage| async move {
        let intent = stage.card_intent(45_00, stage.bank.card(), json!({})).await;
        let reference = stage.status(&intent, "succeeded").await["reference"].clone();
        let done = |count: i64| {
            let stage = &stage;
            patiently("it is taken up", move || async move { (stage.call_backs("done").await.0 == count).then_some(()) })
        };
        done(1).await;
        let late = json!({"reference": reference, "webhook": {"retry_ms": 500}});
        assert!(stage.lever("/sim/created", late).await.status.is_success());
        done(2).await;
        let shown = stage.status(&intent, "succeeded").await;
        assert_eq!((&shown["captured"]["amount"], &shown["unmatched"]), (&json!(45_00), &json!([])), "{:?}", stage.bank);
        stage.ledgers_agree().await;
    })
    .await;
}

pub async fn f13_a_call_back_before_the_answer_to_the_call_counts(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        stage.fault("start", "slow", json!({"delay_ms": NEVER_MS, "times": 1_000})).await;
        let intent = stage.intent(50_00).await;
        let reference = stage.until("an attempt", &intent, |shown| shown["reference"].is_string()).await;
        let reference = reference["reference"].as_str().unwrap().to_owned();
        // KBank's speaks of its code by a name that is known by the answer only: it is put aside until then, and a look finds the money.
        if stage.bank != Bank::Kbank {
            nobody_looks(&stage, 50_00).await;
        }
        let pay = json!({"reference": reference, "webhook": {"retry_ms": 500}});
        patiently("the provider has it", || async { stage.lever("/sim/pay", pay.clone()).await.status.is_success().then_some(()) }).await;
        stage.status(&intent, "succeeded").await;
        stage.clear_faults().await;
        succeeded_unanswered(&stage, 50_00).await;
        stage.ledgers_agree().await;
    })
    .await;
}

pub async fn f14_a_payment_without_a_call_back_is_found_by_the_schedule(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        let intents = join_all((0..3).map(|n| stage.intent(50_00 + n))).await;
        for intent in &intents {
            stage.pay(&stage.reference(intent).await, json!({})).await;
        }
        join_all(intents.iter().map(|intent| stage.status(intent, "succeeded"))).await;
        stage.ledgers_agree().await;
        assert_eq!(stage.call_backs("done").await, (0, 0));
    })
    .await;
}

pub async fn f15_a_call_back_that_proves_nothing_is_refused_counted_and_has_no_effect(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        let bank = stage.bank;
        let (intent, reference) = stage.payable(50_00).await;
        let signed = matches!(bank, Bank::Omise | Bank::Stripe);
        let seals: &[&str] = if signed { &["bad", "missing", "stale", "future"] } else { &["bad", "missing"] };
        for seal in seals {
            let plan = json!({"badly_sealed": 1, "seal": seal});
            stage.lever("/sim/lie", json!({"reference": reference, "amount": 50_00, "webhook": plan})).await;
        }
        let refused = i64::try_from(seals.len()).unwrap();
        patiently("they are refused", || async { (stage.call_backs("refused").await == (refused, refused)).then_some(()) }).await;
        let explained = stage.platform.get(&stage.shop.admin, &format!("/v1/payment-intents/{intent}/explain")).await.ok().body;
        let lines = explained["data"].as_array().unwrap();
        let told: Vec<_> = lines.iter().filter(|line| line["kind"] == "call_back").collect();
        assert!(!told.is_empty(), "{bank:?}: who looks at the payment is shown what claimed to be about it: {explained}");
        let seen = stage.platform.get(&stage.shop.cashier, &format!("/v1/payment-intents/{intent}/explain")).await.ok().body;
        assert!(
            seen["data"].as_array().unwrap().iter().all(|line| line["kind"] != "call_back"),
            "a till is not shown what anybody may have written"
        );
        assert!(told.iter().all(|line| line["state"] == "refused" && line["signature"] != "ok"), "{bank:?}: {told:?}");
        // Another payee's; a signature over another body.
        let (tap, receiver) = tapped(&stage.platform, bank).await;
        let other = tap.intent(50_00).await;
        tap.pay_and_tell(&tap.reference(&other).await).await;
        let true_one = heard(&receiver, 1).await.remove(0);
        let body = String::from_utf8(true_one.body.clone()).unwrap();
        let altered = body.replace("099400016550100", "099400016550199").replace("PTR0000001", "PTR0000002").replace("evt", "evx");
        let altered = if altered == body { format!("{body} ") } else { altered };
        let answer = tap.deliver(&tap.door(), &true_one.headers, altered.into_bytes()).await;
        assert_eq!(answer.status, 401, "{bank:?}: {answer:?}");
        // By the old and the new secret together, as while it is being rolled, it is believed; and it is still no money.
        if signed {
            let plan = json!({"badly_sealed": 1, "seal": "rolled", "retry_ms": 60_000});
            stage.lever("/sim/lie", json!({"reference": reference, "amount": 50_00, "webhook": plan})).await;
            patiently("it is taken", || async {
                let (received, done) = (stage.call_backs("received").await, stage.call_backs("done").await);
                (received.0 + done.0 == 1).then_some(())
            })
            .await;
        }
        stage.status(&intent, "requires_action").await;
        assert_eq!(stage.payments_there().await, 0);
        tap.status(&other, "succeeded").await;
        tap.ledgers_agree().await;
    })
    .await;
}

pub async fn f16_another_amount_or_currency_never_closes_an_intent(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        for (n, (amount, currency)) in [(99_99, "THB"), (100_01, "THB"), (1, "THB"), (100_00, "USD")].into_iter().enumerate() {
            let (intent, reference) = stage.payable(100_00).await;
            let webhook = if n % 2 == 0 { json!("never") } else { json!({"retry_ms": 500}) };
            stage.pay(&reference, json!({"amount": amount, "currency": currency, "webhook": webhook})).await;
            let parked = |shown: &Value| shown["unmatched"][0].is_object();
            let shown = stage.until("the money is recorded", &intent, parked).await;
            assert_eq!(shown["unmatched"][0]["why"], "amount_differs", "{shown}");
            assert_eq!(shown["unmatched"][0]["amount"], json!({"amount": amount, "currency": currency}));
            assert_ne!(shown["status"], "succeeded");
            assert_eq!((&shown["captured"]["amount"], &shown["needs_attention"]), (&json!(0), &json!(true)));
        }
        stage.ledgers_agree().await;
    })
    .await;
}

pub async fn f17_a_second_payment_on_one_reference_becomes_a_duty_to_refund(platform: Arc<TestPlatform>) {
    at_each(&platform, [Bank::Scb, Bank::Kbank], |stage| async move {
        let (intent, reference) = stage.payable(100_00).await;
        // Two apps had read the code before either paid: a bank whose codes are good once takes both.
        let pay = || stage.pay(&reference, json!({"force": true, "webhook": {"retry_ms": 500}}));
        tokio::join!(pay(), pay());
        let twice = |shown: &Value| shown["status"] == "succeeded" && shown["unmatched"][0].is_object();
        let shown = stage.until("both are recorded", &intent, twice).await;
        assert_eq!((&shown["unmatched"][0]["why"], &shown["needs_attention"]), (&json!("duplicate"), &json!(true)));
        stage.ledgers_agree().await;
        let second = shown["unmatched"][0]["transaction_id"].as_str().unwrap();
        let path = format!("/v1/payment-intents/{intent}/unmatched/{second}/resolve");
        stage.post(&stage.shop.manager, &path, json!({"decision": "refund", "reason": "paid twice"})).await.ok();
        stage.until("it went back", &intent, |shown| shown["unmatched"][0]["resolution"] == "refunded").await;
        stage.ledgers_agree().await;
        assert_eq!(stage.sim("/sim/ledger").await["totals"]["net"], 100_00, "{:?}", stage.bank);
    })
    .await;
}

pub async fn f28_a_reference_that_nobody_knows_is_put_aside_and_answered(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        // Of the same amount: nothing is guessed by it.
        let intent = stage.intent(77_00).await;
        stage.reference(&intent).await;
        let lie = json!({"reference": "NOBODY0000000000077", "amount": 77_00, "webhook": {"retry_ms": 500}});
        stage.lever("/sim/lie", lie).await;
        // Answered as received: the provider does not send it again.
        stage.one_call_back("parked", 1).await;
        let listed = stage.platform.get(&stage.shop.admin, "/v1/inbound-webhooks?state=parked").await.ok().body;
        assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
        stage.status(&intent, "requires_action").await;
        stage.ledgers_agree().await;
    })
    .await;
}

pub async fn f32_hostile_and_repeated_bodies_have_no_effect(platform: Arc<TestPlatform>) {
    each(Bank::ALL, |bank| {
        let platform = platform.clone();
        async move {
            let (stage, receiver) = tapped(&platform, bank).await;
            let intent = stage.intent(50_00).await;
            stage.pay_and_tell(&stage.reference(&intent).await).await;
            let true_one = heard(&receiver, 1).await.remove(0);
            let deep = "[".repeat(100_000).into_bytes();
            let long = format!("{{\"x\":\"{}\"}}", "a".repeat(600_000)).into_bytes();
            let twice = br#"{"transactionId":"A","transactionId":"B","billPaymentRef1":"X","payeeProxyId":"099400016550100"}"#.to_vec();
            for body in [vec![], deep, long, twice, b"\xff\xfe".to_vec(), b"null".to_vec()] {
                let answer = stage.deliver(&stage.door(), &true_one.headers, body).await;
                assert!(answer.status.is_client_error(), "{bank:?}: {answer:?}");
            }
            // The old valid one, again and again.
            for _ in 0..5 {
                assert_eq!(hand_on(&stage, &true_one).await, 200, "{bank:?}");
            }
            let shown = stage.status(&intent, "succeeded").await;
            assert_eq!(shown["unmatched"], json!([]));
            stage.ledgers_agree().await;
            // A try whose answer was lost is made again.
            let (rows, deliveries) = stage.call_backs("done").await;
            assert!(rows == 1 && deliveries >= 5, "{bank:?}: {rows} rows, {deliveries} deliveries");
        }
    })
    .await;
}

pub async fn f34_a_call_back_resent_because_our_answer_was_lost_has_one_effect(platform: Arc<TestPlatform>) {
    each([Bank::Scb, Bank::Kbank], |bank| {
        let platform = platform.clone();
        async move {
            let (stage, receiver) = tapped(&platform, bank).await;
            receiver.usually(support::Reply::Cut);
            let intent = stage.intent(50_00).await;
            stage.pay(&stage.reference(&intent).await, json!({"webhook": {"retry_ms": 700, "resends": 3}})).await;
            // Each of the four reaches the platform; not one of its answers comes back.
            for n in 0..4 {
                let sent = heard(&receiver, n + 1).await;
                assert_eq!(hand_on(&stage, &sent[n]).await, 200);
            }
            stage.status(&intent, "succeeded").await;
            stage.ledgers_agree().await;
            let (rows, deliveries) = stage.call_backs("done").await;
            assert!(rows == 1 && deliveries >= 4, "{bank:?}: {rows} rows, {deliveries} deliveries");
        }
    })
    .await;
}
