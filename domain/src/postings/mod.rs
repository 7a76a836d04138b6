//! Postings: double entry over what happened. Each event that moves money moves it out of one account and into another, so that
//! every event's postings sum to zero in each currency, and the balances explain where all money is.
//!
//! They follow from the log and are stored nowhere: folding the same events gives the same postings. Of money that only an outside
//! list tells (fees, payouts) the log knows nothing, so it is not posted.
//!
//! | event | debit | credit |
//! |---|---|---|
//! | `payment_intent.succeeded` | where it came: `provider_clearing`, `cash`, `outside_clearing`; of accepted late money `unmatched_liability` | `customer_receivable`; beside it `tips_payable`, `cash_rounding` |
//! | `payment_intent.unmatched_payment_received` | where it came | `unmatched_liability` |
//! | `payment_intent.unmatched_resolved` (kept) | `unmatched_liability` | `unmatched_income` |
//! | `payment_intent.unmatched_refunded` | `unmatched_liability`; of what had been kept `unmatched_income`; of what was lost by a dispute `customer_receivable` | `refund_payable` |
//! | `payment_intent.unmatched_reopened`, after it had gone back | `refund_payable` | `unmatched_liability`; of what was lost by a dispute `customer_receivable` |
//! | `payment_intent.refund_settled`, `.refund_found_sent` | `customer_receivable` | `refund_payable` |
//! | `payment_intent.refund_taken_back` | `refund_payable` | `customer_receivable` |
//! | `payment_intent.disputed` | `dispute_receivable` | where the payment came, or the money beside it that is contested |
//! | `payment_intent.dispute_resolved` | won: where it came; lost: `customer_receivable`, of money beside the payment as `.unmatched_refunded` | `dispute_receivable` |
//! | `refund.succeeded`, `.found_sent` | `refund_payable`; unlinked: `customer_receivable`, `tips_payable`; beside it `cash_rounding` | where it goes from |
//! | `refund.taken_back` | where it had gone from | `refund_payable` |
//!
//! A refund is counted by its payment and sent by itself: once both have said so, nothing of it is left in `refund_payable`.

use std::{collections::BTreeMap, fmt};

use crate::{
    event::DomainEvent,
    ids::Ulid,
    money::{Currency, Money},
    payment_intent::Tender,
};

mod intent;
mod refund;
#[cfg(test)]
mod tests;

/// Where money stands. A debit raises what is held or owed to the merchant, a credit what the merchant owes or has earned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// What payers owe. The sale that begins the debt is an order's matter and not posted, so that it holds, as a credit, what was
    /// paid and did not go back.
    CustomerReceivable,
    /// What a provider holds for the merchant, by the account there: `pac_…`, or the provider's name for the platform's own.
    ProviderClearing(String),
    /// Notes and coins.
    Cash,
    /// What somebody outside took in (a terminal's acquirer, an invoice), by the tender as it was recorded.
    OutsideClearing(Tender),
    /// What was collected or handed out beside the amount because coins are not small enough.
    CashRounding,
    /// Tips that the merchant passes on to staff.
    TipsPayable,
    /// Money that closes no intent and that nobody has kept, accepted or sent back.
    UnmatchedLiability,
    /// Money that closed no intent and that somebody decided to keep.
    UnmatchedIncome,
    /// Refunds that their payment counts and that are not sent, or the other way round.
    RefundPayable,
    /// Contested money, until it is decided who keeps it.
    DisputeReceivable,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CustomerReceivable => f.write_str("customer_receivable"),
            Self::ProviderClearing(account) => write!(f, "provider_clearing:{account}"),
            Self::Cash => f.write_str("cash"),
            Self::OutsideClearing(tender) => write!(f, "outside_clearing:{}", tender.as_str()),
            Self::CashRounding => f.write_str("cash_rounding"),
            Self::TipsPayable => f.write_str("tips_payable"),
            Self::UnmatchedLiability => f.write_str("unmatched_liability"),
            Self::UnmatchedIncome => f.write_str("unmatched_income"),
            Self::RefundPayable => f.write_str("refund_payable"),
            Self::DisputeReceivable => f.write_str("dispute_receivable"),
        }
    }
}

/// One side of a movement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// Which account.
    pub account: Account,
    /// Above zero a debit, below zero a credit; never zero. Minor units.
    pub amount: Money,
}

/// Why an event cannot be posted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostingError {
    /// What must have happened before is not among the events.
    #[error("an event refers to {0}, which none before it tells of")]
    Missing(&'static str),
    /// The amount does not fit in 64 bits with the other sign.
    #[error("the amount is out of range")]
    OutOfRange,
}

/// Takes the events of a log in their order and says what each of them moves.
#[derive(Debug, Default)]
pub struct Journal {
    intents: BTreeMap<Ulid, intent::Remembered>,
    refunds: BTreeMap<Ulid, refund::Remembered>,
}

impl Journal {
    /// The postings of the next event of a stream; they sum to zero in each currency. None where no money moves.
    ///
    /// # Errors
    /// Any [`PostingError`].
    pub fn post(&mut self, stream_id: Ulid, event: &DomainEvent) -> Result<Vec<Posting>, PostingError> {
        match event {
            DomainEvent::PaymentIntent(event) => self.intents.entry(stream_id).or_default().post(event),
            DomainEvent::Refund(event) => self.refunds.entry(stream_id).or_default().post(event),
            // A ledger adjustment says what the books are worth; no money moves by it.
            DomainEvent::LedgerAdjustment(_)
            | DomainEvent::Merchant(_)
            | DomainEvent::Store(_)
            | DomainEvent::Order(_)
            | DomainEvent::Bill(_)
            | DomainEvent::Customer(_)
            | DomainEvent::ProviderAccount(_)
            | DomainEvent::WebhookEndpoint(_) => Ok(vec![]),
        }
    }
}

/// What postings come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balances(BTreeMap<(Account, Currency), i128>);

impl Balances {
    /// Adds the postings of an event.
    pub fn add(&mut self, postings: &[Posting]) {
        for Posting { account, amount } in postings {
            // More events than any log has would be needed to leave 128 bits.
            let balance = self.0.entry((account.clone(), amount.currency)).or_default();
            *balance = balance.saturating_add(amount.amount.into());
        }
    }

    /// What an account holds, minor units: above zero a debit, below zero a credit.
    pub fn of(&self, account: &Account, currency: Currency) -> i128 {
        self.0.get(&(account.clone(), currency)).copied().unwrap_or_default()
    }

    /// Every account that was ever posted to, in each of its currencies.
    pub fn all(&self) -> impl Iterator<Item = (&Account, Currency, i128)> {
        self.0.iter().map(|((account, currency), balance)| (account, *currency, *balance))
    }
}

/// Moves an amount into one account, out of another. A negative amount goes the other way, none is not posted.
///
/// # Errors
/// `OutOfRange`.
fn moved(into: Account, out_of: Account, amount: Money) -> Result<Vec<Posting>, PostingError> {
    if amount.amount == 0 {
        return Ok(vec![]);
    }
    let back = Money::new(amount.amount.checked_neg().ok_or(PostingError::OutOfRange)?, amount.currency);
    Ok(vec![Posting { account: into, amount }, Posting { account: out_of, amount: back }])
}

/// Where the money of a tender that has no provider stands.
fn outside(tender: Tender) -> Account {
    if tender == Tender::Cash { Account::Cash } else { Account::OutsideClearing(tender) }
}
