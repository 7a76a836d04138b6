//! Settlement lists that disagree with the log: told row by row, and nothing moves because of it.

use std::sync::Arc;

use serde_json::{Value, json};
use support::{Replayed, TestPlatform, reconcile, settlement_list};

use super::{
    ledgers::tenant_of,
    stage::{Bank, Stage, at_each},
};

async fn reconciled(stage: &Stage) -> Replayed {
    reconcile(&stage.platform.database, &stage.account, &settlement_list(&stage.url).await).await
}

/// How many events this merchant's log has, and where the last one stands.
async fn log_of(stage: &Stage) -> (i64, i64) {
    let sql = "select count(*), max(pos) from log.event where tenant = $1";
    sqlx::query_as(sql).bind(tenant_of(stage.shop.merchant)).fetch_one(&stage.platform.database.admin).await.unwrap()
}

/// Two payments, of which one went back in part or as a whole, one that closed nothing, and one by card where there are cards. Answers
/// the first with its reference, and how many rows a list of all this has.
async fn traded(stage: &Stage) -> (String, String, u64) {
    let (first, second) = (stage.paid(100_00).await, stage.paid(250_00).await);
    let (odd, reference) = stage.payable(80_00).await;
    stage.pay(&reference, json!({"amount": 79_99, "webhook": {"retry_ms": 500}})).await;
    stage.until("the money is recorded", &odd, |shown| shown["unmatched"][0].is_object()).await;
    let cards = matches!(stage.bank, Bank::Omise | Bank::Stripe);
    let refund = stage.refund(&second, cards.then_some(90_00)).await.id();
    stage.refund_until("it went back", &refund, |shown| shown["status"] == "succeeded").await;
    stage.until("its payment counts it", &second, |shown| shown["refunded"]["amount"].as_i64() > Some(0)).await;
    if cards {
        let card = stage.card_intent(60_00, stage.bank.card(), json!({})).await;
        stage.status(&card, "succeeded").await;
    }
    let reference = stage.status(&first, "succeeded").await["reference"].as_str().unwrap().to_owned();
    (first, reference, if cards { 5 } else { 4 })
}

pub async fn f33_a_settlement_list_that_disagrees_is_told_row_by_row_and_moves_nothing(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        let bank = stage.bank;
        let (first, reference, rows) = traded(&stage).await;
        stage.ledgers_agree().await;
        let log = log_of(&stage).await;
        let sound = reconciled(&stage).await.sound();
        assert_eq!(sound.matched(), rows, "{bank:?}: {sound:?}");

        stage.fault("settlement", "missing_row", json!({"reference": reference})).await;
        let missing = reconciled(&stage).await;
        let [difference] = missing.differences()[..] else { panic!("{bank:?}: {missing:?}") };
        let booked = &difference["booked"];
        assert_eq!((&difference["difference"], &difference["listed"]), (&json!("missing_in_list"), &Value::Null));
        assert_eq!((&booked["payment_intent"], &booked["gross"]["amount"]), (&json!(first), &json!(100_00)), "{bank:?}");
        assert_eq!(missing.matched(), rows - 1);

        stage.fault("settlement", "extra_row", json!({"reference": reference})).await;
        let extra = reconciled(&stage).await;
        let [difference] = extra.differences()[..] else { panic!("{bank:?}: {extra:?}") };
        assert_eq!((&difference["difference"], &difference["booked"]), (&json!("missing_here"), &Value::Null));
        let on = json!({"payment_intent": first, "status": "succeeded", "resolvable": false});
        assert_eq!((&difference["on"], &difference["listed"]["reference"]), (&on, &json!(reference)), "{bank:?}");
        assert_eq!(extra.matched(), rows);

        stage.fault("settlement", "wrong_fee", json!({"reference": reference})).await;
        let fee = reconciled(&stage).await;
        let [difference] = fee.differences()[..] else { panic!("{bank:?}: {fee:?}") };
        assert_eq!((&difference["difference"], &difference["booked"]["payment_intent"]), (&json!("fee_does_not_add"), &json!(first)));
        assert_eq!((&difference["listed"]["fee"], &difference["listed"]["net"]), (&json!(1_61), &json!(98_40)), "{bank:?}");
        assert_eq!(fee.matched(), rows - 1);

        // The list is well again: the same question has the same answer, and nothing was done about any of it.
        assert_eq!(reconciled(&stage).await.sound().digest, sound.digest, "{bank:?}");
        assert_eq!(log_of(&stage).await, log, "{bank:?}");
    })
    .await;
}

pub async fn f33_money_that_only_the_list_shows_is_told_with_the_intent_that_awaits_it(platform: Arc<TestPlatform>) {
    at_each(&platform, [Bank::Scb, Bank::Stripe], |stage| async move {
        let bank = stage.bank;
        let (intent, reference) = stage.payable(120_00).await;
        stage.fault("inquire", "not_visible_yet", json!({"times": 1_000_000, "reference": reference})).await;
        stage.pay(&reference, json!({})).await;
        let list = settlement_list(&stage.url).await;
        let early = reconcile(&stage.platform.database, &stage.account, &list).await;
        let [difference] = early.differences()[..] else { panic!("{bank:?}: {early:?}") };
        assert_eq!((&difference["difference"], &difference["listed"]["gross"]["amount"]), (&json!("missing_here"), &json!(120_00)));
        // The provider is still being asked, so that nobody can resolve it yet.
        assert_eq!(difference["on"], json!({"payment_intent": intent, "status": "requires_action", "resolvable": false}), "{bank:?}");
        stage.clear_faults().await;
        stage.status(&intent, "succeeded").await;
        stage.ledgers_agree().await;
        reconcile(&stage.platform.database, &stage.account, &list).await.sound();
    })
    .await;
}
