//! A bank that speaks KBank's wire format, keeps its own books, and fails on demand.
//!
//! `POST /v2/oauth/token`, `/v1/qrpayment/request`, `…/v4/inquiry`, `…/v5/inquiry`, `…/cancel`, `…/void` are the bank's;
//! everything under `/sim/` is for tests.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::post,
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::money::{Currency, Money};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::simulator::{
    AttemptRow, Closing, Core, LedgerView, Moved, Operation, PayRequest, Reply, Simulated, SimulatorConfig, Wording, answer,
    callback::by_path_secret,
    ledger::{Code, Ledger, Payment, Refusal},
    locked, serve as serve_simulated,
};
use wire::{About, Asked, Requested};

mod wire;

/// How long a token is good for.
const TOKEN_SECONDS: i64 = 1800;
/// How long a code is payable.
const CODE_LIVES: TimeDelta = TimeDelta::minutes(10);

/// What the connector must present.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of the app.
    pub consumer_id: String,
    /// Of the app; of the simulation only.
    pub consumer_secret: String,
    /// The partner.
    pub partner_id: String,
    /// In every body.
    pub partner_secret: String,
    /// The payee.
    pub merchant_id: String,
}

struct Bank {
    core: Core,
    settings: Settings,
    ledger: Mutex<Ledger>,
    /// Token and when it lapses.
    tokens: Mutex<HashMap<String, DateTime<Utc>>>,
    /// Names of requests; each is good once.
    names: Mutex<HashSet<String>>,
    tokens_issued: AtomicUsize,
    answers: AtomicUsize,
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// The ledger file cannot be read, or the listener fails.
pub async fn serve(listener: TcpListener, settings: Settings, config: SimulatorConfig, shutdown: CancellationToken) -> io::Result<()> {
    let bank = Bank {
        ledger: Mutex::new(Ledger::open(config.ledger_file.as_deref(), config.seed)?),
        tokens: Mutex::default(),
        names: Mutex::default(),
        tokens_issued: AtomicUsize::new(0),
        answers: AtomicUsize::new(0),
        settings,
        core: Core::new(config.clone(), shutdown, by_path_secret(config.webhook_url), wire::is_acknowledged)?,
    };
    let routes = Router::new()
        .route("/v2/oauth/token", post(token))
        .route("/v1/qrpayment/request", post(request))
        .route("/v1/qrpayment/v4/inquiry", post(inquiry))
        .route("/v1/qrpayment/v5/inquiry", post(inquiry))
        .route("/v1/qrpayment/cancel", post(cancel))
        .route("/v1/qrpayment/void", post(void));
    serve_simulated(listener, bank, routes).await
}

impl Simulated for Bank {
    const STATUS_FIELDS: &'static [&'static str] = &["txnStatus"];

    fn core(&self) -> &Core {
        &self.core
    }

    fn word(&self, failure: Wording) -> Reply {
        match failure {
            Wording::Http(status) => wire::openapi_error(status, "Internal error"),
            Wording::Quota => wire::openapi_error(StatusCode::TOO_MANY_REQUESTS, "Rate limit quota violation"),
            Wording::Unauthorized => wire::openapi_error(StatusCode::UNAUTHORIZED, "Access token expired"),
            Wording::Trouble => wire::business_error("general_error", "General error [EMG]"),
            Wording::NotVisible => wire::unknown_origin(),
        }
    }

    fn forget_tokens(&self) {
        locked(&self.tokens).clear();
    }

    fn tokens_issued(&self) -> usize {
        self.tokens_issued.load(Ordering::Relaxed)
    }

    fn pay(&self, request: &PayRequest) -> Result<Moved, Refusal> {
        let mut ledger = locked(&self.ledger);
        let code = ledger.find(&request.reference).cloned().ok_or(Refusal::Unknown)?;
        // A code is good for one payment.
        match self.state(&ledger, &code) {
            "EXPIRED" if !request.force => return Err(Refusal::Closed(Closing::Expired)),
            "PAID" | "VOIDED" if !request.force => return Err(Refusal::Rule("it is paid")),
            _ => {}
        }
        let payment = ledger.pay(&code.name, request, self.core.now())?;
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        let callback = wire::paid(&self.settings, &code, &payment, self.core.flip(number));
        Ok(Moved { answer: json!(ledger.row(&payment)), callback: Some(callback) })
    }

    fn close(&self, reference: &str, closing: Closing) -> Result<Moved, Refusal> {
        let mut ledger = locked(&self.ledger);
        let code = ledger.find(reference).cloned().ok_or(Refusal::Unknown)?;
        ledger.close(&code.name, closing)?;
        // A refused payment is announced; a code that merely ran out is not.
        let callback = (closing == Closing::Declined).then(|| wire::failed(&self.settings, &code));
        Ok(Moved { answer: json!({"state": closing}), callback })
    }

    fn lie(&self, request: &PayRequest) -> String {
        wire::lie(&self.settings, &request.reference, Money::thb(request.amount.unwrap_or(1)))
    }

    fn ledger(&self) -> LedgerView {
        let ledger = locked(&self.ledger);
        let row = |code: &Code| AttemptRow {
            id: code.name.clone(),
            reference: code.reference.clone(),
            amount: code.amount,
            currency: "THB".to_owned(),
            state: self.state(&ledger, code).to_owned(),
        };
        let attempts = ledger.codes().map(row).collect();
        let (payments, refunds) = ledger.rows();
        LedgerView { attempts, payments, refunds }
    }
}

impl Bank {
    /// The bank's word for a code.
    fn state(&self, ledger: &Ledger, code: &Code) -> &'static str {
        let mut payments = ledger.payments_on(&code.name).peekable();
        if payments.peek().is_some() {
            return if payments.all(|p| ledger.is_reversed(&p.transaction_id)) { "VOIDED" } else { "PAID" };
        }
        match ledger.closing(&code.name) {
            Some(Closing::Canceled | Closing::Declined) => "CANCELLED",
            Some(Closing::Expired) => "EXPIRED",
            None if self.core.now() >= code.made_at + CODE_LIVES => "EXPIRED",
            None => "REQUESTED",
        }
    }

    /// The common fields of every request; each name is good once.
    fn check<T>(&self, headers: &HeaderMap, asked: Result<Asked<T>, Reply>) -> Result<Asked<T>, Reply> {
        let token = text(headers, "authorization").strip_prefix("Bearer ").unwrap_or_default();
        let now = self.core.now();
        if locked(&self.tokens).get(token).is_none_or(|lapses| *lapses <= now) {
            return Err(wire::openapi_error(StatusCode::UNAUTHORIZED, "Invalid access token"));
        }
        let asked = asked?;
        let settings = &self.settings;
        if asked.partner_id != settings.partner_id || asked.partner_secret != settings.partner_secret {
            return Err(wire::business_error("authentication_error", "Authentication error [EMA]"));
        }
        if asked.merchant_id != settings.merchant_id {
            return Err(wire::business_error("invalid_merchant", "Merchant does not exist [EMDNE]"));
        }
        let named = (1..=15).contains(&asked.partner_txn_uid.len()) && DateTime::parse_from_rfc3339(&asked.request_dt).is_ok();
        if !named {
            return Err(wire::business_error("bad_request", "partnerTxnUid or requestDt [EMBR]"));
        }
        let known = locked(&self.ledger).code(&asked.partner_txn_uid).is_some();
        if known || !locked(&self.names).insert(asked.partner_txn_uid.clone()) {
            return Err(wire::business_error("duplicate_request", "Duplicate partnerTxnUid [EMDR]"));
        }
        Ok(asked)
    }

    fn origin(&self, asked: &Asked<About>) -> Result<Code, Reply> {
        locked(&self.ledger).code(&asked.rest.orig_partner_txn_uid).cloned().ok_or_else(wire::unknown_origin)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reply> {
    serde_json::from_slice(body).map_err(|error| wire::business_error("bad_request", &format!("{error} [EMBR]")))
}

async fn token(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let act = || {
        if body.as_ref() != b"grant_type=client_credentials" || !text(&headers, "content-type").starts_with("application/x-www-form") {
            return Err(wire::openapi_error(StatusCode::BAD_REQUEST, "grant_type"));
        }
        let expected = wire::basic(&bank.settings.consumer_id, &bank.settings.consumer_secret);
        if text(&headers, "authorization") != expected {
            return Err(wire::openapi_error(StatusCode::UNAUTHORIZED, "Invalid consumer secret"));
        }
        let number = bank.tokens_issued.fetch_add(1, Ordering::Relaxed);
        let access_token = format!("simk-{:016x}-{number}", bank.core.config.seed);
        locked(&bank.tokens).insert(access_token.clone(), bank.core.now() + TimeDelta::seconds(TOKEN_SECONDS));
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

async fn inquiry(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let asked: Result<Asked<About>, Reply> = read(&body);
    let reference = reference_of(&bank, &asked);
    let act = || {
        let asked = bank.check(&headers, asked)?;
        let code = bank.origin(&asked)?;
        let ledger = locked(&bank.ledger);
        let number = bank.answers.fetch_add(1, Ordering::Relaxed);
        let payments: Vec<&Payment> = ledger.payments_on(&code.name).collect();
        Ok(wire::success(&asked, wire::status(&bank.settings, bank.state(&ledger, &code), &code, &payments, bank.core.flip(number))))
    };
    answer(&*bank, Operation::Inquire, reference.as_deref(), act).await
}

async fn cancel(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let asked: Result<Asked<About>, Reply> = read(&body);
    let reference = reference_of(&bank, &asked);
    let act = || {
        let asked = bank.check(&headers, asked)?;
        let code = bank.origin(&asked)?;
        let mut ledger = locked(&bank.ledger);
        match bank.state(&ledger, &code) {
            "REQUESTED" => ledger.close(&code.name, Closing::Canceled).map_err(wire::refused)?,
            "CANCELLED" => return Err(wire::business_error("qr_cancelled", "QR is cancelled [EMQRC]")),
            "EXPIRED" => return Err(wire::business_error("qr_expired", "QR is expired [EMQRE]")),
            _ => return Err(wire::business_error("qr_paid", "QR is paid [EMQRP]")),
        }
        Ok(wire::success(&asked, json!({})))
    };
    answer(&*bank, Operation::Cancel, reference.as_deref(), act).await
}

async fn void(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let asked: Result<Asked<About>, Reply> = read(&body);
    let reference = reference_of(&bank, &asked);
    let act = || {
        let asked = bank.check(&headers, asked)?;
        let code = bank.origin(&asked)?;
        let mut ledger = locked(&bank.ledger);
        let wanted = |id: &str| asked.rest.txn_no.as_deref().is_none_or(|txn_no| txn_no == id);
        let payment = ledger.payments_on(&code.name).find(|p| wanted(&p.transaction_id)).cloned();
        let payment = payment.ok_or_else(|| wire::business_error("invalid_request", "QR is not paid [EMBR]"))?;
        ledger.reverse(&payment.transaction_id, payment.amount, bank.core.now()).map_err(wire::refused)?;
        Ok(wire::success(&asked, json!({"txnNo": payment.transaction_id})))
    };
    answer(&*bank, Operation::Refund, reference.as_deref(), act).await
}
