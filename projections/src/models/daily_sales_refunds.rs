//! What refunds do to the daily sales: counted when they succeed, or are found to have been sent after all, taken off again when their
//! provider takes that back.

use domain::{
    bill,
    envelope::RecordedEvent,
    ids::{BillId, RefundId},
    payment_intent::Tender,
    refund::{self, Breakdown, Destination},
};

use super::{
    daily_sales::{add, pending},
    daily_sales_day::Day,
    daily_sales_rows::{DailyItemSalesRow, DailySalesRow, DailyTenderSalesRow, PendingBillRow, PendingRefundRow, RecordedRefund},
};
use crate::{projection::ApplyError, rows::Rows};

pub(super) fn apply_refund(rows: &mut Rows, event: &RecordedEvent, change: &refund::Event) -> Result<(), ApplyError> {
    match change {
        refund::Event::Requested(requested) => {
            rows.put(pending_refund(event, requested));
            Ok(())
        }
        refund::Event::Succeeded(_) | refund::Event::FoundSent(_) => count(rows, event, Sign::Counts),
        refund::Event::TakenBack(_) => count(rows, event, Sign::TakenOff),
        refund::Event::OutcomeUnknown(_)
        | refund::Event::LeftToPerson(_)
        | refund::Event::ResolvedByPerson(_)
        | refund::Event::Failed(_) => Ok(()),
    }
}

/// Takes what a refund gives back of a bill off the net sum, but for parked money.
pub(super) fn subtract_refund(rows: &mut Rows, event: &RecordedEvent, recorded: &bill::RefundRecorded) -> Result<(), ApplyError> {
    let (mut bill, mut refund) = both(rows, event, recorded.refund_id)?;
    let unsold = recorded.amount.min(bill.parked).max(0);
    let took = RecordedRefund { unsold, sold: recorded.amount - unsold, early: !bill.counted };
    bill.parked -= unsold;
    if took.early {
        add(&mut bill.refunded_early, took.sold, "the sum of refunds before full payment")?;
    } else if took.sold > 0 {
        let mut sales = Day::of_refund(&refund, event.pos).sales(rows)?;
        sales.net = sales.net.checked_sub(took.sold).ok_or_else(|| ApplyError::overflow("the net sum"))?;
        rows.put(sales);
    }
    refund.recorded = Some(took);
    rows.put(refund);
    rows.put(bill);
    Ok(())
}

/// Puts back what a refund that failed after all had taken off a bill, where it had taken it.
pub(super) fn put_back(rows: &mut Rows, event: &RecordedEvent, taken: &bill::RefundTakenBack) -> Result<(), ApplyError> {
    let (mut bill, mut refund) = both(rows, event, taken.refund_id)?;
    let Some(took) = refund.recorded.take() else { return Ok(()) };
    add(&mut bill.parked, took.unsold, "the sum of parked money")?;
    if took.early && !bill.counted {
        let left = bill.refunded_early.checked_sub(took.sold);
        bill.refunded_early = left.ok_or_else(|| ApplyError::overflow("the sum of refunds before full payment"))?;
    } else if took.sold > 0 {
        // Missing on the bill's date if the bill counted without it, else on the refund's.
        let day = if took.early { Day::of_bill(&bill, event.pos) } else { Day::of_refund(&refund, event.pos) };
        let mut sales = day.sales(rows)?;
        add(&mut sales.net, took.sold, "the net sum")?;
        rows.put(sales);
    }
    rows.put(refund);
    rows.put(bill);
    Ok(())
}

/// The bill of the event and one of its refunds.
fn both(rows: &mut Rows, event: &RecordedEvent, refund_id: RefundId) -> Result<(PendingBillRow, PendingRefundRow), ApplyError> {
    let (bill_key, refund_key) = (BillId(event.stream.stream_id).to_string(), refund_id.to_string());
    let refund = rows.need::<PendingRefundRow>([refund_key.clone()]);
    rows.need::<PendingBillRow>([bill_key.clone()]).and(refund)?;
    let bill = pending::<PendingBillRow>(rows, event, &bill_key)?;
    let refund = rows.get::<PendingRefundRow>(&refund_key)?;
    let refund = refund.ok_or_else(|| ApplyError::Poison(format!("refund {refund_key} is recorded before it was requested")))?;
    Ok((bill, refund))
}

/// Whether a refund's figures are added to its day or taken off it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Counts,
    TakenOff,
}

impl Sign {
    fn put(self, sum: &mut i64, amount: i64, what: &str) -> Result<(), ApplyError> {
        let changed = match self {
            Self::Counts => sum.checked_add(amount),
            Self::TakenOff => sum.checked_sub(amount),
        };
        *sum = changed.ok_or_else(|| ApplyError::overflow(what))?;
        Ok(())
    }
}

fn count(rows: &mut Rows, event: &RecordedEvent, sign: Sign) -> Result<(), ApplyError> {
    let mut refund = pending::<PendingRefundRow>(rows, event, &RefundId(event.stream.stream_id).to_string())?;
    // Counted once, and taken off only what had counted.
    if refund.never_sold || refund.counted == (sign == Sign::Counts) {
        return Ok(());
    }
    let day = Day::of_refund(&refund, event.pos);
    let parts = refund.breakdown.clone().unwrap_or(Breakdown { lines: vec![], adjustment: 0, tip: 0 });
    let tender = rows.need::<DailyTenderSalesRow>([day.tender_key(refund.tender, refund.acquirer.as_deref())]);
    let items = rows.need::<DailyItemSalesRow>(parts.lines.iter().map(|line| day.item_key(&line.item_code)));
    rows.need::<DailySalesRow>([day.key()]).and(tender).and(items)?;
    let mut sales = day.sales(rows)?;
    sign.put(&mut sales.refunds_count, 1, "the number of refunds")?;
    sign.put(&mut sales.refunds_amount, refund.amount, "the sum of refunds")?;
    sign.put(&mut sales.refunds_tips, parts.tip, "the sum of tips given back")?;
    if refund.unlinked {
        let sold = refund.amount.checked_sub(parts.tip).ok_or_else(|| ApplyError::overflow("the net sum"))?;
        sales.net = sales.net.checked_sub(sold).ok_or_else(|| ApplyError::overflow("the net sum"))?;
    }
    for line in parts.lines {
        sign.put(&mut sales.refunds_tax, line.tax, "the tax given back")?;
        let mut item = day.item(rows, &line.item_code, &line.name)?;
        sign.put(&mut item.refunded_quantity_milli, line.quantity_milli, "the quantity of an item taken back")?;
        sign.put(&mut item.refunded, line.total, "what was given back for an item")?;
        rows.put(item);
    }
    let mut tender = day.tender(rows, refund.tender, refund.acquirer.as_deref())?;
    sign.put(&mut tender.refunds_count, 1, "the number of refunds")?;
    sign.put(&mut tender.refunds_amount, refund.amount, "the sum of refunds")?;
    let given_back = refund.cash_rounding.checked_neg().ok_or_else(|| ApplyError::overflow("the sum of cash rounding"))?;
    sign.put(&mut tender.cash_rounding, given_back, "the sum of cash rounding")?;
    rows.put(sales);
    rows.put(tender);
    refund.counted = sign == Sign::Counts;
    rows.put(refund);
    Ok(())
}

fn pending_refund(event: &RecordedEvent, requested: &refund::Requested) -> PendingRefundRow {
    PendingRefundRow {
        refund_id: RefundId(event.stream.stream_id),
        tenant: event.stream.tenant,
        store_id: requested.store_id,
        business_date: requested.business_date,
        currency: requested.amount.currency,
        amount: requested.amount.amount,
        cash_rounding: requested.cash_rounding,
        tender: match requested.destination {
            Destination::Cash => Tender::Cash,
            Destination::Original => requested.tender,
        },
        acquirer: requested.acquirer.clone(),
        unlinked: requested.payment_intent_id.is_none(),
        breakdown: requested.breakdown.clone(),
        counted: false,
        // What was never a sale takes nothing from the sales.
        never_sold: requested.unmatched,
        recorded: None,
    }
}
