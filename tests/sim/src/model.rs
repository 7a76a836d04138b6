//! A naive reading of the log, written from what the words mean and not from the product's code: sums over JSON.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use domain::{envelope::RecordedEvent, ids::Ulid};
use serde_json::Value;

use crate::db::Db;

/// A payment intent as its events tell it.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own that the log tells")]
pub(crate) struct Payment {
    pub tenant: Option<Ulid>,
    pub bill: Option<String>,
    pub amount: i64,
    pub tender: String,
    pub references: Vec<String>,
    /// References of attempts that were declared failed, and when.
    pub failed: Vec<(String, DateTime<Utc>)>,
    pub status: &'static str,
    pub succeeded: u32,
    pub captured: i64,
    pub unknown: bool,
    pub was_unknown: bool,
    /// Money of the provider: transaction, amount.
    pub money: Vec<(String, i64)>,
    pub unmatched: u32,
    pub reserved: BTreeMap<String, i64>,
    pub settled: BTreeMap<String, i64>,
    pub held_first: bool,
    /// An attempt was to hold the amount only.
    pub to_be_held: bool,
}

/// A bill as its events tell it.
#[derive(Debug, Default)]
pub(crate) struct Bill {
    pub total: i64,
    pub lines: i64,
    pub adjustment: i64,
    pub orders: Vec<String>,
    pub reserved: BTreeMap<String, i64>,
    pub allocated: BTreeMap<String, i64>,
    pub parked: BTreeSet<String>,
    pub refunded: BTreeMap<String, i64>,
    pub paid: u32,
    pub closed: bool,
}

/// A refund as its events tell it.
#[derive(Debug, Default)]
pub(crate) struct Refund {
    pub payment: String,
    pub amount: i64,
    pub by_provider: bool,
    pub succeeded: u32,
    pub failed: u32,
}

/// Everything that a log says about money.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub payments: BTreeMap<String, Payment>,
    pub bills: BTreeMap<String, Bill>,
    pub refunds: BTreeMap<String, Refund>,
    /// Number that the client gave → orders opened under it.
    pub orders: BTreeMap<(Ulid, String), Vec<String>>,
    pub completed: BTreeSet<String>,
    /// Reference that the client gave → payments under it.
    pub asked: BTreeMap<(Ulid, String), u32>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

impl Books {
    pub fn of(db: &Db) -> Self {
        let mut books = Self::default();
        for event in &db.events {
            let body: Value = serde_json::from_slice(&event.payload).unwrap_or_default();
            let id = event.stream.stream_id.to_string();
            let (kind, what) = event.event_type.split_once('.').unwrap_or_default();
            match kind {
                "payment_intent" => books.payment(event, &format!("pi_{id}"), what, &body),
                "bill" => books.bill(&format!("bill_{id}"), what, &body),
                "refund" => books.refund(&format!("ref_{id}"), what, &body),
                "order" if what == "opened" => {
                    books.orders.entry((event.stream.tenant.0, text(&body["order_number"]))).or_default().push(format!("ord_{id}"));
                }
                "order" if what == "completed" => {
                    books.completed.insert(format!("ord_{id}"));
                }
                _ => {}
            }
        }
        books
    }

    fn payment(&mut self, event: &RecordedEvent, id: &str, what: &str, body: &Value) {
        let tenant = event.stream.tenant.0;
        let payment = self.payments.entry(id.to_owned()).or_default();
        match what {
            "created" => {
                payment.tenant = Some(tenant);
                payment.bill = body["bill_id"].as_str().map(str::to_owned);
                payment.amount = number(&body["amount"]["amount"]);
                payment.tender = text(&body["tender"]);
                payment.status = "open";
                *self.asked.entry((tenant, text(&body["merchant_reference"]))).or_default() += 1;
            }
            "attempt_started" => {
                payment.references.push(text(&body["reference"]));
                payment.to_be_held |= body["manual_capture"].as_bool().unwrap_or(false);
                payment.status = "under way";
                payment.unknown = false;
            }
            "outcome_unknown" => (payment.unknown, payment.was_unknown) = (true, true),
            "authorized" => (payment.status, payment.unknown, payment.held_first) = ("held", false, true),
            "action_required" => (payment.status, payment.unknown) = ("under way", false),
            "attempt_failed" => {
                (payment.status, payment.unknown) = ("open", false);
                payment.failed.extend(payment.references.last().map(|reference| (reference.clone(), event.recorded_at)));
            }
            "succeeded" => {
                payment.succeeded += 1;
                payment.captured += number(&body["amount"]["amount"]);
                (payment.status, payment.unknown) = ("succeeded", false);
                if let Some(transaction) = body["transaction_id"].as_str() {
                    payment.money.push((transaction.to_owned(), number(&body["amount"]["amount"])));
                }
            }
            "unmatched_payment_received" => {
                payment.unmatched += 1;
                payment.money.push((text(&body["transaction_id"]), number(&body["amount"]["amount"])));
            }
            "canceled" => (payment.status, payment.unknown) = ("canceled", false),
            "expired" => (payment.status, payment.unknown) = ("expired", false),
            "failed" => (payment.status, payment.unknown) = ("failed", false),
            "refund_reserved" => {
                payment.reserved.insert(text(&body["refund_id"]), number(&body["amount"]));
            }
            "refund_released" => {
                payment.reserved.remove(&text(&body["refund_id"]));
            }
            "refund_taken_back" => {
                payment.settled.remove(&text(&body["refund_id"]));
            }
            // Beside the payment: another refund had the room that it needs.
            "refund_found_sent" if body["unmatched_transaction_id"].is_null() => {
                payment.reserved.remove(&text(&body["refund_id"]));
                payment.settled.insert(text(&body["refund_id"]), number(&body["amount"]));
            }
            "refund_settled" => {
                payment.reserved.remove(&text(&body["refund_id"]));
                payment.settled.insert(text(&body["refund_id"]), number(&body["amount"]));
            }
            _ => {}
        }
    }

    fn bill(&mut self, id: &str, what: &str, body: &Value) {
        let bill = self.bills.entry(id.to_owned()).or_default();
        let payment = text(&body["payment_intent_id"]);
        match what {
            "issued" => {
                bill.total = number(&body["total"]);
                bill.adjustment = number(&body["adjustment"]);
                let lines = body["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
                bill.lines = lines.iter().map(|line| number(&line["total"])).sum();
                bill.orders = body["order_ids"].as_array().into_iter().flatten().map(text).collect();
            }
            "payment_reserved" => {
                bill.reserved.insert(payment, number(&body["amount"]));
            }
            "reservation_released" => {
                bill.reserved.remove(&payment);
            }
            "payment_allocated" => {
                bill.reserved.remove(&payment);
                bill.allocated.insert(payment, number(&body["amount"]));
            }
            "overpayment_parked" => {
                bill.parked.insert(payment);
            }
            "refund_taken_back" => {
                bill.refunded.remove(&text(&body["refund_id"]));
            }
            "paid" => bill.paid += 1,
            "voided" | "written_off" => bill.closed = true,
            "refund_recorded" => {
                bill.refunded.insert(text(&body["refund_id"]), number(&body["amount"]));
            }
            _ => {}
        }
    }

    fn refund(&mut self, id: &str, what: &str, body: &Value) {
        let refund = self.refunds.entry(id.to_owned()).or_default();
        match what {
            "requested" => {
                refund.payment = text(&body["payment_intent_id"]);
                refund.amount = number(&body["amount"]["amount"]);
                refund.by_provider = !body["provider"].is_null();
            }
            "succeeded" => refund.succeeded += 1,
            "failed" => refund.failed += 1,
            "found_sent" => (refund.succeeded, refund.failed) = (refund.succeeded + 1, refund.failed.saturating_sub(1)),
            "taken_back" => (refund.succeeded, refund.failed) = (refund.succeeded.saturating_sub(1), refund.failed + 1),
            _ => {}
        }
    }
}
