//! Starting and asking.

use std::fmt::Write as _;

use domain::{
    money::Money,
    provider::{AttemptKey, AttemptStatus, AttemptView, CallOutcome, NextAction, StartRequest},
};
use gateway::promptpay::ParsedQr;
use serde_json::json;

use crate::world::{Launch, Setup, World};

/// Faults that look as if anything may have happened.
pub const UNCLEAR: [&str; 10] = [
    "reset_before",
    "reset_after",
    "timeout_before",
    "timeout_after",
    "http_500",
    "http_500_after",
    "cut_body",
    "not_json",
    "empty_body",
    "trouble",
];

pub async fn an_attempt_is_started_paid_and_found(launch: Launch) {
    let world = launch(Setup::default()).await;
    let mut request = world.request(100_50);
    let outcome = world.start(&request).await;
    let CallOutcome::Done(view) = outcome else { panic!("not started: {outcome:?}") };
    if let AttemptStatus::ActionRequired(NextAction::ShowQr { payload }) = &view.status {
        let qr = ParsedQr::parse(payload).unwrap();
        assert_eq!((qr.dynamic, qr.amount), (true, Some(request.key.amount)));
    }
    request.key.provider_id = view.provider_id;
    let before = world.view(&request).await;
    assert!(before.payments.is_empty() && before.status != AttemptStatus::Paid, "{before:?}");
    let payment = world.pay(&request, json!({})).await;
    let view = world.view(&request).await;
    assert_eq!(view.status, AttemptStatus::Paid);
    assert_eq!(view.payments.len(), 1);
    assert_eq!(view.payments[0].amount, request.key.amount);
    assert_eq!(view.payments[0].refunded, 0);
    assert_eq!(Some(view.payments[0].transaction_id.as_str()), payment["transaction_id"].as_str());
    assert_eq!(world.view(&request).await, view, "the same question has the same answer");
}

pub async fn amounts_are_exact(launch: Launch) {
    for seed in [0, 1] {
        let world = launch(Setup { seed }).await;
        for satang in [100_50, 1, 20_00, 700_000_00, 99_99] {
            let (request, _) = world.paid(satang).await;
            // Twice, since answers alternate between numbers and text.
            for _ in 0..2 {
                assert_eq!(world.view(&request).await.payments[0].amount, Money::thb(satang));
            }
        }
    }
}

pub async fn money_that_differs_is_shown_as_it_is(launch: Launch) {
    let world = launch(Setup::default()).await;
    for (amount, currency) in [(99_99, "THB"), (100_01, "THB"), (100_00, "USD")] {
        let request = world.started(100_00).await;
        let (paid, _) = world.try_pay(&request, json!({"amount": amount, "currency": currency})).await;
        if paid {
            let expected = Money::new(amount, currency.parse().unwrap());
            assert_eq!(world.view(&request).await.payments[0].amount, expected);
        }
    }
}

pub async fn a_payment_twice_is_shown_twice_or_refused(launch: Launch) {
    let world = launch(Setup::default()).await;
    let request = world.started(50_00).await;
    world.pay(&request, json!({})).await;
    let (again, _) = world.try_pay(&request, json!({})).await;
    assert_eq!(again, world.traits.pays_twice);
    if again {
        let view = world.view(&request).await;
        let received: i64 = view.payments.iter().map(|p| p.amount.amount).sum();
        assert_eq!(received, world.ledger().await["totals"]["received"].as_i64().unwrap());
    }
}

/// Asks again, as the platform would, until the start is done or finally refused.
async fn persevere(world: &World, request: &StartRequest) -> CallOutcome<AttemptView> {
    for _ in 0..5 {
        let outcome = world.start(request).await;
        if matches!(outcome, CallOutcome::Done(_) | CallOutcome::Declined(_)) {
            return outcome;
        }
        world.settle();
    }
    panic!("no outcome after five tries");
}

pub async fn every_fault_of_a_start_has_its_outcome_and_leaves_one_thing(launch: Launch) {
    let world = launch(Setup::default()).await;
    for fault in UNCLEAR.into_iter().chain(["trouble_after", "http_429"]) {
        world.fault("start", fault, 1).await;
        let request = world.request(75_25);
        let outcome = world.start(&request).await;
        match fault {
            "http_429" => assert!(matches!(outcome, CallOutcome::NotAttempted(_)), "{fault}: {outcome:?}"),
            _ => assert!(matches!(outcome, CallOutcome::Unknown(_)), "{fault}: {outcome:?}"),
        }
        let outcome = persevere(&world, &request).await;
        assert_eq!(world.attempts_on(&request).await, 1, "{fault}: {outcome:?}");
        match outcome {
            CallOutcome::Done(view) if !matches!(view.status, AttemptStatus::Failed(_)) => {
                let mut request = request;
                request.key.provider_id = view.provider_id;
                world.pay(&request, json!({})).await;
                let seen = world.view(&request).await;
                assert_eq!((seen.status, seen.payments.len()), (AttemptStatus::Paid, 1), "{fault}");
            }
            refused @ (CallOutcome::Done(_) | CallOutcome::Declined(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_)) => {
                let (payable, _) = world.try_pay(&request, json!({})).await;
                assert!(!payable, "{fault}: it was paid after {refused:?}");
            }
        }
    }
    assert_eq!(world.faults_left().await, 0);
}

pub async fn a_failed_look_says_nothing_and_can_be_repeated(launch: Launch) {
    let world = launch(Setup::default()).await;
    let (request, _) = world.paid(10_00).await;
    for fault in UNCLEAR.into_iter().chain(["http_429"]) {
        world.fault("inquire", fault, 1).await;
        let outcome = world.inquire(&request).await;
        assert!(matches!(outcome, CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_)), "{fault}: {outcome:?}");
        assert_eq!(world.view(&request).await.status, AttemptStatus::Paid, "{fault}");
    }
    assert_eq!(world.faults_left().await, 0);
}

pub async fn fields_of_tomorrow_are_passed_over(launch: Launch) {
    let world = launch(Setup::default()).await;
    world.fault("start", "extra_fields", 1).await;
    let (request, _) = world.paid(10_00).await;
    world.fault("inquire", "extra_fields", 1).await;
    assert_eq!(world.view(&request).await.status, AttemptStatus::Paid);
    assert_eq!(world.faults_left().await, 0);
}

pub async fn a_status_of_tomorrow_stays_open(launch: Launch) {
    let world = launch(Setup::default()).await;
    if !world.traits.has_status {
        return;
    }
    let request = world.started(10_00).await;
    world.fault("inquire", "unknown_status", 1).await;
    let status = world.view(&request).await.status;
    assert!(matches!(&status, AttemptStatus::Unrecognized(_)), "{status:?}");
    world.pay(&request, json!({})).await;
    assert_eq!(world.view(&request).await.status, AttemptStatus::Paid);
}

pub async fn a_payment_not_visible_yet_is_no_proof_of_anything(launch: Launch) {
    let world = launch(Setup::default()).await;
    let (request, _) = world.paid(10_00).await;
    world.fault("inquire", "not_visible_yet", 1).await;
    let outcome = world.inquire(&request).await;
    let proves = matches!(&outcome, CallOutcome::Done(view) if !matches!(view.status, AttemptStatus::NotFound | AttemptStatus::Pending));
    assert!(!proves, "{outcome:?}");
    assert_eq!(world.view(&request).await.status, AttemptStatus::Paid);
}

pub async fn what_is_not_visible_yet_is_seen_by_no_way_of_looking(launch: Launch) {
    let world = launch(Setup::default()).await;
    let (named, _) = world.paid(10_00).await;
    // Without the provider's own name some look through a list.
    let unnamed = StartRequest { key: AttemptKey { provider_id: None, ..named.key.clone() }, ..named.clone() };
    let rule = json!({"operation": "inquire", "fault": "not_visible_yet", "times": 2, "reference": named.key.reference});
    assert!(world.lever("/sim/faults", rule).await.0);
    for request in [&unnamed, &named] {
        let outcome = world.inquire(request).await;
        assert!(!matches!(&outcome, CallOutcome::Done(AttemptView { status: AttemptStatus::Paid, .. })), "{outcome:?}");
    }
    assert_eq!(world.faults_left().await, 0);
    assert_eq!(world.view(&unnamed).await.status, AttemptStatus::Paid);
}

pub async fn a_dead_host_is_not_an_attempt(launch: Launch) {
    let world = launch(Setup::default()).await;
    let request = world.request(10_00);
    world.stop.cancel();
    let mut outcome = world.start(&request).await;
    // The listener may take a moment to close; until then the port answers.
    for _ in 0..100 {
        if matches!(outcome, CallOutcome::NotAttempted(_)) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        outcome = world.start(&request).await;
    }
    assert!(matches!(outcome, CallOutcome::NotAttempted(_)), "{outcome:?}");
}

pub async fn a_provider_that_asks_for_a_pause_gets_it(launch: Launch) {
    let world = launch(Setup::default()).await;
    let request = world.started(10_00).await;
    let rule = json!({"operation": "inquire", "fault": "http_429", "times": 1, "retry_after_s": 20});
    assert!(world.lever("/sim/faults", rule).await.0);
    assert!(matches!(world.inquire(&request).await, CallOutcome::NotAttempted(_)));
    world.exchanges();
    world.advance_seconds(19);
    assert!(matches!(world.inquire(&request).await, CallOutcome::NotAttempted(_)));
    assert!(world.exchanges().is_empty(), "it was called during the pause");
    world.advance_seconds(1);
    world.view(&request).await;
}

pub async fn a_slow_answer_is_waited_for_within_the_time_limit(launch: Launch) {
    let world = launch(Setup::default()).await;
    world.fault("start", "slow", 1).await;
    world.started(10_00).await;
    assert_eq!(world.faults_left().await, 0);
}

pub async fn the_simulator_tells_how_long_it_held_an_answer_and_when_it_called_back(launch: Launch) {
    let world = launch(Setup::default()).await;
    let rule = json!({"operation": "start", "fault": "slow", "times": 1, "delay_ms": 120});
    assert!(world.lever("/sim/faults", rule).await.0);
    let request = world.started(10_00).await;
    world.pay(&request, json!({"webhook": {"copies": 1}})).await;
    let timings = world.lever("/sim/timings", json!({})).await.1;
    let timings = timings.as_array().unwrap();
    let start = timings.iter().find(|timing| timing["operation"] == "start").unwrap();
    assert!(start["held_micros"].as_u64().unwrap() >= 120_000, "{start}");
    let called_back = timings.iter().filter(|timing| timing["operation"].is_null()).count();
    assert_eq!(called_back, 1, "{timings:?}");
    assert_eq!(world.lever("/sim/timings", json!({})).await.1, json!([]), "it forgets what it handed out");
}

pub async fn a_refused_token_is_renewed_once(launch: Launch) {
    let world = launch(Setup::default()).await;
    if !world.traits.has_tokens {
        return;
    }
    let request = world.started(10_00).await;
    world.fault("inquire", "token_expired", 1).await;
    world.view(&request).await;
    world.fault("inquire", "token_expired", 9).await;
    let outcome = world.inquire(&request).await;
    assert!(matches!(&outcome, CallOutcome::Declined(d) if d.code == "credentials_refused"), "{outcome:?}");
    let left = world.lever("/sim/faults", json!([])).await.1[0]["times"].as_u64();
    assert_eq!(left, Some(7), "one call and one repeat");
}

pub async fn requests_that_make_no_sense_are_declined(launch: Launch) {
    let world = launch(Setup::default()).await;
    for amount in [Money::thb(0), Money::thb(-1)] {
        let mut request = world.request(1);
        request.key.amount = amount;
        let outcome = world.start(&request).await;
        assert!(matches!(&outcome, CallOutcome::Declined(d) if d.code == "invalid_request"), "{outcome:?}");
        assert_eq!(world.attempts_on(&request).await, 0);
    }
}

pub async fn secrets_show_nowhere(launch: Launch) {
    let world = launch(Setup::default()).await;
    let mut shown = String::new();
    for fault in ["http_429", "not_json", "timeout_after", "token_expired", "cut_body", "trouble"] {
        world.fault("start", fault, 2).await;
        while world.faults_left().await > 0 {
            write!(shown, "{:?}", world.start(&world.request(10_00)).await).unwrap();
        }
    }
    let (request, refund) = world.paid(10_00).await;
    write!(shown, "{:?}{:?}", world.refund(&refund).await, world.inquire(&request).await).unwrap();
    let exchanges = world.exchanges();
    let operations: Vec<&str> = exchanges.iter().map(|e| e.operation).collect();
    for operation in ["start", "inquire", "refund"] {
        assert!(operations.contains(&operation), "{operation} is not among {operations:?}");
    }
    assert!(exchanges.iter().any(|e| e.status.is_none()) && exchanges.iter().any(|e| e.status == Some(200)));
    write!(shown, "{exchanges:?}").unwrap();
    for secret in world.traits.secrets {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
}
