//! What a process tells of itself, whatever its roles are.

use std::time::Duration;

use api::simulated_provider::free_address;
use support::{Process, ScratchDir, TestDatabase, eventually};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_an_edge_tells_how_it_is_and_its_figures_where_it_is_told_to() {
    let database = TestDatabase::new().await;
    let scratch = ScratchDir::new("operation");
    let http = reqwest::Client::new();
    let figures =
        [("relay", "smartpos_relay_ahead_of_log"), ("projector", "smartpos_projection_lag"), ("worker", "smartpos_webhook_waiting")];
    for (role, figure) in figures {
        let address = free_address().unwrap().to_string();
        let environment = [
            ("DATABASE_URL", database.url.as_str()),
            ("NATS_URL", &database.nats_url),
            ("SMARTPOS_DATA_DIR", scratch.path().to_str().unwrap()),
            ("SMARTPOS_HTTP__METRICS_LISTEN", &address),
        ];
        let mut process = Process::spawn(role, scratch.path(), &["serve", "--role", role], environment);
        for path in ["healthz", "readyz"] {
            process.wait_for_url(&format!("http://{address}/{path}"), LONG).await;
        }
        eventually("its figures", LONG, || async {
            let shown = http.get(format!("http://{address}/metrics")).send().await.unwrap().text().await.unwrap();
            shown.contains(figure).then_some(())
        })
        .await;
        let elsewhere = http.get(format!("http://{address}/v1/orders")).send().await.unwrap();
        assert_eq!(elsewhere.status(), 404, "{role} serves nobody else");
    }
}
