//! What a query about an earlier moment may not do: see more than its scope, go beyond the log, or take too much.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use commands::database::Role;
use domain::ids::{MerchantId, PspId, StoreId, Ulid};
use projections::{
    ReadScope,
    projection::Visibility,
    visibility::{policy, sees},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use support::{ApiShop, TestDatabase, TestPlatform, eventually, order_body};

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_another_tenant_or_store_does_not_exist_for_a_caller() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (order, bill) = platform.billed(&shop, 40_00).await;
    let payment = platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.id();
    let refund = json!({"payment_id": payment, "destination": "cash", "reason": "cold"});
    let refund = platform.post(&shop.manager, "/v1/refunds", refund).await.id();
    let strangers = [platform.shop().await, platform.shop_of(shop.merchant, "ARI").await];
    platform.settled().await;
    let head = platform.database.head().await.pos;
    let details = [
        format!("/v1/orders/{order}"),
        format!("/v1/orders/{order}/timeline"),
        format!("/v1/bills/{bill}"),
        format!("/v1/payments/{payment}"),
        format!("/v1/payment-intents/{}", payment.replace("pay_", "pi_")),
        format!("/v1/refunds/{refund}"),
        format!("/v1/stores/{}", shop.store),
    ];
    let today = platform.database.log().await.last().unwrap().recorded_at.date_naive();
    let report = format!("/v1/reports/daily-sales?from={}&to={}", today.pred_opt().unwrap(), today.succ_opt().unwrap());
    let lists = ["/v1/orders?", "/v1/bills?", "/v1/payments?", "/v1/refunds?", &format!("/v1/orders?store_id={}", shop.store), &report];
    let own = async |path: String| platform.get(&shop.manager, &path).await;
    for path in &details {
        let answer = own(format!("{path}?as_of={head}")).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
    }
    for path in lists {
        let answer = own(format!("{path}&as_of={head}")).await.ok();
        assert!(!answer.body["data"].as_array().unwrap().is_empty(), "{path}");
    }
    for stranger in &strangers {
        for path in &details {
            let answer = platform.get(&stranger.manager, &format!("{path}?as_of={head}")).await;
            assert_eq!(answer.status.as_u16(), 404, "{path}: {answer:?}");
        }
        for path in lists {
            let answer = platform.get(&stranger.manager, &format!("{path}&as_of={head}")).await.ok();
            assert_eq!(answer.body["data"], json!([]), "{path}");
        }
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_that_makes_no_sense_is_refused_precisely() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    platform.settled().await;
    let head = platform.database.head().await.pos;
    let newest = platform.database.log().await.last().unwrap().recorded_at;
    let tomorrow = (newest + chrono::TimeDelta::days(1)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let refusals = [
        ("", "ParameterInvalid"),
        ("yesterday", "ParameterInvalid"),
        ("-1", "ParameterInvalid"),
        ("%2B1", "ParameterInvalid"),
        ("1.5", "ParameterInvalid"),
        ("0x10", "ParameterInvalid"),
        ("99999999999999999999", "ParameterInvalid"),
        ("2026-11-24", "ParameterInvalid"),
        ("2026-11-24T09:30:00", "ParameterInvalid"),
        ("2026-11-24T09:30:00+07:00", "ParameterInvalid"),
        ("2026-13-01T00:00:00Z", "ParameterInvalid"),
        (&format!("{}", head + 1), "MomentNotCome"),
        ("9223372036854775807", "MomentNotCome"),
        (&tomorrow, "MomentNotCome"),
        ("9999-12-31T23:59:59Z", "MomentNotCome"),
    ];
    for (moment, code) in refusals {
        for path in ["/v1/orders", "/v1/bills/bill_01HZY3T5V6W7X8Y9Z0A1B2C3D4", "/v1/reports/daily-sales"] {
            let period = if path.contains("reports") { "&from=2026-11-01&to=2026-11-02" } else { "" };
            let answer = platform.get(&shop.manager, &format!("{path}?as_of={moment}{period}")).await;
            assert_eq!((answer.status.as_u16(), &answer.body["code"]), (400, &json!(code)), "{path} {moment}: {answer:?}");
            assert!(answer.body["detail"].as_str().unwrap().starts_with("as_of: "), "{answer:?}");
        }
    }
    let beyond = platform.get(&shop.manager, &format!("/v1/orders?as_of={}", head + 1)).await;
    assert_eq!(beyond.body["detail"], format!("as_of: position {} has not been written; the log ends at {head}", head + 1));
    let twice = platform.get(&shop.manager, "/v1/orders?as_of=0&as_of=1").await;
    assert_eq!(twice.status.as_u16(), 400);
    for first in ["0", "0000-01-01T00:00:00Z"] {
        assert_eq!(platform.get(&shop.manager, &format!("/v1/orders?as_of={first}")).await.ok().body["data"], json!([]));
        assert_eq!(platform.get(&shop.manager, &format!("/v1/stores/{}?as_of={first}", shop.store)).await.status.as_u16(), 404);
    }
    // A position that the caller wants seen is waited for first; then the moment may be that very position.
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 10_00)).await.ok();
    let position = order.header("smartpos-position");
    let path = format!("/v1/orders?as_of={position}&min_pos={position}");
    assert_eq!(platform.get(&shop.cashier, &path).await.ok().body["data"][0]["id"], order.id());
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_stream_is_halted_in_the_past_too() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let mut orders = Vec::new();
    for amount in [10_00, 20_00] {
        orders.push(platform.post(&shop.cashier, "/v1/orders", order_body(&shop, amount)).await.id());
    }
    for order in &orders {
        platform.post(&shop.manager, &format!("/v1/orders/{order}/cancel"), json!({"reason": "left"})).await.ok();
    }
    platform.settled().await;
    let log = platform.database.log().await;
    let cancelled = log.iter().find(|event| event.event_type == "order.cancelled").unwrap();
    // As a projector writes it when it has to leave a stream alone.
    let sql = "insert into read.quarantine select 'orders', 3, tenant, stream_type, stream_id, pos, 'x' from log.event where pos = $1";
    sqlx::query(sql).bind(cancelled.pos).execute(&platform.database.admin).await.unwrap();
    let head = platform.database.head().await.pos;
    let then = platform.get(&shop.cashier, &format!("/v1/orders?as_of={head}")).await.ok();
    let statuses: Vec<_> = then.body["data"].as_array().unwrap().iter().map(|order| (&order["id"], &order["status"])).collect();
    assert_eq!(statuses, [(&json!(orders[1]), &json!("cancelled")), (&json!(orders[0]), &json!("open"))]);
    let detail = platform.get(&shop.cashier, &format!("/v1/orders/{}?as_of={head}", orders[0])).await.ok();
    assert_eq!(detail.body["status"], "open");
    for (order, last) in [(&orders[0], "order.line_added"), (&orders[1], "order.cancelled")] {
        let timeline = platform.get(&shop.cashier, &format!("/v1/orders/{order}/timeline?as_of={head}")).await.ok();
        assert_eq!(timeline.body["data"].as_array().unwrap().last().unwrap()["type"], last, "{timeline:?}");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_folds_than_there_is_room_for_are_told_to_come_back() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let [second, third] = [platform.shop().await, platform.shop().await];
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 10_00)).await.id();
    platform.settled().await;
    let head = platform.database.head().await.pos;
    let path = format!("/v1/orders?as_of={head}");
    // Whoever lists streams waits for this lock.
    let mut hold = platform.database.admin.begin().await.unwrap();
    sqlx::query("lock table log.stream_head in access exclusive mode").execute(&mut *hold).await.unwrap();
    let answers = AtomicUsize::new(0);
    let ask = async |shop: &ApiShop| {
        let answer = platform.get(&shop.cashier, &path).await;
        answers.fetch_add(1, Ordering::Relaxed);
        answer
    };
    // Other databases may have a table of the same number.
    let waiting = "select count(*) from pg_locks where not granted and relation = 'log.stream_head'::regclass \
                   and database = (select oid from pg_database where datname = current_database())";
    let turns_taken = async |turns: i64| {
        eventually("whoever has a turn waits for the lock", Duration::from_secs(10), || async {
            let taken: i64 = sqlx::query_scalar(waiting).fetch_one(&platform.database.admin).await.unwrap();
            (taken >= turns).then_some(())
        })
        .await;
    };
    let release = async {
        eventually("those without a turn are refused", Duration::from_secs(30), || async {
            (answers.load(Ordering::Relaxed) >= 2).then_some(())
        })
        .await;
        // One thing is read beside them.
        let detail = platform.get(&shop.cashier, &format!("/v1/orders/{order}?as_of={head}")).await.status.as_u16();
        hold.rollback().await.unwrap();
        detail
    };
    let other = async {
        // Two of the first merchant wait for one turn and leave the other one to somebody else.
        turns_taken(1).await;
        let third = async {
            turns_taken(2).await;
            ask(&third).await.status.as_u16()
        };
        let (second, third) = tokio::join!(ask(&second), third);
        (second.status.as_u16(), third)
    };
    let (a, b, other, detail) = tokio::join!(ask(&shop), ask(&shop), other, release);
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!((statuses, detail), ([200, 503], 200), "one at a time of one merchant");
    assert_eq!(other, (200, 503), "two at a time in all");
    let refused = [a, b].into_iter().find(|answer| answer.status.as_u16() == 503).unwrap();
    assert_eq!((&refused.body["code"], refused.header("retry-after")), (&json!("Overloaded"), "1"), "{refused:?}");
    assert!(ask(&shop).await.status.is_success(), "room is given back");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_takes_too_much_is_refused_in_a_problem_that_says_what_to_do_instead() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 10_00)).await.id();
    platform.settled().await;
    let head = platform.database.head().await.pos;
    let path = format!("/v1/reports/daily-sales?from=2026-11-01&to=2026-11-30&as_of={head}");
    // Whoever lists streams waits for this lock, longer than one statement may take: the same answer as for too many rows.
    let mut hold = platform.database.admin.begin().await.unwrap();
    sqlx::query("lock table log.stream_head in access exclusive mode").execute(&mut *hold).await.unwrap();
    let single = format!("/v1/orders/{order}?as_of={head}");
    let (refused, single) = tokio::join!(platform.get(&shop.manager, &path), platform.get(&shop.cashier, &single));
    hold.rollback().await.unwrap();
    assert_eq!(refused.status.as_u16(), 422, "{refused:?}");
    assert_eq!(refused.header("content-type"), "application/problem+json");
    let body = &refused.body;
    assert_eq!((&body["code"], &body["type"]), (&json!("MomentTooLarge"), &json!("urn:smartpos:problem:moment-too-large")), "{body}");
    assert_eq!((&body["status"], &body["retryable"]), (&json!(422), &json!(false)), "{body}");
    let title = body["title"].as_str().unwrap();
    assert!(title.contains("single things") && title.contains("replay as-of"), "{title}");
    assert!(body["correlation_id"].is_string() && body["detail"].is_string(), "{body}");
    assert_eq!(refused.header("smartpos-as-of"), "", "nothing is answered about that moment");
    assert_eq!(single.ok().body["id"], json!(order), "a single thing is answered all the while");
    assert!(platform.get(&shop.manager, &path).await.status.is_success(), "the turn is given back");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_with_more_rows_than_it_may_have_is_refused_as_it_stands_and_as_it_stood() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let mut order = order_body(&shop, 40_00);
    let mut cake = order["lines"][0].clone();
    cake["item_code"] = json!("CAKE");
    order["lines"].as_array_mut().unwrap().push(cake);
    let order = platform.post(&shop.cashier, "/v1/orders", order).await.id();
    let bill = platform.post(&shop.cashier, "/v1/bills", json!({"order_id": order})).await.id();
    platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.ok();
    platform.settled().await;
    let scope = ReadScope { tenant: Some(shop.merchant), ..ReadScope::default() };
    let today = platform.now().date_naive();
    let (from, to) = (today.pred_opt().unwrap(), today.succ_opt().unwrap());
    let now = projections::ReadModels::new(platform.database.pool(Role::App));
    let then = now.at(platform.database.head().await.pos);
    for reads in [now, then] {
        assert_eq!(reads.daily_item_sales(&scope, None, from, to, 2).await.unwrap().len(), 2);
        let refused = reads.daily_item_sales(&scope, None, from, to, 1).await;
        assert!(matches!(refused, Err(projections::Error::TooMuch)), "one row is left out and nobody is told");
        assert!(matches!(reads.daily_sales(&scope, None, from, to, 0).await, Err(projections::Error::TooMuch)));
        assert!(matches!(reads.daily_tender_sales(&scope, None, from, to, 0).await, Err(projections::Error::TooMuch)));
    }
    platform.stop().await;
}

/// What the database shows to `scope` of a table under the policy of `visibility`.
async fn shown(pool: &PgPool, table: &str, scope: &ReadScope) -> Vec<i32> {
    let mut tx = pool.begin().await.unwrap();
    let settings =
        "select set_config('smartpos.tenant', $1, true), set_config('smartpos.store', $2, true), set_config('smartpos.psp', $3, true)";
    sqlx::query(settings)
        .bind(scope.tenant.map(|tenant| commands::event_store::uuid_of(tenant).to_string()).unwrap_or_default())
        .bind(scope.store.map(|store| store.to_string()).unwrap_or_default())
        .bind(scope.psp.map(|psp| psp.to_string()).unwrap_or_default())
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query_scalar(AssertSqlSafe(format!("select n from {table} order by n"))).fetch_all(&mut *tx).await.unwrap()
}

#[tokio::test]
async fn the_policy_in_the_database_and_the_one_for_folded_rows_show_the_same_rows() {
    let database = TestDatabase::new().await;
    let app = database.pool(Role::App);
    let id = |n: u128| Ulid(n);
    let tenants = [None, Some(MerchantId(id(1))), Some(MerchantId(id(2)))];
    let stores = [None, Some(StoreId(id(11))), Some(StoreId(id(12)))];
    let psps = [None, Some(PspId(id(21))), Some(PspId(id(22)))];
    let mut every = Vec::new();
    for tenant in tenants {
        for store in stores {
            every.extend(psps.map(|psp| (tenant, store, psp)));
        }
    }
    let mut rows: Vec<Value> = Vec::new();
    for (tenant, store, psp) in every.iter().copied() {
        let tenant = tenant.map(|tenant| commands::event_store::uuid_of(tenant).to_string());
        rows.push(json!({"n": rows.len(), "tenant": tenant, "store_id": store, "psp_id": psp}));
    }
    let mut different = 0;
    for (name, visibility) in [
        ("by_tenant", Visibility::Tenant),
        ("by_store", Visibility::Store),
        ("by_store_and_psp", Visibility::StoreAndPsp),
        ("by_tenant_and_psp", Visibility::TenantAndPsp),
    ] {
        let table = format!("read.{name}");
        for sql in [
            format!("create table {table} (n int, tenant uuid, store_id text, psp_id text)"),
            format!("grant select on {table} to smartpos_app"),
            format!("alter table {table} enable row level security"),
            format!("create policy app on {table} for select to smartpos_app using ({})", policy(visibility)),
        ] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&database.admin).await.unwrap();
        }
        let fill = format!("insert into {table} select * from jsonb_populate_recordset(null::{table}, $1)");
        sqlx::query(AssertSqlSafe(fill)).bind(Value::from(rows.clone())).execute(&database.admin).await.unwrap();
        for (tenant, store, psp) in every.iter().copied() {
            let scope = ReadScope { tenant, psp, store };
            let folded: Vec<i32> = rows
                .iter()
                .filter(|row| sees(visibility, &scope, row))
                .map(|row| i32::try_from(row["n"].as_i64().unwrap()).unwrap())
                .collect();
            assert_eq!(folded, shown(&app, &table, &scope).await, "{visibility:?} {scope:?}");
            different += usize::from(!folded.is_empty() && folded.len() < rows.len());
        }
    }
    assert!(different > 40, "{different}: the scopes hardly differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_past_is_shown_until_the_person_is_forgotten() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let stranger = platform.shop().await;
    let profile = |name: &str| json!({"profile": {"name": name, "phone": "+66812345678", "email": "somchai@example.co.th"}});
    let made = platform.post(&shop.cashier, "/v1/customers", profile("Somchai")).await.ok();
    let customer = made.id();
    let then = made.header("smartpos-position").to_owned();
    let path = format!("/v1/customers/{customer}");
    platform.send(&shop.cashier, reqwest::Method::PATCH, &path, None, Some(&profile("Somsak"))).await.ok();
    platform.settled().await;
    let past = format!("{path}?as_of={then}");
    let list = format!("/v1/customers?as_of={then}");
    let name = |body: &Value| body["profile"]["name"].clone();
    assert_eq!(name(&platform.get(&shop.cashier, &path).await.ok().body), "Somsak");
    assert_eq!(name(&platform.get(&shop.cashier, &past).await.ok().body), "Somchai");
    assert_eq!(name(&platform.get(&shop.cashier, &list).await.ok().body["data"][0]), "Somchai");
    assert_eq!(platform.get(&stranger.cashier, &past).await.status.as_u16(), 404);
    assert_eq!(platform.get(&stranger.cashier, &list).await.ok().body["data"], json!([]));
    platform.post(&shop.admin, &format!("{path}/erase"), json!({"reason": "requested"})).await.ok();
    platform.settled().await;
    for path in [past, list] {
        let answer = platform.get(&shop.cashier, &path).await.ok();
        let text = String::from_utf8(answer.bytes).unwrap();
        assert!(text.contains(&customer) && !text.contains("Somchai") && !text.contains("example.co.th"), "{text}");
    }
    platform.stop().await;
}
