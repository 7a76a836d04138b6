//! SCB in the contract suite.

use domain::provider::{CallOutcome, Method};
use futures_util::future::join_all;
use gateway::scb::simulator::{Settings, serve};
use serde_json::{Value, json};

use crate::world::{Setup, Stage, Traits, World};

pub async fn world(setup: Setup) -> World {
    world_with(setup, json!({"quota_pause_ms": 0})).await
}

/// With other settings of the connector.
async fn world_with(setup: Setup, changes: Value) -> World {
    let mut settings = json!({"api_key": "scb-hidden-key", "api_secret": "scb-hidden-secret", "biller_id": "123456789012345",
        "webhook_path_secret": "scb-hidden-path-secret", "void_profile": true});
    settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
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

/// Ten looks at once at a bank that takes five calls a second of each kind: how many it refused.
async fn refused_of_ten(world: &World) -> usize {
    let request = world.started(10_00).await;
    assert!(world.lever("/sim/limit", json!({"calls_per_second": 5})).await.0);
    world.exchanges();
    let looks = join_all((0..10).map(|_| world.inquire(&request))).await;
    let refused = looks.iter().filter(|outcome| matches!(outcome, CallOutcome::NotAttempted(_))).count();
    let exchanges = world.exchanges();
    assert_eq!(exchanges.iter().filter(|exchange| exchange.status == Some(429)).count(), refused, "{looks:?}");
    assert_eq!(exchanges.len(), 10);
    refused
}

#[tokio::test]
async fn ten_looks_at_the_pace_that_the_bank_allows_are_all_answered() {
    let paced = world_with(Setup::default(), json!({"calls_per_second": 5, "quota_pause_ms": 0})).await;
    assert_eq!(refused_of_ten(&paced).await, 0);
    // Without the setting they come at once, and the bank takes its five.
    assert!(refused_of_ten(&world(Setup::default()).await).await > 0);
}

#[tokio::test]
async fn after_too_many_calls_the_bank_is_left_alone_for_a_second() {
    let world = world_with(Setup::default(), json!({})).await;
    let request = world.started(60_00).await;
    world.fault("inquire", "http_429", 1).await;
    assert!(matches!(world.inquire(&request).await, CallOutcome::NotAttempted(_)));
    world.exchanges();
    world.advance(chrono::TimeDelta::milliseconds(999));
    assert!(matches!(world.inquire(&request).await, CallOutcome::NotAttempted(_)));
    assert!(world.exchanges().is_empty(), "it was called during the pause");
    world.advance(chrono::TimeDelta::milliseconds(1));
    world.view(&request).await;
}
