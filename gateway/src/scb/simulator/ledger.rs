//! The bank's own books: the codes it gave out, the money it moved. Tests compare them with what the platform believes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{scb::mapping::bangkok_date, simulator::Journal};

/// One line of the journal.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Entry {
    Qr(Qr),
    Payment(Payment),
    Reversal { transaction_id: String, reversed_at: DateTime<Utc> },
}

/// A code that can be paid.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Qr {
    pub(super) reference: String,
    pub(super) reference2: Option<String>,
    pub(super) reference3: Option<String>,
    /// Satang.
    pub(super) amount: i64,
}

/// Money that arrived.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Payment {
    pub(super) transaction_id: String,
    pub(super) reference: String,
    /// Satang.
    pub(super) amount: i64,
    pub(super) paid_at: DateTime<Utc>,
}

/// A refusal to write.
pub(super) enum Refusal {
    /// No such code or payment.
    Unknown,
    /// The books say something else already.
    Duplicate,
    /// Against the bank's rules.
    Rule(&'static str),
    /// The journal could not be written; nothing changed.
    Disk(io::Error),
}

pub(super) struct Ledger {
    qrs: BTreeMap<String, Qr>,
    payments: Vec<Payment>,
    by_reference: BTreeMap<String, Vec<usize>>,
    by_id: BTreeMap<String, usize>,
    reversed: BTreeSet<String>,
    journal: Journal,
    seed: u64,
}

impl Ledger {
    pub(super) fn open(path: Option<&Path>, seed: u64) -> io::Result<Self> {
        let (journal, lines) = Journal::open(path)?;
        let mut ledger = Self {
            qrs: BTreeMap::new(),
            payments: Vec::new(),
            by_reference: BTreeMap::new(),
            by_id: BTreeMap::new(),
            reversed: BTreeSet::new(),
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
        let durable = !matches!(entry, Entry::Qr(_));
        self.journal.append(&entry, durable).map_err(Refusal::Disk)?;
        self.apply(entry);
        Ok(())
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Qr(qr) => {
                self.qrs.insert(qr.reference.clone(), qr);
            }
            Entry::Payment(payment) => {
                let at = self.payments.len();
                self.by_reference.entry(payment.reference.clone()).or_default().push(at);
                self.by_id.insert(payment.transaction_id.clone(), at);
                self.payments.push(payment);
            }
            Entry::Reversal { transaction_id, .. } => {
                self.reversed.insert(transaction_id);
            }
        }
    }

    /// Keeps a code. The same code again is the same code; another amount or reference on the name is a duplicate.
    pub(super) fn keep_qr(&mut self, qr: Qr) -> Result<(), Refusal> {
        match self.qrs.get(&qr.reference) {
            Some(known) if known.amount == qr.amount && known.reference2 == qr.reference2 => Ok(()),
            Some(_) => Err(Refusal::Duplicate),
            None => self.write(Entry::Qr(qr)),
        }
    }

    pub(super) fn qr(&self, reference: &str) -> Option<&Qr> {
        self.qrs.get(reference)
    }

    pub(super) fn qr_count(&self) -> usize {
        self.qrs.len()
    }

    /// A payer pays a code, `amount` satang or what the code says. Every time is a new transaction.
    pub(super) fn pay(&mut self, reference: &str, amount: Option<i64>, now: DateTime<Utc>) -> Result<Payment, Refusal> {
        let amount = amount.unwrap_or(self.qrs.get(reference).ok_or(Refusal::Unknown)?.amount);
        if amount <= 0 {
            return Err(Refusal::Rule("the amount is not positive"));
        }
        let number = self.payments.len();
        let payment = Payment {
            transaction_id: format!("{}{:08x}{number:06}", bangkok_date(now).format("%Y%m%d"), self.seed & 0xFFFF_FFFF),
            reference: reference.to_owned(),
            amount,
            paid_at: now,
        };
        self.write(Entry::Payment(payment.clone()))?;
        Ok(payment)
    }

    /// Sends a whole payment back on its Bangkok day.
    pub(super) fn reverse(&mut self, transaction_id: &str, amount: i64, now: DateTime<Utc>) -> Result<(), Refusal> {
        let payment = self.by_id.get(transaction_id).and_then(|at| self.payments.get(*at)).ok_or(Refusal::Unknown)?;
        if self.is_reversed(transaction_id) {
            return Err(Refusal::Duplicate);
        }
        if amount != payment.amount {
            return Err(Refusal::Rule("only the whole payment can be voided"));
        }
        if bangkok_date(payment.paid_at) != bangkok_date(now) {
            return Err(Refusal::Rule("the cut-off has passed"));
        }
        self.write(Entry::Reversal { transaction_id: transaction_id.to_owned(), reversed_at: now })
    }

    pub(super) fn is_reversed(&self, transaction_id: &str) -> bool {
        self.reversed.contains(transaction_id)
    }

    pub(super) fn payments(&self) -> &[Payment] {
        &self.payments
    }

    pub(super) fn payments_on<'a>(&'a self, reference: &str) -> impl Iterator<Item = &'a Payment> {
        self.by_reference.get(reference).into_iter().flatten().filter_map(|at| self.payments.get(*at))
    }
}
