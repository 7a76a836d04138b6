//! What process managers and provider workers keep beside the log, on a real PostgreSQL.

use std::time::Duration;

use commands::{
    database::{self, Role},
    process_store::{Leaves, ProcessStore, Said, Stuck},
};
use domain::{
    clock::{Clock, IdSource},
    ids::{AttemptId, MerchantId, PaymentIntentId, Ulid},
    money::Money,
    payment_intent::Tender,
    process::{AttemptRef, Task},
    provider::Exchange,
};
use serde_json::json;
use sqlx::PgPool;
use support::{ManualClock, PATIENCE, SeededIds, TestDatabase, TestPlatform, eventually};

fn attempt(ids: &SeededIds) -> AttemptRef {
    let now = ManualClock::default().now();
    AttemptRef {
        payment_intent_id: PaymentIntentId(ids.next()),
        attempt_id: AttemptId(ids.next()),
        provider: "scb".to_owned(),
        reference: "REFERENCE".to_owned(),
        provider_id: None,
        tender: Tender::PromptPay,
        manual_capture: false,
        amount: Money::thb(107_00),
        created_at: now,
        expires_at: now + chrono::Duration::minutes(15),
    }
}

/// The same pool, which gives a busy machine more time to open a connection.
fn patient(pool: &PgPool) -> PgPool {
    let options = (*pool.connect_options()).clone();
    pool.options().clone().acquire_timeout(PATIENCE).connect_lazy_with(options)
}

async fn left(pool: &PgPool) -> (i64, i64, i64) {
    let sql = "select (select count(*) from process.task), (select count(*) from process.provider_reference), (select count(*) from process.stuck)";
    sqlx::query_as(sql).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn what_was_said_is_kept_once_though_it_is_handed_in_again() {
    let database = TestDatabase::new().await;
    let store = patient(&database::pool_of_derived(&database.url, 2).unwrap());
    let ids = SeededIds::new(1);
    let exchange = |operation| Exchange {
        operation,
        request_line: "POST /start".to_owned(),
        request_body: "{}".to_owned(),
        status: Some(200),
        response_body: "{}".to_owned(),
        sent_at: ManualClock::default().now() + chrono::Duration::nanoseconds(1_234_567),
        took_ms: 5,
    };
    let subject = AttemptId(ids.next()).to_string();
    let said =
        |exchanges, again| Said { tenant: MerchantId(Ulid::nil()), subject: subject.clone(), provider: "scb".to_owned(), exchanges, again };
    let kept = async || -> i64 { sqlx::query_scalar("select count(*) from gateway.exchange").fetch_one(&database.admin).await.unwrap() };
    store.keep_exchanges(&[said(vec![exchange("token")], false)]).await.unwrap();
    // The first try was heard of, or was not, and may have been carried out in either case.
    for (exchanges, expected) in [(vec![exchange("token")], 1), (vec![exchange("token"), exchange("start")], 2)] {
        store.keep_exchanges(&[said(exchanges, true)]).await.unwrap();
        assert_eq!(kept().await, expected);
    }
}

#[tokio::test]
async fn a_page_leaves_all_that_follows_from_it_or_nothing() {
    let database = TestDatabase::new().await;
    let store = patient(&database::pool_of_derived(&database.url, 2).unwrap());
    let (ids, now) = (SeededIds::new(1), ManualClock::default().now());
    let tenant = MerchantId(ids.next());
    let attempt = attempt(&ids);
    let task = |key: &str| {
        let task = Task::Reroute { payment_intent_id: attempt.payment_intent_id, attempt_id: attempt.attempt_id };
        Leaves::Task { key: key.to_owned(), tenant, task: Box::new(task), due_at: now, leased_until: None }
    };
    let page = || {
        let reference = Leaves::Reference { tenant, attempt: Box::new(attempt.clone()) };
        let stuck = Stuck { pos: 3, n: 0, manager: "checkout", error: "a rule".to_owned() };
        (vec![task("one"), task("two"), task("one"), reference], vec![stuck])
    };
    assert_eq!(store.checkpoint().await.unwrap(), 0);
    let (leaves, stuck) = page();
    assert!(store.advance(5, (9, None), leaves, stuck).await.unwrap().is_none(), "the checkpoint does not stand at 5");
    assert_eq!((store.checkpoint().await.unwrap(), left(&database.admin).await), (0, (0, 0, 0)));
    let (leaves, stuck) = page();
    assert!(store.advance(0, (9, None), leaves, stuck).await.unwrap().is_some());
    assert_eq!((store.checkpoint().await.unwrap(), left(&database.admin).await), (9, (2, 1, 1)));
    let found = store.attempt_of("scb", "REFERENCE").await.unwrap();
    assert_eq!(found, Some((uuid::Uuid::from_bytes(tenant.0.to_bytes()), attempt.clone())));
    // The same page again, after a restore: what is there stays as it is.
    let (leaves, stuck) = page();
    assert!(store.advance(9, (10, None), leaves, stuck).await.unwrap().is_some());
    assert_eq!(left(&database.admin).await, (2, 1, 1));
    assert!(store.advance(10, (11, None), vec![], vec![]).await.unwrap().is_some(), "a page without a reaction moves the checkpoint too");
    let mut leased: Vec<String> = store.lease(now, 5.0, 10).await.unwrap().into_iter().map(|held| held.key).collect();
    leased.sort();
    assert_eq!(leased, ["one", "two"]);
}

#[tokio::test]
async fn only_what_follows_from_the_log_does_not_wait_for_the_disk() {
    let database = TestDatabase::new().await;
    let waits = async |pool: PgPool| -> String { sqlx::query_scalar("show synchronous_commit").fetch_one(&patient(&pool)).await.unwrap() };
    assert_eq!(waits(database::pool_of_derived(&database.url, 1).unwrap()).await, "off");
    assert_eq!(waits(database::pool(&database.url, Role::App, 1).unwrap()).await, "on");
    assert_eq!(waits(database::pool(&database.url, Role::Worker, 1).unwrap()).await, "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_was_called_back_leaves_a_look_at_the_end_of_the_day_and_nothing_else() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (_, bill) = platform.billed(&shop, 107_00).await;
    let (_, intent, reference) = platform.started_qr(&shop, &bill).await;
    // The watch's first look would be due three seconds after the attempt began: it is not what tidies up.
    eventually("the watch is an hour away", Duration::from_secs(60), || async {
        let sql = "update process.task set due_at = due_at + interval '1 hour' where key like 'watch:%' and leased_until is null";
        let moved = sqlx::query(sql).execute(&platform.database.admin).await.unwrap();
        (moved.rows_affected() == 1).then_some(())
    })
    .await;
    platform.pay(&reference, json!({})).await;
    platform.get_until(&shop.cashier, &format!("/v1/payment-intents/{intent}"), |intent| intent["status"] == "succeeded").await;
    eventually("one look is left", Duration::from_secs(60), || async {
        // From five past midnight in Bangkok after the day of the deadline.
        let sql = "select key like 'watch:%' and due_at >= date_trunc('day', (task ->> 'expires_at')::timestamptz, 'Asia/Bangkok')
                                                         + interval '24 hours 5 minutes' from process.task";
        let tasks: Vec<bool> = sqlx::query_scalar(sql).fetch_all(&platform.database.admin).await.unwrap();
        (tasks == [true]).then_some(())
    })
    .await;
    platform.proves_itself().await;
    platform.stop().await;
}
