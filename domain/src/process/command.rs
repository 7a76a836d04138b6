//! What a process manager or a provider worker wants of one aggregate.

use chrono::{DateTime, Utc};

use crate::{
    ids::{AttemptId, BillId, OrderId, PaymentIntentId, RefundId},
    money::Money,
    payment_intent::{AttemptEnd, DisputeOutcome, PaymentReport, Tender},
};

/// A command to one aggregate, as a process manager or a provider worker issues it.
#[derive(Debug, Clone)]
pub enum ProcessCommand {
    /// Put captured money against the bill.
    AllocatePayment {
        /// The bill.
        bill_id: BillId,
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// How it was tendered.
        tender: Tender,
        /// Minor units.
        amount: i64,
        /// Cash rounding beside it.
        cash_rounding: i64,
        /// Tip collected beside it.
        tip: i64,
        /// Who took the money in for the shop.
        acquirer: Option<String>,
    },
    /// Free what a payment that came to nothing held.
    ReleaseReservation {
        /// The bill.
        bill_id: BillId,
        /// The payment.
        payment_intent_id: PaymentIntentId,
    },
    /// The bill is paid.
    CompleteOrder {
        /// The order.
        order_id: OrderId,
        /// Its paid bill.
        bill_id: BillId,
    },
    /// The refund was carried out: tell the payment.
    SettleRefund {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The refund.
        refund_id: RefundId,
    },
    /// The refund was carried out: tell the bill.
    RecordBillRefund {
        /// The bill.
        bill_id: BillId,
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The refund.
        refund_id: RefundId,
        /// Minor units.
        amount: i64,
    },
    /// The refund came to nothing: free the payment's reserve.
    ReleaseRefund {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The refund.
        refund_id: RefundId,
    },
    /// Nobody knows how the refund stands, and a person has to look: tell the payment.
    LeaveRefundOfPayment {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The refund.
        refund_id: RefundId,
    },
    /// The refund did not happen after all: tell the payment.
    TakeBackRefund {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The refund.
        refund_id: RefundId,
    },
    /// The refund did not happen after all: tell the bill.
    TakeBackBillRefund {
        /// The bill.
        bill_id: BillId,
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The refund.
        refund_id: RefundId,
    },
    /// The provider's books show that the payer contests the payment, or money beside it.
    OpenDispute {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The provider's transaction that is contested.
        transaction_id: String,
        /// Why, in the provider's words.
        reason: String,
        /// Now (UTC).
        at: DateTime<Utc>,
    },
    /// The provider's books show how a dispute was decided.
    DecideDispute {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The provider's transaction that was contested.
        transaction_id: String,
        /// Who keeps the money.
        outcome: DisputeOutcome,
        /// Now (UTC).
        at: DateTime<Utc>,
    },
    /// The provider named the attempt.
    AcceptAttempt {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// The provider's name for it.
        provider_id: String,
    },
    /// The provider holds the amount.
    AuthorizeAttempt {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// How much.
        amount: Money,
        /// When the provider lets go of it by itself (UTC).
        capture_before: Option<DateTime<Utc>>,
    },
    /// The provider's books show that the attempt is over, without money.
    EndAttempt {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// How.
        how: AttemptEnd,
    },
    /// The provider refused to capture.
    FailCapture {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// The provider refused to hold more.
    FailIncrease {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// The provider gave no answer to the end of the schedule.
    LeaveToPerson {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// Now (UTC).
        at: DateTime<Utc>,
    },
    /// The payer must act.
    RequireAction {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// EMVCo payload to show.
        qr_payload: Option<String>,
        /// Address to open.
        redirect_url: Option<String>,
    },
    /// The provider refused the attempt.
    FailAttempt {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// The outcome of a call is not known.
    MarkAttemptUnknown {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// What happened.
        reason: String,
        /// Now (UTC).
        since: DateTime<Utc>,
    },
    /// The provider's books show a payment.
    ConfirmPayment {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// What they show.
        report: PaymentReport,
    },
    /// After a cancel request the provider shows no payment.
    ConfirmCancel {
        /// The payment.
        payment_intent_id: PaymentIntentId,
    },
    /// After the deadline the provider shows no payment on this attempt.
    ExpirePayment {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
    },
    /// Nobody confirmed the payment and its time is up.
    LapsePayment {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// Now (UTC).
        at: DateTime<Utc>,
    },
    /// A refund that a person had declared not sent was: payment and bill count it.
    CountFoundRefund {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The refund.
        refund_id: RefundId,
        /// Minor units.
        amount: i64,
        /// Of money that did not close the payment: the provider's transaction.
        unmatched_transaction_id: Option<String>,
    },
    /// The money went back.
    SucceedRefund {
        /// The refund.
        refund_id: RefundId,
        /// The provider's name for it.
        provider_reference: String,
    },
    /// The provider refused to send it back, or took back that it had.
    FailRefund {
        /// The refund.
        refund_id: RefundId,
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
        /// A call was refused; otherwise its books say so.
        refused: bool,
    },
    /// The outcome of the refund call is not known.
    MarkRefundUnknown {
        /// The refund.
        refund_id: RefundId,
        /// What happened.
        reason: String,
        /// Since when no answer says how it stands (UTC).
        since: DateTime<Utc>,
    },
    /// For too long the provider does not say how the refund stands.
    LeaveRefundToPerson {
        /// The refund.
        refund_id: RefundId,
        /// Now (UTC).
        at: DateTime<Utc>,
    },
}
