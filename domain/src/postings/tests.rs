//! Single events by example, and payments with their refunds together. That every history of an intent is explained is checked beside
//! its own properties.

use chrono::{DateTime, NaiveDate};
use proptest::prelude::*;

use super::*;
use crate::{
    decider::Aggregate,
    payment_intent::{
        self, AttemptStarted, Command, Created, DisputeOutcome, Evidence, PaymentIntent, Resolution, Succeeded, UnmatchedPaymentReceived,
        UnmatchedReason, Verdict,
    },
    refund::{self, Breakdown, Destination, ProviderPayment, Refund, Requested, Status},
};

fn id<T: From<Ulid>>(n: u128) -> T {
    Ulid::from(n).into()
}

fn provider() -> Account {
    Account::ProviderClearing("pac_1".into())
}

fn created(tender: Tender) -> payment_intent::Event {
    Created {
        payment_intent_id: id(1),
        store_id: id(2),
        bill_id: None,
        order_id: None,
        amount: Money::thb(100_00),
        tender,
        expires_at: Some(DateTime::UNIX_EPOCH),
        merchant_reference: None,
        description: None,
        merchant_terminal_id: None,
        terms: None,
    }
    .into()
}

fn started() -> payment_intent::Event {
    AttemptStarted {
        payment_intent_id: id(1),
        attempt_id: id(1),
        provider: "omise".into(),
        provider_account: Some("pac_1".into()),
        route: None,
        reference: "REF1".into(),
        amount: Money::thb(100_00),
        tender: Tender::PromptPay,
        card_token: None,
        manual_capture: false,
        return_url: None,
        started_at: DateTime::UNIX_EPOCH,
        expires_at: DateTime::UNIX_EPOCH,
    }
    .into()
}

fn paid(attempt: Option<u128>, tender: Tender) -> Succeeded {
    Succeeded {
        payment_intent_id: id(1),
        bill_id: None,
        tender,
        attempt_id: attempt.map(id),
        transaction_id: Some("T1".into()),
        amount: Money::thb(100_00),
        paid_at: DateTime::UNIX_EPOCH,
        evidence: Evidence::Inquiry,
        cash_received: None,
        cash_change: None,
        cash_rounding: 0,
        tip: 0,
        acquirer: None,
    }
}

fn second_payment() -> payment_intent::Event {
    let (why, transaction_id) = (UnmatchedReason::Duplicate, "T2".into());
    UnmatchedPaymentReceived { why, attempt_id: Some(id(1)), transaction_id, amount: Money::thb(70_00), paid_at: DateTime::UNIX_EPOCH }
        .into()
}

fn requested(n: u128, satang: i64, transaction: Option<&str>) -> Requested {
    let payment = |transaction: &str| ProviderPayment {
        provider: "pac_1".into(),
        reference: "REF1".into(),
        provider_id: None,
        transaction_id: transaction.into(),
        captured: Money::thb(100_00),
        paid_at: DateTime::UNIX_EPOCH,
    };
    Requested {
        refund_id: id(n),
        payment_intent_id: Some(id(1)),
        bill_id: None,
        store_id: id(2),
        business_date: NaiveDate::from_ymd_opt(2026, 5, 1).unwrap(),
        amount: Money::thb(satang),
        cash_rounding: 0,
        tender: if transaction.is_some() { Tender::PromptPay } else { Tender::Cash },
        acquirer: None,
        destination: if transaction.is_some() { Destination::Original } else { Destination::Cash },
        reason: "cold".into(),
        provider: transaction.map(|transaction| Box::new(payment(transaction))),
        breakdown: None,
        unmatched: transaction == Some("T2"),
        fallback_of: None,
    }
}

fn sent(n: u128, satang: i64, linked: bool) -> refund::Event {
    let payment_intent_id = linked.then(|| id(1));
    refund::Succeeded { refund_id: id(n), payment_intent_id, bill_id: None, amount: Money::thb(satang), provider_reference: None }.into()
}

/// What the events of a refund on its own come to.
fn of_refund(details: Requested, then: refund::Event) -> Vec<(String, i128)> {
    let (mut journal, mut balances) = (Journal::default(), Balances::default());
    for event in [details.into(), then] {
        balances.add(&journal.post(id(9), &DomainEvent::Refund(event)).unwrap());
    }
    told(&balances)
}

fn of_intent(history: impl IntoIterator<Item = payment_intent::Event>) -> Vec<(String, i128)> {
    let (mut journal, mut balances) = (Journal::default(), Balances::default());
    for event in history {
        balances.add(&journal.post(id(1), &DomainEvent::PaymentIntent(event)).unwrap());
    }
    told(&balances)
}

/// What is not zero, by the names of the accounts.
fn told(balances: &Balances) -> Vec<(String, i128)> {
    balances.all().filter(|(.., balance)| *balance != 0).map(|(account, _, balance)| (account.to_string(), balance)).collect()
}

fn named<const N: usize>(balances: [(&str, i128); N]) -> Vec<(String, i128)> {
    balances.into_iter().map(|(name, balance)| (name.to_owned(), balance)).collect()
}

#[test]
fn a_payment_stands_where_it_came() {
    let online = of_intent([created(Tender::PromptPay), started(), paid(Some(1), Tender::PromptPay).into()]);
    assert_eq!(online, named([("customer_receivable", -100_00), ("provider_clearing:pac_1", 100_00)]));
    let terminal = of_intent([created(Tender::Card), Succeeded { tip: 10_00, ..paid(None, Tender::Card) }.into()]);
    assert_eq!(terminal, named([("customer_receivable", -100_00), ("outside_clearing:card", 110_00), ("tips_payable", -10_00)]));
    let drawer = of_intent([created(Tender::Cash), Succeeded { cash_rounding: -12, ..paid(None, Tender::Cash) }.into()]);
    assert_eq!(drawer, named([("customer_receivable", -100_00), ("cash", 99_88), ("cash_rounding", 12)]));
}

#[test]
fn money_that_closes_nothing_is_owed_until_somebody_decides() {
    let history = [created(Tender::PromptPay), started(), second_payment()];
    assert_eq!(of_intent(history.clone()), named([("provider_clearing:pac_1", 70_00), ("unmatched_liability", -70_00)]));
    let decided = |resolution| payment_intent::UnmatchedResolved {
        transaction_id: "T2".into(),
        resolution,
        refund_id: None,
        reason: "counted".into(),
    };
    let kept = of_intent(history.clone().into_iter().chain([decided(Resolution::Kept).into()]));
    assert_eq!(kept, named([("provider_clearing:pac_1", 70_00), ("unmatched_income", -70_00)]));
    let accepted = Succeeded { transaction_id: Some("T2".into()), amount: Money::thb(70_00), ..paid(Some(1), Tender::PromptPay) };
    let counted = of_intent(history.into_iter().chain([decided(Resolution::Accepted).into(), accepted.into()]));
    assert_eq!(counted, named([("customer_receivable", -70_00), ("provider_clearing:pac_1", 70_00)]));
}

#[test]
fn contested_money_stands_apart_until_it_is_decided() {
    let disputed = disputed(100_00, None);
    let history = [created(Tender::PromptPay), started(), paid(Some(1), Tender::PromptPay).into(), disputed.clone().into()];
    assert_eq!(of_intent(history.clone()), named([("customer_receivable", -100_00), ("dispute_receivable", 100_00)]));
    let won = of_intent(history.clone().into_iter().chain([decided(&disputed, DisputeOutcome::Won)]));
    assert_eq!(won, named([("customer_receivable", -100_00), ("provider_clearing:pac_1", 100_00)]));
    assert_eq!(of_intent(history.into_iter().chain([decided(&disputed, DisputeOutcome::Lost)])), named([]));
}

fn disputed(satang: i64, beside: Option<&str>) -> payment_intent::Disputed {
    payment_intent::Disputed {
        payment_intent_id: id(1),
        store_id: id(2),
        bill_id: None,
        business_date: NaiveDate::from_ymd_opt(2026, 5, 1).unwrap(),
        tender: Tender::PromptPay,
        acquirer: None,
        amount: Money::thb(satang),
        reason: "not mine".into(),
        disputed_at: DateTime::UNIX_EPOCH,
        unmatched_transaction_id: beside.map(str::to_owned),
    }
}

fn decided(disputed: &payment_intent::Disputed, outcome: DisputeOutcome) -> payment_intent::Event {
    payment_intent::DisputeResolved {
        payment_intent_id: id(1),
        store_id: id(2),
        business_date: disputed.business_date,
        tender: Tender::PromptPay,
        acquirer: None,
        outcome,
        amount: disputed.amount,
        resolved_at: DateTime::UNIX_EPOCH,
        unmatched_transaction_id: disputed.unmatched_transaction_id.clone(),
    }
    .into()
}

#[test]
fn contested_money_that_closed_nothing_is_owed_to_nobody_once_it_is_lost() {
    let disputed = disputed(70_00, Some("T2"));
    let history = vec![created(Tender::PromptPay), started(), second_payment(), disputed.clone().into()];
    let then = |more: &[payment_intent::Event]| of_intent([history.clone(), more.to_vec()].concat());
    assert_eq!(then(&[]), named([("unmatched_liability", -70_00), ("dispute_receivable", 70_00)]));
    let won = then(&[decided(&disputed, DisputeOutcome::Won)]);
    assert_eq!(won, named([("provider_clearing:pac_1", 70_00), ("unmatched_liability", -70_00)]));
    let lost = decided(&disputed, DisputeOutcome::Lost);
    assert_eq!(then(std::slice::from_ref(&lost)), named([]));
    // A refund that was under way went as well: the payer has the money twice, until it comes to nothing after all.
    let went: payment_intent::Event = payment_intent::UnmatchedRefunded { transaction_id: "T2".into(), refund_id: id(9) }.into();
    let twice = named([("customer_receivable", 70_00), ("refund_payable", -70_00)]);
    assert_eq!((then(&[lost.clone(), went.clone()]), then(&[went.clone(), lost.clone()])), (twice.clone(), twice));
    let failed: payment_intent::Event = payment_intent::UnmatchedReopened { transaction_id: "T2".into(), refund_id: id(9) }.into();
    assert_eq!(then(&[lost, went, failed]), named([]));
}

#[test]
fn a_refund_leaves_from_where_it_is_sent() {
    let online = of_refund(requested(9, 40_00, Some("T1")), sent(9, 40_00, true));
    assert_eq!(online, named([("provider_clearing:pac_1", -40_00), ("refund_payable", 40_00)]));
    let rounded = Requested { cash_rounding: -12, ..requested(9, 40_00, None) };
    let drawer = of_refund(rounded, sent(9, 40_00, true));
    assert_eq!(drawer, named([("cash", -39_88), ("cash_rounding", -12), ("refund_payable", 40_00)]));
    let breakdown = Some(Breakdown { lines: vec![], adjustment: 35_00, tip: 5_00 });
    let unlinked = Requested { payment_intent_id: None, breakdown, ..requested(9, 40_00, None) };
    let credit_note = of_refund(unlinked, sent(9, 40_00, false));
    assert_eq!(credit_note, named([("customer_receivable", 35_00), ("cash", -40_00), ("tips_payable", 5_00)]));
}

#[test]
fn what_refers_to_nothing_known_is_not_posted() {
    let mut journal = Journal::default();
    let unknown = DomainEvent::PaymentIntent(paid(Some(1), Tender::PromptPay).into());
    assert_eq!(journal.post(id(1), &unknown), Err(PostingError::Missing("an attempt")));
    assert_eq!(journal.post(id(9), &DomainEvent::Refund(sent(9, 1, true))), Err(PostingError::Missing("a refund")));
    let least = Succeeded { amount: Money::thb(i64::MIN), ..paid(None, Tender::Cash) };
    assert_eq!(journal.post(id(1), &DomainEvent::PaymentIntent(least.into())), Err(PostingError::OutOfRange));
}

/// A payment with a second one beside it, and its refunds, each told to the other as the process manager does.
#[derive(Default)]
struct Books {
    intent: payment_intent::State,
    refunds: BTreeMap<u128, refund::State>,
    journal: Journal,
    balances: Balances,
}

impl Books {
    fn paid_twice() -> Self {
        let mut books = Self::default();
        for event in [created(Tender::PromptPay), started(), paid(Some(1), Tender::PromptPay).into(), second_payment()] {
            books.take(event);
        }
        books
    }

    fn post(&mut self, stream_id: Ulid, event: &DomainEvent) {
        let postings = self.journal.post(stream_id, event).unwrap();
        let sum: i128 = postings.iter().map(|posting| i128::from(posting.amount.amount)).sum();
        assert_eq!(sum, 0, "{event:?} is posted as {postings:?}");
        self.balances.add(&postings);
    }

    fn take(&mut self, event: payment_intent::Event) {
        self.intent = PaymentIntent::evolve(std::mem::take(&mut self.intent), &event);
        self.post(id(1), &DomainEvent::PaymentIntent(event));
    }

    /// Says whether the intent allows it.
    fn ask_intent(&mut self, command: Command) -> bool {
        let Ok(events) = PaymentIntent::decide(&self.intent, command) else { return false };
        for event in events {
            self.take(event);
        }
        true
    }

    fn ask_refund(&mut self, n: u128, command: refund::Command) {
        let state = self.refunds.entry(n).or_default();
        let events = Refund::decide(state, command).unwrap_or_default();
        for event in events {
            let state = self.refunds.entry(n).or_default();
            *state = Refund::evolve(std::mem::take(state), &event);
            let follows = follows(n, &event);
            self.post(id(n), &DomainEvent::Refund(event));
            if let Some(command) = follows {
                self.ask_intent(command);
            }
        }
    }

    /// Of the payment, or of the money beside it for refunds from 10 on.
    fn request(&mut self, n: u128, satang: i64) {
        if self.refunds.get(&n).is_some_and(|refund| refund.details.is_some()) {
            return;
        }
        let beside = n >= 10;
        let reserve = if beside {
            Command::ResolveUnmatched { transaction_id: "T2".into(), verdict: Verdict::Refund(id(n)), reason: "twice".into() }
        } else {
            Command::ReserveRefund { refund_id: id(n), amount: Money::thb(satang) }
        };
        if self.ask_intent(reserve) {
            let details = if beside { requested(n, 70_00, Some("T2")) } else { requested(n, satang, Some("T1")) };
            self.ask_refund(n, refund::Command::Request(Box::new(details)));
        }
    }
}

fn follows(n: u128, event: &refund::Event) -> Option<Command> {
    let refund_id = id(n);
    match event {
        refund::Event::Succeeded(_) => Some(Command::SettleRefund { refund_id }),
        refund::Event::Failed(_) => Some(Command::ReleaseRefund { refund_id }),
        refund::Event::TakenBack(_) => Some(Command::TakeBackRefund { refund_id }),
        refund::Event::FoundSent(found) => {
            let unmatched_transaction_id = found.unmatched_transaction_id.clone();
            Some(Command::CountFoundRefund { refund_id, amount: found.amount.amount, unmatched_transaction_id })
        }
        refund::Event::LeftToPerson(_) => Some(Command::LeaveRefundToPerson { refund_id }),
        refund::Event::Requested(_) | refund::Event::OutcomeUnknown(_) | refund::Event::ResolvedByPerson(_) => None,
    }
}

/// Refunds of the payment, and of the money beside it.
fn some_refund() -> impl Strategy<Value = u128> {
    prop_oneof![2_u128..5, 10_u128..13]
}

fn some_word() -> impl Strategy<Value = refund::Command> {
    let statement_reference = || "24 Nov, line 3".to_owned();
    prop_oneof![
        4 => Just(refund::Command::Succeed { provider_reference: None }),
        3 => Just(refund::Command::Fail { code: "refused".into(), message: "E-1".into(), refused: false }),
        3 => Just(refund::Command::LeaveToPerson { at: DateTime::UNIX_EPOCH }),
        3 => any::<bool>().prop_map(move |sent| refund::Command::ResolveByPerson { sent, statement_reference: statement_reference() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_provider_holds_what_came_less_what_was_sent_whatever_becomes_of_refunds(
        steps in prop::collection::vec((some_refund(), 1_i64..80_00, prop::option::of(some_word())), 0..60),
        keep_at in 0_usize..60,
    ) {
        let mut books = Books::paid_twice();
        for (at, (n, satang, word)) in steps.into_iter().enumerate() {
            if at == keep_at {
                books.ask_intent(Command::ResolveUnmatched { transaction_id: "T2".into(), verdict: Verdict::Keep, reason: "agreed".into() });
            }
            match word {
                Some(word) => books.ask_refund(n, word),
                None => books.request(n, satang),
            }
            let sent = books.refunds.values().filter(|refund| refund.status == Status::Succeeded);
            let sent: i128 = sent.filter_map(|refund| refund.details.as_ref()).map(|details| i128::from(details.amount.amount)).sum();
            let holds = |account: Account| books.balances.of(&account, Currency::THB);
            prop_assert_eq!(holds(provider()), 170_00 - sent);
            // The payment and its refunds say the same.
            prop_assert_eq!(holds(Account::RefundPayable), 0);
            let beyond: i64 = books.intent.refunds_beyond.iter().map(|refund| refund.amount).sum();
            prop_assert_eq!(holds(Account::CustomerReceivable), i128::from(books.intent.refunded_total + beyond - 100_00));
        }
    }
}
