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

use axum::http::{HeaderMap, Method, StatusCode, Uri};
use domain::money::Currency;
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
    serve_simulated(listener, stripe, routes::router()).await
}

fn seal(settings: &Settings, url: String, now: i64, body: &str, kind: SealKind) -> Sealed {
    let sign = |secret: &str, at: i64| format!("v1={}", hex::encode(signature::sign(secret.as_bytes(), &at.to_string(), body.as_bytes())));
    let signing = Signing { secret: &settings.webhook_secret, other: &settings.other_webhook_secret, wrong: "whsec_of_somebody_else" };
    let signed = signing.signatures(kind, now, sign);
    Sealed { url, headers: signed.map(|(at, signatures)| vec![("stripe-signature", format!("t={at},{signatures}"))]).unwrap_or_default() }
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
            Wording::NoRefunds => wire::list(&[], false, "/v1/refunds"),
            Wording::Duplicate => wire::error(StatusCode::CONFLICT, "idempotency_error", "idempotency_key_in_use", "The key is at work"),
            Wording::Settled => wire::invalid("", "The charge is settled"),
            Wording::OutsideHours => wire::invalid("", "Not at this time of the day"),
        }
    }

    fn capture_in_part(&self, reference: Option<&str>) {
        locked(&self.charges).capture_in_part(reference);
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

    fn creation_event(&self, made: &Charge) -> String {
        wire::event(&self.number("evt"), "payment_intent.created", made.created_at.timestamp(), &wire::intent(made))
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
        if header_text(headers, "authorization") != format!("Bearer {}", self.settings.secret_key) {
            return Err(self.word(Wording::Unauthorized));
        }
        if header_text(headers, "stripe-version") != self.settings.api_version {
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
        let metadata = metadata.chain([("sim_token".to_owned(), token.to_owned())]).collect();
        let mut charge = Charge::new(self.number("pi"), metadata, amount, currency, now);
        (charge.card, charge.manual) = (card, manual);
        if card {
            cards::swipe(&mut charge, token, now)?;
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
