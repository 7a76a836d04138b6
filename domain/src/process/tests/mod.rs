//! What each manager does about each event; `flows` has what comes of it in the end.

use std::path::Path;

use super::*;
use crate::{
    bill,
    decider::Aggregate,
    envelope::StreamType,
    event::AggregateEvent,
    ids::{AttemptId, BillId, OrderId, PaymentIntentId, RefundId, Ulid},
    money::Money,
    payment_intent::{self, Evidence, PaymentIntent, Tender},
    refund::{self, Destination, ProviderPayment},
};

mod flows;
mod provider_world;
mod world;

fn id<T: From<Ulid>>(n: u128) -> T {
    Ulid::from(n).into()
}

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + chrono::Duration::minutes(minute)
}

fn react(react: fn(&Happened<'_>) -> Vec<Intent>, event: &DomainEvent) -> Vec<Intent> {
    react(&Happened { tenant: id(1), stream_id: id(10), position: 7, recorded_at: at(0), event })
}

fn of<E: AggregateEvent>(event_type: &str, version: i16, payload: &[u8]) -> E {
    E::decode(event_type, version, payload).unwrap()
}

/// The stored sample of an event type, as the catalogue test keeps it.
fn sample(event_type: &str, version: i16) -> DomainEvent {
    let file = format!("../schemas/events/samples/{event_type}.v{version}.json");
    let payload = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).expect(&file);
    match StreamType::parse(event_type.split('.').next().unwrap()).unwrap() {
        StreamType::Merchant => DomainEvent::Merchant(of(event_type, version, &payload)),
        StreamType::Store => DomainEvent::Store(of(event_type, version, &payload)),
        StreamType::Order => DomainEvent::Order(of(event_type, version, &payload)),
        StreamType::Bill => DomainEvent::Bill(of(event_type, version, &payload)),
        StreamType::PaymentIntent => DomainEvent::PaymentIntent(of(event_type, version, &payload)),
        StreamType::Refund => DomainEvent::Refund(of(event_type, version, &payload)),
        StreamType::LedgerAdjustment => DomainEvent::LedgerAdjustment(of(event_type, version, &payload)),
        StreamType::Customer => DomainEvent::Customer(of(event_type, version, &payload)),
        StreamType::ProviderAccount => DomainEvent::ProviderAccount(of(event_type, version, &payload)),
        StreamType::WebhookEndpoint => DomainEvent::WebhookEndpoint(of(event_type, version, &payload)),
    }
}

/// The event types that concern each manager; every other gives nothing.
const CONCERNS: &[(&str, &[&str])] = &[
    ("checkout", &["bill.paid", "payment_intent.succeeded", "payment_intent.canceled", "payment_intent.expired"]),
    ("refund", &["refund.succeeded", "refund.failed", "refund.left_to_person", "refund.taken_back", "refund.found_sent"]),
    (
        "provider_calls",
        &[
            "payment_intent.created",
            "payment_intent.attempt_started",
            "payment_intent.attempt_failed",
            "payment_intent.attempt_accepted",
            "payment_intent.cancel_requested",
            "payment_intent.capture_requested",
            "payment_intent.increase_requested",
            "refund.requested",
        ],
    ),
    // The stored sample is a refusal of the request, which would be refused elsewhere as well.
    ("rerouting", &[]),
];

#[test]
fn a_manager_reacts_to_the_events_of_its_concern_and_to_no_other() {
    assert_eq!(ALL.iter().map(|manager| manager.name).collect::<Vec<_>>(), CONCERNS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for spec in DomainEvent::catalog() {
        let event = sample(spec.event_type, spec.version);
        for (manager, (name, concerns)) in ALL.iter().zip(CONCERNS) {
            let intents = react(manager.react, &event);
            assert_eq!(!intents.is_empty(), concerns.contains(&spec.event_type), "{name} and {}: {intents:?}", spec.event_type);
        }
    }
}

#[test]
fn the_same_event_gives_the_same_reaction() {
    for spec in DomainEvent::catalog() {
        let event = sample(spec.event_type, spec.version);
        for manager in ALL {
            assert_eq!(format!("{:?}", react(manager.react, &event)), format!("{:?}", react(manager.react, &event)));
        }
    }
}

fn succeeded(bill_id: Option<BillId>) -> DomainEvent {
    DomainEvent::PaymentIntent(
        payment_intent::Succeeded {
            payment_intent_id: id(10),
            bill_id,
            tender: Tender::Cash,
            attempt_id: None,
            transaction_id: None,
            amount: Money::thb(476_00),
            paid_at: at(1),
            evidence: Evidence::Staff,
            cash_received: Some(500_00),
            cash_change: Some(23_75),
            cash_rounding: 25,
            tip: 20_00,
            acquirer: Some("drawer 2".into()),
        }
        .into(),
    )
}

#[test]
fn captured_money_goes_to_its_bill() {
    let intents = react(checkout::react, &succeeded(Some(id(3))));
    let [Intent::Commands(commands)] = &intents[..] else { panic!("{intents:?}") };
    let [ProcessCommand::AllocatePayment { bill_id, payment_intent_id, tender, amount, cash_rounding, tip, acquirer }] = &commands[..]
    else {
        panic!("{commands:?}");
    };
    assert_eq!((*bill_id, *payment_intent_id), (id(3), id(10)));
    assert_eq!((*tender, *amount, *cash_rounding), (Tender::Cash, 476_00, 25));
    assert_eq!((*tip, acquirer.as_deref()), (20_00, Some("drawer 2")));
    assert!(react(checkout::react, &succeeded(None)).is_empty(), "a payment without a bill settles none");
}

#[test]
fn a_payment_that_came_to_nothing_frees_its_bill() {
    let ends = |bill_id: Option<BillId>| -> [payment_intent::Event; 2] {
        [payment_intent::Canceled { bill_id, reason: "x".into() }.into(), payment_intent::Expired { bill_id }.into()]
    };
    for event in ends(Some(id(3))) {
        let intents = react(checkout::react, &DomainEvent::PaymentIntent(event));
        let [Intent::Commands(commands)] = &intents[..] else { panic!("{intents:?}") };
        let [ProcessCommand::ReleaseReservation { bill_id, payment_intent_id }] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!((*bill_id, *payment_intent_id), (id(3), id(10)));
    }
    for event in ends(None) {
        assert!(react(checkout::react, &DomainEvent::PaymentIntent(event)).is_empty());
    }
}

#[test]
fn each_order_of_a_paid_bill_is_completed_by_itself() {
    let paid = bill::Paid { bill_id: id(3), order_ids: vec![id(7), id(8)], total: 1 };
    let intents = react(checkout::react, &DomainEvent::Bill(paid.into()));
    let completed: Vec<OrderId> = intents
        .iter()
        .map(|intent| match intent {
            Intent::Commands(commands) => match &commands[..] {
                [ProcessCommand::CompleteOrder { order_id, bill_id }] if *bill_id == id(3) => *order_id,
                _ => panic!("{commands:?}"),
            },
            Intent::Schedule { .. } | Intent::RememberReference(_) => panic!("{intent:?}"),
        })
        .collect();
    assert_eq!(completed, [id::<OrderId>(7), id(8)]);
}

fn requested(destination: Destination, provider: Option<ProviderPayment>) -> refund::Requested {
    let provider = provider.map(Box::new);
    refund::Requested {
        unmatched: false,
        fallback_of: None,
        refund_id: id(5),
        payment_intent_id: Some(id(10)),
        bill_id: Some(id(3)),
        store_id: id(2),
        business_date: at(0).date_naive(),
        amount: Money::thb(50_00),
        tender: Tender::PromptPay,
        acquirer: None,
        destination,
        reason: "cold soup".into(),
        provider,
        breakdown: None,
        cash_rounding: 0,
    }
}

fn provider_payment() -> ProviderPayment {
    ProviderPayment {
        provider: "scb".into(),
        reference: "REF".into(),
        provider_id: None,
        transaction_id: "T1".into(),
        captured: Money::thb(117_70),
        paid_at: at(1),
    }
}

#[test]
fn a_refund_that_went_through_is_told_to_payment_and_bill_together() {
    let done = |bill_id| {
        let (refund_id, payment_intent_id, amount) = (id(5), Some(id(10)), Money::thb(50_00));
        DomainEvent::Refund(refund::Succeeded { refund_id, payment_intent_id, bill_id, amount, provider_reference: None }.into())
    };
    let intents = react(super::refund::react, &done(Some(id(3))));
    let [Intent::Commands(commands)] = &intents[..] else { panic!("{intents:?}") };
    let [ProcessCommand::SettleRefund { .. }, ProcessCommand::RecordBillRefund { bill_id, amount, .. }] = &commands[..] else {
        panic!("{commands:?}");
    };
    assert_eq!((*bill_id, *amount), (id(3), 50_00));
    let intents = react(super::refund::react, &done(None));
    assert!(matches!(&intents[..], [Intent::Commands(commands)] if matches!(&commands[..], [ProcessCommand::SettleRefund { .. }])));
}

#[test]
fn a_refused_refund_frees_what_was_set_aside() {
    let failed = refund::Failed { refund_id: id(5), payment_intent_id: id(10), code: "x".into(), message: "y".into() };
    let intents = react(super::refund::react, &DomainEvent::Refund(failed.into()));
    let [Intent::Commands(commands)] = &intents[..] else { panic!("{intents:?}") };
    let [ProcessCommand::ReleaseRefund { payment_intent_id, refund_id }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((*payment_intent_id, *refund_id), (id(10), id(5)));
}

#[test]
fn a_refund_that_did_not_happen_after_all_is_taken_back_by_payment_and_bill_together() {
    let (refund_id, payment_intent_id, bill_id, amount) = (id(5), id(10), Some(id(3)), Money::thb(50_00));
    let taken = refund::TakenBack { refund_id, payment_intent_id, bill_id, amount, code: "x".into(), message: "y".into() };
    let intents = react(super::refund::react, &DomainEvent::Refund(taken.into()));
    let [Intent::Commands(commands)] = &intents[..] else { panic!("{intents:?}") };
    let [ProcessCommand::TakeBackRefund { refund_id, .. }, ProcessCommand::TakeBackBillRefund { bill_id, .. }] = &commands[..] else {
        panic!("{commands:?}");
    };
    assert_eq!((*refund_id, *bill_id), (id(5), id(3)));
}

fn started() -> payment_intent::AttemptStarted {
    payment_intent::AttemptStarted {
        payment_intent_id: id(10),
        attempt_id: id(2),
        provider: "scb".into(),
        reference: "REF".into(),
        provider_account: None,
        route: None,
        tender: Tender::PromptPay,
        card_token: None,
        manual_capture: false,
        return_url: None,
        amount: Money::thb(117_70),
        started_at: at(0),
        expires_at: at(10),
    }
}

/// An intent of 117.70 without a bill.
fn created(expires_at: Option<DateTime<Utc>>, terms: Option<payment_intent::Terms>) -> payment_intent::Created {
    payment_intent::Created {
        payment_intent_id: id(10),
        store_id: id(2),
        bill_id: None,
        order_id: None,
        amount: Money::thb(117_70),
        tender: Tender::PromptPay,
        expires_at,
        merchant_reference: None,
        description: None,
        merchant_terminal_id: None,
        terms,
    }
}

fn attempt() -> AttemptRef {
    AttemptRef {
        provider_id: None,
        tender: Tender::PromptPay,
        manual_capture: false,
        payment_intent_id: id(10),
        attempt_id: id(2),
        provider: "scb".into(),
        reference: "REF".into(),
        amount: Money::thb(117_70),
        created_at: at(0),
        expires_at: at(10),
    }
}

#[test]
fn a_started_attempt_is_remembered_called_and_watched() {
    let intents = react(provider_calls::react, &DomainEvent::PaymentIntent(started().into()));
    let [
        Intent::RememberReference(known),
        Intent::Schedule { key: create, task: call, after_ms: 0 },
        Intent::Schedule { key, task, after_ms },
    ] = &intents[..]
    else {
        panic!("{intents:?}");
    };
    let attempt_id: AttemptId = id(2);
    assert_eq!((known, create, key), (&attempt(), &format!("create:{attempt_id}"), &format!("watch:{attempt_id}")));
    assert_eq!(call, &Task::Start { attempt: attempt(), card_token: None, return_url: None, tried: 0, uncertain_since: None });
    assert_eq!((task, *after_ms), (&Task::Inquire { attempt: attempt(), mode: InquiryMode::Watch, asked: 0 }, 3_000));
}

#[test]
fn an_intent_that_awaits_a_confirm_is_looked_at_when_its_time_is_up() {
    let created = |awaits_confirm: bool| {
        let terms =
            payment_intent::Terms { awaits_confirm, tenders: vec![], valid_for_seconds: 600, manual_capture: false, return_url: None };
        react(provider_calls::react, &DomainEvent::PaymentIntent(created(Some(at(10)), Some(terms)).into()))
    };
    let look = Task::Lapse { payment_intent_id: id(10) };
    let intents = created(true);
    let [Intent::Schedule { key, task, after_ms: 600_000 }] = &intents[..] else { panic!("{intents:?}") };
    assert_eq!((key, task), (&format!("lapse:{}", id::<PaymentIntentId>(10)), &look));
    assert!(created(false).is_empty(), "one that was begun at once has a watch");
    // Once that attempt failed nothing watches the intent any more.
    let failed = payment_intent::AttemptFailed { attempt_id: id(2), bill_id: None, code: "card_declined".into(), message: String::new() };
    let intents = react(provider_calls::react, &DomainEvent::PaymentIntent(failed.into()));
    let [Intent::Schedule { key, task, after_ms: 0 }] = &intents[..] else { panic!("{intents:?}") };
    assert_eq!((key, task), (&format!("lapse:{}", id::<AttemptId>(2)), &look));
}

#[test]
fn a_look_at_an_intent_without_an_attempt_ends_it_or_comes_again_at_its_end() {
    let intent = PaymentIntent::fold(&[created(Some(at(10)), None).into()]);
    let early = work::lapse::after_look(id(10), &intent, at(9));
    assert!(early.commands.is_empty());
    assert_eq!(early.next, Some((Task::Lapse { payment_intent_id: id(10) }, at(10))));
    let over = work::lapse::after_look(id(10), &intent, at(10));
    assert!(matches!(&over.commands[..], [ProcessCommand::LapsePayment { at: now, .. }] if *now == at(10)) && over.next.is_none());
    let begun = PaymentIntent::fold(&[created(Some(at(10)), None).into(), started().into()]);
    let left = work::lapse::after_look(id(10), &begun, at(99));
    assert!(left.commands.is_empty() && left.next.is_none(), "its attempt has a watch");
}

#[test]
fn a_cancel_request_asks_the_provider_at_once() {
    let event = payment_intent::CancelRequested { attempt: started(), provider_id: None, reason: "x".into() };
    let intents = react(provider_calls::react, &DomainEvent::PaymentIntent(event.into()));
    let [Intent::Schedule { key, task, after_ms: 0 }] = &intents[..] else { panic!("{intents:?}") };
    assert_eq!(key, &format!("cancel:{}", id::<PaymentIntentId>(10)));
    // Its time is up when a call before the request has ended and can no longer be hidden.
    let attempt = AttemptRef { expires_at: at(0) + chrono::Duration::seconds(150), ..attempt() };
    assert_eq!(task, &Task::Stop { attempt, mode: InquiryMode::Cancel, tried: 0 });
}

#[test]
fn every_request_for_a_capture_is_a_call_of_its_own() {
    let requested = |position| {
        let event = payment_intent::CaptureRequested { attempt: started(), provider_id: None, amount: Money::thb(117_70) };
        let event = DomainEvent::PaymentIntent(event.into());
        let happened = Happened { tenant: id(1), stream_id: id(10), position, recorded_at: at(0), event: &event };
        let intents = provider_calls::react(&happened);
        let [Intent::Schedule { key, task: Task::Capture { request, .. }, .. }] = &intents[..] else { panic!("{intents:?}") };
        (key.clone(), *request)
    };
    // The same amount, after the provider refused it once.
    let (first, again) = (requested(7), requested(9));
    assert_ne!(first.0, again.0);
    assert_eq!((first.1, again.1), (7, 9));
}

#[test]
fn a_refund_goes_to_the_provider_only_where_money_came_from_it() {
    let by = |destination, provider| react(provider_calls::react, &DomainEvent::Refund(requested(destination, provider).into()));
    let intents = by(Destination::Original, Some(provider_payment()));
    let [Intent::Schedule { key, task, after_ms: 0 }] = &intents[..] else { panic!("{intents:?}") };
    assert_eq!(key, &format!("refund:{}", id::<RefundId>(5)));
    assert_eq!(task, &Task::Refund(RefundRef::new(id(5), Money::thb(50_00), provider_payment())));
    assert!(by(Destination::Original, None).is_empty());
    assert!(by(Destination::Cash, Some(provider_payment())).is_empty());
}
