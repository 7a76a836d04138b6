//! The process managers' checkpoint, and what a page of the log leaves behind with it.

use commands::{
    event_log::EventLog as _,
    process_store::{Leaves, ProcessStore, Stuck},
};
use support::{SeededIds, item, stream};

use crate::{
    stage::{Stage, append},
    tasks::{attempt, lapse, lease, left, managed, start, tenant},
    told::{Told, stored},
};

fn reference(provider: &str, name: &str) -> Leaves {
    Leaves::Reference { tenant: tenant(), attempt: Box::new(attempt(provider, name)) }
}

pub async fn the_checkpoint_moves_with_all_that_belongs_to_it_or_not_at_all<S: Stage>(stage: &S, told: &mut Told) {
    let store = stage.processes();
    told.that("at first", stored(store.checkpoint().await));
    let page = |key: &str| vec![left(key, lapse(1), start()), reference("scb", key)];
    let stuck = || vec![Stuck { pos: 3, n: 0, manager: "checkout", error: "a rule".to_owned() }];
    told.that("from elsewhere", stored(store.advance(5, (9, None), page("a"), stuck()).await));
    told.that("at first still", stored(store.checkpoint().await));
    told.that("and no name", stored(store.attempt_of("scb", "a").await));
    told.that("from where it stands", stored(store.advance(0, (9, None), page("a"), stuck()).await));
    told.that("the twin comes second", stored(store.advance(0, (9, None), page("b"), stuck()).await));
    told.that("the name", stored(store.attempt_of("scb", "a").await));
    told.that("of the twin", stored(store.attempt_of("scb", "b").await));
    told.that("a page of nothing", stored(store.advance(9, (12, None), vec![], vec![]).await));
    told.that("the same page once more, after a restore", stored(store.advance(12, (13, None), page("a"), stuck()).await));
    told.that("in the end", stored(store.checkpoint().await));
    lease(&store, told, 0, 10).await;
}

pub async fn the_checkpoint_moves_only_to_the_very_event_that_was_handled<S: Stage>(stage: &S, told: &mut Told) {
    let (store, ids) = (managed(stage).await, SeededIds::new(61));
    told.that("appended", append(stage, &[item(&ids, &[(stream(&ids), 0)], 2)]).await);
    let hash = stage.log().read(1, 1).await.expect("the log answers").first().map(|event| event.hash);
    told.that("another event", stored(store.advance(0, (2, Some([9; 32])), vec![], vec![]).await));
    told.that("beyond the log", stored(store.advance(0, (3, hash), vec![], vec![]).await));
    told.that("elsewhere", stored(store.advance(0, (1, hash), vec![], vec![]).await));
    told.that("the checkpoint", stored(store.checkpoint().await));
    told.that("the event", stored(store.advance(0, (2, hash), vec![left("a", lapse(1), start())], vec![]).await));
    told.that("and now", stored(store.checkpoint().await));
}

pub async fn an_attempt_is_known_by_both_names_at_its_account_alone<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    told.that("unknown", stored(store.attempt_of("scb", "REF").await));
    told.that("left", stored(store.advance(0, (1, None), vec![reference("scb", "REF"), reference("kbank", "OTHER")], vec![]).await));
    told.that("by ours", stored(store.attempt_of("scb", "REF").await));
    told.that("at another account", stored(store.attempt_of("kbank", "REF").await));
    told.that("theirs is kept", stored(store.remember(&attempt("scb", "REF"), "chrg_1").await));
    told.that("by theirs", stored(store.attempt_of("scb", "chrg_1").await));
    told.that("by ours, with theirs in it", stored(store.attempt_of("scb", "REF").await));
    told.that("theirs at another account", stored(store.attempt_of("kbank", "chrg_1").await));
    told.that("theirs names another", stored(store.remember(&attempt("scb", "NEW"), "chrg_1").await));
    told.that("and stays the first's", stored(store.attempt_of("scb", "chrg_1").await));
    told.that("a name before its attempt", stored(store.remember(&attempt("scb", "LATER"), "chrg_2").await));
    told.that("is nobody's", stored(store.attempt_of("scb", "chrg_2").await));
    told.that("until it is left", stored(store.advance(1, (2, None), vec![reference("scb", "LATER")], vec![]).await));
    told.that("and then known", stored(store.attempt_of("scb", "chrg_2").await));
}

pub async fn a_name_that_the_log_tells_stands_beside_ours<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    let mut named = attempt("omise", "REF");
    named.provider_id = Some("chrg_9".to_owned());
    let accepted = Leaves::Reference { tenant: tenant(), attempt: Box::new(named) };
    told.that("left", stored(store.advance(0, (1, None), vec![reference("omise", "REF")], vec![]).await));
    told.that("accepted", stored(store.advance(1, (2, None), vec![accepted.clone()], vec![]).await));
    told.that("by ours", stored(store.attempt_of("omise", "REF").await));
    told.that("by theirs", stored(store.attempt_of("omise", "chrg_9").await));
    told.that("once more", stored(store.advance(2, (3, None), vec![accepted], vec![]).await));
    let ids = SeededIds::new(1);
    let mut other = attempt("omise", "SECOND");
    other.attempt_id = domain::ids::AttemptId(domain::clock::IdSource::next(&ids));
    let taken =
        Leaves::Reference { tenant: tenant(), attempt: Box::new(domain::process::AttemptRef { reference: "REF".to_owned(), ..other }) };
    told.that("another attempt under our name", stored(store.advance(3, (4, None), vec![taken], vec![]).await));
    told.that("stays the first's", stored(store.attempt_of("omise", "REF").await));
}
