//! A settlement list that is handed in as a whole: what it resolves, what it leaves alone, and who may hand it in.

use std::time::Duration;

use api::{auth::Role, simulated_provider::Simulated};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use domain::ids::ProviderAccountId;
use reqwest::Method;
use serde_json::{Value, json};
use support::{Answered, ApiShop, ProviderAt, TestPlatform, eventually, nobody, patiently_answered, reconcile, settlement_list};

use crate::cards::{OWED, thb};

struct Desk {
    platform: TestPlatform,
    shop: ApiShop,
    at: ProviderAt,
    /// `manager` of the whole merchant.
    manager: String,
}

/// A payment whose code waits: the bill's path, the intent's, and our reference.
struct Waiting {
    bill: String,
    intent: String,
    reference: Value,
}

impl Desk {
    async fn open() -> Self {
        let platform = TestPlatform::start().await;
        let shop = platform.shop().await;
        let at = platform.provider(&shop, Simulated::Scb).await;
        let manager = platform.token(Role::Manager, Some(shop.merchant), None);
        Self { platform, shop, at, manager }
    }

    async fn waiting(&self) -> Waiting {
        let (_, bill) = self.platform.billed(&self.shop, OWED).await;
        let pay = json!({"bill_id": bill, "tender": "promptpay"});
        let payment = self.platform.post(&self.shop.cashier, "/v1/payments", pay).await.ok().body;
        let intent = format!("/v1/payment-intents/{}", payment["payment_intent_id"].as_str().unwrap());
        let shown = self.platform.get_until(&self.shop.cashier, &intent, |intent| intent["status"] == "requires_action").await;
        Waiting { bill: format!("/v1/bills/{bill}"), intent, reference: shown["reference"].clone() }
    }

    /// So many payments that are left to people, of which the provider got the money of the first `paid` and does not tell.
    async fn left_to_people(&self, count: usize, paid: usize) -> Vec<Waiting> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.waiting().await);
        }
        self.at.lever("faults", json!([{"operation": "inquire", "fault": "http_500", "times": 1_000_000}])).await;
        for waiting in &all[..paid] {
            self.at.lever("pay", json!({"reference": waiting.reference, "webhook": "never"})).await;
        }
        let over = "update process.task set due_at = now(), task = jsonb_set(task, '{expires_at}', to_jsonb(now() - interval '2 hours'))
                    where key like 'watch:%'";
        // A watch that is under way in this very moment is written back as it was.
        eventually("people are told", Duration::from_secs(60), || async {
            sqlx::query(over).execute(&self.platform.database.admin).await.unwrap();
            for waiting in &all {
                (self.shown(&waiting.intent).await["outcome"]["step"] == "person").then_some(())?;
            }
            Some(())
        })
        .await;
        all
    }

    async fn shown(&self, path: &str) -> Value {
        self.platform.get(&self.shop.cashier, path).await.ok().body
    }

    async fn succeeded(&self, waiting: &Waiting) -> Value {
        self.platform.get_until(&self.shop.cashier, &waiting.intent, |intent| intent["status"] == "succeeded").await
    }

    async fn is_left(&self, waiting: &Waiting) {
        let shown = self.shown(&waiting.intent).await;
        assert_eq!((&shown["status"], &shown["needs_attention"]), (&json!("requires_action"), &json!(true)), "{shown}");
    }

    /// Hands in a list of the days around now.
    async fn hand_in(&self, token: &str, list: &str) -> Answered {
        self.hand_in_of(token, &self.at.account, list).await
    }

    async fn hand_in_of(&self, token: &str, account: &str, list: &str) -> Answered {
        let path = format!("/v1/provider-accounts/{account}/settlement-lists?{}", period(self.platform.now()));
        let request = self.platform.raw(Method::POST, &path).bearer_auth(token).header("content-type", "text/csv");
        patiently_answered(request.body(list.to_owned())).await
    }

    /// Where the log ends, once nothing is under way.
    async fn head(&self) -> i64 {
        self.platform.settled().await;
        self.platform.database.head().await.pos
    }
}

/// The day before and the day after a moment, as parameters.
fn period(now: DateTime<Utc>) -> String {
    let day = |days: i64| (now + TimeDelta::days(days)).to_rfc3339_opts(SecondsFormat::Secs, true);
    format!("from={}&to={}", day(-1), day(1))
}

/// What became of each difference: word, intent, outcome.
fn told(answer: &Answered) -> Vec<[&Value; 3]> {
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    let differences = answer.body["differences"].as_array().unwrap();
    differences.iter().map(|one| [&one["difference"], &one["payment_intent"]["id"], &one["resolution"]["outcome"]]).collect()
}

fn refusal(answer: &Answered) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default())
}

impl Waiting {
    fn id(&self) -> Value {
        json!(self.intent.trim_start_matches("/v1/payment-intents/"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_resolves_exactly_the_intents_that_it_shows_and_twice_changes_nothing_more() {
    let desk = Desk::open().await;
    let (platform, shop) = (&desk.platform, &desk.shop);
    let all = desk.left_to_people(3, 2).await;
    let [first, second, short] = &all[..] else { panic!("three") };
    let provider_list = settlement_list(&desk.at.base).await;
    // Less than what is owed is no statement line of it.
    let list = format!("{provider_list}SHORT,{},payment,THB,99.99,,,2026-05-01T10:00:00Z\n", short.reference.as_str().unwrap());
    let (missing, resolved) = (json!("missing_here"), json!("resolved"));
    let answer = desk.hand_in(&desk.manager, &list).await;
    let expected = [(first, &resolved), (second, &resolved), (short, &Value::Null)].map(|(waiting, outcome)| (waiting.id(), outcome));
    assert_eq!(told(&answer), expected.each_ref().map(|(id, outcome)| [&missing, id, *outcome]), "{answer:?}");
    let counts = |answer: &Answered| ["matched", "resolved", "refused", "left"].map(|name| answer.body[name].as_u64().unwrap());
    assert_eq!(counts(&answer), [0, 2, 0, 0]);
    let sum = json!({"side": "list", "kind": "payment", "rows": 3, "gross": thb(2 * OWED + 99_99)});
    assert_eq!(answer.body["sums"], json!([sum]));
    assert!(!answer.header("smartpos-position").is_empty());
    for waiting in [first, second] {
        let shown = desk.succeeded(waiting).await;
        assert_eq!((&shown["captured"], &shown["needs_attention"]), (&thb(OWED), &json!(false)), "{shown}");
        platform.get_until(&shop.cashier, &waiting.bill, |bill| bill["status"] == "paid").await;
    }
    desk.is_left(short).await;
    // The log names the list and the line.
    let explained = desk.shown(&format!("{}/explain", first.intent)).await.to_string();
    let statement = format!("settlement list {}, line 2", answer.body["list_sha256"].as_str().unwrap());
    assert!(explained.contains(&statement) && explained.contains("/settlement-lists"), "{explained}");

    let head = desk.head().await;
    let again = desk.hand_in(&desk.manager, &list).await;
    assert_eq!(told(&again), [[&missing, &short.id(), &Value::Null]]);
    assert_eq!((counts(&again), again.header("smartpos-position")), ([2, 0, 0, 0], ""));
    assert_eq!(desk.head().await, head, "the same list changes nothing more");
    assert_eq!(reconcile(&platform.database, &desk.at.account, &provider_list).await.sound().matched(), 2);
    desk.at.agrees_with(platform, shop).await;
    platform.proves_itself().await;
    desk.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_on_where_it_stopped_and_two_at_the_same_moment_resolve_once() {
    let desk = Desk::open().await;
    let all = desk.left_to_people(3, 3).await;
    let list = settlement_list(&desk.at.base).await;
    // As far as it came before the caller lost sight of it.
    let begun: String = list.split_inclusive('\n').take(2).collect();
    assert_eq!(told(&desk.hand_in(&desk.manager, &begun).await), [[&json!("missing_here"), &all[0].id(), &json!("resolved")]]);
    desk.platform.settled().await;
    let (one, other) = tokio::join!(desk.hand_in(&desk.manager, &list), desk.hand_in(&desk.manager, &list));
    for answer in [&one, &other] {
        assert!(told(answer).iter().all(|[_, _, outcome]| *outcome == "resolved"), "{answer:?}");
        assert_eq!((&answer.body["refused"], &answer.body["left"]), (&json!(0), &json!(0)));
        assert_eq!(told(answer).len() as u64 + answer.body["matched"].as_u64().unwrap(), 3, "{answer:?}");
    }
    desk.platform.settled().await;
    for waiting in &all {
        let shown = desk.succeeded(waiting).await;
        assert_eq!((&shown["captured"], &shown["unmatched"]), (&thb(OWED), &json!([])), "{shown}");
    }
    let sql = "select count(*) from log.event where type = 'payment_intent.resolved_by_person'";
    let findings: i64 = sqlx::query_scalar(sql).fetch_one(&desk.platform.database.admin).await.unwrap();
    assert_eq!(findings, 3);
    desk.platform.proves_itself().await;
    desk.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_resolve_hands_in_nothing_and_what_is_out_of_reach_is_not_found() {
    let desk = Desk::open().await;
    let (platform, shop) = (&desk.platform, &desk.shop);
    let all = desk.left_to_people(1, 1).await;
    let list = settlement_list(&desk.at.base).await;
    let (stranger, head) = (platform.shop().await, desk.head().await);
    let auditor = platform.token(Role::Auditor, Some(shop.merchant), None);
    for token in [&shop.cashier, &auditor] {
        assert_eq!(refusal(&desk.hand_in(token, &list).await), (403, "Forbidden"));
    }
    // Neither another merchant's, nor, with the token of one store, what all of them share, nor what nobody has.
    for token in [&stranger.admin, &shop.manager] {
        assert_eq!(refusal(&desk.hand_in(token, &list).await), (404, "ProviderAccountNotFound"));
    }
    let nobodys = nobody::<ProviderAccountId>().to_string();
    assert_eq!(refusal(&desk.hand_in_of(&desk.manager, &nobodys, &list).await), (404, "ProviderAccountNotFound"));
    assert_eq!(desk.head().await, head, "nothing was stored");
    // To another account the very list says nothing: neither to a stranger's, nor to that of the store.
    let strangers = platform.provider(&stranger, Simulated::Scb).await;
    let of_store = platform.provider_with(shop, Simulated::Scb, |body| body["store_id"] = json!(shop.store)).await;
    for (token, account) in [(&stranger.admin, &strangers.account), (&shop.manager, &of_store.account)] {
        let answer = desk.hand_in_of(token, account, &list).await;
        assert_eq!(told(&answer), [[&json!("missing_here"), &Value::Null, &Value::Null]], "{answer:?}");
    }
    desk.is_left(&all[0]).await;
    assert_eq!(told(&desk.hand_in(&shop.admin, &list).await), [[&json!("missing_here"), &all[0].id(), &json!("resolved")]]);
    desk.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_refuses_the_whole_list_and_changes_nothing() {
    let desk = Desk::open().await;
    let all = desk.left_to_people(1, 1).await;
    let (list, head) = (settlement_list(&desk.at.base).await, desk.head().await);
    let bad = format!("{list}T2,,payment,THB,1e3,,,2026-05-01T10:00:00Z\nT3,,payment,THB,1.00,,,today\n");
    let answer = desk.hand_in(&desk.manager, &bad).await;
    assert_eq!(refusal(&answer), (422, "SettlementListInvalid"), "{answer:?}");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.starts_with("line 3: gross: ") && detail.contains("line 4: at: "), "{detail}");
    let card = desk.hand_in(&desk.manager, &format!("{list}T2,,payment,THB,4111111111111111x,,,2026-05-01T10:00:00Z\n")).await;
    assert_eq!(refusal(&card), (422, "SettlementListInvalid"));
    assert!(!String::from_utf8_lossy(&card.bytes).contains("4111"), "{card:?}");
    assert_eq!(refusal(&desk.hand_in(&desk.manager, "id,amount\n1,2\n").await), (422, "SettlementListInvalid"));
    assert_eq!(desk.head().await, head, "nothing was stored");
    desk.is_left(&all[0]).await;
    // The sound part by itself is another list.
    assert_eq!(told(&desk.hand_in(&desk.manager, &list).await).len(), 1);
    desk.succeeded(&all[0]).await;
    desk.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_under_a_name_that_the_log_does_not_take_is_refused_by_itself() {
    let desk = Desk::open().await;
    let all = desk.left_to_people(3, 1).await;
    let line = |name: &str, waiting: &Waiting| {
        format!("{name},{},payment,THB,100.00,,,2026-05-01T10:00:00Z\n", waiting.reference.as_str().unwrap())
    };
    let sound = settlement_list(&desk.at.base).await;
    let list = format!("{sound}{}{}", line("4111111111111111", &all[1]), line(&"T".repeat(65), &all[2]));
    let answer = desk.hand_in(&desk.manager, &list).await;
    let codes: Vec<&Value> = answer.body["differences"].as_array().unwrap().iter().map(|one| &one["resolution"]["code"]).collect();
    assert_eq!(codes, [&Value::Null, &json!("CardNumberRefused"), &json!("RuleBroken")], "{answer:?}");
    assert_eq!((&answer.body["resolved"], &answer.body["refused"]), (&json!(1), &json!(2)));
    assert!(!String::from_utf8_lossy(&answer.bytes).contains("4111111111111111"));
    desk.succeeded(&all[0]).await;
    desk.platform.settled().await;
    for waiting in &all[1..] {
        desk.is_left(waiting).await;
    }
    assert_eq!(desk.platform.database.tables_with("4111111111111111").await, [""; 0]);
    desk.platform.stop().await;
}
