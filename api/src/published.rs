//! The published spelling of payment intents: under `/v1/payment_intents` (and only there) requests may use the published names and
//! answers carry them. Everything behind this layer knows the canonical ones, so that a key, a rule and a metric are one.

mod request;

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use domain::{
    ids::{MerchantId, PaymentIntentId, StoreId},
    money::Money,
    payment_intent::{PaymentIntent, Tender},
    provider::MethodKind,
    routing::{self, Candidate, route},
};
use serde_json::{Map, Value, json};

use self::request::Fields;
use crate::{
    auth::{Principal, admit::Sent},
    extract::{body_bytes, strict_json},
    problem::Problem,
    routes::payment_intent_sync::once_answered,
    state::AppState,
};

const CANONICAL: &str = "/v1/payment-intents";
const ONE: &str = "/v1/payment-intents/{id}";
const CONFIRM: &str = "/v1/payment-intents/{id}/confirm";
const CANCEL: &str = "/v1/payment-intents/{id}/cancel";
const CAPTURE: &str = "/v1/payment-intents/{id}/capture";
const INCREMENT: &str = "/v1/payment-intents/{id}/increment";
/// Larger answers than a page of intents do not occur.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The layer. It stands behind the door, where signatures were checked over the request as it was sent.
pub async fn translate(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let spelled = request.extensions().get::<Sent>().is_some_and(|sent| sent.0.path().contains("/payment_intents"));
    if !spelled || !route.starts_with(CANONICAL) {
        return next.run(request).await;
    }
    let merchant = request.extensions().get::<Principal>().and_then(|principal| principal.merchant);
    let own_store = request.extensions().get::<Principal>().and_then(|principal| principal.store);
    let reader = merchant.filter(|_| request.method() == Method::GET);
    let begins = matches!((route, request.method()), (CANONICAL | CONFIRM, &Method::POST));
    let request = match (route, request.method()) {
        (CANONICAL, &Method::POST) => canonical(request, |fields, headers| request::created(fields, headers, own_store)).await,
        (ONE, &Method::PATCH) => canonical(request, request::changed).await,
        (CANCEL, &Method::POST) => canonical(request, request::canceled).await,
        (CAPTURE | INCREMENT, &Method::POST) => some_of_it(&state, merchant, request).await,
        _ => Ok(request),
    };
    match request {
        Ok(request) => {
            let response = next.run(request).await;
            // What a command answers is kept for ever; what accounts can do changes, and stands in answers to questions only.
            let accounts = match reader.filter(|_| response.status().is_success()) {
                Some(merchant) => state.providers.candidates(merchant).await.unwrap_or_default(),
                None => vec![],
            };
            let response = match merchant.filter(|_| begins) {
                Some(merchant) => with_action(&state, merchant, response).await,
                None => response,
            };
            published(response, &accounts).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn canonical(
    request: Request,
    fields_of: impl FnOnce(Fields, &mut HeaderMap) -> Result<Fields, Problem>,
) -> Result<Request, Problem> {
    let (mut parts, body) = request.into_parts();
    let mut bytes = body_bytes(Request::from_parts(parts.clone(), body), &()).await?;
    if bytes.is_empty() {
        // Nothing was left to say: the payment token stood elsewhere.
        bytes = Bytes::from_static(b"{}");
        parts.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    let body = match strict_json::parse(&bytes)? {
        Value::Object(fields) => Bytes::from(Value::Object(fields_of(fields, &mut parts.headers)?).to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => bytes,
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// A request for some of an intent's money, whose currency need not be said: an intent has one, for ever. Without a body it is for all.
async fn some_of_it(state: &AppState, merchant: Option<MerchantId>, request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = body_bytes(Request::from_parts(parts.clone(), body), &()).await?;
    let request = Request::from_parts(parts, Body::from(bytes.clone()));
    if bytes.is_empty() {
        return Ok(request);
    }
    let id = request.uri().path().split('/').nth(3).and_then(|id| id.parse::<PaymentIntentId>().ok());
    let own = match merchant.zip(id) {
        Some((merchant, id)) => {
            state.commands.read_at::<PaymentIntent>(merchant, id).await?.1.details.as_ref().map(|created| created.amount.currency)
        }
        None => None,
    };
    canonical(request, |fields, _| Ok(request::of_amount(fields, own))).await
}

/// The published word for a method.
const fn type_of(method: MethodKind) -> &'static str {
    match method {
        MethodKind::PromptPay => "qr_mpm",
        MethodKind::Card => "credit_card",
    }
}

/// How an intent can be paid: by what it is tendered with, or, while no attempt was begun, by whatever of what the merchant offered an
/// account takes it with.
fn types_of(intent: &Map<String, Value>, accounts: &[Candidate]) -> Vec<&'static str> {
    let tender = intent.get("tender").and_then(Value::as_str).and_then(tender_word).map(type_of);
    let read = || {
        let amount: Money = serde_json::from_value(intent.get("amount")?.clone()).ok()?;
        let store: StoreId = intent.get("store_id")?.as_str()?.parse().ok()?;
        (intent.get("status")? == "requires_payment_method").then_some((amount, store))
    };
    let Some((amount, store)) = read() else { return tender.into_iter().collect() };
    let takes = |method: &MethodKind| route(&routing::Request { method: *method, amount, store, failed_at: &[] }, accounts).is_ok();
    let offered: Option<Vec<MethodKind>> = intent.get("tenders").and_then(Value::as_array).map(|tenders| {
        let words = tenders.iter().filter_map(Value::as_str);
        words.filter_map(tender_word).collect()
    });
    let is_offered = |method: &MethodKind| offered.as_ref().is_none_or(|offered| offered.contains(method));
    let methods = [MethodKind::PromptPay, MethodKind::Card].into_iter().filter(is_offered);
    let taken: Vec<_> = methods.filter(takes).map(type_of).collect();
    if taken.is_empty() { tender.into_iter().collect() } else { taken }
}

/// The method behind a tender's word; recorded tenders have none.
fn tender_word(word: &str) -> Option<MethodKind> {
    [(Tender::PromptPay, MethodKind::PromptPay), (Tender::OnlineCard, MethodKind::Card)]
        .into_iter()
        .find_map(|(tender, method)| (tender.as_str() == word).then_some(method))
}

/// The published form answers what the payer must do (`qr_content`), where ours says that the provider is being called: so it is waited
/// for. What is kept under the request's key stays as it was answered first.
async fn with_action(state: &AppState, merchant: MerchantId, response: Response) -> Response {
    if !response.status().is_success() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, MAX_ANSWER).await else {
        return Problem::internal(&"an answer was too long to be completed").into_response();
    };
    let Ok(mut shown) = serde_json::from_slice::<Value>(&bytes) else { return Response::from_parts(parts, Body::from(bytes)) };
    let Some((version, Value::Object(fresh))) = once_answered(state, merchant, &shown).await else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    if let Some(fields) = shown.as_object_mut() {
        fields.extend(fresh); // the payment token stays
    }
    parts.headers.insert(header::ETAG, version);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(shown.to_string()))
}

async fn published(response: Response, accounts: &[Candidate]) -> Response {
    if !response.status().is_success() || response.status() == axum::http::StatusCode::NO_CONTENT {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, MAX_ANSWER).await else {
        return Problem::internal(&"an answer was too long to be translated").into_response();
    };
    let body = match serde_json::from_slice::<Value>(&bytes) {
        Ok(mut value) => {
            if let Some(list) = value.get_mut("data").and_then(Value::as_array_mut) {
                for intent in list {
                    published_fields(intent, accounts);
                }
            } else {
                published_fields(&mut value, accounts);
            }
            Bytes::from(value.to_string())
        }
        Err(_) => bytes,
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}

/// Adds the published names to an intent; amount and status are given in the published form.
fn published_fields(value: &mut Value, accounts: &[Candidate]) {
    let Some(fields) = value.as_object_mut() else { return };
    let types = types_of(fields, accounts);
    if !types.is_empty() {
        fields.insert("payment_method_types".to_owned(), json!(types));
    }
    for (canonical, published) in [("merchant_reference", "merchant_ref_id"), ("store_id", "merchant_store_id")] {
        if let Some(value) = fields.get(canonical).cloned() {
            fields.insert(published.to_owned(), value);
        }
    }
    if let Some(Value::Object(money)) = fields.get("amount").cloned() {
        fields.insert("amount".to_owned(), money.get("amount").cloned().unwrap_or_default());
        fields.insert("currency".to_owned(), money.get("currency").cloned().unwrap_or_default());
    }
    if let Some(status) = fields.get("status").and_then(Value::as_str).map(published_status) {
        fields.insert("status".to_owned(), status.into());
    }
    for (canonical, published) in [("qr_payload", "qr_content"), ("qr_png", "qr_code_url")] {
        if let Some(value) = fields.get("next_action").and_then(|action| action.get(canonical)).cloned() {
            fields.insert(published.to_owned(), value);
        }
    }
}

/// The published word for a status; finer ones become the nearest that its list has.
fn published_status(status: &str) -> String {
    match status {
        "canceled" | "expired" => "cancelled",
        "requires_confirmation" => "requires_payment_method",
        "requires_capture" => "processing",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_published_names() {
        let mut intent = json!({"id": "pi_1", "status": "canceled", "amount": {"amount": 5, "currency": "THB"}, "tender": "promptpay",
            "merchant_reference": "A", "store_id": "sto_1", "next_action": {"type": "display_qr", "qr_payload": "0002", "qr_png": "/q"}});
        published_fields(&mut intent, &[]);
        assert_eq!((&intent["amount"], &intent["currency"], &intent["status"]), (&json!(5), &json!("THB"), &json!("cancelled")));
        assert_eq!((&intent["merchant_ref_id"], &intent["merchant_store_id"]), (&json!("A"), &json!("sto_1")));
        assert_eq!((&intent["qr_content"], &intent["qr_code_url"]), (&json!("0002"), &json!("/q")));
        assert_eq!(&intent["payment_method_types"], &json!(["qr_mpm"]));
    }

    #[test]
    fn the_types_are_those_that_an_account_takes_the_payment_with() {
        let store = StoreId(domain::ids::Ulid::from_bytes([1; 16]));
        let account = |name: &str, methods: &[MethodKind], enabled: bool| Candidate {
            account: name.to_owned(),
            provider: name.to_owned(),
            store: None,
            enabled,
            live: false,
            priority: 1,
            methods: methods.to_vec(),
            amounts: None,
            health: routing::Health::default(),
        };
        let types = |status: &str, accounts: &[Candidate]| {
            let mut intent = json!({"status": status, "amount": {"amount": 5, "currency": "THB"}, "tender": "promptpay",
                "tenders": ["promptpay", "online_card"], "store_id": store.to_string()});
            published_fields(&mut intent, accounts);
            intent["payment_method_types"].clone()
        };
        let (qr, card) = (account("a", &[MethodKind::PromptPay], true), account("b", &[MethodKind::Card], true));
        assert_eq!(types("requires_payment_method", &[qr.clone(), card.clone()]), json!(["qr_mpm", "credit_card"]));
        assert_eq!(types("requires_payment_method", std::slice::from_ref(&card)), json!(["credit_card"]));
        assert_eq!(types("requires_payment_method", &[qr.clone(), account("b", &[MethodKind::Card], false)]), json!(["qr_mpm"]));
        assert_eq!(types("requires_action", &[qr, card]), json!(["qr_mpm"]), "an attempt is under way with it");
        assert_eq!(types("requires_payment_method", &[]), json!(["qr_mpm"]));
        let mut only = json!({"status": "requires_payment_method", "amount": {"amount": 5, "currency": "THB"}, "tender": "promptpay",
            "tenders": ["promptpay"], "store_id": store.to_string()});
        published_fields(&mut only, &[account("a", &[MethodKind::PromptPay], true), account("b", &[MethodKind::Card], true)]);
        assert_eq!(only["payment_method_types"], json!(["qr_mpm"]), "what the merchant did not offer is not shown");
    }
}
