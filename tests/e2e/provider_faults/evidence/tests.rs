//! The check itself: it lets sound histories pass and finds made-up ones.

use serde_json::json;

use super::*;

const WORKER: &str = "process:provider_worker";
const TILL: &str = "user:till";

fn at(second: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
}

/// A step of a history: what, by whom, in which second.
type Step = (&'static str, &'static str, i64, Value);

fn history(steps: &[Step]) -> Vec<Fact> {
    let fact = |((kind, actor, second, body), version): (&Step, i64)| Fact {
        version,
        kind: (*kind).to_owned(),
        actor: (*actor).to_owned(),
        at: at(*second),
        body: body.clone(),
    };
    steps.iter().zip(1..).map(fact).collect()
}

/// An attempt that is over after a minute, and then these.
fn begun(more: &[Step]) -> Vec<Fact> {
    let first = [
        ("created", TILL, 0, json!({"expires_at": at(60)})),
        ("attempt_started", TILL, 0, json!({"attempt_id": "att_1", "expires_at": at(60)})),
        ("action_required", WORKER, 2, json!({"attempt_id": "att_1"})),
    ];
    history(&[&first[..], more].concat())
}

fn calls(answers: &[(i64, Option<i32>, &str)]) -> Calls {
    let call =
        |(second, status, answer): &(i64, Option<i32>, &str)| Call { status: *status, answer: (*answer).to_owned(), at: at(*second) };
    Calls::from([("att_1".to_owned(), answers.iter().map(call).collect())])
}

fn paid(second: i64) -> Step {
    ("succeeded", WORKER, second, json!({"attempt_id": "att_1", "transaction_id": "T1", "evidence": "inquiry"}))
}

fn late(second: i64) -> Step {
    ("unmatched_payment_received", WORKER, second, json!({"attempt_id": "att_1", "transaction_id": "T1", "why": "late"}))
}

fn resolved(actor: &'static str, resolution: &str) -> Step {
    ("unmatched_resolved", actor, 90, json!({"transaction_id": "T1", "resolution": resolution}))
}

fn found(history: &[Fact], calls: &Calls, words: &str) {
    let problem = check(history, calls).expect_err(words);
    assert!(problem.contains(words), "{problem}");
}

#[test]
fn a_payment_is_explained_by_an_answer_that_shows_it_and_was_heard_before() {
    let history = begun(&[paid(10)]);
    assert_eq!(check(&history, &calls(&[(9, Some(200), r#"{"txn":"T1"}"#)])), Ok(()));
    assert_eq!(check(&history, &calls(&[(9, Some(200), "too long to be kept…")])), Ok(()));
    for nothing in [
        calls(&[]),
        calls(&[(9, Some(200), r#"{"txn":"T2"}"#)]),
        calls(&[(9, Some(500), r#"{"txn":"T1"}"#)]),
        calls(&[(9, None, "timed out, T1")]),
        calls(&[(11, Some(200), r#"{"txn":"T1"}"#)]),
    ] {
        found(&history, &nothing, "nothing explains succeeded at version 4");
    }
}

#[test]
fn an_answer_about_another_attempt_explains_nothing() {
    let elsewhere = Calls::from([("att_2".to_owned(), calls(&[(9, Some(200), "T1")]).remove("att_1").unwrap())]);
    found(&begun(&[paid(10)]), &elsewhere, "nothing explains succeeded");
}

#[test]
fn an_end_of_time_is_explained_by_a_look_after_the_deadline_only() {
    let over = begun(&[("expired", WORKER, 70, json!({}))]);
    assert_eq!(check(&over, &calls(&[(69, Some(404), "")])), Ok(()));
    found(&over, &calls(&[(30, Some(200), "")]), "nothing explains expired");
    found(&over, &calls(&[(69, Some(502), "")]), "nothing explains expired");
    let said = begun(&[("expired", WORKER, 31, json!({}))]);
    assert_eq!(check(&said, &calls(&[(30, Some(200), r#"{"txnStatus":"EXPIRED"}"#)])), Ok(()), "the provider says so");
    found(&said, &calls(&[(30, Some(200), r#"{"txnStatus":"REQUESTED"}"#)]), "nothing explains expired");
    let early = history(&[("created", TILL, 0, json!({"expires_at": at(60)})), ("expired", WORKER, 59, json!({}))]);
    found(&early, &calls(&[]), "nothing explains expired");
    let unconfirmed = history(&[("created", TILL, 0, json!({"expires_at": at(60)})), ("expired", WORKER, 60, json!({}))]);
    assert_eq!(check(&unconfirmed, &calls(&[])), Ok(()));
}

#[test]
fn a_cancel_is_explained_by_who_asked_and_by_what_the_provider_answered() {
    let stopped = [("cancel_requested", TILL, 5, json!({})), ("canceled", WORKER, 8, json!({"reason": "other"}))];
    assert_eq!(check(&begun(&stopped), &calls(&[(7, Some(200), "")])), Ok(()));
    found(&begun(&stopped), &calls(&[(7, None, "timed out")]), "nothing explains canceled");
    found(&begun(&stopped[1..]), &calls(&[(7, Some(200), "")]), "nothing explains canceled");
    let unbegun = |actor| history(&[("created", TILL, 0, json!({})), ("canceled", actor, 1, json!({"reason": "other"}))]);
    assert_eq!(check(&unbegun(TILL), &calls(&[])), Ok(()));
    found(&unbegun(WORKER), &calls(&[]), "nothing explains canceled");
}

#[test]
fn a_hold_and_a_failure_need_a_call() {
    let held = begun(&[("authorized", WORKER, 4, json!({"attempt_id": "att_1"}))]);
    assert_eq!(check(&held, &calls(&[(3, Some(200), "{}")])), Ok(()));
    found(&held, &calls(&[(3, Some(402), "{}")]), "nothing explains authorized");
    let refused = ("attempt_failed", WORKER, 4, json!({"attempt_id": "att_1"}));
    let failed = ("failed", WORKER, 4, json!({}));
    assert_eq!(check(&begun(&[refused.clone(), failed.clone()]), &calls(&[(3, Some(402), "{}")])), Ok(()));
    found(&begun(&[refused]), &calls(&[]), "nothing explains attempt_failed");
    found(&begun(&[failed]), &calls(&[]), "failed led back out of requires_action");
}

#[test]
fn what_a_person_found_is_explained_by_the_statement_that_is_named() {
    let said =
        |actor, reference: &str| -> Step { ("resolved_by_person", actor, 80, json!({"paid": true, "statement_reference": reference})) };
    let paid = ("succeeded", TILL, 80, json!({"attempt_id": "att_1", "transaction_id": "S9", "evidence": "statement"}));
    assert_eq!(check(&begun(&[said(TILL, "line 3"), paid.clone()]), &calls(&[])), Ok(()));
    for said in [said(TILL, ""), said(WORKER, "line 3")] {
        found(&begun(&[said, paid.clone()]), &calls(&[]), "nothing explains succeeded");
    }
    found(&begun(&[paid]), &calls(&[]), "nothing explains succeeded");
}

#[test]
fn a_state_that_goes_back_is_found() {
    let calls = calls(&[(3, Some(200), "T1"), (61, Some(200), "T1")]);
    let again = ("attempt_started", TILL, 20, json!({"attempt_id": "att_2", "expires_at": at(60)}));
    found(&begun(&[again]), &calls, "attempt_started led back out of requires_action");
    found(&begun(&[paid(10), ("action_required", WORKER, 11, json!({}))]), &calls, "action_required led back out of succeeded");
    found(&begun(&[paid(10), ("expired", WORKER, 70, json!({}))]), &calls, "expired led back out of succeeded");
    found(&begun(&[paid(10), paid(11)]), &calls, "succeeded led back out of succeeded");
    let over = ("expired", WORKER, 70, json!({}));
    found(&begun(&[over.clone(), paid(80)]), &calls, "succeeded led back out of expired");
    let revived = |decision| check(&begun(&[over.clone(), late(80), decision, paid(90)]), &calls);
    assert_eq!(revived(resolved(TILL, "accepted")), Ok(()), "a person accepted it");
    assert!(revived(resolved(TILL, "kept")).is_err());
    assert!(revived(resolved(WORKER, "accepted")).is_err());
    let mut gap = begun(&[]);
    gap.remove(1);
    found(&gap, &calls, "version 3 stands in the place of 2");
}

/// A refund at a provider, asked for, and then these.
fn of_refund(more: &[Step]) -> Vec<Fact> {
    let first = [("requested", TILL, 0, json!({"refund_id": "att_1", "destination": "original", "provider": {}}))];
    history(&[&first[..], more].concat())
}

#[test]
fn the_end_of_a_refund_is_explained_by_an_answer_or_by_a_person() {
    let silent = ("outcome_unknown", WORKER, 5, json!({}));
    let (sent, failed) = (("succeeded", WORKER, 10, json!({})), ("failed", WORKER, 10, json!({})));
    let judge = |more: &[Step], calls: &Calls| refunds::check(&of_refund(more), calls);
    let (early, late, none) = (calls(&[(4, Some(200), "")]), calls(&[(9, Some(200), "")]), calls(&[]));
    assert_eq!(judge(std::slice::from_ref(&sent), &late), Ok(()));
    assert!(judge(std::slice::from_ref(&sent), &none).is_err());
    assert_eq!(judge(std::slice::from_ref(&failed), &none), Ok(()), "it was refused here");
    assert_eq!(judge(&[silent.clone(), failed.clone()], &late), Ok(()));
    assert!(judge(&[silent.clone(), failed.clone()], &early).is_err(), "it failed after silence");
    let said = |sent: bool| ("resolved_by_person", TILL, 9, json!({"sent": sent, "statement_reference": "line 3"}));
    assert_eq!(judge(&[silent.clone(), said(false), failed.clone()], &none), Ok(()));
    assert!(judge(&[silent, said(true), failed.clone()], &none).is_err());
    assert_eq!(judge(&[said(true), sent.clone()], &none), Ok(()));
    let found = ("found_sent", WORKER, 20, json!({}));
    assert_eq!(judge(&[said(false), failed.clone(), found.clone()], &late), Ok(()));
    assert!(judge(&[said(false), failed.clone(), found.clone()], &none).is_err());
    assert!(judge(&[failed, found], &late).is_err(), "the provider had refused it");
    let problem = judge(&[sent.clone(), sent], &late).unwrap_err();
    assert!(problem.contains("succeeded led back out of succeeded"), "{problem}");
}

#[test]
fn what_is_handed_out_is_explained_by_who_handed_it_out() {
    let cash = ("requested", TILL, 0, json!({"refund_id": "att_1", "destination": "cash", "provider": null}));
    let by = |actor| refunds::check(&history(&[cash.clone(), ("succeeded", actor, 0, json!({}))]), &calls(&[]));
    assert_eq!(by(TILL), Ok(()));
    assert!(by(WORKER).is_err());
}
