//! What can be asked of a payment intent, and how it is refused.

use chrono::{DateTime, NaiveDate, Utc};

use super::{Created, Evidence};
use crate::{
    ids::{AttemptId, RefundId},
    money::Money,
    rejection::rejections,
};

/// A payment as the provider or staff report it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentReport {
    /// The attempt on whose reference it arrived; nothing for recorded tenders.
    pub attempt_id: Option<AttemptId>,
    /// The provider's transaction, or an approval code.
    pub transaction_id: Option<String>,
    /// What arrived.
    pub amount: Money,
    /// When (UTC).
    pub paid_at: DateTime<Utc>,
    /// Why we believe it.
    pub evidence: Evidence,
    /// For cash: handed over, minor units.
    pub cash_received: Option<i64>,
    /// For cash: rounding collected beside the amount, signed.
    pub cash_rounding: i64,
    /// Tip collected beside the amount, minor units, not negative.
    pub tip: i64,
    /// Who takes the money in for the shop, 1 to 64 characters.
    pub acquirer: Option<String>,
}

/// What can be asked of a payment intent.
#[derive(Debug, Clone)]
pub enum Command {
    /// Create it.
    Create(Box<Created>),
    /// Start an attempt at a provider.
    StartAttempt {
        /// The attempt.
        attempt_id: AttemptId,
        /// The provider's name.
        provider: String,
        /// Our reference there.
        reference: String,
        /// Now, UTC.
        started_at: DateTime<Utc>,
    },
    /// The provider gave a QR.
    RequireAction {
        /// The attempt.
        attempt_id: AttemptId,
        /// EMVCo payload.
        qr_payload: String,
    },
    /// The provider refused.
    FailAttempt {
        /// The attempt.
        attempt_id: AttemptId,
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// The outcome of a call is not known.
    MarkOutcomeUnknown {
        /// The attempt.
        attempt_id: AttemptId,
        /// What happened.
        reason: String,
    },
    /// Money moved outside the platform and staff or an import record it.
    RecordTender(PaymentReport),
    /// The payer contests it.
    Dispute {
        /// Why.
        reason: String,
        /// When, UTC.
        disputed_at: DateTime<Utc>,
        /// The store's business date then.
        business_date: NaiveDate,
    },
    /// The provider's books show a payment.
    ConfirmFromProvider(PaymentReport),
    /// The caller wants it stopped.
    Cancel {
        /// Why.
        reason: String,
    },
    /// The provider was asked after a cancel request and shows no payment.
    ConfirmCancel,
    /// The provider was asked after the deadline and shows no payment on this attempt, the last one.
    Expire {
        /// The attempt that was asked about; an older one says nothing about the intent.
        attempt_id: AttemptId,
    },
    /// Set money aside for a refund.
    ReserveRefund {
        /// The refund.
        refund_id: RefundId,
        /// How much.
        amount: Money,
    },
    /// The refund was carried out.
    SettleRefund {
        /// The refund.
        refund_id: RefundId,
    },
    /// The refund came to nothing.
    ReleaseRefund {
        /// The refund.
        refund_id: RefundId,
    },
}

rejections! {
    /// Rules of a payment intent.
    {
        PaymentIntentNotFound => Missing, "the payment intent does not exist";
        PaymentIntentIdReused => State, "a payment intent with this id exists already";
        AmountNotPositive => Invalid, "the amount must be between 1 and 100,000,000,000 minor units";
        ReferenceInvalid => Invalid, "merchant_reference must have 1 to 64 characters";
        ExpiryRequired => Invalid, "a payment through a provider needs an expiry";
        AttemptInProgress => State, "an attempt is under way";
        PaymentIntentNotOpen { status: &'static str } => State, "the payment intent is {status}";
        TenderNotRecorded => Invalid, "this tender is confirmed by its provider, not by hand";
        TenderIsRecorded => Invalid, "this tender is recorded by hand, it has no provider";
        TenderedBelowAmount => Invalid, "the cash received is less than the amount";
        TenderAmountDiffers => Invalid, "a recorded tender must be for exactly the amount of the intent";
        TipInvalid => Invalid, "the tip must be between 0 and 100,000,000,000 minor units";
        AcquirerInvalid => Invalid, "acquirer must have 1 to 64 characters";
        PaymentDisputed => State, "the payment is disputed; nothing of it can be given back";
        AttemptUnresolved => State, "the provider has not yet shown that nothing was paid";
        ReasonRequired => Invalid, "a reason of 1 to 200 characters is required";
        NotCaptured { status: &'static str } => State, "the payment is {status}; only captured money can be given back";
        CurrencyMismatch => Invalid, "the refund is in another currency than the payment";
        RefundExceedsCaptured { refundable: i64 } => State, "at most {refundable} minor units can still be given back";
        RefundUnknown => Missing, "no such refund is reserved on this payment";
    }
}
