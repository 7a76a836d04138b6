//! Faults of calls that we make.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::TestPlatform;

use super::{
    ledgers::tenant_of,
    stage::{Bank, PATIENCE, Setup, Stage, at_each, patiently},
};

/// Longer than the connectors wait.
const TOO_LATE_MS: u64 = 12_000;
/// So much longer that no answer comes while a test runs.
pub const NEVER_MS: u64 = 60_000;

/// Begins a payment into a fault and brings it to its end.
pub async fn begun_into(stage: &Stage, fault: &str, more: Value) {
    stage.fault("start", fault, more).await;
    let intent = stage.intent(120_50).await;
    stage.pay_in_the_end(&intent).await;
}

/// Refunds into a fault: one refund in the end.
pub async fn refunded_into(stage: &Stage, fault: &str, more: Value) {
    let intent = stage.paid(75_25).await;
    stage.fault("refund", fault, more).await;
    let refund = stage.refund(&intent, None).await.id();
    stage.refund_until("it went back", &refund, |shown| shown["status"] == "succeeded").await;
}

/// Captures a part of a hold into a fault: one capture in the end.
async fn captured_into(stage: &Stage, fault: &str, more: Value) {
    let intent = stage.card_intent(90_00, stage.bank.card(), json!({"capture_method": "manual"})).await;
    stage.status(&intent, "requires_capture").await;
    stage.fault("capture", fault, more).await;
    let part = json!({"amount": {"amount": 60_00, "currency": "THB"}});
    stage.post(&stage.shop.cashier, &format!("/v1/payment-intents/{intent}/capture"), part).await.ok();
    let shown = stage.status(&intent, "succeeded").await;
    assert_eq!(shown["captured"]["amount"], 60_00);
}

/// Charges a card into a fault: one charge in the end.
async fn charged_into(stage: &Stage, fault: &str, more: Value) {
    stage.fault("start", fault, more).await;
    let intent = stage.card_intent(45_00, stage.bank.card(), json!({})).await;
    stage.status(&intent, "succeeded").await;
}

/// Puts off the looks at an attempt of this amount, so that only a call-back tells of its money.
pub async fn nobody_looks(stage: &Stage, satang: i64) {
    let sql = "update process.task set due_at = due_at + interval '1 hour'
               where tenant = $1 and key like 'watch:%' and (task -> 'amount' ->> 'amount')::bigint = $2 and leased_until is null";
    patiently("its watch is put off", || async {
        let moved = sqlx::query(sql).bind(tenant_of(stage.shop.merchant)).bind(satang);
        let moved = moved.execute(&stage.platform.database.admin).await.unwrap().rows_affected();
        (moved == 1).then_some(())
    })
    .await;
}

/// The payment of this amount succeeded although no call that was to begin it was answered.
pub async fn succeeded_unanswered(stage: &Stage, satang: i64) {
    let sql = "select count(*), count(x.status) from log.event s
               join gateway.exchange x on x.tenant = s.tenant and x.subject = convert_from(s.payload, 'UTF8')::jsonb ->> 'attempt_id'
               where s.tenant = $1 and s.type = 'payment_intent.succeeded' and x.operation = 'start' and x.sent_at < s.recorded_at
                 and (convert_from(s.payload, 'UTF8')::jsonb -> 'amount' ->> 'amount')::bigint = $2";
    // What was said is kept when the connector gives up, which may be long after the payment.
    let (made, answered) = patiently("the call is given up", || async {
        let calls = sqlx::query_as::<_, (i64, i64)>(sql).bind(tenant_of(stage.shop.merchant)).bind(satang);
        let calls = calls.fetch_one(&stage.platform.database.admin).await.unwrap();
        (calls.0 > 0).then_some(calls)
    })
    .await;
    assert_eq!(answered, 0, "{:?}: of {made} calls: only the answer was believed", stage.bank);
}

/// Every call of every provider that moves money, into a time-out, side by side.
async fn every_money_call_into(platform: &Arc<TestPlatform>, fault: &str) {
    let late = || json!({"delay_ms": TOO_LATE_MS});
    join_all(Bank::ALL.map(|bank| async move {
        let (start, refund) = (Stage::open(platform, bank).await, Stage::open(platform, bank).await);
        tokio::join!(begun_into(&start, fault, late()), refunded_into(&refund, fault, late()));
        tokio::join!(start.ledgers_agree(), refund.ledgers_agree());
    }))
    .await;
}

async fn every_card_call_into(platform: &Arc<TestPlatform>, fault: &str) {
    let late = || json!({"delay_ms": TOO_LATE_MS});
    join_all([Bank::Omise, Bank::Stripe].map(|bank| async move {
        let (charge, capture) = (Stage::open(platform, bank).await, Stage::open(platform, bank).await);
        tokio::join!(charged_into(&charge, fault, late()), captured_into(&capture, fault, late()));
        tokio::join!(charge.ledgers_agree(), capture.ledgers_agree());
        assert_eq!((charge.payments_there().await, capture.payments_there().await), (1, 1), "{bank:?}: charged twice");
    }))
    .await;
}

pub async fn f01_a_connection_refused_or_reset_is_tried_again_and_charges_once(platform: Arc<TestPlatform>) {
    join_all(Bank::ALL.map(|bank| {
        let platform = platform.clone();
        async move {
            let stage = Stage::open_with(&platform, bank, Setup { open: false, ..Setup::default() }).await;
            let intent = stage.intent(120_50).await;
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            let shown = stage.status(&intent, "processing").await;
            assert_eq!(shown["outcome_unknown"], false, "nothing was sent");
            stage.serve().await;
            stage.pay_in_the_end(&intent).await;
            assert_eq!(stage.attempts_there().await, 1);
            begun_into(&stage, "reset_before", json!({})).await;
            refunded_into(&stage, "reset_before", json!({})).await;
            stage.ledgers_agree().await;
        }
    }))
    .await;
}

pub async fn f02_a_time_out_before_the_provider_acted_ends_in_one_charge_and_one_refund(platform: Arc<TestPlatform>) {
    tokio::join!(every_money_call_into(&platform, "timeout_before"), every_card_call_into(&platform, "timeout_before"));
}

pub async fn f03_an_answer_lost_after_the_charge_is_found_by_inquiry(platform: Arc<TestPlatform>) {
    let unknown_is_shown = async {
        let stage = Stage::open(&platform, Bank::Scb).await;
        stage.fault("start", "reset_after", json!({"times": 4})).await;
        let intent = stage.intent(33_00).await;
        let shown = stage.until("the outcome is unknown", &intent, |shown| shown["outcome"]["state"] == "unknown").await;
        assert_eq!((&shown["status"], &shown["outcome"]["step"]), (&json!("processing"), &json!("inquiry")));
        assert!(shown["outcome"]["resolves_by"].is_string(), "{shown}");
        stage.pay_in_the_end(&intent).await;
        stage.ledgers_agree().await;
    };
    let every = every_money_call_into(&platform, "timeout_after");
    tokio::join!(unknown_is_shown, every, every_card_call_into(&platform, "timeout_after"));
}

pub async fn f04_an_answer_cut_or_empty_or_not_json_is_never_a_success(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        for fault in ["cut_body", "not_json", "empty_body"] {
            begun_into(&stage, fault, json!({})).await;
            refunded_into(&stage, fault, json!({})).await;
            let (intent, reference) = stage.payable(10_00).await;
            stage.fault("inquire", fault, json!({"times": 2})).await;
            stage.pay_and_tell(&reference).await;
            stage.status(&intent, "succeeded").await;
        }
        stage.ledgers_agree().await;
    })
    .await;
}

/// A charge whose answer does not come and another one beside it: whether that one had its own before the first was given up.
async fn a_quick_one_beside_a_slow_one(stage: &Stage) -> bool {
    stage.fault("start", "slow", json!({"delay_ms": NEVER_MS})).await;
    let slow = stage.card_intent(45_00, stage.bank.card(), json!({})).await;
    patiently("the slow call is out", || async { (stage.attempts_there().await == 1).then_some(()) }).await;
    // Should the call-back take long, the repeat is not answered either.
    let repeats = async {
        let shown = stage.until("an attempt", &slow, |shown| shown["reference"].is_string()).await;
        let these = json!({"delay_ms": NEVER_MS, "times": 1_000, "reference": shown["reference"]});
        stage.fault("start", "slow", these).await;
    };
    let (quick, ()) = tokio::join!(stage.card_intent(46_00, stage.bank.card(), json!({})), repeats);
    tokio::join!(stage.status(&slow, "succeeded"), stage.status(&quick, "succeeded"));
    stage.clear_faults().await;
    succeeded_unanswered(stage, 45_00).await;
    let sql = "select s.recorded_at < (select min(x.sent_at + x.took_ms * interval '1 millisecond') from gateway.exchange x
                                       where x.tenant = s.tenant and x.operation = 'start' and x.status is null)
               from log.event s where s.tenant = $1 and s.type = 'payment_intent.succeeded'
                 and (convert_from(s.payload, 'UTF8')::jsonb -> 'amount' ->> 'amount')::bigint = 4600";
    let meanwhile = sqlx::query_scalar::<_, bool>(sql).bind(tenant_of(stage.shop.merchant));
    let meanwhile = meanwhile.fetch_one(&stage.platform.database.admin).await.unwrap();
    stage.ledgers_agree().await;
    assert_eq!(stage.payments_there().await, 2);
    meanwhile
}

pub async fn f05_a_slow_answer_blocks_nobody_and_its_call_back_wins(platform: Arc<TestPlatform>) {
    at_each(&platform, [Bank::Omise, Bank::Stripe], |mut stage| async move {
        // The connectors give up after ten seconds, which a busy machine may take for the quick one alone. If it had to wait, it would wait
        // each time.
        for _ in 0..4 {
            if a_quick_one_beside_a_slow_one(&stage).await {
                return;
            }
            stage = Stage::open(&stage.platform, stage.bank).await;
        }
        let meanwhile = a_quick_one_beside_a_slow_one(&stage).await;
        assert!(meanwhile, "{:?}: the quick one waited until the slow call was given up", stage.bank);
    })
    .await;
}

pub async fn f06_server_errors_with_and_without_effect_end_in_one_charge_and_trouble_nobody_else(platform: Arc<TestPlatform>) {
    let each = at_each(&platform, Bank::ALL, |stage| async move {
        for status in [500, 502, 503, 504] {
            begun_into(&stage, "http_500", json!({"status": status})).await;
            begun_into(&stage, "http_500_after", json!({"status": status})).await;
        }
        refunded_into(&stage, "http_500_after", json!({"status": 502})).await;
        stage.ledgers_agree().await;
    });
    let run = async {
        let (away, well) = (Stage::open(&platform, Bank::Stripe).await, Stage::open(&platform, Bank::Stripe).await);
        // Away until the test has seen it.
        away.fault("start", "http_500", json!({"times": 1_000})).await;
        away.fault("inquire", "http_500", json!({"times": 1_000})).await;
        let mut begun = join_all((0..3).map(|n| away.card_intent(45_00 + n, "pm_card_visa", json!({})))).await;
        // Where the circuit stands is written into the choice of the next payment.
        loop {
            assert!(begun.len() < 60, "the circuit did not open");
            let next = away.card_intent(48_00, "pm_card_visa", json!({})).await;
            let shown = away.until("it was routed", &next, |shown| shown["route"].is_string()).await;
            begun.push(next);
            let route = shown["route"].as_str().unwrap();
            if route.contains(", away") || route.contains(", recovering") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        well.paid(30_00).await;
        // A look that is answered lets one call try, and that closes it.
        away.clear_faults().await;
        join_all(begun.iter().map(|intent| away.status(intent, "succeeded"))).await;
        tokio::join!(away.ledgers_agree(), well.ledgers_agree());
        assert_eq!(away.payments_there().await, begun.len());
    };
    tokio::join!(each, run);
}

pub async fn f07_too_many_calls_are_waited_out_and_nothing_is_lost(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        stage.fault("start", "http_429", json!({"times": 2, "retry_after_s": 1})).await;
        let intents = join_all((0..4).map(|n| stage.intent(20_00 + n))).await;
        for intent in &intents {
            let reference = stage.reference(intent).await;
            stage.fault("inquire", "http_429", json!({"retry_after_s": 1})).await;
            stage.pay_and_tell(&reference).await;
        }
        join_all(intents.iter().map(|intent| stage.status(intent, "succeeded"))).await;
        refunded_into(&stage, "http_429", json!({"retry_after_s": 1})).await;
        stage.ledgers_agree().await;
        assert_eq!(stage.payments_there().await, 5);
    })
    .await;
}

pub async fn f08_a_lapsed_token_is_renewed_once_for_all_and_never_in_a_loop(platform: Arc<TestPlatform>) {
    at_each(&platform, [Bank::Scb, Bank::Kbank], |stage| async move {
        let bank = stage.bank;
        // Without a token nothing is sent: it waits, and is known not to have been sent.
        stage.fault("token", "http_500", json!({"times": 2})).await;
        let intents = join_all((0..6).map(|n| stage.intent(20_00 + n))).await;
        let references = join_all(intents.iter().map(|intent| stage.reference(intent))).await;
        let issued = stage.sim("/sim/health").await["tokens_issued"].as_i64().unwrap();
        stage.fault("inquire", "token_expired", json!({})).await;
        join_all(references.iter().map(|reference| stage.pay_and_tell(reference))).await;
        join_all(intents.iter().map(|intent| stage.status(intent, "succeeded"))).await;
        let renewed = stage.sim("/sim/health").await["tokens_issued"].as_i64().unwrap() - issued;
        // Whoever was under way with the old one is refused once more.
        assert!((1..=3).contains(&renewed), "{bank:?}: {renewed} new tokens for six calls");
        // A storm: every call is refused, whatever token it has.
        stage.fault("inquire", "token_expired", json!({"times": 6})).await;
        let intent = stage.intent(31_00).await;
        stage.pay_and_tell(&stage.reference(&intent).await).await;
        stage.status(&intent, "succeeded").await;
        let stormed = stage.sim("/sim/health").await["tokens_issued"].as_i64().unwrap() - issued - renewed;
        assert!(stormed <= 7, "{bank:?}: {stormed} tokens in a storm of six refusals");
        stage.ledgers_agree().await;
        let secrets = "scb-secret|kb-secret|kb-partner|simk-|sim-0";
        let sql = "select count(*) from gateway.exchange where provider = $1 and exchange::text ~ $2";
        let asked = sqlx::query_scalar(sql).bind(&stage.account).bind(secrets);
        let shown: i64 = asked.fetch_one(&stage.platform.database.admin).await.unwrap();
        assert_eq!(shown, 0, "a secret or a token stands in what was said");
    })
    .await;
}

pub async fn f09_a_business_error_inside_http_200_is_not_a_success(platform: Arc<TestPlatform>) {
    let stage = Stage::open(&platform, Bank::Kbank).await;
    for fault in ["trouble", "trouble_after"] {
        begun_into(&stage, fault, json!({})).await;
        refunded_into(&stage, fault, json!({})).await;
        let (intent, reference) = stage.payable(40_00).await;
        stage.fault("cancel", fault, json!({})).await;
        let path = format!("/v1/payment-intents/{intent}/cancel");
        stage.post(&stage.shop.cashier, &path, json!({"reason": "duplicate"})).await.ok();
        stage.status(&intent, "canceled").await;
        let refused = stage.lever("/sim/pay", json!({"reference": reference, "webhook": "never"})).await;
        assert!(!refused.status.is_success(), "{fault}: it can still be paid");
    }
    stage.ledgers_agree().await;
}

pub async fn f10_unknown_words_and_fields_decide_nothing_and_amounts_are_exact(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        let bank = stage.bank;
        for (satang, operation, fault) in [
            (1, "start", "extra_fields"),
            (99_99, "inquire", "extra_fields"),
            (100_01, "inquire", "unknown_status"),
            (123_456_78, "inquire", "unknown_status"),
        ] {
            if operation == "start" {
                stage.fault(operation, fault, json!({})).await;
            }
            let (intent, reference) = stage.payable(satang).await;
            if operation == "inquire" {
                stage.fault(operation, fault, json!({"times": 2, "reference": reference})).await;
            }
            stage.pay_and_tell(&reference).await;
            let shown = stage.status(&intent, "succeeded").await;
            assert_eq!(shown["captured"]["amount"], satang, "{bank:?}");
        }
        stage.ledgers_agree().await;
    })
    .await;
}

pub async fn f24_an_answer_that_it_is_a_duplicate_adopts_the_first_one(platform: Arc<TestPlatform>) {
    let codes = at_each(&platform, [Bank::Scb, Bank::Kbank], |stage| async move {
        // The bank has the code and it is paid before it can be asked for again.
        stage.fault("start", "http_500_after", json!({})).await;
        let intent = stage.intent(60_00).await;
        let reference = stage.until("an attempt", &intent, |shown| shown["reference"].is_string()).await;
        let reference = reference["reference"].as_str().unwrap().to_owned();
        let there = async {
            while stage.attempts_there().await == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, there).await.expect("the bank has the code");
        stage.lever("/sim/pay", json!({"reference": reference, "webhook": "never"})).await;
        let ended = |shown: &Value| shown["status"] == "succeeded" || shown["status"] == "requires_payment_method";
        stage.until("the first one is adopted", &intent, ended).await;
        stage.ledgers_agree().await;
        assert_eq!(stage.attempts_there().await, 1);
    });
    let key = async {
        let stage = Stage::open(&platform, Bank::Stripe).await;
        // The key's stored answer is a 500 for ever; only the books know of the charge.
        let intent = stage.card_intent(45_00, "pm_sim_stored_500", json!({})).await;
        stage.status(&intent, "succeeded").await;
        stage.ledgers_agree().await;
        assert_eq!(stage.payments_there().await, 1);
    };
    tokio::join!(codes, key);
}

pub async fn f25_a_payment_that_the_books_do_not_show_yet_is_asked_for_until_they_do(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        let bank = stage.bank;
        for more in [json!({"webhook": {"retry_ms": 500}}), json!({"webhook": "never"})] {
            let (intent, reference) = stage.payable(70_00).await;
            stage.fault("inquire", "not_visible_yet", json!({"times": 2, "reference": reference})).await;
            stage.pay(&reference, more).await;
            let open = |shown: &Value| !["requires_action", "processing"].contains(&shown["status"].as_str().unwrap_or_default());
            let ended = stage.until("it ends", &intent, open).await;
            assert_eq!(ended["status"], "succeeded", "{bank:?}: absence was taken for proof");
        }
        stage.ledgers_agree().await;
    })
    .await;
}
