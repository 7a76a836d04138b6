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

use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
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
        Closing, Core, LedgerView, Moved, Operation, PayRequest, Reply, SealKind, Simulated, SimulatorConfig, Wording, answer,
        callback::Sealed,
        charge_levers::{self, Charging},
        charges::{Charge, Charges, Dispute, RefundHabit, SentBack, Stand},
        ledger::Refusal,
        locked, serve as serve_simulated,
    },
};

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
    let routes = Router::new()
        .route("/tokens", post(token))
        .route("/sources", post(source))
        .route("/charges", post(create).get(list))
        .route("/charges/{id}", get(get_charge))
        .route("/charges/{id}/refunds", post(refund).get(list_refunds))
        .route("/charges/{id}/{verb}", post(act))
        .merge(charge_levers::routes());
    serve_simulated(listener, omise, routes).await
}

fn seal(settings: &Settings, url: String, now: i64, body: &str, kind: SealKind) -> Sealed {
    let at = match kind {
        SealKind::Stale => now - 600,
        SealKind::Future => now + 600,
        SealKind::Good | SealKind::Bad | SealKind::Rolled | SealKind::Missing => now,
    };
    let by = |secret: &str| hex::encode(signature::sign(&STANDARD.decode(secret).unwrap_or_default(), &at.to_string(), body.as_bytes()));
    let signatures = match kind {
        SealKind::Good | SealKind::Stale | SealKind::Future => by(&settings.webhook_secret),
        SealKind::Bad => by("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="),
        SealKind::Rolled => format!("{},{}", by(&settings.other_webhook_secret), by(&settings.webhook_secret)),
        SealKind::Missing => return Sealed { url, headers: vec![] },
    };
    Sealed { url, headers: vec![("omise-signature", signatures), ("omise-signature-timestamp", at.to_string())] }
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
        }
    }

    // Keys do not lapse here.
    fn forget_tokens(&self) {}

    fn tokens_issued(&self) -> usize {
        0
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
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if text("authorization") != format!("Basic {}", STANDARD.encode(format!("{}:", self.settings.secret_key))) {
            return Err(self.word(Wording::Unauthorized));
        }
        if text("omise-version") != "2019-05-29" {
            return Err(wire::bad("bad_request", "the version is not pinned"));
        }
        Ok(())
    }

    fn reference_of(&self, id: &str) -> Option<String> {
        locked(&self.charges).find(id).ok().map(|charge| charge.reference())
    }

    fn make(&self, new: NewCharge) -> Result<Reply, Reply> {
        let currency: Currency = new.currency.to_uppercase().parse().map_err(|_| wire::bad("bad_request", "currency is not supported"))?;
        if !(1..=1_000_000_000_000).contains(&new.amount) {
            return Err(wire::bad("invalid_amount", "amount is out of range"));
        }
        let manual = new.capture == Some(false);
        let mut charge = Charge {
            id: self.number("chrg"),
            metadata: new.metadata,
            amount: new.amount,
            currency,
            card: new.card.is_some(),
            manual,
            stand: Stand::AwaitsPayer,
            held: 0,
            captured: 0,
            created_at: self.core.now(),
            paid_at: None,
            habit: RefundHabit::AtOnce,
            dispute: None,
            refunds: Vec::new(),
            paid_currency: None,
        };
        match (new.card, new.source) {
            (Some(token), None) => swipe(&mut charge, &token, self.core.now())?,
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

/// What a published test card does: its token's word.
fn word_of(number: &str) -> Option<&'static str> {
    Some(match number {
        "4242424242424242" | "4111111111111111" | "5555555555554444" | "5454545454545454" | "3530111333300000" | "3566111111111113"
        | "378282246310005" => "ok",
        "4111111111140011" | "5555551111110011" | "3530111111190011" => "insufficient_fund",
        "4111111111130012" | "5555551111100012" | "3530111111180012" => "stolen_or_lost_card",
        "4111111111120013" | "5555551111190013" | "3530111111170013" => "failed_processing",
        "4111111111110014" | "5555551111180014" | "3530111111160014" => "payment_rejected",
        _ => return None,
    })
}

/// What a card does by its token.
fn swipe(charge: &mut Charge, token: &str, now: DateTime<Utc>) -> Result<(), Reply> {
    let word = token.strip_prefix("tokn_test_").ok_or_else(|| wire::error(StatusCode::NOT_FOUND, "not_found", "token was not found"))?;
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_');
    match word {
        "used" => return Err(wire::bad("used_token", "token was already used")),
        "threeds" => return Ok(()),
        "slowrefund" => charge.habit = RefundHabit::Delayed,
        "badrefund" => charge.habit = RefundHabit::FailsLater,
        "ok" => {}
        failure => {
            charge.stand = Stand::Failed(failure.to_owned());
            return Ok(());
        }
    }
    charge.authorize(charge.amount, now);
    Ok(())
}

fn ok(body: &Value) -> Reply {
    Reply::json(StatusCode::OK, body)
}

fn json_of<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Reply> {
    serde_json::from_slice(body).map_err(|error| wire::bad("bad_request", &error.to_string()))
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
    let reference = omise.reference_of(&id);
    let act = || {
        omise.check(&headers)?;
        omise.move_on(&id, &verb, &json_of(&body)?)
    };
    answer(&*omise, operation, reference.as_deref(), act).await
}

async fn refund(State(omise): State<Arc<Omise>>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let reference = omise.reference_of(&id);
    let act = || {
        omise.check(&headers)?;
        omise.send_back(&id, json_of(&body)?)
    };
    answer(&*omise, Operation::Refund, reference.as_deref(), act).await
}

async fn get_charge(State(omise): State<Arc<Omise>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let reference = omise.reference_of(&id);
    let act = || {
        omise.check(&headers)?;
        locked(&omise.charges).find(&id).map(|charge| ok(&omise.shown(&charge))).map_err(|_| wire::missing())
    };
    answer(&*omise, Operation::Inquire, reference.as_deref(), act).await
}

/// `offset` and `limit`, oldest first.
fn page(query: &str, items: &[Value]) -> Reply {
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
        let since = charges.all().iter().filter(|charge| from.is_none_or(|from| charge.created_at >= from));
        Ok(page(&query, &since.map(|charge| omise.shown(charge)).collect::<Vec<_>>()))
    };
    answer(&*omise, Operation::Inquire, None, act).await
}

async fn list_refunds(State(omise): State<Arc<Omise>>, Path(id): Path<String>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let reference = omise.reference_of(&id);
    let act = || {
        omise.check(&headers)?;
        let charge = locked(&omise.charges).find(&id).map_err(|_| wire::missing())?;
        let refunds: Vec<Value> = charge.refunds.iter().map(|refund| wire::refund(&charge, refund)).collect();
        Ok(page(&query.unwrap_or_default(), &refunds))
    };
    answer(&*omise, Operation::InquireRefund, reference.as_deref(), act).await
}
