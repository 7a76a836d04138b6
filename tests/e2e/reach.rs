//! How far a caller reaches: of one store or of the whole merchant, as what role, and by which way it asks.

use api::auth::Role;
use reqwest::Method;
use serde_json::json;
use support::TestPlatform;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_limited_to_a_store_does_not_reach_what_belongs_to_the_whole_merchant() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let limited = platform.token(Role::MerchantAdmin, Some(shop.merchant), Some(shop.store));
    let input = json!({"url": "https://shop.example/hooks", "events": "*"});
    let endpoint = platform.post(&shop.admin, "/v1/webhook-endpoints", input.clone()).await.id();
    platform.settled().await;
    let path = format!("/v1/webhook-endpoints/{endpoint}");
    let head = platform.database.head().await.pos;
    let asked = [
        (Method::POST, "/v1/webhook-endpoints".to_owned(), Some(input.clone())),
        (Method::GET, "/v1/webhook-endpoints".to_owned(), None),
        (Method::GET, path.clone(), None),
        (Method::PATCH, path.clone(), Some(input)),
        (Method::DELETE, path.clone(), None),
        (Method::POST, format!("{path}/rotate-secret"), None),
        (Method::GET, format!("{path}/deliveries"), None),
        (Method::POST, format!("{path}/resend"), Some(json!({"after": 0}))),
        (Method::POST, format!("{path}/test"), None),
        (Method::POST, format!("{path}/disable"), None),
        (Method::GET, "/v1/inbound-webhooks".to_owned(), None),
        (Method::PATCH, format!("/v1/merchants/{}", shop.merchant), Some(json!({"name": "Mine"}))),
    ];
    for (method, path, body) in asked {
        let refused = platform.send(&limited, method.clone(), &path, None, body.as_ref()).await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (403, &json!("Forbidden")), "{method} {path}: {refused:?}");
    }
    assert_eq!(platform.database.head().await.pos, head, "nothing was done");
    // What may belong to one store is not refused as a whole.
    platform.get(&limited, "/v1/provider-accounts").await.ok();
    platform.get(&limited, "/v1/api-keys").await.ok();
    platform.stop().await;
}
