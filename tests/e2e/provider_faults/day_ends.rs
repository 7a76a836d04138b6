//! Money that comes on a code that nothing stops, once its payment is over, and of which no call-back tells.

use api::auth::Role;
use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use domain::clock::Clock as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use support::ShiftedClock;

use super::{
    deadlines::{moved_on, passing, shown, stage, started_at},
    ledgers::tenant_of,
    stage::{Bank, Stage, patiently},
};

/// Waits until nothing but so many looks in the night is left to do for the merchant.
async fn only_nights_are_left(stage: &Stage, clock: &ShiftedClock, looks: i64) {
    let soon = clock.now() + TimeDelta::hours(1);
    patiently("only looks in the night are left", || async {
        let sql = "select count(*), min(due_at) from process.task where tenant = $1";
        let tenant = tenant_of(stage.shop.merchant);
        let row = sqlx::query_as(sql).bind(tenant).fetch_one(&stage.platform.database.admin).await;
        let (left, next): (i64, Option<DateTime<Utc>>) = row.unwrap();
        (left == looks && next.is_none_or(|due| due > soon)).then_some(())
    })
    .await;
}

fn bangkok_hour(clock: &ShiftedClock) -> u32 {
    (clock.now() + TimeDelta::hours(7)).hour()
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_a_second_payment_without_a_call_back_is_found_after_the_end_of_its_day() {
    let (platform, clock) = started_at(20, 0, 0).await;
    let mut stage = stage(&platform, Bank::Scb, &clock).await;
    // One is told of by its call-back, the other is found by its watch.
    let codes = [stage.payable(80_00).await, stage.payable(81_00).await];
    stage.pay_and_tell(&codes[0].1).await;
    stage.pay(&codes[1].1, json!({})).await;
    for (intent, _) in &codes {
        stage.status(intent, "succeeded").await;
    }
    only_nights_are_left(&stage, &clock, 2).await;
    for (_, reference) in &codes {
        stage.pay(reference, json!({})).await;
    }
    // The schedule of both is over.
    moved_on(&platform, &clock, TimeDelta::minutes(90)).await;
    let second = |shown: &Value| shown["unmatched"][0]["why"] == "duplicate" && shown["needs_attention"] == true;
    let seen = async || join_all(codes.iter().map(|(intent, _)| shown(&stage, intent))).await;
    assert!(seen().await.iter().all(|shown| shown["unmatched"][0].is_null()), "nobody has told of it");
    let found = async || seen().await.iter().all(second);
    passing(&platform, "both are found", &clock, TimeDelta::minutes(15), TimeDelta::hours(7), found).await;
    assert!(bangkok_hour(&clock) < 6, "it was found before the day had ended");
    assert!(seen().await.iter().all(|shown| shown["status"] == "succeeded"));
    stage.ledgers_agree().await;
    assert_eq!(stage.payments_there().await, 4);
    only_nights_are_left(&stage, &clock, 2).await;

    // What comes on the next day is found after that, and then nobody looks any more.
    clock.advance(TimeDelta::hours(9));
    stage.shop.cashier = platform.token(Role::Cashier, Some(stage.shop.merchant), Some(stage.shop.store));
    stage.pay(&codes[0].1, json!({})).await;
    let third = async || shown(&stage, &codes[0].0).await["unmatched"][1]["why"] == "duplicate";
    passing(&platform, "the third one is found", &clock, TimeDelta::minutes(30), TimeDelta::hours(20), third).await;
    assert!(bangkok_hour(&clock) < 6, "it was found before the day had ended");
    stage.ledgers_agree().await;
    clock.advance(TimeDelta::hours(3));
    only_nights_are_left(&stage, &clock, 0).await;
    platform.proves_itself().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_money_after_the_schedule_of_an_expired_payment_is_found_though_the_provider_is_away_at_night() {
    let (platform, clock) = started_at(20, 0, 0).await;
    let stage = stage(&platform, Bank::Scb, &clock).await;
    let intent = stage.intent_with(80_00, json!({"expires_in_minutes": 1})).await;
    let reference = stage.reference(&intent).await;
    let expired = async || shown(&stage, &intent).await["status"] == "expired";
    passing(&platform, "it expires", &clock, TimeDelta::seconds(15), TimeDelta::minutes(5), expired).await;
    let ladder_is_over = clock.now() + TimeDelta::minutes(80);
    while clock.now() < ladder_is_over {
        moved_on(&platform, &clock, TimeDelta::minutes(5)).await;
    }
    only_nights_are_left(&stage, &clock, 1).await;
    stage.fault("inquire", "http_500", json!({"times": 1})).await;
    stage.pay(&reference, json!({"force": true})).await;
    let late = async || {
        let shown = shown(&stage, &intent).await;
        shown["unmatched"][0]["why"] == "late" && shown["status"] == "expired"
    };
    passing(&platform, "late money is found", &clock, TimeDelta::minutes(15), TimeDelta::hours(10), late).await;
    stage.ledgers_agree().await;
    platform.proves_itself().await;
}
