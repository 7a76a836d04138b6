//! Order: a purchase before payment. Stream `order-{OrderId}`.
//!
//! `open → billed → completed`; `cancelled` from open. Lines change only while open. A billed order goes back to open
//! when its bill is voided. Money states are derived from bills, never set here.
//! Invariants: line ids are never reused; a voided line keeps its place; what a bill shows is priced from these lines.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    decider::Aggregate,
    envelope::StreamType,
    event::events,
    ids::{BillId, LineId, OrderId, StoreId},
    merchant::is_text,
    money::Currency,
    pricing::{Discount, Priced, PricingError, PricingLine, TaxClass, TaxProfile, price},
    rejection::rejections,
};

/// Most lines of one order; a bound on every list.
pub const MAX_LINES: usize = 500;
/// Largest quantity of a line, in thousandths: a million pieces.
pub const MAX_QUANTITY_MILLI: i64 = 1_000_000_000;
/// Largest unit price or adjustment in minor units.
pub const MAX_PRICE: i64 = 100_000_000_000;

/// How the purchase is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderType {
    /// At a table.
    DineIn,
    /// Over the counter.
    #[default]
    Takeaway,
    /// Brought to the customer.
    Delivery,
}

/// Order opened at a store, with the store's rules frozen in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// The order.
    pub order_id: OrderId,
    /// Where.
    pub store_id: StoreId,
    /// The store's currency.
    pub currency: Currency,
    /// The store's tax profile at that moment.
    pub tax_profile: TaxProfile,
    /// The store's business date at that moment.
    pub business_date: NaiveDate,
    /// How it is served.
    pub order_type: OrderType,
    /// Table, for dine-in.
    pub table_number: Option<String>,
    /// Number for people, given by the terminal or an import.
    pub order_number: Option<String>,
}

/// A line added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineAdded {
    /// The line; unique within the order.
    pub line_id: LineId,
    /// The catalogue's code.
    pub item_code: String,
    /// Name as sold.
    pub name: String,
    /// Thousandths of a piece; positive.
    pub quantity_milli: i64,
    /// Minor units for one piece; not negative.
    pub unit_price: i64,
    /// Class of tax.
    pub tax_class: TaxClass,
    /// Discount of this line.
    pub discount: Option<Discount>,
}

/// Quantity of a line changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineQuantityChanged {
    /// The line.
    pub line_id: LineId,
    /// By how much, thousandths, signed.
    pub delta_milli: i64,
    /// What it is now, thousandths; positive.
    pub quantity_milli: i64,
}

/// A line taken off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineVoided {
    /// The line.
    pub line_id: LineId,
    /// Why.
    pub reason: String,
}

/// A discount on the whole order; replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiscountApplied {
    /// How much.
    pub discount: Discount,
    /// Why.
    pub reason: String,
}

/// The discount taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiscountRemoved {}

/// An untaxed amount outside the lines, so that the total is what was really charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdjustmentAdded {
    /// Minor units, signed, not zero.
    pub amount: i64,
    /// Why.
    pub reason: String,
    /// Sum of all adjustments now, minor units.
    pub adjustment_total: i64,
}

/// A bill was made; lines are frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Billed {
    /// The bill.
    pub bill_id: BillId,
    /// What it asks for, minor units.
    pub total: i64,
}

/// The bill was voided; lines may change again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reopened {
    /// The voided bill.
    pub bill_id: BillId,
}

/// All bills are paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Completed {
    /// The bill that was paid.
    pub bill_id: BillId,
}

/// Given up before billing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelled {
    /// Why.
    pub reason: String,
}

events! {
    /// Facts of an order.
    {
        /// Opened at a store.
        Opened = "order.opened" v 1;
        /// A line added.
        LineAdded = "order.line_added" v 1;
        /// Quantity of a line changed.
        LineQuantityChanged = "order.line_quantity_changed" v 1;
        /// A line taken off.
        LineVoided = "order.line_voided" v 1;
        /// A discount on the whole order.
        DiscountApplied = "order.discount_applied" v 1;
        /// The discount taken back.
        DiscountRemoved = "order.discount_removed" v 1;
        /// An untaxed amount outside the lines.
        AdjustmentAdded = "order.adjustment_added" v 1;
        /// A bill was made.
        Billed = "order.billed" v 1;
        /// The bill was voided.
        Reopened = "order.reopened" v 1;
        /// All bills are paid.
        Completed = "order.completed" v 1;
        /// Given up before billing.
        Cancelled = "order.cancelled" v 1;
    }
}

/// What can be asked of an order.
#[derive(Debug, Clone)]
pub enum Command {
    /// Open it.
    Open(Box<Opened>),
    /// Add a line.
    AddLine(LineAdded),
    /// Change a quantity by a signed difference, so that two devices merge.
    ChangeLineQuantity {
        /// The line.
        line_id: LineId,
        /// Thousandths, signed.
        delta_milli: i64,
    },
    /// Take a line off.
    VoidLine {
        /// The line.
        line_id: LineId,
        /// Why.
        reason: String,
    },
    /// Discount the whole order.
    ApplyDiscount {
        /// How much.
        discount: Discount,
        /// Why.
        reason: String,
    },
    /// Take the discount back.
    RemoveDiscount,
    /// Add an untaxed amount outside the lines.
    Adjust {
        /// Minor units, signed.
        amount: i64,
        /// Why.
        reason: String,
    },
    /// Freeze the lines into a bill.
    Bill {
        /// The bill to be.
        bill_id: BillId,
    },
    /// Follow the voiding of the bill.
    Reopen {
        /// The voided bill.
        bill_id: BillId,
    },
    /// Follow the payment of the bill.
    Complete {
        /// The paid bill.
        bill_id: BillId,
    },
    /// Give it up.
    Cancel {
        /// Why.
        reason: String,
    },
}

rejections! {
    /// Rules of an order.
    {
        OrderNotFound => Missing, "the order does not exist";
        OrderIdReused => State, "an order with this id exists already";
        OrderNotEditable { status: &'static str } => State, "the order is {status}; lines change only while it is open";
        LineUnknown => Missing, "the order has no such line";
        LineIdReused => State, "the order has a line with this id already";
        LineAlreadyVoided => State, "the line is voided";
        TooManyLines => Invalid, "an order has at most 500 lines";
        QuantityNotPositive => Invalid, "quantity must be between 0.001 and 1,000,000";
        QuantityWouldBeNegative => Invalid, "the quantity would fall to zero or below; void the line instead";
        PriceNegative => Invalid, "unit price must be between 0 and 100,000,000,000 minor units";
        ItemInvalid => Invalid, "item_code must have 1 to 64 and name 1 to 200 characters";
        TextInvalid => Invalid, "table_number and order_number must have 1 to 40 characters";
        DiscountInvalid => Invalid, "a discount is 1 to 10,000 basis points or a positive amount, with a reason";
        DiscountOverLimit => Invalid, "the discount is larger than what it applies to";
        AmountOutOfRange => Invalid, "the amount is zero or out of range";
        TotalNegative => Invalid, "the total of the order would be negative";
        NothingToBill => State, "the order has no line to bill";
        ReasonRequired => Invalid, "a reason of 1 to 200 characters is required";
        BillExists => State, "the order is billed; void the bill first";
        OrderAlreadyClosed { status: &'static str } => State, "the order is {status}";
        BillsOutstanding => State, "the order's bill is not this one, or not paid";
    }
}

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

    fn line(&self, line_id: LineId) -> Result<&Line, Rejection> {
        self.lines.iter().find(|line| line.line.line_id == line_id).ok_or(Rejection::LineUnknown)
    }

    fn check_editable(&self) -> Result<(), Rejection> {
        match self.status {
            Status::Absent => Err(Rejection::OrderNotFound),
            Status::Open => Ok(()),
            Status::Billed | Status::Completed | Status::Cancelled => Err(Rejection::OrderNotEditable { status: self.status.as_str() }),
        }
    }

    /// Refuses facts after which the order could no longer be priced, so that billing never meets a surprise.
    fn check_priceable(&self, events: Vec<Event>) -> Result<Vec<Event>, Rejection> {
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
        tax_class: line.tax_class,
        discount: line.discount.clone(),
    }
}

/// The decider.
pub struct Order;

impl Aggregate for Order {
    const STREAM_TYPE: StreamType = StreamType::Order;
    const STATE_SCHEMA: i16 = 1;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Open(details) => open(state, *details),
            Command::AddLine(_)
            | Command::ChangeLineQuantity { .. }
            | Command::VoidLine { .. }
            | Command::ApplyDiscount { .. }
            | Command::RemoveDiscount
            | Command::Adjust { .. } => {
                state.check_editable()?;
                state.check_priceable(edit(state, command)?)
            }
            Command::Bill { bill_id } => bill(state, bill_id),
            Command::Reopen { bill_id } => match (state.status, state.bill_id) {
                (Status::Billed, Some(standing)) if standing == bill_id => Ok(vec![Reopened { bill_id }.into()]),
                (Status::Absent, _) => Err(Rejection::OrderNotFound),
                (Status::Open | Status::Billed | Status::Completed | Status::Cancelled, _) => Ok(vec![]),
            },
            Command::Complete { bill_id } => match (state.status, state.bill_id) {
                (Status::Billed, Some(standing)) if standing == bill_id => Ok(vec![Completed { bill_id }.into()]),
                (Status::Completed, Some(paid)) if paid == bill_id => Ok(vec![]),
                (Status::Absent, _) => Err(Rejection::OrderNotFound),
                (Status::Open | Status::Billed | Status::Completed | Status::Cancelled, _) => Err(Rejection::BillsOutstanding),
            },
            Command::Cancel { reason } => cancel(state, reason),
        }
    }

    fn evolve(mut state: State, event: &Event) -> State {
        match event {
            Event::Opened(details) => {
                state.status = Status::Open;
                state.details = Some(details.clone());
            }
            Event::LineAdded(line) => state.lines.push(Line { line: line.clone(), voided: false }),
            Event::LineQuantityChanged(changed) => {
                if let Some(line) = state.lines.iter_mut().find(|line| line.line.line_id == changed.line_id) {
                    line.line.quantity_milli = changed.quantity_milli;
                }
            }
            Event::LineVoided(voided) => {
                if let Some(line) = state.lines.iter_mut().find(|line| line.line.line_id == voided.line_id) {
                    line.voided = true;
                }
            }
            Event::DiscountApplied(applied) => state.discount = Some(applied.discount.clone()),
            Event::DiscountRemoved(_) => state.discount = None,
            Event::AdjustmentAdded(added) => state.adjustment = added.adjustment_total,
            Event::Billed(billed) => {
                state.status = Status::Billed;
                state.bill_id = Some(billed.bill_id);
            }
            Event::Reopened(_) => {
                state.status = Status::Open;
                state.bill_id = None;
            }
            Event::Completed(_) => state.status = Status::Completed,
            Event::Cancelled(_) => state.status = Status::Cancelled,
        }
        state
    }
}

fn open(state: &State, details: Opened) -> Result<Vec<Event>, Rejection> {
    if state.status != Status::Absent {
        return Err(Rejection::OrderIdReused);
    }
    let texts = [&details.table_number, &details.order_number];
    if texts.into_iter().flatten().any(|text| !is_text(text, 40)) {
        return Err(Rejection::TextInvalid);
    }
    Ok(vec![details.into()])
}

fn edit(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::AddLine(line) => add_line(state, line),
        Command::ChangeLineQuantity { line_id, delta_milli } => change_quantity(state, line_id, delta_milli),
        Command::VoidLine { line_id, reason } => {
            if state.line(line_id)?.voided {
                return Ok(vec![]);
            }
            if !is_text(&reason, 200) {
                return Err(Rejection::ReasonRequired);
            }
            Ok(vec![LineVoided { line_id, reason }.into()])
        }
        Command::ApplyDiscount { discount, reason } => {
            if !discount_is_sound(&discount) || !is_text(&reason, 200) {
                return Err(Rejection::DiscountInvalid);
            }
            let unchanged = state.discount.as_ref() == Some(&discount);
            Ok(if unchanged { vec![] } else { vec![DiscountApplied { discount, reason }.into()] })
        }
        Command::RemoveDiscount => Ok(if state.discount.is_some() { vec![DiscountRemoved {}.into()] } else { vec![] }),
        Command::Adjust { amount, reason } => {
            if amount == 0 || amount.checked_abs().is_none_or(|magnitude| magnitude > MAX_PRICE) {
                return Err(Rejection::AmountOutOfRange);
            }
            if !is_text(&reason, 200) {
                return Err(Rejection::ReasonRequired);
            }
            let adjustment_total = state.adjustment.checked_add(amount).ok_or(Rejection::AmountOutOfRange)?;
            Ok(vec![AdjustmentAdded { amount, reason, adjustment_total }.into()])
        }
        Command::Open(_) | Command::Bill { .. } | Command::Reopen { .. } | Command::Complete { .. } | Command::Cancel { .. } => Ok(vec![]), // not edits
    }
}

fn discount_is_sound(discount: &Discount) -> bool {
    match discount {
        Discount::Percent { basis_points } => (1..=10_000).contains(basis_points),
        Discount::Amount { amount } => (1..=MAX_PRICE).contains(amount),
    }
}

fn add_line(state: &State, line: LineAdded) -> Result<Vec<Event>, Rejection> {
    if let Some(known) = state.lines.iter().find(|known| known.line.line_id == line.line_id) {
        // The same line once more is a retry; another line under the same id is a mistake.
        return if known.line == line { Ok(vec![]) } else { Err(Rejection::LineIdReused) };
    }
    if state.lines.len() >= MAX_LINES {
        return Err(Rejection::TooManyLines);
    }
    if !(1..=MAX_QUANTITY_MILLI).contains(&line.quantity_milli) {
        return Err(Rejection::QuantityNotPositive);
    }
    if !(0..=MAX_PRICE).contains(&line.unit_price) {
        return Err(Rejection::PriceNegative);
    }
    if !is_text(&line.item_code, 64) || !is_text(&line.name, 200) {
        return Err(Rejection::ItemInvalid);
    }
    if line.discount.as_ref().is_some_and(|discount| !discount_is_sound(discount)) {
        return Err(Rejection::DiscountInvalid);
    }
    Ok(vec![line.into()])
}

fn change_quantity(state: &State, line_id: LineId, delta_milli: i64) -> Result<Vec<Event>, Rejection> {
    let line = state.line(line_id)?;
    if line.voided {
        return Err(Rejection::LineAlreadyVoided);
    }
    if delta_milli == 0 {
        return Ok(vec![]);
    }
    let quantity_milli = line.line.quantity_milli.checked_add(delta_milli).ok_or(Rejection::QuantityNotPositive)?;
    if quantity_milli <= 0 {
        return Err(Rejection::QuantityWouldBeNegative);
    }
    if quantity_milli > MAX_QUANTITY_MILLI {
        return Err(Rejection::QuantityNotPositive);
    }
    Ok(vec![LineQuantityChanged { line_id, delta_milli, quantity_milli }.into()])
}

fn bill(state: &State, bill_id: BillId) -> Result<Vec<Event>, Rejection> {
    match state.status {
        Status::Absent => return Err(Rejection::OrderNotFound),
        Status::Billed if state.bill_id == Some(bill_id) => return Ok(vec![]),
        Status::Billed => return Err(Rejection::BillExists),
        Status::Completed | Status::Cancelled => return Err(Rejection::OrderAlreadyClosed { status: state.status.as_str() }),
        Status::Open => {}
    }
    if state.live_lines().next().is_none() && state.adjustment == 0 {
        return Err(Rejection::NothingToBill);
    }
    match state.priced() {
        Some(Ok(priced)) if priced.total < 0 => Err(Rejection::TotalNegative),
        Some(Ok(priced)) => Ok(vec![Billed { bill_id, total: priced.total }.into()]),
        Some(Err(_)) | None => Err(Rejection::AmountOutOfRange),
    }
}

fn cancel(state: &State, reason: String) -> Result<Vec<Event>, Rejection> {
    match state.status {
        Status::Absent => Err(Rejection::OrderNotFound),
        Status::Cancelled => Ok(vec![]),
        Status::Billed => Err(Rejection::BillExists),
        Status::Completed => Err(Rejection::OrderAlreadyClosed { status: "completed" }),
        Status::Open if !is_text(&reason, 200) => Err(Rejection::ReasonRequired),
        Status::Open => Ok(vec![Cancelled { reason }.into()]),
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
