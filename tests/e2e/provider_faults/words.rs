//! Faults of what a provider answers: something is missing, it refuses for a reason of its own, or it did less than was asked.

use std::sync::Arc;

use serde_json::json;
use support::TestPlatform;

use super::{
    calls::{begun_into, refunded_into},
    stage::{Bank, Stage, at_each},
};

/// Fields without which an answer says nothing: of the beginning of an attempt, of a look, of a refund.
const fn needed(bank: Bank) -> (&'static [&'static str], &'static [&'static str], &'static str) {
    match bank {
        Bank::Scb => (&["code", "qrRawData"], &["code", "transactionId", "amount"], "code"),
        Bank::Kbank => (&["statusCode", "qrCode"], &["txnStatus", "txnNo", "txnAmount"], "statusCode"),
        Bank::Omise => (&["status", "id"], &["status", "amount", "paid"], "status"),
        Bank::Stripe => (&["status", "metadata"], &["status", "metadata", "amount_received"], "status"),
    }
}

pub async fn f10_an_answer_that_lacks_a_field_decides_nothing(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        let bank = stage.bank;
        let (begun, looked, refunded) = needed(bank);
        for field in begun {
            begun_into(&stage, "missing_fields", json!({"fields": [field]})).await;
        }
        for field in looked {
            let (intent, reference) = stage.payable(10_00).await;
            stage.fault("inquire", "missing_fields", json!({"fields": [field], "times": 2, "reference": reference})).await;
            stage.pay_and_tell(&reference).await;
            let shown = stage.status(&intent, "succeeded").await;
            assert_eq!((&shown["captured"]["amount"], &shown["unmatched"]), (&json!(10_00), &json!([])), "{bank:?}, {field}");
        }
        refunded_into(&stage, "missing_fields", json!({"fields": [refunded]})).await;
        stage.ledgers_agree().await;
    })
    .await;
}

pub async fn f24_a_repeat_that_the_bank_calls_a_duplicate_shows_the_code_all_the_same(platform: Arc<TestPlatform>) {
    let stage = Stage::open(&platform, Bank::Scb).await;
    // The first answer is lost, and the repeat is told that the bank has it: without the text of the code.
    stage.fault("start", "http_500_after", json!({})).await;
    stage.fault("start", "duplicate", json!({})).await;
    let (intent, reference) = stage.payable(61_00).await;
    assert_eq!(stage.sim("/sim/faults").await, json!([]), "both were met");
    stage.pay_and_tell(&reference).await;
    stage.status(&intent, "succeeded").await;
    stage.ledgers_agree().await;
    assert_eq!((stage.attempts_there().await, stage.payments_there().await), (1, 1));
}

pub async fn f23_a_void_of_settled_money_or_outside_its_hours_is_refused_with_its_reason(platform: Arc<TestPlatform>) {
    let stage = Stage::open(&platform, Bank::Kbank).await;
    for (fault, reason) in [("settled", "EMSET"), ("window", "EMSMSG")] {
        let intent = stage.paid(80_00).await;
        stage.fault("refund", fault, json!({})).await;
        let refund = stage.refund(&intent, None).await.id();
        let shown = stage.refund_until("it is refused", &refund, |shown| shown["status"] == "failed").await;
        assert_eq!(shown["failure"]["code"], "cut_off_passed", "{shown}");
        assert!(shown["failure"]["message"].as_str().unwrap().contains(reason), "{shown}");
        let shown = stage.until("it is shown", &intent, |_| true).await;
        assert_eq!((&shown["status"], &shown["refunded"]["amount"]), (&json!("succeeded"), &json!(0)));
    }
    stage.ledgers_agree().await;
    assert_eq!(stage.sim("/sim/ledger").await["totals"]["reversed"], 0);
}

pub async fn f27_a_capture_that_took_less_than_was_asked_for_is_recorded_as_the_books_show_it(platform: Arc<TestPlatform>) {
    at_each(&platform, [Bank::Omise, Bank::Stripe], |stage| async move {
        let intent = stage.card_intent(90_00, stage.bank.card(), json!({"capture_method": "manual"})).await;
        stage.status(&intent, "requires_capture").await;
        stage.fault("capture", "capture_part", json!({})).await;
        let asked = json!({"amount": {"amount": 60_00, "currency": "THB"}});
        stage.post(&stage.shop.cashier, &format!("/v1/payment-intents/{intent}/capture"), asked).await.ok();
        let shown = stage.status(&intent, "succeeded").await;
        assert_eq!((&shown["captured"]["amount"], &shown["unmatched"]), (&json!(30_00), &json!([])), "{:?}", stage.bank);
        stage.ledgers_agree().await;
        assert_eq!(stage.sim("/sim/ledger").await["totals"]["received"], 30_00);
    })
    .await;
}
