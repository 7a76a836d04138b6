//! Call-backs: stored once, however often they come; parked until their name is known; settled; looked into again.

use chrono::{DateTime, Utc};
use commands::{
    call_backs::Sweep,
    event_log::StoreError,
    process_store::{Conclusion, Leaves, ProcessStore, Settled},
    webhooks::Delivery,
};
use domain::{
    clock::IdSource as _,
    ids::{MerchantId, WebhookId},
    provider::{HintSubject, WebhookHint},
};
use support::SeededIds;
use uuid::Uuid;

use crate::{
    stage::Stage,
    tasks::{after, attempt, lease, managed, start, tenant},
    told::{Told, stored},
};

fn id(n: u64) -> WebhookId {
    WebhookId(SeededIds::new(1000 + n).next())
}

fn uuid(n: u64) -> Uuid {
    Uuid::from_bytes(id(n).0.to_bytes())
}

fn key(n: u64) -> String {
    format!("webhook:{}", uuid(n))
}

fn hint(delivery: &str, subject: HintSubject) -> WebhookHint {
    WebhookHint {
        delivery_id: delivery.to_owned(),
        subject,
        transaction_id: Some(format!("tx {delivery}")),
        acknowledgement: String::new(),
    }
}

fn ours(name: &str) -> HintSubject {
    HintSubject::Reference(name.to_owned())
}

fn theirs(name: &str) -> HintSubject {
    HintSubject::ProviderId(name.to_owned())
}

/// The `n`th delivery to an account, whose owner is a merchant or nobody.
async fn take<S: Stage>(stage: &S, n: u64, account: &str, owner: Option<MerchantId>, hint: &WebhookHint) -> Result<bool, &'static str> {
    take_leased(stage, n, (account, owner), hint, None).await
}

/// As [`take`]; whoever takes it holds its task for so long.
async fn take_leased<S: Stage>(
    stage: &S,
    n: u64,
    (account, owner): (&str, Option<MerchantId>),
    hint: &WebhookHint,
    until: Option<DateTime<Utc>>,
) -> Result<bool, &'static str> {
    let body = hint.delivery_id.as_bytes();
    let delivery = Delivery { id: id(n), provider: "scb", account, tenant: owner, received_at: start(), headers: &[], body };
    stored(stage.log().take_webhook(&delivery, hint, until).await)
}

/// The task of the `n`th delivery is done with, and this came of it.
async fn settle(store: &impl ProcessStore, n: u64, confirmed: bool) -> Result<(), &'static str> {
    let call_back = Some(Settled { id: uuid(n), tenant: Uuid::nil(), confirmed });
    stored(store.conclude(&[Conclusion { call_back, ..Conclusion::of(key(n)) }]).await)
}

fn reopened(sweep: Result<Sweep, StoreError>) -> Result<i64, &'static str> {
    stored(sweep).map(|sweep| sweep.reopened)
}

pub async fn a_call_back_is_stored_once_with_one_task_however_often_it_comes<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    let one = hint("one", ours("REF"));
    told.that("first", take(stage, 1, "scb", None, &one).await);
    told.that("again, under another id of ours", take(stage, 2, "scb", None, &one).await);
    told.that("another", take(stage, 3, "scb", None, &hint("two", theirs("chrg_1"))).await);
    told.that("that names nothing", take(stage, 4, "scb", None, &hint("three", HintSubject::Nothing)).await);
    told.that("of a merchant's account", take(stage, 5, "pac_1", Some(tenant()), &hint("four", ours("REF"))).await);
    told.that("stored", stage.call_backs().await);
    lease(&store, told, 0, 10).await;
    told.that("again, while it is looked into", take(stage, 6, "scb", None, &one).await);
    lease(&store, told, 1, 10).await;
    told.that("stored then", stage.call_backs().await);
}

pub async fn the_task_of_a_new_call_back_can_be_left_leased_that_of_a_repeat_cannot<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    let (one, two) = (hint("one", ours("REF")), hint("two", ours("REF")));
    let scb = ("scb", None);
    told.that("one", take_leased(stage, 1, scb, &one, Some(after(5))).await);
    told.that("two", take_leased(stage, 2, scb, &two, Some(after(5))).await);
    told.that("two again, for longer", take_leased(stage, 3, scb, &two, Some(after(60))).await);
    lease(&store, told, 4, 10).await;
    told.that("one is let go of", stored(store.release(&key(1), after(5)).await));
    lease(&store, told, 4, 10).await;
    lease(&store, told, 5, 10).await;
    told.that("two is parked meanwhile", stored(store.park(uuid(2), &key(2)).await));
    told.that("three, that comes once more when it was never found", take(stage, 4, "scb", None, &hint("three", ours("REF"))).await);
    told.that("never found", settle(&store, 4, false).await);
    told.that("its repeat is nobody's", take_leased(stage, 5, scb, &hint("three", ours("REF")), Some(after(60))).await);
    lease(&store, told, 6, 10).await;
}

pub async fn deliveries_of_two_accounts_never_are_one<S: Stage>(stage: &S, told: &mut Told) {
    let one = hint("same", ours("REF"));
    told.that("at one account", take(stage, 1, "scb", None, &one).await);
    told.that("at the other", take(stage, 2, "pac_1", Some(tenant()), &one).await);
    told.that("at the other again", take(stage, 3, "pac_1", Some(tenant()), &one).await);
    told.that("stored", stage.call_backs().await);
    lease(&stage.processes(), told, 0, 10).await;
}

pub async fn what_came_of_a_call_back_is_noted_once<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    for (n, delivery) in [(1, "confirmed"), (2, "unconfirmed"), (3, "untouched")] {
        told.that(delivery, take(stage, n, "scb", None, &hint(delivery, ours("REF"))).await);
    }
    told.that("done", settle(&store, 1, true).await);
    told.that("never found", settle(&store, 2, false).await);
    told.that("a late word changes nothing", settle(&store, 1, false).await);
    told.that("nor does one on what is not there", settle(&store, 9, true).await);
    told.that("stored", stage.call_backs().await);
    told.that("the confirmed one comes again", take(stage, 4, "scb", None, &hint("confirmed", ours("REF"))).await);
    told.that("the unconfirmed one comes again", take(stage, 5, "scb", None, &hint("unconfirmed", ours("REF"))).await);
    told.that("stored in the end", stage.call_backs().await);
    lease(&store, told, 0, 10).await;
}

pub async fn a_parked_call_back_waits_until_its_name_is_known<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    for (n, delivery, subject) in [(1, "by ours", ours("REF")), (2, "by theirs", theirs("chrg_1")), (3, "of none", ours("NONE"))] {
        told.that(delivery, take(stage, n, "scb", None, &hint(delivery, subject)).await);
        told.that("parked", stored(store.park(uuid(n), &key(n)).await));
    }
    told.that("stored", stage.call_backs().await);
    told.that("a sweep", reopened(store.unpark(after(1), 0).await));
    told.that("comes again", take(stage, 4, "scb", None, &hint("by ours", ours("REF"))).await);
    lease(&store, told, 2, 10).await;
    let known = Leaves::Reference { tenant: tenant(), attempt: Box::new(attempt("scb", "REF")) };
    told.that("known", stored(store.advance(0, (1, None), vec![known], vec![]).await));
    told.that("a second sweep", reopened(store.unpark(after(3), 0).await));
    lease(&store, told, 2, 10).await;
    lease(&store, told, 3, 10).await;
    told.that("theirs is known", stored(store.remember(&attempt("scb", "REF"), "chrg_1").await));
    told.that("a third", reopened(store.unpark(after(4), 0).await));
    told.that("a fourth", reopened(store.unpark(after(5), 0).await));
    told.that("stored in the end", stage.call_backs().await);
    lease(&store, told, 5, 10).await;
}

pub async fn a_parked_call_back_is_found_by_the_name_that_the_log_tells<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    told.that("taken", take(stage, 1, "omise", None, &hint("by theirs", theirs("chrg_9"))).await);
    told.that("parked", stored(store.park(uuid(1), &key(1)).await));
    let mut named = attempt("omise", "REF");
    named.provider_id = Some("chrg_9".to_owned());
    let accepted = Leaves::Reference { tenant: tenant(), attempt: Box::new(named) };
    told.that("accepted", stored(store.advance(0, (1, None), vec![accepted], vec![]).await));
    told.that("the worker would find it", stored(store.attempt_of("omise", "chrg_9").await).map(|found| found.is_some()));
    told.that("so does the sweep", reopened(store.unpark(after(1), 0).await));
    lease(&store, told, 1, 10).await;
}

pub async fn parked_call_backs_of_every_account_are_swept_each_by_its_own_names<S: Stage>(stage: &S, told: &mut Told) {
    let store = managed(stage).await;
    for (n, account, owner) in [(1, "scb", None), (2, "pac_1", Some(tenant())), (3, "pac_2", Some(tenant()))] {
        told.that(account, take(stage, n, account, owner, &hint(account, ours("REF"))).await);
        told.that("parked", stored(store.park(uuid(n), &key(n)).await));
    }
    let known = Leaves::Reference { tenant: tenant(), attempt: Box::new(attempt("pac_1", "REF")) };
    told.that("one account knows it", stored(store.advance(0, (1, None), vec![known], vec![]).await));
    told.that("a sweep", reopened(store.unpark(after(1), 0).await));
    told.that("stored", stage.call_backs().await);
    lease(&store, told, 1, 10).await;
}
