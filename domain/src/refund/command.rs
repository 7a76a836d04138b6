//! What can be asked of a refund, and how it is refused.

use chrono::{DateTime, Utc};

use super::Requested;
use crate::{money::Currency, rejection::rejections};

/// What can be asked of a refund.
#[derive(Debug, Clone)]
pub enum Command {
    /// Request it.
    Request(Box<Requested>),
    /// The outcome of the call is not known.
    MarkOutcomeUnknown {
        /// What happened.
        reason: String,
        /// Since when no answer says how it stands (UTC).
        since: DateTime<Utc>,
    },
    /// For too long no answer said how it stands.
    LeaveToPerson {
        /// Now, UTC.
        at: DateTime<Utc>,
    },
    /// A person says, out of a statement, how it ended; only while it is left to one.
    ResolveByPerson {
        /// The money went back.
        sent: bool,
        /// The statement and its line, 1 to 200 characters.
        statement_reference: String,
    },
    /// The money went back.
    Succeed {
        /// The provider's name for it.
        provider_reference: Option<String>,
    },
    /// The provider refused, or its books show now that what it had called done did not happen.
    Fail {
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
        /// A call was refused. What the books showed to have gone back they take back; a refusal does not: it may be refused because of it.
        refused: bool,
    },
}

rejections! {
    /// Rules of a refund.
    {
        RefundNotFound => Missing, "the refund does not exist";
        RefundIdReused => State, "a refund with this id exists already";
        AmountNotPositive => Invalid, "the amount must be positive";
        ReasonRequired => Invalid, "a reason of 1 to 200 characters is required";
        RefundClosed { status: &'static str } => State, "the refund is {status}";
        OutcomeNotUnknown => State, "the outcome is known, or the provider is still being asked";
        FallbackNotOfFailure => State, "only a refund of the same payment that failed can be followed up";
        CardToCashNotAllowed => Invalid, "a payment by card, or by a way that is not known, is not given back in cash";
        CurrencyMismatch { expected: Currency } => Invalid, "the store sells in {expected}";
        AcquirerInvalid => Invalid, "acquirer must have 1 to 64 characters";
        UnlinkedRefundIsRecorded => Invalid, "a refund without a payment names no bill and no provider, and goes by a recorded tender";
        UnlinkedRefundCannotFail => State, "a refund without a payment is recorded as given; no provider can refuse it";
        TipNotLinked => Invalid, "a payment's refund gives back what paid the bill; the tip beside it cannot be given back";
        BreakdownDoesNotAdd => Invalid, "the parts of the refund are out of bounds or do not add up to its amount";
    }
}
