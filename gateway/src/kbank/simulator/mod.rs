//! A bank that speaks KBank's wire format, keeps its own books, and fails on demand.
//!
//! `POST /v2/oauth/token`, `/v1/qrpayment/request`, `…/v4/inquiry`, `…/v5/inquiry`, `…/cancel`, `…/void` are the bank's;
//! everything under `/sim/` is for tests.

use std::{
    collections::HashSet,
    io,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, TimeDelta};
use domain::money::Money;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::simulator::{
    AttemptRow, Closing, Core, LedgerView, Moved, PayRequest, Reply, Simulated, SimulatorConfig, Wording,
    callback::by_path_secret,
    ledger::{Code, Ledger, Refusal},
    locked, serve as serve_simulated,
    tokens::Tokens,
};
use wire::{About, Asked};

mod routes;
mod wire;

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
    tokens: Tokens,
    /// Names of requests; each is good once.
    names: Mutex<HashSet<String>>,
    answers: AtomicUsize,
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// The ledger file cannot be read, or the listener fails.
pub async fn serve(listener: TcpListener, settings: Settings, config: SimulatorConfig, shutdown: CancellationToken) -> io::Result<()> {
    let bank = Bank {
        ledger: Mutex::new(Ledger::open(config.ledger_file.as_deref(), config.seed)?),
        tokens: Tokens::default(),
        names: Mutex::default(),
        answers: AtomicUsize::new(0),
        settings,
        core: Core::new(config.clone(), shutdown, by_path_secret(config.webhook_url), wire::is_acknowledged)?,
    };
    serve_simulated(listener, bank, routes::router()).await
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
            Wording::NotVisible | Wording::NoRefunds => wire::unknown_origin(),
            Wording::Duplicate => wire::business_error("duplicate_request", "Duplicate partnerTxnUid [EMDR]"),
            Wording::Settled => wire::refused(Refusal::Rule("it is settled")),
            Wording::OutsideHours => wire::business_error("settlement_error", "Not at this time of the day [EMSMSG]"),
        }
    }

    fn tokens(&self) -> Option<&Tokens> {
        Some(&self.tokens)
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
        if !self.tokens.is_borne(&self.core, headers) {
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
