//! Many calls at a time: a provider that hangs takes the places of its own accounts, and nobody else's.

use std::sync::Arc;

use futures_util::{
    StreamExt as _,
    future::join_all,
    stream::{self, iter},
};
use serde_json::json;
use support::TestPlatform;

use super::{
    ledgers::tenant_of,
    stage::{Bank, Stage, patiently},
};

/// Each: more than one account has places for; all of them: more than a worker once had for all providers.
const CROWD: i64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_keeps_nobody_elses_payments_waiting() {
    let start = TestPlatform::start_with(|config| config.providers.accounts.hosts = vec!["127.0.0.1".to_owned()]);
    let platform = Arc::new(start.await);
    let well = Stage::open(&platform, Bank::Omise).await;
    // The connector gives up after ten seconds, which a busy machine may take for one payment. If it had to wait, it would wait each time.
    let mut meanwhile = Vec::new();
    while meanwhile.len() < 5 && meanwhile.last().is_none_or(|given_up| *given_up >= 90) {
        meanwhile.push(given_up_before_one_is_paid(&platform, &well).await);
    }
    well.ledgers_agree().await;
    assert!(meanwhile.last().is_some_and(|given_up| *given_up < 90), "{meanwhile:?} of the calls that hang were given up first");
}

/// Three accounts at one provider hang with all that it has places for while somebody pays at another one: how many of their calls were
/// given up until then.
async fn given_up_before_one_is_paid(platform: &Arc<TestPlatform>, well: &Stage) -> i64 {
    let hanging = join_all((0..3).map(|_| Stage::open(platform, Bank::Scb))).await;
    for stage in &hanging {
        stage.fault("start", "slow", json!({"times": 1_000, "delay_ms": 60_000})).await;
    }
    let begin = |(stage, n): (_, i64)| async move { Stage::intent(stage, 10_00 + n).await };
    let crowd: Vec<_> = hanging.iter().flat_map(|stage| (0..CROWD).map(move |n| (stage, n))).collect();
    let begun: Vec<String> = iter(crowd).map(begin).buffer_unordered(24).collect().await;
    assert_eq!(begun.len(), 180);
    let there = || async { stream::iter(&hanging).fold(0, |sum, stage| async move { sum + stage.attempts_there().await }).await };
    patiently("as many calls hang as the provider has places", || async { (there().await >= 90).then_some(()) }).await;
    let given_up = || async {
        let tenants: Vec<_> = hanging.iter().map(|stage| tenant_of(stage.shop.merchant)).collect();
        let sql = "select count(*) from gateway.exchange where tenant = any($1) and operation = 'start'";
        sqlx::query_scalar::<_, i64>(sql).bind(tenants).fetch_one(&platform.database.admin).await.unwrap()
    };
    let before = given_up().await;
    let (intent, reference) = well.payable(20_00).await;
    well.pay_and_tell(&reference).await;
    well.status(&intent, "succeeded").await;
    // It did not wait for a place of theirs: they hold all that they have until the connector gives them up.
    given_up().await - before
}
