//! What the events of one payment intent move.

use std::collections::BTreeMap;

use super::{Account, Posting, PostingError, moved, outside};
use crate::{
    ids::{AttemptId, RefundId},
    money::{Currency, Money},
    payment_intent::{
        DisputeOutcome, DisputeResolved, Disputed, Event, RefundFoundSent, Resolution, Succeeded, Tender, UnmatchedPaymentReceived,
        UnmatchedRefunded, UnmatchedReopened, UnmatchedResolved,
    },
};

/// What became of money that does not close the intent, as far as accounts tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// Nobody has decided, or it is on its way back.
    Owed,
    /// It counts as the payment.
    Accepted,
    Kept,
    WentBack,
}

/// Money that closes no intent.
#[derive(Debug)]
struct Parked {
    amount: Money,
    /// Where it came.
    into: Account,
    stands: Stands,
    /// The payer got it back by a dispute.
    lost: bool,
}

impl Parked {
    /// Out of which account it goes back. What went back already, the payer owes when it goes once more.
    const fn owed(&self) -> Account {
        if self.lost {
            return Account::CustomerReceivable;
        }
        match self.stands {
            Stands::Owed => Account::UnmatchedLiability,
            Stands::Kept => Account::UnmatchedIncome,
            Stands::Accepted | Stands::WentBack => Account::CustomerReceivable,
        }
    }
}

/// Of earlier events, what later ones only refer to.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// As it is to be paid, and in which currency.
    asked: Option<(Tender, Currency)>,
    /// The account of each attempt.
    accounts: BTreeMap<AttemptId, String>,
    /// Where the payment came.
    paid_into: Option<Account>,
    /// By the provider's transaction.
    parked: BTreeMap<String, Parked>,
    /// Refunds of parked money that another refund sends back as well: the payer owes them.
    beyond: BTreeMap<RefundId, Currency>,
}

impl Remembered {
    pub(super) fn post(&mut self, event: &Event) -> Result<Vec<Posting>, PostingError> {
        match event {
            Event::Created(created) => {
                self.asked = Some((created.tender, created.amount.currency));
                Ok(vec![])
            }
            Event::Updated(updated) => {
                self.asked = Some((updated.tender, updated.amount.currency));
                Ok(vec![])
            }
            Event::AttemptStarted(started) => {
                self.accounts.insert(started.attempt_id, started.account().to_owned());
                Ok(vec![])
            }
            Event::Succeeded(payment) => self.succeeded(payment),
            Event::UnmatchedPaymentReceived(payment) => self.parked(payment),
            Event::UnmatchedResolved(resolved) => self.resolved(resolved),
            Event::UnmatchedRefunded(refunded) => self.went_back(refunded),
            Event::UnmatchedReopened(reopened) => self.reopened(reopened),
            Event::Disputed(disputed) => self.disputed(disputed),
            Event::DisputeResolved(resolved) => self.decided(resolved),
            Event::RefundSettled(settled) => moved(Account::CustomerReceivable, Account::RefundPayable, self.money(settled.amount)?),
            Event::RefundFoundSent(found) => self.found_sent(found),
            Event::RefundTakenBack(taken) => {
                let money = match self.beyond.remove(&taken.refund_id) {
                    Some(currency) => Money::new(taken.amount, currency),
                    None => self.money(taken.amount)?,
                };
                moved(Account::RefundPayable, Account::CustomerReceivable, money)
            }
            // Nothing moves yet: what is held, reserved, asked for or not known is nobody else's; or it does not move at all.
            Event::AttemptAccepted(_)
            | Event::ActionRequired(_)
            | Event::AttemptFailed(_)
            | Event::OutcomeUnknown(_)
            | Event::CancelRequested(_)
            | Event::Canceled(_)
            | Event::Expired(_)
            | Event::Failed(_)
            | Event::Authorized(_)
            | Event::CaptureRequested(_)
            | Event::CaptureFailed(_)
            | Event::IncreaseRequested(_)
            | Event::IncreaseFailed(_)
            | Event::LeftToPerson(_)
            | Event::ResolvedByPerson(_)
            | Event::ProviderConfirmed(_)
            | Event::RefundReserved(_)
            | Event::RefundReleased(_)
            | Event::RefundLeftToPerson(_)
            | Event::OverRefundAcknowledged(_) => Ok(vec![]),
        }
    }

    fn asked(&self) -> Result<(Tender, Currency), PostingError> {
        self.asked.ok_or(PostingError::Missing("a payment intent"))
    }

    /// Minor units of the payment's currency.
    fn money(&self, amount: i64) -> Result<Money, PostingError> {
        Ok(Money::new(amount, self.asked()?.1))
    }

    /// Where money on an attempt comes; without one, where the tender says.
    fn way(&self, attempt_id: Option<AttemptId>, tender: Tender) -> Result<Account, PostingError> {
        let Some(attempt_id) = attempt_id else { return Ok(outside(tender)) };
        let account = self.accounts.get(&attempt_id).ok_or(PostingError::Missing("an attempt"))?;
        Ok(Account::ProviderClearing(account.clone()))
    }

    fn parked_money(&mut self, transaction_id: &str) -> Result<&mut Parked, PostingError> {
        self.parked.get_mut(transaction_id).ok_or(PostingError::Missing("money that closes no intent"))
    }

    fn succeeded(&mut self, payment: &Succeeded) -> Result<Vec<Posting>, PostingError> {
        let into = self.way(payment.attempt_id, payment.tender)?;
        self.paid_into = Some(into.clone());
        let parked = payment.transaction_id.as_ref().and_then(|transaction_id| self.parked.get(transaction_id));
        if let Some(Parked { stands: Stands::Accepted, .. }) = parked {
            return moved(Account::UnmatchedLiability, Account::CustomerReceivable, payment.amount);
        }
        let beside = |amount| Money::new(amount, payment.amount.currency);
        let amount = moved(into.clone(), Account::CustomerReceivable, payment.amount)?;
        let rounding = moved(into.clone(), Account::CashRounding, beside(payment.cash_rounding))?;
        let tip = moved(into, Account::TipsPayable, beside(payment.tip))?;
        Ok([amount, rounding, tip].concat())
    }

    fn parked(&mut self, payment: &UnmatchedPaymentReceived) -> Result<Vec<Posting>, PostingError> {
        let into = self.way(payment.attempt_id, self.asked()?.0)?;
        let parked = Parked { amount: payment.amount, into: into.clone(), stands: Stands::Owed, lost: false };
        self.parked.insert(payment.transaction_id.clone(), parked);
        moved(into, Account::UnmatchedLiability, payment.amount)
    }

    fn resolved(&mut self, resolved: &UnmatchedResolved) -> Result<Vec<Posting>, PostingError> {
        let parked = self.parked_money(&resolved.transaction_id)?;
        match resolved.resolution {
            // The payment follows and is posted then.
            Resolution::Accepted => parked.stands = Stands::Accepted,
            // Owed until it went.
            Resolution::Refunding | Resolution::Refunded => {}
            Resolution::Kept => {
                parked.stands = Stands::Kept;
                return moved(Account::UnmatchedLiability, Account::UnmatchedIncome, parked.amount);
            }
        }
        Ok(vec![])
    }

    fn went_back(&mut self, refunded: &UnmatchedRefunded) -> Result<Vec<Posting>, PostingError> {
        // What was counted as sent beyond this money is no longer beyond it.
        let counted = self.beyond.remove(&refunded.refund_id).is_some();
        let parked = self.parked_money(&refunded.transaction_id)?;
        if parked.stands == Stands::WentBack {
            return Ok(vec![]);
        }
        let owed = parked.owed();
        parked.stands = Stands::WentBack;
        moved(owed, if counted { Account::CustomerReceivable } else { Account::RefundPayable }, parked.amount)
    }

    fn reopened(&mut self, reopened: &UnmatchedReopened) -> Result<Vec<Posting>, PostingError> {
        let parked = self.parked_money(&reopened.transaction_id)?;
        if std::mem::replace(&mut parked.stands, Stands::Owed) == Stands::WentBack {
            return moved(Account::RefundPayable, parked.owed(), parked.amount);
        }
        Ok(vec![])
    }

    fn found_sent(&mut self, found: &RefundFoundSent) -> Result<Vec<Posting>, PostingError> {
        let mut money = self.money(found.amount)?;
        if let Some(transaction_id) = &found.unmatched_transaction_id {
            money.currency = self.parked_money(transaction_id)?.amount.currency;
            self.beyond.insert(found.refund_id, money.currency);
        }
        moved(Account::CustomerReceivable, Account::RefundPayable, money)
    }

    fn paid_into(&self) -> Result<Account, PostingError> {
        self.paid_into.clone().ok_or(PostingError::Missing("a payment"))
    }

    fn disputed(&mut self, disputed: &Disputed) -> Result<Vec<Posting>, PostingError> {
        let came = match &disputed.unmatched_transaction_id {
            Some(transaction_id) => self.parked_money(transaction_id)?.into.clone(),
            None => self.paid_into()?,
        };
        moved(Account::DisputeReceivable, came, disputed.amount)
    }

    fn decided(&mut self, resolved: &DisputeResolved) -> Result<Vec<Posting>, PostingError> {
        let (came, owed) = match &resolved.unmatched_transaction_id {
            Some(transaction_id) => {
                let parked = self.parked_money(transaction_id)?;
                let owed = parked.owed();
                parked.lost = resolved.outcome == DisputeOutcome::Lost;
                (parked.into.clone(), owed)
            }
            None => (self.paid_into()?, Account::CustomerReceivable),
        };
        let into = match resolved.outcome {
            DisputeOutcome::Won => came,
            DisputeOutcome::Lost => owed,
        };
        moved(into, Account::DisputeReceivable, resolved.amount)
    }
}
