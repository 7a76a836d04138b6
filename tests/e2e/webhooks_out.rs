//! Webhooks to merchants: delivered whatever the receiver does, equal to the feed, signed, repeated, disabled.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use api::platform::ProcessRole;
use domain::ids::{EventId, Ulid};
use gateway::outbound::{Secret, signature::Signed};
use reqwest::Method;
use serde_json::{Value, json};
use support::{ApiShop, Process, Received, Receiver, Reply, TestPlatform, eventually, nobody};

const LIMIT: Duration = Duration::from_secs(30);

async fn endpoint(platform: &TestPlatform, shop: &ApiShop, url: &str, events: &str) -> (String, String) {
    let created = platform.post(&shop.admin, "/v1/webhook-endpoints", json!({"url": url, "events": events})).await.ok();
    (created.id(), created.body["secret"].as_str().expect("a secret").to_owned())
}

/// A bill paid in cash.
async fn sale(platform: &TestPlatform, shop: &ApiShop) {
    let (_, bill) = platform.billed(shop, 100_00).await;
    platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.ok();
}

/// The whole feed, in pages of seven.
async fn feed(platform: &TestPlatform, shop: &ApiShop) -> Vec<Value> {
    platform.settled().await;
    let (mut after, mut all) = (0, Vec::new());
    loop {
        let page = platform.get(&shop.admin, &format!("/v1/events?after={after}&limit=7")).await.ok().body;
        all.extend(page["data"].as_array().unwrap().iter().cloned());
        after = page["next_after"].as_i64().unwrap();
        if page["has_more"] == false {
            return all;
        }
    }
}

fn signed_by(secret: &str, received: &Received) -> bool {
    let message = Signed {
        id: received.header("webhook-id"),
        timestamp: received.header("webhook-timestamp"),
        signatures: received.header("webhook-signature"),
        body_hash: Some(received.header("smartpos-body-sha256")),
        body: &received.body,
    };
    Secret::parse(secret).unwrap().verify(message, received.header("webhook-timestamp").parse().unwrap()).is_ok()
}

async fn taken(receiver: &Receiver, wanted: &BTreeSet<String>) -> Vec<Received> {
    eventually("everything is delivered", LIMIT, || async {
        let taken: Vec<Received> = receiver.received().into_iter().filter(Received::taken).collect();
        let ids: BTreeSet<String> = taken.iter().map(|received| received.header("webhook-id").to_owned()).collect();
        (ids == *wanted).then_some(taken)
    })
    .await
}

/// How many attempts are noted as taken: those whose answer came.
async fn noted(platform: &TestPlatform) -> usize {
    let sql = "select count(*) from process.webhook_attempt where status between 200 and 299";
    let noted: i64 = sqlx::query_scalar(sql).fetch_one(&platform.database.admin).await.unwrap();
    usize::try_from(noted).unwrap()
}

/// Waits until nothing is left to deliver.
async fn delivered(platform: &TestPlatform) {
    eventually("nothing is left to deliver", LIMIT, || async {
        let sql = "select count(*) from process.webhook_delivery where due_at is not null";
        let left: i64 = sqlx::query_scalar(sql).fetch_one(&platform.database.admin).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
}

fn ids(events: &[Value]) -> BTreeSet<String> {
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_taken_once_and_equals_the_feed_whatever_the_receiver_does() {
    let platform = TestPlatform::start().await;
    let (shop, other) = (platform.shop().await, platform.shop().await);
    let receiver = Receiver::start().await;
    let (_, secret) = endpoint(&platform, &shop, &receiver.url, "*").await;
    receiver.then([Reply::Status(500), Reply::Cut, Reply::Status(302), Reply::Status(404), Reply::Cut, Reply::Later(503, 1)]);
    for _ in 0..4 {
        sale(&platform, &shop).await;
    }
    sale(&platform, &other).await;
    let events = feed(&platform, &shop).await;
    assert!(events.iter().any(|event| event["type"] == "order.completed"), "{events:?}");
    // All but the creation of the endpoint itself, which was before its first delivery.
    let told: Vec<Value> = events.iter().filter(|event| event["type"] != "webhook_endpoint.created").cloned().collect();
    let received = taken(&receiver, &ids(&told)).await;
    // Whose answer was lost comes again; what was heard to be taken does not.
    eventually("each is noted as taken once", LIMIT, || async { (noted(&platform).await == told.len()).then_some(()) }).await;
    let told: BTreeMap<&str, &Value> = told.iter().map(|event| (event["id"].as_str().unwrap(), event)).collect();
    for one in &received {
        assert_eq!(&one.json(), told[one.header("webhook-id")]);
        assert_eq!(one.header("smartpos-sequence"), one.json()["sequence"].to_string());
        assert!(signed_by(&secret, one));
    }
    assert!(receiver.received().len() >= received.len() + 6, "what was refused came again");
    // Positions rise; of each thing the sequence has no gap and is the version of what is shown.
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    let mut position = 0;
    for event in &events {
        assert!(event["position"].as_i64().unwrap() > position);
        position = event["position"].as_i64().unwrap();
        let sequence = last.entry(event["object"]["id"].as_str().unwrap().to_owned()).or_default();
        *sequence += 1;
        assert_eq!(event["sequence"], *sequence, "{event}");
        assert_eq!((&event["data"]["version"], &event["data"]["id"]), (&event["sequence"], &event["object"]["id"]));
    }
    // Another merchant's feed holds none of it.
    assert!(ids(&feed(&platform, &other).await).is_disjoint(&ids(&events)));
    let path = format!("/v1/events/{}", events[0]["id"].as_str().unwrap());
    assert_eq!(platform.get(&shop.admin, &path).await.ok().body, events[0]);
    assert_eq!(platform.get(&other.admin, &path).await.status, 404);
    assert_eq!(platform.get(&shop.cashier, "/v1/events").await.status, 403);
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_explains_what_its_merchant_was_told() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let receiver = Receiver::start().await;
    let (endpoint, _) = endpoint(&platform, &shop, &receiver.url, "payment_intent.succeeded").await;
    receiver.then([Reply::Status(500)]);
    sale(&platform, &shop).await;
    let events = feed(&platform, &shop).await;
    let told = events.iter().find(|event| event["type"] == "payment_intent.succeeded").expect("it was paid");
    let path = format!("/v1/payment-intents/{}/explain", told["object"]["id"].as_str().unwrap());
    let lines = eventually("the second attempt is among the lines", LIMIT, || async {
        let lines = platform.get(&shop.admin, &path).await.ok().body["data"].as_array().unwrap().clone();
        let deliveries: Vec<Value> = lines.into_iter().filter(|line| line["kind"] == "delivery").collect();
        deliveries.last().is_some_and(|line| line["status"] == 200).then_some(deliveries)
    })
    .await;
    // The first was refused; an answer that did not come in time is none.
    let refused = &lines[..lines.len() - 1];
    assert!(!refused.is_empty() && refused.iter().all(|line| line["status"] == 500 || line["status"].is_null()), "{lines:?}");
    for (line, attempt) in lines.iter().zip(1..) {
        assert_eq!((&line["attempt"], &line["state"]), (&json!(attempt), &json!("delivered")), "{line}");
        assert_eq!((&line["event"], &line["type"], &line["endpoint"]), (&told["id"], &told["type"], &json!(endpoint)));
    }
    let of_the_till = platform.get(&shop.cashier, &path).await.ok().body["data"].as_array().unwrap().clone();
    let untold = of_the_till.iter().all(|line| line["kind"] != "delivery");
    assert!(!of_the_till.is_empty() && untold, "who does not manage endpoints is not told of them");
    let printed = support::replay(&platform.database, &["explain", told["object"]["id"].as_str().unwrap()]).await.sound();
    assert_eq!(printed.lines.iter().filter(|line| line["kind"] == "delivery").count(), lines.len(), "the command line tells the same");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_keeps_the_name_under_which_its_event_became_due() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let receiver = Receiver::start().await;
    let (endpoint, _) = endpoint(&platform, &shop, &receiver.url, "bill.voided").await;
    let (order, _) = platform.billed(&shop, 40_00).await;
    let issued = feed(&platform, &shop).await.into_iter().find(|event| event["object"]["id"] == order.as_str()).unwrap();
    let position = issued["position"].as_i64().unwrap();
    // Half of its hash: as events were named before their names began with the position.
    let hash = platform.database.log().await.into_iter().find(|event| event.pos == position).unwrap().hash;
    let before = EventId(Ulid::from_bytes(*hash.first_chunk().unwrap())).to_string();
    let sql = "insert into process.webhook_delivery (endpoint, event, tenant, pos, event_type, due_at) \
               select endpoint, $1, tenant, $2, 'order.opened', now() from process.webhook_cursor";
    eventually("the endpoint has a cursor", LIMIT, || async {
        let inserted = sqlx::query(sql).bind(&before).bind(position).execute(&platform.database.admin).await.unwrap();
        (inserted.rows_affected() == 1).then_some(())
    })
    .await;
    taken(&receiver, &BTreeSet::from([before.clone()])).await;
    // Sent again, by either name or as a part of a range, it has the name that the receiver knows.
    let resend = format!("/v1/webhook-endpoints/{endpoint}/resend");
    let everything = json!({"url": receiver.url, "events": "*"});
    platform.send(&shop.admin, Method::PATCH, &format!("/v1/webhook-endpoints/{endpoint}"), None, Some(&everything)).await.ok();
    let again = [json!({"event_id": before}), json!({"event_id": issued["id"]}), json!({"after": position - 1, "until": position})];
    let times = || receiver.received().iter().filter(|received| received.header("webhook-id") == before).count();
    for input in again {
        // Whose answer was lost comes again by itself.
        delivered(&platform).await;
        let so_far = times();
        platform.post(&shop.admin, &resend, input).await.ok();
        eventually("it is sent again", LIMIT, || async { (times() > so_far).then_some(()) }).await;
    }
    let mut told = issued.clone();
    told["id"] = json!(before);
    let bodies = receiver.received().into_iter().map(|received| serde_json::from_slice::<Value>(&received.body).unwrap());
    let of_it: Vec<Value> = bodies.filter(|body| body["position"] == position).collect();
    assert!(of_it.len() >= 4 && of_it.iter().all(|body| *body == told), "{of_it:?}");
    let unknown = platform.post(&shop.admin, &resend, json!({"event_id": nobody::<EventId>()})).await;
    assert_eq!(unknown.status.as_u16(), 404, "{unknown:?}");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_lets_through_what_it_names_and_a_page_of_rare_types_goes_on() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let receiver = Receiver::start().await;
    endpoint(&platform, &shop, &receiver.url, "bill.paid, payment_intent.*").await;
    sale(&platform, &shop).await;
    let wanted: Vec<Value> = feed(&platform, &shop).await;
    let wanted: Vec<Value> = wanted
        .into_iter()
        .filter(|event| event["type"] == "bill.paid" || event["type"].as_str().unwrap().starts_with("payment_intent."))
        .collect();
    taken(&receiver, &ids(&wanted)).await;
    let page = platform.get(&shop.admin, "/v1/events?types=bill.paid,payment_intent.*").await.ok().body;
    assert_eq!((&page["data"], &page["has_more"]), (&json!(wanted), &json!(false)));
    for bad in ["types=bill", "types=", "after=-1", "limit=0", "limit=201"] {
        assert_eq!(platform.get(&shop.admin, &format!("/v1/events?{bad}")).await.status, 400, "{bad}");
    }
    for (url, events, code) in [
        ("ftp://127.0.0.1/", "*", "UrlInvalid"),
        ("http://user:pw@127.0.0.1/", "*", "UrlInvalid"),
        ("http://127.0.0.1/", "bill.paidd", "EventsInvalid"),
    ] {
        let refused = platform.post(&shop.admin, "/v1/webhook-endpoints", json!({"url": url, "events": events})).await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (422, &json!(code)));
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_our_own_network_are_refused_unless_a_setting_allows_them() {
    let platform = TestPlatform::start_as(&ProcessRole::ALL, |config| config.webhooks.allow_local = false).await;
    let shop = platform.shop().await;
    for url in ["http://shop.example/", "https://127.0.0.1/", "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/", "https://0x7f.1/"] {
        let refused = platform.post(&shop.admin, "/v1/webhook-endpoints", json!({"url": url, "events": "*"})).await;
        assert_eq!(refused.body["code"], "UrlInvalid", "{url}: {refused:?}");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_shown_once_stands_nowhere_and_is_rotated_with_an_overlap() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let receiver = Receiver::start().await;
    let body = json!({"url": receiver.url, "events": "bill.paid"});
    let create = async || platform.send(&shop.admin, Method::POST, "/v1/webhook-endpoints", Some("one"), Some(&body)).await.ok();
    let first = create().await;
    let old = first.body["secret"].as_str().unwrap().to_owned();
    assert_eq!((create().await.body.get("secret"), create().await.id()), (None, first.id()));
    let path = format!("/v1/webhook-endpoints/{}", first.id());
    assert_eq!(platform.get_until(&shop.admin, &path, |_| true).await.get("secret"), None);
    let kept: i64 = sqlx::query_scalar("select count(*) from log.append_key where position(convert_to($1, 'UTF8') in response) > 0")
        .bind(&old)
        .fetch_one(&platform.database.admin)
        .await
        .unwrap();
    assert_eq!(kept, 0);

    let test = async |count: usize| {
        platform.post(&shop.admin, &format!("{path}/test"), json!({})).await.ok();
        eventually("the test arrives", LIMIT, || async { receiver.received().into_iter().nth(count) }).await
    };
    let before = test(0).await;
    assert_eq!((before.json()["type"].as_str(), signed_by(&old, &before)), (Some("webhook_endpoint.test"), true));
    let rotated = platform.post(&shop.admin, &format!("{path}/rotate-secret"), json!({})).await.ok();
    let new = rotated.body["secret"].as_str().unwrap().to_owned();
    assert_ne!(old, new);
    let during = test(1).await;
    assert!(signed_by(&old, &during) && signed_by(&new, &during) && !signed_by(&new, &before));
    assert_eq!(during.header("webhook-signature").split(' ').count(), 2);

    // A third would drop one that the receiver was promised: refused, with the time, unless nothing is to be kept.
    let head = platform.database.head().await.pos;
    let refused = platform.post(&shop.admin, &format!("{path}/rotate-secret"), json!({})).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (409, &json!("RotationUnderWay")), "{refused:?}");
    let until = rotated.body["previous_secret_until"].as_str().unwrap();
    assert!(refused.body["detail"].as_str().unwrap().contains(&until[..19]), "{refused:?} does not say {until}");
    assert_eq!(platform.database.head().await.pos, head, "nothing changed");
    let only = platform.post(&shop.admin, &format!("{path}/rotate-secret"), json!({"keep_previous": false})).await.ok();
    let only = only.body["secret"].as_str().unwrap().to_owned();
    platform.settled().await;
    let alone = test(2).await;
    assert!(signed_by(&only, &alone) && !signed_by(&new, &alone) && !signed_by(&old, &alone));

    // Repeated creations offered keys of their own, which sealed nothing.
    let keys = async || {
        let sql = "select count(*) from privacy.subject_key where wrapped is not null";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&platform.database.admin).await.unwrap()
    };
    let keys_before = keys().await;
    platform.send(&shop.admin, Method::DELETE, &path, None, None).await.ok();
    assert_eq!(keys().await, keys_before - 1, "the key goes with the endpoint");
    assert_eq!(platform.post(&shop.admin, &format!("{path}/test"), json!({})).await.status, 404);
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_gone_or_only_fails_is_disabled_and_goes_on_where_it_stopped() {
    let platform = TestPlatform::start_as(&ProcessRole::ALL, |config| config.webhooks.disable_after_seconds = Some(1)).await;
    let shop = platform.shop().await;
    let receiver = Receiver::start().await;
    let (id, _) = endpoint(&platform, &shop, &receiver.url, "bill.paid").await;
    let path = format!("/v1/webhook-endpoints/{id}");
    for (reply, reason) in [(Reply::Status(410), "gone"), (Reply::Status(500), "failing")] {
        receiver.usually(reply);
        sale(&platform, &shop).await;
        platform.get_until(&shop.admin, &path, |endpoint| endpoint["disabled_reason"] == reason).await;
        let requests = receiver.received().len();
        sale(&platform, &shop).await;
        platform.settled().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(receiver.received().len() <= requests + 1, "nothing is sent any more");
        receiver.usually(Reply::Status(200));
        platform.post(&shop.admin, &format!("{path}/enable"), json!({})).await.ok();
        let paid: Vec<Value> = feed(&platform, &shop).await.into_iter().filter(|event| event["type"] == "bill.paid").collect();
        taken(&receiver, &ids(&paid)).await;
    }
    let log = platform.get(&shop.admin, &format!("{path}/deliveries?status=delivered")).await.ok().body;
    let first = log["data"].as_array().unwrap().last().unwrap();
    assert_eq!((&first["attempts"][0]["status"], &first["attempts"][0]["answer"]), (&json!(410), &json!("said")));
    assert!(feed(&platform, &shop).await.iter().any(|event| event["type"] == "webhook_endpoint.disabled"));
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_endpoint_is_left_alone_as_long_as_it_asks() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let receiver = Receiver::start().await;
    endpoint(&platform, &shop, &receiver.url, "bill.paid").await;
    receiver.then([Reply::Later(429, 2)]);
    let (_, bill) = platform.billed(&shop, 100_00).await;
    // Never later than the first answer, so that a slow machine only makes the pause longer.
    let before = Cell::new(Instant::now());
    platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.ok();
    eventually("it was asked", LIMIT, || async {
        let now = Instant::now();
        let asked = !receiver.received().is_empty();
        if !asked {
            before.set(now);
        }
        asked.then_some(())
    })
    .await;
    eventually("it comes again", LIMIT, || async { (receiver.received().len() >= 2).then_some(()) }).await;
    let pause = before.get().elapsed();
    assert!(pause >= Duration::from_millis(1_900), "the pause is kept, though the schedule is faster: {pause:?}");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_a_range_or_everything_after_a_position_is_sent_again() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let receiver = Receiver::start().await;
    let (id, _) = endpoint(&platform, &shop, &receiver.url, "bill.paid").await;
    for _ in 0..3 {
        sale(&platform, &shop).await;
    }
    let events = feed(&platform, &shop).await;
    let paid: Vec<Value> = events.iter().filter(|event| event["type"] == "bill.paid").cloned().collect();
    taken(&receiver, &ids(&paid)).await;
    let again = async |body: Value, expected: Vec<Value>| {
        // Whose answer was lost comes again by itself; each is heard to be taken once.
        delivered(&platform).await;
        let (before, taken) = (receiver.received().len(), noted(&platform).await);
        let answered = platform.post(&shop.admin, &format!("/v1/webhook-endpoints/{id}/resend"), body).await.ok();
        assert_eq!(answered.status, 202);
        let came = || receiver.received()[before..].iter().map(Received::json).collect::<Vec<Value>>();
        eventually("they come again", LIMIT, || async { ids(&came()).is_superset(&ids(&expected)).then_some(()) }).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        delivered(&platform).await;
        assert_eq!(ids(&came()), ids(&expected));
        assert_eq!(noted(&platform).await, taken + expected.len());
    };
    again(json!({"event_id": paid[1]["id"]}), vec![paid[1].clone()]).await;
    // By its name an event goes out although the filter does not want it.
    again(json!({"event_id": events[0]["id"]}), vec![events[0].clone()]).await;
    again(json!({"after": paid[0]["position"], "until": paid[1]["position"]}), vec![paid[1].clone()]).await;
    again(json!({"after": 0}), paid.clone()).await;
    let path = format!("/v1/webhook-endpoints/{id}/deliveries");
    // An attempt is noted after its answer.
    eventually("every attempt is in the log", LIMIT, || async {
        let log = platform.get(&shop.admin, &path).await.ok().body;
        let attempts = log["data"].as_array().unwrap().iter().flat_map(|one| one["attempts"].as_array().unwrap());
        (attempts.filter(|attempt| attempt["status"] == 200).count() == 2 * paid.len() + 3).then_some(())
    })
    .await;
    let other = platform.shop().await;
    assert_eq!(platform.get(&other.admin, &path).await.status, 404);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_again_and_again_loses_no_delivery() {
    let roles = [ProcessRole::Api, ProcessRole::Relay, ProcessRole::Projector, ProcessRole::Gateway];
    let platform = TestPlatform::start_as(&roles, |_| {}).await;
    let shop = platform.shop().await;
    let receiver = Receiver::start().await;
    endpoint(&platform, &shop, &receiver.url, "*").await;
    let dir = platform.config.data_dir.clone();
    let env = [
        ("DATABASE_URL", platform.database.url.clone()),
        ("NATS_URL", platform.database.nats_url.clone()),
        ("SMARTPOS_DATA_DIR", dir.display().to_string()),
        ("SMARTPOS_WEBHOOKS__ALLOW_LOCAL", "true".to_owned()),
    ];
    let mut worker = Process::spawn("worker", &dir, &["serve", "--role", "worker"], env.clone());
    for _ in 0..3 {
        let before = receiver.received().len();
        sale(&platform, &shop).await;
        // What its predecessor held is free again when the leases have run out.
        eventually("it delivers", Duration::from_secs(45), || async { (receiver.received().len() > before).then_some(()) }).await;
        worker.kill();
        worker = Process::spawn("worker", &dir, &["serve", "--role", "worker"], env.clone());
    }
    platform.settled().await;
    // What was under way when its worker died waits for its lease.
    let told =
        |events: Vec<Value>| -> Vec<Value> { events.into_iter().filter(|event| event["type"] != "webhook_endpoint.created").collect() };
    let wanted = ids(&told(feed(&platform, &shop).await));
    let received = eventually("everything is delivered", Duration::from_secs(60), || async {
        let taken: BTreeSet<String> = receiver.received().iter().map(|one| one.header("webhook-id").to_owned()).collect();
        (taken == wanted).then(|| receiver.received())
    })
    .await;
    let bodies: BTreeSet<Vec<u8>> = received.iter().map(|one| one.body.clone()).collect();
    assert_eq!(bodies.len(), wanted.len(), "a repeat is the same, byte for byte");
    worker.kill();
    platform.stop().await;
}
