//! Tenants and stores are kept apart, at the edge and in the database itself.

use api::auth::Role;
use commands::database::Role as DatabaseRole;
use serde_json::json;
use sqlx::{PgPool, Row};
use support::TestPlatform;

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_or_stores_things_do_not_exist_for_a_caller() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (order, bill) = platform.billed(&shop, 40_00).await;
    let payment = platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.ok();
    let refund = json!({"payment_id": payment.id(), "destination": "cash", "reason": "cold"});
    let refund = platform.post(&shop.manager, "/v1/refunds", refund).await.id();
    platform.settled().await;
    let intent = payment.body["payment_intent_id"].as_str().unwrap();
    let own = platform.get(&shop.cashier, &format!("/v1/orders/{order}")).await;
    assert!(own.status.is_success(), "{own:?}");

    let strangers = [platform.shop().await, platform.shop_of(shop.merchant, "ARI").await];
    for stranger in &strangers {
        let reads = [
            format!("/v1/orders/{order}"),
            format!("/v1/orders/{order}/timeline"),
            format!("/v1/bills/{bill}"),
            format!("/v1/payments/{}", payment.id()),
            format!("/v1/payment-intents/{intent}"),
            format!("/v1/refunds/{refund}"),
            format!("/v1/stores/{}", shop.store),
        ];
        for path in reads {
            let answer = platform.get(&stranger.manager, &path).await;
            assert_eq!(answer.status.as_u16(), 404, "{path}: {answer:?}");
        }
        let writes = [
            (format!("/v1/orders/{order}/cancel"), json!({"reason": "mine"})),
            (
                format!("/v1/orders/{order}/lines"),
                json!({"item_code": "A", "name": "A", "quantity_milli": 1000, "unit_price": {"amount": 1, "currency": "THB"}, "tax_class": "standard"}),
            ),
            ("/v1/bills".to_owned(), json!({"order_id": order})),
            (format!("/v1/bills/{bill}/void"), json!({"reason": "mine"})),
            ("/v1/payments".to_owned(), json!({"bill_id": bill, "tender": "cash"})),
            (format!("/v1/payment-intents/{intent}/cancel"), json!({"reason": "mine"})),
            ("/v1/refunds".to_owned(), json!({"payment_id": payment.id(), "destination": "cash", "reason": "mine"})),
        ];
        let before = platform.database.head().await.pos;
        for (path, body) in writes {
            let answer = platform.post(&stranger.manager, &path, body).await;
            assert_eq!(answer.status.as_u16(), 404, "{path}: {answer:?}");
        }
        assert_eq!(platform.database.head().await.pos, before, "nothing was stored");
        for path in ["/v1/orders", "/v1/bills", "/v1/payments", "/v1/refunds"] {
            let answer = platform.get(&stranger.cashier, path).await;
            assert!(answer.body["data"].as_array().is_none_or(Vec::is_empty), "{path}: {answer:?}");
        }
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_leaves_nothing_behind_on_its_connection() {
    let platform = TestPlatform::start().await;
    let shops = [platform.shop().await, platform.shop().await];
    let mut own = Vec::new();
    for shop in &shops {
        own.push(platform.post(&shop.cashier, "/v1/orders", support::order_body(shop, 40_00)).await.id());
    }
    platform.settled().await;
    // Given more time to open a connection than the product gives itself; one connection, which every scope goes over.
    let several = platform.database.pool(DatabaseRole::App);
    let options = (*several.connect_options()).clone();
    let pool = several.options().clone().max_connections(1).connect_lazy_with(options);
    let reads = projections::ReadModels::new(pool.clone());
    let scope = |n: usize| projections::ReadScope { tenant: Some(shops[n].merchant), psp: None, store: Some(shops[n].store) };
    for (n, of) in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 0)] {
        let found = reads.order(&scope(n), own[of].parse().unwrap()).await.unwrap();
        assert_eq!(found.is_some(), n == of, "shop {n} asks for an order of shop {of}");
        let bare: i64 = sqlx::query_scalar("select count(*) from read.orders").fetch_one(&pool).await.unwrap();
        assert_eq!(bare, 0, "outside of a scope nothing is seen");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_does_only_what_it_is_allowed() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (_, bill) = platform.billed(&shop, 40_00).await;
    let payment = platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.id();
    let refund = json!({"payment_id": payment, "destination": "cash", "reason": "mine"});
    assert_eq!(platform.post(&shop.cashier, "/v1/refunds", refund.clone()).await.status.as_u16(), 403);
    let auditor = platform.token(Role::Auditor, Some(shop.merchant), None);
    assert_eq!(platform.post(&auditor, "/v1/refunds", refund).await.status.as_u16(), 403);
    assert_eq!(platform.post(&auditor, "/v1/bills", json!({"order_id": "x"})).await.status.as_u16(), 403);
    assert!(platform.get(&auditor, "/v1/payments").await.status.is_success());
    let merchant = json!({"code": "X", "name": "X"});
    assert_eq!(platform.post(&shop.admin, "/v1/merchants", merchant.clone()).await.status.as_u16(), 403);
    let nobody =
        support::patiently_answered(platform.raw(reqwest::Method::POST, "/v1/merchants").header("Idempotency-Key", "n").json(&merchant))
            .await;
    assert_eq!(nobody.status.as_u16(), 401);
    let forged =
        support::patiently_answered(platform.raw(reqwest::Method::GET, "/v1/orders").bearer_auth(format!("{}x", shop.cashier))).await;
    assert_eq!(forged.status.as_u16(), 401);
    platform.stop().await;
}

/// Read-model tables that row-level security does not guard for everyone, or that hold no policy for the edge.
async fn unguarded(pool: &PgPool) -> Vec<String> {
    let sql = "select n.nspname || '.' || c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where c.relkind in ('r', 'p') and n.nspname ~ '_v[0-9]+$'
                 and not (c.relrowsecurity and c.relforcerowsecurity
                          and exists (select from pg_policy p where p.polrelid = c.oid and p.polroles @> array[(select oid from pg_roles where rolname = 'smartpos_app')]))
               order by 1";
    sqlx::query(sql).fetch_all(pool).await.unwrap().iter().map(|row| row.get("name")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_model_table_is_guarded_by_a_policy() {
    let platform = TestPlatform::start().await;
    let admin = &platform.database.admin;
    let tables: i64 = sqlx::query_scalar(
        "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and n.nspname ~ '_v[0-9]+$'",
    )
    .fetch_one(admin)
    .await
    .unwrap();
    assert!(tables >= 10, "{tables}");
    assert_eq!(unguarded(admin).await, Vec::<String>::new());
    // The check itself notices a policy that is missing, and one that does not bind the owner.
    sqlx::query("create table orders_v3.forgotten (key text primary key, tenant uuid)").execute(admin).await.unwrap();
    sqlx::query("alter table orders_v3.orders no force row level security").execute(admin).await.unwrap();
    assert_eq!(unguarded(admin).await, ["orders_v3.forgotten", "orders_v3.orders"]);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_shows_a_connection_its_own_tenant_only() {
    let platform = TestPlatform::start().await;
    let shops = [platform.shop().await, platform.shop().await];
    for shop in &shops {
        platform.billed(shop, 40_00).await;
    }
    platform.settled().await;
    let pool = platform.database.pool(DatabaseRole::App);
    let without: i64 = sqlx::query_scalar("select count(*) from read.orders").fetch_one(&pool).await.unwrap();
    assert_eq!(without, 0, "a query that names no tenant sees nothing");
    // Interleaved on few connections: a setting never outlives its transaction.
    let asked = (0..400).map(|n| {
        let (pool, shop) = (pool.clone(), shops[n % 2].clone());
        async move {
            let mut transaction = pool.begin().await.unwrap();
            let tenant = commands::event_store::uuid_of(shop.merchant).to_string();
            sqlx::query("select set_config('smartpos.tenant', $1, true)").bind(tenant).execute(&mut *transaction).await.unwrap();
            let stores: Vec<String> = sqlx::query_scalar("select store_id from read.orders").fetch_all(&mut *transaction).await.unwrap();
            assert_eq!(stores, [shop.store.to_string()]);
            if n % 3 == 0 {
                transaction.rollback().await.unwrap();
            } else {
                transaction.commit().await.unwrap();
            }
            let after: i64 = sqlx::query_scalar("select count(*) from read.orders").fetch_one(&pool).await.unwrap();
            assert_eq!(after, 0);
        }
    });
    futures_util::future::join_all(asked).await;
    platform.stop().await;
}
