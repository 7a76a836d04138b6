//! Tasks: leased, renewed, put back, replaced, removed; by two workers, one of which is slow.

use chrono::{DateTime, Duration, Utc};
use commands::process_store::{Conclusion, Leased, Leaves, ProcessStore};
use domain::{
    clock::{Clock as _, IdSource as _},
    ids::{AttemptId, MerchantId, PaymentIntentId},
    money::Money,
    payment_intent::Tender,
    process::{AttemptRef, InquiryMode, Task},
};
use support::{ManualClock, SeededIds};
use uuid::Uuid;

use crate::{
    stage::Stage,
    told::{Told, stored},
};

/// The time from which scripts count.
pub fn start() -> DateTime<Utc> {
    ManualClock::default().now()
}

pub fn after(seconds: i64) -> DateTime<Utc> {
    start() + Duration::seconds(seconds)
}

pub fn tenant() -> MerchantId {
    MerchantId(SeededIds::new(77).next())
}

/// An attempt of a provider.
pub fn attempt(provider: &str, reference: &str) -> AttemptRef {
    let ids = SeededIds::new(78);
    AttemptRef {
        payment_intent_id: PaymentIntentId(ids.next()),
        attempt_id: AttemptId(ids.next()),
        provider: provider.to_owned(),
        reference: reference.to_owned(),
        provider_id: None,
        tender: Tender::PromptPay,
        manual_capture: false,
        amount: Money::thb(107_00),
        created_at: start(),
        expires_at: after(900),
    }
}

/// A look at the books, which can wait behind what somebody waits for.
pub fn watch() -> Task {
    Task::Inquire { attempt: attempt("scb", "WATCHED"), mode: InquiryMode::Watch, asked: 0 }
}

/// Something that somebody waits for.
pub fn lapse(n: u64) -> Task {
    Task::Lapse { payment_intent_id: PaymentIntentId(SeededIds::new(n).next()) }
}

/// A call that must not be made again as if for the first time.
pub fn begin() -> Task {
    Task::Start { attempt: attempt("scb", "BEGUN"), card_token: None, return_url: None, tried: 0, uncertain_since: None }
}

/// Left behind by a page of the log.
pub fn left(key: &str, task: Task, due_at: DateTime<Utc>) -> Leaves {
    Leaves::Task { key: key.to_owned(), tenant: tenant(), task: Box::new(task), due_at, leased_until: None }
}

/// The same, held for a worker until then.
pub fn left_leased(key: &str, task: Task, leased_until: DateTime<Utc>) -> Leaves {
    Leaves::Task { key: key.to_owned(), tenant: tenant(), task: Box::new(task), due_at: start(), leased_until: Some(leased_until) }
}

/// What stands beside the log, once managers have looked where they stand, as they do at their start.
pub async fn managed<S: Stage>(stage: &S) -> S::Log {
    let store = stage.processes();
    store.checkpoint().await.expect("the database answers");
    store
}

/// What a worker holds, by key: a database hands them over in any order.
pub fn held(leased: Vec<Leased>) -> Vec<(String, Uuid, Result<Task, String>, bool)> {
    let mut held: Vec<_> = leased.into_iter().map(|task| (task.key, task.tenant, task.task, task.abandoned)).collect();
    held.sort_by(|one, other| one.0.cmp(&other.0));
    held
}

/// A task is done with.
pub async fn remove(store: &impl ProcessStore, key: &str) -> Result<(), &'static str> {
    stored(store.conclude(&[Conclusion::of(key.to_owned())]).await)
}

/// Another takes its place.
pub async fn replace(store: &impl ProcessStore, key: &str, task: Task, due: DateTime<Utc>) -> Result<(), &'static str> {
    let next = Some((task, Uuid::nil(), due));
    stored(store.conclude(&[Conclusion { next, ..Conclusion::of(key.to_owned()) }]).await)
}

/// Notes what a worker gets.
pub async fn lease(store: &impl ProcessStore, told: &mut Told, now: i64, count: i64) {
    told.that(format!("leased at {now}, at most {count}"), stored(store.lease(after(now), 5.0, count).await).map(held));
}

pub async fn the_first_due_are_leased_once_and_taken_over_when_the_lease_runs_out<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    let tasks = [("a", 3), ("b", 1), ("c", 2), ("d", 30)].map(|(key, due)| left(key, lapse(1), after(due)));
    told.that("left", stored(store.advance(0, (1, None), tasks.to_vec(), vec![]).await));
    lease(&store, told, 0, 10).await;
    lease(&store, told, 3, 2).await;
    lease(&store, told, 3, 10).await;
    lease(&store, told, 7, 10).await;
    lease(&store, told, 8, 10).await;
    lease(&store, told, 8, 0).await;
    lease(&store, told, 40, 1).await;
    lease(&store, told, 40, 10).await;
    lease(&store, told, 60, 10).await;
}

pub async fn what_somebody_waits_for_comes_before_watches<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    let tasks = vec![
        left("watch-early", watch(), after(1)),
        left("watch-late", watch(), after(3)),
        left("soon", lapse(1), after(2)),
        left("later", lapse(2), after(4)),
    ];
    told.that("left", stored(store.advance(0, (1, None), tasks, vec![]).await));
    lease(&store, told, 10, 1).await;
    lease(&store, told, 10, 2).await;
    lease(&store, told, 10, 5).await;
    told.that("a watch becomes urgent", replace(&store, "watch-late", lapse(3), after(20)).await);
    lease(&store, told, 30, 3).await;
}

pub async fn a_renewed_lease_holds_and_a_task_that_was_put_back_is_no_fresh_one<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    told.that("left", stored(store.advance(0, (1, None), vec![left("a", lapse(1), start()), left("b", lapse(2), start())], vec![]).await));
    lease(&store, told, 0, 5).await;
    told.that("renewed", stored(store.renew(&["a".to_owned()], after(4), 5.0).await));
    lease(&store, told, 6, 5).await;
    lease(&store, told, 9, 5).await;
    told.that("put back", stored(store.put_back("a", after(12)).await));
    lease(&store, told, 11, 5).await;
    lease(&store, told, 12, 5).await;
    told.that("replaced", replace(&store, "a", lapse(9), after(13)).await);
    lease(&store, told, 13, 1).await;
    told.that("put back before it is due", stored(store.put_back("b", after(60)).await));
    lease(&store, told, 59, 5).await;
    lease(&store, told, 60, 5).await;
}

pub async fn what_took_the_place_of_a_task_is_neither_held_on_nor_put_back_by_its_late_words<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    let page = vec![left("a", begin(), start()), left("b", begin(), start()), left("free", lapse(1), after(9))];
    told.that("left", stored(store.advance(0, (1, None), page, vec![]).await));
    lease(&store, told, 0, 5).await;
    told.that("a is replaced", replace(&store, "a", begin(), after(2)).await);
    told.that("b is replaced", replace(&store, "b", begin(), after(2)).await);
    told.that("renewed meanwhile", stored(store.renew(&["a".to_owned(), "free".to_owned()], after(1), 5.0).await));
    told.that("put back meanwhile", stored(store.put_back("b", after(1)).await));
    told.that("nobody held that one", stored(store.put_back("free", after(1)).await));
    lease(&store, told, 1, 5).await;
    lease(&store, told, 2, 5).await;
    lease(&store, told, 9, 5).await;
}

pub async fn a_look_on_request_is_left_once_and_awaited_until_it_is_done_with<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    told.that("awaited", stored(store.looks_now(tenant(), "look:a").await));
    told.that("left", stored(store.look_now(tenant(), "look:a", &lapse(1), start()).await));
    told.that("left again", stored(store.look_now(tenant(), "look:a", &lapse(2), after(9)).await));
    told.that("awaited then", stored(store.looks_now(tenant(), "look:a").await));
    told.that("by another", stored(store.looks_now(MerchantId(SeededIds::new(79).next()), "look:a").await));
    lease(&store, told, 0, 5).await;
    told.that("awaited while it is made", stored(store.looks_now(tenant(), "look:a").await));
    told.that("done", remove(&store, "look:a").await);
    told.that("awaited in the end", stored(store.looks_now(tenant(), "look:a").await));
    lease(&store, told, 60, 5).await;
}

pub async fn a_zombie_that_finishes_late_meets_what_is_there_by_then<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    told.that("left", stored(store.advance(0, (1, None), vec![left("a", lapse(1), start())], vec![]).await));
    lease(&store, told, 0, 5).await;
    lease(&store, told, 6, 5).await;
    told.that("the second is done", remove(&store, "a").await);
    told.that("the first removes nothing", remove(&store, "a").await);
    told.that("replaces nothing", replace(&store, "a", lapse(2), start()).await);
    told.that("renews nothing", stored(store.renew(&["a".to_owned()], start(), 5.0).await));
    told.that("puts nothing back", stored(store.put_back("a", start()).await));
    lease(&store, told, 100, 5).await;
    told.that("left again by the log", stored(store.advance(1, (2, None), vec![left("a", lapse(3), after(101))], vec![]).await));
    lease(&store, told, 101, 5).await;
    told.that("a late follow-up takes its place", replace(&store, "a", lapse(4), after(102)).await);
    lease(&store, told, 102, 5).await;
}

pub async fn a_task_that_is_known_stays_as_it_is<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    let twice = vec![left("a", lapse(1), after(1)), left("a", lapse(2), after(9)), left("b", lapse(3), after(1))];
    told.that("left", stored(store.advance(0, (1, None), twice, vec![]).await));
    lease(&store, told, 1, 5).await;
    told.that("left again", stored(store.advance(1, (2, None), vec![left("a", lapse(7), start())], vec![]).await));
    lease(&store, told, 2, 5).await;
    lease(&store, told, 7, 5).await;
}

pub async fn a_task_that_is_left_leased_is_its_workers_until_the_lease_runs_out<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    let page = vec![left_leased("b", begin(), after(5)), left("free", lapse(2), start()), left_leased("a", lapse(1), after(5))];
    told.that("left", stored(store.advance(0, (1, None), page.clone(), vec![]).await));
    told.that("the twin's page", stored(store.advance(0, (1, None), page, vec![]).await));
    lease(&store, told, 1, 5).await;
    told.that("released by one who held it at another time", stored(store.release("b", after(4)).await));
    lease(&store, told, 2, 5).await;
    told.that("released", stored(store.release("b", after(5)).await));
    lease(&store, told, 2, 5).await;
    told.that("released too late", stored(store.release("b", after(5)).await));
    lease(&store, told, 3, 5).await;
    told.that(
        "known ones stay",
        stored(
            store.advance(1, (2, None), vec![left_leased("a", lapse(3), after(60)), left_leased("c", lapse(4), after(60))], vec![]).await,
        ),
    );
    told.that("renewed", stored(store.renew(&["a".to_owned()], after(4), 5.0).await));
    told.that("done", remove(&store, "c").await);
    lease(&store, told, 6, 5).await;
    lease(&store, told, 9, 5).await;
}

pub async fn tasks_that_are_done_with_together_go_or_are_replaced_each_by_its_own<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    let tasks = ["a", "b", "c", "d"].map(|key| left(key, lapse(1), start()));
    told.that("left", stored(store.advance(0, (1, None), tasks.to_vec(), vec![]).await));
    lease(&store, told, 0, 9).await;
    let done = |key: &str| Conclusion::of(key.to_owned());
    let group = [
        Conclusion { also: Some("d".to_owned()), ..done("a") },
        Conclusion { next: Some((lapse(2), Uuid::nil(), after(1))), ..done("b") },
        Conclusion { next: Some((lapse(3), Uuid::nil(), after(1))), also: Some("none".to_owned()), ..done("not there") },
    ];
    told.that("together", stored(store.conclude(&group).await));
    told.that("none at all", stored(store.conclude(&[]).await));
    lease(&store, told, 1, 9).await;
    lease(&store, told, 9, 9).await;
}
