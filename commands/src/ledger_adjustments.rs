//! Use cases of ledger adjustments.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    ids::{LedgerAdjustmentId, StoreId},
    ledger_adjustment::{self, LedgerAdjustment, Recorded},
    money::Money,
};

use crate::{error::CommandError, handle::UnitOfWork, tenants::trading_store};

/// An adjustment to be recorded.
#[derive(Debug, Clone)]
pub struct NewLedgerAdjustment {
    /// The adjustment to be.
    pub ledger_adjustment_id: LedgerAdjustmentId,
    /// Where.
    pub store_id: StoreId,
    /// Signed, in the store's currency.
    pub amount: Money,
    /// Why.
    pub reason: String,
    /// The number of the document behind it.
    pub reference: Option<String>,
    /// When it was made.
    pub adjusted_at: DateTime<Utc>,
}

/// Puts an amount on, or takes it off, a store's books.
///
/// # Errors
/// Any rejection of a ledger adjustment; `StoreNotFound`, `StoreNotActive`, `CurrencyMismatch`.
pub async fn record(unit: &mut UnitOfWork, new: NewLedgerAdjustment) -> Result<Arc<ledger_adjustment::State>, CommandError> {
    let store = trading_store(unit, new.store_id).await?;
    if store.currency != new.amount.currency {
        return Err(CommandError::Rejected(ledger_adjustment::Rejection::CurrencyMismatch { expected: store.currency }.into()));
    }
    let recorded = Recorded {
        ledger_adjustment_id: new.ledger_adjustment_id,
        store_id: new.store_id,
        business_date: store.business_date(new.adjusted_at),
        amount: new.amount,
        reason: new.reason,
        reference: new.reference,
    };
    unit.decide::<LedgerAdjustment>(new.ledger_adjustment_id, ledger_adjustment::Command::Record(Box::new(recorded))).await
}
