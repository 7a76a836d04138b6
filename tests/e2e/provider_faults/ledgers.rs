//! The provider's books against ours: two lists, made from nothing but the simulator's ledger and the stored events, compared
//! to the satang. Knows nothing of the code that decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use domain::ids::MerchantId;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use super::{
    evidence, postings,
    stage::{PATIENCE, Stage},
};

/// Money of one transaction of the provider's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Money {
    reference: String,
    amount: i64,
    currency: String,
    sent_back: i64,
}

type Books = BTreeMap<String, Money>;

/// What a provider's books must show at most once for each of our references.
fn theirs(ledger: &Value) -> Result<Books, String> {
    let mut seen = BTreeSet::new();
    for attempt in rows(ledger, "attempts") {
        let reference = text(attempt, "reference");
        if !seen.insert(reference.clone()) {
            return Err(format!("I2: the provider began {reference} twice"));
        }
    }
    let mut books = Books::new();
    for payment in rows(ledger, "payments") {
        let money = Money {
            reference: text(payment, "reference"),
            amount: number(payment, "amount"),
            currency: text(payment, "currency"),
            sent_back: 0,
        };
        books.insert(text(payment, "transaction_id"), money);
    }
    for refund in rows(ledger, "refunds").filter(|refund| refund["state"] != "failed") {
        let transaction = text(refund, "transaction_id");
        let payment = books.get_mut(&transaction).ok_or_else(|| format!("a refund of nothing: {refund}"))?;
        payment.sent_back += number(refund, "amount");
    }
    Ok(books)
}

/// What our events say, and what is not settled yet.
#[derive(Default)]
struct Ours {
    books: Books,
    references: BTreeMap<String, String>,
    /// Refund to transaction and amount, while nobody knows how it ends.
    under_way: BTreeMap<String, (String, i64)>,
    done: BTreeMap<String, (String, i64)>,
    failed: BTreeMap<String, (String, i64)>,
}

impl Ours {
    fn take(&mut self, kind: &str, event: &Value) {
        match kind {
            "payment_intent.attempt_started" => {
                self.references.insert(text(event, "attempt_id"), text(event, "reference"));
            }
            "payment_intent.succeeded" | "payment_intent.unmatched_payment_received" => {
                let Some(attempt) = event["attempt_id"].as_str() else { return };
                let money = Money {
                    reference: self.references.get(attempt).cloned().unwrap_or_default(),
                    amount: number(&event["amount"], "amount"),
                    currency: text(&event["amount"], "currency"),
                    sent_back: 0,
                };
                self.books.insert(text(event, "transaction_id"), money);
            }
            "refund.requested" if event["provider"].is_object() && event["destination"] == "original" => {
                let out = (text(&event["provider"], "transaction_id"), number(&event["amount"], "amount"));
                self.under_way.insert(text(event, "refund_id"), out);
            }
            "refund.succeeded" => {
                let id = text(event, "refund_id");
                if let Some(out) = self.under_way.remove(&id) {
                    self.done.insert(id, out);
                }
            }
            "refund.failed" => {
                let id = text(event, "refund_id");
                if let Some(out) = self.under_way.remove(&id).or_else(|| self.done.remove(&id)) {
                    self.failed.insert(id, out);
                }
            }
            "refund.found_sent" => {
                let id = text(event, "refund_id");
                if let Some(out) = self.failed.remove(&id) {
                    self.done.insert(id, out);
                }
            }
            _ => {}
        }
    }

    fn books(&self) -> Result<Books, String> {
        let mut books = self.books.clone();
        for (transaction, amount) in self.done.values() {
            let payment = books.get_mut(transaction).ok_or_else(|| format!("a refund of {transaction}, which never came"))?;
            payment.sent_back += amount;
        }
        if let Some((transaction, money)) = books.iter().find(|(_, money)| money.sent_back > money.amount) {
            return Err(format!("I6: more went back of {transaction} than came: {money:?}"));
        }
        Ok(books)
    }
}

/// Money in and out is the same on both sides (I1, I6), nothing was begun twice (I2), what succeeded was paid in full (I3), what
/// ended without money ended with proof (I4), each step is explained (I8), nothing is left that the provider could still tell (I11), and
/// the postings balance and come to what the provider holds (I12).
async fn compare(stage: &Stage) -> Result<(), String> {
    let pool = &stage.platform.database.admin;
    let tenant = tenant_of(stage.shop.merchant);
    let sql = "select type, convert_from(payload, 'UTF8')::jsonb from log.event where tenant = $1 order by pos";
    let events: Vec<(String, Value)> = sqlx::query_as(sql).bind(tenant).fetch_all(pool).await.map_err(|error| error.to_string())?;
    let mut ours = Ours::default();
    for (kind, event) in &events {
        ours.take(kind, event);
    }
    let (mut theirs, books) = (theirs(&stage.sim("/sim/ledger").await)?, ours.books()?);
    let parked = parked(pool, &stage.account).await?;
    let is_ours = |reference: &String| ours.references.values().any(|known| known == reference);
    theirs.retain(|transaction, money| is_ours(&money.reference) || !parked.contains(transaction));
    if theirs != books {
        return Err(format!("the provider's books\n{theirs:#?}\nare not ours\n{books:#?}"));
    }
    if !ours.under_way.is_empty() {
        return Err(format!("I11: refunds under way: {:?}", ours.under_way));
    }
    intents(stage, &books).await?;
    left_over(pool, tenant, &stage.account).await?;
    postings::clearing_holds_what_the_provider_does(pool, tenant, &stage.account, &held(&theirs)).await?;
    evidence::every_step_is_explained(pool, tenant).await
}

/// Payments less refunds, by currency, without zeros.
fn held(books: &Books) -> BTreeMap<String, i128> {
    let mut held = BTreeMap::new();
    for money in books.values() {
        *held.entry(money.currency.clone()).or_default() += i128::from(money.amount) - i128::from(money.sent_back);
    }
    held.retain(|_, balance| *balance != 0);
    held
}

/// Money of strangers is recorded where its call-back is kept: nobody knows yet whom it is for.
async fn parked(pool: &PgPool, account: &str) -> Result<BTreeSet<String>, String> {
    let sql = "select transaction_id from process.webhook where account = $1 and state = 'parked' and transaction_id is not null";
    let parked: Vec<String> = sqlx::query_scalar(sql).bind(account).fetch_all(pool).await.map_err(|error| error.to_string())?;
    Ok(parked.into_iter().collect())
}

async fn intents(stage: &Stage, books: &Books) -> Result<(), String> {
    let path = format!("/v1/payment-intents?limit=200&store_id={}", stage.shop.store);
    let answer = stage.platform.get(&stage.shop.cashier, &path).await;
    if !answer.status.is_success() {
        return Err(format!("{answer:?}"));
    }
    let page = answer.body;
    for intent in rows(&page, "data") {
        let (id, status, asked) = (text(intent, "id"), text(intent, "status"), intent["outcome"]["step"] == "inquiry");
        if asked {
            return Err(format!("I11: nobody knows how {id} ended: {intent}"));
        }
        let captured = number(&intent["captured"], "amount");
        let in_full = captured == number(&intent["amount"], "amount") || (intent["capture_method"] == "manual" && captured > 0);
        if status == "succeeded" && !in_full {
            return Err(format!("I3: {id} succeeded with {captured}: {intent}"));
        }
        let over = ["canceled", "expired", "failed"].contains(&status.as_str());
        if over && intent["outcome_unknown"] == true {
            return Err(format!("I4: {id} is {status} while nobody knows: {intent}"));
        }
        let parked: BTreeSet<String> = rows(intent, "unmatched").map(|money| text(money, "transaction_id")).collect();
        let reference = text(intent, "reference");
        let lost = books.iter().filter(|(_, money)| money.reference == reference).find(|(transaction, money)| {
            let closes = status == "succeeded" && money.amount == captured;
            !closes && !parked.contains(transaction.as_str())
        });
        if let Some(lost) = lost {
            return Err(format!("I5: money that nobody sees on {id}: {lost:?}"));
        }
    }
    Ok(())
}

/// No call to the provider is still to be made (the look at an intent's end makes none), and no manager is stuck.
async fn left_over(pool: &PgPool, tenant: Uuid, account: &str) -> Result<(), String> {
    let sql = "select key from process.task where tenant = $1 and task ->> 'kind' not in ('inquire', 'lapse')
               union all
               select 'stuck: ' || s.error from process.stuck s join log.event e on e.pos = s.pos where e.tenant = $1
               union all
               select 'received: ' || id from process.webhook where account = $2 and state = 'received'";
    let left: Vec<String> = sqlx::query_scalar(sql).bind(tenant).bind(account).fetch_all(pool).await.map_err(|error| error.to_string())?;
    if left.is_empty() { Ok(()) } else { Err(format!("left over: {left:?}")) }
}

impl Stage {
    /// The provider's own ledger equals ours; waits until it does, because evidence takes its time.
    pub async fn ledgers_agree(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while let Err(difference) = compare(self).await {
            assert!(tokio::time::Instant::now() < deadline, "{:?}: {difference}", self.bank);
            tokio::time::sleep(Duration::from_millis(800)).await;
        }
    }

    /// Payments in the provider's books.
    pub async fn payments_there(&self) -> usize {
        rows(&self.sim("/sim/ledger").await, "payments").count()
    }

    /// Attempts in the provider's books.
    pub async fn attempts_there(&self) -> usize {
        rows(&self.sim("/sim/ledger").await, "attempts").count()
    }
}

pub fn tenant_of(merchant: MerchantId) -> Uuid {
    Uuid::from_bytes(merchant.0.to_bytes())
}

pub fn rows<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

pub fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

pub fn number(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or_default()
}
