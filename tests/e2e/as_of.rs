//! What a query says about an earlier moment is what it said at that moment.

use api::{auth::Role, simulated_account::SimulatedAccount, simulated_provider::Simulated};
use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Answered, ApiShop, TestPlatform, order_body};

/// What was asked at a position and answered live.
struct Seen {
    position: i64,
    token: String,
    path: String,
    answer: Answered,
}

/// A generator of the same choices every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Things made so far.
#[derive(Default)]
struct Made {
    orders: Vec<(usize, String)>,
    bills: Vec<(usize, String)>,
    payments: Vec<(usize, String)>,
    refunds: Vec<(usize, String)>,
    accounts: Vec<String>,
    endpoints: Vec<String>,
}

/// One change by chance. Refusals are part of the day.
async fn change(platform: &TestPlatform, shops: &[ApiShop], made: &mut Made, dice: &mut Dice) {
    // Mostly something new, so that much of the day is about what still can change.
    let pick = |things: &[(usize, String)], dice: &mut Dice| {
        let back = usize::try_from(dice.roll(3)).unwrap();
        things.iter().rev().nth(back).or(things.last()).cloned()
    };
    let action = dice.roll(10);
    if action < 2 {
        let at = usize::try_from(dice.roll(2)).unwrap();
        let body = order_body(&shops[at], 10_00 + i64::try_from(dice.roll(90_00)).unwrap());
        made.orders.push((at, platform.post(&shops[at].cashier, "/v1/orders", body).await.id()));
    } else if action == 2 {
        let Some((at, order)) = pick(&made.orders, dice) else { return };
        let line = json!({"item_code": "TEA", "name": "Tea ☕", "quantity_milli": 1500, "unit_price": {"amount": 30_00, "currency": "THB"}, "tax_class": "standard"});
        platform.post(&shops[at].cashier, &format!("/v1/orders/{order}/lines"), line).await;
    } else if action == 3 {
        let Some((at, order)) = pick(&made.orders, dice) else { return };
        platform.post(&shops[at].manager, &format!("/v1/orders/{order}/cancel"), json!({"reason": "left"})).await;
    } else if action < 6 {
        let Some((at, order)) = pick(&made.orders, dice) else { return };
        let bill = platform.post(&shops[at].cashier, "/v1/bills", json!({"order_id": order})).await;
        made.bills.extend(bill.status.is_success().then(|| (at, bill.id())));
    } else if action < 8 {
        let Some((at, bill)) = pick(&made.bills, dice) else { return };
        let payment = platform.post(&shops[at].cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await;
        made.payments.extend(payment.status.is_success().then(|| (at, payment.id())));
    } else {
        let Some((at, payment)) = pick(&made.payments, dice) else { return };
        let body = json!({"payment_id": payment, "destination": "cash", "reason": "cold", "amount": {"amount": 5_00, "currency": "THB"}});
        let refund = platform.post(&shops[at].manager, "/v1/refunds", body).await;
        made.refunds.extend(refund.status.is_success().then(|| (at, refund.id())));
    }
}

/// The merchant has one more account at a provider and one more webhook endpoint, and changes those before. No payment is routed to the
/// accounts, and nothing that the endpoints ask for happens.
async fn arrange(platform: &TestPlatform, shop: &ApiShop, made: &mut Made) {
    if let (Some(account), Some(endpoint)) = (made.accounts.last(), made.endpoints.last()) {
        let priority = json!({"priority": made.accounts.len()});
        let account = format!("/v1/provider-accounts/{account}");
        platform.send(&shop.admin, Method::PATCH, &account, None, Some(&priority)).await.ok();
        platform.post(&shop.admin, &format!("/v1/webhook-endpoints/{endpoint}/disable"), json!({})).await.ok();
    }
    let account = SimulatedAccount::of(Simulated::Scb, "http://127.0.0.1:9").opening();
    made.accounts.push(platform.post(&shop.admin, "/v1/provider-accounts", account).await.id());
    let endpoint = json!({"url": "http://127.0.0.1:9/", "events": "dispute.opened"});
    made.endpoints.push(platform.post(&shop.admin, "/v1/webhook-endpoints", endpoint).await.id());
}

fn paths(made: &Made, shops: &[ApiShop], today: NaiveDate) -> Vec<String> {
    let store = shops[0].store;
    let period = format!("from={}&to={}", today - TimeDelta::days(3), today + TimeDelta::days(3));
    let mut paths: Vec<String> = [
        "orders",
        "orders?status=open",
        "orders?status=completed",
        "bills",
        "bills?status=paid",
        "payments",
        "payment-intents?status=succeeded",
        "refunds",
        "refunds?status=succeeded",
        "stores",
        "merchants",
        "provider-accounts",
        "webhook-endpoints",
        "events?limit=200",
        "events?types=bill.*,webhook_endpoint.*",
    ]
    .iter()
    .map(|path| format!("/v1/{path}"))
    .collect();
    paths.push(format!("/v1/orders?store_id={store}&business_date_from={today}"));
    paths.push(format!("/v1/stores/{store}"));
    paths.push(format!("/v1/merchants/{}", shops[0].merchant));
    for report in ["daily-sales", "daily-items", "daily-tenders"] {
        paths.push(format!("/v1/reports/{report}?{period}"));
        paths.push(format!("/v1/reports/{report}?{period}&store_id={store}"));
    }
    if let Some((_, order)) = made.orders.first() {
        paths.extend([format!("/v1/orders/{order}"), format!("/v1/orders/{order}/timeline"), format!("/v1/bills?order_id={order}")]);
    }
    paths.extend(made.bills.first().map(|(_, bill)| format!("/v1/bills/{bill}")));
    for (_, payment) in made.payments.iter().take(1) {
        paths.extend([format!("/v1/payments/{payment}"), format!("/v1/payment-intents/{}", payment.replace("pay_", "pi_"))]);
    }
    paths.extend(made.refunds.first().map(|(_, refund)| format!("/v1/refunds/{refund}")));
    paths.extend(made.accounts.first().map(|account| format!("/v1/provider-accounts/{account}")));
    paths.extend(made.endpoints.first().map(|endpoint| format!("/v1/webhook-endpoints/{endpoint}")));
    paths
}

fn with_as_of(path: &str, moment: &str) -> String {
    format!("{path}{}as_of={moment}", if path.contains('?') { '&' } else { '?' })
}

/// Everything that can be asked, by everyone who may ask something else, at the position where the log now ends.
async fn look(platform: &TestPlatform, made: &Made, shops: &[ApiShop], tokens: &[String]) -> Vec<Seen> {
    platform.settled().await;
    let position = platform.database.head().await.pos;
    let mut seen = Vec::new();
    let today = platform.database.log().await.last().unwrap().recorded_at.date_naive();
    for path in paths(made, shops, today) {
        for token in tokens {
            let answer = platform.get(token, &path).await;
            seen.push(Seen { position, token: token.clone(), path: path.clone(), answer });
        }
    }
    assert_eq!(platform.database.head().await.pos, position, "nothing went on meanwhile");
    seen
}

fn same(seen: &Seen, then: &Answered) {
    let what = format!("{} as of {}", seen.path, seen.position);
    assert_eq!(then.status, seen.answer.status, "{what}: {then:?}");
    if then.status.is_success() {
        assert_eq!(String::from_utf8_lossy(&then.bytes), String::from_utf8_lossy(&seen.answer.bytes), "{what}");
        assert_eq!(then.header("etag"), seen.answer.header("etag"), "{what}");
        assert_eq!(then.header("smartpos-as-of"), seen.position.to_string(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_as_of_a_position_is_the_live_answer_of_that_position() {
    let platform = TestPlatform::start().await;
    let first = platform.shop().await;
    let shops = [first.clone(), platform.shop_of(first.merchant, "ARI").await];
    platform.shop().await;
    let psp = platform.token(Role::PlatformAdmin, None, None);
    // The administrator reads all that an auditor does, and the endpoints of webhooks.
    let tokens = [first.admin, shops[1].manager.clone(), psp];
    let (mut made, mut dice) = (Made::default(), Dice(42));
    let mut seen = look(&platform, &made, &shops, &tokens).await;
    for _ in 0..5 {
        for _ in 0..9 {
            change(&platform, &shops, &mut made, &mut dice).await;
        }
        arrange(&platform, &shops[0], &mut made).await;
        seen.extend(look(&platform, &made, &shops, &tokens).await);
    }
    assert!(!made.refunds.is_empty() && made.bills.len() > 2, "the day is worth looking at");
    for seen in &seen {
        same(seen, &platform.get(&seen.token, &with_as_of(&seen.path, &seen.position.to_string())).await);
    }
    let changed = |path: &str| {
        let bodies = seen.iter().filter(|seen| seen.path == path && seen.token == tokens[0]).map(|seen| &seen.answer.bytes);
        bodies.collect::<std::collections::HashSet<_>>().len()
    };
    for path in [
        "/v1/orders",
        "/v1/orders?status=open",
        "/v1/bills",
        "/v1/payments",
        "/v1/refunds",
        "/v1/provider-accounts",
        "/v1/webhook-endpoints",
        "/v1/events?limit=200",
        "/v1/events?types=bill.*,webhook_endpoint.*",
    ] {
        assert!(changed(path) > 3, "{path} hardly changed: the comparison says little");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_stands_for_the_last_position_recorded_by_then() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    for amount in 1..=12 {
        platform.billed(&shop, amount * 10_00).await;
    }
    platform.settled().await;
    let log = platform.database.log().await;
    let last_by = |time: DateTime<Utc>| log.iter().rev().find(|event| event.recorded_at <= time).map_or(0, |event| event.pos);
    let mut connection = platform.database.pool(commands::database::Role::App).acquire().await.unwrap();
    for event in &log {
        for offset in [-1, 0, 1] {
            let time = event.recorded_at + TimeDelta::microseconds(offset);
            let found: Option<i64> = sqlx::query_scalar("select log.position_at($1)").bind(time).fetch_one(&mut *connection).await.unwrap();
            assert_eq!(found, Some(last_by(time)), "{time}");
        }
    }
    let middle = &log[log.len() / 2];
    for text in [
        middle.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        middle.recorded_at.with_timezone(&chrono::FixedOffset::east_opt(7 * 3600).unwrap()).to_rfc3339().replace('+', "%2B"),
    ] {
        let then = platform.get(&shop.manager, &format!("/v1/orders?as_of={text}")).await.ok();
        let position = last_by(middle.recorded_at).to_string();
        assert_eq!(then.header("smartpos-as-of"), position, "{text}");
        assert_eq!(then.body, platform.get(&shop.manager, &format!("/v1/orders?as_of={position}")).await.ok().body);
    }
    let before = platform.get(&shop.manager, "/v1/orders?as_of=2001-01-01T00:00:00Z").await.ok();
    assert_eq!((before.body["data"].clone(), before.header("smartpos-as-of")), (json!([]), "0"));
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_past_stay_at_their_moment() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    for amount in 1..=5 {
        platform.post(&shop.cashier, "/v1/orders", order_body(&shop, amount * 10_00)).await.ok();
    }
    platform.settled().await;
    let position = platform.database.head().await.pos;
    let all = platform.get(&shop.cashier, "/v1/orders").await.ok().body["data"].clone();
    for amount in 1..=3 {
        platform.post(&shop.cashier, "/v1/orders", order_body(&shop, amount * 10_00)).await.ok();
    }
    platform.settled().await;
    let (mut pages, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let next = cursor.as_ref().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = platform.get(&shop.cashier, &format!("/v1/orders?limit=2&as_of={position}{next}")).await.ok();
        pages.extend(page.body["data"].as_array().unwrap().clone());
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        for elsewhere in [String::new(), format!("&as_of={}", position - 1)] {
            let refused = platform.get(&shop.cashier, &format!("/v1/orders?limit=2{elsewhere}&cursor={next}")).await;
            assert_eq!((refused.status.as_u16(), &refused.body["code"]), (400, &json!("CursorInvalid")), "{refused:?}");
        }
        cursor = Some(next.to_owned());
    }
    assert_eq!(Value::from(pages), all);
    let live = platform.get(&shop.cashier, "/v1/orders?limit=2").await.ok().body["next_cursor"].as_str().unwrap().to_owned();
    let mixed = platform.get(&shop.cashier, &format!("/v1/orders?limit=2&as_of={position}&cursor={live}")).await;
    assert_eq!(mixed.body["code"], "CursorInvalid", "{mixed:?}");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_tag_of_the_past_names_the_version_of_then() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 10_00)).await.ok();
    let opened: i64 = order.header("smartpos-position").parse().unwrap();
    let path = format!("/v1/orders/{}", order.id());
    platform.post(&shop.manager, &format!("{path}/cancel"), json!({"reason": "left"})).await.ok();
    platform.settled().await;
    let get = async |tag: &str| {
        let request = platform.raw(reqwest::Method::GET, &with_as_of(&path, &opened.to_string()));
        support::patiently_answered(request.bearer_auth(&shop.cashier).header("If-None-Match", tag)).await
    };
    let then = platform.get(&shop.cashier, &with_as_of(&path, &opened.to_string())).await.ok();
    let now = platform.get(&shop.cashier, &path).await.ok();
    assert_eq!((&then.body["status"], &now.body["status"]), (&json!("open"), &json!("cancelled")));
    assert_ne!(then.header("etag"), now.header("etag"));
    let unchanged = get(then.header("etag")).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.header("smartpos-as-of")), (304, opened.to_string().as_str()));
    assert_eq!(get(now.header("etag")).await.status.as_u16(), 200);
    // A write needs the version of now, whatever was read.
    let request = platform.raw(reqwest::Method::POST, &format!("{path}/cancel")).bearer_auth(&shop.manager);
    let request = request.header("If-Match", then.header("etag")).header("Idempotency-Key", "late").json(&json!({"reason": "x"}));
    assert_eq!(support::patiently_answered(request).await.status.as_u16(), 412);
    let before = platform.get(&shop.cashier, &with_as_of(&path, &(opened - 2).to_string())).await;
    assert_eq!((before.status.as_u16(), &before.body["code"]), (404, &json!("OrderNotFound")));
    platform.stop().await;
}
