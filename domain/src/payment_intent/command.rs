//! What can be asked of a payment intent, and how it is refused.

use chrono::{DateTime, NaiveDate, Utc};

use super::{Created, DisputeOutcome, Evidence, Tender};
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

/// An attempt to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAttempt {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// The provider's name.
    pub provider: String,
    /// Which of the merchant's accounts there.
    pub provider_account: Option<String>,
    /// Why this provider was chosen.
    pub route: Option<String>,
    /// Our reference there.
    pub reference: String,
    /// For a card: the provider's token.
    pub card_token: Option<String>,
    /// Hold only.
    pub manual_capture: bool,
    /// Where the payer's browser goes after an action.
    pub return_url: Option<String>,
    /// Now, UTC.
    pub started_at: DateTime<Utc>,
    /// When it stops accepting payment, UTC.
    pub expires_at: DateTime<Utc>,
}

/// How the provider's books say that an attempt ended without money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// Refused.
    Failed {
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// Stopped, or a hold let go.
    Canceled,
    /// Its time ran out there.
    Expired,
}

/// What a person found on a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The money arrived.
    Paid {
        /// The provider's transaction.
        transaction_id: String,
        /// What arrived.
        amount: Money,
        /// When (UTC).
        paid_at: DateTime<Utc>,
    },
    /// It did not.
    NotPaid,
}

/// What is to become of money that does not close the intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The late full payment counts after all.
    Accept,
    /// Send it back by this refund.
    Refund(RefundId),
    /// It stays with the merchant.
    Keep,
}

/// What is to change before an attempt is alive; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// What is owed.
    pub amount: Option<Money>,
    /// How it will be tendered; a tender that has a provider.
    pub tender: Option<Tender>,
    /// The caller's own reference.
    pub merchant_reference: Option<String>,
    /// What it is for, in the caller's words.
    pub description: Option<String>,
    /// The caller's own name of the terminal that takes it.
    pub merchant_terminal_id: Option<String>,
}

/// What can be asked of a payment intent.
#[derive(Debug, Clone)]
pub enum Command {
    /// Create it.
    Create(Box<Created>),
    /// Change what is asked for, before an attempt is alive.
    Update(Update),
    /// Start an attempt at a provider.
    StartAttempt(Box<NewAttempt>),
    /// The provider named the attempt.
    AcceptAttempt {
        /// The attempt.
        attempt_id: AttemptId,
        /// The provider's name for it.
        provider_id: String,
    },
    /// The provider asks for an act of the payer.
    RequireAction {
        /// The attempt.
        attempt_id: AttemptId,
        /// EMVCo payload to show.
        qr_payload: Option<String>,
        /// Address to open.
        redirect_url: Option<String>,
    },
    /// The provider holds the amount.
    Authorize {
        /// The attempt.
        attempt_id: AttemptId,
        /// How much.
        amount: Money,
        /// When the provider lets go of it by itself (UTC).
        capture_before: Option<DateTime<Utc>>,
    },
    /// The provider's books show that the attempt is over, without money.
    EndAttempt {
        /// The attempt.
        attempt_id: AttemptId,
        /// How.
        how: AttemptEnd,
    },
    /// Take what is held, or a part of it; the rest is released.
    Capture {
        /// How much; all that is held unless told.
        amount: Option<Money>,
    },
    /// The provider refused the capture.
    FailCapture {
        /// The attempt.
        attempt_id: AttemptId,
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// Raise what is held.
    Increase {
        /// The new total.
        amount: Money,
    },
    /// The provider refused the higher hold.
    FailIncrease {
        /// The attempt.
        attempt_id: AttemptId,
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// The provider gave no answer to the end of the schedule.
    LeaveToPerson {
        /// The attempt.
        attempt_id: AttemptId,
        /// Now, UTC.
        at: DateTime<Utc>,
    },
    /// A person says what happened to an attempt with an unknown outcome.
    ResolveByPerson {
        /// What they found.
        finding: Finding,
        /// Where: the statement and its line, 1 to 200 characters.
        statement_reference: String,
    },
    /// A person says what becomes of money that does not close the intent.
    ResolveUnmatched {
        /// The provider's transaction.
        transaction_id: String,
        /// What becomes of it.
        verdict: Verdict,
        /// Why.
        reason: String,
    },
    /// The dispute is decided.
    ResolveDispute {
        /// The provider's transaction that was contested; nothing is the payment.
        transaction_id: Option<String>,
        /// Who keeps the money.
        outcome: DisputeOutcome,
        /// When, UTC.
        resolved_at: DateTime<Utc>,
        /// The store's business date then.
        business_date: NaiveDate,
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
        /// Now, UTC.
        since: DateTime<Utc>,
    },
    /// Money moved outside the platform and staff or an import record it.
    RecordTender(PaymentReport),
    /// The payer contests it, or money beside it.
    Dispute {
        /// The provider's transaction that is contested; nothing, or one that is not known, is the payment.
        transaction_id: Option<String>,
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
    /// Nobody confirmed it and its time is up.
    Lapse {
        /// Now, UTC.
        at: DateTime<Utc>,
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
    /// The refund had been carried out, and did not happen after all.
    TakeBackRefund {
        /// The refund.
        refund_id: RefundId,
    },
    /// For too long the provider does not say how the refund stands.
    LeaveRefundToPerson {
        /// The refund.
        refund_id: RefundId,
    },
    /// The refund came to nothing by the word of a person, and was sent. Never refused: the money is gone.
    CountFoundRefund {
        /// The refund.
        refund_id: RefundId,
        /// Minor units.
        amount: i64,
        /// Of money that did not close the intent: the provider's transaction.
        unmatched_transaction_id: Option<String>,
    },
    /// A person takes note that more was given back than came.
    AcknowledgeOverRefund {
        /// By how much, as the person has seen it.
        amount: Money,
        /// What is done about it.
        reason: String,
    },
}

rejections! {
    /// Rules of a payment intent.
    {
        PaymentIntentNotFound => Missing, "the payment intent does not exist";
        PaymentIntentIdReused => State, "a payment intent with this id exists already";
        AmountNotPositive => Invalid, "the amount must be between 1 and 100,000,000,000 minor units";
        ReferenceInvalid => Invalid, "merchant_reference must have 1 to 64 characters";
        DescriptionInvalid => Invalid, "description must have 1 to 200 characters";
        TerminalInvalid => Invalid, "merchant_terminal_id must have 1 to 64 characters";
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
        CardTokenRequired => Invalid, "a card payment needs the token that the provider's page gave for the card";
        CardTokenNotWanted => Invalid, "only a card payment has a token";
        ManualCaptureNeedsCard => Invalid, "only a card payment can be held first and captured later";
        TenderNotProvided => Invalid, "the tender must be one that a provider takes: promptpay or online_card";
        NotThePayersChoice => Invalid, "whoever pays by a payment token confirms what the merchant made: tender, capture_method and expires_in_minutes are the merchant's choice";
        BillAmountFixed => State, "the amount is held on a bill and cannot be changed";
        NothingToCapture { status: &'static str } => State, "the payment intent is {status}; only an amount that is held can be captured or raised";
        CaptureExceedsHeld { held: i64 } => State, "at most {held} minor units are held";
        CaptureInProgress => State, "a capture is under way";
        IncreaseNotHigher { held: i64 } => Invalid, "the new total must be more than the {held} minor units that are held";
        OutcomeNotUnknown => State, "the outcome is known, or the provider is still being asked";
        UnmatchedNotFound => Missing, "no open unmatched payment has this transaction";
        UnmatchedNotAcceptable => State, "only a late payment of exactly the amount owed, on an intent that is over, can be accepted";
        RefundNeedsAttempt => State, "the attempt on which the money arrived is not known; it can be given back by hand only";
        UnmatchedNotRefundable => State, "the attempt on which the money arrived is not known; it cannot be sent back by a call";
        NotDisputed => State, "there is no open dispute";
        RefundUnknown => Missing, "no such refund is reserved on this payment";
        NotOverRefunded => State, "no more was given back than came, or somebody has taken note of it";
        OverRefundDiffers { over_refunded: i64 } => State, "{over_refunded} minor units more were given back than came, not the amount that is acknowledged";
    }
}
