//! Call-backs, as the simulator sends them.

use chrono::TimeDelta;
use domain::provider::{HintSubject, RawWebhook, StartRequest, WebhookHint, WebhookRefusal};
use serde_json::{Value, json};

use crate::world::{Heard, Launch, Setup, World};

fn read(world: &World, heard: &Heard) -> Result<WebhookHint, WebhookRefusal> {
    let raw = RawWebhook {
        proven: false,
        path_secret: heard.path_secret.as_deref(),
        headers: &heard.headers,
        body: &heard.body,
        received_at: world.now(),
    };
    world.provider.read_webhook(&raw)
}

async fn heard_of_a_payment(world: &World, webhook: Value) -> (StartRequest, Value, Heard) {
    let request = world.started(12_34).await;
    let payment = world.pay(&request, json!({"webhook": webhook})).await;
    let heard = world.hear().await;
    (request, payment, heard)
}

pub async fn a_callback_is_believed_and_names_its_attempt(launch: Launch) {
    let world = launch(Setup::default()).await;
    // More than once, since providers name the attempt now in one way and now in another.
    for _ in 0..3 {
        let (request, payment, heard) = heard_of_a_payment(&world, json!({"copies": 1, "retry_ms": 60_000})).await;
        let hint = read(&world, &heard).unwrap();
        match &hint.subject {
            HintSubject::Reference(reference) => assert_eq!(*reference, request.key.reference),
            HintSubject::ProviderId(id) => assert_eq!(Some(id), request.key.provider_id.as_ref()),
            HintSubject::Nothing => panic!("a payment speaks of something"),
        }
        if let Some(transaction_id) = &hint.transaction_id {
            assert_eq!(Some(transaction_id.as_str()), payment["transaction_id"].as_str());
        }
        assert!(serde_json::from_str::<Value>(&hint.acknowledgement).is_ok());
        assert_eq!(read(&world, &heard), Ok(hint), "a copy has the same name");
    }
}

pub async fn a_callback_with_a_bad_seal_is_refused(launch: Launch) {
    let world = launch(Setup::default()).await;
    for seal in ["bad", "missing"] {
        let (_, _, heard) = heard_of_a_payment(&world, json!({"copies": 1, "badly_sealed": 1, "seal": seal})).await;
        assert_eq!(read(&world, &heard), Err(WebhookRefusal::NotAuthentic), "{seal}");
    }
}

pub async fn an_altered_or_stale_callback_is_refused(launch: Launch) {
    let world = launch(Setup::default()).await;
    if !world.provider.capabilities().signed_webhooks {
        return;
    }
    for seal in ["stale", "future"] {
        let (_, _, heard) = heard_of_a_payment(&world, json!({"copies": 1, "badly_sealed": 1, "seal": seal})).await;
        assert_eq!(read(&world, &heard), Err(WebhookRefusal::Stale), "{seal}");
    }
    let (_, _, heard) = heard_of_a_payment(&world, json!({"copies": 1, "badly_sealed": 1, "seal": "rolled"})).await;
    assert!(read(&world, &heard).is_ok(), "either secret is good while it is rolled");
    let (_, _, heard) = heard_of_a_payment(&world, json!({"copies": 1, "retry_ms": 60_000})).await;
    let mut altered = heard.clone();
    altered.body.push(b' ');
    assert_eq!(read(&world, &altered), Err(WebhookRefusal::NotAuthentic));
    let late = RawWebhook {
        proven: false,
        path_secret: heard.path_secret.as_deref(),
        headers: &heard.headers,
        body: &heard.body,
        received_at: world.now() + TimeDelta::seconds(301),
    };
    assert_eq!(world.provider.read_webhook(&late), Err(WebhookRefusal::Stale));
}

/// Only where the body is looked at before it is proven: a signature over another body is simply not authentic.
pub async fn a_body_that_is_not_the_providers_is_malformed(launch: Launch) {
    let world = launch(Setup::default()).await;
    let (_, _, heard) = heard_of_a_payment(&world, json!({"copies": 1, "retry_ms": 60_000})).await;
    let deep = "[".repeat(10_000);
    let long = format!("{{\"x\":\"{}\"}}", "a".repeat(2_000_000));
    for body in ["", "hello", "{}", "[]", &deep, &long] {
        let refusal = read(&world, &Heard { body: body.as_bytes().to_vec(), ..heard.clone() });
        let refused = matches!(refusal, Err(WebhookRefusal::Malformed(..) | WebhookRefusal::NotAuthentic));
        assert!(refused, "{refusal:?}");
        let unsigned = !world.provider.capabilities().signed_webhooks;
        assert!(!unsigned || matches!(refusal, Err(WebhookRefusal::Malformed(..))), "{refusal:?}");
    }
}
