//! Use cases of orders.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    ids::{LineId, OrderId, StoreId},
    order::{self, LineAdded, Order, OrderType},
    pricing::{Discount, TaxClass},
};

use crate::{error::CommandError, handle::UnitOfWork, tenants::trading_store};

/// A line to be added.
#[derive(Debug, Clone)]
pub struct NewLine {
    /// Given by the terminal, so that a repeat is recognised; otherwise a new one.
    pub line_id: Option<LineId>,
    /// The catalogue's code.
    pub item_code: String,
    /// Name as sold.
    pub name: String,
    /// Thousandths of a piece.
    pub quantity_milli: i64,
    /// Minor units for `price_base_milli`.
    pub unit_price: i64,
    /// The quantity that `unit_price` buys, thousandths: 1,000 for the price of one piece.
    pub price_base_milli: i64,
    /// Class of tax.
    pub tax_class: TaxClass,
    /// Discount of this line.
    pub discount: Option<Discount>,
}

/// An order to be opened.
#[derive(Debug, Clone)]
pub struct NewOrder {
    /// The order to be.
    pub order_id: OrderId,
    /// Where.
    pub store_id: StoreId,
    /// How it is served.
    pub order_type: OrderType,
    /// Table, for dine-in.
    pub table_number: Option<String>,
    /// Number for people.
    pub order_number: Option<String>,
    /// First lines.
    pub lines: Vec<NewLine>,
    /// When it was opened, for historical sales; otherwise now.
    pub opened_at: Option<DateTime<Utc>>,
}

/// Opens an order at a trading store, with the store's currency, tax profile and business date frozen in.
///
/// # Errors
/// Any rejection of an order; `StoreNotFound`, `StoreNotActive`.
pub async fn open(unit: &mut UnitOfWork, new: NewOrder) -> Result<Arc<order::State>, CommandError> {
    let store = trading_store(unit, new.store_id).await?;
    let opened = order::Opened {
        order_id: new.order_id,
        store_id: new.store_id,
        currency: store.currency,
        business_date: store.business_date(new.opened_at.unwrap_or_else(|| unit.now())),
        tax_profile: store.tax_profile,
        order_type: new.order_type,
        table_number: new.table_number,
        order_number: new.order_number,
    };
    let state = unit.decide::<Order>(new.order_id, order::Command::Open(Box::new(opened))).await?;
    if new.lines.is_empty() {
        return Ok(state);
    }
    let lines = new.lines.into_iter().map(|line| line_of(unit, line)).collect();
    unit.decide::<Order>(new.order_id, order::Command::AddLines(lines)).await
}

/// Adds a line to an open order.
///
/// # Errors
/// Any rejection of an order.
pub async fn add_line(unit: &mut UnitOfWork, order_id: OrderId, line: NewLine) -> Result<Arc<order::State>, CommandError> {
    let line = line_of(unit, line);
    change(unit, order_id, order::Command::AddLine(line)).await
}

fn line_of(unit: &mut UnitOfWork, line: NewLine) -> LineAdded {
    LineAdded {
        line_id: line.line_id.unwrap_or_else(|| unit.next_id()),
        item_code: line.item_code,
        name: line.name,
        quantity_milli: line.quantity_milli,
        unit_price: line.unit_price,
        price_base_milli: line.price_base_milli,
        tax_class: line.tax_class,
        discount: line.discount,
    }
}

/// Any other change of an existing order; notes the shop that it concerns.
///
/// # Errors
/// Any rejection of an order; `StaleVersion` when the caller's `If-Match` is not the order's version.
pub async fn change(unit: &mut UnitOfWork, order_id: OrderId, command: order::Command) -> Result<Arc<order::State>, CommandError> {
    unit.check_if_match::<Order>(order_id).await?;
    let state = unit.state::<Order>(order_id).await?;
    if let Some(details) = &state.details {
        unit.concerns_store(details.store_id);
    }
    unit.decide::<Order>(order_id, command).await
}
