//! Every rule of a bill, and that no money on it is ever lost or counted twice.

use chrono::NaiveDate;
use proptest::prelude::*;

use super::*;
use crate::{
    decider::Aggregate, event::AggregateEvent, ids::Ulid, money::Currency, payment_intent::Tender, pricing::TaxProfile, testing::given,
};

fn id<T: From<Ulid>>(n: u128) -> T {
    Ulid::from(n).into()
}

/// A bill of one line over `total`.
fn issued(total: i64) -> Issued {
    let line = BillLine {
        line_id: id(1),
        order_id: id(1),
        item_code: "DISH-1".into(),
        name: "Khao soi".into(),
        quantity_milli: 1_000,
        unit_price: total,
        gross: total,
        discount: 0,
        service_charge: 0,
        tax: 0,
        total,
    };
    Issued {
        bill_id: id(1),
        store_id: id(2),
        order_ids: vec![id(1)],
        business_date: NaiveDate::from_ymd_opt(2026, 5, 1).unwrap(),
        currency: Currency::THB,
        tax_profile: TaxProfile::untaxed(),
        lines: vec![line],
        subtotal: total,
        discount: 0,
        service_charge: 0,
        tax: 0,
        adjustment: 0,
        total,
        taxes: vec![],
    }
}

fn issue(details: Issued) -> Command {
    Command::Issue(Box::new(details))
}

fn reserve(payment: u128, amount: i64) -> Command {
    Command::ReservePayment { payment_intent_id: id(payment), amount, currency: Currency::THB }
}

fn release(payment: u128) -> Command {
    Command::ReleaseReservation { payment_intent_id: id(payment) }
}

fn allocate(payment: u128, amount: i64) -> Command {
    Command::AllocatePayment { payment_intent_id: id(payment), tender: Tender::PromptPay, amount, cash_rounding: 0, tip: 0, acquirer: None }
}

fn void(reason: &str) -> Command {
    Command::Void { reason: reason.into() }
}

fn refund(refund: u128, payment: u128, amount: i64) -> Command {
    Command::RecordRefund { refund_id: id(refund), payment_intent_id: id(payment), amount }
}

fn reserved(payment: u128, amount: i64) -> Event {
    PaymentReserved { payment_intent_id: id(payment), amount }.into()
}

fn released(payment: u128, amount: i64) -> Event {
    ReservationReleased { payment_intent_id: id(payment), amount }.into()
}

fn allocated(payment: u128, amount: i64, paid_total: i64) -> Event {
    PaymentAllocated {
        payment_intent_id: id(payment),
        tender: Tender::PromptPay,
        amount,
        cash_rounding: 0,
        tip: 0,
        acquirer: None,
        paid_total,
    }
    .into()
}

fn parked(payment: u128, amount: i64) -> Event {
    OverpaymentParked { payment_intent_id: id(payment), tender: Tender::PromptPay, amount }.into()
}

fn paid(total: i64) -> Event {
    Paid { bill_id: id(1), order_ids: vec![id(1)], total }.into()
}

fn refunded(refund: u128, payment: u128, amount: i64, refunded_total: i64) -> Event {
    RefundRecorded { refund_id: id(refund), payment_intent_id: id(payment), amount, refunded_total }.into()
}

/// A bill over 100.00, then what else happened to it.
fn pending(more: &[Event]) -> Vec<Event> {
    std::iter::once(issued(100_00).into()).chain(more.iter().cloned()).collect()
}

fn settled() -> Vec<Event> {
    pending(&[reserved(1, 100_00), allocated(1, 100_00, 100_00), paid(100_00)])
}

fn cancelled() -> Vec<Event> {
    pending(&[Voided { reason: "wrong table".into() }.into()])
}

#[test]
fn a_bill_is_issued_once_with_frozen_figures() {
    given::<Bill>(&[]).when(issue(issued(100_00))).then(&[issued(100_00).into()]);
    given::<Bill>(&settled()).when(issue(issued(100_00))).then(&[]);
    given::<Bill>(&pending(&[])).when(issue(issued(99_00))).then_rejected("BillIdReused");
}

#[test]
fn a_bill_whose_lines_do_not_add_up_is_refused() {
    let bad = [
        Issued { total: 100_01, ..issued(100_00) },
        Issued { adjustment: 1, ..issued(100_00) },
        Issued { lines: vec![], ..issued(100_00) },
        issued(-1),
        Issued { total: i64::MIN, adjustment: i64::MIN, lines: vec![], ..issued(0) },
    ];
    for details in bad {
        given::<Bill>(&[]).when(issue(details)).then_rejected("TotalsDoNotAdd");
    }
    let rounded = Issued { adjustment: -50, total: 99_50, ..issued(100_00) };
    given::<Bill>(&[]).when(issue(rounded.clone())).then(&[rounded.into()]);
}

#[test]
fn a_bill_over_nothing_is_paid_at_once() {
    given::<Bill>(&[]).when(issue(issued(0))).then(&[issued(0).into(), paid(0)]);
    let history = [issued(0).into(), paid(0)];
    given::<Bill>(&history).when(reserve(1, 1)).then_rejected("BillNotPayable");
    given::<Bill>(&history).when(allocate(1, 5)).then(&[parked(1, 5)]);
}

#[test]
fn nothing_can_be_asked_of_a_bill_that_was_never_issued() {
    for command in [reserve(1, 1), release(1), allocate(1, 1), void("x"), refund(1, 1, 1)] {
        given::<Bill>(&[]).when(command).then_rejected("BillNotFound");
    }
}

#[test]
fn a_payment_under_way_holds_its_part_of_what_is_due() {
    given::<Bill>(&pending(&[])).when(reserve(1, 60_00)).then(&[reserved(1, 60_00)]);
    let held = pending(&[reserved(1, 60_00)]);
    given::<Bill>(&held).when(reserve(1, 60_00)).then(&[]);
    given::<Bill>(&held).when(reserve(2, 40_01)).then_rejected("AmountExceedsDue");
    given::<Bill>(&held).when(reserve(2, 40_00)).then(&[reserved(2, 40_00)]);
    assert_eq!((Bill::fold(&held).due(), Bill::fold(&held).outstanding()), (40_00, 100_00));
}

#[test]
fn a_reservation_asks_for_something_in_the_currency_of_the_bill() {
    for amount in [0, -1, i64::MIN] {
        given::<Bill>(&pending(&[])).when(reserve(1, amount)).then_rejected("AmountNotPositive");
    }
    let yen = Command::ReservePayment { payment_intent_id: id(1), amount: 1, currency: "JPY".parse().unwrap() };
    given::<Bill>(&pending(&[])).when(yen).then_rejected("CurrencyMismatch");
    given::<Bill>(&pending(&[])).when(reserve(1, i64::MAX)).then_rejected("AmountExceedsDue");
}

#[test]
fn a_bill_that_is_paid_or_voided_starts_no_payment() {
    for history in [settled(), cancelled()] {
        given::<Bill>(&history).when(reserve(2, 1)).then_rejected("BillNotPayable");
    }
}

#[test]
fn a_payment_already_on_the_bill_holds_nothing_more() {
    let history = pending(&[reserved(1, 50_00), allocated(1, 50_00, 50_00)]);
    given::<Bill>(&history).when(reserve(1, 50_00)).then(&[]);
    given::<Bill>(&settled()).when(reserve(1, 100_00)).then(&[]);
}

#[test]
fn a_payment_that_came_to_nothing_frees_what_it_held() {
    let held = pending(&[reserved(1, 60_00)]);
    given::<Bill>(&held).when(release(1)).then(&[released(1, 60_00)]);
    given::<Bill>(&held).when(release(2)).then(&[]);
    let history = pending(&[reserved(1, 60_00), released(1, 60_00)]);
    given::<Bill>(&history).when(release(1)).then(&[]);
    given::<Bill>(&history).when(reserve(2, 100_00)).then(&[reserved(2, 100_00)]);
}

#[test]
fn money_settles_the_bill_in_parts() {
    let first = pending(&[reserved(1, 60_00), reserved(2, 40_00)]);
    given::<Bill>(&first).when(allocate(1, 60_00)).then(&[allocated(1, 60_00, 60_00)]);
    let second = pending(&[reserved(1, 60_00), reserved(2, 40_00), allocated(1, 60_00, 60_00)]);
    assert_eq!(Bill::fold(&second).status, Status::PartiallyPaid);
    given::<Bill>(&second).when(allocate(1, 60_00)).then(&[]);
    given::<Bill>(&second).when(allocate(2, 40_00)).then(&[allocated(2, 40_00, 100_00), paid(100_00)]);
}

#[test]
fn cash_rounding_is_kept_beside_the_amount() {
    let cash = Command::AllocatePayment {
        payment_intent_id: id(1),
        tender: Tender::Cash,
        amount: 100_00,
        cash_rounding: -12,
        tip: 0,
        acquirer: None,
    };
    let events = given::<Bill>(&pending(&[])).when(cash).events();
    let expected = PaymentAllocated {
        payment_intent_id: id(1),
        tender: Tender::Cash,
        amount: 100_00,
        cash_rounding: -12,
        tip: 0,
        acquirer: None,
        paid_total: 100_00,
    };
    assert_eq!(events, [expected.into(), paid(100_00)]);
    let state = Bill::fold(&pending(&events));
    assert_eq!((state.paid_total, state.status), (100_00, Status::Paid));
}

#[test]
fn money_beyond_what_is_due_is_parked() {
    given::<Bill>(&pending(&[])).when(allocate(1, 130_00)).then(&[allocated(1, 100_00, 100_00), parked(1, 30_00), paid(100_00)]);
    given::<Bill>(&settled()).when(allocate(2, 50_00)).then(&[parked(2, 50_00)]);
    given::<Bill>(&cancelled()).when(allocate(2, 50_00)).then(&[parked(2, 50_00)]);
    let mut history = settled();
    history.push(parked(2, 50_00));
    given::<Bill>(&history).when(allocate(2, 50_00)).then(&[]);
}

#[test]
fn an_allocation_of_nothing_is_refused() {
    for amount in [0, -1, i64::MIN] {
        given::<Bill>(&pending(&[])).when(allocate(1, amount)).then_rejected("AmountNotPositive");
    }
}

#[test]
fn a_bill_is_voided_once_and_only_without_money() {
    given::<Bill>(&pending(&[])).when(void("wrong table")).then(&[Voided { reason: "wrong table".into() }.into()]);
    given::<Bill>(&cancelled()).when(void("again")).then(&[]);
    given::<Bill>(&pending(&[])).when(void("")).then_rejected("ReasonRequired");
    for history in [pending(&[reserved(1, 1)]), pending(&[allocated(1, 1, 1)]), settled()] {
        given::<Bill>(&history).when(void("wrong table")).then_rejected("BillHasPayments");
    }
    let freed = pending(&[reserved(1, 1), released(1, 1)]);
    given::<Bill>(&freed).when(void("wrong table")).then(&[Voided { reason: "wrong table".into() }.into()]);
}

#[test]
fn no_more_is_given_back_than_the_payment_brought() {
    given::<Bill>(&settled()).when(refund(1, 1, 70_00)).then(&[refunded(1, 1, 70_00, 70_00)]);
    let mut history = settled();
    history.push(refunded(1, 1, 70_00, 70_00));
    given::<Bill>(&history).when(refund(1, 1, 70_00)).then(&[]);
    given::<Bill>(&history).when(refund(2, 1, 30_01)).then_rejected("RefundExceedsRefundable");
    given::<Bill>(&history).when(refund(2, 9, 1)).then_rejected("RefundExceedsRefundable");
    given::<Bill>(&history).when(refund(2, 1, 0)).then_rejected("AmountNotPositive");
    given::<Bill>(&history).when(refund(2, 1, 30_00)).then(&[refunded(2, 1, 30_00, 100_00)]);
    assert_eq!(Bill::fold(&history).status, Status::Paid, "a refund is a figure, not a state");
    let take_back = |refund| Command::TakeBackRefund { refund_id: id(refund), payment_intent_id: id(1) };
    given::<Bill>(&history).when(take_back(2)).then(&[]);
    let taken: Event = RefundTakenBack { refund_id: id(1), payment_intent_id: id(1), amount: 70_00, refunded_total: 0 }.into();
    given::<Bill>(&history).when(take_back(1)).then(std::slice::from_ref(&taken));
    history.push(taken);
    given::<Bill>(&history).when(take_back(1)).then(&[]);
    given::<Bill>(&history).when(refund(2, 1, 100_00)).then(&[refunded(2, 1, 100_00, 100_00)]);
}

#[test]
fn what_a_provider_sent_is_recorded_also_beyond_what_the_payment_brought() {
    let sent = |refund, payment, amount| Command::RecordSentRefund { refund_id: id(refund), payment_intent_id: id(payment), amount };
    let whole = [settled(), vec![refunded(1, 1, 100_00, 100_00)]].concat();
    given::<Bill>(&whole).when(sent(2, 1, 60_00)).then(&[refunded(2, 1, 60_00, 160_00)]);
    given::<Bill>(&whole).when(sent(2, 9, 1)).then_rejected("RefundExceedsRefundable");
    given::<Bill>(&whole).when(sent(2, 1, 0)).then_rejected("AmountNotPositive");
    let beyond = [whole, vec![refunded(2, 1, 60_00, 160_00)]].concat();
    given::<Bill>(&beyond).when(sent(2, 1, 60_00)).then(&[]);
    given::<Bill>(&beyond).when(refund(3, 1, 1)).then_rejected("RefundExceedsRefundable");
    // Either of the two may turn out not to have happened, and the figures are as if it never had.
    let taken: Event = RefundTakenBack { refund_id: id(1), payment_intent_id: id(1), amount: 100_00, refunded_total: 60_00 }.into();
    given::<Bill>(&beyond).when(Command::TakeBackRefund { refund_id: id(1), payment_intent_id: id(1) }).then(std::slice::from_ref(&taken));
    let state = Bill::fold(&[beyond, vec![taken]].concat());
    assert_eq!((state.refunded_total, state.allocations[&id(1)].refunded), (60_00, 60_00));
}

#[test]
fn parked_money_can_be_given_back() {
    let mut history = cancelled();
    history.push(parked(1, 50_00));
    given::<Bill>(&history).when(refund(1, 1, 50_01)).then_rejected("RefundExceedsRefundable");
    given::<Bill>(&history).when(refund(1, 1, 50_00)).then(&[refunded(1, 1, 50_00, 50_00)]);
}

fn some_amount() -> impl Strategy<Value = i64> {
    prop_oneof![10 => 1_i64..120, 1 => -3_i64..=0]
}

fn some_command() -> impl Strategy<Value = Command> {
    let payment = || 0_u128..4;
    prop_oneof![
        1 => (-2_i64..150).prop_map(|total| issue(issued(total))),
        5 => (payment(), some_amount()).prop_map(|(payment, amount)| reserve(payment, amount)),
        2 => payment().prop_map(release),
        5 => (payment(), some_amount()).prop_map(|(payment, amount)| allocate(payment, amount)),
        1 => prop_oneof![Just("wrong table"), Just("")].prop_map(void),
        3 => (0_u128..4, payment(), some_amount()).prop_map(|(id, payment, amount)| refund(id, payment, amount)),
    ]
}

/// Mostly bills that were issued.
fn some_commands() -> impl Strategy<Value = Vec<Command>> {
    let first = prop_oneof![9 => (0_i64..150).prop_map(|total| vec![issue(issued(total))]), 1 => Just(vec![])];
    (first, prop::collection::vec(some_command(), 0..40)).prop_map(|(first, rest)| [first, rest].concat())
}

/// What every state must respect, however it came about.
fn check_state(state: &State) -> Result<(), TestCaseError> {
    let total = state.details.as_ref().map_or(0, |details| details.total);
    prop_assert_eq!(state.allocations.values().map(|allocation| allocation.amount).sum::<i64>(), state.paid_total);
    prop_assert!((0..=total).contains(&state.paid_total));
    prop_assert_eq!(state.status == Status::Paid, state.details.is_some() && state.paid_total == total);
    prop_assert_eq!(state.refunds.values().sum::<i64>(), state.refunded_total);
    prop_assert_eq!(state.allocations.values().map(|allocation| allocation.refunded).sum::<i64>(), state.refunded_total);
    for allocation in state.allocations.values() {
        prop_assert!(allocation.refunded <= allocation.amount + allocation.parked);
    }
    Ok(())
}

/// What every decision must respect.
fn check_decision(before: &State, command: &Command, events: &[Event]) -> Result<(), TestCaseError> {
    let after = events.iter().fold(before.clone(), Bill::evolve);
    if before.details.is_some() {
        prop_assert_eq!(&after.details, &before.details, "frozen figures changed");
    }
    let says_paid = events.iter().filter(|event| matches!(event, Event::Paid(_))).count();
    let becomes_paid = after.status == Status::Paid && before.status != Status::Paid;
    prop_assert_eq!(says_paid, usize::from(becomes_paid));
    if events.iter().any(|event| matches!(event, Event::Voided(_))) {
        // Nothing is held, and what was paid went back altogether.
        let kept = before.allocations.values().any(|allocation| allocation.refunded != allocation.amount + allocation.parked);
        prop_assert!(before.reservations.is_empty() && !kept);
    }
    if let Command::AllocatePayment { payment_intent_id, amount, .. } = command {
        let known = before.allocations.contains_key(payment_intent_id);
        let recorded = &after.allocations[payment_intent_id];
        prop_assert!(known || recorded.amount + recorded.parked == *amount, "money was lost");
        prop_assert!(!after.reservations.contains_key(payment_intent_id));
    }
    for event in events {
        let stored = event.encode();
        prop_assert_eq!(&Event::decode(stored.event_type, stored.schema_version, &stored.payload), &Ok(event.clone()));
    }
    Ok(())
}

/// What a till does: nothing is captured that was not reserved first.
#[derive(Debug, Clone, Copy)]
enum Till {
    Reserve(u128, i64),
    Release(u128),
    /// Captures what is held, or less.
    Capture(u128, i64),
    Refund(u128, u128, i64),
    Void,
}

fn some_till() -> impl Strategy<Value = Vec<Till>> {
    let payment = || 0_u128..8;
    let step = prop_oneof![
        4 => (payment(), some_amount()).prop_map(|(payment, amount)| Till::Reserve(payment, amount)),
        1 => payment().prop_map(Till::Release),
        3 => (payment(), some_amount()).prop_map(|(payment, less)| Till::Capture(payment, less)),
        1 => (0_u128..4, payment(), some_amount()).prop_map(|(refund, payment, amount)| Till::Refund(refund, payment, amount)),
        1 => Just(Till::Void),
    ];
    prop::collection::vec(step, 0..40)
}

fn at_the_till(state: &State, step: Till) -> Option<Command> {
    match step {
        Till::Reserve(payment, amount) => Some(reserve(payment, amount)),
        Till::Release(payment) => Some(release(payment)),
        Till::Capture(payment, less) => state.reservations.get(&id(payment)).map(|held| allocate(payment, (*held).min(less))),
        Till::Refund(id, payment, amount) => Some(refund(id, payment, amount)),
        Till::Void => Some(void("wrong table")),
    }
}

proptest! {
    #[test]
    fn whatever_is_asked_the_books_of_a_bill_agree(commands in some_commands()) {
        let (mut state, mut history) = (State::default(), Vec::new());
        for command in commands {
            let Ok(events) = Bill::decide(&state, command.clone()) else { continue };
            check_decision(&state, &command, &events)?;
            state = events.iter().fold(state, Bill::evolve);
            check_state(&state)?;
            prop_assert_eq!(Bill::decide(&state, command), Ok(vec![]), "a repeat was not silent");
            history.extend(events);
        }
        prop_assert_eq!(&Bill::fold(&history), &state);
        let snapshot = serde_json::to_vec(&state).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<State>(&snapshot).unwrap(), &state);
    }

    #[test]
    fn what_is_reserved_first_never_exceeds_the_total(total in 1_i64..300, steps in some_till()) {
        let mut state = Bill::fold(&[issued(total).into()]);
        for step in steps {
            let Some(command) = at_the_till(&state, step) else { continue };
            let Ok(events) = Bill::decide(&state, command) else { continue };
            prop_assert!(!events.iter().any(|event| matches!(event, Event::OverpaymentParked(_))));
            state = events.iter().fold(state, Bill::evolve);
            check_state(&state)?;
            let held: i64 = state.reservations.values().sum();
            prop_assert!(state.paid_total + held <= total, "paid {} and held {held} of {total}", state.paid_total);
        }
    }

    #[test]
    fn amounts_at_the_edge_of_the_numbers_do_not_panic(commands in prop::collection::vec((0_u128..3, any::<i64>(), 0_u8..4), 0..20)) {
        let mut state = Bill::fold(&[issued(i64::MAX).into()]);
        for (payment, amount, kind) in commands {
            let command = match kind {
                0 => reserve(payment, amount),
                1 => allocate(payment, amount),
                2 => refund(payment, payment, amount),
                _ => release(payment),
            };
            let events = Bill::decide(&state, command).unwrap_or_default();
            state = events.iter().fold(state, Bill::evolve);
        }
    }
}

#[test]
fn a_bill_whose_money_went_back_altogether_can_be_voided() {
    let history = pending(&[allocated(1, 30_00, 30_00), refunded(1, 1, 30_00, 30_00)]);
    given::<Bill>(&history).when(Command::Void { reason: "gone".into() }).then(&[Voided { reason: "gone".into() }.into()]);
    let part = pending(&[allocated(1, 30_00, 30_00), refunded(1, 1, 10_00, 10_00)]);
    given::<Bill>(&part).when(Command::Void { reason: "gone".into() }).then_rejected("BillHasPayments");
}

#[test]
fn what_will_not_be_collected_is_written_off_and_the_total_stays() {
    let why = || Command::WriteOff { reason: "no charge".into() };
    let off = WrittenOff { bill_id: id(1), order_ids: vec![id(1)], amount: 100_00, reason: "no charge".into() };
    let open = [issued(100_00).into()];
    given::<Bill>(&open).when(why()).then(&[off.clone().into()]);
    given::<Bill>(&open).when(Command::WriteOff { reason: String::new() }).then_rejected("ReasonRequired");
    let closed = [issued(100_00).into(), off.into()];
    given::<Bill>(&closed).when(why()).then(&[]);
    given::<Bill>(&closed).when(reserve(1, 1)).then_rejected("BillNotPayable");
    assert_eq!(Bill::fold(&closed).details.map(|details| details.total), Some(100_00));
    let held = [issued(100_00).into(), PaymentReserved { payment_intent_id: id(9), amount: 1 }.into()];
    given::<Bill>(&held).when(why()).then_rejected("BillNotWrittenOff");
    given::<Bill>(&[]).when(why()).then_rejected("BillNotFound");
}

#[test]
fn a_tip_stands_beside_what_settles_the_bill() {
    let acquirer = Some("2".to_owned());
    let (payment_intent_id, tender) = (id(1), Tender::Card);
    let tipped =
        Command::AllocatePayment { payment_intent_id, tender, amount: 100_00, cash_rounding: 0, tip: 15_00, acquirer: acquirer.clone() };
    let events = given::<Bill>(&[issued(100_00).into()]).when(tipped).events();
    let allocated =
        PaymentAllocated { payment_intent_id, tender, amount: 100_00, cash_rounding: 0, tip: 15_00, acquirer, paid_total: 100_00 };
    assert_eq!((&events[0], events.len()), (&allocated.into(), 2));
}
