//! What each manager does about each event, and that whole flows end as they should even when everything is delivered twice.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};

use super::*;
use crate::{
    bill::{self, Bill},
    decider::Aggregate,
    envelope::StreamType,
    event::AggregateEvent,
    ids::Ulid,
    order::{self, Order},
    payment_intent::{self, Evidence, PaymentIntent},
    pricing::TaxClass,
    provider::{AttemptStatus, AttemptView, CallOutcome, Decline, NextAction, PaymentSeen, RefundStatus},
    refund::{self, Destination, Refund},
    store,
};

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
    ("refund", &["refund.succeeded", "refund.failed", "refund.taken_back"]),
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
        let created = payment_intent::Created {
            payment_intent_id: id(10),
            store_id: id(2),
            bill_id: None,
            order_id: None,
            amount: Money::thb(117_70),
            tender: Tender::PromptPay,
            expires_at: Some(at(10)),
            merchant_reference: None,
            description: None,
            merchant_terminal_id: None,
            terms: Some(terms),
        };
        react(provider_calls::react, &DomainEvent::PaymentIntent(created.into()))
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
    let made = |expires_at| payment_intent::Created {
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
        terms: None,
    };
    let intent = PaymentIntent::fold(&[made(Some(at(10))).into()]);
    let early = work_lapse::after_look(id(10), &intent, at(9));
    assert!(early.commands.is_empty());
    assert_eq!(early.next, Some((Task::Lapse { payment_intent_id: id(10) }, at(10))));
    let over = work_lapse::after_look(id(10), &intent, at(10));
    assert!(matches!(&over.commands[..], [ProcessCommand::LapsePayment { at: now, .. }] if *now == at(10)) && over.next.is_none());
    let begun = PaymentIntent::fold(&[made(Some(at(10))).into(), started().into()]);
    let left = work_lapse::after_look(id(10), &begun, at(99));
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
    assert_eq!(
        task,
        &Task::Refund { refund_id: id(5), amount: Money::thb(50_00), payment: provider_payment(), tried: 0, uncertain_since: None }
    );
    assert!(by(Destination::Original, None).is_empty());
    assert!(by(Destination::Cash, Some(provider_payment())).is_empty());
}

/// One order, bill, payment and refund, and a driver that executes what the managers want, each command `times` times.
struct World {
    times: usize,
    order: order::State,
    bill: bill::State,
    payment: payment_intent::State,
    refund: refund::State,
    tasks: BTreeMap<String, Task>,
    queue: VecDeque<(Ulid, DomainEvent)>,
}

/// Decides and remembers; a rejection is a bug of the flow.
fn apply<A: Aggregate>(state: &mut A::State, command: A::Command) -> Vec<A::Event> {
    let events = A::decide(state, command).unwrap_or_else(|rejection| panic!("rejected: {rejection}"));
    for event in &events {
        *state = A::evolve(state.clone(), event);
    }
    events
}

impl World {
    /// An order of 117.70, billed, with a payment that holds all of it.
    fn with_payment_by(tender: Tender, times: usize) -> Self {
        let mut world = Self {
            times,
            order: order::State::default(),
            bill: bill::State::default(),
            payment: payment_intent::State::default(),
            refund: refund::State::default(),
            tasks: BTreeMap::new(),
            queue: VecDeque::new(),
        };
        let store = store::tests::opened();
        world.order(order::Command::Open(Box::new(order::Opened {
            order_id: id(7),
            store_id: store.store_id,
            currency: store.currency,
            tax_profile: store.tax_profile,
            business_date: at(0).date_naive(),
            order_type: order::OrderType::Takeaway,
            table_number: None,
            order_number: None,
        })));
        let (item_code, name) = ("KS".to_owned(), "Khao soi".to_owned());
        let (quantity_milli, unit_price, tax_class) = (1_000, 110_00, TaxClass::Standard);
        let line = order::LineAdded {
            line_id: id(1),
            item_code,
            name,
            quantity_milli,
            unit_price,
            price_base_milli: 1_000,
            tax_class,
            discount: None,
        };
        world.order(order::Command::AddLine(line));
        world.order(order::Command::Bill { bill_id: id(3) });
        world.issue_bill();
        world.payment(payment_intent::Command::Create(Box::new(payment_intent::Created {
            payment_intent_id: id(10),
            store_id: id(2),
            bill_id: Some(id(3)),
            order_id: Some(id(7)),
            amount: Money::thb(117_70),
            tender,
            expires_at: (!tender.is_recorded()).then(|| at(10)),
            merchant_reference: None,
            description: None,
            merchant_terminal_id: None,
            terms: None,
        })));
        let currency = world.bill.details.as_ref().unwrap().currency;
        world.bill(bill::Command::ReservePayment { payment_intent_id: id(10), amount: 117_70, currency });
        world
    }

    /// The bill that the order's price asks for.
    fn issue_bill(&mut self) {
        let details = self.order.details.clone().unwrap();
        let priced = self.order.priced().unwrap().unwrap();
        let lines = priced.lines.iter().zip(self.order.live_lines()).map(|(figures, line)| bill::BillLine {
            line_id: figures.line_id,
            order_id: details.order_id,
            item_code: line.item_code.clone(),
            name: line.name.clone(),
            quantity_milli: figures.quantity_milli,
            unit_price: line.unit_price,
            gross: figures.gross,
            discount: figures.discount,
            service_charge: figures.service_charge,
            tax: figures.tax,
            total: figures.total,
        });
        let issued = bill::Issued {
            bill_id: id(3),
            store_id: details.store_id,
            order_ids: vec![details.order_id],
            business_date: details.business_date,
            currency: details.currency,
            tax_profile: details.tax_profile.clone(),
            lines: lines.collect(),
            subtotal: priced.subtotal,
            discount: priced.discount,
            service_charge: priced.service_charge,
            tax: priced.tax,
            adjustment: priced.adjustment,
            total: priced.total,
            taxes: priced.taxes,
        };
        self.bill(bill::Command::Issue(Box::new(issued)));
    }

    fn order(&mut self, command: order::Command) {
        let events = apply::<Order>(&mut self.order, command);
        self.queue.extend(events.into_iter().map(|event| (id(7), DomainEvent::Order(event))));
    }

    fn bill(&mut self, command: bill::Command) {
        let events = apply::<Bill>(&mut self.bill, command);
        self.queue.extend(events.into_iter().map(|event| (id(3), DomainEvent::Bill(event))));
    }

    fn payment(&mut self, command: payment_intent::Command) {
        let events = apply::<PaymentIntent>(&mut self.payment, command);
        self.queue.extend(events.into_iter().map(|event| (id(10), DomainEvent::PaymentIntent(event))));
    }

    fn refund(&mut self, command: refund::Command) {
        let events = apply::<Refund>(&mut self.refund, command);
        self.queue.extend(events.into_iter().map(|event| (id(5), DomainEvent::Refund(event))));
    }

    fn execute(&mut self, command: ProcessCommand) {
        use payment_intent::Command as Pay;
        match command {
            ProcessCommand::AllocatePayment { payment_intent_id, tender, amount, cash_rounding, tip, acquirer, .. } => {
                self.bill(bill::Command::AllocatePayment { payment_intent_id, tender, amount, cash_rounding, tip, acquirer });
            }
            ProcessCommand::ReleaseReservation { payment_intent_id, .. } => {
                self.bill(bill::Command::ReleaseReservation { payment_intent_id });
            }
            ProcessCommand::CompleteOrder { bill_id, .. } => self.order(order::Command::Complete { bill_id }),
            ProcessCommand::SettleRefund { refund_id, .. } => self.payment(Pay::SettleRefund { refund_id }),
            ProcessCommand::RecordBillRefund { payment_intent_id, refund_id, amount, .. } => {
                self.bill(bill::Command::RecordRefund { refund_id, payment_intent_id, amount });
            }
            ProcessCommand::ReleaseRefund { refund_id, .. } => self.payment(Pay::ReleaseRefund { refund_id }),
            ProcessCommand::TakeBackRefund { refund_id, .. } => self.payment(Pay::TakeBackRefund { refund_id }),
            ProcessCommand::TakeBackBillRefund { payment_intent_id, refund_id, .. } => {
                self.bill(bill::Command::TakeBackRefund { refund_id, payment_intent_id });
            }
            ProcessCommand::OpenDispute { reason, at, .. } => {
                self.payment(Pay::Dispute { reason, disputed_at: at, business_date: at.date_naive() });
            }
            ProcessCommand::DecideDispute { outcome, at, .. } => {
                self.payment(Pay::ResolveDispute { outcome, resolved_at: at, business_date: at.date_naive() });
            }
            ProcessCommand::AcceptAttempt { attempt_id, provider_id, .. } => self.payment(Pay::AcceptAttempt { attempt_id, provider_id }),
            ProcessCommand::AuthorizeAttempt { attempt_id, amount, capture_before, .. } => {
                self.payment(Pay::Authorize { attempt_id, amount, capture_before });
            }
            ProcessCommand::EndAttempt { attempt_id, how, .. } => self.payment(Pay::EndAttempt { attempt_id, how }),
            ProcessCommand::FailCapture { attempt_id, code, message, .. } => self.payment(Pay::FailCapture { attempt_id, code, message }),
            ProcessCommand::FailIncrease { attempt_id, code, message, .. } => self.payment(Pay::FailIncrease { attempt_id, code, message }),
            ProcessCommand::LeaveToPerson { attempt_id, at, .. } => self.payment(Pay::LeaveToPerson { attempt_id, at }),
            ProcessCommand::RequireAction { attempt_id, qr_payload, redirect_url, .. } => {
                self.payment(Pay::RequireAction { attempt_id, qr_payload, redirect_url });
            }
            ProcessCommand::FailAttempt { attempt_id, code, message, .. } => {
                let before = self.payment.status;
                self.payment(Pay::FailAttempt { attempt_id, code, message });
                if self.payment.status != before {
                    self.bill(bill::Command::ReleaseReservation { payment_intent_id: id(10) });
                }
            }
            ProcessCommand::MarkAttemptUnknown { attempt_id, reason, since, .. } => {
                self.payment(Pay::MarkOutcomeUnknown { attempt_id, reason, since });
            }
            ProcessCommand::ConfirmPayment { report, .. } => self.payment(Pay::ConfirmFromProvider(report)),
            ProcessCommand::ConfirmCancel { .. } => self.payment(Pay::ConfirmCancel),
            ProcessCommand::ExpirePayment { attempt_id, .. } => self.payment(Pay::Expire { attempt_id }),
            ProcessCommand::LapsePayment { at, .. } => self.payment(Pay::Lapse { at }),
            ProcessCommand::SucceedRefund { provider_reference, .. } => {
                self.refund(refund::Command::Succeed { provider_reference: Some(provider_reference) });
            }
            ProcessCommand::FailRefund { code, message, .. } => self.refund(refund::Command::Fail { code, message }),
            ProcessCommand::MarkRefundUnknown { reason, .. } => self.refund(refund::Command::MarkOutcomeUnknown { reason }),
        }
    }

    /// Lets every manager follow every event until nothing is left to do.
    fn settle(&mut self) {
        while let Some((stream_id, event)) = self.queue.pop_front() {
            for manager in ALL {
                let happened = Happened { tenant: id(1), stream_id, position: 7, recorded_at: at(0), event: &event };
                for intent in (manager.react)(&happened) {
                    match intent {
                        Intent::Commands(commands) => {
                            for command in std::iter::repeat_n(commands, self.times).flatten() {
                                self.execute(command);
                            }
                        }
                        Intent::Schedule { key, task, .. } => {
                            self.tasks.entry(key).or_insert(task);
                        }
                        Intent::RememberReference(known) => assert_eq!(known.reference, "REF"),
                    }
                }
            }
        }
    }

    /// What a provider's answer led to.
    fn step(&mut self, step: work::Step) {
        for command in std::iter::repeat_n(step.commands, self.times).flatten() {
            self.execute(command);
        }
        self.settle();
    }

    fn start_attempt(&mut self) {
        let new = payment_intent::NewAttempt {
            attempt_id: id(2),
            provider: "scb".into(),
            provider_account: None,
            route: None,
            reference: "REF".into(),
            card_token: None,
            manual_capture: false,
            return_url: None,
            started_at: at(0),
            expires_at: at(10),
        };
        self.payment(payment_intent::Command::StartAttempt(Box::new(new)));
        self.settle();
    }

    fn inquire(&mut self, mode: InquiryMode, seen: Vec<PaymentSeen>, now: DateTime<Utc>) {
        let status = if seen.is_empty() { AttemptStatus::NotFound } else { AttemptStatus::Paid };
        let standing = self.payment.standing(id(2));
        self.step(work::after_inquiry(attempt(), mode, 0, standing, CallOutcome::Done(books(status, seen)), now));
    }

    fn ends(&self) -> (order::Status, bill::Status, payment_intent::Status) {
        (self.order.status, self.bill.status, self.payment.status)
    }

    fn held(&self) -> i64 {
        self.bill.reservations.values().sum()
    }
}

fn begin(tried: u32) -> work::Start {
    work::Start { attempt: attempt(), card_token: None, return_url: None, tried, uncertain_since: None }
}

fn books(status: AttemptStatus, payments: Vec<PaymentSeen>) -> AttemptView {
    AttemptView { provider_id: None, status, payments }
}

fn paid_in_full() -> Vec<PaymentSeen> {
    vec![PaymentSeen { transaction_id: "T1".into(), amount: Money::thb(117_70), paid_at: at(1), refunded: 0, dispute: None }]
}

const COMPLETED: (order::Status, bill::Status, payment_intent::Status) =
    (order::Status::Completed, bill::Status::Paid, payment_intent::Status::Succeeded);

/// Once as planned and once with every command delivered twice.
const DELIVERIES: [usize; 2] = [1, 2];

#[test]
fn cash_at_the_counter_completes_the_order() {
    for times in DELIVERIES {
        let mut world = World::with_payment_by(Tender::Cash, times);
        world.payment(payment_intent::Command::RecordTender(PaymentReport {
            attempt_id: None,
            transaction_id: None,
            amount: Money::thb(117_70),
            paid_at: at(1),
            evidence: Evidence::Staff,
            cash_received: Some(120_00),
            cash_rounding: 5,
            tip: 0,
            acquirer: None,
        }));
        world.settle();
        assert_eq!((world.ends(), world.held(), world.bill.paid_total), (COMPLETED, 0, 117_70));
        assert!(world.tasks.is_empty());
    }
}

#[test]
fn a_paid_qr_completes_the_order_even_after_time_outs() {
    for times in DELIVERIES {
        let mut world = World::with_payment_by(Tender::PromptPay, times);
        world.start_attempt();
        assert_eq!(world.tasks.len(), 2);
        world.step(work::after_start(begin(0), CallOutcome::Unknown("time-out".into()), at(0)));
        assert_eq!((world.payment.status, world.held()), (payment_intent::Status::Processing, 117_70));
        let action = NextAction::ShowQr { payload: "000201".into() };
        world.step(work::after_start(begin(1), CallOutcome::Done(books(AttemptStatus::ActionRequired(action), vec![])), at(0)));
        assert_eq!(world.payment.status, payment_intent::Status::RequiresAction);
        let hint = work_hint::Hint { provider: "scb".into(), reference: "REF".into(), transaction_id: Some("T1".into()), tried: 0 };
        world.step(work_hint::after_hint(&attempt(), hint, CallOutcome::Done(books(AttemptStatus::Paid, paid_in_full())), at(1)).0);
        world.inquire(InquiryMode::Watch, paid_in_full(), at(1));
        assert_eq!((world.ends(), world.held(), world.bill.paid_total), (COMPLETED, 0, 117_70));
        assert!(world.payment.unmatched.is_empty());
    }
}

#[test]
fn a_payment_that_comes_to_nothing_leaves_the_bill_payable() {
    for times in DELIVERIES {
        for end in 0..3 {
            let mut world = World::with_payment_by(Tender::PromptPay, times);
            world.start_attempt();
            match end {
                0 => {
                    let decline = Decline { code: "invalid_request".into(), message: "E-1".into() };
                    world.step(work::after_start(begin(0), CallOutcome::Declined(decline), at(0)));
                }
                1 => {
                    world.payment(payment_intent::Command::Cancel { reason: "guest pays cash".into() });
                    world.settle();
                    assert_eq!((world.tasks.len(), world.held()), (3, 117_70));
                    world.inquire(InquiryMode::Cancel, vec![], at(1));
                    assert_eq!(world.held(), 117_70, "the code that was asked for may still come to be");
                    world.inquire(InquiryMode::Cancel, vec![], at(11));
                }
                _ => world.inquire(InquiryMode::Watch, vec![], at(11)),
            }
            assert_eq!((world.order.status, world.bill.status), (order::Status::Billed, bill::Status::Pending));
            assert_eq!((world.held(), world.bill.due()), (0, 117_70));
        }
    }
}

#[test]
fn after_an_unknown_outcome_a_refusal_frees_nothing_and_the_first_charge_counts() {
    for times in DELIVERIES {
        let mut world = World::with_payment_by(Tender::PromptPay, times);
        world.start_attempt();
        world.step(work::after_start(begin(0), CallOutcome::Unknown("cut".into()), at(0)));
        let decline = Decline { code: "credentials_refused".into(), message: "HTTP 401".into() };
        world.step(work::after_start(begin(1), CallOutcome::Declined(decline), at(0)));
        assert_eq!((world.payment.status, world.held()), (payment_intent::Status::Processing, 117_70));
        world.inquire(InquiryMode::Watch, paid_in_full(), at(1));
        assert_eq!((world.ends(), world.bill.paid_total), (COMPLETED, 117_70));
        assert!(world.payment.unmatched.is_empty());
    }
}

#[test]
fn another_amount_is_kept_beside_an_intent_that_still_ends() {
    for times in DELIVERIES {
        let mut world = World::with_payment_by(Tender::PromptPay, times);
        world.start_attempt();
        let less = vec![PaymentSeen { amount: Money::thb(100_00), ..paid_in_full().remove(0) }];
        world.inquire(InquiryMode::Watch, less.clone(), at(1));
        assert_eq!((world.payment.unmatched.len(), world.held()), (1, 117_70));
        world.inquire(InquiryMode::Watch, less, at(11));
        assert_eq!((world.payment.status, world.payment.unmatched.len(), world.held()), (payment_intent::Status::Expired, 1, 0));
    }
}

#[test]
fn money_after_the_end_is_kept_and_completes_nothing() {
    for times in DELIVERIES {
        let mut world = World::with_payment_by(Tender::PromptPay, times);
        world.start_attempt();
        world.inquire(InquiryMode::Watch, vec![], at(11));
        world.inquire(InquiryMode::Watch, paid_in_full(), at(12));
        assert_eq!(world.ends(), (order::Status::Billed, bill::Status::Pending, payment_intent::Status::Expired));
        assert_eq!(world.payment.unmatched.len(), 1);
    }
}

/// A paid order whose refund of 50.00 is under way.
fn refunding(times: usize) -> World {
    let mut world = World::with_payment_by(Tender::PromptPay, times);
    world.start_attempt();
    world.inquire(InquiryMode::Watch, paid_in_full(), at(1));
    world.payment(payment_intent::Command::ReserveRefund { refund_id: id(5), amount: Money::thb(50_00) });
    world.refund(refund::Command::Request(Box::new(requested(Destination::Original, Some(provider_payment())))));
    world.settle();
    assert_eq!((world.tasks.len(), world.payment.refundable()), (3, 67_70));
    world
}

#[test]
fn a_refund_is_counted_once_on_payment_and_bill() {
    for times in DELIVERIES {
        let mut world = refunding(times);
        let amount = Money::thb(50_00);
        world.step(work_refund::after_refund(id(5), amount, provider_payment(), 0, None, CallOutcome::Unknown("time-out".into()), at(20)));
        assert_eq!((world.refund.status, world.payment.refundable()), (refund::Status::Pending, 67_70));
        let done = CallOutcome::Done(RefundStatus::Succeeded { provider_reference: "R1".into() });
        world.step(work_refund::after_refund(id(5), amount, provider_payment(), 2, None, done, at(21)));
        assert_eq!(world.refund.status, refund::Status::Succeeded);
        assert_eq!((world.payment.refunded_total, world.bill.refunded_total), (50_00, 50_00));
        assert_eq!((world.payment.refundable(), world.ends()), (67_70, COMPLETED));
    }
}

#[test]
fn a_refused_refund_can_be_asked_for_anew() {
    for times in DELIVERIES {
        let mut world = refunding(times);
        let decline = CallOutcome::Declined(Decline { code: "cut_off_passed".into(), message: "E-17".into() });
        world.step(work_refund::after_refund(id(5), Money::thb(50_00), provider_payment(), 0, None, decline, at(20)));
        assert_eq!(world.refund.status, refund::Status::Failed);
        assert_eq!((world.payment.refundable(), world.bill.refunded_total), (117_70, 0));
    }
}
