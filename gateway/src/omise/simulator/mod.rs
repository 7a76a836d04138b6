//! A provider that speaks Omise's wire format, keeps its own books, and fails on demand.
//!
//! `POST /tokens` (the vault) turns the published test cards into tokens; `tokn_test_<word>…` does the same without a card:
//! `ok`, a failure code (`insufficient_fund`, `stolen_or_lost_card`, …), and of this simulator only `threeds` (the payer must
//! authenticate), `slowrefund` and `badrefund` (refunds that wait, or are taken back). An idempotency key is ignored.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::http::{HeaderMap, StatusCode};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use domain::money::Currency;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    signature,
    simulator::{
        Closing, Core, LedgerView, Moved, PayRequest, Reply, SealKind, Simulated, SimulatorConfig, Wording,
        callback::{Sealed, Signing},
        charge_levers::Charging,
        charges::{Charge, Charges, Dispute, SentBack, Stand},
        header_text,
        ledger::Refusal,
        locked, serve as serve_simulated,
    },
};

mod cards;
mod routes;
mod wire;

/// What the connector must present, and what the account may do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `skey_test_…`; of the simulation only.
    pub secret_key: String,
    /// Base64; signs events.
    pub webhook_secret: String,
    /// Base64; signs too while the secret is being rolled.
    pub other_webhook_secret: String,
    /// Whether PromptPay charges can be refunded: sources contradict each other.
    pub promptpay_refundable: bool,
}

struct Omise {
    core: Core,
    settings: Settings,
    home: String,
    charges: Mutex<Charges>,
    /// Id to amount and currency.
    sources: Mutex<HashMap<String, (i64, String)>>,
    numbers: AtomicUsize,
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// The ledger file cannot be read, or the listener fails.
pub async fn serve(listener: TcpListener, settings: Settings, config: SimulatorConfig, shutdown: CancellationToken) -> io::Result<()> {
    let seal = {
        let (settings, url, clock) = (settings.clone(), config.webhook_url.clone(), Arc::clone(&config.clock));
        Arc::new(move |body: &str, kind| seal(&settings, url.clone(), clock().timestamp(), body, kind))
    };
    let charges = Charges::open(config.ledger_file.as_deref())?;
    let omise = Omise {
        home: format!("http://{}", listener.local_addr()?),
        numbers: AtomicUsize::new(charges.len()),
        charges: Mutex::new(charges),
        sources: Mutex::default(),
        settings,
        core: Core::new(config, shutdown, seal, |_| true)?,
    };
    serve_simulated(listener, omise, routes::router()).await
}

fn seal(settings: &Settings, url: String, now: i64, body: &str, kind: SealKind) -> Sealed {
    let sign = |secret: &str, at: i64| {
        hex::encode(signature::sign(&STANDARD.decode(secret).unwrap_or_default(), &at.to_string(), body.as_bytes()))
    };
    let signing =
        Signing { secret: &settings.webhook_secret, other: &settings.other_webhook_secret, wrong: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==" };
    let signed = signing.signatures(kind, now, sign);
    let headers = signed
        .map(|(at, signatures)| vec![("omise-signature", signatures), ("omise-signature-timestamp", at.to_string())])
        .unwrap_or_default();
    Sealed { url, headers }
}

impl Simulated for Omise {
    const STATUS_FIELDS: &'static [&'static str] = &["status"];

    fn core(&self) -> &Core {
        &self.core
    }

    fn word(&self, failure: Wording) -> Reply {
        match failure {
            Wording::Http(status) => wire::error(status, "internal_error", "something went wrong"),
            Wording::Quota => wire::error(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "too many requests"),
            Wording::Unauthorized => wire::error(StatusCode::UNAUTHORIZED, "authentication_failure", "authentication failed"),
            Wording::Trouble => wire::bad("backend_error", "please try again"),
            Wording::NotVisible => wire::missing(),
            Wording::NoRefunds => routes::page("", &[]),
            // It knows no duplicates, and so has no word for them.
            Wording::Duplicate => self.word(Wording::Trouble),
            Wording::Settled => wire::bad("failed_refund", "the charge is settled"),
            Wording::OutsideHours => wire::bad("failed_refund", "not at this time of the day"),
        }
    }

    fn capture_in_part(&self, reference: Option<&str>) {
        locked(&self.charges).capture_in_part(reference);
    }

    fn pay(&self, request: &PayRequest) -> Result<Moved, Refusal> {
        let charge = locked(&self.charges).pay(request, self.core.now())?;
        Ok(Moved {
            answer: json!({"transaction_id": charge.id, "state": wire::status(&charge)}),
            callback: Some(self.event("charge.complete", &charge)),
        })
    }

    fn close(&self, reference: &str, closing: Closing) -> Result<Moved, Refusal> {
        let (charge, ()) = locked(&self.charges).change(reference, |charge| charge.close(closing, "payment_rejected"))?;
        let key = if closing == Closing::Expired { "charge.expire" } else { "charge.complete" };
        Ok(Moved { answer: json!({"state": wire::status(&charge)}), callback: Some(self.event(key, &charge)) })
    }

    fn lie(&self, request: &PayRequest) -> String {
        let data = json!({"object": "charge", "id": "chrg_test_lie", "status": "successful", "paid": true, "amount": request.amount.unwrap_or(1),
                          "metadata": {"reference": request.reference}});
        wire::event(&self.number("evnt"), "charge.complete", self.core.now(), &data)
    }

    fn ledger(&self) -> LedgerView {
        locked(&self.charges).view(|charge| wire::status(charge).to_owned(), |charge| charge.id.clone())
    }
}

impl Charging for Omise {
    fn charges(&self) -> &Mutex<Charges> {
        &self.charges
    }

    fn creation_event(&self, made: &Charge) -> String {
        self.event("charge.create", made)
    }

    fn refund_event(&self, charge: &Charge, refund: &SentBack) -> String {
        wire::event(&self.number("evnt"), "refund.create", self.core.now(), &wire::refund(charge, refund))
    }

    fn dispute_event(&self, charge: &Charge) -> String {
        let key = if charge.dispute == Some(Dispute::Open) { "dispute.create" } else { "dispute.close" };
        wire::event(&self.number("evnt"), key, self.core.now(), &wire::dispute(charge))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCharge {
    amount: i64,
    currency: String,
    card: Option<String>,
    source: Option<String>,
    #[serde(default)]
    capture: Option<bool>,
    #[serde(default)]
    authorization_type: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(rename = "expires_at")]
    _expires_at: Option<DateTime<Utc>>,
    #[serde(rename = "return_uri")]
    _return_uri: Option<String>,
}

#[derive(Deserialize)]
struct NewRefund {
    amount: i64,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl Omise {
    /// An id that nobody has yet; repeatable by the seed.
    fn number(&self, kind: &str) -> String {
        format!("{kind}_test_{:x}n{}", self.core.config.seed, self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    fn shown(&self, charge: &Charge) -> Value {
        wire::charge(charge, charge.card || self.settings.promptpay_refundable, &self.home)
    }

    fn event(&self, key: &str, charge: &Charge) -> String {
        wire::event(&self.number("evnt"), key, self.core.now(), &self.shown(charge))
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Reply> {
        if header_text(headers, "authorization") != format!("Basic {}", STANDARD.encode(format!("{}:", self.settings.secret_key))) {
            return Err(self.word(Wording::Unauthorized));
        }
        if header_text(headers, "omise-version") != "2019-05-29" {
            return Err(wire::bad("bad_request", "the version is not pinned"));
        }
        Ok(())
    }

    fn make(&self, new: NewCharge) -> Result<Reply, Reply> {
        let currency: Currency = new.currency.to_uppercase().parse().map_err(|_| wire::bad("bad_request", "currency is not supported"))?;
        if !(1..=1_000_000_000_000).contains(&new.amount) {
            return Err(wire::bad("invalid_amount", "amount is out of range"));
        }
        let manual = new.capture == Some(false);
        let mut charge = Charge::new(self.number("chrg"), new.metadata, new.amount, currency, self.core.now());
        (charge.card, charge.manual) = (new.card.is_some(), manual);
        match (new.card, new.source) {
            (Some(token), None) => cards::swipe(&mut charge, &token, self.core.now())?,
            (None, Some(source)) => {
                let asked = locked(&self.sources).remove(&source).ok_or_else(wire::missing)?;
                if asked != (new.amount, new.currency) || manual {
                    return Err(wire::bad("bad_request", "the source is of another amount, or cannot be held"));
                }
            }
            (Some(_), Some(_)) | (None, None) => return Err(wire::bad("missing_card", "one of card and source is needed")),
        }
        if new.authorization_type.as_deref() == Some("pre_auth") {
            charge.metadata.insert("sim_pre_auth".to_owned(), "yes".to_owned());
        }
        locked(&self.charges).write(charge.clone()).map_err(|refusal| wire::refused(refusal, "bad_request"))?;
        if charge.stand != Stand::AwaitsPayer {
            self.core.announce(&self.event("charge.complete", &charge));
        }
        Ok(ok(&self.shown(&charge)))
    }

    fn move_on(&self, id: &str, verb: &str, body: &Value) -> Result<Reply, Reply> {
        let now = self.core.now();
        let mut charges = locked(&self.charges);
        let capture = |charge: &mut Charge| {
            let amount = body["capture_amount"].as_i64().unwrap_or(charge.held);
            if amount < charge.held && !charge.metadata.contains_key("sim_pre_auth") {
                return Err(Refusal::Rule("only pre-authorised charges are captured in part"));
            }
            charge.capture(amount, now)
        };
        let close = |charge: &mut Charge, wanted: Stand| {
            if charge.stand == wanted { charge.close(Closing::Canceled, "") } else { Err(Refusal::Duplicate) }
        };
        let (code, key, changed) = match verb {
            "capture" => ("failed_capture", "charge.capture", charges.change(id, capture)),
            "reverse" => ("failed_reverse", "charge.reverse", charges.change(id, |charge| close(charge, Stand::Held))),
            "expire" => ("failed_expire", "charge.expire", charges.change(id, |charge| close(charge, Stand::AwaitsPayer))),
            _ => return Err(wire::missing()),
        };
        let (charge, ()) = changed.map_err(|refusal| wire::refused(refusal, code))?;
        self.core.announce(&self.event(key, &charge));
        Ok(ok(&self.shown(&charge)))
    }

    fn send_back(&self, id: &str, new: NewRefund) -> Result<Reply, Reply> {
        let (refund_id, now) = (self.number("rfnd"), self.core.now());
        let refundable = self.settings.promptpay_refundable;
        let refund = |charge: &mut Charge| {
            if !charge.card && !refundable {
                return Err(Refusal::Rule("the charge is not refundable"));
            }
            if charge.refunds.len() >= 15 {
                return Err(Refusal::Rule("a charge has at most 15 refunds"));
            }
            charge.refund(refund_id, new.amount, new.metadata, now)
        };
        let changed = locked(&self.charges).change(id, refund);
        let (charge, refund) = changed.map_err(|refusal| wire::refused(refusal, "failed_refund"))?;
        self.core.announce(&self.refund_event(&charge, &refund));
        Ok(ok(&wire::refund(&charge, &refund)))
    }
}

fn ok(body: &Value) -> Reply {
    Reply::json(StatusCode::OK, body)
}

fn json_of<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Reply> {
    serde_json::from_slice(body).map_err(|error| wire::bad("bad_request", &error.to_string()))
}
