//! The bank's own routes.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::post,
};
use domain::money::{Currency, Money};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    Bank,
    wire::{self, About, Asked, Requested},
};
use crate::simulator::{
    Closing, Operation, Reply, answer, header_text,
    ledger::{Code, Payment},
    locked,
    tokens::TOKEN_SECONDS,
};

pub(super) fn router() -> Router<Arc<Bank>> {
    Router::new()
        .route("/v2/oauth/token", post(token))
        .route("/v1/qrpayment/request", post(request))
        .route("/v1/qrpayment/v4/inquiry", post(inquiry))
        .route("/v1/qrpayment/v5/inquiry", post(inquiry))
        .route("/v1/qrpayment/cancel", post(cancel))
        .route("/v1/qrpayment/void", post(void))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reply> {
    serde_json::from_slice(body).map_err(|error| wire::business_error("bad_request", &format!("{error} [EMBR]")))
}

async fn token(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let act = || {
        if body.as_ref() != b"grant_type=client_credentials" || !header_text(&headers, "content-type").starts_with("application/x-www-form")
        {
            return Err(wire::openapi_error(StatusCode::BAD_REQUEST, "grant_type"));
        }
        let expected = wire::basic(&bank.settings.consumer_id, &bank.settings.consumer_secret);
        if header_text(&headers, "authorization") != expected {
            return Err(wire::openapi_error(StatusCode::UNAUTHORIZED, "Invalid consumer secret"));
        }
        let (access_token, _) = bank.tokens.issue(&bank.core, "simk");
        let expires_in = (TOKEN_SECONDS - 1).to_string();
        Ok(Reply::json(
            StatusCode::OK,
            &json!({"access_token": access_token, "client_id": bank.settings.consumer_id, "developer.email": "dev@example.com",
                "expires_in": expires_in, "scope": "", "status": "approved", "token_type": "Bearer"}),
        ))
    };
    answer(&*bank, Operation::Token, None, act).await
}

async fn request(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let asked: Result<Asked<Requested>, Reply> = read(&body);
    let reference = asked.as_ref().ok().map(|a| a.rest.reference1.clone());
    let act = || {
        let asked = bank.check(&headers, asked)?;
        let wanted = &asked.rest;
        if wanted.qr_type != "3" {
            return Err(wire::business_error("invalid_qr_type", "qrType [EMIQR]"));
        }
        if wanted.txn_currency_code != "THB" {
            return Err(wire::business_error("invalid_currency_code", "txnCurrencyCode [EMICC]"));
        }
        let amount = Money::parse_major(&wanted.txn_amount, Currency::THB).ok().filter(|amount| amount.is_positive());
        let amount = amount.ok_or_else(|| wire::business_error("invalid_txn_amount", "txnAmount [EMITA]"))?;
        if !(1..=100).contains(&wanted.reference1.len()) {
            return Err(wire::business_error("invalid_reference1", "reference1 [EMIR]"));
        }
        let code = Code {
            name: asked.partner_txn_uid.clone(),
            reference: wanted.reference1.clone(),
            reference2: None,
            reference3: None,
            amount: amount.amount,
            made_at: bank.core.now(),
        };
        let mut ledger = locked(&bank.ledger);
        let payload = wire::payload(ledger.codes().count(), &code).map_err(|e| wire::business_error("general_error", &e.to_string()))?;
        ledger.keep(code).map_err(wire::refused)?;
        Ok(wire::success(&asked, json!({"accountName": "SIMULATED MERCHANT", "qrCode": payload, "sof": ["PP"]})))
    };
    answer(&*bank, Operation::Start, reference.as_deref(), act).await
}

/// The reference of the QR that a request is about, for the fault rules.
fn reference_of(bank: &Bank, asked: &Result<Asked<About>, Reply>) -> Option<String> {
    let asked = asked.as_ref().ok()?;
    locked(&bank.ledger).code(&asked.rest.orig_partner_txn_uid).map(|code| code.reference.clone())
}

/// Answers a request about a QR that was made here.
async fn about(
    bank: &Bank,
    operation: Operation,
    headers: &HeaderMap,
    body: &[u8],
    act: impl FnOnce(&Asked<About>, &Code) -> Result<Reply, Reply> + Send,
) -> Response {
    let asked: Result<Asked<About>, Reply> = read(body);
    let reference = reference_of(bank, &asked);
    let act = || {
        let asked = bank.check(headers, asked)?;
        let code = bank.origin(&asked)?;
        act(&asked, &code)
    };
    answer(bank, operation, reference.as_deref(), act).await
}

async fn inquiry(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let act = |asked: &Asked<About>, code: &Code| {
        let ledger = locked(&bank.ledger);
        let number = bank.answers.fetch_add(1, Ordering::Relaxed);
        let mut payments: Vec<&Payment> = ledger.payments_on(&code.name).collect();
        let mut state = bank.state(&ledger, code);
        // With a payment's number the answer is about that one.
        if let Some(txn_no) = asked.rest.txn_no.as_deref() {
            payments.retain(|payment| payment.transaction_id == txn_no);
            state = match payments.first() {
                Some(payment) if ledger.is_reversed(&payment.transaction_id) => "VOIDED",
                Some(_) => "PAID",
                None => return Err(wire::business_error("invalid_request", "txnNo does not exist [EMBR]")),
            };
        }
        Ok(wire::success(asked, wire::status(&bank.settings, state, code, &payments, bank.core.flip(number))))
    };
    about(&bank, Operation::Inquire, &headers, &body, act).await
}

async fn cancel(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let act = |asked: &Asked<About>, code: &Code| {
        let mut ledger = locked(&bank.ledger);
        match bank.state(&ledger, code) {
            "REQUESTED" => ledger.close(&code.name, Closing::Canceled).map_err(wire::refused)?,
            "CANCELLED" => return Err(wire::business_error("qr_cancelled", "QR is cancelled [EMQRC]")),
            "EXPIRED" => return Err(wire::business_error("qr_expired", "QR is expired [EMQRE]")),
            _ => return Err(wire::business_error("qr_paid", "QR is paid [EMQRP]")),
        }
        Ok(wire::success(asked, json!({})))
    };
    about(&bank, Operation::Cancel, &headers, &body, act).await
}

async fn void(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let act = |asked: &Asked<About>, code: &Code| {
        let mut ledger = locked(&bank.ledger);
        let wanted = |id: &str| asked.rest.txn_no.as_deref().is_none_or(|txn_no| txn_no == id);
        let payment = ledger.payments_on(&code.name).find(|p| wanted(&p.transaction_id)).cloned();
        let payment = payment.ok_or_else(|| wire::business_error("invalid_request", "QR is not paid [EMBR]"))?;
        ledger.reverse(&payment.transaction_id, payment.money(), bank.core.now()).map_err(wire::refused)?;
        Ok(wire::success(asked, json!({"txnNo": payment.transaction_id})))
    };
    about(&bank, Operation::Refund, &headers, &body, act).await
}
