//! Provider accounts of merchants against simulators of their own: where payments go, who sees what, what happens to call-backs.

use std::time::Duration;

use api::{
    auth::Role,
    simulated_provider::{SimulatorArgs, free_address, run as run_simulator, settings},
};
use domain::ids::{ProviderAccountId, Ulid};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Answered, ApiShop, TestPlatform, answered, eventually, nobody, patiently_answered};
use tokio_util::sync::CancellationToken;

const PATH_SECRET: &str = "of-this-account-only";

async fn started() -> TestPlatform {
    TestPlatform::start_with(|config| config.providers.accounts.hosts = vec!["127.0.0.1".to_owned()]).await
}

/// A bank of the test's own; answers its base URL.
fn bank(platform: &TestPlatform) -> (String, CancellationToken) {
    let (listen, stop) = (free_address().unwrap(), CancellationToken::new());
    let args = SimulatorArgs { seed: 11, ..SimulatorArgs::new(listen, &platform.base) };
    tokio::spawn(run_simulator(args, stop.clone()));
    (format!("http://{listen}"), stop)
}

fn account_body(name: &str, base_url: &str, priority: u16) -> Value {
    let scb = settings(base_url);
    json!({
        "provider": "scb", "name": name, "live": false, "priority": priority,
        "methods": [{"method": "promptpay"}],
        "amounts": [{"currency": "THB", "min": 1, "max": 70_000_000}],
        "settings": {"base_url": base_url, "biller_id": scb.biller_id, "void_profile": true},
        "secrets": {"api_key": scb.api_key.reveal(), "api_secret": scb.api_secret.reveal(), "webhook_path_secret": PATH_SECRET},
    })
}

async fn open(platform: &TestPlatform, shop: &ApiShop, body: Value) -> String {
    platform.post(&shop.admin, "/v1/provider-accounts", body).await.id()
}

async fn ledger_of(bank: &str) -> Value {
    answered(reqwest::Client::new().get(format!("{bank}/sim/ledger"))).await.ok().body
}

async fn pay_at(bank: &str, reference: &str) -> Value {
    let body = json!({"reference": reference, "webhook": "never"});
    answered(reqwest::Client::new().post(format!("{bank}/sim/pay")).json(&body)).await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_of_two_merchants_go_to_their_own_accounts_and_their_secrets_are_nowhere_in_the_clear() {
    let platform = started().await;
    let (one, other) = (platform.shop().await, platform.shop().await);
    let (bank_one, stop_one) = bank(&platform);
    let (bank_other, stop_other) = bank(&platform);
    let account_one = open(&platform, &one, account_body("One", &bank_one, 10)).await;
    let account_other = open(&platform, &other, account_body("Other", &bank_other, 10)).await;
    for (shop, account) in [(&one, &account_one), (&other, &account_other)] {
        let (_, bill) = platform.billed(shop, 107_00).await;
        let (_, intent, _) = platform.started_qr(shop, &bill).await;
        let sql = "select convert_from(payload, 'UTF8')::jsonb from log.event where type = 'payment_intent.attempt_started' order by pos desc limit 1";
        let started: Value = sqlx::query_scalar(sql).fetch_one(&platform.database.admin).await.unwrap();
        assert_eq!(started["provider_account"], json!(account), "{started}");
        assert_eq!(started["payment_intent_id"], json!(intent));
        assert!(started["route"].as_str().unwrap().starts_with("the merchant's scb account, priority 10"), "{started}");
        // It changes nothing, so it needs no key.
        let check = platform.raw(Method::POST, &format!("/v1/provider-accounts/{account}/check")).bearer_auth(&shop.admin);
        let check = patiently_answered(check).await.ok();
        assert_eq!(check.body["outcome"], "answered", "{check:?}");
    }
    // Another merchant's account does not exist.
    assert_eq!(platform.get(&other.admin, &format!("/v1/provider-accounts/{account_one}")).await.status, 404);
    let cashier = platform.post(&one.cashier, "/v1/provider-accounts", account_body("X", &bank_one, 1)).await;
    assert_eq!(cashier.status, 403);
    let shown = platform.get_until(&one.admin, &format!("/v1/provider-accounts/{account_one}"), |_| true).await;
    assert_eq!(shown["secrets"].as_object().unwrap().len(), 3, "{shown}");
    assert!(!shown.to_string().contains(PATH_SECRET) && !shown.to_string().contains("simulated-secret"), "{shown}");
    // Not in any row of any table.
    for secret in [PATH_SECRET, "simulated-secret"] {
        assert_eq!(platform.database.tables_with(secret).await, [""; 0], "{secret}");
    }
    stop_one.cancel();
    stop_other.cancel();
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_cannot_be_reached_gives_way_to_the_next_and_an_unknown_outcome_does_not() {
    let platform = started().await;
    let shop = platform.shop().await;
    let (bank_up, stop) = bank(&platform);
    let nowhere = format!("http://{}", free_address().unwrap());
    let away = open(&platform, &shop, account_body("Away", &nowhere, 1)).await;
    let up = open(&platform, &shop, account_body("Up", &bank_up, 2)).await;
    let (_, bill) = platform.billed(&shop, 107_00).await;
    let (_, intent, _) = platform.started_qr(&shop, &bill).await;
    let sql = "select convert_from(payload, 'UTF8')::jsonb ->> 'provider_account' from log.event
               where type = 'payment_intent.attempt_started' and stream_id = $1 order by pos";
    let id = uuid::Uuid::from_bytes(intent.parse::<domain::ids::PaymentIntentId>().unwrap().0.to_bytes());
    let tried: Vec<String> = sqlx::query_scalar(sql).bind(id).fetch_all(&platform.database.admin).await.unwrap();
    assert_eq!(tried, [away.clone(), up.clone()]);
    // Now the first one answers that nobody knows what it did.
    let change =
        platform.send(&shop.admin, Method::PATCH, &format!("/v1/provider-accounts/{up}"), None, Some(&json!({"priority": 0}))).await;
    change.ok();
    let rules = json!([{"operation": "start", "fault": "http_500", "times": 3}]);
    let faults = answered(reqwest::Client::new().post(format!("{bank_up}/sim/faults")).json(&rules)).await;
    assert!(faults.status.is_success(), "{faults:?}");
    let (_, bill) = platform.billed(&shop, 53_50).await;
    let (_, intent, _) = platform.started_qr(&shop, &bill).await;
    let id = uuid::Uuid::from_bytes(intent.parse::<domain::ids::PaymentIntentId>().unwrap().0.to_bytes());
    let tried: Vec<String> = sqlx::query_scalar(sql).bind(id).fetch_all(&platform.database.admin).await.unwrap();
    assert_eq!(tried, [up], "an unknown outcome stays with its account");
    stop.cancel();
    platform.stop().await;
}

async fn reference_of(platform: &TestPlatform, intent: &str) -> String {
    let sql = "select convert_from(payload, 'UTF8')::jsonb ->> 'reference' from log.event
               where type = 'payment_intent.attempt_started' and stream_id = $1";
    let id = uuid::Uuid::from_bytes(intent.parse::<domain::ids::PaymentIntentId>().unwrap().0.to_bytes());
    sqlx::query_scalar(sql).bind(id).fetch_one(&platform.database.admin).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_payment_goes_back_through_the_merchants_own_account() {
    let platform = started().await;
    let shop = platform.shop().await;
    let (bank, stop) = bank(&platform);
    open(&platform, &shop, account_body("Own", &bank, 1)).await;
    let (_, bill) = platform.billed(&shop, 107_00).await;
    let (_, intent, _) = platform.started_qr(&shop, &bill).await;
    let (path, reference) = (format!("/v1/payment-intents/{intent}"), reference_of(&platform, &intent).await);
    pay_at(&bank, &reference).await;
    let second = pay_at(&bank, &reference).await["transaction_id"].as_str().unwrap().to_owned();
    let parked = platform.get_until(&shop.cashier, &path, |intent| intent["unmatched"][0].is_object()).await;
    let transaction = parked["unmatched"][0]["transaction_id"].as_str().unwrap().to_owned();
    assert!(!second.is_empty());
    let body = json!({"decision": "refund", "reason": "paid twice"});
    platform.post(&shop.manager, &format!("{path}/unmatched/{transaction}/resolve"), body).await.ok();
    platform.get_until(&shop.cashier, &path, |intent| intent["unmatched"][0]["resolution"] == "refunded").await;
    let ledger = ledger_of(&bank).await;
    let reversed = ledger["payments"].as_array().unwrap().iter().filter(|payment| payment["reversed"] == true);
    assert_eq!(reversed.map(|payment| payment["transaction_id"].clone()).collect::<Vec<_>>(), [json!(transaction)]);
    assert!(platform.ledger().await["payments"].as_array().unwrap().is_empty(), "the platform's own account was not spoken to");
    stop.cancel();
    platform.proves_itself().await;
    platform.stop().await;
}

fn call_back(reference: &str, transaction: &str) -> Value {
    json!({"transactionId": transaction, "billPaymentRef1": reference, "payeeProxyId": settings("http://127.0.0.1:1").biller_id,
        "amount": "107.00", "currencyCode": "764"})
}

/// As the provider sends it: what was not taken is sent again.
async fn sent(platform: &TestPlatform, secret: &str, body: &Value) -> Answered {
    loop {
        let answer = answered(platform.raw(Method::POST, &format!("/webhooks/scb/{secret}")).json(body)).await;
        if answer.status != StatusCode::SERVICE_UNAVAILABLE {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_storm_of_call_backs_each_is_stored_once_and_the_badly_signed_have_no_effect() {
    let platform = started().await;
    let admin = platform.token(Role::PlatformAdmin, None, None);
    let secret = settings("http://127.0.0.1:1").webhook_path_secret;
    let mut sends: Vec<(String, Value)> = Vec::new();
    for n in 0..1_000_usize {
        let path = if n % 100 == 7 { "a-wrong-secret".to_owned() } else { secret.reveal().to_owned() };
        let body = call_back(&format!("NOBODY{n:014}"), &format!("T{n}"));
        sends.extend(std::iter::repeat_n((path, body), 1 + n % 5));
    }
    // Shuffled the same way every time: by a stride that has no common factor with the length.
    let count = sends.len();
    let stride = (1_009..100_000)
        .find(|stride: &usize| (1..=count).filter(|d| stride.is_multiple_of(*d) && count.is_multiple_of(*d)).max() == Some(1))
        .unwrap();
    let order: Vec<usize> = (0..count).map(|n| n * stride % count).collect();
    for chunk in order.chunks(32) {
        let posts = chunk.iter().map(|n| {
            let (path, body) = &sends[*n];
            sent(&platform, path, body)
        });
        for (n, answer) in chunk.iter().zip(futures_util::future::join_all(posts).await) {
            let expected = if sends[*n].0 == "a-wrong-secret" { 401 } else { 200 };
            assert_eq!(answer.status, expected, "{answer:?}");
        }
    }
    let parked = eventually("all are parked", Duration::from_secs(60), || async {
        let sql = "select count(*), sum(deliveries)::bigint from process.webhook where state = 'parked'";
        let row: (i64, i64) = sqlx::query_as(sql).fetch_one(&platform.database.admin).await.ok()?;
        (row.0 == 990).then_some(row)
    })
    .await;
    let good = sends.iter().filter(|(path, _)| path != "a-wrong-secret").count();
    // One that was stored, and not answered in time, was sent again.
    assert!(parked.0 == 990 && parked.1 >= i64::try_from(good).unwrap(), "{parked:?} of {good}");
    let tasks: i64 = sqlx::query_scalar("select count(*) from process.task").fetch_one(&platform.database.admin).await.unwrap();
    assert_eq!(tasks, 0, "nothing is left to do");
    let events: i64 = sqlx::query_scalar("select count(*) from log.event").fetch_one(&platform.database.admin).await.unwrap();
    assert_eq!(events, 0, "a call-back by itself is no fact");
    let refused = platform.get(&admin, "/v1/inbound-webhooks?state=refused").await.ok();
    assert_eq!(refused.body["data"][0]["signature"], "bad", "{refused:?}");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_back_that_came_too_early_is_parked_and_counts_once_its_payment_is_known() {
    let platform = started().await;
    let shop = platform.shop().await;
    let (bank, stop) = bank(&platform);
    let account = open(&platform, &shop, account_body("One", &bank, 10)).await;
    let (_, bill) = platform.billed(&shop, 107_00).await;
    let (_, intent, reference) = platform.started_qr(&shop, &bill).await;
    // As if nobody had heard of the reference yet.
    let take = "delete from process.provider_reference where reference = $1 returning provider, reference, tenant, attempt";
    let (provider, _, tenant, attempt): (String, String, uuid::Uuid, Value) =
        sqlx::query_as(take).bind(&reference).fetch_one(&platform.database.admin).await.unwrap();
    assert_eq!(provider, account);
    let paid = pay_at(&bank, &reference).await;
    let transaction = paid["transaction_id"].as_str().unwrap_or_else(|| panic!("{paid}")).to_owned();
    let path = format!("/webhooks/scb/accounts/{account}");
    let wrong =
        patiently_answered(platform.raw(Method::POST, &format!("{path}/of-another-account-x")).json(&call_back(&reference, &transaction)))
            .await;
    assert_eq!(wrong.status, 401);
    let taken = patiently_answered(platform.raw(Method::POST, &format!("{path}/{PATH_SECRET}")).json(&call_back(&reference, &transaction)))
        .await
        .ok();
    assert_eq!(taken.body["resCode"], "00");
    let list = "/v1/inbound-webhooks?state=parked";
    let parked = platform.get_until(&shop.admin, list, |page| page["data"].as_array().is_some_and(|rows| rows.len() == 1)).await;
    assert_eq!(parked["data"][0]["reference"], json!(reference));
    assert_eq!(platform.get(&shop.cashier, list).await.status, 403);
    let again = "insert into process.provider_reference (provider, reference, tenant, attempt) values ($1, $2, $3, $4)";
    sqlx::query(again).bind(&provider).bind(&reference).bind(tenant).bind(&attempt).execute(&platform.database.admin).await.unwrap();
    platform
        .get_until(&shop.admin, "/v1/inbound-webhooks?state=done", |page| page["data"].as_array().is_some_and(|rows| rows.len() == 1))
        .await;
    platform.get_until(&shop.cashier, &format!("/v1/payment-intents/{intent}"), |intent| intent["status"] == "succeeded").await;
    assert!(ledger_of(&bank).await.to_string().contains(&transaction));
    stop.cancel();
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_call_backs_of_a_range_are_looked_into_again_and_who_wanted_it_is_kept() {
    let platform = started().await;
    let admin = platform.token(Role::PlatformAdmin, None, None);
    let secret = settings("http://127.0.0.1:1").webhook_path_secret;
    let path = format!("/webhooks/scb/{}", secret.reveal());
    for n in 0..5 {
        let body = call_back(&format!("NOBODY{n:014}"), &format!("RANGE{n}"));
        patiently_answered(platform.raw(Method::POST, &path).json(&body)).await.ok();
    }
    let all = |page: &Value| page["data"].as_array().is_some_and(|rows| rows.len() == 5);
    let list = "/v1/inbound-webhooks?state=parked";
    let parked = platform.get_until(&admin, list, all).await;
    // Newest first.
    let place = |at: usize| parked["data"][at]["position"].as_i64().unwrap();
    let again = async |body: Value| platform.post(&admin, "/v1/inbound-webhooks/reprocess", body).await;
    for (more, taken) in [
        (json!({"provider": "kbank"}), 0),
        (json!({"to": "2020-01-01T00:00:00Z"}), 0),
        (json!({"from": parked["data"][4]["received_at"], "provider": "scb", "from_position": place(3), "to_position": place(1)}), 3),
    ] {
        let mut body = json!({"state": "parked"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = again(body).await.ok().body;
        assert_eq!(answer, json!({"reprocessed": taken, "left": 0, "next_cursor": null}), "{more}");
    }
    let backwards = again(json!({"state": "parked", "from_position": 2, "to_position": 1})).await;
    assert_eq!(backwards.status, 422, "{backwards:?}");
    let unheld = again(json!({"state": "parked", "from": "-9999-01-01T00:00:00Z"})).await;
    assert_eq!((unheld.status.as_u16(), &unheld.body["code"]), (400, &json!("BodyInvalid")), "no database holds it: {unheld:?}");
    assert!(unheld.body["detail"].as_str().unwrap().starts_with("from: "), "{unheld:?}");
    // Nobody knows the names still: they are parked once more, and say who asked.
    let parked = platform.get_until(&admin, list, all).await;
    let asked: Vec<usize> = (0..5).map(|at| parked["data"][at]["reprocesses"].as_array().unwrap().len()).collect();
    assert_eq!(asked, [0, 1, 1, 1, 0]);
    let note = &parked["data"][1]["reprocesses"][0];
    assert_eq!(note["taken"], true);
    assert!(note["by"].as_str().unwrap().starts_with("user:") && note["at"].is_string(), "{note}");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_back_that_nobody_can_look_into_any_more_stands_in_no_others_way() {
    let platform = started().await;
    let admin = platform.token(Role::PlatformAdmin, None, None);
    let secret = settings("http://127.0.0.1:1").webhook_path_secret;
    for n in 0..3 {
        let body = call_back(&format!("NOBODY{n:014}"), &format!("GONE{n}"));
        patiently_answered(platform.raw(Method::POST, &format!("/webhooks/scb/{}", secret.reveal())).json(&body)).await.ok();
    }
    let all = |page: &Value| page["data"].as_array().is_some_and(|rows| rows.len() == 3);
    platform.get_until(&admin, "/v1/inbound-webhooks?state=parked", all).await;
    // As if the platform had no account at that provider any more.
    let gone = "update process.webhook set account = 'gone' where delivery_id = 'GONE1'";
    assert_eq!(sqlx::query(gone).execute(&platform.database.admin).await.unwrap().rows_affected(), 1);
    let answer = platform.post(&admin, "/v1/inbound-webhooks/reprocess", json!({"state": "parked"})).await.ok().body;
    assert_eq!(answer, json!({"reprocessed": 2, "left": 1, "next_cursor": null}), "the one before it and the one behind it are taken");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_for_accounts_that_nobody_has_keeps_one_connection_busy_and_a_new_account_is_known_at_once() {
    let platform = TestPlatform::start_with(|config| config.http.query_connections = 4).await;
    let shop = platform.shop().await;
    platform.settled().await;
    // Whoever looks for an account waits for this lock.
    let mut hold = platform.database.admin.begin().await.unwrap();
    sqlx::query("lock table log.stream_head in access exclusive mode").execute(&mut *hold).await.unwrap();
    let at_the_door = |account: ProviderAccountId| {
        platform.raw(Method::POST, &format!("/webhooks/scb/accounts/{account}/a-wrong-secret")).json(&json!({}))
    };
    let nobodys = (1..=32).map(|n: u8| ProviderAccountId(Ulid::from_bytes([n; 16])));
    let looking = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
                   and query like '%provider_account_owner%'";
    let count = || sqlx::query_scalar::<_, i64>(looking).fetch_one(&platform.database.admin);
    let meanwhile = async {
        eventually("one looks", Duration::from_secs(10), || async { (count().await.unwrap() > 0).then_some(()) }).await;
        // Time for the others to come.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let busy = count().await.unwrap();
        platform.get(&shop.cashier, "/v1/orders").await.ok();
        hold.rollback().await.unwrap();
        busy
    };
    let (refused, busy) = tokio::join!(futures_util::future::join_all(nobodys.map(|account| answered(at_the_door(account)))), meanwhile);
    // A look that takes too long is given up, and the next one begins beside it.
    assert!(busy <= 2, "{busy} connections look for accounts");
    assert!(refused.iter().all(|answer| [404, 503].contains(&answer.status.as_u16())), "{refused:?}");
    let opened: ProviderAccountId = open(&platform, &shop, account_body("New", "http://127.0.0.1:1", 10)).await.parse().unwrap();
    assert_eq!(patiently_answered(at_the_door(opened)).await.status, 401, "there is such a door, and the secret is wrong");
    assert_eq!(patiently_answered(at_the_door(nobody())).await.status, 404);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_back_that_proved_its_sender_and_cannot_be_read_is_kept_whole_and_read_once_somebody_can() {
    let platform = started().await;
    let admin = platform.token(Role::PlatformAdmin, None, None);
    let secret = settings("http://127.0.0.1:1").webhook_path_secret;
    // Longer than what is kept of a refused one, and as long as the bank's may be read.
    let body = format!("{{\"transactionId\":{}", " ".repeat(20_000));
    let send = async |path: &str| {
        let path = format!("/webhooks/scb/{path}");
        patiently_answered(platform.raw(Method::POST, &path).header("content-type", "application/json").body(body.clone())).await
    };
    for _ in 0..2 {
        let answer = send(secret.reveal()).await;
        assert_eq!((answer.status.as_u16(), &answer.body["code"]), (400, &json!("WebhookMalformed")), "the bank comes again: {answer:?}");
    }
    assert_eq!(send("a-wrong-secret").await.status, 401);
    let list = "/v1/inbound-webhooks?state=parked";
    let parked = platform.get(&admin, list).await.ok().body;
    let [kept] = parked["data"].as_array().unwrap().as_slice() else { panic!("one, however often it came: {parked}") };
    assert_eq!((&kept["signature"], &kept["bytes"]), (&json!("ok"), &json!(body.len())), "{kept}");
    assert!(kept["deliveries"].as_i64() >= Some(2), "{kept}");
    assert!(kept["problem"].as_str().unwrap().starts_with("malformed: "), "{kept}");
    let path = format!("/v1/inbound-webhooks/{}/reprocess", kept["id"].as_str().unwrap());
    let again = async || platform.send(&admin, Method::POST, &path, Some("again"), None).await;
    assert_eq!(again().await.status, 401, "it cannot be read yet");
    // As if a later build could read it: what it says is what it would have said. The secret path is not there any more, nor needed.
    let readable = call_back("NOBODY00000000000099", "UNREAD1").to_string();
    let change = "update process.webhook set body = $1 where state = 'parked'";
    sqlx::query(change).bind(readable.as_bytes()).execute(&platform.database.admin).await.unwrap();
    let taken = again().await.ok().body;
    assert_eq!((&taken["reference"], &taken["problem"]), (&json!("NOBODY00000000000099"), &Value::Null), "{taken}");
    let known = |page: &Value| page["data"].as_array().is_some_and(|rows| rows.len() == 1);
    let parked = platform.get_until(&admin, list, known).await;
    let notes: Vec<bool> = parked["data"][0]["reprocesses"].as_array().unwrap().iter().map(|note| note["taken"] == true).collect();
    assert_eq!((notes, &parked["data"][0]["delivery_id"]), (vec![false, true], &json!("UNREAD1")), "as any other that names nobody");
    platform.stop().await;
}
