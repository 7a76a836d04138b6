//! Daily sales: per store and business date, in all, by item and by tender.
//!
//! A bill counts when it is paid in full, on its own business date; a payment when it is put against its bill, on the bill's
//! date; a refund when it succeeded, on the refund's date. Sums are checked: one that does not fit halts the stream.
//!
//! `net` is what remains of the sales: it gains a bill's total when the bill counts, and loses what is given back of a bill
//! that counted, on the refund's date. Money that was never sales does not touch it when it goes back: a payment without a
//! bill, and overpayment parked on a bill, which is held to go back first. What goes back of a bill before it counts is
//! remembered, and missing from what the bill adds once it does. A refund without a payment takes back sales that are not known
//! here: it lowers `net` by all but its tip. So `net` is not `total − refunds_amount`. It follows the
//! bill's own record of the refund, which may come before or after the refund's success.
//!
//! A refund that fails after it succeeded is taken off again where it had counted; one that is found to have been sent although a person
//! had declared that it was not counts like any other, also beyond what its bill had left. A dispute counts on the day it was opened, its
//! decision on the day it was made.

use domain::{
    bill,
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::{BillId, RefundId},
    ledger_adjustment,
    payment_intent::{self, DisputeOutcome},
    refund,
};

use super::{
    daily_sales_day::Day,
    daily_sales_refunds::{apply_refund, put_back, subtract_refund},
    daily_sales_rows::{DailyItemSalesRow, DailySalesRow, DailyTenderSalesRow, PendingBillRow, PendingRefundRow},
    never_opened,
};
use crate::{
    projection::{ApplyError, Locality, Projection, Row, TableSpec, Visibility},
    rows::Rows,
};

/// The projection.
pub struct DailySales;

const TABLES: &[TableSpec] = &[
    TableSpec::of::<DailySalesRow>(include_str!("../../sql/daily_sales.sql"), Visibility::Store),
    TableSpec::of::<DailyItemSalesRow>(include_str!("../../sql/daily_item_sales.sql"), Visibility::Store),
    TableSpec::of::<DailyTenderSalesRow>(include_str!("../../sql/daily_tender_sales.sql"), Visibility::Store),
    TableSpec::of::<PendingBillRow>(include_str!("../../sql/daily_sales_bills.sql"), Visibility::Store),
    TableSpec::of::<PendingRefundRow>(include_str!("../../sql/daily_sales_refunds.sql"), Visibility::Store),
];

impl Projection for DailySales {
    fn name(&self) -> &'static str {
        "daily_sales"
    }
    fn version(&self) -> i32 {
        4
    }
    fn tables(&self) -> &'static [TableSpec] {
        TABLES
    }
    fn reads(&self, stream_type: StreamType) -> bool {
        matches!(stream_type, StreamType::Bill | StreamType::Refund | StreamType::PaymentIntent | StreamType::LedgerAdjustment)
    }
    fn locality(&self) -> Locality {
        Locality::Tenant
    }

    fn prefetch(&self, event: &RecordedEvent, decoded: &DomainEvent) -> Vec<(&'static str, String)> {
        let id = event.stream.stream_id;
        match decoded {
            DomainEvent::Bill(
                bill::Event::Paid(_) | bill::Event::PaymentAllocated(_) | bill::Event::OverpaymentParked(_) | bill::Event::WrittenOff(_),
            ) => {
                vec![(PendingBillRow::TABLE, BillId(id).to_string())]
            }
            DomainEvent::Bill(
                bill::Event::RefundRecorded(bill::RefundRecorded { refund_id, .. })
                | bill::Event::RefundTakenBack(bill::RefundTakenBack { refund_id, .. }),
            ) => {
                vec![(PendingBillRow::TABLE, BillId(id).to_string()), (PendingRefundRow::TABLE, refund_id.to_string())]
            }
            DomainEvent::Refund(refund::Event::Succeeded(_) | refund::Event::TakenBack(_) | refund::Event::FoundSent(_)) => {
                vec![(PendingRefundRow::TABLE, RefundId(id).to_string())]
            }
            DomainEvent::Merchant(_)
            | DomainEvent::Store(_)
            | DomainEvent::Order(_)
            | DomainEvent::Bill(_)
            | DomainEvent::PaymentIntent(_)
            | DomainEvent::Refund(_)
            | DomainEvent::Customer(_)
            | DomainEvent::ProviderAccount(_)
            | DomainEvent::WebhookEndpoint(_)
            | DomainEvent::LedgerAdjustment(_) => vec![],
        }
    }

    fn apply(&self, rows: &mut Rows, event: &RecordedEvent, decoded: &DomainEvent) -> Result<(), ApplyError> {
        match decoded {
            DomainEvent::Bill(change) => apply_bill(rows, event, change),
            DomainEvent::Refund(change) => apply_refund(rows, event, change),
            DomainEvent::PaymentIntent(payment_intent::Event::Disputed(disputed)) => count_dispute(rows, event, disputed),
            DomainEvent::PaymentIntent(payment_intent::Event::DisputeResolved(decision)) => count_decision(rows, event, decision),
            DomainEvent::LedgerAdjustment(ledger_adjustment::Event::Recorded(recorded)) => count_adjustment(rows, event, recorded),
            DomainEvent::Merchant(_)
            | DomainEvent::Store(_)
            | DomainEvent::Order(_)
            | DomainEvent::PaymentIntent(_)
            | DomainEvent::Customer(_)
            | DomainEvent::ProviderAccount(_)
            | DomainEvent::WebhookEndpoint(_) => Ok(()),
        }
    }
}

fn apply_bill(rows: &mut Rows, event: &RecordedEvent, change: &bill::Event) -> Result<(), ApplyError> {
    match change {
        bill::Event::Issued(issued) => {
            rows.put(pending_bill(event, issued));
            Ok(())
        }
        bill::Event::PaymentAllocated(allocated) => {
            let bill = pending::<PendingBillRow>(rows, event, &BillId(event.stream.stream_id).to_string())?;
            let day = Day::of_bill(&bill, event.pos);
            let acquirer = allocated.acquirer.as_deref();
            let sales = rows.need::<DailySalesRow>([day.key()]);
            rows.need::<DailyTenderSalesRow>([day.tender_key(allocated.tender, acquirer)]).and(sales)?;
            let mut tender = day.tender(rows, allocated.tender, acquirer)?;
            add(&mut tender.count, 1, "the number of payments")?;
            add(&mut tender.amount, allocated.amount, "the sum of payments")?;
            add(&mut tender.cash_rounding, allocated.cash_rounding, "the sum of cash rounding")?;
            add(&mut tender.tips, allocated.tip, "the sum of tips")?;
            rows.put(tender);
            if allocated.tip != 0 {
                let mut sales = day.sales(rows)?;
                add(&mut sales.tips, allocated.tip, "the sum of tips")?;
                rows.put(sales);
            }
            Ok(())
        }
        bill::Event::Paid(_) => count_bill(rows, event),
        bill::Event::WrittenOff(written_off) => count_write_off(rows, event, written_off),
        bill::Event::OverpaymentParked(parked) => {
            let mut bill = pending::<PendingBillRow>(rows, event, &BillId(event.stream.stream_id).to_string())?;
            add(&mut bill.parked, parked.amount, "the sum of parked money")?;
            rows.put(bill);
            Ok(())
        }
        bill::Event::RefundRecorded(recorded) => subtract_refund(rows, event, recorded),
        bill::Event::RefundTakenBack(taken) => put_back(rows, event, taken),
        bill::Event::PaymentReserved(_) | bill::Event::ReservationReleased(_) | bill::Event::Voided(_) => Ok(()),
    }
}

fn count_bill(rows: &mut Rows, event: &RecordedEvent) -> Result<(), ApplyError> {
    let mut bill = pending::<PendingBillRow>(rows, event, &BillId(event.stream.stream_id).to_string())?;
    if bill.counted {
        return Ok(());
    }
    let day = Day::of_bill(&bill, event.pos);
    // All rows of the bill are asked for at once, before any is changed.
    let items = rows.need::<DailyItemSalesRow>(bill.lines.iter().map(|line| day.item_key(&line.item_code)));
    rows.need::<DailySalesRow>([day.key()]).and(items)?;
    let mut sales = day.sales(rows)?;
    add(&mut sales.bills_paid, 1, "the number of bills")?;
    add(&mut sales.gross, bill.subtotal, "the gross sum")?;
    add(&mut sales.discount, bill.discount, "the sum of discounts")?;
    add(&mut sales.service_charge, bill.service_charge, "the sum of service charge")?;
    add(&mut sales.tax, bill.tax, "the sum of tax")?;
    add(&mut sales.adjustment, bill.adjustment, "the sum of adjustments")?;
    add(&mut sales.total, bill.total, "the total")?;
    let kept = bill.total.checked_sub(bill.refunded_early).ok_or_else(|| ApplyError::overflow("the net sum"))?;
    add(&mut sales.net, kept, "the net sum")?;
    rows.put(sales);
    for line in std::mem::take(&mut bill.lines) {
        let mut item = day.item(rows, &line.item_code, &line.name)?;
        add(&mut item.quantity_milli, line.quantity_milli, "the quantity of an item")?;
        add(&mut item.gross, line.gross, "the gross sum of an item")?;
        add(&mut item.discount, line.discount, "the discounts of an item")?;
        add(&mut item.tax, line.tax, "the tax of an item")?;
        add(&mut item.total, line.total, "the total of an item")?;
        rows.put(item);
    }
    bill.counted = true;
    rows.put(bill);
    Ok(())
}

fn count_write_off(rows: &mut Rows, event: &RecordedEvent, written_off: &bill::WrittenOff) -> Result<(), ApplyError> {
    let bill = pending::<PendingBillRow>(rows, event, &BillId(event.stream.stream_id).to_string())?;
    let mut sales = Day::of_bill(&bill, event.pos).sales(rows)?;
    add(&mut sales.written_off_count, 1, "the number of bills written off")?;
    add(&mut sales.written_off, written_off.amount, "the sum of bills written off")?;
    rows.put(sales);
    rows.put(PendingBillRow { lines: vec![], ..bill });
    Ok(())
}

/// Money that closed no intent never was a sale, so neither is a dispute about it, nor its decision.
fn count_dispute(rows: &mut Rows, event: &RecordedEvent, disputed: &payment_intent::Disputed) -> Result<(), ApplyError> {
    if disputed.unmatched_transaction_id.is_some() {
        return Ok(());
    }
    let day = Day::of_dispute(event.stream.tenant, disputed, event.pos);
    let mut tender = day.tender(rows, disputed.tender, disputed.acquirer.as_deref())?;
    add(&mut tender.disputes_count, 1, "the number of disputes")?;
    add(&mut tender.disputes_amount, disputed.amount.amount, "the sum of disputes")?;
    rows.put(tender);
    Ok(())
}

/// Won: the money is back. Lost: what was opened stays.
fn count_decision(rows: &mut Rows, event: &RecordedEvent, decision: &payment_intent::DisputeResolved) -> Result<(), ApplyError> {
    if decision.unmatched_transaction_id.is_some() {
        return Ok(());
    }
    let day = Day::of_decision(event.stream.tenant, decision, event.pos);
    let mut tender = day.tender(rows, decision.tender, decision.acquirer.as_deref())?;
    let (count, amount) = match decision.outcome {
        DisputeOutcome::Won => (&mut tender.disputes_won_count, &mut tender.disputes_won_amount),
        DisputeOutcome::Lost => (&mut tender.disputes_lost_count, &mut tender.disputes_lost_amount),
    };
    add(count, 1, "the number of decided disputes")?;
    add(amount, decision.amount.amount, "the sum of decided disputes")?;
    rows.put(tender);
    Ok(())
}

fn count_adjustment(rows: &mut Rows, event: &RecordedEvent, recorded: &ledger_adjustment::Recorded) -> Result<(), ApplyError> {
    let mut sales = Day::of_adjustment(event.stream.tenant, recorded, event.pos).sales(rows)?;
    add(&mut sales.ledger_adjustments_count, 1, "the number of ledger adjustments")?;
    add(&mut sales.ledger_adjustments, recorded.amount.amount, "the sum of ledger adjustments")?;
    rows.put(sales);
    Ok(())
}

pub(super) fn pending<R: Row>(rows: &mut Rows, event: &RecordedEvent, key: &str) -> Result<R, ApplyError> {
    rows.get(key)?.ok_or_else(|| never_opened(event))
}

fn pending_bill(event: &RecordedEvent, issued: &bill::Issued) -> PendingBillRow {
    PendingBillRow {
        bill_id: BillId(event.stream.stream_id),
        tenant: event.stream.tenant,
        store_id: issued.store_id,
        business_date: issued.business_date,
        currency: issued.currency,
        subtotal: issued.subtotal,
        discount: issued.discount,
        service_charge: issued.service_charge,
        tax: issued.tax,
        adjustment: issued.adjustment,
        total: issued.total,
        lines: issued.lines.clone(),
        parked: 0,
        refunded_early: 0,
        counted: false,
    }
}

pub(super) fn add(sum: &mut i64, amount: i64, what: &str) -> Result<(), ApplyError> {
    *sum = sum.checked_add(amount).ok_or_else(|| ApplyError::overflow(what))?;
    Ok(())
}

#[cfg(test)]
#[path = "daily_sales_tests.rs"]
mod tests;
