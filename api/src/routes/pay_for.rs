//! What a payment intent is to pay, in each way in which it can be named.

use commands::{bills, error::CommandError, handle::UnitOfWork, payments::PayFor};
use domain::{
    bill::Bill,
    ids::{BillId, OrderId, StoreId},
    money::Money,
    order::Order,
};

use super::{
    command::{within, within_store},
    orders::check_currency,
    payments::check_cash,
};
use crate::problem::{Kind, Problem};

/// What is to be paid, as the caller named it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Named {
    /// Outright.
    It(PayFor),
    /// By its order: the bill that this has when the intent is made.
    BillOf {
        /// The order.
        order_id: OrderId,
        /// Its store, where the caller says so.
        store_id: Option<StoreId>,
        /// How much; all that is due unless told.
        amount: Option<Money>,
    },
}

impl Named {
    /// A caller who belongs to a store (`own_store`) need not name it.
    ///
    /// # Errors
    /// `RuleBroken` for what names nothing, or more than one thing.
    pub fn of(
        (bill_id, order_id, store_id): (Option<BillId>, Option<OrderId>, Option<StoreId>),
        own_store: Option<StoreId>,
        amount: Option<Money>,
    ) -> Result<Self, Problem> {
        match (bill_id, order_id, store_id, store_id.or(own_store), amount) {
            (Some(bill_id), None, None, _, amount) => Ok(Self::It(PayFor::Bill { bill_id, amount })),
            (None, Some(order_id), store_id, _, amount) => Ok(Self::BillOf { order_id, store_id, amount }),
            (None, None, _, Some(store_id), Some(amount)) => Ok(Self::It(PayFor::Amount { store_id, amount })),
            (Some(_), _, _, _, _) | (None, None, _, _, _) => {
                Err(Problem::new(Kind::RuleBroken, "name either bill_id, or order_id, or store_id and amount"))
            }
        }
    }

    /// What is to be paid, within the caller's reach; `cash` is what was handed over for it.
    ///
    /// # Errors
    /// `OrderNotFound`, `OrderNotBilled`, `BillNotFound`, `StoreNotFound`, and refusals of the cash.
    pub async fn found(self, unit: &mut UnitOfWork, only: Option<StoreId>, cash: Option<Money>) -> Result<PayFor, CommandError> {
        let pay_for = match self {
            Self::It(pay_for) => pay_for,
            Self::BillOf { order_id, store_id, amount } => {
                within::<Order>(unit, only, order_id).await?;
                within::<Order>(unit, store_id, order_id).await?;
                PayFor::Bill { bill_id: bills::of_order(unit, order_id).await?, amount }
            }
        };
        match pay_for {
            PayFor::Bill { bill_id, .. } => {
                within::<Bill>(unit, only, bill_id).await?;
                let bill = unit.state::<Bill>(bill_id).await?;
                check_cash(&bill, cash)?;
            }
            PayFor::Amount { store_id, amount } => {
                within_store(only, store_id)?;
                cash.map_or(Ok(()), |cash| check_currency(cash, amount.currency))?;
            }
        }
        Ok(pay_for)
    }
}
