//! Every documented route lets in exactly the roles that hold its permission.

use axum::{body::Body, http::Method};
use domain::ids::Ulid;

use super::{edge::Edge, *};
use crate::auth::{Permission, Role};

/// The path with an identifier of the right kind in each place.
fn filled(path: &str) -> String {
    let prefix = match path.split('/').nth(2) {
        Some("orders") => "ord",
        Some("bills") => "bill",
        Some("payments") => "pay",
        Some("payment-intents") => "pi",
        Some("refunds") => "ref",
        Some("merchants") => "mer",
        Some("stores") => "sto",
        Some("customers") => "cus",
        Some("api-keys") => "pk",
        Some("provider-accounts") => "pac",
        Some("providers" | "idempotency-keys") => "",
        Some("inbound-webhooks") => "whk",
        Some("webhook-endpoints") => "whe",
        Some("events") => "evt",
        other => panic!("{other:?}"),
    };
    let id = Ulid::from_bytes([7; 16]);
    path.replace("{id}", &format!("{prefix}_{id}")).replace("{line_id}", &format!("lin_{id}")).replace("{key}", "a-key")
}

/// Method, path and permission of every documented operation on a tenant's data.
fn guarded() -> Vec<(Method, String, Permission)> {
    let mut document = crate::openapi::document();
    let mut found = Vec::new();
    for (path, item) in &mut document.paths.paths {
        let path = path.clone();
        for (method, operation) in crate::openapi::operations_mut(item) {
            let word = serde_json::to_value(&*operation).unwrap()["x-permission"].as_str().map(str::to_owned);
            let open = !path.starts_with("/v1/") || path == "/v1/auth/dev-token";
            assert_eq!(word.is_none(), open, "{method} {path} declares no permission");
            let Some(word) = word else { continue };
            let permission = Permission::ALL.iter().find(|permission| permission.as_str() == word).unwrap();
            let path = if path.contains('{') { filled(&path) } else { path.clone() };
            found.push((method.to_uppercase().parse().unwrap(), path, *permission));
        }
    }
    found
}

#[tokio::test]
async fn every_route_lets_in_exactly_the_roles_that_hold_its_permission() {
    let edge = Edge::new();
    let routes = guarded();
    assert!(routes.len() >= 38, "{}", routes.len());
    for (method, path, permission) in routes {
        let request = |token: Option<&str>| {
            let request = Request::builder().method(method.clone()).uri(&path);
            let request = match token {
                Some(token) => request.header("authorization", format!("Bearer {token}")),
                None => request,
            };
            request.body(Body::empty()).unwrap()
        };
        for token in [None, Some(""), Some("a.b.c")] {
            assert_eq!(edge.send(request(token)).await.status, 401, "{method} {path} with token {token:?}");
        }
        for role in Role::ALL {
            let whole = permission.is_of_the_whole_merchant();
            if whole && role.needs_merchant() {
                let answer = edge.send(request(Some(&edge.token_of(role, true)))).await;
                assert_eq!(answer.status, 403, "{method} {path} as {role:?} of one store: {}", answer.body);
            }
            let answer = edge.send(request(Some(&edge.token_of(role, !whole)))).await;
            let forbidden = answer.status == 403;
            assert_eq!(forbidden, !role.allows(permission), "{method} {path} as {role:?}: {} {}", answer.status, answer.body);
            // The catalog of providers asks no database.
            let expected = [400, 403, 415, if path == "/v1/providers" { 200 } else { 503 }];
            assert!(expected.contains(&answer.status), "{method} {path} as {role:?}: {} {}", answer.status, answer.body);
        }
    }
}
