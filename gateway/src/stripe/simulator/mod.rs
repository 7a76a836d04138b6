//! A provider that speaks Stripe's wire format, keeps its own books, and fails on demand.
//!
//! Payment methods: `pm_card_visa` and any `pm_test_…` are good; the published `pm_card_chargeDeclined…`,
//! `pm_card_authenticationRequired`, `pm_card_createDispute`, `pm_card_pendingRefund`, `pm_card_refundFail` do what they say;
//! `pm_sim_stored_500` charges and stores an HTTP 500 under the key, `pm_sim_no_increment` refuses a raise.

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
    http::{HeaderMap, Method, StatusCode, Uri},
    response::Response,
    routing::{get, post},
};
use domain::money::Currency;
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

/// What the connector must present.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `sk_test_…`; of the simulation only.
    pub secret_key: String,
    /// Signs events.
    pub webhook_secret: String,
    /// Signs too while the secret is being rolled.
    pub other_webhook_secret: String,
    /// The version that the connector must ask for.
    pub api_version: String,
}

type Form = BTreeMap<String, String>;

struct Stripe {
    core: Core,
    settings: Settings,
    charges: Mutex<Charges>,
    /// By idempotency key: path and parameters, and the answer to them.
    answers: Mutex<HashMap<String, (String, StatusCode, String)>>,
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
    let stripe = Stripe {
        numbers: AtomicUsize::new(charges.len()),
        charges: Mutex::new(charges),
        answers: Mutex::default(),
        settings,
        core: Core::new(config, shutdown, seal, |_| true)?,
    };
    let routes = Router::new()
        .route("/v1/payment_intents", post(create).get(list_intents))
        .route("/v1/payment_intents/{id}", get(get_intent))
        .route("/v1/payment_intents/{id}/{verb}", post(act))
        .route("/v1/refunds", post(refund).get(list_refunds))
        .route("/v1/disputes", get(list_disputes))
        .merge(charge_levers::routes());
    serve_simulated(listener, stripe, routes).await
}

fn seal(settings: &Settings, url: String, now: i64, body: &str, kind: SealKind) -> Sealed {
    let at = match kind {
        SealKind::Stale => now - 600,
        SealKind::Future => now + 600,
        SealKind::Good | SealKind::Bad | SealKind::Rolled | SealKind::Missing => now,
    };
    let by = |secret: &str| format!("v1={}", hex::encode(signature::sign(secret.as_bytes(), &at.to_string(), body.as_bytes())));
    let signatures = match kind {
        SealKind::Good | SealKind::Stale | SealKind::Future => by(&settings.webhook_secret),
        SealKind::Bad => by("whsec_of_somebody_else"),
        SealKind::Rolled => format!("{},{}", by(&settings.other_webhook_secret), by(&settings.webhook_secret)),
        SealKind::Missing => return Sealed { url, headers: vec![] },
    };
    Sealed { url, headers: vec![("stripe-signature", format!("t={at},{signatures}"))] }
}

impl Simulated for Stripe {
    const STATUS_FIELDS: &'static [&'static str] = &["status"];

    fn core(&self) -> &Core {
        &self.core
    }

    fn word(&self, failure: Wording) -> Reply {
        match failure {
            Wording::Http(status) => wire::error(status, "api_error", "", "Something went wrong on our end"),
            Wording::Quota => wire::error(StatusCode::TOO_MANY_REQUESTS, "invalid_request_error", "rate_limit", "Too many requests"),
            Wording::Unauthorized => wire::error(StatusCode::UNAUTHORIZED, "invalid_request_error", "", "Invalid API Key provided"),
            Wording::Trouble => wire::error(StatusCode::FAILED_DEPENDENCY, "api_error", "", "An outside dependency failed"),
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
            answer: json!({"transaction_id": wire::charge_id(&charge), "state": wire::status(&charge)}),
            callback: Some(self.event_of(&charge)),
        })
    }

    fn close(&self, reference: &str, closing: Closing) -> Result<Moved, Refusal> {
        let close = |charge: &mut Charge| charge.close(closing, "payment_intent_authentication_failure");
        let (charge, ()) = locked(&self.charges).change(reference, close)?;
        Ok(Moved { answer: json!({"state": wire::status(&charge)}), callback: Some(self.event_of(&charge)) })
    }

    fn lie(&self, request: &PayRequest) -> String {
        let object = json!({"object": "payment_intent", "id": "pi_sim_lie", "status": "succeeded", "amount_received": request.amount.unwrap_or(1),
                            "metadata": {"reference": request.reference}});
        wire::event(&self.number("evt"), "payment_intent.succeeded", self.core.now().timestamp(), &object)
    }

    fn ledger(&self) -> LedgerView {
        locked(&self.charges).view(|charge| wire::status(charge).to_owned(), wire::charge_id)
    }
}

impl Charging for Stripe {
    fn charges(&self) -> &Mutex<Charges> {
        &self.charges
    }

    fn refund_event(&self, charge: &Charge, refund: &SentBack) -> String {
        let kind = if refund.state == "failed" { "refund.failed" } else { "refund.updated" };
        wire::event(&self.number("evt"), kind, self.core.now().timestamp(), &wire::refund(charge, refund))
    }

    fn dispute_event(&self, charge: &Charge) -> String {
        let kind = if charge.dispute == Some(Dispute::Open) { "charge.dispute.created" } else { "charge.dispute.closed" };
        wire::event(&self.number("evt"), kind, self.core.now().timestamp(), &wire::dispute(charge))
    }
}

impl Stripe {
    /// An id that nobody has yet; repeatable by the seed.
    fn number(&self, kind: &str) -> String {
        format!("{kind}_sim{:x}n{}", self.core.config.seed, self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    fn event_of(&self, charge: &Charge) -> String {
        let kind = match charge.stand {
            Stand::AwaitsPayer => "payment_intent.requires_action",
            Stand::Held => "payment_intent.amount_capturable_updated",
            Stand::Paid => "payment_intent.succeeded",
            Stand::Failed(_) => "payment_intent.payment_failed",
            Stand::Expired if !charge.card => "payment_intent.payment_failed",
            Stand::Canceled | Stand::Expired => "payment_intent.canceled",
        };
        wire::event(&self.number("evt"), kind, self.core.now().timestamp(), &wire::intent(charge))
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Reply> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if text("authorization") != format!("Bearer {}", self.settings.secret_key) {
            return Err(self.word(Wording::Unauthorized));
        }
        if text("stripe-version") != self.settings.api_version {
            return Err(wire::invalid("", "the version is not pinned"));
        }
        Ok(())
    }

    /// Runs once for each key; the answer is kept, whatever it is, unless the request was refused before it began.
    fn once(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
        act: impl FnOnce(&Form) -> Result<Reply, Reply>,
    ) -> Result<Reply, Reply> {
        self.check(headers)?;
        let is_form = headers.get("content-type").is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
        let form = form(&String::from_utf8_lossy(body)).filter(|_| is_form).ok_or_else(|| wire::invalid("", "not a form"))?;
        let Some(key) = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).filter(|key| (1..=255).contains(&key.len()))
        else {
            return Err(wire::invalid("", "this simulator wants a key on every POST"));
        };
        let print = format!("{method} {} {form:?}", uri.path());
        let mut answers = locked(&self.answers);
        if let Some((known, status, body)) = answers.get(key) {
            if *known != print {
                return Err(wire::error(
                    StatusCode::BAD_REQUEST,
                    "idempotency_error",
                    "",
                    "Keys can only be used with the same parameters",
                ));
            }
            return Ok(Reply { status: *status, body: body.clone() });
        }
        // A refusal by validation is not kept.
        let reply = act(&form)?;
        answers.insert(key.to_owned(), (print, reply.status, reply.body.clone()));
        Ok(reply)
    }

    fn make(&self, form: &Form) -> Result<Reply, Reply> {
        let now = self.core.now();
        let text = |name: &str| form.get(name).map_or("", String::as_str);
        let amount = number(form, "amount")?;
        let currency: Currency = text("currency").to_uppercase().parse().map_err(|_| wire::invalid("", "currency"))?;
        if text("currency").bytes().any(|b| b.is_ascii_uppercase()) || text("confirm") != "true" {
            return Err(wire::invalid("", "currency is lower case and confirm is true here"));
        }
        let card = text("payment_method_types[]") == "card";
        let manual = text("capture_method") == "manual";
        if !card && (manual || currency != Currency::THB || text("payment_method_data[type]") != "promptpay") {
            return Err(wire::invalid("", "promptpay is baht, captured at once"));
        }
        let metadata = ["attempt", "reference"]
            .into_iter()
            .filter_map(|name| form.get(&format!("metadata[{name}]")).map(|value| (name.to_owned(), value.clone())));
        let token = text("payment_method");
        let mut charge = Charge {
            id: self.number("pi"),
            metadata: metadata.chain([("sim_token".to_owned(), token.to_owned())]).collect(),
            amount,
            currency,
            card,
            manual,
            stand: Stand::AwaitsPayer,
            held: 0,
            captured: 0,
            created_at: now,
            paid_at: None,
            habit: RefundHabit::AtOnce,
            dispute: None,
            refunds: Vec::new(),
            paid_currency: None,
        };
        if card {
            swipe(&mut charge, token, now)?;
        }
        locked(&self.charges).write(charge.clone()).map_err(|refusal| wire::refused(refusal, ""))?;
        if charge.stand != Stand::AwaitsPayer {
            self.core.announce(&self.event_of(&charge));
        }
        if token == "pm_sim_stored_500" {
            return Ok(self.word(Wording::Http(StatusCode::INTERNAL_SERVER_ERROR)));
        }
        Ok(if matches!(charge.stand, Stand::Failed(_)) { wire::declined(&charge) } else { ok(&wire::intent(&charge)) })
    }

    fn move_on(&self, id: &str, verb: &str, form: &Form) -> Result<Reply, Reply> {
        let now = self.core.now();
        let unexpected = |refusal| wire::refused(refusal, "payment_intent_unexpected_state");
        let mut charges = locked(&self.charges);
        let changed = match verb {
            "capture" => {
                let amount = number(form, "amount_to_capture")?;
                charges.change(id, |charge| charge.capture(amount, now))
            }
            "cancel" => charges.change(id, |charge| charge.close(Closing::Canceled, "")),
            "increment_authorization" => {
                let amount = number(form, "amount")?;
                let charge = charges.find(id).map_err(unexpected)?;
                if charge.metadata.get("sim_token").is_some_and(|token| token == "pm_sim_no_increment") {
                    return Ok(wire::error(StatusCode::PAYMENT_REQUIRED, "card_error", "card_declined", "The issuer refused the raise"));
                }
                charges.change(id, |charge| {
                    if charge.stand != Stand::Held {
                        return Err(Refusal::Duplicate);
                    }
                    if amount <= charge.held {
                        return Err(Refusal::Rule("not more than is held"));
                    }
                    (charge.amount, charge.held) = (amount, amount);
                    Ok(())
                })
            }
            _ => return Err(wire::missing()),
        };
        let (charge, ()) = changed.map_err(unexpected)?;
        self.core.announce(&self.event_of(&charge));
        Ok(ok(&wire::intent(&charge)))
    }

    fn send_back(&self, form: &Form) -> Result<Reply, Reply> {
        let amount = number(form, "amount")?;
        let charge = form.get("charge").ok_or_else(|| wire::invalid("parameter_missing", "charge"))?.replacen("ch_", "pi_", 1);
        let metadata = ["refund", "reference"]
            .into_iter()
            .filter_map(|name| form.get(&format!("metadata[{name}]")).map(|value| (name.to_owned(), value.clone())));
        let (id, metadata, now) = (self.number("re"), metadata.collect(), self.core.now());
        let changed = locked(&self.charges).change(&charge, |charge| charge.refund(id, amount, metadata, now));
        let (charge, refund) = changed.map_err(|refusal| wire::refused(refusal, "charge_already_refunded"))?;
        Ok(ok(&wire::refund(&charge, &refund)))
    }
}

/// What a card does by its token.
fn swipe(charge: &mut Charge, token: &str, now: chrono::DateTime<chrono::Utc>) -> Result<(), Reply> {
    let failed = match token {
        "pm_card_chargeDeclined" | "pm_card_visa_chargeDeclined" => "card_declined/generic_decline",
        "pm_card_chargeDeclinedInsufficientFunds" | "pm_card_visa_chargeDeclinedInsufficientFunds" => "card_declined/insufficient_funds",
        "pm_card_chargeDeclinedExpiredCard" => "expired_card/expired_card",
        "pm_card_chargeDeclinedIncorrectCvc" => "incorrect_cvc/incorrect_cvc",
        "pm_card_chargeDeclinedProcessingError" => "processing_error/processing_error",
        "pm_card_authenticationRequired" => return Ok(()),
        "pm_card_createDispute" => {
            charge.dispute = Some(Dispute::Open);
            ""
        }
        "pm_card_pendingRefund" => {
            charge.habit = RefundHabit::Delayed;
            ""
        }
        "pm_card_refundFail" => {
            charge.habit = RefundHabit::FailsLater;
            ""
        }
        "pm_card_visa" | "pm_card_mastercard" | "pm_sim_stored_500" | "pm_sim_no_increment" => "",
        other if other.starts_with("pm_test_") => "",
        _ => return Err(wire::invalid("resource_missing", "No such PaymentMethod")),
    };
    if failed.is_empty() {
        charge.authorize(charge.amount, now);
    } else {
        charge.stand = Stand::Failed(failed.to_owned());
    }
    Ok(())
}

fn ok(body: &Value) -> Reply {
    Reply::json(StatusCode::OK, body)
}

/// `None` for what is not a form.
fn form(text: &str) -> Option<Form> {
    let url = reqwest::Url::parse(&format!("http://form/?{text}")).ok()?;
    Some(url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
}

fn number(form: &Form, name: &str) -> Result<i64, Reply> {
    form.get(name)
        .and_then(|text| text.parse().ok())
        .filter(|amount| (1..=99_999_999_999).contains(amount))
        .ok_or_else(|| wire::invalid("parameter_invalid_integer", name))
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
    let reference = stripe.reference_of(&id);
    let act = || stripe.once(&request.method, &request.uri, &request.headers, &request.body, |form| stripe.move_on(&id, &verb, form));
    answer(&*stripe, operation, reference.as_deref(), act).await
}

impl Stripe {
    fn reference_of(&self, id: &str) -> Option<String> {
        locked(&self.charges).find(id).ok().map(|charge| charge.reference())
    }
}

async fn refund(State(stripe): State<Arc<Stripe>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let reference = form(&String::from_utf8_lossy(&body)).and_then(|mut form| form.remove("metadata[reference]"));
    let act = || stripe.once(&method, &uri, &headers, &body, |form| stripe.send_back(form));
    answer(&*stripe, Operation::Refund, reference.as_deref(), act).await
}

async fn get_intent(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let reference = stripe.reference_of(&id);
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
        let since = charges.all().iter().filter(|charge| charge.created_at.timestamp() >= since);
        Ok(page(&form, since.map(|charge| (charge.id.clone(), wire::intent(charge))).collect(), "/v1/payment_intents"))
    };
    answer(&*stripe, Operation::Inquire, None, act).await
}

async fn list_refunds(State(stripe): State<Arc<Stripe>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let form = form(&query.unwrap_or_default()).unwrap_or_default();
    let id = form.get("charge").map_or(String::new(), |charge| charge.replacen("ch_", "pi_", 1));
    let reference = stripe.reference_of(&id);
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
    let reference = stripe.reference_of(&id);
    let act = || {
        stripe.check(&headers)?;
        let charge = locked(&stripe.charges).find(&id).map_err(|_| wire::missing())?;
        let disputes = charge.dispute.map(|_| (wire::dispute_id(&charge), wire::dispute(&charge)));
        Ok(page(&form, disputes.into_iter().collect(), "/v1/disputes"))
    };
    answer(&*stripe, Operation::Inquire, reference.as_deref(), act).await
}
