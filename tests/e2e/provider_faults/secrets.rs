//! I10: what an account must keep to itself, what proves us to a provider, and who paid stand in no line of log and in no answer,
//! whatever goes wrong.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use support::{Answered, TestPlatform};

use super::{
    calls::{begun_into, refunded_into},
    stage::{Bank, OMISE_HOOK, PATH_SECRET, STRIPE_HOOK, Stage, at_each, patiently},
};
use crate::logged::LogWatch;

/// Of accounts; tokens and headers that bear them; a payer as the simulators and this test name one.
const SECRETS: [&str; 17] = [
    "scb-key",
    "scb-secret",
    "kb-secret",
    "kb-partner",
    PATH_SECRET,
    "skey_test_key",
    "sk_test_key",
    OMISE_HOOK,
    STRIPE_HOOK,
    "simk-0",
    "sim-0000",
    "a2ItaWQ6a2Itc2VjcmV0",
    "c2tleV90ZXN0X2tleTo",
    "0123456789",
    "7300553319",
    "SIMULATED PAYER",
    "PAYER WHOM NOBODY KNOWS",
];

/// Calls that break, in every way that quotes something.
async fn calls(stage: &Stage) {
    for fault in ["not_json", "cut_body", "http_500_after"] {
        begun_into(stage, fault, json!({})).await;
    }
    if matches!(stage.bank, Bank::Scb | Bank::Kbank) {
        begun_into(stage, "token_expired", json!({})).await;
        stage.fault("token", "not_json", json!({})).await;
        stage.fault("inquire", "token_expired", json!({})).await;
    }
    refunded_into(stage, "http_500_after", json!({})).await;
}

/// Call-backs that are refused, put aside, or no call-backs at all; what they were answered.
async fn call_backs(stage: &Stage, said: &mut Vec<Answered>) {
    let (_, reference) = stage.payable(50_00).await;
    for seal in ["bad", "missing"] {
        let plan = json!({"badly_sealed": 1, "seal": seal});
        stage.lever("/sim/lie", json!({"reference": reference, "amount": 50_00, "webhook": plan})).await;
    }
    let stranger = json!({"reference": "NOBODY0000000000010", "amount": 50_00, "webhook": {"retry_ms": 500}});
    stage.lever("/sim/lie", stranger).await;
    patiently("it is put aside", || async { (stage.call_backs("parked").await.0 == 1).then_some(()) }).await;
    let payer = json!({"payerName": "PAYER WHOM NOBODY KNOWS", "payerAccountNumber": "7300553319", "transactionId": 5});
    for body in [payer.to_string(), format!("{payer} and more"), format!("[{payer}")] {
        for path in [stage.door(), format!("{}-not", stage.door())] {
            said.push(stage.deliver(&path, &[], body.clone().into_bytes()).await);
        }
    }
}

/// Settings that are refused; what was answered.
async fn settings(stage: &Stage, said: &mut Vec<Answered>) {
    let account = |settings: Value, secrets: Value| {
        json!({"provider": stage.bank.name(), "name": "another", "live": false, "priority": 10, "methods": [{"method": "promptpay"}],
            "amounts": [{"currency": "THB", "min": 1, "max": 70_000_000}], "settings": settings, "secrets": secrets})
    };
    let all = json!({"api_key": "scb-key", "api_secret": "scb-secret", "secret_key": "skey_test_key", "webhook_secret": STRIPE_HOOK,
        "consumer_secret": "kb-secret", "partner_secret": ["kb-partner"], "webhook_path_secret": PATH_SECRET});
    let base_url = json!({"base_url": stage.url});
    for body in [
        account(base_url.clone(), all.clone()),
        account(all.clone(), json!({})),
        account(json!({"base_url": "http://elsewhere.example"}), all),
    ] {
        let answer = stage.post(&stage.shop.admin, "/v1/provider-accounts", body).await;
        assert!(answer.status.is_client_error(), "{:?}", answer.status);
        said.push(answer);
    }
    let path = format!("/v1/provider-accounts/{}", stage.account);
    let key = format!("secrets-of-{}", stage.bank.name());
    let change = json!({"secrets": {"webhook_path_secret": {"of": PATH_SECRET}}});
    said.push(stage.platform.send(&stage.shop.admin, Method::PATCH, &path, Some(&key), Some(&change)).await);
}

pub async fn i10_no_secret_and_no_payer_stands_in_a_log_line_or_an_answer(platform: Arc<TestPlatform>) {
    let watch = LogWatch::begin(&SECRETS, "a call-back was refused");
    at_each(&platform, Bank::ALL, |stage| async move {
        let mut said = Vec::new();
        calls(&stage).await;
        call_backs(&stage, &mut said).await;
        settings(&stage, &mut said).await;
        let intent = stage.paid(20_00).await;
        let of_intent = format!("/v1/payment-intents/{intent}/explain");
        let of_account = format!("/v1/provider-accounts/{}", stage.account);
        for path in ["/v1/inbound-webhooks?limit=200", "/v1/provider-accounts", "/v1/payment-intents?limit=200", &of_intent, &of_account] {
            said.push(stage.platform.get(&stage.shop.admin, path).await);
        }
        for answer in &said {
            let text = String::from_utf8_lossy(&answer.bytes);
            assert!(!SECRETS.iter().any(|secret| text.contains(secret)), "{:?}: {text}", stage.bank);
        }
        stage.ledgers_agree().await;
    })
    .await;
    watch.heard_nothing();
}
