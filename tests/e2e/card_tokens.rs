//! The provider's single-use token of a card is for one call: nobody is shown it, whatever they ask.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::json;
use support::{PATIENCE, TestPlatform, eventually, replay, replay_command};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::cards::{CardShop, Cards, OMISE, STRIPE};

/// What `replay` says for people.
async fn said(platform: &TestPlatform, arguments: &[&str]) -> String {
    let mut command = replay_command(&platform.database, arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Every frame about an intent, until one of this type.
async fn frames(till: &CardShop, intent: &str, last: &str) -> String {
    let mut request = format!("{}/ws", till.platform.base.replace("http", "ws")).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", till.shop.cashier).parse().unwrap());
    let mut socket = tokio_tungstenite::connect_async(request).await.unwrap().0;
    let subscribe = json!({"action": "subscribe", "topic": format!("payment_intent.{intent}"), "after": 0}).to_string();
    socket.send(Message::Text(subscribe.clone().into())).await.unwrap();
    let mut all = String::new();
    while !all.contains(last) {
        let frame = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame in time");
        if let Message::Text(text) = frame.unwrap().unwrap() {
            if text.contains("\"resync\"") {
                // A busy machine could not look up the past in time.
                socket.send(Message::Text(subscribe.clone().into())).await.unwrap();
            }
            all.push_str(&text);
        }
    }
    all
}

async fn shown_to_nobody(cards: Cards, token: &str) {
    let till = CardShop::open(&cards).await;
    let platform = &till.platform;
    let body =
        json!({"store_id": till.shop.store, "amount": {"amount": 100_00, "currency": "THB"}, "tender": "online_card", "card_token": token});
    let created = platform.send(&till.shop.cashier, Method::POST, "/v1/payment-intents", Some("with-a-token"), Some(&body)).await.ok();
    let intent = created.id();
    let path = format!("/v1/payment-intents/{intent}");
    till.becomes(&path, "succeeded").await;
    till.explained(&path, "call_back").await;
    platform.settled().await;
    // It is in the log, where the call that needs it finds it; here is what would have to be masked.
    let stored: Vec<i64> = sqlx::query_scalar("select pos from log.event where convert_from(payload, 'UTF8') like '%' || $1 || '%'")
        .bind(token)
        .fetch_all(&platform.database.admin)
        .await
        .unwrap();
    assert_eq!(stored.len(), 1, "in the one fact that begins the attempt");
    given_out_only_when_asked_for(platform, stored[0], token).await;

    let mut seen = vec![("the answer", created.body.to_string())];
    for ask in ["", "/explain"] {
        seen.push(("the intent", platform.get(&till.shop.manager, &format!("{path}{ask}")).await.ok().body.to_string()));
    }
    for list in ["/v1/payment-intents", "/v1/payments", "/v1/events?limit=200", "/v1/inbound-webhooks", "/v1/idempotency-keys/with-a-token"]
    {
        let token = if list.starts_with("/v1/idem") { &till.shop.cashier } else { &till.shop.admin };
        seen.push((list, platform.get(token, list).await.ok().body.to_string()));
    }
    seen.push(("the socket", frames(&till, &intent, "payment_intent.succeeded").await));
    let head = platform.database.head().await.pos.to_string();
    let file = platform.config.data_dir.join("events.parquet").display().to_string();
    for arguments in [
        &["show", &intent][..],
        &["timeline", &intent],
        &["explain", &intent],
        &["grep", "--type", "payment_intent.*"],
        &["export", "--format", "jsonl", "--out", "-"],
        &["export", "--format", "parquet", "--out", &file],
        &["as-of", &head, "payments"],
    ] {
        seen.push(("replay", said(platform, arguments).await));
        if arguments[0] != "export" {
            seen.push(("replay --json", format!("{:?}", replay(&platform.database, arguments).await.sound().lines)));
        }
    }
    seen.push(("parquet", String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned()));
    for (who, text) in &seen {
        assert!(!text.contains(token), "{who} shows the token: {text}");
    }
    assert!(seen.iter().filter(|(_, text)| text.contains("***")).count() >= 7, "the event itself is shown, masked");
    stands_only_in_the_log(platform, token).await;
    till.closes().await;
}

/// A proof holds the event byte for byte.
async fn given_out_only_when_asked_for(platform: &TestPlatform, position: i64, token: &str) {
    let (key, file) = (platform.config.data_dir.join("auditor.pem"), platform.config.data_dir.join("checkpoint.json"));
    replay(&platform.database, &["checkpoint", "--new-key", key.to_str().unwrap()]).await.sound();
    let signed = replay(&platform.database, &["checkpoint", "--key", key.to_str().unwrap()]).await.sound();
    std::fs::write(&file, signed.lines[0].to_string()).unwrap();
    let (at, checkpoint) = (position.to_string(), file.to_str().unwrap());
    let refused = replay(&platform.database, &["prove", &at, "--checkpoint", checkpoint]).await;
    assert!(refused.code == 2 && refused.lines.is_empty(), "{refused:?}");
    let given = replay(&platform.database, &["prove", &at, "--checkpoint", checkpoint, "--with-card-token"]).await.sound();
    assert!(given.lines[0].to_string().contains(token));
}

/// Once the call was made, no table but the log's knows the token.
async fn stands_only_in_the_log(platform: &TestPlatform, token: &str) {
    eventually("only the log knows the token", Duration::from_secs(10), || async {
        platform.database.tables_with(token).await.iter().all(|table| table.starts_with("log.")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_omise_is_shown_to_nobody() {
    shown_to_nobody(OMISE, "tokn_test_ok_70077").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_stripe_is_shown_to_nobody() {
    shown_to_nobody(STRIPE, "pm_test_onceonlyandnevershown").await;
}
