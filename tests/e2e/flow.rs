//! Whole flows through HTTP: the seed flow, cash, refunds, cancellations, call-backs that misbehave.

use std::time::Duration;

use domain::envelope::RecordedEvent;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use support::{PATIENCE, TestPlatform, eventually};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

pub type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

pub async fn socket(platform: &TestPlatform, token: &str) -> Socket {
    socket_at(&platform.base, token).await
}

async fn socket_at(base: &str, token: &str) -> Socket {
    let mut request = format!("{}/ws", base.replace("http", "ws")).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

pub async fn next_frame(socket: &mut Socket) -> Value {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame in time");
        match message.expect("an open socket").expect("a message") {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other @ (Message::Binary(_) | Message::Close(_) | Message::Frame(_)) => panic!("{other:?}"),
        }
    }
}

async fn subscribe(socket: &mut Socket, topic: &str, after: Option<i64>) {
    let request = json!({"action": "subscribe", "topic": topic, "after": after}).to_string();
    socket.send(Message::Text(request.into())).await.unwrap();
    assert_eq!(next_frame(socket).await["type"], "subscribed");
}

/// The next frame of a topic that was subscribed to. Where a busy machine could not look up the past in time, the topic is subscribed to
/// again after what was heard last; what came meanwhile comes again behind it.
pub async fn next_of(socket: &mut Socket, topic: &str, after: i64) -> Value {
    loop {
        let frame = next_frame(socket).await;
        if frame["type"] != "resync" {
            return frame;
        }
        let request = json!({"action": "subscribe", "topic": topic, "after": after}).to_string();
        socket.send(Message::Text(request.into())).await.unwrap();
        while next_frame(socket).await["type"] != "subscribed" {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_paid_by_qr_and_the_terminal_hears_of_it() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (order, bill) = platform.billed(&shop, 120_00).await;
    let mut socket = socket(&platform, &shop.cashier).await;
    let topic = format!("order.{order}");
    subscribe(&mut socket, &topic, Some(0)).await;
    let (payment, intent, reference) = platform.started_qr(&shop, &bill).await;
    platform.pay(&reference, json!({})).await;
    let paid = platform.get_until(&shop.cashier, &format!("/v1/payments/{payment}"), |p| p["status"] == "completed").await;
    assert_eq!(paid["amount"], json!({"amount": 120_00, "currency": "THB"}));
    let intent = platform.get(&shop.cashier, &format!("/v1/payment-intents/{intent}")).await.ok();
    assert_eq!(intent.body["status"], "succeeded");
    platform.get_until(&shop.cashier, &format!("/v1/bills/{bill}"), |bill| bill["status"] == "paid").await;
    platform.get_until(&shop.cashier, &format!("/v1/orders/{order}"), |order| order["status"] == "completed").await;
    let mut seen = Vec::new();
    while seen.last() != Some(&"order.completed".to_owned()) {
        let heard = i64::try_from(seen.len()).unwrap();
        let frame = next_of(&mut socket, &topic, heard).await;
        assert_eq!(frame["seq"].as_i64().unwrap(), heard + 1, "the sequence has no gap");
        seen.push(frame["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, ["order.opened", "order.line_added", "order.billed", "order.completed"]);
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cash_is_rounded_and_change_given_and_the_order_completed_in_one_step() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (order, bill) = platform.billed(&shop, 99_30).await;
    let paid = platform
        .post(
            &shop.cashier,
            "/v1/payments",
            json!({"bill_id": bill, "tender": "cash", "cash_received": {"amount": 100_00, "currency": "THB"}}),
        )
        .await
        .ok();
    assert_eq!(paid.body["status"], "completed");
    assert_eq!(paid.body["cash_change"], json!({"amount": 75, "currency": "THB"}), "99.30 is collected as 99.25");
    let path = format!("/v1/orders/{order}?min_pos={}", paid.header("smartpos-position"));
    let (read, _) = platform.read_after_write(&shop.cashier, &path).await;
    assert_eq!(read.body["status"], "completed", "the read waits for the write");
    // Given back in two parts, no more leaves the drawer than came in: 30.00, then 69.30 less the 0.05 that was never paid.
    let refund = |amount: Value| {
        let body = json!({"payment_id": paid.id(), "amount": amount, "destination": "cash", "reason": "cold"});
        platform.post(&shop.manager, "/v1/refunds", body)
    };
    let part = refund(json!({"amount": 30_00, "currency": "THB"})).await.ok();
    assert_eq!(part.body["cash_rounding"]["amount"], 0);
    let rest = refund(json!({"amount": 69_30, "currency": "THB"})).await.ok();
    assert_eq!(rest.body["cash_rounding"], json!({"amount": -5, "currency": "THB"}));
    platform.settled().await;
    let sql = "select sum(amount + cash_rounding - refunds_amount)::bigint, sum(cash_rounding)::bigint from read.daily_tender_sales where tender = 'cash'";
    let drawer: (i64, i64) = sqlx::query_as(sql).fetch_one(&platform.database.admin).await.unwrap();
    assert_eq!(drawer, (0, 0), "the drawer is as it was");
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tenders_pay_one_bill_and_never_more_than_it_asks() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (_, bill) = platform.billed(&shop, 300_00).await;
    let pay = |body: Value| platform.post(&shop.cashier, "/v1/payments", body);
    pay(json!({"bill_id": bill, "tender": "cash", "amount": {"amount": 100_00, "currency": "THB"}})).await.ok();
    let (_, _, reference) = platform.started_qr(&shop, &bill).await;
    // The QR under way holds the rest: another device cannot take it as well.
    let refused = pay(json!({"bill_id": bill, "tender": "cash", "amount": {"amount": 1, "currency": "THB"}})).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (409, &json!("AmountExceedsDue")));
    platform.pay(&reference, json!({})).await;
    let bill = platform.get_until(&shop.cashier, &format!("/v1/bills/{bill}"), |bill| bill["status"] == "paid").await;
    assert_eq!(bill["paid"]["amount"], 300_00);
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn call_backs_that_come_twice_late_never_or_before_the_answer_count_once() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let mut payments = Vec::new();
    for webhook in [json!({"copies": 3}), json!({"delays_ms": [1500]}), json!("never"), json!({"copies": 2, "delays_ms": [300, 0]})] {
        let (_, bill) = platform.billed(&shop, 50_00).await;
        let (payment, _, reference) = platform.started_qr(&shop, &bill).await;
        platform.pay(&reference, json!({"webhook": webhook})).await;
        payments.push(payment);
    }
    for payment in payments {
        platform.get_until(&shop.cashier, &format!("/v1/payments/{payment}"), |payment| payment["status"] == "completed").await;
    }
    let ledger = platform.ledger().await;
    assert_eq!(ledger["payments"].as_array().unwrap().len(), 4);
    // Every delivery that came was stored: three, one and two, and one more for an answer that was lost; the fourth never called back.
    eventually("call-backs are stored", Duration::from_secs(60), || async {
        let sql = "select count(*), sum(deliveries)::bigint from process.webhook";
        let (rows, deliveries): (i64, Option<i64>) = sqlx::query_as(sql).fetch_one(&platform.database.admin).await.unwrap();
        (rows == 3 && deliveries >= Some(6)).then_some(())
    })
    .await;
    let bills = platform.get_until(&shop.cashier, "/v1/bills?status=paid", |bills| bills["data"].as_array().unwrap().len() == 4).await;
    assert!(bills["data"].as_array().unwrap().iter().all(|bill| bill["paid"]["amount"] == 50_00));
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_acts_and_then_says_nothing_is_asked_and_never_charged_twice() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (_, bill) = platform.billed(&shop, 75_00).await;
    platform.faults(json!([{"operation": "create", "fault": "http_500_after", "times": 2}, {"operation": "inquiry", "fault": "not_json", "times": 2}])).await;
    let (payment, _, reference) = platform.started_qr(&shop, &bill).await;
    platform.pay(&reference, json!({})).await;
    platform.get_until(&shop.cashier, &format!("/v1/payments/{payment}"), |payment| payment["status"] == "completed").await;
    assert_eq!(platform.ledger().await["qr_codes"], 1, "one reference is one QR, however often it is asked for");
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_of_another_amount_or_a_second_payment_is_kept_and_shown_not_trusted() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (_, bill) = platform.billed(&shop, 80_00).await;
    let (payment, _, reference) = platform.started_qr(&shop, &bill).await;
    platform.pay(&reference, json!({"amount": 70_00})).await;
    let path = format!("/v1/payments/{payment}");
    let flagged = platform.get_until(&shop.cashier, &path, |payment| payment["needs_attention"] == true).await;
    assert_eq!(flagged["status"], "processing");
    platform.pay(&reference, json!({})).await;
    platform.get_until(&shop.cashier, &path, |payment| payment["status"] == "completed").await;
    platform.get_until(&shop.cashier, &format!("/v1/bills/{bill}"), |bill| bill["paid"]["amount"] == 80_00).await;
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_qr_frees_the_bill_once_the_bank_shows_nothing_paid() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (_, bill) = platform.billed(&shop, 60_00).await;
    let (payment, intent, reference) = platform.started_qr(&shop, &bill).await;
    let path = format!("/v1/bills/{bill}");
    platform.get_until(&shop.cashier, &path, |bill| bill["due"]["amount"] == 0).await;
    platform.post(&shop.cashier, &format!("/v1/payment-intents/{intent}/cancel"), json!({"reason": "guest left"})).await.ok();
    platform.get_until(&shop.cashier, &format!("/v1/payment-intents/{intent}"), |intent| intent["status"] == "canceled").await;
    platform.get_until(&shop.cashier, &path, |bill| bill["due"]["amount"] == 60_00).await;
    platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.ok();
    // The QR can still be paid at the bank: late money is recorded beside the cancelled intent.
    platform.pay(&reference, json!({})).await;
    platform.get_until(&shop.cashier, &format!("/v1/payments/{payment}"), |payment| payment["needs_attention"] == true).await;
    platform.settled().await;
    let bill = platform.get(&shop.cashier, &path).await.ok();
    assert_eq!(bill.body["paid"]["amount"], 60_00);
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_stay_within_what_was_captured_however_many_ask_at_once() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (_, bill) = platform.billed(&shop, 100_00).await;
    let payment = platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.id();
    let refund = json!({"payment_id": payment, "amount": {"amount": 30_00, "currency": "THB"}, "destination": "cash", "reason": "cold"});
    let asked = (0..16).map(|_| platform.post(&shop.manager, "/v1/refunds", refund.clone()));
    let answers = futures_util::future::join_all(asked).await;
    let given = answers.iter().filter(|answer| answer.status.is_success()).count();
    assert_eq!(given, 3, "three times 30 of 100");
    let refused = answers.iter().filter(|answer| !answer.status.is_success()).map(|answer| answer.body["code"].as_str().unwrap());
    assert_eq!(refused.collect::<Vec<_>>(), ["RefundExceedsCaptured"; 13]);
    let shown =
        platform.get_until(&shop.manager, &format!("/v1/payments/{payment}"), |payment| payment["refunded"]["amount"] == 90_00).await;
    assert_eq!(shown["status"], "partially_refunded");
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_qr_payment_goes_back_through_the_bank_and_a_part_is_refused() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (_, bill) = platform.billed(&shop, 90_00).await;
    let (payment, _, reference) = platform.started_qr(&shop, &bill).await;
    platform.pay(&reference, json!({})).await;
    platform.get_until(&shop.cashier, &format!("/v1/payments/{payment}"), |payment| payment["status"] == "completed").await;
    let ask = |amount: Value| {
        platform.post(
            &shop.manager,
            "/v1/refunds",
            json!({"payment_id": payment, "amount": amount, "destination": "original", "reason": "cold"}),
        )
    };
    let part = ask(json!({"amount": 10_00, "currency": "THB"})).await.id();
    // For two minutes after a call without an answer a refusal proves nothing.
    eventually("a part is refused", Duration::from_secs(200), || async {
        (platform.get(&shop.manager, &format!("/v1/refunds/{part}")).await.body["status"] == "failed").then_some(())
    })
    .await;
    let whole = eventually("the failed part is free again", Duration::from_secs(10), || async {
        let answer = ask(json!({"amount": 90_00, "currency": "THB"})).await;
        answer.status.is_success().then(|| answer.id())
    })
    .await;
    platform.get_until(&shop.manager, &format!("/v1/refunds/{whole}"), |refund| refund["status"] == "succeeded").await;
    assert_eq!(platform.ledger().await["payments"][0]["reversed"], true);
    platform.get_until(&shop.manager, &format!("/v1/bills/{bill}"), |bill| bill["refunded"]["amount"] == 90_00).await;
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_comes_back_resumes_where_it_was() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (order, bill) = platform.billed(&shop, 40_00).await;
    let topic = format!("order.{order}");
    let mut first = socket(&platform, &shop.cashier).await;
    subscribe(&mut first, &topic, Some(2)).await;
    assert_eq!(next_of(&mut first, &topic, 2).await["type"], "order.billed");
    drop(first);
    platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.ok();
    let mut again = socket(&platform, &shop.cashier).await;
    subscribe(&mut again, &topic, Some(3)).await;
    let frame = next_of(&mut again, &topic, 3).await;
    assert_eq!((&frame["type"], &frame["seq"]), (&json!("order.completed"), &json!(4)));
    // A whole store resumes by position.
    let topic = format!("store.{}", shop.store);
    subscribe(&mut again, &topic, Some(0)).await;
    assert_eq!(next_of(&mut again, &topic, 0).await["type"], "store.opened");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_resume_from_the_log_at_once_hear_all_that_is_their_own_and_leave_it_to_others_as_well() {
    let platform = TestPlatform::start().await;
    let (shop, other) = (platform.shop().await, platform.shop().await);
    for satang in [10_00, 20_00, 30_00] {
        platform.billed(&shop, satang).await;
        platform.billed(&other, satang).await;
    }
    platform.settled().await;
    let log = platform.database.log().await;
    let is_own = |event: &&RecordedEvent| event.stream.tenant == shop.merchant && event.event_meta().store == Some(shop.store);
    let own: Vec<i64> = log.iter().filter(is_own).map(|event| event.pos).collect();
    assert!(own.len() > 9 && own.len() < log.len(), "{own:?} of {}", log.len());
    // A process that begins now has kept nothing of it.
    let (edge, base) = platform.second_edge().await;
    let topic = format!("store.{}", shop.store);
    let heard = futures_util::future::join_all((0..16).map(|_| async {
        let mut socket = socket_at(&base, &shop.cashier).await;
        subscribe(&mut socket, &topic, Some(0)).await;
        let mut heard = Vec::new();
        while heard.len() < own.len() {
            let frame = next_frame(&mut socket).await;
            if frame["type"] == "resync" {
                // On a machine that stands still its turn did not come in time.
                subscribe(&mut socket, &topic, Some(heard.last().copied().unwrap_or(0))).await;
            } else {
                heard.push(frame["position"].as_i64().unwrap());
            }
        }
        heard
    }));
    let asked = async {
        for _ in 0..50 {
            let mut tries = 0;
            while let Err(error) = sqlx::query("select from log.head").execute(&edge.worker_pool).await {
                // A machine that stands still gives nobody a connection.
                tries += 1;
                assert!(tries < 5, "no connection in time: {error}");
            }
        }
    };
    let (heard, ()) = tokio::join!(heard, asked);
    assert!(heard.iter().all(|heard| *heard == own), "{heard:?}");
    // What comes now is heard behind it.
    let mut again = socket_at(&base, &shop.cashier).await;
    subscribe(&mut again, &topic, own.last().copied()).await;
    platform.billed(&other, 40_00).await;
    let (order, _) = platform.billed(&shop, 40_00).await;
    assert_eq!(next_of(&mut again, &topic, own[own.len() - 1]).await["body"]["id"], json!(order));
    edge.stop().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_store_or_tenant_hears_nothing_of_an_order() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let other_store = platform.shop_of(shop.merchant, "ARI").await;
    let other_tenant = platform.shop().await;
    let (order, _) = platform.billed(&shop, 40_00).await;
    for token in [&other_store.cashier, &other_tenant.cashier] {
        let mut socket = socket(&platform, token).await;
        subscribe(&mut socket, &format!("order.{order}"), Some(0)).await;
        socket
            .send(Message::Text(json!({"action": "subscribe", "topic": format!("store.{}", shop.store), "after": 0}).to_string().into()))
            .await
            .unwrap();
        let mut frame = next_frame(&mut socket).await;
        if frame["type"] == "resync" {
            // On a machine that stands still the order's past could not be looked up in time.
            frame = next_frame(&mut socket).await;
        }
        assert_eq!(frame["type"], "error");
        socket.send(Message::Text(json!({"action": "ping"}).to_string().into())).await.unwrap();
        assert_eq!(next_frame(&mut socket).await["type"], "pong", "no frame of the order came before");
    }
    platform.stop().await;
}

/// The code with which the server closed the socket.
async fn close_code(socket: &mut Socket) -> u16 {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("an end in time");
        match message.expect("a closing frame").expect("a message") {
            Message::Close(Some(frame)) => return frame.code.into(),
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
            other @ (Message::Binary(_) | Message::Close(None) | Message::Frame(_)) => panic!("{other:?}"),
        }
    }
}

/// The database as it was when the log ended at `pos`, as a backup brings it back.
async fn restore(platform: &TestPlatform, pos: i64) {
    let sql = format!(
        "set local session_replication_role = replica;
         delete from log.stream_head h where not exists
             (select from log.event e where e.stream_id = h.stream_id and e.tenant = h.tenant and e.pos <= {pos});
         delete from log.event where pos > {pos};
         delete from log.commit where first_pos > {pos};
         delete from log.append_key where last_pos > {pos};
         update log.head set (pos, hash, recorded_at) =
             (select last_pos, hash, recorded_at from log.commit order by first_pos desc limit 1);
         update process.checkpoint set pos = least(pos, {pos})"
    );
    let mut tx = platform.database.admin.begin().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_restored_to_the_past_cuts_sockets_off_and_goes_on_in_a_new_epoch() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (kept, _) = platform.billed(&shop, 60_00).await;
    platform.settled().await;
    let head = platform.database.head().await;
    let (lost, _) = platform.billed(&shop, 70_00).await;
    platform.settled().await;
    let mut before = socket(&platform, &shop.cashier).await;
    let topic = format!("order.{lost}");
    subscribe(&mut before, &topic, Some(0)).await;
    assert_eq!(next_of(&mut before, &topic, 0).await["epoch"], head.epoch);
    let mut of_one = socket(&platform, &shop.cashier).await;
    for order in [&kept, &lost] {
        subscribe(&mut of_one, &format!("order.{order}"), None).await;
    }
    let request = json!({"action": "unsubscribe", "topic": format!("order.{lost}")}).to_string();
    of_one.send(Message::Text(request.into())).await.unwrap();
    assert_eq!(next_frame(&mut of_one).await["type"], "unsubscribed");

    restore(&platform, head.pos).await;
    assert_eq!(close_code(&mut before).await, 4009);
    assert_eq!(close_code(&mut of_one).await, 4009, "it had left another topic before");
    eventually("a new epoch", Duration::from_secs(15), || async { (platform.database.head().await.epoch > head.epoch).then_some(()) })
        .await;
    // What was lost does not exist, what was kept can be worked with, and whoever listens hears of it under the new epoch.
    eventually("the lost order is gone", Duration::from_secs(15), || async {
        (platform.get(&shop.cashier, &format!("/v1/orders/{lost}")).await.status == 404).then_some(())
    })
    .await;
    let frame = eventually("frames of the new epoch", Duration::from_secs(20), || async {
        let mut after = socket(&platform, &shop.cashier).await;
        subscribe(&mut after, &format!("order.{kept}"), Some(0)).await;
        let frame = next_frame(&mut after).await;
        (frame["epoch"].as_i64()? > i64::from(head.epoch)).then_some(frame)
    })
    .await;
    assert_eq!((&frame["type"], &frame["seq"]), (&json!("order.opened"), &json!(1)));
    platform.billed(&shop, 80_00).await;
    platform.proves_itself().await;
    platform.stop().await;
}
