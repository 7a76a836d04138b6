//! The provider's own routes.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{NewCharge, Omise, cards::word_of, json_of, ok, wire};
use crate::simulator::{
    Operation, Reply, answer,
    charge_levers::{self, Charging as _},
    locked,
};

pub(super) fn router() -> Router<Arc<Omise>> {
    Router::new()
        .route("/tokens", post(token))
        .route("/sources", post(source))
        .route("/charges", post(create).get(list))
        .route("/charges/{id}", get(get_charge))
        .route("/charges/{id}/refunds", post(refund).get(list_refunds))
        .route("/charges/{id}/{verb}", post(act))
        .merge(charge_levers::routes())
}

async fn token(State(omise): State<Arc<Omise>>, body: Bytes) -> Response {
    let act = || {
        let body: Value = json_of(&body)?;
        let word = body["card"]["number"].as_str().and_then(word_of).ok_or_else(|| wire::bad("invalid_card", "no test card"))?;
        let id = format!("tokn_test_{word}_{}", omise.numbers.fetch_add(1, Ordering::Relaxed));
        Ok(ok(&json!({"object": "token", "id": id, "used": false})))
    };
    answer(&*omise, Operation::Token, None, act).await
}

async fn source(State(omise): State<Arc<Omise>>, headers: HeaderMap, body: Bytes) -> Response {
    let act = || {
        omise.check(&headers)?;
        let body: Value = json_of(&body)?;
        let (Some(amount), Some(currency), Some("promptpay")) = (body["amount"].as_i64(), body["currency"].as_str(), body["type"].as_str())
        else {
            return Err(wire::bad("bad_request", "type, amount and currency are needed"));
        };
        let id = omise.number("src");
        locked(&omise.sources).insert(id.clone(), (amount, currency.to_owned()));
        Ok(ok(&json!({"object": "source", "id": id, "type": "promptpay", "flow": "offline", "amount": amount, "currency": currency})))
    };
    answer(&*omise, Operation::Token, None, act).await
}

async fn create(State(omise): State<Arc<Omise>>, headers: HeaderMap, body: Bytes) -> Response {
    let new: Result<NewCharge, Reply> = json_of(&body);
    let reference = new.as_ref().ok().and_then(|new| new.metadata.get("reference").cloned());
    let act = || {
        omise.check(&headers)?;
        omise.make(new?)
    };
    answer(&*omise, Operation::Start, reference.as_deref(), act).await
}

async fn act(State(omise): State<Arc<Omise>>, Path((id, verb)): Path<(String, String)>, headers: HeaderMap, body: Bytes) -> Response {
    let operation = if verb == "capture" { Operation::Capture } else { Operation::Cancel };
    let reference = locked(&omise.charges).reference_of(&id);
    let act = || {
        omise.check(&headers)?;
        omise.move_on(&id, &verb, &json_of(&body)?)
    };
    answer(&*omise, operation, reference.as_deref(), act).await
}

async fn refund(State(omise): State<Arc<Omise>>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let reference = locked(&omise.charges).reference_of(&id);
    let act = || {
        omise.check(&headers)?;
        omise.send_back(&id, json_of(&body)?)
    };
    answer(&*omise, Operation::Refund, reference.as_deref(), act).await
}

async fn get_charge(State(omise): State<Arc<Omise>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let reference = locked(&omise.charges).reference_of(&id);
    let act = || {
        omise.check(&headers)?;
        locked(&omise.charges).find(&id).map(|charge| ok(&omise.shown(&charge))).map_err(|_| wire::missing())
    };
    answer(&*omise, Operation::Inquire, reference.as_deref(), act).await
}

/// `offset` and `limit`, oldest first.
pub(super) fn page(query: &str, items: &[Value]) -> Reply {
    let number = |name: &str| {
        let pair = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(known, _)| *known == name);
        pair.and_then(|(_, value)| value.parse::<usize>().ok())
    };
    let (offset, limit) = (number("offset").unwrap_or(0), number("limit").unwrap_or(20).min(100));
    let data: Vec<&Value> = items.iter().skip(offset).take(limit).collect();
    Reply::json(StatusCode::OK, &json!({"object": "list", "offset": offset, "limit": limit, "total": items.len(), "data": data}))
}

async fn list(State(omise): State<Arc<Omise>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let act = || {
        omise.check(&headers)?;
        let query = query.unwrap_or_default();
        let from = query.split('&').find_map(|pair| pair.strip_prefix("from=")).and_then(|text| text.parse::<DateTime<Utc>>().ok());
        let charges = locked(&omise.charges);
        let since = charges.all().iter().filter(|charge| from.is_none_or(|from| charge.created_at >= from) && !omise.hides(charge));
        Ok(page(&query, &since.map(|charge| omise.shown(charge)).collect::<Vec<_>>()))
    };
    answer(&*omise, Operation::Inquire, None, act).await
}

async fn list_refunds(State(omise): State<Arc<Omise>>, Path(id): Path<String>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let reference = locked(&omise.charges).reference_of(&id);
    let act = || {
        omise.check(&headers)?;
        let charge = locked(&omise.charges).find(&id).map_err(|_| wire::missing())?;
        let refunds: Vec<Value> = charge.refunds.iter().map(|refund| wire::refund(&charge, refund)).collect();
        Ok(page(&query.unwrap_or_default(), &refunds))
    };
    answer(&*omise, Operation::InquireRefund, reference.as_deref(), act).await
}
