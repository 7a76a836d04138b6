//! The books of a bank that gives out QR codes: the codes, the money that came on them and went back. Tests compare them
//! with what the platform believes. Providers with other things to keep (holds, captures) have books of their own.

use std::{collections::BTreeMap, io, path::Path};

use chrono::{DateTime, Utc};
use domain::money::{Currency, Money};
use serde::{Deserialize, Serialize};

use super::{
    control::{Closing, PayRequest, PaymentRow, RefundRow},
    journal::Journal,
};
use crate::bangkok::bangkok_date;

/// One line of the journal.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Entry {
    Code(Code),
    Closed { name: String, closing: Closing },
    Payment(Payment),
    Reversal { transaction_id: String, reversed_at: DateTime<Utc> },
}

/// A code that can be paid.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Code {
    /// The bank's key to it.
    pub(crate) name: String,
    /// Our reference on it.
    pub(crate) reference: String,
    pub(crate) reference2: Option<String>,
    pub(crate) reference3: Option<String>,
    /// Satang.
    pub(crate) amount: i64,
    pub(crate) made_at: DateTime<Utc>,
}

/// Money that arrived.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) transaction_id: String,
    /// Of the code.
    pub(crate) name: String,
    /// Minor units.
    pub(crate) amount: i64,
    pub(crate) currency: Currency,
    pub(crate) paid_at: DateTime<Utc>,
}

impl Payment {
    pub(crate) const fn money(&self) -> Money {
        Money::new(self.amount, self.currency)
    }
}

/// A refusal to write.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No such code or payment.
    Unknown,
    /// The books say something else already.
    Duplicate,
    /// The code can no longer be paid.
    Closed(Closing),
    /// Against the bank's rules.
    Rule(&'static str),
    /// The journal could not be written; nothing changed.
    Disk(io::Error),
}

pub(crate) struct Ledger {
    codes: BTreeMap<String, Code>,
    closed: BTreeMap<String, Closing>,
    payments: Vec<Payment>,
    by_code: BTreeMap<String, Vec<usize>>,
    by_id: BTreeMap<String, usize>,
    /// By transaction: when it was sent back.
    reversed: BTreeMap<String, DateTime<Utc>>,
    journal: Journal,
    seed: u64,
}

impl Ledger {
    pub(crate) fn open(path: Option<&Path>, seed: u64) -> io::Result<Self> {
        let (journal, lines) = Journal::open(path)?;
        let mut ledger = Self {
            codes: BTreeMap::new(),
            closed: BTreeMap::new(),
            payments: Vec::new(),
            by_code: BTreeMap::new(),
            by_id: BTreeMap::new(),
            reversed: BTreeMap::new(),
            journal,
            seed,
        };
        for line in lines {
            ledger.apply(serde_json::from_str(&line)?);
        }
        Ok(ledger)
    }

    fn write(&mut self, entry: Entry) -> Result<(), Refusal> {
        // Money waits for the disk; a code lost with the machine can be asked for again.
        let durable = !matches!(entry, Entry::Code(_));
        self.journal.append(&entry, durable).map_err(Refusal::Disk)?;
        self.apply(entry);
        Ok(())
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Code(code) => drop(self.codes.insert(code.name.clone(), code)),
            Entry::Closed { name, closing } => drop(self.closed.insert(name, closing)),
            Entry::Payment(payment) => {
                let at = self.payments.len();
                self.by_code.entry(payment.name.clone()).or_default().push(at);
                self.by_id.insert(payment.transaction_id.clone(), at);
                self.payments.push(payment);
            }
            Entry::Reversal { transaction_id, reversed_at } => drop(self.reversed.insert(transaction_id, reversed_at)),
        }
    }

    /// Keeps a new code.
    pub(crate) fn keep(&mut self, code: Code) -> Result<(), Refusal> {
        if self.codes.contains_key(&code.name) { Err(Refusal::Duplicate) } else { self.write(Entry::Code(code)) }
    }

    pub(crate) fn code(&self, name: &str) -> Option<&Code> {
        self.codes.get(name)
    }

    /// By the bank's key or our reference; the youngest.
    pub(crate) fn find(&self, text: &str) -> Option<&Code> {
        self.codes.get(text).or_else(|| self.codes.values().filter(|code| code.reference == text).max_by_key(|code| code.made_at))
    }

    pub(crate) fn codes(&self) -> impl Iterator<Item = &Code> {
        self.codes.values()
    }

    pub(crate) fn closing(&self, name: &str) -> Option<Closing> {
        self.closed.get(name).copied()
    }

    /// Ends an unpaid code.
    pub(crate) fn close(&mut self, name: &str, closing: Closing) -> Result<(), Refusal> {
        if !self.codes.contains_key(name) {
            return Err(Refusal::Unknown);
        }
        if self.payments_on(name).next().is_some() {
            return Err(Refusal::Rule("it is paid"));
        }
        match self.closed.get(name) {
            Some(closing) => Err(Refusal::Closed(*closing)),
            None => self.write(Entry::Closed { name: name.to_owned(), closing }),
        }
    }

    /// A payer pays a code, or by hand on any name; every time is a new transaction.
    pub(crate) fn pay(&mut self, name: &str, request: &PayRequest, now: DateTime<Utc>) -> Result<Payment, Refusal> {
        let owed = match (self.codes.get(name), request.by_hand) {
            (Some(code), _) => code.amount,
            (None, true) => request.amount.ok_or(Refusal::Rule("by hand an amount is needed"))?,
            (None, false) => return Err(Refusal::Unknown),
        };
        if let (Some(closing), false) = (self.closed.get(name), request.force) {
            return Err(Refusal::Closed(*closing));
        }
        let currency =
            request.currency.as_deref().map_or(Ok(Currency::THB), str::parse).map_err(|_| Refusal::Rule("the currency is unknown"))?;
        let payment = Payment {
            transaction_id: format!("{}{:08x}{:06}", bangkok_date(now).format("%Y%m%d"), self.seed & 0xFFFF_FFFF, self.payments.len()),
            name: name.to_owned(),
            amount: request.amount.unwrap_or(owed),
            currency,
            paid_at: now,
        };
        self.write(Entry::Payment(payment.clone()))?;
        Ok(payment)
    }

    /// Sends a whole payment back on its Bangkok day.
    pub(crate) fn reverse(&mut self, transaction_id: &str, amount: Money, now: DateTime<Utc>) -> Result<(), Refusal> {
        let payment = self.by_id.get(transaction_id).and_then(|at| self.payments.get(*at)).ok_or(Refusal::Unknown)?;
        if self.is_reversed(transaction_id) {
            return Err(Refusal::Duplicate);
        }
        if amount != payment.money() {
            return Err(Refusal::Rule("only the whole payment can be voided"));
        }
        if bangkok_date(payment.paid_at) != bangkok_date(now) {
            return Err(Refusal::Rule("the cut-off has passed"));
        }
        self.write(Entry::Reversal { transaction_id: transaction_id.to_owned(), reversed_at: now })
    }

    pub(crate) fn is_reversed(&self, transaction_id: &str) -> bool {
        self.reversed.contains_key(transaction_id)
    }

    pub(crate) fn payment_count(&self) -> usize {
        self.payments.len()
    }

    pub(crate) fn payments_on<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Payment> {
        self.by_code.get(name).into_iter().flatten().filter_map(|at| self.payments.get(*at))
    }

    /// The payment as the books show it.
    pub(crate) fn row(&self, payment: &Payment) -> PaymentRow {
        let reversed = self.is_reversed(&payment.transaction_id);
        PaymentRow {
            transaction_id: payment.transaction_id.clone(),
            reference: self.codes.get(&payment.name).map_or_else(|| payment.name.clone(), |code| code.reference.clone()),
            amount: payment.amount,
            currency: payment.currency.code().to_owned(),
            paid_at: payment.paid_at,
            refunded: if reversed { payment.amount } else { 0 },
            reversed,
        }
    }

    /// All payments and all that went back, oldest first.
    pub(crate) fn rows(&self) -> (Vec<PaymentRow>, Vec<RefundRow>) {
        let payments: Vec<PaymentRow> = self.payments.iter().map(|payment| self.row(payment)).collect();
        let refund = |row: &PaymentRow| {
            let at = *self.reversed.get(&row.transaction_id)?;
            let (id, state) = (row.transaction_id.clone(), "reversed".to_owned());
            Some(RefundRow {
                id,
                transaction_id: row.transaction_id.clone(),
                amount: row.amount,
                currency: row.currency.clone(),
                state,
                at,
            })
        };
        let refunds = payments.iter().filter_map(refund).collect();
        (payments, refunds)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_payment_goes_back_once_as_a_whole_and_in_its_own_currency() {
        let mut ledger = Ledger::open(None, 7).unwrap();
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        let by_hand = json!({"reference": "R", "amount": 100_00, "currency": "USD", "by_hand": true});
        let by_hand: PayRequest = serde_json::from_value(by_hand).unwrap();
        let paid = ledger.pay("R", &by_hand, now).unwrap();
        for other in [Money::thb(100_00), Money::new(99_99, paid.currency)] {
            assert!(matches!(ledger.reverse(&paid.transaction_id, other, now), Err(Refusal::Rule(_))), "{other:?}");
        }
        assert!(!ledger.is_reversed(&paid.transaction_id));
        ledger.reverse(&paid.transaction_id, paid.money(), now).unwrap();
        assert!(matches!(ledger.reverse(&paid.transaction_id, paid.money(), now), Err(Refusal::Duplicate)));
    }
}
