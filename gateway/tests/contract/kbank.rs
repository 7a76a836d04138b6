//! KBank in the contract suite.

use domain::provider::Method;
use gateway::kbank::simulator::{Settings, serve};
use serde_json::json;

use crate::world::{Setup, Stage, Traits, World};

pub async fn world(setup: Setup) -> World {
    let settings = json!({"consumer_id": "kb-hidden-id", "consumer_secret": "kb-hidden-secret", "partner_id": "PTR0000001",
        "partner_secret": "kb-hidden-partner", "merchant_id": "KB000000000001", "webhook_path_secret": "kb-hidden-path-secret",
        "quota_pause_ms": 0, "timeout_ms": setup.timeout_ms});
    let traits = Traits {
        method: Method::PromptPay,
        card: None,
        has_status: true,
        has_tokens: true,
        pays_twice: false,
        secrets: &["kb-hidden-id", "kb-hidden-secret", "kb-hidden-partner", "kb-hidden-path-secret", "simk-0000", "a2ItaGlkZGVu"],
    };
    let bank = Settings {
        consumer_id: "kb-hidden-id".to_owned(),
        consumer_secret: "kb-hidden-secret".to_owned(),
        partner_id: "PTR0000001".to_owned(),
        partner_secret: "kb-hidden-partner".to_owned(),
        merchant_id: "KB000000000001".to_owned(),
    };
    World::new("kbank", "kb-hidden-path-secret", settings, traits, setup.seed, |Stage { listener, config, stop }| {
        tokio::spawn(serve(listener, bank, config, stop));
    })
    .await
}
