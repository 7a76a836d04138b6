//! Changes before an attempt, parked money, disputes, what a person decides, and attempts that are used up.

use super::*;
use crate::event::AggregateEvent;

fn late() -> Vec<Event> {
    intent(&[attempt(1).into(), expired(), unmatched(UnmatchedReason::Late, "T1", OWED)])
}

fn verdict(transaction: &str, verdict: Verdict) -> Command {
    Command::ResolveUnmatched { transaction_id: transaction.into(), verdict, reason: "the guest is still here".into() }
}

fn resolved(resolution: Resolution, refund: Option<u128>) -> Event {
    let (transaction_id, reason) = ("T1".to_owned(), "the guest is still here".to_owned());
    UnmatchedResolved { transaction_id, resolution, refund_id: refund.map(id), reason }.into()
}

#[test]
fn an_intent_changes_only_before_an_attempt_lives() {
    let free = vec![Event::from(Created { bill_id: None, order_id: None, ..created() })];
    let update = |amount: i64| {
        Command::Update(Update { amount: Some(Money::thb(amount)), merchant_reference: Some("table 13".into()), ..Update::default() })
    };
    let updated = Updated { amount: Money::thb(50_00), merchant_reference: Some("table 13".into()), ..as_created() };
    given::<PaymentIntent>(&free).when(update(50_00)).then(&[updated.into()]);
    given::<PaymentIntent>(&free).when(update(0)).then_rejected("AmountNotPositive");
    given::<PaymentIntent>(&intent(&[])).when(update(50_00)).then_rejected("BillAmountFixed");
    given::<PaymentIntent>(&processing()).when(update(50_00)).then_rejected("AttemptInProgress");
    given::<PaymentIntent>(&captured()).when(update(50_00)).then_rejected("PaymentIntentNotOpen");
    let to_cash = Command::Update(Update { tender: Some(Tender::Cash), ..Update::default() });
    given::<PaymentIntent>(&free).when(to_cash).then_rejected("TenderNotProvided");
}

/// What the intent of these tests is asked for with.
fn as_created() -> Updated {
    let Created { amount, tender, merchant_reference, description, merchant_terminal_id, .. } = created();
    Updated { amount, tender, merchant_reference, description, merchant_terminal_id }
}

#[test]
fn what_an_intent_is_for_and_which_terminal_takes_it_change_before_an_attempt_lives() {
    let free = intent(&[]);
    let change = |description: &str, terminal: &str| {
        let (description, merchant_terminal_id) = (Some(description.to_owned()), Some(terminal.to_owned()));
        Command::Update(Update { description, merchant_terminal_id, ..Update::default() })
    };
    let changed = Updated { description: Some("two teas".into()), merchant_terminal_id: Some("T-2".into()), ..as_created() };
    given::<PaymentIntent>(&free).when(change("two teas", "T-2")).then(&[changed.clone().into()]);
    let history = and(free.clone(), changed.into());
    given::<PaymentIntent>(&history).when(change("two teas", "T-2")).then(&[]);
    for (description, terminal, refusal) in [("", "T-2", "DescriptionInvalid"), ("tea", " ", "TerminalInvalid")] {
        given::<PaymentIntent>(&free).when(change(description, terminal)).then_rejected(refusal);
    }
    given::<PaymentIntent>(&processing()).when(change("two teas", "T-2")).then_rejected("AttemptInProgress");
    // A change of something else leaves both, also one of which the fact did not name them.
    let amount_only = Updated { description: None, merchant_terminal_id: None, ..as_created() };
    let details = PaymentIntent::fold(&and(history, amount_only.into())).details.unwrap();
    assert_eq!((details.description.as_deref(), details.merchant_terminal_id.as_deref()), (Some("two teas"), Some("T-2")));
}

#[test]
fn late_money_in_full_revives_an_intent_only_when_somebody_accepts_it() {
    given::<PaymentIntent>(&late()).when(verdict("T1", Verdict::Accept)).then(&[resolved(Resolution::Accepted, None), succeeded("T1")]);
    let accepted = [late(), vec![resolved(Resolution::Accepted, None), succeeded("T1")]].concat();
    given::<PaymentIntent>(&accepted).when(verdict("T1", Verdict::Accept)).then(&[]);
    let state = PaymentIntent::fold(&accepted);
    assert_eq!((state.status, state.refundable(), state.needs_attention()), (Status::Succeeded, OWED, false));
}

#[test]
fn a_duplicate_or_another_amount_is_not_accepted() {
    let twice = and(captured(), unmatched(UnmatchedReason::Duplicate, "T2", OWED));
    given::<PaymentIntent>(&twice).when(verdict("T2", Verdict::Accept)).then_rejected("UnmatchedNotAcceptable");
    let less = and(intent(&[attempt(1).into(), expired()]), unmatched(UnmatchedReason::Late, "T2", OWED - 1));
    given::<PaymentIntent>(&less).when(verdict("T2", Verdict::Accept)).then_rejected("UnmatchedNotAcceptable");
    given::<PaymentIntent>(&late()).when(verdict("T9", Verdict::Keep)).then_rejected("UnmatchedNotFound");
}

#[test]
fn parked_money_is_an_open_duty_until_it_is_back_or_kept() {
    assert!(PaymentIntent::fold(&late()).needs_attention());
    given::<PaymentIntent>(&late()).when(verdict("T1", Verdict::Keep)).then(&[resolved(Resolution::Kept, None)]);
    given::<PaymentIntent>(&late()).when(verdict("T1", Verdict::Refund(id(7)))).then(&[resolved(Resolution::Refunding, Some(7))]);
    let refunding = and(late(), resolved(Resolution::Refunding, Some(7)));
    given::<PaymentIntent>(&refunding).when(verdict("T1", Verdict::Accept)).then_rejected("UnmatchedNotFound");
    let back: Event = UnmatchedRefunded { transaction_id: "T1".into(), refund_id: id(7) }.into();
    given::<PaymentIntent>(&refunding).when(settle_refund(7)).then(std::slice::from_ref(&back));
    given::<PaymentIntent>(&and(refunding.clone(), back)).when(settle_refund(7)).then(&[]);
    let reopened: Event = UnmatchedReopened { transaction_id: "T1".into(), refund_id: id(7) }.into();
    given::<PaymentIntent>(&refunding).when(release_refund(7)).then(std::slice::from_ref(&reopened));
    let open = and(refunding, reopened);
    assert!(PaymentIntent::fold(&open).needs_attention());
    given::<PaymentIntent>(&open).when(verdict("T1", Verdict::Keep)).then(&[resolved(Resolution::Kept, None)]);
}

#[test]
fn after_the_last_allowed_attempt_the_intent_has_failed() {
    let mut history = intent(&[]);
    for n in 1..=5_u128 {
        history.push(attempt(n).into());
        let mut expected = vec![failed(n)];
        if n == 5 {
            expected.push(Failed { bill_id: Some(id(3)), attempts: 5 }.into());
        }
        given::<PaymentIntent>(&history).when(fail(n)).then(&expected);
        history.extend(expected);
    }
    assert_eq!(PaymentIntent::fold(&history).status, Status::Failed);
    given::<PaymentIntent>(&history).when(start(6)).then_rejected("PaymentIntentNotOpen");
    given::<PaymentIntent>(&history).when(confirm("T1", OWED)).then(&[unmatched(UnmatchedReason::Late, "T1", OWED)]);
}

#[test]
fn the_books_may_end_an_attempt_that_waits_for_the_payer() {
    let end = |how| Command::EndAttempt { attempt_id: id(1), how };
    let refused = || AttemptEnd::Failed { code: "invalid_request".into(), message: "E-1".into() };
    given::<PaymentIntent>(&waiting()).when(end(refused())).then(&[failed(1)]);
    given::<PaymentIntent>(&waiting()).when(end(AttemptEnd::Expired)).then(&[expired()]);
    given::<PaymentIntent>(&captured()).when(end(refused())).then(&[]);
    let asked = intent(&[attempt(1).into(), action(1), cancel_requested()]);
    given::<PaymentIntent>(&asked).when(end(AttemptEnd::Canceled)).then(&[canceled()]);
}

#[test]
fn a_person_decides_only_what_the_provider_does_not_tell() {
    let paid = || Command::ResolveByPerson {
        finding: Finding::Paid { transaction_id: "T1".into(), amount: Money::thb(OWED), paid_at: at(1) },
        statement_reference: "2026-05-01 line 12".into(),
    };
    given::<PaymentIntent>(&and(processing(), not_known(1))).when(paid()).then_rejected("OutcomeNotUnknown");
    let left: Event = LeftToPerson { attempt_id: id(1), at: at(80) }.into();
    let leave = Command::LeaveToPerson { attempt_id: id(1), at: at(80) };
    given::<PaymentIntent>(&and(processing(), not_known(1))).when(leave).then(std::slice::from_ref(&left));
    let history = [processing(), vec![not_known(1), left]].concat();
    assert!(PaymentIntent::fold(&history).needs_attention());
    let said = |paid| Event::from(ResolvedByPerson { attempt_id: id(1), paid, statement_reference: "2026-05-01 line 12".into() });
    let after = given::<PaymentIntent>(&history).when(paid());
    let mut by_statement = succeeded("T1");
    if let Event::Succeeded(payment) = &mut by_statement {
        payment.evidence = Evidence::Statement;
    }
    after.then(&[said(true), by_statement]);
    let not_paid = Command::ResolveByPerson { finding: Finding::NotPaid, statement_reference: "2026-05-01 line 12".into() };
    let dead: Event =
        AttemptFailed { attempt_id: id(1), bill_id: Some(id(3)), code: "not_on_statement".into(), message: "2026-05-01 line 12".into() }
            .into();
    given::<PaymentIntent>(&history).when(not_paid).then(&[said(false), dead]);
}

#[test]
fn a_dispute_that_is_won_frees_the_money_and_one_that_is_lost_does_not() {
    let opened = PaymentIntent::decide(&PaymentIntent::fold(&captured()), contest(None)).unwrap();
    let history = [captured(), opened].concat();
    let resolve = |outcome| decide_dispute(None, outcome);
    for (outcome, free) in [(DisputeOutcome::Won, true), (DisputeOutcome::Lost, false)] {
        let events = PaymentIntent::decide(&PaymentIntent::fold(&history), resolve(outcome)).unwrap();
        assert_eq!(events.len(), 1);
        let after = PaymentIntent::fold(&[history.clone(), events].concat());
        assert!(!after.needs_attention());
        assert_eq!(PaymentIntent::decide(&after, reserve_refund(1, 1)).is_ok(), free);
        assert_eq!(PaymentIntent::decide(&after, resolve(outcome)), Ok(vec![]));
    }
    given::<PaymentIntent>(&captured()).when(resolve(DisputeOutcome::Won)).then_rejected("NotDisputed");
}

fn contest(transaction: Option<&str>) -> Command {
    let (transaction_id, business_date) = (transaction.map(str::to_owned), at(5).date_naive());
    Command::Dispute { transaction_id, reason: "not me".into(), disputed_at: at(5), business_date }
}

fn decide_dispute(transaction: Option<&str>, outcome: DisputeOutcome) -> Command {
    let (transaction_id, business_date) = (transaction.map(str::to_owned), at(6).date_naive());
    Command::ResolveDispute { transaction_id, outcome, resolved_at: at(6), business_date }
}

/// Of money beside the payment.
fn contested(transaction: &str, amount: i64) -> Event {
    Disputed {
        payment_intent_id: id(1),
        store_id: id(2),
        bill_id: None,
        business_date: at(5).date_naive(),
        tender: Tender::PromptPay,
        acquirer: None,
        amount: Money::thb(amount),
        reason: "not me".into(),
        disputed_at: at(5),
        unmatched_transaction_id: Some(transaction.into()),
    }
    .into()
}

#[test]
fn late_money_that_the_payer_contests_does_not_go_back_as_well() {
    given::<PaymentIntent>(&late()).when(contest(Some("T1"))).then(&[contested("T1", OWED)]);
    let history = and(late(), contested("T1", OWED));
    given::<PaymentIntent>(&history).when(contest(Some("T1"))).then(&[]);
    assert!(PaymentIntent::fold(&history).needs_attention());
    for decision in [Verdict::Refund(id(7)), Verdict::Accept, Verdict::Keep] {
        given::<PaymentIntent>(&history).when(verdict("T1", decision)).then_rejected("PaymentDisputed");
    }
    // Won, the money is an open duty again; lost, the payer has it, and there is nothing to decide any more.
    for (outcome, is_open) in [(DisputeOutcome::Won, true), (DisputeOutcome::Lost, false)] {
        let decided = given::<PaymentIntent>(&history).when(decide_dispute(Some("T1"), outcome)).events();
        let history = [history.clone(), decided].concat();
        given::<PaymentIntent>(&history).when(decide_dispute(Some("T1"), outcome)).then(&[]);
        let state = PaymentIntent::fold(&history);
        assert_eq!((state.needs_attention(), state.dispute_outcome), (is_open, None));
        assert_eq!(PaymentIntent::decide(&state, verdict("T1", Verdict::Refund(id(7)))).is_ok(), is_open);
    }
    given::<PaymentIntent>(&late()).when(decide_dispute(Some("T1"), DisputeOutcome::Lost)).then_rejected("NotDisputed");
}

#[test]
fn money_that_was_kept_or_is_on_its_way_back_needs_attention_while_it_is_contested() {
    for resolution in [resolved(Resolution::Kept, None), resolved(Resolution::Refunding, Some(7))] {
        let history = and(late(), resolution);
        assert!(!PaymentIntent::fold(&history).needs_attention());
        given::<PaymentIntent>(&history).when(contest(Some("T1"))).then(&[contested("T1", OWED)]);
        assert!(PaymentIntent::fold(&and(history, contested("T1", OWED))).needs_attention());
    }
}

#[test]
fn money_that_went_back_by_a_refund_and_by_a_lost_dispute_is_too_much_until_somebody_takes_note() {
    let refunding = and(late(), resolved(Resolution::Refunding, Some(7)));
    let lost = |history: Vec<Event>| {
        let history = and(history, contested("T1", OWED));
        let decided = given::<PaymentIntent>(&history).when(decide_dispute(Some("T1"), DisputeOutcome::Lost)).events();
        [history, decided].concat()
    };
    let refunded = || Event::from(UnmatchedRefunded { transaction_id: "T1".into(), refund_id: id(7) });
    for history in [and(lost(refunding.clone()), refunded()), lost(and(refunding, refunded()))] {
        let state = PaymentIntent::fold(&history);
        assert_eq!((state.over_refunded(), state.needs_attention()), (OWED, true));
        let note = Command::AcknowledgeOverRefund { amount: Money::thb(OWED), reason: "written off".into() };
        let noted = given::<PaymentIntent>(&history).when(note).events();
        assert!(!PaymentIntent::fold(&[history, noted].concat()).needs_attention());
    }
}

#[test]
fn a_dispute_about_a_second_payment_is_not_one_about_the_payment() {
    let twice = and(captured(), unmatched(UnmatchedReason::Duplicate, "T2", 30_00));
    given::<PaymentIntent>(&twice).when(contest(Some("T2"))).then(&[contested("T2", 30_00)]);
    let history = and(twice, contested("T2", 30_00));
    let state = PaymentIntent::fold(&history);
    assert_eq!((state.is_contested(), state.refundable(), state.needs_attention()), (false, OWED, true));
    given::<PaymentIntent>(&history).when(reserve_refund(7, OWED)).then(&[refund_reserved(7, OWED)]);
    given::<PaymentIntent>(&history).when(verdict("T2", Verdict::Refund(id(8)))).then_rejected("PaymentDisputed");
    // The payment's own, one that is not known here, and what a person says without naming any.
    for transaction in [Some("T1"), Some("T9"), None] {
        let events = given::<PaymentIntent>(&history).when(contest(transaction)).events();
        let [Event::Disputed(disputed)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((disputed.amount, &disputed.unmatched_transaction_id), (Money::thb(OWED), &None));
    }
}

#[test]
fn late_money_that_was_accepted_is_contested_as_the_payment_unless_that_was_decided_before() {
    let accepted = || vec![resolved(Resolution::Accepted, None), succeeded("T1")];
    let history = [late(), accepted()].concat();
    let events = given::<PaymentIntent>(&history).when(contest(Some("T1"))).events();
    let [Event::Disputed(disputed)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((disputed.bill_id, &disputed.unmatched_transaction_id), (Some(id(3)), &None));
    // The books go on showing a dispute that is over.
    let opened = and(late(), contested("T1", OWED));
    let won = given::<PaymentIntent>(&opened).when(decide_dispute(Some("T1"), DisputeOutcome::Won)).events();
    let history = [opened, won, accepted()].concat();
    given::<PaymentIntent>(&history).when(contest(Some("T1"))).then(&[]);
    given::<PaymentIntent>(&history).when(decide_dispute(Some("T1"), DisputeOutcome::Won)).then(&[]);
}

#[test]
fn a_dispute_that_an_earlier_build_recorded_is_one_about_the_payment() {
    let opened = given::<PaymentIntent>(&captured()).when(contest(None)).events();
    let history = [captured(), opened.clone()].concat();
    let decided = given::<PaymentIntent>(&history).when(decide_dispute(None, DisputeOutcome::Lost)).events();
    for event in [opened, decided].concat() {
        let stored = event.encode();
        let payload: serde_json::Value = serde_json::from_slice(&stored.payload).unwrap();
        assert_eq!(payload.get("unmatched_transaction_id"), None, "it is written as it was then");
        assert_eq!(Event::decode(stored.event_type, stored.schema_version, &stored.payload), Ok(event));
    }
}

#[test]
fn what_a_person_found_and_the_provider_shows_later_is_one_payment() {
    let mut by_statement = succeeded("FT2026");
    if let Event::Succeeded(payment) = &mut by_statement {
        payment.evidence = Evidence::Statement;
    }
    let history = and(processing(), by_statement);
    let confirmed = |name: &str| -> Event { ProviderConfirmed { attempt_id: id(1), transaction_id: name.into(), paid_at: at(1) }.into() };
    // Under the provider's own name, or under the very one that the person read.
    for name in ["T1", "FT2026"] {
        given::<PaymentIntent>(&history).when(confirm(name, OWED)).then(&[confirmed(name)]);
        let known = and(history.clone(), confirmed(name));
        given::<PaymentIntent>(&known).when(confirm(name, OWED)).then(&[]);
        given::<PaymentIntent>(&known).when(confirm("T2", OWED)).then(&[unmatched(UnmatchedReason::Duplicate, "T2", OWED)]);
        let state = PaymentIntent::fold(&known);
        assert!(!state.needs_attention());
        assert_eq!(
            state.payment.and_then(|payment| payment.transaction_id).as_deref(),
            Some(name),
            "a refund names what the provider knows"
        );
    }
    given::<PaymentIntent>(&history).when(confirm("T1", OWED - 1)).then(&[unmatched(UnmatchedReason::Duplicate, "T1", OWED - 1)]);
    let other = Command::ConfirmFromProvider(PaymentReport { attempt_id: Some(id(2)), ..seen("T1", OWED) });
    let events = given::<PaymentIntent>(&history).when(other).events();
    assert!(matches!(events[..], [Event::UnmatchedPaymentReceived(_)]), "another attempt's money is a second payment: {events:?}");
}
