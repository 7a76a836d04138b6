//! Stripe in the contract suite.

use chrono::TimeDelta;
use domain::provider::Method;
use gateway::{
    StripeConfig,
    stripe::simulator::{Settings, serve},
};
use serde_json::json;

use crate::world::{Setup, Stage, Traits, World};

pub async fn world(setup: Setup) -> World {
    let settings = json!({"secret_key": "sk_hidden_key", "webhook_secret": "whsec_hidden_secret"});
    let traits = Traits {
        method: Method::PromptPay,
        card: Some(Method::Card { token: "pm_card_visa".to_owned() }),
        has_status: true,
        has_tokens: false,
        pays_twice: false,
        settling: TimeDelta::zero(),
        secrets: &["sk_hidden_key", "whsec_hidden_secret", "pm_card_visa", "_secret_sim"],
    };
    let account = Settings {
        secret_key: "sk_hidden_key".to_owned(),
        webhook_secret: "whsec_hidden_secret".to_owned(),
        other_webhook_secret: "whsec_after_the_roll".to_owned(),
        api_version: StripeConfig::default_api_version(),
    };
    World::new("stripe", "", settings, traits, setup.seed, |Stage { listener, config, stop }| {
        tokio::spawn(serve(listener, account, config, stop));
    })
    .await
}
