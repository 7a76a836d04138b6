//! What is remembered of a bill.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Issued, Rejection};
use crate::{
    ids::{PaymentIntentId, RefundId},
    payment_intent::Tender,
};

/// Life of a bill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never issued.
    #[default]
    Absent,
    /// Nothing settled yet.
    Pending,
    /// Settled in part.
    PartiallyPaid,
    /// Settled.
    Paid,
    /// Taken back.
    Cancelled,
    /// Stands, but will not be collected.
    WrittenOff,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Pending => "pending",
            Self::PartiallyPaid => "partially_paid",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
            Self::WrittenOff => "written_off",
        }
    }
}

/// Money of one payment on this bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// How it was tendered.
    pub tender: Tender,
    /// Minor units that settle the bill.
    pub amount: i64,
    /// Minor units beyond what was due.
    pub parked: i64,
    /// Cash rounding, signed.
    pub cash_rounding: i64,
    /// Tip beside it.
    pub tip: i64,
    /// Given back so far.
    pub refunded: i64,
}

/// What is remembered. Amounts in minor units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Life.
    pub status: Status,
    /// As issued.
    pub details: Option<Issued>,
    /// Held by payments under way.
    pub reservations: BTreeMap<PaymentIntentId, i64>,
    /// Money on the bill.
    pub allocations: BTreeMap<PaymentIntentId, Allocation>,
    /// Refunds recorded.
    pub refunds: BTreeMap<RefundId, i64>,
    /// Sum settled.
    pub paid_total: i64,
    /// Sum given back.
    pub refunded_total: i64,
}

impl State {
    /// What is neither settled nor held by a payment under way, minor units.
    pub fn due(&self) -> i64 {
        self.outstanding().saturating_sub(self.reservations.values().sum())
    }

    /// What is not settled, minor units.
    pub fn outstanding(&self) -> i64 {
        self.details.as_ref().map_or(0, |details| details.total.saturating_sub(self.paid_total))
    }

    pub(super) fn issued(&self) -> Result<&Issued, Rejection> {
        self.details.as_ref().ok_or(Rejection::BillNotFound)
    }
}
