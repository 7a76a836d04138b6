//! What each answer means for a refund, and when a person is told.

use proptest::prelude::*;

use super::{
    super::tests::{OWED, at, declined, id, not_attempted, some_silence, told, unknown},
    *,
};
use crate::{ids::RefundId, refund::ProviderPayment};

fn payment() -> ProviderPayment {
    ProviderPayment {
        provider: "scb".into(),
        reference: "REF".into(),
        provider_id: None,
        transaction_id: "T1".into(),
        captured: OWED,
        paid_at: at(30),
    }
}

fn sent() -> RefundRef {
    RefundRef::new(id(5), OWED, payment())
}

fn refunded(tried: u32, outcome: CallOutcome<RefundStatus>) -> Step {
    after_refund(RefundRef { tried, ..sent() }, outcome, at(60))
}

fn checked(tried: u32, outcome: CallOutcome<RefundStatus>) -> Step {
    let uncertain_since = Some(at(50));
    after_refund_check(RefundRef { tried, uncertain_since, ..sent() }, outcome, at(60))
}

/// What goes on after an answer at 60 that left it open.
fn unclear(tried: u32, uncertain_since: Option<DateTime<Utc>>) -> RefundRef {
    RefundRef { tried, uncertain_since, unclear_since: Some(at(60)), ..sent() }
}

/// When it is repeated for the `tried`th time after an answer at 60.
fn again(tried: u32) -> DateTime<Utc> {
    repeated(at(60), &sent(), tried)
}

#[test]
fn a_refund_that_went_through_succeeds() {
    let step = refunded(0, CallOutcome::Done(RefundStatus::Succeeded { provider_reference: "R1".into() }));
    let [ProcessCommand::SucceedRefund { refund_id, provider_reference }] = &step.commands[..] else { panic!("{step:?}") };
    assert_eq!((*refund_id, provider_reference.as_str(), step.next), (id::<RefundId>(5), "R1", None));
}

#[test]
fn a_refused_refund_fails() {
    let step = refunded(4, declined());
    let [ProcessCommand::FailRefund { code, message, refused: true, .. }] = &step.commands[..] else { panic!("{step:?}") };
    assert_eq!((code.as_str(), message.as_str(), step.next), ("not_supported", "E-9", None));
}

#[test]
fn a_refund_that_never_left_is_asked_for_again() {
    let step = refunded(0, not_attempted());
    assert!(step.commands.is_empty());
    assert_eq!(step.next, Some((Task::Refund(unclear(1, None)), again(1))));
}

#[test]
fn what_an_earlier_try_left_uncertain_stays_so_when_the_next_never_left() {
    let step = after_refund(RefundRef { tried: 1, uncertain_since: Some(at(1)), ..sent() }, not_attempted(), at(5));
    assert!(matches!(step.next, Some((Task::Refund(refund), _)) if refund.uncertain_since == Some(at(1))));
}

#[test]
fn a_refusal_says_nothing_while_the_books_may_hide_what_an_earlier_try_did() {
    let uncertain = |second| after_refund(RefundRef { tried: 2, uncertain_since: Some(at(60)), ..sent() }, declined(), at(second));
    for second in [60, 61, 179] {
        let step = uncertain(second);
        assert_eq!(told(&step), Vec::<String>::new(), "at {second}");
        assert!(matches!(step.next, Some((Task::CheckRefund(refund), _)) if refund.uncertain_since == Some(at(60))), "at {second}");
    }
    assert_eq!(told(&uncertain(180)), ["FailRefund"], "by then the books would have shown it");
}

#[test]
fn after_an_unknown_refund_the_books_are_read_before_anything_else() {
    let step = refunded(0, unknown());
    assert_eq!(told(&step), ["MarkRefundUnknown"]);
    assert_eq!(step.next, Some((Task::CheckRefund(unclear(1, Some(at(60)))), again(1))));
}

#[test]
fn an_unknown_refund_that_the_books_show_succeeded() {
    let step = checked(1, CallOutcome::Done(RefundStatus::Succeeded { provider_reference: "R1".into() }));
    assert_eq!((told(&step), step.next), (vec!["SucceedRefund".to_owned()], None));
}

#[test]
fn an_unknown_refund_that_the_books_would_show_is_asked_for_again() {
    let step = checked(1, CallOutcome::Done(RefundStatus::NotFound));
    assert!(step.commands.is_empty());
    assert_eq!(step.next, Some((Task::Refund(unclear(2, Some(at(50)))), again(2))));
}

#[test]
fn a_refund_that_came_to_nothing_at_the_provider_fails() {
    let decline = Decline { code: "refused".into(), message: "E-9".into() };
    for step in [
        checked(1, CallOutcome::Done(RefundStatus::Failed(decline.clone()))),
        refunded(1, CallOutcome::Done(RefundStatus::Failed(decline))),
    ] {
        assert!(matches!(&step.commands[..], [ProcessCommand::FailRefund { refused: false, .. }]), "{step:?}");
        assert_eq!(step.next, None);
    }
}

#[test]
fn a_refund_that_waits_or_cannot_be_read_is_read_again() {
    for outcome in [declined(), not_attempted(), unknown()] {
        let step = checked(1, outcome);
        assert!(step.commands.is_empty());
        assert_eq!(step.next, Some((Task::CheckRefund(unclear(2, Some(at(50)))), again(2))));
    }
    let step = checked(1, pending());
    let waiting = RefundRef { tried: 2, uncertain_since: Some(at(50)), ..sent() };
    assert_eq!((step.commands.len(), step.next), (0, Some((Task::CheckRefund(waiting), again(2)))));
}

fn pending() -> CallOutcome<RefundStatus> {
    CallOutcome::Done(RefundStatus::Pending { provider_reference: "R1".into() })
}

/// One look or call of a refund, as the driver makes it.
fn refund_step(task: Task, outcome: CallOutcome<RefundStatus>, now: DateTime<Utc>) -> Step {
    if let Task::Refund(refund) = task {
        after_refund(refund, outcome, now)
    } else if let Task::CheckRefund(refund) = task {
        after_refund_check(refund, outcome, now)
    } else {
        unreachable!("not a refund")
    }
}

#[test]
fn a_person_is_told_of_a_refund_an_hour_after_the_first_unclear_answer_and_the_looks_go_on() {
    for outcome in [not_attempted(), unknown(), CallOutcome::Done(RefundStatus::NotFound)] {
        let hour = Duration::minutes(UNCLEAR_MINUTES);
        let (mut task, mut now, mut first_told) = (Task::Refund(sent()), at(60), None);
        while now < at(60) + Duration::hours(9) {
            let step = refund_step(task, outcome.clone(), now);
            let is_told = told(&step).contains(&"LeaveRefundToPerson".to_owned());
            assert_eq!(is_told, now >= at(60) + hour, "{outcome:?} at {now}");
            first_told = first_told.or(is_told.then_some(now));
            let (next, due) = step.next.unwrap();
            assert!(due > now && due - now <= Duration::hours(1));
            (task, now) = (next, due);
        }
        assert_eq!(first_told, Some(at(60) + hour), "{outcome:?}: neither early nor late");
    }
}

#[test]
fn a_refund_that_a_person_has_decided_is_looked_for_and_never_asked_for_again() {
    let refused = CallOutcome::Done(RefundStatus::Failed(Decline { code: "refused".into(), message: "E-9".into() }));
    let done = CallOutcome::Done(RefundStatus::Succeeded { provider_reference: "R1".into() });
    for sent in [true, false] {
        for outcome in [CallOutcome::Done(RefundStatus::NotFound), declined(), not_attempted(), unknown()] {
            let (mut refund, mut now) = (RefundRef { tried: 13, ..self::sent() }, at(60));
            let end = loop {
                let step = after_decided_check(refund, sent, outcome.clone(), now);
                assert_eq!(told(&step), Vec::<String>::new());
                let Some((next, due)) = step.next else { break now };
                let Task::CheckRefund(same) = next else { panic!("{next:?} moves money") };
                (refund, now) = (same, due);
            };
            assert_eq!(end - at(60), Duration::days(LOOKED_ON_DAYS), "{outcome:?}");
        }
        let step = after_decided_check(self::sent(), sent, refused.clone(), at(60));
        assert_eq!((told(&step), step.next), (vec!["FailRefund".to_owned()], None));
        // What the books show may be another refund, so that they are looked at once more.
        let step = after_decided_check(self::sent(), sent, done.clone(), at(60));
        assert_eq!((told(&step), step.next.is_none()), (vec!["SucceedRefund".to_owned()], sent));
        let late = RefundRef { decided_since: Some(at(0)), ..self::sent() };
        assert!(after_decided_check(late, sent, pending(), at(0) + Duration::days(365)).next.is_some(), "the provider still has it");
    }
}

#[test]
fn a_refund_that_its_provider_has_may_wait_for_days_and_one_bad_look_tells_nobody() {
    let (mut task, mut now) = (Task::CheckRefund(RefundRef { tried: 20, ..sent() }), at(0));
    for look in 0..50 {
        let step = refund_step(task, if look % 2 == 0 { pending() } else { unknown() }, now);
        assert_eq!(told(&step), Vec::<String>::new(), "look {look}");
        (task, now) = step.next.unwrap();
    }
}

#[test]
fn pauses_double_to_an_hour_and_stay_there() {
    assert_eq!([0, 1, 6, 12, 13, u32::MAX].map(refund_delay_ms), [500, 1_000, 32_000, 2_048_000, 3_600_000, 3_600_000]);
}

proptest! {
    #[test]
    fn a_silent_refund_is_neither_failed_nor_forgotten(
        calls in prop::collection::vec(some_silence::<RefundStatus>(), 1..30),
        reads in prop::collection::vec(some_silence::<RefundStatus>(), 1..30),
    ) {
        let mut task = Task::Refund(sent());
        for (call, read) in calls.into_iter().zip(reads) {
            let outcome = if matches!(task, Task::Refund(_)) { call } else { read };
            let step = refund_step(task, outcome, at(0));
            prop_assert!(told(&step).iter().all(|command| command == "MarkRefundUnknown"));
            task = step.next.unwrap().0;
        }
    }
}

#[test]
fn a_task_survives_a_restart() {
    for task in [Task::Refund(unclear(1, None)), Task::CheckRefund(unclear(2, Some(at(3))))] {
        let row = serde_json::to_string(&task).unwrap();
        assert_eq!(serde_json::from_str::<Task>(&row).unwrap(), task, "{row}");
    }
    // Rows of builds that did not count from the first unclear answer.
    let mut row = serde_json::to_value(Task::Refund(sent())).unwrap();
    row.as_object_mut().unwrap().remove("unclear_since");
    assert_eq!(serde_json::from_value::<Task>(row).unwrap(), Task::Refund(sent()));
}
