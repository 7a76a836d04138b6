//! Every rule of an order, and what holds whatever is asked of it.
#![expect(clippy::mistyped_literal_suffixes, reason = "476_16 reads as 476.16 baht in satang")]

use chrono::NaiveDate;
use proptest::prelude::*;

use super::*;
use crate::{
    decider::Aggregate,
    event::AggregateEvent,
    ids::{LineId, Ulid},
    money::Currency,
    pricing::{Discount, ServiceCharge, TaxClass, TaxProfile, WHOLE_MILLI},
    testing::given,
};

fn id<T: From<Ulid>>(n: u128) -> T {
    Ulid::from(n).into()
}

fn opened() -> Opened {
    let service_charge = Some(ServiceCharge { basis_points: 1_000 });
    Opened {
        order_id: id(1),
        store_id: id(2),
        currency: Currency::THB,
        tax_profile: TaxProfile { service_charge, ..TaxProfile::thai_vat_exclusive() },
        business_date: NaiveDate::from_ymd_opt(2026, 5, 1).unwrap(),
        order_type: OrderType::DineIn,
        table_number: Some("12".into()),
        order_number: None,
    }
}

fn line(n: u128, pieces: i64, unit_price: i64) -> LineAdded {
    LineAdded {
        line_id: id(n),
        item_code: format!("DISH-{n}"),
        name: "Khao soi".into(),
        quantity_milli: pieces * WHOLE_MILLI,
        unit_price,
        price_base_milli: 1_000,
        tax_class: TaxClass::Standard,
        discount: None,
    }
}

fn percent(basis_points: u32) -> Discount {
    Discount::Percent { basis_points }
}

fn reason() -> String {
    "guest changed their mind".into()
}

fn add(line: LineAdded) -> Command {
    Command::AddLine(line)
}

fn change(n: u128, delta_milli: i64) -> Command {
    Command::ChangeLineQuantity { line_id: id(n), delta_milli }
}

fn void(n: u128, reason: &str) -> Command {
    Command::VoidLine { line_id: id(n), reason: reason.into() }
}

fn discount(discount: Discount) -> Command {
    Command::ApplyDiscount { discount, reason: reason() }
}

fn adjust(amount: i64) -> Command {
    Command::Adjust { amount, reason: reason() }
}

fn bill(n: u128) -> Command {
    Command::Bill { bill_id: id(n) }
}

fn cancel() -> Command {
    Command::Cancel { reason: reason() }
}

/// Open, with one dish of 100.00.
fn ordered() -> Vec<Event> {
    vec![opened().into(), line(1, 1, 100_00).into()]
}

/// One dish of 100.00, plus 10 % service, plus 7 % VAT.
const ORDERED_TOTAL: i64 = 117_70;

fn after(mut history: Vec<Event>, more: impl IntoIterator<Item = Event>) -> Vec<Event> {
    history.extend(more);
    history
}

fn billed() -> Vec<Event> {
    after(ordered(), [Billed { bill_id: id(1), total: ORDERED_TOTAL }.into()])
}

fn completed() -> Vec<Event> {
    after(billed(), [Completed { bill_id: id(1) }.into()])
}

fn cancelled() -> Vec<Event> {
    after(ordered(), [Cancelled { reason: reason() }.into()])
}

fn every_edit() -> [Command; 6] {
    [add(line(9, 1, 1)), change(1, 1), void(1, "spilled"), discount(percent(1)), Command::RemoveDiscount, adjust(1)]
}

#[test]
fn an_order_opens_once() {
    given::<Order>(&[]).when(Command::Open(Box::new(opened()))).then(&[opened().into()]);
    given::<Order>(&ordered()).when(Command::Open(Box::new(opened()))).then_rejected("OrderIdReused");
}

#[test]
fn a_table_or_order_number_is_short_text() {
    for bad in ["", "  ", "a\nb", &"9".repeat(41)] {
        let table = Opened { table_number: Some(bad.into()), ..opened() };
        given::<Order>(&[]).when(Command::Open(Box::new(table))).then_rejected("TextInvalid");
        let number = Opened { order_number: Some(bad.into()), ..opened() };
        given::<Order>(&[]).when(Command::Open(Box::new(number))).then_rejected("TextInvalid");
    }
}

#[test]
fn nothing_can_be_asked_of_an_order_that_was_never_opened() {
    let others = [bill(1), Command::Reopen { bill_id: id(1) }, Command::Complete { bill_id: id(1) }, cancel()];
    for command in every_edit().into_iter().chain(others) {
        given::<Order>(&[]).when(command).then_rejected("OrderNotFound");
    }
}

#[test]
fn a_line_is_added_once_under_its_id() {
    given::<Order>(&ordered()).when(add(line(2, 1, 1))).then(&[line(2, 1, 1).into()]);
    given::<Order>(&ordered()).when(add(line(1, 1, 100_00))).then(&[]);
    given::<Order>(&ordered()).when(add(line(1, 2, 100_00))).then_rejected("LineIdReused");
}

#[test]
fn the_id_of_a_voided_line_stays_taken() {
    let history = after(ordered(), [LineVoided { line_id: id(1), reason: reason() }.into()]);
    given::<Order>(&history).when(add(line(1, 5, 50_00))).then_rejected("LineIdReused");
}

#[test]
fn a_line_out_of_bounds_is_refused_by_name() {
    let good = || line(2, 1, 10_00);
    let cases = [
        ("QuantityNotPositive", LineAdded { quantity_milli: 0, ..good() }),
        ("QuantityNotPositive", LineAdded { quantity_milli: MAX_QUANTITY_MILLI + 1, ..good() }),
        ("PriceNegative", LineAdded { unit_price: -1, ..good() }),
        ("PriceNegative", LineAdded { unit_price: MAX_PRICE + 1, ..good() }),
        ("ItemInvalid", LineAdded { item_code: String::new(), ..good() }),
        ("ItemInvalid", LineAdded { item_code: "x".repeat(65), ..good() }),
        ("ItemInvalid", LineAdded { name: "ข".repeat(201), ..good() }),
        ("DiscountInvalid", LineAdded { discount: Some(percent(0)), ..good() }),
        ("DiscountInvalid", LineAdded { discount: Some(percent(10_001)), ..good() }),
        ("DiscountInvalid", LineAdded { discount: Some(Discount::Amount { amount: 0 }), ..good() }),
        ("DiscountOverLimit", LineAdded { discount: Some(Discount::Amount { amount: 10_01 }), ..good() }),
    ];
    for (code, bad) in cases {
        given::<Order>(&ordered()).when(add(bad)).then_rejected(code);
    }
    let thai = LineAdded { name: "ข้าวซอยไก่".into(), discount: Some(Discount::Amount { amount: 10_00 }), ..good() };
    given::<Order>(&ordered()).when(add(thai.clone())).then(&[thai.into()]);
}

#[test]
fn an_order_has_at_most_two_thousand_lines() {
    let full = LinesAdded { lines: (0..2_000).map(|n| line(n, 1, 1)).collect() };
    let history = after(vec![opened().into()], [full.into()]);
    given::<Order>(&history).when(add(line(2_000, 1, 1))).then_rejected("TooManyLines");
    given::<Order>(&history).when(add(line(1_999, 1, 1))).then(&[]);
    let one_more = Command::AddLines((2..=2_000).map(|n| line(n, 1, 1)).collect());
    given::<Order>(&ordered()).when(one_more).then(&[LinesAdded { lines: (2..=2_000).map(|n| line(n, 1, 1)).collect() }.into()]);
    let too_many = Command::AddLines((2..=2_001).map(|n| line(n, 1, 1)).collect());
    given::<Order>(&ordered()).when(too_many).then_rejected("TooManyLines");
}

#[test]
fn lines_that_come_together_are_one_fact_and_all_or_nothing() {
    let both = || Command::AddLines(vec![line(2, 1, 10_00), line(3, 2, 5_00)]);
    let added: Event = LinesAdded { lines: vec![line(2, 1, 10_00), line(3, 2, 5_00)] }.into();
    given::<Order>(&ordered()).when(both()).then(std::slice::from_ref(&added));
    let history = after(ordered(), [added]);
    given::<Order>(&history).when(both()).then(&[]);
    given::<Order>(&history).when(Command::AddLines(vec![line(3, 2, 5_00), line(4, 1, 1)])).then(&[line(4, 1, 1).into()]);
    given::<Order>(&ordered()).when(Command::AddLines(vec![line(2, 1, 10_00), line(2, 1, 11_00)])).then_rejected("LineIdReused");
    given::<Order>(&ordered()).when(Command::AddLines(vec![line(2, 1, 10_00), line(3, 0, 1)])).then_rejected("QuantityNotPositive");
}

#[test]
fn a_price_finer_than_the_minor_unit_is_exact_and_its_line_is_rounded_once() {
    let price_of = |pieces| {
        let tenth = LineAdded { price_base_milli: 10 * WHOLE_MILLI, ..line(2, pieces, 1) };
        let history = [Event::Opened(Opened { tax_profile: TaxProfile::untaxed(), ..opened() }), tenth.into()];
        Order::fold(&history).priced().unwrap().unwrap().total
    };
    assert_eq!((price_of(1), price_of(4), price_of(5), price_of(1_000)), (0, 0, 1, 100));
    let none = LineAdded { price_base_milli: 0, ..line(2, 1, 1) };
    given::<Order>(&ordered()).when(add(none)).then_rejected("PriceBaseInvalid");
}

#[test]
fn an_order_whose_price_would_not_fit_is_refused_at_the_line() {
    let dear = |n| LineAdded { quantity_milli: MAX_QUANTITY_MILLI, ..line(n, 1, MAX_PRICE) };
    // Each is 10^17; with service and VAT 78 of them fit in 64 bits.
    let history = after(vec![opened().into()], (0..78).map(|n| dear(n).into()));
    given::<Order>(&history[..78]).when(add(dear(77))).then(&[dear(77).into()]);
    given::<Order>(&history).when(add(dear(78))).then_rejected("AmountOutOfRange");
}

#[test]
fn a_quantity_changes_by_a_difference() {
    let changed = LineQuantityChanged { line_id: id(1), delta_milli: -250, quantity_milli: 750 };
    given::<Order>(&ordered()).when(change(1, -250)).then(&[changed.into()]);
    given::<Order>(&ordered()).when(change(1, 0)).then(&[]);
    given::<Order>(&ordered()).when(change(2, 1)).then_rejected("LineUnknown");
    given::<Order>(&ordered()).when(change(1, -1_000)).then_rejected("QuantityWouldBeNegative");
    given::<Order>(&ordered()).when(change(1, MAX_QUANTITY_MILLI)).then_rejected("QuantityNotPositive");
    given::<Order>(&ordered()).when(change(1, i64::MAX)).then_rejected("QuantityNotPositive");
    let voided = after(ordered(), [LineVoided { line_id: id(1), reason: reason() }.into()]);
    given::<Order>(&voided).when(change(1, 1)).then_rejected("LineAlreadyVoided");
}

#[test]
fn differences_of_two_devices_merge_in_any_order() {
    let quantity = |deltas: [i64; 2]| {
        let mut history = ordered();
        for delta in deltas {
            let events = given::<Order>(&history).when(change(1, delta)).events();
            history.extend(events);
        }
        Order::fold(&history).lines[0].line.quantity_milli
    };
    assert_eq!((quantity([2_000, -500]), quantity([-500, 2_000])), (2_500, 2_500));
}

#[test]
fn a_line_is_voided_once_for_a_reason_and_keeps_its_place() {
    let voided = LineVoided { line_id: id(1), reason: "spilled".into() };
    given::<Order>(&ordered()).when(void(1, "spilled")).then(&[voided.clone().into()]);
    given::<Order>(&ordered()).when(void(1, " ")).then_rejected("ReasonRequired");
    given::<Order>(&ordered()).when(void(2, "spilled")).then_rejected("LineUnknown");
    let history = after(ordered(), [voided.into()]);
    given::<Order>(&history).when(void(1, "again")).then(&[]);
    let state = Order::fold(&history);
    assert_eq!((state.lines.len(), state.live_lines().count()), (1, 0));
}

#[test]
fn a_discount_never_outgrows_what_it_applies_to() {
    let fixed = |amount| Discount::Amount { amount };
    given::<Order>(&ordered()).when(discount(fixed(100_01))).then_rejected("DiscountOverLimit");
    let applied = DiscountApplied { discount: fixed(100_00), reason: reason() };
    given::<Order>(&ordered()).when(discount(fixed(100_00))).then(&[applied.clone().into()]);
    // Taking lines away would leave the discount without ground.
    let history = after(ordered(), [applied.into()]);
    given::<Order>(&history).when(void(1, "spilled")).then_rejected("DiscountOverLimit");
    given::<Order>(&history).when(change(1, -1)).then_rejected("DiscountOverLimit");
}

#[test]
fn a_discount_is_replaced_and_taken_back() {
    let applied = DiscountApplied { discount: percent(1_000), reason: reason() };
    given::<Order>(&ordered()).when(discount(percent(1_000))).then(&[applied.clone().into()]);
    let history = after(ordered(), [applied.into()]);
    given::<Order>(&history).when(discount(percent(1_000))).then(&[]);
    let replaced = DiscountApplied { discount: percent(500), reason: reason() };
    given::<Order>(&history).when(discount(percent(500))).then(&[replaced.into()]);
    given::<Order>(&history).when(Command::RemoveDiscount).then(&[DiscountRemoved {}.into()]);
    given::<Order>(&ordered()).when(Command::RemoveDiscount).then(&[]);
}

#[test]
fn a_discount_is_sound_and_has_a_reason() {
    for bad in [percent(0), percent(10_001), Discount::Amount { amount: 0 }, Discount::Amount { amount: MAX_PRICE + 1 }] {
        given::<Order>(&ordered()).when(discount(bad)).then_rejected("DiscountInvalid");
    }
    let silent = Command::ApplyDiscount { discount: percent(1), reason: String::new() };
    given::<Order>(&ordered()).when(silent).then_rejected("DiscountInvalid");
}

#[test]
fn adjustments_add_up_outside_the_tax() {
    let added = |amount, adjustment_total| AdjustmentAdded { amount, reason: reason(), adjustment_total };
    given::<Order>(&ordered()).when(adjust(5_00)).then(&[added(5_00, 5_00).into()]);
    let history = after(ordered(), [added(5_00, 5_00).into()]);
    given::<Order>(&history).when(adjust(-7_00)).then(&[added(-7_00, -2_00).into()]);
    assert_eq!(Order::fold(&history).priced().unwrap().unwrap().total, ORDERED_TOTAL + 5_00);
}

#[test]
fn an_adjustment_out_of_bounds_is_refused() {
    for amount in [0, MAX_PRICE + 1, i64::MIN] {
        given::<Order>(&ordered()).when(adjust(amount)).then_rejected("AmountOutOfRange");
    }
    given::<Order>(&ordered()).when(adjust(-ORDERED_TOTAL - 1)).then_rejected("TotalNegative");
    let silent = Command::Adjust { amount: 1, reason: "\u{7}".into() };
    given::<Order>(&ordered()).when(silent).then_rejected("ReasonRequired");
}

#[test]
fn an_order_is_billed_once_at_its_price() {
    given::<Order>(&ordered()).when(bill(1)).then(&[Billed { bill_id: id(1), total: ORDERED_TOTAL }.into()]);
    given::<Order>(&billed()).when(bill(1)).then(&[]);
    given::<Order>(&billed()).when(bill(2)).then_rejected("BillExists");
    given::<Order>(&completed()).when(bill(2)).then_rejected("OrderAlreadyClosed");
    given::<Order>(&cancelled()).when(bill(1)).then_rejected("OrderAlreadyClosed");
}

#[test]
fn an_order_without_anything_to_pay_for_is_not_billed() {
    given::<Order>(&[opened().into()]).when(bill(1)).then_rejected("NothingToBill");
    let voided = after(ordered(), [LineVoided { line_id: id(1), reason: reason() }.into()]);
    given::<Order>(&voided).when(bill(1)).then_rejected("NothingToBill");
    let gift = [opened().into(), line(1, 1, 0).into()];
    given::<Order>(&gift).when(bill(1)).then(&[Billed { bill_id: id(1), total: 0 }.into()]);
}

#[test]
fn golden_vector_1_is_billed_to_the_satang() {
    let commands = [Command::Open(Box::new(opened())), add(line(1, 3, 120_00)), add(line(2, 1, 89_50)), discount(percent(1_000)), bill(1)];
    let mut history = Vec::new();
    for command in commands {
        let events = given::<Order>(&history).when(command).events();
        history.extend(events);
    }
    assert_eq!(history.last(), Some(&Billed { bill_id: id(1), total: 476_16 }.into()));
}

#[test]
fn lines_of_an_order_that_is_not_open_are_frozen() {
    for history in [billed(), completed(), cancelled()] {
        for command in every_edit() {
            given::<Order>(&history).when(command).then_rejected("OrderNotEditable");
        }
    }
}

#[test]
fn voiding_the_standing_bill_reopens_the_order() {
    let reopen = |n| Command::Reopen { bill_id: id(n) };
    given::<Order>(&billed()).when(reopen(1)).then(&[Reopened { bill_id: id(1) }.into()]);
    given::<Order>(&billed()).when(reopen(2)).then(&[]);
    given::<Order>(&completed()).when(reopen(1)).then(&[]);
    let history = after(billed(), [Reopened { bill_id: id(1) }.into()]);
    given::<Order>(&history).when(reopen(1)).then(&[]);
    given::<Order>(&history).when(add(line(2, 1, 1))).then(&[line(2, 1, 1).into()]);
    given::<Order>(&history).when(bill(2)).then(&[Billed { bill_id: id(2), total: ORDERED_TOTAL }.into()]);
}

#[test]
fn only_the_standing_bill_completes_the_order() {
    let complete = |n| Command::Complete { bill_id: id(n) };
    given::<Order>(&billed()).when(complete(1)).then(&[Completed { bill_id: id(1) }.into()]);
    given::<Order>(&completed()).when(complete(1)).then(&[]);
    for history in [ordered(), billed(), completed(), cancelled()] {
        given::<Order>(&history).when(complete(2)).then_rejected("BillsOutstanding");
    }
}

#[test]
fn an_order_is_given_up_only_while_open() {
    given::<Order>(&ordered()).when(cancel()).then(&[Cancelled { reason: reason() }.into()]);
    given::<Order>(&cancelled()).when(cancel()).then(&[]);
    given::<Order>(&ordered()).when(Command::Cancel { reason: String::new() }).then_rejected("ReasonRequired");
    given::<Order>(&billed()).when(cancel()).then_rejected("BillExists");
    given::<Order>(&completed()).when(cancel()).then_rejected("OrderAlreadyClosed");
}

fn some_amount() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 1_i64..200_00, 1 => -200_00_i64..=0, 1 => any::<i64>(), 1 => Just(MAX_PRICE)]
}

fn some_discount() -> impl Strategy<Value = Discount> {
    prop_oneof![(0_u32..=10_002).prop_map(percent), some_amount().prop_map(|amount| Discount::Amount { amount })]
}

fn some_line() -> impl Strategy<Value = LineAdded> {
    let quantity = prop_oneof![8 => 1_i64..5_000, 1 => any::<i64>(), 1 => Just(MAX_QUANTITY_MILLI)];
    let class = prop_oneof![Just(TaxClass::Standard), Just(TaxClass::Zero), Just(TaxClass::Exempt)];
    (0_u128..5, quantity, some_amount(), class, proptest::option::weighted(0.3, some_discount())).prop_map(
        |(n, quantity_milli, unit_price, tax_class, discount)| LineAdded {
            quantity_milli,
            unit_price,
            tax_class,
            discount,
            ..line(n, 1, 1)
        },
    )
}

fn some_reason() -> impl Strategy<Value = String> {
    prop_oneof![5 => Just(reason()), 1 => Just(String::new())]
}

fn some_command() -> impl Strategy<Value = Command> {
    let delta = prop_oneof![5 => -2_000_i64..4_000, 1 => any::<i64>()];
    prop_oneof![
        1 => Just(Command::Open(Box::new(opened()))),
        8 => some_line().prop_map(add),
        4 => (0_u128..5, delta).prop_map(|(n, delta)| change(n, delta)),
        3 => (0_u128..5, some_reason()).prop_map(|(n, reason)| void(n, &reason)),
        3 => (some_discount(), some_reason()).prop_map(|(discount, reason)| Command::ApplyDiscount { discount, reason }),
        1 => Just(Command::RemoveDiscount),
        3 => (some_amount(), some_reason()).prop_map(|(amount, reason)| Command::Adjust { amount, reason }),
        3 => (0_u128..2).prop_map(bill),
        3 => (0_u128..2).prop_map(|n| Command::Reopen { bill_id: id(n) }),
        1 => (0_u128..2).prop_map(|n| Command::Complete { bill_id: id(n) }),
        1 => some_reason().prop_map(|reason| Command::Cancel { reason }),
    ]
}

/// Mostly orders that were opened.
fn some_commands() -> impl Strategy<Value = Vec<Command>> {
    (prop::bool::weighted(0.95), prop::collection::vec(some_command(), 0..40)).prop_map(|(open, commands)| {
        let first = open.then(|| Command::Open(Box::new(opened())));
        first.into_iter().chain(commands).collect()
    })
}

fn is_edit(event: &Event) -> bool {
    match event {
        Event::LineAdded(_)
        | Event::LinesAdded(_)
        | Event::LineQuantityChanged(_)
        | Event::LineVoided(_)
        | Event::DiscountApplied(_)
        | Event::DiscountRemoved(_)
        | Event::AdjustmentAdded(_) => true,
        Event::Opened(_) | Event::Billed(_) | Event::Reopened(_) | Event::Completed(_) | Event::Cancelled(_) => false,
    }
}

/// Commands that say how things shall be; the others say by how much they shall change.
fn is_repeatable(command: &Command) -> bool {
    !matches!(command, Command::Open(_) | Command::ChangeLineQuantity { .. } | Command::Adjust { .. })
}

/// What every single event must respect.
fn check_event(before: &State, event: &Event) -> Result<(), TestCaseError> {
    prop_assert!(!is_edit(event) || before.status == Status::Open, "{:?} while {:?}", event, before.status);
    if let Event::Billed(billed) = event {
        prop_assert_eq!(billed.total, before.priced().unwrap().unwrap().total);
    }
    let stored = event.encode();
    prop_assert_eq!(&Event::decode(stored.event_type, stored.schema_version, &stored.payload), &Ok(event.clone()));
    Ok(())
}

/// What every state must respect.
fn check_state(state: &State) -> Result<(), TestCaseError> {
    prop_assert!(state.priced().is_none_or(|priced| priced.is_ok()), "an order that cannot be priced");
    let ids: std::collections::BTreeSet<LineId> = state.lines.iter().map(|line| line.line.line_id).collect();
    prop_assert_eq!(ids.len(), state.lines.len());
    prop_assert!(state.lines.iter().all(|line| line.line.quantity_milli > 0));
    prop_assert_eq!(state.bill_id.is_some(), matches!(state.status, Status::Billed | Status::Completed));
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_asked_the_order_stays_sound(commands in some_commands()) {
        let (mut state, mut history) = (State::default(), Vec::new());
        for command in commands {
            let Ok(events) = Order::decide(&state, command.clone()) else { continue };
            for event in &events {
                check_event(&state, event)?;
                state = Order::evolve(state, event);
            }
            check_state(&state)?;
            if is_repeatable(&command) {
                prop_assert_eq!(Order::decide(&state, command), Ok(vec![]));
            }
            history.extend(events);
        }
        prop_assert_eq!(&Order::fold(&history), &state);
        let snapshot = serde_json::to_vec(&state).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<State>(&snapshot).unwrap(), &state);
    }
}
