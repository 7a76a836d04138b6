//! One key, one request, one effect, one answer; one name, one owner.

use commands::{error::CommandError, idempotency::Answer};
use futures_util::{FutureExt, future::join_all};
use serde_json::json;
use support::{Shop, TestDatabase, new_line};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_posts_with_one_key_one_takes_effect_and_all_get_its_answer() {
    let database = TestDatabase::new().await;
    let (one, other) = (database.write_side(), database.write_side());
    let shop = Shop::open(&one.handler).await;
    let order = shop.open_order(&one.handler, &[]).await;
    let before = database.head().await.pos;
    let body = json!({"item_code": "CAKE", "quantity": 1});
    let post = |n: usize| {
        let handler = if n.is_multiple_of(2) { &one.handler } else { &other.handler };
        let caller = shop.caller_with_key(handler, "k-1", "POST /lines", &body);
        async move { shop.add_line(handler, &caller, order, new_line("CAKE", 95_00)).await.unwrap() }
    };
    let answers = join_all((0..64).map(post)).await;
    let (position, events) = (answers[0].position, database.head().await.pos - before);
    assert_eq!((position, events), (Some(before + 1), 1));
    for answer in &answers {
        let Answer { status, version, body, position, replayed: _ } = answer;
        assert_eq!((status, version, position), (&200, &2, &Some(before + 1)));
        assert_eq!(body, &answers[0].body);
    }
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
}

#[tokio::test]
async fn a_key_with_another_body_is_refused_and_the_field_named() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let shop = Shop::open(&write.handler).await;
    let order = shop.open_order(&write.handler, &[]).await;
    let post = |operation: &str, body: serde_json::Value| {
        let caller = shop.caller_with_key(&write.handler, "k-1", operation, &body);
        let handler = &write.handler;
        async move { shop.add_line(handler, &caller, order, new_line("CAKE", 95_00)).await }
    };
    post("POST /lines", json!({"item": "CAKE", "price": {"amount": 9500}})).await.unwrap();
    let before = database.head().await.pos;
    for (operation, body, field) in [
        ("POST /lines", json!({"item": "CAKE", "price": {"amount": 9600}}), "/price/amount"),
        ("POST /lines", json!({"item": "CAKE", "price": {"amount": 9500}, "note": "x"}), "/note"),
        ("POST /lines", json!({"item": "CAKE"}), "/price/amount"),
        ("POST /bills", json!({"item": "CAKE", "price": {"amount": 9500}}), "(operation)"),
    ] {
        let refused = post(operation, body).await.unwrap_err();
        assert!(matches!(&refused, CommandError::KeyReused { field: named } if named == field), "{refused}");
    }
    assert_eq!(database.head().await.pos, before);
}

#[tokio::test]
async fn a_repeat_gets_its_first_answer_after_the_state_has_moved_on() {
    let database = TestDatabase::new().await;
    let (first, restarted) = (database.write_side(), database.write_side());
    let shop = Shop::open(&first.handler).await;
    let order = shop.open_order(&first.handler, &[]).await;
    let caller = shop.caller_with_key(&first.handler, "k-1", "POST /lines", &json!({"item": "CAKE"}));
    let answer = shop.add_line(&first.handler, &caller, order, new_line("CAKE", 95_00)).await.unwrap();
    // The order is billed and paid: adding a line is forbidden now.
    let bill = shop.bill(&first.handler, order).await.unwrap();
    shop.pay_cash(&first.handler, bill).await.unwrap();
    let before = database.head().await.pos;
    for write in [&first, &restarted] {
        let again = shop.add_line(&write.handler, &caller, order, new_line("CAKE", 95_00)).await.unwrap();
        assert_eq!(again, Answer { replayed: true, ..answer.clone() });
        let other = shop.caller_with_key(&write.handler, "k-2", "POST /lines", &json!({"item": "CAKE"}));
        let refused = shop.add_line(&write.handler, &other, order, new_line("CAKE", 95_00)).await.unwrap_err();
        assert!(matches!(&refused, CommandError::Rejected(rejected) if rejected.code == "OrderNotEditable"), "{refused}");
    }
    assert_eq!(database.head().await.pos, before);
}

#[tokio::test]
async fn a_refused_request_does_not_use_up_its_key() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let shop = Shop::open(&write.handler).await;
    let order = shop.open_order(&write.handler, &[]).await;
    let caller = shop.caller_with_key(&write.handler, "k-1", "POST /lines", &json!({}));
    let refused = shop.add_line(&write.handler, &caller, order, new_line("", 95_00)).await.unwrap_err();
    assert!(matches!(&refused, CommandError::Rejected(rejected) if rejected.code == "ItemInvalid"), "{refused}");
    let answer = shop.add_line(&write.handler, &caller, order, new_line("CAKE", 95_00)).await.unwrap();
    assert!(!answer.replayed);
}

#[tokio::test]
async fn a_request_that_changes_nothing_is_remembered_too() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let shop = Shop::open(&write.handler).await;
    let order = shop.open_order(&write.handler, &[]).await;
    let line = commands::orders::NewLine { line_id: Some(domain::ids::LineId(order.0)), ..new_line("CAKE", 95_00) };
    shop.add_line(&write.handler, &shop.caller(&write.handler), order, line.clone()).await.unwrap();
    let before = database.head().await.pos;
    let caller = shop.caller_with_key(&write.handler, "k-1", "POST /lines", &json!({}));
    let first = shop.add_line(&write.handler, &caller, order, line.clone()).await.unwrap();
    let again = shop.add_line(&write.handler, &caller, order, line).await.unwrap();
    assert_eq!((first.position, first.version, first.replayed), (None, 2, false));
    assert_eq!(again, Answer { replayed: true, ..first });
    assert_eq!(database.head().await.pos, before);
}

#[tokio::test]
async fn one_key_of_two_tenants_means_two_requests() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let shops = [Shop::open(&write.handler).await, Shop::open(&write.handler).await];
    for shop in shops {
        let order = shop.open_order(&write.handler, &[]).await;
        let caller = shop.caller_with_key(&write.handler, "k-1", "POST /lines", &json!({"order": order}));
        let answer = shop.add_line(&write.handler, &caller, order, new_line("CAKE", 95_00)).await.unwrap();
        assert!(!answer.replayed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_32_merchants_that_want_one_code_one_gets_it() {
    let database = TestDatabase::new().await;
    let (one, other) = (database.write_side(), database.write_side());
    let psp = domain::ids::PspId(one.handler.ids().next());
    let register = |n: usize| {
        let handler = if n.is_multiple_of(2) { &one.handler } else { &other.handler };
        let shop = Shop { psp, merchant: domain::ids::MerchantId(handler.ids().next()), store: domain::ids::StoreId(handler.ids().next()) };
        let caller = shop.caller(handler);
        async move { handler.transact(&caller, move |unit| shop.register(unit, "KOPI").boxed()).await }
    };
    let outcomes = join_all((0..32).map(register)).await;
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let taken = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(CommandError::Rejected(rejected)) if rejected.code == "AlreadyTaken"))
        .count();
    assert_eq!((won, taken), (1, 31));
    assert_eq!(database.head().await.pos, 1);
    // Another PSP has names of its own.
    Shop::open(&one.handler).await;
}
