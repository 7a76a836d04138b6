//! What is remembered of an order.

use serde::{Deserialize, Serialize};

use super::{Event, LineAdded, Opened, Order, Rejection};
use crate::{
    decider::Aggregate,
    ids::{BillId, LineId},
    pricing::{Discount, Priced, PricingError, PricingLine, price},
};

/// Life of an order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never opened.
    #[default]
    Absent,
    /// Lines may change.
    Open,
    /// A bill stands.
    Billed,
    /// Paid.
    Completed,
    /// Given up.
    Cancelled,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Open => "open",
            Self::Billed => "billed",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A line as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// As added, with the current quantity.
    #[serde(flatten)]
    pub line: LineAdded,
    /// Taken off.
    pub voided: bool,
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Life.
    pub status: Status,
    /// As opened.
    pub details: Option<Opened>,
    /// All lines in the order they were added, voided ones included.
    pub lines: Vec<Line>,
    /// Discount on the whole order.
    pub discount: Option<Discount>,
    /// Sum of adjustments, minor units, signed.
    pub adjustment: i64,
    /// The standing or paid bill.
    pub bill_id: Option<BillId>,
}

impl State {
    /// What the order costs as it stands.
    ///
    /// # Errors
    /// [`PricingError`]; an order that was never opened costs nothing and gives `None`.
    pub fn priced(&self) -> Option<Result<Priced, PricingError>> {
        let details = self.details.as_ref()?;
        let lines: Vec<PricingLine> = self.live_lines().map(pricing_line).collect();
        Some(price(details.currency, &lines, self.discount.as_ref(), self.adjustment, &details.tax_profile))
    }

    /// Lines that are not voided.
    pub fn live_lines(&self) -> impl Iterator<Item = &LineAdded> {
        self.lines.iter().filter(|line| !line.voided).map(|line| &line.line)
    }

    pub(super) fn line(&self, line_id: LineId) -> Result<&Line, Rejection> {
        self.lines.iter().find(|line| line.line.line_id == line_id).ok_or(Rejection::LineUnknown)
    }

    pub(super) fn check_editable(&self) -> Result<(), Rejection> {
        match self.status {
            Status::Absent => Err(Rejection::OrderNotFound),
            Status::Open => Ok(()),
            Status::Billed | Status::Completed | Status::Cancelled => Err(Rejection::OrderNotEditable { status: self.status.as_str() }),
        }
    }

    /// Refuses facts after which the order could no longer be priced, so that billing never meets a surprise.
    pub(super) fn check_priceable(&self, events: Vec<Event>) -> Result<Vec<Event>, Rejection> {
        let after = events.iter().fold(self.clone(), Order::evolve);
        match after.priced() {
            Some(Err(PricingError::DiscountTooLarge)) => Err(Rejection::DiscountOverLimit),
            Some(Err(PricingError::NegativeTotal)) => Err(Rejection::TotalNegative),
            Some(Err(_)) => Err(Rejection::AmountOutOfRange),
            Some(Ok(_)) | None => Ok(events),
        }
    }
}

fn pricing_line(line: &LineAdded) -> PricingLine {
    PricingLine {
        line_id: line.line_id,
        quantity_milli: line.quantity_milli,
        unit_price: line.unit_price,
        price_base_milli: line.price_base_milli,
        tax_class: line.tax_class,
        discount: line.discount.clone(),
    }
}
