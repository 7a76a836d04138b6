//! Every rule of a payment intent, and that money is neither invented, lost nor given back twice.

mod attempts;
mod cases;
mod endings;
mod holds;
mod payments;
mod postings;
mod properties;
mod refunds;
mod terms;

use chrono::{DateTime, Utc};

use super::*;
use crate::{decider::Aggregate, ids::Ulid, money::Money, order::MAX_PRICE, testing::given};

const OWED: i64 = 100_00;

fn id<T: From<Ulid>>(n: u128) -> T {
    Ulid::from(n).into()
}

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + chrono::Duration::minutes(minute)
}

fn created() -> Created {
    Created {
        payment_intent_id: id(1),
        store_id: id(2),
        bill_id: Some(id(3)),
        order_id: Some(id(4)),
        amount: Money::thb(OWED),
        tender: Tender::PromptPay,
        expires_at: Some(at(10)),
        merchant_reference: Some("table 12".into()),
        description: Some("Dinner for two".into()),
        merchant_terminal_id: Some("TILL-4".into()),
        terms: None,
    }
}

fn create(details: Created) -> Command {
    Command::Create(Box::new(details))
}

fn start(n: u128) -> Command {
    Command::StartAttempt(Box::new(new_attempt(n)))
}

fn new_attempt(n: u128) -> NewAttempt {
    NewAttempt {
        attempt_id: id(n),
        provider: "scb".into(),
        provider_account: None,
        route: None,
        reference: format!("REF{n}"),
        card_token: None,
        manual_capture: false,
        return_url: None,
        started_at: at(0),
        expires_at: at(10),
    }
}

fn require_action(n: u128) -> Command {
    Command::RequireAction { attempt_id: id(n), qr_payload: Some("000201".into()), redirect_url: None }
}

fn fail(n: u128) -> Command {
    Command::FailAttempt { attempt_id: id(n), code: "invalid_request".into(), message: "E-1".into() }
}

fn expire(n: u128) -> Command {
    Command::Expire { attempt_id: id(n) }
}

fn mark_unknown(n: u128) -> Command {
    Command::MarkOutcomeUnknown { attempt_id: id(n), reason: "time-out".into(), since: at(0) }
}

/// Notes and coins, rounded by `rounding`.
fn cash(received: i64, rounding: i64) -> PaymentReport {
    PaymentReport {
        attempt_id: None,
        transaction_id: None,
        amount: Money::thb(OWED),
        paid_at: at(1),
        evidence: Evidence::Staff,
        cash_received: Some(received),
        cash_rounding: rounding,
        tip: 0,
        acquirer: None,
    }
}

/// What the provider's books show.
fn seen(transaction: &str, amount: i64) -> PaymentReport {
    PaymentReport {
        attempt_id: Some(id(1)),
        transaction_id: Some(transaction.into()),
        amount: Money::thb(amount),
        paid_at: at(1),
        evidence: Evidence::Inquiry,
        cash_received: None,
        cash_rounding: 0,
        tip: 0,
        acquirer: None,
    }
}

fn confirm(transaction: &str, amount: i64) -> Command {
    Command::ConfirmFromProvider(seen(transaction, amount))
}

fn cancel() -> Command {
    Command::Cancel { reason: "guest pays cash".into() }
}

fn reserve_refund(n: u128, amount: i64) -> Command {
    Command::ReserveRefund { refund_id: id(n), amount: Money::thb(amount) }
}

fn settle_refund(n: u128) -> Command {
    Command::SettleRefund { refund_id: id(n) }
}

fn release_refund(n: u128) -> Command {
    Command::ReleaseRefund { refund_id: id(n) }
}

fn attempt(n: u128) -> AttemptStarted {
    AttemptStarted {
        payment_intent_id: id(1),
        attempt_id: id(n),
        provider: "scb".into(),
        provider_account: None,
        route: None,
        reference: format!("REF{n}"),
        amount: Money::thb(OWED),
        tender: Tender::PromptPay,
        card_token: None,
        manual_capture: false,
        return_url: None,
        started_at: at(0),
        expires_at: at(10),
    }
}

fn action(n: u128) -> Event {
    ActionRequired { attempt_id: id(n), qr_payload: Some("000201".into()), redirect_url: None }.into()
}

fn failed(n: u128) -> Event {
    AttemptFailed { attempt_id: id(n), bill_id: Some(id(3)), code: "invalid_request".into(), message: "E-1".into() }.into()
}

fn not_known(n: u128) -> Event {
    OutcomeUnknown { attempt_id: id(n), reason: "time-out".into(), since: Some(at(0)) }.into()
}

/// As succeeded through the first attempt.
fn succeeded(transaction: &str) -> Event {
    Succeeded {
        payment_intent_id: id(1),
        bill_id: Some(id(3)),
        tender: Tender::PromptPay,
        attempt_id: Some(id(1)),
        transaction_id: Some(transaction.into()),
        amount: Money::thb(OWED),
        paid_at: at(1),
        evidence: Evidence::Inquiry,
        cash_received: None,
        cash_change: None,
        cash_rounding: 0,
        tip: 0,
        acquirer: None,
    }
    .into()
}

fn unmatched(why: UnmatchedReason, transaction: &str, amount: i64) -> Event {
    UnmatchedPaymentReceived {
        why,
        attempt_id: Some(id(1)),
        transaction_id: transaction.into(),
        amount: Money::thb(amount),
        paid_at: at(1),
    }
    .into()
}

fn canceled() -> Event {
    Canceled { bill_id: Some(id(3)), reason: "guest pays cash".into() }.into()
}

fn expired() -> Event {
    Expired { bill_id: Some(id(3)) }.into()
}

fn refund_reserved(n: u128, amount: i64) -> Event {
    RefundReserved { refund_id: id(n), amount }.into()
}

/// Created, then what else happened.
fn intent(more: &[Event]) -> Vec<Event> {
    std::iter::once(created().into()).chain(more.iter().cloned()).collect()
}

fn processing() -> Vec<Event> {
    intent(&[attempt(1).into()])
}

fn waiting() -> Vec<Event> {
    intent(&[attempt(1).into(), action(1)])
}

fn captured() -> Vec<Event> {
    intent(&[attempt(1).into(), action(1), succeeded("T1")])
}

fn drawer() -> Vec<Event> {
    vec![Created { tender: Tender::Cash, expires_at: None, ..created() }.into()]
}

fn cancel_requested() -> Event {
    CancelRequested { attempt: attempt(1), provider_id: None, reason: "guest pays cash".into() }.into()
}

fn and(mut history: Vec<Event>, event: Event) -> Vec<Event> {
    history.push(event);
    history
}

#[test]
fn an_intent_is_created_once() {
    given::<PaymentIntent>(&[]).when(create(created())).then(&[created().into()]);
    given::<PaymentIntent>(&intent(&[])).when(create(created())).then_rejected("PaymentIntentIdReused");
}

#[test]
fn an_intent_out_of_bounds_is_refused_by_name() {
    for amount in [0, -1, i64::MIN, MAX_PRICE + 1] {
        let bad = Created { amount: Money::thb(amount), ..created() };
        given::<PaymentIntent>(&[]).when(create(bad)).then_rejected("AmountNotPositive");
    }
    for text in [String::new(), "x".repeat(65)] {
        let bad = Created { description: Some(text.repeat(4)), ..created() };
        given::<PaymentIntent>(&[]).when(create(bad)).then_rejected("DescriptionInvalid");
        let bad = Created { merchant_terminal_id: Some(text.clone()), ..created() };
        given::<PaymentIntent>(&[]).when(create(bad)).then_rejected("TerminalInvalid");
        let bad = Created { merchant_reference: Some(text), ..created() };
        given::<PaymentIntent>(&[]).when(create(bad)).then_rejected("ReferenceInvalid");
    }
    given::<PaymentIntent>(&[]).when(create(Created { expires_at: None, ..created() })).then_rejected("ExpiryRequired");
}

#[test]
fn nothing_can_be_asked_of_an_intent_that_was_never_created() {
    let commands = [
        start(1),
        require_action(1),
        fail(1),
        mark_unknown(1),
        Command::RecordTender(cash(OWED, 0)),
        confirm("T1", OWED),
        cancel(),
        Command::ConfirmCancel,
        expire(1),
        Command::Lapse { at: at(99) },
        reserve_refund(1, 1),
        settle_refund(1),
        release_refund(1),
    ];
    for command in commands {
        given::<PaymentIntent>(&[]).when(command).then_rejected("PaymentIntentNotFound");
    }
}
