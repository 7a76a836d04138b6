//! The provider's own routes.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, Method, Uri},
    response::Response,
    routing::{get, post},
};
use serde_json::Value;

use super::{Form, Stripe, form, ok, wire};
use crate::simulator::{
    Operation, Reply, answer,
    charge_levers::{self, Charging as _},
    locked,
};

pub(super) fn router() -> Router<Arc<Stripe>> {
    Router::new()
        .route("/v1/payment_intents", post(create).get(list_intents))
        .route("/v1/payment_intents/{id}", get(get_intent))
        .route("/v1/payment_intents/{id}/{verb}", post(act))
        .route("/v1/refunds", post(refund).get(list_refunds))
        .route("/v1/disputes", get(list_disputes))
        .merge(charge_levers::routes())
}

struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

async fn create(State(stripe): State<Arc<Stripe>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let reference = form(&String::from_utf8_lossy(&body)).and_then(|mut form| form.remove("metadata[reference]"));
    let act = || stripe.once(&method, &uri, &headers, &body, |form| stripe.make(form));
    answer(&*stripe, Operation::Start, reference.as_deref(), act).await
}

async fn act(
    State(stripe): State<Arc<Stripe>>,
    Path((id, verb)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let operation = match verb.as_str() {
        "capture" => Operation::Capture,
        "increment_authorization" => Operation::Increment,
        _ => Operation::Cancel,
    };
    let request = Request { method, uri, headers, body };
    let reference = locked(&stripe.charges).reference_of(&id);
    let act = || stripe.once(&request.method, &request.uri, &request.headers, &request.body, |form| stripe.move_on(&id, &verb, form));
    answer(&*stripe, operation, reference.as_deref(), act).await
}

async fn refund(State(stripe): State<Arc<Stripe>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let reference = form(&String::from_utf8_lossy(&body)).and_then(|mut form| form.remove("metadata[reference]"));
    let act = || stripe.once(&method, &uri, &headers, &body, |form| stripe.send_back(form));
    answer(&*stripe, Operation::Refund, reference.as_deref(), act).await
}

async fn get_intent(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let reference = locked(&stripe.charges).reference_of(&id);
    let act = || {
        stripe.check(&headers)?;
        locked(&stripe.charges).find(&id).map(|charge| ok(&wire::intent(&charge))).map_err(|_| wire::missing())
    };
    answer(&*stripe, Operation::Inquire, reference.as_deref(), act).await
}

/// Newest first, `limit` a page.
fn page(form: &Form, mut items: Vec<(String, Value)>, url: &str) -> Reply {
    items.reverse();
    let start = form.get("starting_after").and_then(|after| items.iter().position(|(id, _)| id == after)).map_or(0, |at| at + 1);
    let limit = form.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(10_usize).min(100);
    let rest: Vec<Value> = items.into_iter().skip(start).map(|(_, value)| value).collect();
    wire::list(rest.get(..limit.min(rest.len())).unwrap_or_default(), rest.len() > limit, url)
}

async fn list_intents(State(stripe): State<Arc<Stripe>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let act = || {
        stripe.check(&headers)?;
        let form = form(&query.unwrap_or_default()).unwrap_or_default();
        let since: i64 = form.get("created[gte]").and_then(|text| text.parse().ok()).unwrap_or(0);
        let charges = locked(&stripe.charges);
        let since = charges.all().iter().filter(|charge| charge.created_at.timestamp() >= since && !stripe.hides(charge));
        Ok(page(&form, since.map(|charge| (charge.id.clone(), wire::intent(charge))).collect(), "/v1/payment_intents"))
    };
    answer(&*stripe, Operation::Inquire, None, act).await
}

async fn list_refunds(State(stripe): State<Arc<Stripe>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let form = form(&query.unwrap_or_default()).unwrap_or_default();
    let id = form.get("charge").map_or(String::new(), |charge| charge.replacen("ch_", "pi_", 1));
    let reference = locked(&stripe.charges).reference_of(&id);
    let act = || {
        stripe.check(&headers)?;
        let charge = locked(&stripe.charges).find(&id).map_err(|_| wire::missing())?;
        let refunds = charge.refunds.iter().map(|refund| (refund.id.clone(), wire::refund(&charge, refund)));
        Ok(page(&form, refunds.collect(), "/v1/refunds"))
    };
    answer(&*stripe, Operation::InquireRefund, reference.as_deref(), act).await
}

async fn list_disputes(State(stripe): State<Arc<Stripe>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let form = form(&query.unwrap_or_default()).unwrap_or_default();
    let id = form.get("charge").map_or(String::new(), |charge| charge.replacen("ch_", "pi_", 1));
    let reference = locked(&stripe.charges).reference_of(&id);
    let act = || {
        stripe.check(&headers)?;
        let charge = locked(&stripe.charges).find(&id).map_err(|_| wire::missing())?;
        let disputes = charge.dispute.map(|_| (wire::dispute_id(&charge), wire::dispute(&charge)));
        Ok(page(&form, disputes.into_iter().collect(), "/v1/disputes"))
    };
    answer(&*stripe, Operation::Inquire, reference.as_deref(), act).await
}
