//! Facts beside the straight way: changes before an attempt, parked money, disputes, what a person decides.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AttemptStarted, Tender};
use crate::{
    ids::{AttemptId, BillId, PaymentIntentId, RefundId, StoreId},
    money::Money,
};

/// What is asked for changed, before any attempt is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Updated {
    /// What is owed now.
    pub amount: Money,
    /// How it will be tendered now.
    pub tender: Tender,
    /// The caller's own reference now.
    pub merchant_reference: Option<String>,
    /// What it is for now, in the caller's words; nothing leaves it as it was.
    pub description: Option<String>,
    /// The caller's own name of the terminal that takes it now; nothing leaves it as it was.
    pub merchant_terminal_id: Option<String>,
}

/// The provider knows the attempt under a name of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptAccepted {
    /// The attempt.
    pub attempt: AttemptStarted,
    /// `chrg_...`, `pi_...`.
    pub provider_id: String,
}

/// The last allowed attempt failed; nothing further is possible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failed {
    /// The bill that held the amount.
    pub bill_id: Option<BillId>,
    /// How many attempts there were.
    pub attempts: u32,
}

/// The provider was asked to the end of the schedule and gave no answer: a person has to look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftToPerson {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// When (UTC).
    pub at: DateTime<Utc>,
}

/// A person says what happened, out of a statement. Who, is the actor of the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResolvedByPerson {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// The money arrived.
    pub paid: bool,
    /// The line of the statement that shows it, or the statement that lacks it.
    pub statement_reference: String,
}

/// The provider shows the payment that a person had found on a statement: it goes by the provider's own name from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderConfirmed {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// The provider's transaction.
    pub transaction_id: String,
    /// When it arrived by the provider's clock (UTC).
    pub paid_at: DateTime<Utc>,
}

/// What became of money that does not close the intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The payment counts after all.
    Accepted,
    /// It is sent back.
    Refunding,
    /// It was sent back.
    Refunded,
    /// It stays with the merchant.
    Kept,
}

/// Somebody decided about money that does not close the intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnmatchedResolved {
    /// The provider's transaction.
    pub transaction_id: String,
    /// What becomes of it.
    pub resolution: Resolution,
    /// The refund that sends it back.
    pub refund_id: Option<RefundId>,
    /// Why.
    pub reason: String,
}

/// Money that did not close the intent was sent back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnmatchedRefunded {
    /// The provider's transaction.
    pub transaction_id: String,
    /// The refund.
    pub refund_id: RefundId,
}

/// The refund of money that does not close the intent came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnmatchedReopened {
    /// The provider's transaction.
    pub transaction_id: String,
    /// The refund that failed.
    pub refund_id: RefundId,
}

/// Somebody took note that more was given back than came: what the payer got twice is asked back outside of the platform, or let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OverRefundAcknowledged {
    /// Minor units that were given back, or set aside for it, beyond what came.
    pub over_refunded: i64,
    /// What is done about it.
    pub reason: String,
}

/// Who keeps the money after a dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisputeOutcome {
    /// The shop keeps it.
    Won,
    /// The payer got it back.
    Lost,
}

/// The dispute is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DisputeResolved {
    /// The intent.
    pub payment_intent_id: PaymentIntentId,
    /// Where.
    pub store_id: StoreId,
    /// The store's business date at that moment.
    pub business_date: NaiveDate,
    /// How it was tendered.
    pub tender: Tender,
    /// Who took the money in for the shop.
    pub acquirer: Option<String>,
    /// Who keeps the money.
    pub outcome: DisputeOutcome,
    /// What was contested.
    pub amount: Money,
    /// When (UTC).
    pub resolved_at: DateTime<Utc>,
    /// Of money that did not close the intent: the provider's transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmatched_transaction_id: Option<String>,
}
