//! SCB in the contract suite.

use domain::provider::Method;
use gateway::scb::simulator::{Settings, serve};
use serde_json::json;

use crate::world::{Setup, Stage, Traits, World};

pub async fn world(setup: Setup) -> World {
    let settings = json!({"api_key": "scb-hidden-key", "api_secret": "scb-hidden-secret", "biller_id": "123456789012345",
        "webhook_path_secret": "scb-hidden-path-secret", "void_profile": true, "timeout_ms": setup.timeout_ms});
    let traits = Traits {
        method: Method::PromptPay,
        card: None,
        has_status: false,
        has_tokens: true,
        pays_twice: true,
        settling: chrono::TimeDelta::zero(),
        secrets: &["scb-hidden-key", "scb-hidden-secret", "scb-hidden-path-secret", "sim-0000", "SIMULATED PAYER", "0123456789"],
    };
    let bank = Settings {
        api_key: "scb-hidden-key".to_owned(),
        api_secret: "scb-hidden-secret".to_owned(),
        biller_id: "123456789012345".to_owned(),
        allow_void: true,
    };
    World::new("scb", "scb-hidden-path-secret", settings, traits, setup.seed, |Stage { listener, config, stop }| {
        tokio::spawn(serve(listener, bank, config, stop));
    })
    .await
}
