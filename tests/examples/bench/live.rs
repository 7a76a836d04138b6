//! Live events: from the append to a consumer and from a command to the frame on a socket, under load.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::{
    Bench,
    consumer::{Consumer, Seen},
    report::Aim,
    server::{ALL_ROLES, Server},
    sockets::{Plan, Sockets, stamp},
};

/// Commands per second while the way to the socket is timed.
const RATE: u64 = 1_000;
/// Connections that share them.
const SENDERS: u64 = 64;

/// Runs the section: commands at a fixed rate, each seen by a consumer of the log and heard on the socket of its shop.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let section = "live";
    let server = Server::start(&bench.servers, "bench_live", &ALL_ROLES).await?;
    let (address, shops) = (server.address, server.shops.clone());
    let sockets = Sockets::connect(&Plan { address, shops, first: 0, sockets: server.shops.len() }).await?;
    let consumer = Consumer::start(&server.database).await?;
    let seconds = bench.effort.choose(15, 4);
    let sent = stamped_orders(&server, seconds).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let Seen { latencies: mut seen, from_log } = consumer.seen().await?;
    let mut heard = sockets.heard().await?;
    anyhow::ensure!(heard.frames == sent, "{sent} orders were placed, {} were heard", heard.frames);
    anyhow::ensure!(seen.len() > 0, "the consumer saw nothing");
    if from_log > 0 {
        bench
            .report
            .note(format!("{section}: {from_log} of {} events came to the consumer from PostgreSQL instead of the stream", seen.len()));
    }
    let what = |percentile: &str| format!("{percentile} from the append to a consumer in another process at {RATE} orders/s");
    bench.report.aimed(section, what("P50"), seen.percentile(500), "ms", Aim::AtMost(5.0));
    bench.report.aimed(section, what("P99"), seen.percentile(990), "ms", Aim::AtMost(30.0));
    let what = |percentile: &str| format!("{percentile} from sending an order to its frame at {RATE} orders/s");
    bench.report.figure(section, what("P50"), heard.latencies.percentile(500), "ms");
    bench.report.aimed(section, what("P99"), heard.latencies.percentile(990), "ms", Aim::AtMost(40.0));
    server.stop().await
}

/// Places orders whose table says when they were sent; says how many.
async fn stamped_orders(server: &Server, seconds: u64) -> Result<u64> {
    let started = tokio::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let (address, shop) = (server.address, server.shops[usize::try_from(sender)? % server.shops.len()].clone());
        tasks.spawn(async move {
            let mut connection = crate::client::Connection::open(address).await?;
            let mut placed = 0;
            for n in (sender..seconds * RATE).step_by(usize::try_from(SENDERS)?) {
                tokio::time::sleep_until(started + Duration::from_micros(n * 1_000_000 / RATE)).await;
                let body = json!({"store_id": shop.store, "order_type": "takeaway", "order_number": stamp(), "lines": []}).to_string();
                let head = format!(
                    "POST /v1/orders HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\nIdempotency-Key: live-{n}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    shop.token,
                    body.len()
                );
                let status = connection.send(format!("{head}{body}").as_bytes()).await?.status;
                anyhow::ensure!(status == 201, "an order was answered with {status}");
                placed += 1;
            }
            Ok::<u64, anyhow::Error>(placed)
        });
    }
    let mut placed = 0;
    while let Some(done) = tasks.join_next().await {
        placed += done??;
    }
    Ok(placed)
}
