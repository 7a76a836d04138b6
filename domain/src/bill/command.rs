//! What can be asked of a bill, and how it is refused.

use super::Issued;
use crate::{
    ids::{PaymentIntentId, RefundId},
    money::Currency,
    payment_intent::Tender,
    rejection::rejections,
};

/// What can be asked of a bill.
#[derive(Debug, Clone)]
pub enum Command {
    /// Issue it.
    Issue(Box<Issued>),
    /// Hold part of what is due for a payment about to start.
    ReservePayment {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// Minor units.
        amount: i64,
        /// Must be the bill's.
        currency: Currency,
    },
    /// Free what a failed payment held.
    ReleaseReservation {
        /// The payment.
        payment_intent_id: PaymentIntentId,
    },
    /// Put captured money against the bill. Never refused for a bill that exists: money that came is recorded.
    AllocatePayment {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// How it was tendered.
        tender: Tender,
        /// Minor units that arrived, without cash rounding and tip.
        amount: i64,
        /// Cash rounding collected beside it, signed.
        cash_rounding: i64,
        /// Tip collected beside it.
        tip: i64,
        /// Who takes the money in for the shop.
        acquirer: Option<String>,
    },
    /// Take it back.
    Void {
        /// Why.
        reason: String,
    },
    /// Give up what is due, of a bill that no money is on.
    WriteOff {
        /// Why.
        reason: String,
    },
    /// Record money that staff give back: no more than is left of what the payment brought.
    RecordRefund {
        /// The refund.
        refund_id: RefundId,
        /// Out of which payment.
        payment_intent_id: PaymentIntentId,
        /// Minor units.
        amount: i64,
    },
    /// Record money that a provider gave back. Not refused for its amount: it is gone, whatever else went back.
    RecordSentRefund {
        /// The refund.
        refund_id: RefundId,
        /// Out of which payment.
        payment_intent_id: PaymentIntentId,
        /// Minor units.
        amount: i64,
    },
    /// A refund that was recorded did not happen after all.
    TakeBackRefund {
        /// The refund.
        refund_id: RefundId,
        /// Out of which payment.
        payment_intent_id: PaymentIntentId,
    },
}

rejections! {
    /// Rules of a bill.
    {
        BillNotFound => Missing, "the bill does not exist";
        BillIdReused => State, "a bill with this id exists already";
        TotalsDoNotAdd => Invalid, "the lines of the bill do not add up to its total";
        BillNotPayable { status: &'static str } => State, "the bill is {status} and takes no payment";
        AmountNotPositive => Invalid, "the amount must be positive";
        AmountExceedsDue { due: i64 } => State, "the amount is more than what is still due ({due} minor units)";
        CurrencyMismatch { expected: Currency } => Invalid, "the bill is in {expected}";
        BillHasPayments => State, "money is on the bill or under way; refund or cancel it first";
        BillNotWrittenOff { status: &'static str } => State, "the bill is {status}, or money is on it or under way: it cannot be written off";
        ReasonRequired => Invalid, "a reason of 1 to 200 characters is required";
        RefundExceedsRefundable { refundable: i64 } => State, "at most {refundable} minor units of this payment can be given back";
    }
}
