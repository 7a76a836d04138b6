//! The rules of an order: what follows from a command, and what an event changes.

use std::collections::BTreeMap;

use super::{
    AdjustmentAdded, Billed, Cancelled, Command, Completed, DiscountApplied, DiscountRemoved, Event, Line, LineAdded, LineQuantityChanged,
    LineVoided, LinesAdded, MAX_LINES, MAX_PRICE, MAX_QUANTITY_MILLI, Opened, Rejection, Reopened, State, Status,
};
use crate::{
    decider::Aggregate,
    envelope::StreamType,
    ids::{BillId, LineId},
    merchant::is_text,
    pricing::Discount,
};

/// The decider.
pub struct Order;

impl Aggregate for Order {
    const STREAM_TYPE: StreamType = StreamType::Order;
    const STATE_SCHEMA: i16 = 2;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Open(details) => open(state, *details),
            Command::AddLine(_)
            | Command::AddLines(_)
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
            Event::LinesAdded(added) => state.lines.extend(added.lines.iter().map(|line| Line { line: line.clone(), voided: false })),
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
        Command::AddLine(line) => add_lines(state, std::slice::from_ref(&line)),
        Command::AddLines(lines) => add_lines(state, &lines),
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

fn add_lines(state: &State, lines: &[LineAdded]) -> Result<Vec<Event>, Rejection> {
    let mut known: BTreeMap<LineId, &LineAdded> = state.lines.iter().map(|known| (known.line.line_id, &known.line)).collect();
    let mut new = Vec::new();
    for line in lines {
        match known.insert(line.line_id, line) {
            // The same line once more is a retry; another line under the same id is a mistake.
            Some(before) if before == line => {}
            Some(_) => return Err(Rejection::LineIdReused),
            None if known.len() > MAX_LINES => return Err(Rejection::TooManyLines),
            None => {
                check_line(line)?;
                new.push(line.clone());
            }
        }
    }
    Ok(match new.len() {
        0 => vec![],
        1 => new.into_iter().map(Event::LineAdded).collect(),
        2.. => vec![LinesAdded { lines: new }.into()],
    })
}

fn check_line(line: &LineAdded) -> Result<(), Rejection> {
    if !(1..=MAX_QUANTITY_MILLI).contains(&line.quantity_milli) {
        return Err(Rejection::QuantityNotPositive);
    }
    if !(0..=MAX_PRICE).contains(&line.unit_price) {
        return Err(Rejection::PriceNegative);
    }
    if !(1..=MAX_QUANTITY_MILLI).contains(&line.price_base_milli) {
        return Err(Rejection::PriceBaseInvalid);
    }
    if !is_text(&line.item_code, 64) || !is_text(&line.name, 200) {
        return Err(Rejection::ItemInvalid);
    }
    if line.discount.as_ref().is_some_and(|discount| !discount_is_sound(discount)) {
        return Err(Rejection::DiscountInvalid);
    }
    Ok(())
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
