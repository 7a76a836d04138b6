//! The edge after its database was away for longer than anybody waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use support::{PATIENCE, Proxy, TestPlatform, eventually};

/// Asks a hundred times a second, whatever became of those before, until told to stop.
async fn ask_on(client: reqwest::Client, url: String, token: String, stop: Arc<AtomicBool>) {
    let mut every = tokio::time::interval(Duration::from_millis(10));
    while !stop.load(Ordering::Relaxed) {
        every.tick().await;
        let request = client.get(&url).bearer_auth(&token);
        tokio::spawn(async move { drop(request.send().await) });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edge_serves_again_once_the_database_is_back_though_as_many_ask_as_before() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let line = Proxy::before(&platform.database.url).await;
    let (edge, base) = platform.second_edge_over(line.url()).await;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    let url = format!("{base}/v1/orders?limit=1");
    let served = async || {
        let answer = client.get(&url).bearer_auth(&shop.cashier).send().await.ok()?;
        answer.status().is_success().then_some(())
    };
    let stop = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn(ask_on(client.clone(), url.clone(), shop.cashier.clone(), stop.clone()));
    eventually("it serves", PATIENCE, served).await;
    // One connection by itself is open in 50 ms; of sixteen side by side each needs 0.8 s, and whose turn it is has 0.16 s left.
    line.open_in(Duration::from_millis(50));
    line.hold(support::Way::Up, true);
    line.refuse(true);
    tokio::time::sleep(Duration::from_millis(200)).await;
    line.refuse(false);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(served().await.is_none(), "the database is away");
    line.hold(support::Way::Up, false);
    eventually("it serves ten in a row", PATIENCE, async || {
        for _ in 0..10 {
            served().await?;
        }
        Some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    asking.await.unwrap();
    edge.stop().await;
}
