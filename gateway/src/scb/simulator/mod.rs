//! A bank that speaks SCB's wire format, keeps its own books, and fails on demand.
//!
//! `POST /v1/oauth/token`, `POST /v1/payment/qrcode/create`, `GET /v1/payment/billpayment/inquiry`,
//! `POST /v1/payment/qrcode/void` (opt-in) are the bank's; everything under `/sim/` is for tests (`control.rs`).

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::money::{Currency, Money};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::mapping::bangkok_date;
use crate::{
    promptpay::{QrSpec, Target, is_reference},
    simulator::{Courier, Fault, FaultBook, Operation, SimulatorConfig, locked},
};
use ledger::{Ledger, Qr};
use wire::{CreateBody, InquiryQuery, Reply, TokenAnswer, TokenBody, VoidBody};

mod control;
mod ledger;
mod wire;

/// How long a token is good for.
const TOKEN_SECONDS: i64 = 1800;

struct Bank {
    config: SimulatorConfig,
    ledger: Mutex<Ledger>,
    faults: FaultBook,
    /// Token and when it lapses.
    tokens: Mutex<HashMap<String, DateTime<Utc>>>,
    tokens_issued: AtomicUsize,
    inquiries: AtomicUsize,
    courier: Courier,
    stop: CancellationToken,
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// The ledger file cannot be read, or the listener fails.
pub async fn serve(listener: TcpListener, config: SimulatorConfig, shutdown: CancellationToken) -> io::Result<()> {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().build().map_err(io::Error::other)?;
    let courier = Courier { http, url: config.webhook_url.clone(), stop: shutdown.clone(), accepted: wire::is_acknowledged };
    let bank = Arc::new(Bank {
        ledger: Mutex::new(Ledger::open(config.ledger_file.as_deref(), config.seed)?),
        faults: FaultBook::default(),
        tokens: Mutex::default(),
        tokens_issued: AtomicUsize::new(0),
        inquiries: AtomicUsize::new(0),
        courier,
        stop: shutdown.clone(),
        config,
    });
    let router = Router::new()
        .route("/v1/oauth/token", post(token))
        .route("/v1/payment/qrcode/create", post(create))
        .route("/v1/payment/billpayment/inquiry", get(inquiry))
        .route("/v1/payment/qrcode/void", post(void))
        .merge(control::routes())
        .with_state(bank);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

impl Bank {
    /// Chooses between two forms of one answer, repeatably.
    fn flip(&self, number: usize) -> bool {
        (self.config.seed.wrapping_add(number as u64)).is_multiple_of(2)
    }

    /// Runs `act` with a fault around it, if a rule says so.
    async fn answer(&self, operation: Operation, reference: Option<&str>, act: impl FnOnce() -> Result<Reply, Reply> + Send) -> Response {
        let act = || act().unwrap_or_else(|refusal| refusal);
        let Some((fault, delay)) = self.faults.strike(operation, reference) else {
            return act().into_response();
        };
        match fault {
            Fault::TimeoutBefore => self.late(delay).await,
            Fault::TimeoutAfter => {
                act();
                self.late(delay).await
            }
            Fault::Http500 => Reply::error(StatusCode::INTERNAL_SERVER_ERROR, 9700, "Generic server error").into_response(),
            Fault::Http500After => {
                act();
                Reply::error(StatusCode::INTERNAL_SERVER_ERROR, 9700, "Generic server error").into_response()
            }
            Fault::CutBody => act().cut(),
            Fault::NotJson => {
                act();
                Html("<html><body>Maintenance</body></html>").into_response()
            }
            Fault::Http429 => Reply::error(StatusCode::TOO_MANY_REQUESTS, 8888, "Rate limit exceeded").into_response(),
            Fault::TokenExpired => {
                locked(&self.tokens).clear();
                Reply::error(StatusCode::UNAUTHORIZED, 9300, "Token invalid").into_response()
            }
            Fault::NotVisibleYet => not_found().into_response(),
        }
    }

    async fn late(&self, delay: Duration) -> Response {
        self.stop.run_until_cancelled(tokio::time::sleep(delay)).await;
        Reply::error(StatusCode::GATEWAY_TIMEOUT, 9900, "Timeout").into_response()
    }

    /// The headers that every call needs.
    fn check_headers(&self, headers: &HeaderMap) -> Result<(), Reply> {
        let request_id = text(headers, "requestuid");
        let well_formed = request_id.len() == 32 && request_id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !well_formed {
            return Err(Reply::bad_request(9100, "requestUId is missing or malformed"));
        }
        if text(headers, "resourceownerid") != self.config.api_key {
            return Err(Reply::error(StatusCode::UNAUTHORIZED, 9500, "Invalid API key"));
        }
        Ok(())
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Reply> {
        self.check_headers(headers)?;
        let now = (self.config.clock)();
        let token = text(headers, "authorization").strip_prefix("Bearer ").unwrap_or_default();
        match locked(&self.tokens).get(token) {
            Some(lapses) if *lapses > now => Ok(()),
            Some(_) | None => Err(Reply::error(StatusCode::UNAUTHORIZED, 9300, "Token invalid or expired")),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reply> {
    serde_json::from_slice(body).map_err(|error| Reply::bad_request(1101, &error.to_string()))
}

fn not_found() -> Reply {
    Reply::error(StatusCode::NOT_FOUND, 1104, "Requested entity record does not exist")
}

async fn token(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let act = || {
        bank.check_headers(&headers)?;
        let given: TokenBody = read(&body)?;
        if given.application_key != bank.config.api_key || given.application_secret != bank.config.api_secret {
            return Err(Reply::error(StatusCode::UNAUTHORIZED, 9500, "Invalid API key or secret"));
        }
        let lapses = (bank.config.clock)() + TimeDelta::seconds(TOKEN_SECONDS);
        let number = bank.tokens_issued.fetch_add(1, Ordering::Relaxed);
        let access_token = format!("sim-{:016x}-{number}", bank.config.seed);
        locked(&bank.tokens).insert(access_token.clone(), lapses);
        Ok(Reply::success(TokenAnswer { access_token, token_type: "Bearer", expires_in: TOKEN_SECONDS, expires_at: lapses.timestamp() }))
    };
    bank.answer(Operation::Token, None, act).await
}

async fn create(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Result<CreateBody, Reply> = read(&body);
    let reference = request.as_ref().ok().map(|r| r.ref1.clone());
    let act = || {
        bank.check_token(&headers)?;
        let request = request?;
        if request.qr_type != "PP" || request.pp_type != "BILLERID" || request.pp_id != bank.config.biller_id {
            return Err(Reply::bad_request(1102, "qrType, ppType or ppId"));
        }
        let amount = Money::parse_major(&request.amount, Currency::THB)
            .ok()
            .filter(|amount| amount.is_positive() && request.amount.len() <= 13)
            .ok_or_else(|| Reply::bad_request(1102, "amount"))?;
        if !is_reference(&request.ref1) {
            return Err(Reply::bad_request(1102, "ref1"));
        }
        let qr = Qr { reference: request.ref1, reference2: request.ref2, reference3: request.ref3, amount: amount.amount };
        let target = Target::Bill { biller_id: request.pp_id, reference1: qr.reference.clone(), reference2: qr.reference2.clone() };
        let spec = QrSpec {
            category_code: Some("7011".to_owned()),
            merchant_city: Some("BANGKOK".to_owned()),
            terminal_label: qr.reference3.clone(),
            ..QrSpec::new(target, Some(amount))
        };
        let payload = spec.encode().map_err(|error| Reply::bad_request(1102, &error.to_string()))?;
        locked(&bank.ledger).keep_qr(qr)?;
        Ok(Reply::success(serde_json::json!({"qrRawData": payload, "qrImage": "R0lGODlhAQABAAAAACw="})))
    };
    bank.answer(Operation::Create, reference.as_deref(), act).await
}

async fn inquiry(State(bank): State<Arc<Bank>>, headers: HeaderMap, query: Result<Query<InquiryQuery>, QueryRejection>) -> Response {
    let reference = query.as_ref().ok().map(|q| q.reference1.clone());
    let act = || {
        bank.check_token(&headers)?;
        let Query(query) = query.map_err(|error| Reply::bad_request(1101, &error.to_string()))?;
        if query.event_code != "00300100" || query.biller_id != bank.config.biller_id {
            return Err(Reply::bad_request(1102, "eventCode or billerId"));
        }
        let number = bank.inquiries.fetch_add(1, Ordering::Relaxed);
        let ledger = locked(&bank.ledger);
        let found = ledger
            .payments_on(&query.reference1)
            .filter(|payment| bangkok_date(payment.paid_at).to_string() == query.transaction_date)
            .map(|payment| {
                let reversed = Some(ledger.is_reversed(&payment.transaction_id));
                let qr = ledger.qr(&payment.reference);
                wire::transaction(&bank.config.biller_id, payment, qr, reversed, bank.flip(number))
            })
            .collect::<serde_json::Result<Vec<_>>>()
            .map_err(|error| Reply::error(StatusCode::INTERNAL_SERVER_ERROR, 9700, &error.to_string()))?;
        // Both forms of "not paid" have been seen.
        if found.is_empty() && bank.flip(number) { Err(not_found()) } else { Ok(Reply::success(found)) }
    };
    bank.answer(Operation::Inquiry, reference.as_deref(), act).await
}

async fn void(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Result<VoidBody, Reply> = read(&body);
    let original = request.map(|r| r.original_payment_information_and_reversal);
    let reference = original.as_ref().ok().map(|o| o.original_end_to_end_identification.clone());
    let act = || {
        bank.check_token(&headers)?;
        if !bank.config.allow_void {
            return Err(Reply::error(StatusCode::NOT_IMPLEMENTED, 4101, "Channel not supported"));
        }
        let original = original?;
        let instructed = original.original_instructed_amount;
        let amount = Some(instructed.transaction_currency)
            .filter(|currency| currency == "THB")
            .and_then(|_| Money::parse_major(&instructed.transaction_amount, Currency::THB).ok())
            .ok_or_else(|| Reply::bad_request(1102, "amount"))?;
        let now = (bank.config.clock)();
        locked(&bank.ledger).reverse(&original.original_message_identification, amount.amount, now)?;
        Ok(Reply::success(serde_json::json!({})))
    };
    bank.answer(Operation::Void, reference.as_deref(), act).await
}
