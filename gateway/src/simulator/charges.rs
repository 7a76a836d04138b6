//! The books of a provider that takes cards and codes: what was begun, what is held, captured and sent back. Shared by the
//! simulators of such providers, which word it in their own formats.

use std::{collections::BTreeMap, io, path::Path};

use chrono::{DateTime, Utc};
use domain::money::Currency;
use serde::{Deserialize, Serialize};

use super::{
    control::{AttemptRow, Closing, LedgerView, PayRequest, PaymentRow, RefundRow},
    journal::Journal,
    ledger::Refusal,
};

/// A note on a charge.
const CAPTURES_PART: &str = "sim_captures_part";

/// Where a charge stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stand {
    /// The payer must scan or authenticate.
    AwaitsPayer,
    /// Held, not captured.
    Held,
    /// Paid.
    Paid,
    /// Refused, with the provider's code.
    Failed(String),
    /// Stopped or let go.
    Canceled,
    /// Its time ran out, before payment or before capture.
    Expired,
}

/// What a refund on a charge does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefundHabit {
    /// Done at once.
    #[default]
    AtOnce,
    /// Waits for a lever.
    Delayed,
    /// Done at once and taken back later, by a lever.
    FailsLater,
}

/// Where a dispute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dispute {
    /// Not decided.
    Open,
    /// The merchant keeps the money.
    Won,
    /// The payer got it back.
    Lost,
}

/// Money on its way back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SentBack {
    pub(crate) id: String,
    /// Minor units.
    pub(crate) amount: i64,
    pub(crate) metadata: BTreeMap<String, String>,
    /// `pending`, `succeeded`, `failed`.
    pub(crate) state: String,
    pub(crate) created_at: DateTime<Utc>,
    /// When a lever ended it.
    #[serde(default)]
    pub(crate) ended_at: Option<DateTime<Utc>>,
}

/// One charge, or one intent with its charge. Amounts in minor units.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) id: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) amount: i64,
    pub(crate) currency: Currency,
    /// By card; otherwise by code.
    pub(crate) card: bool,
    pub(crate) manual: bool,
    pub(crate) stand: Stand,
    pub(crate) held: i64,
    pub(crate) captured: i64,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) paid_at: Option<DateTime<Utc>>,
    pub(crate) habit: RefundHabit,
    /// The payer contests it.
    pub(crate) dispute: Option<Dispute>,
    pub(crate) refunds: Vec<SentBack>,
    /// Of money that came in another currency than owed.
    pub(crate) paid_currency: Option<Currency>,
}

impl Charge {
    /// One that waits for its payer.
    pub(crate) fn new(id: String, metadata: BTreeMap<String, String>, amount: i64, currency: Currency, now: DateTime<Utc>) -> Self {
        Self {
            id,
            metadata,
            amount,
            currency,
            card: false,
            manual: false,
            stand: Stand::AwaitsPayer,
            held: 0,
            captured: 0,
            created_at: now,
            paid_at: None,
            habit: RefundHabit::AtOnce,
            dispute: None,
            refunds: Vec::new(),
            paid_currency: None,
        }
    }

    pub(crate) fn reference(&self) -> String {
        self.metadata.get("reference").cloned().unwrap_or_default()
    }

    /// As the caller gave it; notes of the simulator's own begin with `sim_`.
    pub(crate) fn shown_metadata(&self) -> BTreeMap<&str, &str> {
        self.metadata.iter().filter(|(name, _)| !name.starts_with("sim_")).map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// What went back or is on its way.
    pub(crate) fn refunded(&self) -> i64 {
        self.refunds.iter().filter(|r| r.state != "failed").map(|r| r.amount).sum()
    }

    fn is_paid(&self) -> bool {
        self.captured > 0
    }

    /// The payer has done it: held or paid.
    pub(crate) fn authorize(&mut self, amount: i64, now: DateTime<Utc>) {
        if self.manual {
            self.stand = Stand::Held;
            self.held = amount;
        } else {
            self.stand = Stand::Paid;
            self.captured = amount;
            self.paid_at = Some(now);
        }
    }

    /// As it stood when it was made, before its payer did anything.
    pub(crate) fn as_made(&self) -> Self {
        let made = Self::new(self.id.clone(), self.metadata.clone(), self.amount, self.currency, self.created_at);
        Self { card: self.card, manual: self.manual, ..made }
    }

    /// The next capture takes half of what is asked for.
    pub(crate) fn capture_in_part(&mut self) {
        self.metadata.insert(CAPTURES_PART.to_owned(), "yes".to_owned());
    }

    /// Captures a part; the rest is let go.
    pub(crate) fn capture(&mut self, amount: i64, now: DateTime<Utc>) -> Result<(), Refusal> {
        match self.stand {
            Stand::Held if (1..=self.held).contains(&amount) => {
                let amount = if self.metadata.remove(CAPTURES_PART).is_some() { (amount / 2).max(1) } else { amount };
                (self.stand, self.captured, self.held, self.paid_at) = (Stand::Paid, amount, 0, Some(now));
                Ok(())
            }
            Stand::Held => Err(Refusal::Rule("more than is held")),
            Stand::AwaitsPayer | Stand::Paid | Stand::Failed(_) | Stand::Canceled | Stand::Expired => Err(Refusal::Duplicate),
        }
    }

    /// Ends it unpaid, or lets go of what is held.
    pub(crate) fn close(&mut self, closing: Closing, code: &str) -> Result<(), Refusal> {
        match self.stand {
            Stand::AwaitsPayer | Stand::Held => {
                self.held = 0;
                self.stand = match closing {
                    Closing::Canceled => Stand::Canceled,
                    Closing::Declined => Stand::Failed(code.to_owned()),
                    Closing::Expired => Stand::Expired,
                };
                Ok(())
            }
            Stand::Paid => Err(Refusal::Rule("it is paid")),
            Stand::Failed(_) => Err(Refusal::Closed(Closing::Declined)),
            Stand::Canceled => Err(Refusal::Closed(Closing::Canceled)),
            Stand::Expired => Err(Refusal::Closed(Closing::Expired)),
        }
    }

    /// Sends money back, never more than came.
    pub(crate) fn refund(
        &mut self,
        id: String,
        amount: i64,
        metadata: BTreeMap<String, String>,
        now: DateTime<Utc>,
    ) -> Result<SentBack, Refusal> {
        if self.captured == 0 {
            return Err(Refusal::Rule("it is not paid"));
        }
        let left = self.captured - self.refunded();
        if left == 0 {
            return Err(Refusal::Duplicate);
        }
        if !(1..=left).contains(&amount) {
            return Err(Refusal::Rule("more than is left"));
        }
        let state = if self.habit == RefundHabit::Delayed { "pending" } else { "succeeded" }.to_owned();
        let refund = SentBack { id, amount, metadata, state, created_at: now, ended_at: None };
        self.refunds.push(refund.clone());
        Ok(refund)
    }
}

/// All charges, in the order of their making.
pub(crate) struct Charges {
    all: Vec<Charge>,
    journal: Journal,
}

impl Charges {
    /// Each line of the journal is a whole charge; the last one of an id counts.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let (journal, lines) = Journal::open(path)?;
        let mut charges = Self { all: Vec::new(), journal };
        for line in lines {
            charges.put(serde_json::from_str(&line)?);
        }
        Ok(charges)
    }

    fn put(&mut self, charge: Charge) {
        match self.all.iter_mut().find(|known| known.id == charge.id) {
            Some(known) => *known = charge,
            None => self.all.push(charge),
        }
    }

    pub(crate) fn write(&mut self, charge: Charge) -> Result<(), Refusal> {
        self.journal.append(&charge, true).map_err(Refusal::Disk)?;
        self.put(charge);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn all(&self) -> &[Charge] {
        &self.all
    }

    /// By the provider's id or our reference (the youngest).
    pub(crate) fn find(&self, name: &str) -> Result<Charge, Refusal> {
        let found = self.all.iter().rev().find(|charge| charge.id == name || charge.reference() == name);
        found.cloned().ok_or(Refusal::Unknown)
    }

    /// Our reference of a charge, by the provider's id.
    pub(crate) fn reference_of(&self, id: &str) -> Option<String> {
        self.find(id).ok().map(|charge| charge.reference())
    }

    /// Changes one charge, wholly or not at all.
    pub(crate) fn change<T>(&mut self, name: &str, change: impl FnOnce(&mut Charge) -> Result<T, Refusal>) -> Result<(Charge, T), Refusal> {
        let mut charge = self.find(name)?;
        let done = change(&mut charge)?;
        self.write(charge.clone())?;
        Ok((charge, done))
    }

    /// The next capture of this reference takes half of what is asked for.
    pub(crate) fn capture_in_part(&mut self, reference: Option<&str>) {
        let Some(reference) = reference else { return };
        let noted = self.change(reference, |charge| {
            charge.capture_in_part();
            Ok(())
        });
        if let Err(refusal) = noted {
            tracing::warn!(?refusal, reference, "simulator: no capture to be cut");
        }
    }

    /// The lever: the payer scans or authenticates. Paying twice is not possible on one charge.
    pub(crate) fn pay(&mut self, request: &PayRequest, now: DateTime<Utc>) -> Result<Charge, Refusal> {
        let paid_currency =
            request.currency.as_deref().map(str::parse).transpose().map_err(|_| Refusal::Rule("the currency is unknown"))?;
        let pay = |charge: &mut Charge| {
            if charge.stand == Stand::AwaitsPayer || (request.force && !charge.is_paid()) {
                charge.authorize(request.amount.unwrap_or(charge.amount), now);
                charge.paid_currency = paid_currency;
                Ok(())
            } else {
                Err(Refusal::Rule("nothing is awaited from the payer"))
            }
        };
        self.change(&request.reference, pay).map(|(charge, ())| charge)
    }

    /// The books, with the provider's word for each charge and the name of its payment.
    pub(crate) fn view(&self, word: impl Fn(&Charge) -> String, payment_name: impl Fn(&Charge) -> String) -> LedgerView {
        let attempts = self.all.iter().map(|charge| AttemptRow {
            id: charge.id.clone(),
            reference: charge.reference(),
            amount: charge.amount,
            currency: charge.currency.code().to_owned(),
            state: word(charge),
        });
        let payments = self.all.iter().filter(|charge| charge.is_paid()).map(|charge| PaymentRow {
            transaction_id: payment_name(charge),
            reference: charge.reference(),
            amount: charge.captured,
            currency: charge.paid_currency.unwrap_or(charge.currency).code().to_owned(),
            paid_at: charge.paid_at.unwrap_or(charge.created_at),
            refunded: charge.refunded(),
            reversed: charge.refunded() >= charge.captured,
        });
        let refunds = self.all.iter().flat_map(|charge| charge.refunds.iter().map(move |refund| (charge, refund)));
        let refunds = refunds.map(|(charge, refund)| RefundRow {
            id: refund.id.clone(),
            transaction_id: payment_name(charge),
            amount: refund.amount,
            currency: charge.currency.code().to_owned(),
            state: refund.state.clone(),
            at: refund.ended_at.unwrap_or(refund.created_at),
        });
        LedgerView { attempts: attempts.collect(), payments: payments.collect(), refunds: refunds.collect() }
    }
}
