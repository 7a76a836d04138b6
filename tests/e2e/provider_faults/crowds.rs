//! Many calls at a time: a provider that hangs takes the places of its own accounts, and nobody else's.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use support::TestPlatform;

use super::stage::{Bank, Stage, patiently};

/// More than a worker had places for when all providers shared them.
const CROWD: i64 = 150;

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_keeps_nobody_elses_payments_waiting() {
    let start = TestPlatform::start_with(|config| config.providers.accounts.hosts = vec!["127.0.0.1".to_owned()]);
    let platform = Arc::new(start.await);
    let (hangs, well) = (Stage::open(&platform, Bank::Scb).await, Stage::open(&platform, Bank::Omise).await);
    hangs.fault("start", "slow", json!({"times": 1_000, "delay_ms": 60_000})).await;
    let begin = |n: i64| hangs.intent(10_00 + n);
    let begun: Vec<String> = stream::iter(0..CROWD).map(begin).buffer_unordered(24).collect().await;
    assert_eq!(i64::try_from(begun.len()), Ok(CROWD));
    patiently("its calls hang", || async { (hangs.attempts_there().await >= 40).then_some(()) }).await;
    let asked = Instant::now();
    let (intent, reference) = well.payable(20_00).await;
    well.pay_and_tell(&reference).await;
    well.status(&intent, "succeeded").await;
    // Ten seconds is when the connector gives the first of the others up.
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    well.ledgers_agree().await;
}
