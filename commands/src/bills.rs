//! Use cases of bills.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    bill::{self, Bill, BillLine, Issued},
    ids::{BillId, OrderId},
    order::{self, Order},
    pricing::{Priced, piece_price},
};

use crate::{error::CommandError, handle::UnitOfWork, tenants::trading_store};

/// Bills an order: freezes its lines and issues the bill, all or nothing. A bill over nothing is paid at once.
///
/// # Errors
/// Any rejection of an order or a bill; `StaleVersion` when `If-Match` is not the order's version.
pub async fn issue(unit: &mut UnitOfWork, order_id: OrderId, bill_id: BillId) -> Result<Arc<bill::State>, CommandError> {
    issue_at(unit, order_id, bill_id, None).await
}

/// As [`issue`], on the business date of `issued_at` for historical bills; without it on that of the order.
///
/// # Errors
/// As [`issue`]; `StoreNotFound`, `StoreNotActive`.
pub async fn issue_at(
    unit: &mut UnitOfWork,
    order_id: OrderId,
    bill_id: BillId,
    issued_at: Option<DateTime<Utc>>,
) -> Result<Arc<bill::State>, CommandError> {
    unit.check_if_match::<Order>(order_id).await?;
    let order = crate::orders::change(unit, order_id, order::Command::Bill { bill_id }).await?;
    let mut issued =
        issued(&order, order_id, bill_id).ok_or_else(|| CommandError::Fault("a billed order could not be priced".to_owned()))?;
    if let Some(issued_at) = issued_at {
        issued.business_date = trading_store(unit, issued.store_id).await?.business_date(issued_at);
    }
    unit.decide::<Bill>(bill_id, bill::Command::Issue(Box::new(issued))).await
}

/// The bill that an order has.
///
/// # Errors
/// `OrderNotFound`, `OrderNotBilled`.
pub async fn of_order(unit: &mut UnitOfWork, order_id: OrderId) -> Result<BillId, CommandError> {
    let order = unit.state::<Order>(order_id).await?;
    let refused = |rejection: order::Rejection| CommandError::Rejected(rejection.into());
    match (order.status, order.bill_id) {
        (order::Status::Absent, _) => Err(refused(order::Rejection::OrderNotFound)),
        (_, bill_id) => bill_id.ok_or_else(|| refused(order::Rejection::OrderNotBilled)),
    }
}

/// Completes the orders of a bill that needs no more money: paid, or written off.
///
/// # Errors
/// Any rejection of an order.
pub async fn complete_orders(unit: &mut UnitOfWork, bill_id: BillId, bill: &bill::State) -> Result<(), CommandError> {
    match bill.status {
        bill::Status::Paid | bill::Status::WrittenOff => {}
        bill::Status::Absent | bill::Status::Pending | bill::Status::PartiallyPaid | bill::Status::Cancelled => return Ok(()),
    }
    for order_id in bill.details.iter().flat_map(|details| &details.order_ids) {
        unit.decide::<Order>(*order_id, order::Command::Complete { bill_id }).await?;
    }
    Ok(())
}

/// Gives up what a bill asks for and completes its orders, all or nothing. The total stays on the bill; no money came.
///
/// # Errors
/// Any rejection of a bill or an order; `StaleVersion` when `If-Match` is not the bill's version.
pub async fn write_off(unit: &mut UnitOfWork, bill_id: BillId, reason: String) -> Result<Arc<bill::State>, CommandError> {
    unit.check_if_match::<Bill>(bill_id).await?;
    concerns(unit, bill_id).await?;
    let state = unit.decide::<Bill>(bill_id, bill::Command::WriteOff { reason }).await?;
    complete_orders(unit, bill_id, &state).await?;
    Ok(state)
}

fn issued(order: &order::State, order_id: OrderId, bill_id: BillId) -> Option<Issued> {
    let details = order.details.as_ref()?;
    let priced = order.priced()?.ok()?;
    Some(Issued {
        bill_id,
        store_id: details.store_id,
        order_ids: vec![order_id],
        business_date: details.business_date,
        currency: details.currency,
        tax_profile: details.tax_profile.clone(),
        lines: bill_lines(order, order_id, &priced),
        subtotal: priced.subtotal,
        discount: priced.discount,
        service_charge: priced.service_charge,
        tax: priced.tax,
        adjustment: priced.adjustment,
        total: priced.total,
        taxes: priced.taxes,
    })
}

fn bill_lines(order: &order::State, order_id: OrderId, priced: &Priced) -> Vec<BillLine> {
    let pairs = order.live_lines().zip(&priced.lines);
    pairs
        .map(|(line, figures)| BillLine {
            line_id: line.line_id,
            order_id,
            item_code: line.item_code.clone(),
            name: line.name.clone(),
            quantity_milli: line.quantity_milli,
            unit_price: piece_price(line.unit_price, line.price_base_milli, priced.rounding),
            gross: figures.gross,
            discount: figures.discount,
            service_charge: figures.service_charge,
            tax: figures.tax,
            total: figures.total,
        })
        .collect()
}

/// Voids a bill without money on it and reopens its orders, all or nothing.
///
/// # Errors
/// Any rejection of a bill; `StaleVersion` when `If-Match` is not the bill's version.
pub async fn void(unit: &mut UnitOfWork, bill_id: BillId, reason: String) -> Result<Arc<bill::State>, CommandError> {
    unit.check_if_match::<Bill>(bill_id).await?;
    concerns(unit, bill_id).await?;
    let state = unit.decide::<Bill>(bill_id, bill::Command::Void { reason }).await?;
    for order_id in state.details.iter().flat_map(|details| details.order_ids.clone()) {
        unit.decide::<Order>(order_id, order::Command::Reopen { bill_id }).await?;
    }
    Ok(state)
}

/// Notes the shop of a bill, if the bill exists.
pub(crate) async fn concerns(unit: &mut UnitOfWork, bill_id: BillId) -> Result<Arc<bill::State>, CommandError> {
    let state = unit.state::<Bill>(bill_id).await?;
    if let Some(details) = &state.details {
        unit.concerns_store(details.store_id);
    }
    Ok(state)
}
