//! Omise in the contract suite.

use chrono::TimeDelta;
use domain::provider::Method;
use gateway::omise::simulator::{Settings, serve};
use serde_json::json;

use crate::world::{Setup, Stage, Traits, World};

const HOOK: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

pub async fn world(setup: Setup) -> World {
    let settings = json!({"secret_key": "skey_hidden_key", "webhook_secret": HOOK, "promptpay_min": 1, "promptpay_max": 100_000_000});
    let traits = Traits {
        method: Method::PromptPay,
        card: Some(Method::Card { token: "tokn_test_ok".to_owned() }),
        has_status: true,
        has_tokens: false,
        pays_twice: false,
        settling: TimeDelta::minutes(2),
        secrets: &["skey_hidden_key", HOOK, "tokn_test_ok", "c2tleV9oaWRkZW5fa2V5"],
    };
    let account = Settings {
        secret_key: "skey_hidden_key".to_owned(),
        webhook_secret: HOOK.to_owned(),
        other_webhook_secret: "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
        promptpay_refundable: true,
    };
    World::new("omise", "", settings, traits, setup.seed, |Stage { listener, config, stop }| {
        tokio::spawn(serve(listener, account, config, stop));
    })
    .await
}
