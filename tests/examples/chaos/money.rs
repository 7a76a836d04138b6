//! I5 and I6: sums of the log's JSON, and the provider's own books beside them. Knows nothing of the code that decides.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::{Books, Payment};

/// What is wrong, by invariant.
pub type Found = Vec<(&'static str, String)>;

/// Payments at the provider by our reference: transaction → what came, what went back.
type Bank = BTreeMap<String, BTreeMap<String, (i64, i64)>>;

fn rows<'a>(ledger: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    ledger[name].as_array().into_iter().flatten()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// Of a log that went back: what came and went back in full without a word in it is nothing any more, and a code goes on waiting for
/// its payer.
fn bank(ledger: &Value, books: &Books, restored: bool) -> Bank {
    let told: BTreeSet<&str> =
        books.payments.values().flat_map(|payment| &payment.money).map(|(transaction, _)| transaction.as_str()).collect();
    let mut bank = Bank::new();
    for payment in rows(ledger, "payments") {
        let (came, back) = (payment["amount"].as_i64().unwrap_or(0), payment["refunded"].as_i64().unwrap_or(0));
        let transaction = text(payment, "transaction_id");
        if restored && came == back && !told.contains(transaction.as_str()) {
            continue;
        }
        bank.entry(text(payment, "reference")).or_default().insert(transaction, (came, back));
    }
    bank
}

/// Nobody paid it and nobody will: its client was stopped by a restore. There are none without one.
fn abandoned(payment: &Payment, bank: &Bank, restored: bool) -> bool {
    restored && matches!(payment.status, "under way" | "open") && payment.references.iter().all(|reference| !bank.contains_key(reference))
}

/// Everything; `restored` when the database went back in time.
pub fn all(books: &Books, ledger: &Value, restored: bool) -> Found {
    let bank = bank(ledger, books, restored);
    let mut found = Found::new();
    bills(books, &bank, restored, &mut found);
    payments(books, &bank, restored, &mut found);
    provider(books, ledger, &bank, restored, &mut found);
    refunds(books, &bank, restored, &mut found);
    found
}

fn bills(books: &Books, bank: &Bank, restored: bool, found: &mut Found) {
    for (id, bill) in &books.bills {
        let mut wrong = |what: String| found.push(("I5", format!("{id}: {what}")));
        if bill.lines + bill.adjustment != bill.total {
            wrong(format!("lines of {} make a total of {}", bill.lines, bill.total));
        }
        let allocated: i64 = bill.allocated.values().sum();
        if bill.paid > 1 || (bill.paid == 1) != (allocated == bill.total) {
            wrong(format!("paid {} times with {allocated} of {}", bill.paid, bill.total));
        }
        for payment in bill.reserved.keys() {
            if !books.payments.get(payment).is_some_and(|payment| abandoned(payment, bank, restored)) {
                wrong(format!("still holds for {payment}"));
            }
        }
        for (payment, amount) in &bill.allocated {
            let captured = books.payments.get(payment).map_or(0, |payment| payment.captured);
            if captured != *amount {
                wrong(format!("{amount} of {payment}, which captured {captured}"));
            }
        }
        if bill.orders.iter().any(|order| (bill.paid == 1) != books.completed.contains(order)) {
            wrong("its order is complete without being paid, or the other way round".to_owned());
        }
        let refunded: i64 = bill.refunded.values().sum();
        if refunded > allocated {
            wrong(format!("{refunded} went back of {allocated}"));
        }
    }
}

fn payments(books: &Books, bank: &Bank, restored: bool, found: &mut Found) {
    for (id, payment) in &books.payments {
        let mut wrong = |invariant, what: String| found.push((invariant, format!("{id}: {what}")));
        if payment.succeeded > 1 || (payment.succeeded == 1 && payment.captured != payment.amount) {
            wrong("I6", format!("asked for {}, took {} in {} times", payment.amount, payment.captured, payment.succeeded));
        }
        let settled: i64 = payment.settled.values().sum();
        if settled > payment.captured {
            wrong("I6", format!("{settled} was given back out of {}", payment.captured));
        }
        if !payment.reserved.is_empty() {
            wrong("I5", format!("still holds refunds {:?}", payment.reserved));
        }
        if let (Some(bill), 1) = (&payment.bill, payment.succeeded)
            && !books.bills.get(bill).is_some_and(|bill| bill.allocated.contains_key(id) || bill.parked.contains(id))
        {
            wrong("I5", "its money never reached its bill".to_owned());
        }
        if (payment.unknown || payment.status == "under way") && !abandoned(payment, bank, restored) {
            wrong("I8", format!("still {}, outcome unknown: {} ({})", payment.status, payment.unknown, payment.tender));
        }
    }
}

/// What the provider's books show is what the log says, transaction by transaction; it was asked to begin once.
fn provider(books: &Books, ledger: &Value, bank: &Bank, restored: bool, found: &mut Found) {
    let mut begun = BTreeSet::new();
    for attempt in rows(ledger, "attempts") {
        let reference = text(attempt, "reference");
        if !begun.insert(reference.clone()) {
            found.push(("I6", format!("the provider began {reference} twice")));
        }
    }
    let mut known = BTreeSet::new();
    for (id, payment) in books.payments.iter().filter(|(_, payment)| !payment.references.is_empty()) {
        let theirs = payment.references.iter().filter_map(|reference| bank.get(reference)).flatten();
        let theirs: BTreeMap<&str, i64> = theirs.map(|(transaction, (came, _))| (transaction.as_str(), *came)).collect();
        let ours: BTreeMap<&str, i64> = payment.money.iter().map(|(transaction, amount)| (transaction.as_str(), *amount)).collect();
        if ours != theirs || ours.len() != payment.money.len() {
            found.push(("I6", format!("{id}: the provider shows {theirs:?}, the log {:?}", payment.money)));
        }
        known.extend(&payment.references);
    }
    // What a restored database forgot is nobody's here.
    for reference in bank.keys().filter(|reference| !restored && !known.contains(reference)) {
        found.push(("I6", format!("the provider took money under {reference}, which the log does not know")));
    }
}

/// Money went back exactly as the log says; a log that went back may have forgotten some.
fn refunds(books: &Books, bank: &Bank, restored: bool, found: &mut Found) {
    let mut back: BTreeMap<&str, i64> = BTreeMap::new();
    for (id, refund) in &books.refunds {
        if refund.succeeded + refund.failed != 1 {
            found.push(("I8", format!("{id} ended {} times well and {} times badly", refund.succeeded, refund.failed)));
        }
        if refund.by_provider && refund.succeeded > 0 {
            *back.entry(&refund.payment).or_default() += refund.amount;
        }
    }
    for (id, payment) in &books.payments {
        let theirs: i64 = payment.references.iter().filter_map(|reference| bank.get(reference)).flatten().map(|(_, (_, back))| back).sum();
        let ours = back.get(id.as_str()).copied().unwrap_or(0);
        if theirs < ours || (theirs > ours && !restored) {
            found.push(("I6", format!("{id}: the provider gave back {theirs}, the log says {ours}")));
        }
    }
}
