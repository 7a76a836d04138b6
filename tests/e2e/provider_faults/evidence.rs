//! I8: the history of an intent, and of a refund, goes forward, and each end has its evidence: an answer of the provider that was
//! asked for before it, or somebody's command. Read from the stored events and from what was said to providers; knows nothing of the
//! code that decides.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

mod refunds;
#[cfg(test)]
mod tests;

/// A stored event.
#[derive(Clone)]
struct Fact {
    version: i64,
    /// Without the name of the aggregate.
    kind: String,
    actor: String,
    at: DateTime<Utc>,
    body: Value,
}

impl Fact {
    /// Somebody asked for it; it is not what a part of the platform concluded.
    fn by_somebody(&self) -> bool {
        !self.actor.is_empty() && !self.actor.starts_with("process:")
    }

    fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }

    fn time(&self, name: &str) -> Option<DateTime<Utc>> {
        self.text(name).parse().ok()
    }
}

/// A call to a provider.
#[derive(Clone)]
struct Call {
    /// Nothing: no answer came.
    status: Option<i32>,
    answer: String,
    at: DateTime<Utc>,
}

impl Call {
    /// Whether the provider, and not what stands before it, said something.
    fn is_answered(&self) -> bool {
        self.status.is_some_and(|status| status < 500)
    }

    /// Whether it shows this transaction; of an answer that was too long to be kept whole nobody can tell that it does not.
    fn shows(&self, transaction: &str) -> bool {
        let whole = !self.answer.ends_with('…');
        self.status.is_some_and(|status| (200..300).contains(&status)) && (!whole || self.answer.contains(transaction))
    }
}

/// By attempt or refund.
type Calls = BTreeMap<String, Vec<Call>>;

/// Each event that changes a state: out of which, and into which.
type Steps = &'static [(&'static str, &'static [&'static str], &'static str)];

/// Before the first event.
const STARTS_AT: &str = "absent";

/// The state after the event in this place of a history; nothing when it does not follow out of the state before.
///
/// # Errors
/// It stands in the place of another.
fn ends_at(steps: Steps, status: &'static str, fact: &Fact, place: usize) -> Result<Option<&'static str>, String> {
    if i64::try_from(place).ok().and_then(|place| place.checked_add(1)) != Some(fact.version) {
        return Err(format!("version {} stands in the place of {}", fact.version, place.saturating_add(1)));
    }
    Ok(match steps.iter().find(|(kind, ..)| *kind == fact.kind) {
        Some((_, from, to)) => from.contains(&status).then_some(*to),
        // It changes nothing, but of what there is.
        None => (status != STARTS_AT).then_some(status),
    })
}

const OPEN: &[&str] = &["requires_payment_method", "processing", "requires_action", "requires_capture"];

/// A failed attempt alone leads back, to where another may begin.
const STEPS: Steps = &[
    ("created", &[STARTS_AT], "requires_payment_method"),
    ("attempt_started", &["requires_payment_method"], "processing"),
    ("action_required", &["processing"], "requires_action"),
    ("authorized", &["processing", "requires_action", "requires_capture"], "requires_capture"),
    ("attempt_failed", &["processing", "requires_action"], "requires_payment_method"),
    ("succeeded", OPEN, "succeeded"),
    ("canceled", OPEN, "canceled"),
    ("expired", &["requires_payment_method", "processing", "requires_action"], "expired"),
    ("failed", &["requires_payment_method"], "failed"),
];

/// A provider may count whole seconds: a code is over there a moment before its time here.
const ROUNDED: TimeDelta = TimeDelta::seconds(2);

/// An intent on its way through its history.
struct Walk<'a> {
    calls: &'a Calls,
    status: &'static str,
    before: Option<&'a Fact>,
    attempt: Option<&'a Fact>,
    open_until: Option<DateTime<Utc>>,
    cancel_requested: bool,
}

/// Goes through the history of one intent, oldest first.
///
/// # Errors
/// The first step that does not follow, or that nothing in the log or said by a provider explains.
fn check(history: &[Fact], calls: &Calls) -> Result<(), String> {
    let mut walk = Walk { calls, status: STARTS_AT, before: None, attempt: None, open_until: None, cancel_requested: false };
    for (place, fact) in history.iter().enumerate() {
        let led = ends_at(STEPS, walk.status, fact, place)?.or_else(|| walk.named_exception(fact));
        let led = led.ok_or_else(|| format!("{} led back out of {} at version {}", fact.kind, walk.status, fact.version))?;
        if !walk.is_explained(fact) {
            let said: Vec<String> = walk.last_calls().map(|call| format!("{} {:?} {}", call.at, call.status, call.answer)).collect();
            let what = format!("{} at version {}, {}, out of {}", fact.kind, fact.version, fact.at, walk.status);
            return Err(format!("nothing explains {what}: {}; said about its attempt {:?}: {said:#?}", fact.body, walk.attempt_ends()));
        }
        walk.remember(fact, led);
    }
    Ok(())
}

impl<'a> Walk<'a> {
    /// What leads back all the same, by the word of a person just before it: a hold that is not there, and late money that counts.
    fn named_exception(&self, fact: &Fact) -> Option<&'static str> {
        match (fact.kind.as_str(), self.status) {
            ("attempt_failed", "requires_capture") => self.found_by_person(false).then_some("requires_payment_method"),
            ("succeeded", "canceled" | "expired" | "failed") => self.accepted(fact).then_some("succeeded"),
            _ => None,
        }
    }

    /// Whether what happened before explains it.
    fn is_explained(&self, fact: &Fact) -> bool {
        match fact.kind.as_str() {
            "succeeded" => match fact.text("evidence") {
                "inquiry" => self.accepted(fact) || self.is_shown(fact),
                "statement" => self.found_by_person(true),
                "staff" | "import" => fact.by_somebody() && fact.body["attempt_id"].is_null(),
                _ => false,
            },
            "unmatched_payment_received" | "provider_confirmed" => self.is_shown(fact),
            "authorized" => self.calls_before(fact, fact.text("attempt_id")).any(|call| call.shows("")),
            // A refusal; or nobody could be reached, and another account takes it.
            "attempt_failed" => self.found_by_person(false) || self.calls_before(fact, fact.text("attempt_id")).next().is_some(),
            "failed" => self.before.is_some_and(|before| before.kind == "attempt_failed"),
            "canceled" if self.status == "requires_payment_method" && fact.by_somebody() => true,
            "canceled" => {
                let lapsed = self.status == "requires_capture" && fact.text("reason") == "authorization_lapsed";
                (self.cancel_requested || lapsed) && self.looked_since(fact, DateTime::UNIX_EPOCH)
            }
            "expired" => {
                let nothing_under_way = self.status == "requires_payment_method";
                let ends = self.attempt_ends();
                (nothing_under_way && self.open_until.is_some_and(|end| fact.at >= end))
                    || ends.is_some_and(|end| self.looked_since(fact, end - ROUNDED))
                    || self.is_said_to_be_over(fact)
            }
            _ => true,
        }
    }

    /// What was said about an attempt before something happened.
    fn calls_before<'b>(&'b self, fact: &'b Fact, attempt: &str) -> impl Iterator<Item = &'b Call> + use<'a, 'b> {
        self.calls.get(attempt).into_iter().flatten().filter(move |call| call.at <= fact.at)
    }

    /// What was said about the last attempt, whenever.
    fn last_calls(&self) -> impl Iterator<Item = &Call> {
        self.attempt.and_then(|attempt| self.calls.get(attempt.text("attempt_id"))).into_iter().flatten()
    }

    fn attempt_ends(&self) -> Option<DateTime<Utc>> {
        self.attempt.and_then(|attempt| attempt.time("expires_at"))
    }

    /// The provider's own answer showed this money on this attempt.
    fn is_shown(&self, fact: &Fact) -> bool {
        let transaction = fact.text("transaction_id");
        !transaction.is_empty() && self.calls_before(fact, fact.text("attempt_id")).any(|call| call.shows(transaction))
    }

    /// The provider answered something about the last attempt, asked not before then.
    fn looked_since(&self, fact: &Fact, then: DateTime<Utc>) -> bool {
        let attempt = self.attempt.map_or("", |attempt| attempt.text("attempt_id"));
        self.calls_before(fact, attempt).any(|call| call.is_answered() && call.at >= then)
    }

    /// The provider itself says that the code is over: KBank's live ten minutes, however long the payer has.
    fn is_said_to_be_over(&self, fact: &Fact) -> bool {
        let attempt = self.attempt.map_or("", |attempt| attempt.text("attempt_id"));
        let whole = |call: &&Call| !call.answer.ends_with('…');
        self.calls_before(fact, attempt).filter(whole).any(|call| call.shows("\"EXPIRED\""))
    }

    /// A person said so just before, out of a statement that is named.
    fn found_by_person(&self, paid: bool) -> bool {
        let said = self.before.filter(|before| before.kind == "resolved_by_person" && before.by_somebody());
        said.is_some_and(|said| said.body["paid"] == paid && !said.text("statement_reference").is_empty())
    }

    /// Somebody accepted just before that this late money counts.
    fn accepted(&self, fact: &Fact) -> bool {
        let decided = self.before.filter(|before| before.kind == "unmatched_resolved" && before.by_somebody());
        decided.is_some_and(|decided| {
            decided.text("resolution") == "accepted" && decided.text("transaction_id") == fact.text("transaction_id")
        })
    }

    fn remember(&mut self, fact: &'a Fact, led_to: &'static str) {
        self.status = led_to;
        self.before = Some(fact);
        match fact.kind.as_str() {
            "created" => self.open_until = fact.time("expires_at"),
            "attempt_started" => {
                self.attempt = Some(fact);
                self.open_until = self.open_until.max(fact.time("expires_at"));
            }
            "cancel_requested" => self.cancel_requested = true,
            _ => {}
        }
    }
}

/// Every intent and every refund of a merchant.
///
/// # Errors
/// The first one whose history does not hold, or the driver's words.
pub async fn every_step_is_explained(pool: &PgPool, tenant: Uuid) -> Result<(), String> {
    let told = |error: sqlx::Error| error.to_string();
    let intents = histories_of(pool, tenant, "payment_intent").await.map_err(told)?;
    let refunds = histories_of(pool, tenant, "refund").await.map_err(told)?;
    let calls = calls_of(pool, tenant).await.map_err(told)?;
    for (intent, history) in &intents {
        check(history, &calls).map_err(|problem| format!("I8: payment intent {intent}: {problem}"))?;
    }
    for (refund, history) in &refunds {
        refunds::check(history, &calls).map_err(|problem| format!("I8: refund {refund}: {problem}"))?;
    }
    Ok(())
}

async fn histories_of(pool: &PgPool, tenant: Uuid, stream_type: &str) -> sqlx::Result<BTreeMap<Uuid, Vec<Fact>>> {
    let sql = "select stream_id, version, split_part(type, '.', 2), actor, occurred_at, convert_from(payload, 'UTF8')::jsonb
               from log.event where tenant = $1 and stream_type = $2 order by pos";
    let facts: Vec<(Uuid, i64, String, String, DateTime<Utc>, Value)> =
        sqlx::query_as(sql).bind(tenant).bind(stream_type).fetch_all(pool).await?;
    let mut histories: BTreeMap<Uuid, Vec<Fact>> = BTreeMap::new();
    for (stream, version, kind, actor, at, body) in facts {
        histories.entry(stream).or_default().push(Fact { version, kind, actor, at, body });
    }
    Ok(histories)
}

/// What a call-back says proves nothing by itself, and a token is not about a payment.
async fn calls_of(pool: &PgPool, tenant: Uuid) -> sqlx::Result<Calls> {
    let sql = "select subject, status, response_body, sent_at from gateway.exchange
               where tenant = $1 and operation not in ('call_back', 'token') order by id";
    let said: Vec<(String, Option<i32>, String, DateTime<Utc>)> = sqlx::query_as(sql).bind(tenant).fetch_all(pool).await?;
    let mut calls = Calls::new();
    for (subject, status, answer, at) in said {
        calls.entry(subject).or_default().push(Call { status, answer, at });
    }
    Ok(calls)
}
