//! What the events of one refund move.

use super::{Account, Posting, PostingError, moved, outside};
use crate::{
    money::Money,
    payment_intent::Tender,
    refund::{Destination, Event, Requested},
};

/// The request, which later events only refer to.
#[derive(Debug, Default)]
pub(super) struct Remembered(Option<Request>);

#[derive(Debug)]
struct Request {
    /// Where the money goes from.
    out_of: Account,
    /// A payment counts it.
    linked: bool,
    /// Handed out beside the amount, signed minor units.
    cash_rounding: i64,
    /// The part of the amount that was a tip, minor units; only where no payment counts it.
    tip: i64,
}

impl Remembered {
    pub(super) fn post(&mut self, event: &Event) -> Result<Vec<Posting>, PostingError> {
        match event {
            Event::Requested(requested) => {
                self.0 = Some(Request::of(requested));
                Ok(vec![])
            }
            Event::Succeeded(done) => self.request()?.sent(done.amount),
            Event::FoundSent(found) => moved(Account::RefundPayable, self.request()?.out_of.clone(), found.amount),
            Event::TakenBack(taken) => moved(self.request()?.out_of.clone(), Account::RefundPayable, taken.amount),
            Event::OutcomeUnknown(_) | Event::LeftToPerson(_) | Event::ResolvedByPerson(_) | Event::Failed(_) => Ok(vec![]),
        }
    }

    fn request(&self) -> Result<&Request, PostingError> {
        self.0.as_ref().ok_or(PostingError::Missing("a refund"))
    }
}

impl Request {
    fn of(requested: &Requested) -> Self {
        let out_of = match (requested.destination, &requested.provider) {
            (Destination::Original, Some(payment)) => Account::ProviderClearing(payment.provider.clone()),
            (Destination::Original, None) => outside(requested.tender),
            (Destination::Cash, _) => outside(Tender::Cash),
        };
        let tip = requested.breakdown.as_ref().map_or(0, |parts| parts.tip);
        Self { out_of, linked: requested.payment_intent_id.is_some(), cash_rounding: requested.cash_rounding, tip }
    }

    fn sent(&self, amount: Money) -> Result<Vec<Posting>, PostingError> {
        let part = |minor| Money::new(minor, amount.currency);
        let tip = if self.linked { 0 } else { self.tip };
        let rest = amount.amount.checked_sub(tip).ok_or(PostingError::OutOfRange)?;
        let owed = if self.linked { Account::RefundPayable } else { Account::CustomerReceivable };
        let rest = moved(owed, self.out_of.clone(), part(rest))?;
        let tip = moved(Account::TipsPayable, self.out_of.clone(), part(tip))?;
        let rounding = moved(Account::CashRounding, self.out_of.clone(), part(self.cash_rounding))?;
        Ok([rest, tip, rounding].concat())
    }
}
