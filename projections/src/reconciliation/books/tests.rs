//! What counts as money of an account, and what does not.

use chrono::TimeDelta;
use domain::{
    envelope::{StreamKey, StreamType},
    event::AggregateEvent,
    ids::{AttemptId, RefundId, Ulid},
    payment_intent::{
        Created, Evidence, LeftToPerson, Resolution, Status, Succeeded, Tender, UnmatchedPaymentReceived, UnmatchedReason,
        UnmatchedResolved,
    },
    provider::void_reference,
    reconciliation::ListRow,
    refund::{ProviderPayment, Requested, TakenBack},
};

use super::*;
use crate::{
    reconciliation::Account,
    testing::{MERCHANT, STORE, at, day, record},
};

const INTENT: PaymentIntentId = PaymentIntentId(Ulid(10));
const REFUND: RefundId = RefundId(Ulid(20));

fn stream<E: AggregateEvent>(stream_type: StreamType, id: Ulid, events: &[E]) -> Vec<RecordedEvent> {
    let key = StreamKey { tenant: MERCHANT, stream_type, stream_id: id };
    let recorded = |(version, event): (i64, &E)| {
        let encoded = event.encode();
        let event = record(version, key, version, encoded.event_type, encoded.payload);
        RecordedEvent { schema_version: encoded.schema_version, ..RecordedEvent::clone(&event) }
    };
    (1..).zip(events).map(recorded).collect()
}

fn intent(events: &[payment_intent::Event]) -> Vec<RecordedEvent> {
    let created = Created {
        payment_intent_id: INTENT,
        store_id: STORE,
        bill_id: None,
        order_id: None,
        amount: Money::thb(100_00),
        tender: Tender::PromptPay,
        expires_at: None,
        merchant_reference: None,
        description: None,
        merchant_terminal_id: None,
        terms: None,
    };
    let events: Vec<_> = std::iter::once(created.into()).chain(events.iter().cloned()).collect();
    stream(StreamType::PaymentIntent, INTENT.0, &events)
}

fn attempt_id(n: u128) -> AttemptId {
    AttemptId(Ulid(n))
}

/// Attempt `n` under the reference `REFn`.
fn attempt(n: u128, account: Option<&str>) -> payment_intent::Event {
    AttemptStarted {
        payment_intent_id: INTENT,
        attempt_id: attempt_id(n),
        provider: "scb".to_owned(),
        provider_account: account.map(str::to_owned),
        route: None,
        reference: format!("REF{n}"),
        amount: Money::thb(100_00),
        tender: Tender::PromptPay,
        card_token: None,
        manual_capture: false,
        return_url: None,
        started_at: at(0),
        expires_at: at(600),
    }
    .into()
}

fn paid(n: u128, transaction_id: &str) -> Succeeded {
    Succeeded {
        payment_intent_id: INTENT,
        bill_id: None,
        tender: Tender::PromptPay,
        attempt_id: Some(attempt_id(n)),
        transaction_id: Some(transaction_id.to_owned()),
        amount: Money::thb(100_00),
        paid_at: at(5),
        evidence: Evidence::Inquiry,
        cash_received: None,
        cash_change: None,
        cash_rounding: 0,
        tip: 0,
        acquirer: None,
    }
}

fn succeeded(n: u128, transaction_id: &str) -> payment_intent::Event {
    paid(n, transaction_id).into()
}

fn beside(n: u128, transaction_id: &str, why: UnmatchedReason) -> payment_intent::Event {
    let (attempt_id, transaction_id) = (Some(attempt_id(n)), transaction_id.to_owned());
    UnmatchedPaymentReceived { why, attempt_id, transaction_id, amount: Money::thb(100_00), paid_at: at(6) }.into()
}

fn refund(destination: Destination, more: &[refund::Event]) -> Vec<RecordedEvent> {
    let payment = ProviderPayment {
        provider: "scb".to_owned(),
        reference: "REF1".to_owned(),
        provider_id: None,
        transaction_id: "T1".to_owned(),
        captured: Money::thb(100_00),
        paid_at: at(5),
    };
    let requested = Requested {
        refund_id: REFUND,
        payment_intent_id: Some(INTENT),
        bill_id: None,
        store_id: STORE,
        business_date: day(1),
        amount: Money::thb(40_00),
        cash_rounding: 0,
        tender: Tender::PromptPay,
        acquirer: None,
        destination,
        reason: "cold".to_owned(),
        provider: Some(Box::new(payment)),
        breakdown: None,
        unmatched: false,
        fallback_of: None,
    };
    let events: Vec<_> = std::iter::once(requested.into()).chain(more.iter().cloned()).collect();
    stream(StreamType::Refund, REFUND.0, &events)
}

fn sent_back(provider_reference: Option<String>) -> refund::Event {
    let (refund_id, payment_intent_id, bill_id, amount) = (REFUND, Some(INTENT), None, Money::thb(40_00));
    refund::Succeeded { refund_id, payment_intent_id, bill_id, amount, provider_reference }.into()
}

fn listed(transaction_id: &str, reference: &str) -> Listed {
    let (transaction_id, reference) = (transaction_id.to_owned(), Some(reference.to_owned()));
    let row = ListRow { transaction_id, reference, kind: Kind::Payment, gross: Money::thb(100_00), fee: None, net: None, at: at(0) };
    Listed { line: 2, row }
}

/// The books of the platform's account at SCB over a minute, after these streams.
fn books<'l>(list: &'l [Listed], streams: &[Vec<RecordedEvent>]) -> Books<'l> {
    let period = Period { from: at(0), to: at(0) + TimeDelta::minutes(1) };
    let question = Question { account: Account::Platforms("scb".to_owned()), period, until: None, bounds: None };
    let mut books = Books::new(&question, list);
    for stream in streams {
        books.take(stream).unwrap();
    }
    books
}

fn names<'b>(books: &'b Books<'_>) -> Vec<(&'b str, &'b str, i64)> {
    books.booked.iter().map(|booked| (booked.transaction_id.as_str(), booked.reference.as_str(), booked.gross.amount)).collect()
}

#[test]
fn a_payment_counts_for_the_account_of_the_attempt_that_brought_it() {
    let first_failed = [attempt(1, Some("pac_00000000000000000000000001")), attempt(2, None), succeeded(2, "T1")];
    assert_eq!(names(&books(&[], &[intent(&first_failed)])), [("T1", "REF2", 100_00)]);
    let elsewhere = books(&[], &[intent(&[attempt(1, Some("pac_00000000000000000000000001")), succeeded(1, "T1")])]);
    assert_eq!((names(&elsewhere), elsewhere.is_known), (vec![], false));
    let recorded = Succeeded { attempt_id: None, ..paid(1, "SLIP") };
    assert_eq!(names(&books(&[], &[intent(&[recorded.into()])])), []);
}

#[test]
fn money_that_closed_nothing_counts_and_once_when_it_is_accepted() {
    let twice = [attempt(1, None), succeeded(1, "T1"), beside(1, "T2", UnmatchedReason::Duplicate)];
    assert_eq!(names(&books(&[], &[intent(&twice)])), [("T1", "REF1", 100_00), ("T2", "REF1", 100_00)]);
    let resolution = Resolution::Accepted;
    let resolved = UnmatchedResolved { transaction_id: "T1".to_owned(), resolution, refund_id: None, reason: "late".to_owned() };
    let accepted = [attempt(1, None), beside(1, "T1", UnmatchedReason::Late), resolved.into(), succeeded(1, "T1")];
    assert_eq!(names(&books(&[], &[intent(&accepted)])), [("T1", "REF1", 100_00)]);
}

#[test]
fn a_refund_counts_once_it_went_back_by_the_providers_name_of_it() {
    let of = |destination, more: &[refund::Event]| books(&[], &[refund(destination, more)]).booked;
    let name = |reference: Option<String>| of(Destination::Original, &[sent_back(reference)])[0].transaction_id.clone();
    assert_eq!(name(Some("re_1".to_owned())), "re_1");
    assert_eq!(name(Some(void_reference("T1"))), "T1");
    let all = of(Destination::Original, &[sent_back(Some("re_1".to_owned()))]);
    let [booked] = &all[..] else { panic!("{all:?}") };
    assert_eq!((booked.kind, booked.gross, booked.at), (Kind::Refund, Money::thb(-40_00), at(2)));
    assert_eq!((booked.payment_intent_id, booked.refund_id), (INTENT, Some(REFUND)));
    let taken_back = TakenBack {
        refund_id: REFUND,
        payment_intent_id: INTENT,
        bill_id: None,
        amount: Money::thb(40_00),
        code: "refund_failed".to_owned(),
        message: String::new(),
    };
    assert_eq!(of(Destination::Original, &[]), []);
    assert_eq!(of(Destination::Original, &[sent_back(None), taken_back.into()]), []);
    assert_eq!(of(Destination::Cash, &[sent_back(None)]), []);
}

#[test]
fn what_lies_outside_the_period_is_kept_only_if_the_list_names_it() {
    let mut late = intent(&[attempt(1, None), succeeded(1, "T1")]);
    let [.., paid] = &mut late[..] else { panic!("events") };
    let text = String::from_utf8(paid.payload.clone()).unwrap().replace("10:00:05", "11:00:05");
    paid.payload = text.into_bytes();
    let late = [late];
    assert_eq!(names(&books(&[], &late)), []);
    assert_eq!(names(&books(&[listed("T1", "REF1")], &late)), [("T1", "REF1", 100_00)]);
}

#[test]
fn an_intent_is_named_by_any_of_its_references_and_left_to_a_person_by_the_live_one() {
    let left = LeftToPerson { attempt_id: attempt_id(2), at: at(9) };
    let streams = [intent(&[attempt(1, None), attempt(2, None), left.into()])];
    let list = [listed("T1", "REF1"), listed("T2", "REF2"), listed("T3", "REF3")];
    let books = books(&list, &streams);
    let named = |left_to_person| Named { payment_intent_id: INTENT, status: Status::Processing, left_to_person };
    let expected = [("REF1".to_owned(), named(None)), ("REF2".to_owned(), named(Some(Money::thb(100_00))))];
    assert_eq!(books.named, BTreeMap::from(expected));
}
