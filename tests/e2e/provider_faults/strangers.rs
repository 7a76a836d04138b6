//! F28: money and call-backs whose reference is not that of what was paid. Nothing is guessed by the amount.

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::json;
use support::{Receiver, TestPlatform};

use super::{
    call_backs::{hand_on, heard},
    deadlines::{passing, shown, started_at},
    stage::{Bank, Setup, Stage, patiently},
};

pub async fn f28_money_on_a_reference_that_nobody_made_is_kept_and_closes_nothing(platform: Arc<TestPlatform>) {
    let stage = Stage::open(&platform, Bank::Scb).await;
    // Anybody can pay a biller on any reference; here with the very amount that somebody owes.
    let (intent, reference) = stage.payable(77_00).await;
    let by_hand = json!({"amount": 77_00, "by_hand": true, "webhook": {"retry_ms": 500}});
    let paid = stage.pay("NOBODY0000000000078", by_hand).await;
    patiently("it is put aside", || async { (stage.call_backs("parked").await.0 == 1).then_some(()) }).await;
    let listed = stage.platform.get(&stage.shop.admin, "/v1/inbound-webhooks?state=parked").await.ok().body;
    let row = &listed["data"][0];
    assert_eq!((&row["reference"], &row["transaction_id"]), (&json!("NOBODY0000000000078"), &paid["transaction_id"]), "{listed}");
    let open = stage.status(&intent, "requires_action").await;
    assert_eq!((&open["captured"]["amount"], &open["unmatched"]), (&json!(0), &json!([])));
    // Whose code it is pays it, and the stranger's money is still where somebody finds it.
    stage.pay_and_tell(&reference).await;
    let shown = stage.status(&intent, "succeeded").await;
    assert_eq!((&shown["captured"]["amount"], &shown["unmatched"]), (&json!(77_00), &json!([])));
    stage.ledgers_agree().await;
    assert_eq!(stage.payments_there().await, 2);
    // Taken once, or once more where the answer was lost.
    stage.one_call_back("parked", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f28_a_call_back_with_the_reference_of_another_intent_pays_neither() {
    let (platform, clock) = started_at(12, 0, 0).await;
    for bank in [Bank::Scb, Bank::Kbank] {
        let receiver = Receiver::start().await;
        let setup = Setup { clock: clock.clone(), webhook_url: Some(receiver.url.clone()), ..Setup::default() };
        let stage = Stage::open_with(&platform, bank, setup).await;
        let begin = || stage.intent_with(80_00, json!({"expires_in_minutes": 60}));
        let (paid, other) = (begin().await, begin().await);
        let (reference, wrong) = (stage.reference(&paid).await, stage.reference(&other).await);
        stage.pay_and_tell(&reference).await;
        let mut told = heard(&receiver, 1).await.remove(0);
        // KBank names a code by the end of our reference.
        let end = |reference: &str| reference[reference.len() - 15..].to_owned();
        let body = String::from_utf8(told.body.clone()).unwrap();
        told.body = body.replace(&reference, &wrong).replace(&end(&reference), &end(&wrong)).into_bytes();
        assert_eq!(hand_on(&stage, &told).await, 200, "{bank:?}");
        // The books decide: what was paid is found by its own looks, and the other never.
        let given_up = async || stage.call_backs("unconfirmed").await.0 == 1 && shown(&stage, &paid).await["status"] == "succeeded";
        passing(&platform, "the books decide", &clock, TimeDelta::seconds(31), TimeDelta::minutes(50), given_up).await;
        let other = shown(&stage, &other).await;
        assert_ne!(other["status"], "succeeded", "{bank:?}");
        assert_eq!((&other["captured"]["amount"], &other["unmatched"]), (&json!(0), &json!([])), "{bank:?}");
        stage.ledgers_agree().await;
        assert_eq!(stage.payments_there().await, 1);
    }
}
