//! Whole flows end as they should, even when everything is delivered twice.

use super::{
    world::{World, books},
    *,
};
use crate::{
    order,
    payment_intent::PaymentReport,
    provider::{AttemptStatus, CallOutcome, Decline, DisputeSeen, NextAction, PaymentSeen, RefundStatus},
};

fn begin(tried: u32) -> work::Start {
    work::Start { attempt: attempt(), card_token: None, return_url: None, tried, uncertain_since: None }
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
        let hint = work::hint::Hint { provider: "scb".into(), reference: "REF".into(), transaction_id: Some("T1".into()), tried: 0 };
        world.step(work::hint::after_hint(&attempt(), hint, CallOutcome::Done(books(AttemptStatus::Paid, paid_in_full())), at(1)).0);
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

#[test]
fn a_second_payment_that_the_payer_contests_leaves_the_first_as_it_is() {
    for times in DELIVERIES {
        let mut world = World::with_payment_by(Tender::PromptPay, times);
        world.start_attempt();
        let dispute = Some(DisputeSeen { outcome: None, reason: "fraudulent".into() });
        let second = PaymentSeen { transaction_id: "T2".into(), dispute, ..paid_in_full().remove(0) };
        world.inquire(InquiryMode::Watch, [paid_in_full(), vec![second]].concat(), at(1));
        assert_eq!((world.ends(), world.payment.is_contested(), world.payment.needs_attention()), (COMPLETED, false, true));
        let beside: Vec<(&str, bool)> =
            world.payment.unmatched.iter().map(|money| (money.received.transaction_id.as_str(), money.is_contested())).collect();
        assert_eq!(beside, [("T2", true)]);
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
        let sent = RefundRef::new(id(5), Money::thb(50_00), provider_payment());
        world.step(work::refund::after_refund(sent.clone(), CallOutcome::Unknown("time-out".into()), at(20)));
        assert_eq!((world.refund.status, world.payment.refundable()), (refund::Status::Pending, 67_70));
        let done = CallOutcome::Done(RefundStatus::Succeeded { provider_reference: "R1".into() });
        world.step(work::refund::after_refund(sent, done, at(21)));
        assert_eq!(world.refund.status, refund::Status::Succeeded);
        assert_eq!((world.payment.refunded_total, world.bill.refunded_total), (50_00, 50_00));
        assert_eq!((world.payment.refundable(), world.ends()), (67_70, COMPLETED));
    }
}

#[test]
fn a_refund_of_which_nobody_knows_needs_attention_on_its_payment_until_the_provider_answers() {
    let ends = [
        CallOutcome::Done(RefundStatus::Succeeded { provider_reference: "R1".into() }),
        CallOutcome::Done(RefundStatus::Failed(Decline { code: "refused".into(), message: "E-9".into() })),
    ];
    for (times, end) in DELIVERIES.into_iter().flat_map(|times| ends.clone().map(|end| (times, end))) {
        let mut world = refunding(times);
        let sent = RefundRef::new(id(5), Money::thb(50_00), provider_payment());
        let silent = |refund, now| work::refund::after_refund(refund, CallOutcome::Unknown("time-out".into()), now);
        world.step(silent(sent.clone(), at(20)));
        assert!(!world.payment.needs_attention());
        let hour_ago = at(20) - chrono::Duration::minutes(work::UNCLEAR_MINUTES);
        world.step(silent(RefundRef { unclear_since: Some(hour_ago), ..sent.clone() }, at(20)));
        assert_eq!((world.refund.left_to_person, world.payment.needs_attention()), (Some(at(20)), true));
        world.step(work::refund::after_refund_check(sent, end, at(21)));
        assert_eq!((world.refund.left_to_person, world.payment.needs_attention()), (None, false));
    }
}

/// A refund of 50.00 out of 117.70 that was left to a person, who has decided.
fn decided(times: usize, sent: bool) -> (World, RefundRef) {
    let mut world = refunding(times);
    let call = RefundRef::new(id(5), Money::thb(50_00), provider_payment());
    let hour_ago = at(20) - chrono::Duration::minutes(work::UNCLEAR_MINUTES);
    let call = RefundRef { tried: 13, unclear_since: Some(hour_ago), ..call };
    world.step(work::refund::after_refund_check(call.clone(), CallOutcome::Unknown("time-out".into()), at(20)));
    assert!(world.payment.needs_attention());
    world.refund(refund::Command::ResolveByPerson { sent, statement_reference: "SCB 24 Nov, line 3".into() });
    world.settle();
    assert!(!world.payment.needs_attention());
    (world, call)
}

/// What the worker makes of an answer about a refund that a person has decided.
fn looked(world: &World, call: &RefundRef, answer: RefundStatus) -> work::Step {
    let work::refund::Awaited::Books { sent } = work::refund::awaited(&world.refund) else { panic!("nothing is looked for") };
    work::refund::after_decided_check(call.clone(), sent, CallOutcome::Done(answer), at(30))
}

#[test]
fn what_a_person_finds_of_a_refund_settles_payment_and_bill() {
    for times in DELIVERIES {
        let (world, _) = decided(times, true);
        assert_eq!(
            (world.refund.status, world.payment.refunded_total, world.bill.refunded_total),
            (refund::Status::Succeeded, 50_00, 50_00)
        );
        assert_eq!((world.payment.refundable(), world.ends()), (67_70, COMPLETED));
        let (world, _) = decided(times, false);
        assert_eq!((world.refund.status, world.payment.refunded_total, world.bill.refunded_total), (refund::Status::Failed, 0, 0));
        assert_eq!(world.payment.refundable(), 117_70);
    }
}

#[test]
fn a_refund_that_a_person_found_sent_and_its_provider_did_not_send_is_taken_back() {
    for times in DELIVERIES {
        let (mut world, call) = decided(times, true);
        let failed = Decline { code: "refund_failed".into(), message: "E-9".into() };
        world.step(looked(&world, &call, RefundStatus::Failed(failed)));
        assert_eq!((world.refund.status, world.payment.refunded_total, world.bill.refunded_total), (refund::Status::Failed, 0, 0));
        assert!(world.payment.needs_attention());
        assert_eq!(work::refund::awaited(&world.refund), work::refund::Awaited::Nothing);
    }
}

#[test]
fn a_refund_that_a_person_declared_not_sent_and_that_was_counts_whatever_was_made_meanwhile() {
    for (times, meanwhile) in DELIVERIES.into_iter().flat_map(|times| [0, 67_70, 117_70].map(|amount| (times, amount))) {
        let (mut world, call) = decided(times, false);
        if meanwhile > 0 {
            world.payment(payment_intent::Command::ReserveRefund { refund_id: id(6), amount: Money::thb(meanwhile) });
        }
        let sent = RefundStatus::Succeeded { provider_reference: "R1".into() };
        world.step(looked(&world, &call, sent));
        assert_eq!(
            (world.refund.status, world.payment.refunded_total, world.bill.refunded_total),
            (refund::Status::Succeeded, 50_00, 50_00)
        );
        let excess = (50_00 + meanwhile - 117_70).max(0);
        assert_eq!((world.payment.over_refunded(), world.payment.needs_attention()), (excess, excess > 0));
        assert_eq!(world.payment.refundable(), (67_70 - meanwhile).max(0));
        assert_eq!(work::refund::awaited(&world.refund), work::refund::Awaited::Nothing);
        if meanwhile > 0 {
            // The other one is carried out after all: bill and payment say what went, also beyond what came.
            world.payment(payment_intent::Command::SettleRefund { refund_id: id(6) });
            world.bill(bill::Command::RecordSentRefund { refund_id: id(6), payment_intent_id: id(10), amount: meanwhile });
            assert_eq!((world.payment.refunded_total, world.bill.refunded_total), (50_00 + meanwhile, 50_00 + meanwhile));
        }
    }
}

#[test]
fn a_refused_refund_can_be_asked_for_anew() {
    for times in DELIVERIES {
        let mut world = refunding(times);
        let decline = CallOutcome::Declined(Decline { code: "cut_off_passed".into(), message: "E-17".into() });
        world.step(work::refund::after_refund(RefundRef::new(id(5), Money::thb(50_00), provider_payment()), decline, at(20)));
        assert_eq!(world.refund.status, refund::Status::Failed);
        assert_eq!((world.payment.refundable(), world.bill.refunded_total), (117_70, 0));
    }
}
