//! Pages of the events of one store among those of others.

use support::{ApiShop, TestPlatform, order_body};

async fn page(platform: &TestPlatform, token: &str, query: &str) -> (Vec<String>, bool, i64) {
    let page = platform.get(token, &format!("/v1/events?{query}")).await.ok().body;
    let names = page["data"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    (names, page["has_more"].as_bool().unwrap(), page["next_after"].as_i64().unwrap())
}

async fn order(platform: &TestPlatform, shop: &ApiShop) {
    platform.post(&shop.cashier, "/v1/orders", order_body(shop, 107_00)).await.ok();
    platform.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hears_of_little_misses_nothing_of_it() {
    let platform = TestPlatform::start().await;
    let quiet = platform.shop().await;
    let busy = platform.shop_of(quiet.merchant, "ARI").await;
    order(&platform, &quiet).await;
    let (told, has_more, after) = page(&platform, &quiet.manager, "after=0&limit=200").await;
    assert!(told.iter().any(|name| name.starts_with("order.")) && !has_more, "{told:?}");
    for _ in 0..3 {
        order(&platform, &busy).await;
        assert_eq!(page(&platform, &quiet.manager, &format!("after={after}")).await, (vec![], false, after));
    }
    let head = platform.database.head().await.pos;
    let ahead = head + 5_000;
    assert_eq!(page(&platform, &quiet.manager, &format!("after={ahead}")).await, (vec![], false, ahead), "the log went back");
    order(&platform, &quiet).await;
    let (told, ..) = page(&platform, &quiet.manager, &format!("after={after}")).await;
    assert!(told.iter().any(|name| name.starts_with("order.")), "{told:?}");
}
