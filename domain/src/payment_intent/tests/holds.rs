//! Money that is held: authorised, raised, captured once, let go of.

use super::*;

fn by_card() -> Created {
    Created { tender: Tender::OnlineCard, bill_id: None, order_id: None, ..created() }
}

fn card_attempt(n: u128) -> AttemptStarted {
    AttemptStarted { tender: Tender::OnlineCard, manual_capture: true, card_token: Some("tokn_1".into()), ..attempt(n) }
}

fn start_card(n: u128) -> Command {
    Command::StartAttempt(Box::new(NewAttempt { card_token: Some("tokn_1".into()), manual_capture: true, ..new_attempt(n) }))
}

fn authorized(amount: i64) -> Event {
    Authorized { attempt_id: id(1), amount: Money::thb(amount), capture_before: Some(at(60)) }.into()
}

fn authorize(amount: i64) -> Command {
    Command::Authorize { attempt_id: id(1), amount: Money::thb(amount), capture_before: Some(at(60)) }
}

fn held() -> Vec<Event> {
    vec![by_card().into(), card_attempt(1).into(), authorized(OWED)]
}

fn capture(amount: Option<i64>) -> Command {
    Command::Capture { amount: amount.map(Money::thb) }
}

fn capture_requested(amount: i64) -> Event {
    CaptureRequested { attempt: card_attempt(1).named(), provider_id: None, amount: Money::thb(amount) }.into()
}

fn captured_out_of_hold(amount: i64) -> Event {
    Succeeded {
        payment_intent_id: id(1),
        bill_id: None,
        tender: Tender::OnlineCard,
        attempt_id: Some(id(1)),
        transaction_id: Some("T1".into()),
        amount: Money::thb(amount),
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

#[test]
fn a_card_attempt_needs_its_token_and_nothing_else_has_one() {
    given::<PaymentIntent>(&[by_card().into()]).when(start(1)).then_rejected("CardTokenRequired");
    given::<PaymentIntent>(&[by_card().into()]).when(start_card(1)).then(&[card_attempt(1).into()]);
    given::<PaymentIntent>(&intent(&[])).when(start_card(1)).then_rejected("CardTokenNotWanted");
    let hold_qr = Command::StartAttempt(Box::new(NewAttempt { manual_capture: true, ..new_attempt(1) }));
    given::<PaymentIntent>(&intent(&[])).when(hold_qr).then_rejected("ManualCaptureNeedsCard");
}

#[test]
fn what_the_provider_holds_waits_for_a_capture() {
    let history = [by_card().into(), card_attempt(1).into()];
    given::<PaymentIntent>(&history).when(authorize(OWED)).then(&[authorized(OWED)]);
    given::<PaymentIntent>(&held()).when(authorize(OWED)).then(&[]);
    assert_eq!(PaymentIntent::fold(&held()).status, Status::RequiresCapture);
    given::<PaymentIntent>(&held()).when(expire(1)).then(&[]);
}

#[test]
fn a_hold_is_captured_once_in_full_or_in_part() {
    given::<PaymentIntent>(&held()).when(capture(None)).then(&[capture_requested(OWED)]);
    given::<PaymentIntent>(&held()).when(capture(Some(40_00))).then(&[capture_requested(40_00)]);
    let asked = and(held(), capture_requested(40_00));
    given::<PaymentIntent>(&asked).when(capture(Some(40_00))).then(&[]);
    given::<PaymentIntent>(&asked).when(capture(Some(41_00))).then_rejected("CaptureInProgress");
    given::<PaymentIntent>(&asked).when(cancel()).then_rejected("CaptureInProgress");
    given::<PaymentIntent>(&asked).when(confirm("T1", 40_00)).then(&[captured_out_of_hold(40_00)]);
    let done = and(asked, captured_out_of_hold(40_00));
    let state = PaymentIntent::fold(&done);
    assert_eq!((state.status, state.captured(), state.refundable()), (Status::Succeeded, 40_00, 40_00));
    given::<PaymentIntent>(&done).when(capture(Some(60_00))).then_rejected("NothingToCapture");
    given::<PaymentIntent>(&done).when(capture(Some(40_00))).then(&[]);
}

#[test]
fn no_more_than_what_is_held_can_be_captured() {
    given::<PaymentIntent>(&held()).when(capture(Some(OWED + 1))).then_rejected("CaptureExceedsHeld");
    given::<PaymentIntent>(&held()).when(capture(Some(0))).then_rejected("AmountNotPositive");
    given::<PaymentIntent>(&waiting()).when(capture(None)).then_rejected("NothingToCapture");
    // More than was held is money that nobody can explain.
    let more = unmatched(UnmatchedReason::AmountDiffers, "T1", OWED + 1);
    given::<PaymentIntent>(&held()).when(confirm("T1", OWED + 1)).then(&[more]);
}

#[test]
fn what_was_captured_of_a_hold_closes_the_intent_that_never_heard_of_the_hold() {
    let started = [by_card().into(), card_attempt(1).into()];
    given::<PaymentIntent>(&started).when(confirm("T1", 40_00)).then(&[captured_out_of_hold(40_00)]);
    given::<PaymentIntent>(&started).when(confirm("T1", OWED)).then(&[captured_out_of_hold(OWED)]);
    let more = unmatched(UnmatchedReason::AmountDiffers, "T1", OWED + 1);
    given::<PaymentIntent>(&started).when(confirm("T1", OWED + 1)).then(&[more]);
    // Not held but charged, so a part is another amount than what was asked for.
    let charged = [by_card().into(), AttemptStarted { manual_capture: false, ..card_attempt(1) }.into()];
    given::<PaymentIntent>(&charged).when(confirm("T1", 40_00)).then(&[unmatched(UnmatchedReason::AmountDiffers, "T1", 40_00)]);
}

#[test]
fn a_refused_capture_leaves_the_hold() {
    let asked = and(held(), capture_requested(OWED));
    let refuse = || Command::FailCapture { attempt_id: id(1), code: "expired".into(), message: "E-1".into() };
    let refused: Event = CaptureFailed { attempt_id: id(1), code: "expired".into(), message: "E-1".into() }.into();
    given::<PaymentIntent>(&asked).when(refuse()).then(std::slice::from_ref(&refused));
    given::<PaymentIntent>(&held()).when(refuse()).then(&[]);
    given::<PaymentIntent>(&and(asked, refused)).when(capture(Some(1))).then(&[capture_requested(1)]);
}

#[test]
fn a_hold_that_the_provider_let_go_of_ends_the_intent() {
    let lapsed: Event = Canceled { bill_id: None, reason: "authorization_lapsed".into() }.into();
    for how in [AttemptEnd::Expired, AttemptEnd::Canceled] {
        let command = Command::EndAttempt { attempt_id: id(1), how };
        given::<PaymentIntent>(&held()).when(command).then(std::slice::from_ref(&lapsed));
    }
}

#[test]
fn a_hold_is_let_go_of_on_request_and_captured_money_is_not() {
    let requested: Event = CancelRequested { attempt: card_attempt(1).named(), provider_id: None, reason: "guest pays cash".into() }.into();
    given::<PaymentIntent>(&held()).when(cancel()).then(std::slice::from_ref(&requested));
    let asked = and(held(), requested);
    given::<PaymentIntent>(&asked).when(capture(None)).then_rejected("NothingToCapture");
    let command = Command::EndAttempt { attempt_id: id(1), how: AttemptEnd::Canceled };
    given::<PaymentIntent>(&asked).when(command).then(&[Canceled { bill_id: None, reason: "guest pays cash".into() }.into()]);
    given::<PaymentIntent>(&and(held(), captured_out_of_hold(OWED))).when(cancel()).then_rejected("PaymentIntentNotOpen");
}

#[test]
fn a_hold_is_raised_but_not_against_a_bill() {
    let increase = |amount| Command::Increase { amount: Money::thb(amount) };
    let requested: Event = IncreaseRequested { attempt: card_attempt(1).named(), provider_id: None, amount: Money::thb(150_00) }.into();
    given::<PaymentIntent>(&held()).when(increase(150_00)).then(std::slice::from_ref(&requested));
    given::<PaymentIntent>(&held()).when(increase(OWED - 1)).then_rejected("IncreaseNotHigher");
    let raised = [held(), vec![requested, authorized(150_00)]].concat();
    given::<PaymentIntent>(&raised).when(capture(None)).then(&[capture_requested(150_00)]);
    // A look from before it was raised, whose answer comes late.
    given::<PaymentIntent>(&raised).when(authorize(OWED)).then(&[]);
    let on_bill = [Created { bill_id: Some(id(3)), ..by_card() }.into(), card_attempt(1).into(), authorized(OWED)];
    given::<PaymentIntent>(&on_bill).when(increase(150_00)).then_rejected("BillAmountFixed");
}

fn left_to_person() -> Event {
    LeftToPerson { attempt_id: id(1), at: at(80) }.into()
}

fn resolve(finding: Finding) -> Command {
    Command::ResolveByPerson { finding, statement_reference: "line 12".into() }
}

fn found(amount: i64) -> Command {
    resolve(Finding::Paid { transaction_id: "T1".into(), amount: Money::thb(amount), paid_at: at(1) })
}

fn said(paid: bool) -> Event {
    ResolvedByPerson { attempt_id: id(1), paid, statement_reference: "line 12".into() }.into()
}

#[test]
fn a_person_finds_what_was_captured_of_a_hold_or_that_nothing_was() {
    let history = [held(), vec![capture_requested(40_00), not_known(1), left_to_person()]].concat();
    let mut by_statement = captured_out_of_hold(40_00);
    if let Event::Succeeded(payment) = &mut by_statement {
        payment.evidence = Evidence::Statement;
    }
    given::<PaymentIntent>(&history).when(found(40_00)).then(&[said(true), by_statement]);
    given::<PaymentIntent>(&history).when(found(OWED + 1)).then_rejected("TenderAmountDiffers");
    let failed: Event = CaptureFailed { attempt_id: id(1), code: "not_on_statement".into(), message: "line 12".into() }.into();
    let after = given::<PaymentIntent>(&history).when(resolve(Finding::NotPaid)).events();
    assert_eq!(after, [said(false), failed]);
    let state = PaymentIntent::fold(&[history, after].concat());
    assert!(state.status == Status::RequiresCapture && !state.needs_attention(), "the hold stands, and can be captured again");
    assert!(!state.awaits_capture(id(1), 40_00, false) && PaymentIntent::decide(&state, capture(Some(30_00))).is_ok());
}

#[test]
fn a_person_finds_that_a_hold_was_not_raised() {
    let asked: Event = IncreaseRequested { attempt: card_attempt(1).named(), provider_id: None, amount: Money::thb(OWED + 1) }.into();
    let history = [held(), vec![asked, not_known(1), left_to_person()]].concat();
    let failed: Event = IncreaseFailed { attempt_id: id(1), code: "not_on_statement".into(), message: "line 12".into() }.into();
    given::<PaymentIntent>(&history).when(resolve(Finding::NotPaid)).then(&[said(false), failed]);
}

#[test]
fn of_a_hold_of_which_nothing_was_asked_a_person_finds_nothing() {
    let history = [held(), vec![left_to_person()]].concat();
    given::<PaymentIntent>(&history).when(found(40_00)).then_rejected("TenderAmountDiffers");
    given::<PaymentIntent>(&history).when(resolve(Finding::NotPaid)).then_rejected("OutcomeNotUnknown");
    // The next look that is answered ends it.
    given::<PaymentIntent>(&history).when(authorize(OWED)).then(&[authorized(OWED)]);
    let state = PaymentIntent::fold(&[history, vec![authorized(OWED)]].concat());
    assert!(!state.needs_attention() && state.status == Status::RequiresCapture);
    // Not while a capture is unclear: the hold alone does not tell.
    let unclear = [held(), vec![capture_requested(40_00), not_known(1), left_to_person()]].concat();
    given::<PaymentIntent>(&unclear).when(authorize(OWED)).then(&[]);
}

#[test]
fn the_calls_of_a_capture_end_once_a_person_has_decided_also_when_as_much_is_asked_for_again() {
    let told = [held(), vec![capture_requested(40_00), not_known(1), left_to_person()]].concat();
    assert!(PaymentIntent::fold(&told).awaits_capture(id(1), 40_00, true));
    let failed: Event = CaptureFailed { attempt_id: id(1), code: "not_on_statement".into(), message: "line 12".into() }.into();
    let again = PaymentIntent::fold(&[told, vec![said(false), failed, capture_requested(40_00)]].concat());
    assert!(!again.awaits_capture(id(1), 40_00, true), "the first request's");
    assert!(again.awaits_capture(id(1), 40_00, false), "the second one's");
    assert!(!again.awaits_increase(id(1), 40_00, false));
}
