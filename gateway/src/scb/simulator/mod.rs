//! A bank that speaks SCB's wire format, keeps its own books, and fails on demand.
//!
//! `POST /v1/oauth/token`, `POST /v1/payment/qrcode/create`, `GET /v1/payment/billpayment/inquiry`,
//! `POST /v1/payment/qrcode/void` (opt-in) are the bank's; everything under `/sim/` is for tests.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use domain::money::{Currency, Money};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    bangkok::bangkok_date,
    promptpay::{QrSpec, Target, is_reference},
    simulator::{
        AttemptRow, Closing, Core, LedgerView, Moved, Operation, PayRequest, Reply, Simulated, SimulatorConfig, Wording, answer,
        callback::by_path_secret,
        header_text,
        ledger::{Code, Ledger, Payment, Refusal},
        locked, serve as serve_simulated,
        tokens::{TOKEN_SECONDS, Tokens},
    },
};
use wire::{CreateBody, InquiryQuery, TokenAnswer, TokenBody, VoidBody};

mod wire;

/// What the connector must present, and the contract.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The app's key.
    pub api_key: String,
    /// The app's secret; of the simulation only.
    pub api_secret: String,
    /// The payee; other billers are refused.
    pub biller_id: String,
    /// Void is part of the contract.
    pub allow_void: bool,
}

struct Bank {
    core: Core,
    settings: Settings,
    ledger: Mutex<Ledger>,
    tokens: Tokens,
    inquiries: AtomicUsize,
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// The ledger file cannot be read, or the listener fails.
pub async fn serve(listener: TcpListener, settings: Settings, config: SimulatorConfig, shutdown: CancellationToken) -> io::Result<()> {
    let bank = Bank {
        ledger: Mutex::new(Ledger::open(config.ledger_file.as_deref(), config.seed)?),
        tokens: Tokens::default(),
        inquiries: AtomicUsize::new(0),
        settings,
        core: Core::new(config.clone(), shutdown, by_path_secret(config.webhook_url), wire::is_acknowledged)?,
    };
    let routes = Router::new()
        .route("/v1/oauth/token", post(token))
        .route("/v1/payment/qrcode/create", post(create))
        .route("/v1/payment/billpayment/inquiry", get(inquiry))
        .route("/v1/payment/qrcode/void", post(void));
    serve_simulated(listener, bank, routes).await
}

impl Simulated for Bank {
    // The inquiry has no status; its records speak for themselves.
    const STATUS_FIELDS: &'static [&'static str] = &[];

    fn core(&self) -> &Core {
        &self.core
    }

    fn word(&self, failure: Wording) -> Reply {
        match failure {
            Wording::Http(status) if status == StatusCode::INTERNAL_SERVER_ERROR => wire::error(status, 9700, "Generic server error"),
            Wording::Http(status) => wire::error(status, 9900, "Upstream"),
            Wording::Quota => wire::error(StatusCode::TOO_MANY_REQUESTS, 8888, "Rate limit exceeded"),
            Wording::Unauthorized => wire::error(StatusCode::UNAUTHORIZED, 9300, "Token invalid"),
            Wording::Trouble => wire::bad_request(8101, "Bad answer from a downstream system"),
            Wording::NotVisible | Wording::NoRefunds => wire::not_found(),
            Wording::Duplicate => wire::refused(Refusal::Duplicate),
            Wording::Settled => wire::refused(Refusal::Rule("it is settled")),
            Wording::OutsideHours => wire::refused(Refusal::Rule("not at this time of the day")),
        }
    }

    fn tokens(&self) -> Option<&Tokens> {
        Some(&self.tokens)
    }

    fn pay(&self, request: &PayRequest) -> Result<Moved, Refusal> {
        let mut ledger = locked(&self.ledger);
        let payment = ledger.pay(&request.reference, request, self.core.now())?;
        let as_number = self.core.flip(ledger.payment_count());
        let callback = self.callback(&payment, ledger.code(&payment.name), as_number);
        Ok(Moved { answer: json!(ledger.row(&payment)), callback: Some(callback) })
    }

    fn close(&self, reference: &str, closing: Closing) -> Result<Moved, Refusal> {
        // Only successful payments are announced.
        locked(&self.ledger).close(reference, closing)?;
        Ok(Moved { answer: json!({"state": closing}), callback: None })
    }

    fn lie(&self, request: &PayRequest) -> String {
        let payment = Payment {
            transaction_id: format!("LIE{}", request.reference),
            name: request.reference.clone(),
            amount: request.amount.unwrap_or(1),
            currency: Currency::THB,
            paid_at: self.core.now(),
        };
        self.callback(&payment, None, false)
    }

    fn ledger(&self) -> LedgerView {
        let ledger = locked(&self.ledger);
        let row = |code: &Code| {
            let paid = ledger.payments_on(&code.name).next().is_some();
            let state = if paid {
                "paid".to_owned()
            } else {
                ledger.closing(&code.name).map_or("open".to_owned(), |c| format!("{c:?}").to_lowercase())
            };
            AttemptRow { id: code.name.clone(), reference: code.reference.clone(), amount: code.amount, currency: "THB".to_owned(), state }
        };
        let attempts = ledger.codes().map(row).collect();
        let (payments, refunds) = ledger.rows();
        LedgerView { attempts, payments, refunds }
    }
}

impl Bank {
    fn callback(&self, payment: &Payment, code: Option<&Code>, as_number: bool) -> String {
        wire::transaction(&self.settings.biller_id, payment, code, None, as_number)
            .and_then(|transaction| serde_json::to_string(&transaction))
            .unwrap_or_default()
    }

    /// The headers that every call needs.
    fn check_headers(&self, headers: &HeaderMap) -> Result<(), Reply> {
        let request_id = header_text(headers, "requestuid");
        let well_formed = request_id.len() == 32 && request_id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !well_formed {
            return Err(wire::bad_request(9100, "requestUId is missing or malformed"));
        }
        if header_text(headers, "resourceownerid") != self.settings.api_key {
            return Err(wire::error(StatusCode::UNAUTHORIZED, 9500, "Invalid API key"));
        }
        Ok(())
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Reply> {
        self.check_headers(headers)?;
        if self.tokens.is_borne(&self.core, headers) {
            Ok(())
        } else {
            Err(wire::error(StatusCode::UNAUTHORIZED, 9300, "Token invalid or expired"))
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reply> {
    serde_json::from_slice(body).map_err(|error| wire::bad_request(1101, &error.to_string()))
}

async fn token(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let act = || {
        bank.check_headers(&headers)?;
        let given: TokenBody = read(&body)?;
        if given.application_key != bank.settings.api_key || given.application_secret != bank.settings.api_secret {
            return Err(wire::error(StatusCode::UNAUTHORIZED, 9500, "Invalid API key or secret"));
        }
        let (access_token, lapses) = bank.tokens.issue(&bank.core, "sim");
        Ok(wire::success(TokenAnswer { access_token, token_type: "Bearer", expires_in: TOKEN_SECONDS, expires_at: lapses.timestamp() }))
    };
    answer(&*bank, Operation::Token, None, act).await
}

async fn create(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Result<CreateBody, Reply> = read(&body);
    let reference = request.as_ref().ok().map(|r| r.ref1.clone());
    let act = || {
        bank.check_token(&headers)?;
        let request = request?;
        if request.qr_type != "PP" || request.pp_type != "BILLERID" || request.pp_id != bank.settings.biller_id {
            return Err(wire::bad_request(1102, "qrType, ppType or ppId"));
        }
        let amount = Money::parse_major(&request.amount, Currency::THB)
            .ok()
            .filter(|amount| amount.is_positive() && request.amount.len() <= 13)
            .ok_or_else(|| wire::bad_request(1102, "amount"))?;
        if !is_reference(&request.ref1) {
            return Err(wire::bad_request(1102, "ref1"));
        }
        let code = Code {
            name: request.ref1.clone(),
            reference: request.ref1,
            reference2: request.ref2,
            reference3: request.ref3,
            amount: amount.amount,
            made_at: bank.core.now(),
        };
        let target = Target::Bill { biller_id: request.pp_id, reference1: code.reference.clone(), reference2: code.reference2.clone() };
        let spec = QrSpec {
            category_code: Some("7011".to_owned()),
            merchant_city: Some("BANGKOK".to_owned()),
            terminal_label: code.reference3.clone(),
            ..QrSpec::new(target, Some(amount))
        };
        let payload = spec.encode().map_err(|error| wire::bad_request(1102, &error.to_string()))?;
        let mut ledger = locked(&bank.ledger);
        // The same code again is the same code; another amount or reference on the name is a duplicate.
        match ledger.code(&code.name) {
            Some(known) if known.amount == code.amount && known.reference2 == code.reference2 => {}
            Some(_) | None => ledger.keep(code).map_err(wire::refused)?,
        }
        Ok(wire::success(json!({"qrRawData": payload, "qrImage": "R0lGODlhAQABAAAAACw="})))
    };
    answer(&*bank, Operation::Start, reference.as_deref(), act).await
}

async fn inquiry(State(bank): State<Arc<Bank>>, headers: HeaderMap, query: Result<Query<InquiryQuery>, QueryRejection>) -> Response {
    let reference = query.as_ref().ok().map(|q| q.reference1.clone());
    let act = || {
        bank.check_token(&headers)?;
        let Query(query) = query.map_err(|error| wire::bad_request(1101, &error.to_string()))?;
        if query.event_code != "00300100" || query.biller_id != bank.settings.biller_id {
            return Err(wire::bad_request(1102, "eventCode or billerId"));
        }
        let number = bank.inquiries.fetch_add(1, Ordering::Relaxed);
        let ledger = locked(&bank.ledger);
        let found = ledger
            .payments_on(&query.reference1)
            .filter(|payment| bangkok_date(payment.paid_at).to_string() == query.transaction_date)
            .map(|payment| {
                let reversed = Some(ledger.is_reversed(&payment.transaction_id));
                wire::transaction(&bank.settings.biller_id, payment, ledger.code(&payment.name), reversed, bank.core.flip(number))
            })
            .collect::<serde_json::Result<Vec<_>>>()
            .map_err(|error| wire::error(StatusCode::INTERNAL_SERVER_ERROR, 9700, &error.to_string()))?;
        // Both forms of "not paid" have been seen.
        if found.is_empty() && bank.core.flip(number) { Err(wire::not_found()) } else { Ok(wire::success(found)) }
    };
    answer(&*bank, Operation::Inquire, reference.as_deref(), act).await
}

async fn void(State(bank): State<Arc<Bank>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Result<VoidBody, Reply> = read(&body);
    let original = request.map(|r| r.original_payment_information_and_reversal);
    let reference = original.as_ref().ok().map(|o| o.original_end_to_end_identification.clone());
    let act = || {
        bank.check_token(&headers)?;
        if !bank.settings.allow_void {
            return Err(wire::error(StatusCode::NOT_IMPLEMENTED, 4101, "Channel not supported"));
        }
        let original = original?;
        let instructed = original.original_instructed_amount;
        let amount = Some(instructed.transaction_currency)
            .filter(|currency| currency == "THB")
            .and_then(|_| Money::parse_major(&instructed.transaction_amount, Currency::THB).ok())
            .ok_or_else(|| wire::bad_request(1102, "amount"))?;
        locked(&bank.ledger).reverse(&original.original_message_identification, amount, bank.core.now()).map_err(wire::refused)?;
        Ok(wire::success(json!({})))
    };
    answer(&*bank, Operation::Refund, reference.as_deref(), act).await
}
