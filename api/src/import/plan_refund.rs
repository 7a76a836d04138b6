//! Orders below zero: refused, left out, or money given back: out of the payment of an order that came before, which they
//! name or match, or without one.

use std::sync::Arc;

use commands::tenants::NewStore;
use domain::{
    money::Money,
    payment_intent::Tender,
    refund::{Breakdown, Destination, RefundLine},
};

use super::{
    bind::{BoundRefund, Planner},
    ids::OrderIds,
    links::{Links, Paid, RowKey},
    mapping_payment::{Negative, TenderWord, Unlinked},
    plan::{rounding_of, time},
    recent::short,
    sale::{LineRounding, Planned, RefundLink, RefundUnit, Row, RowProblem, SaleAdjustment, SaleLine},
    value::shown,
};

/// Why money is given back, where the file does not say.
const NO_REASON: &str = "imported refund";
const OUT_OF_RANGE: &str = "the amount is out of range";

/// An order below zero, as far as its rows say.
pub(super) struct BelowZero<'a> {
    pub rows: &'a [Row],
    pub ids: OrderIds<'a>,
    /// The line of its first row.
    pub line: u64,
    pub store: Arc<NewStore>,
    pub lines: Vec<SaleLine>,
    pub adjustments: Vec<SaleAdjustment>,
    /// What was paid, where the mapping names it.
    pub paid: Option<i64>,
    /// The tip in it.
    pub tip: i64,
}

impl Planner {
    /// What an order below zero becomes.
    ///
    /// # Errors
    /// Refunds are refused, or this one cannot be linked to the payment of an order that came before and must be.
    pub(super) fn below_zero(&self, order: BelowZero<'_>, before: &Links) -> Result<Planned, RowProblem> {
        match (&self.mapping.refund, &self.refund) {
            (Some(refund), _) if refund.negative == Negative::Skip => Ok(Planned::Skipped(refund.reason.clone().unwrap_or_default())),
            (Some(refund), Some(bound)) if refund.negative == Negative::Refund => self.refund(order, bound, refund.unlinked, before),
            (Some(_) | None, _) => {
                let reason = "the order is below zero; [refund] can say what becomes of such orders".to_owned();
                Err(RowProblem { line: order.line, reason })
            }
        }
    }

    fn refund(&self, order: BelowZero<'_>, bound: &BoundRefund, unlinked: Unlinked, before: &Links) -> Result<Planned, RowProblem> {
        let line = order.line;
        let at_first = |reason: String| RowProblem { line, reason };
        let reason = self.reason_of(bound, order.rows)?;
        let given_at = time(first_of(order.rows, line)?, self.payment.paid_at.as_ref().unwrap_or(&self.opened_at))?;
        let BelowZero { rows, ids, store, .. } = &order;
        let (rows, ids, store) = (*rows, *ids, store.clone());
        let (amount, breakdown, rounding) = self.given_back(order).map_err(at_first)?;
        let found = self.sale_of(rows, bound, amount, &breakdown, before)?;
        let (link, tender, acquirer) = match (found, unlinked) {
            (Ok((of, paid)), _) => {
                let link = RefundLink { of, payment_intent_id: paid.payment_intent_id, destination: destination(paid.tender) };
                (Some(link), paid.tender, None)
            }
            (Err(_), Unlinked::Record) => (None, self.given_by(rows, bound)?, self.acquirer_of(rows)?),
            (Err(reason), Unlinked::Refuse) => return Err(at_first(reason)),
        };
        Ok(Planned::Refund(Box::new(RefundUnit {
            key: ids.key.to_owned(),
            refund_id: ids.id("refund"),
            link,
            store_id: store.store_id,
            store,
            tender,
            acquirer,
            amount: Money::new(amount, self.mapping.store.currency),
            given_at,
            reason,
            breakdown,
            rounding,
        })))
    }

    /// The sale that is refunded, with the name that messages use; otherwise why it is not known.
    fn sale_of(
        &self,
        rows: &[Row],
        bound: &BoundRefund,
        amount: i64,
        breakdown: &Breakdown,
        before: &Links,
    ) -> Result<Result<(String, Paid), String>, RowProblem> {
        if let Some(of) = &bound.of {
            let of = self.agreed(rows, "refunded order", of)?;
            return Ok(if of.is_empty() {
                Err("the order is below zero and names no order that is refunded".to_owned())
            } else {
                let unknown = || format!("refund of order '{}', which is no paid sale earlier in this file", shown(of));
                before.paid.get(of).map(|paid| (of.to_owned(), *paid)).ok_or_else(unknown)
            });
        }
        let keys: Option<Vec<RowKey>> = rows.iter().map(|row| self.row_key(bound, row)).collect();
        // A tip was never part of the sale, so it cannot go back out of its payment.
        let matched = keys.filter(|_| breakdown.tip == 0).and_then(|keys| before.matching(&keys, amount));
        Ok(matched.map(|sale| (sale.key.clone(), sale.paid)).ok_or_else(|| "no earlier sale in this file matches the refund".to_owned()))
    }

    /// A row by its store and the values that must agree; nothing when one of them is empty or nothing is matched.
    pub(super) fn row_key(&self, bound: &BoundRefund, row: &Row) -> Option<RowKey> {
        let mut text = self.store.text(&row.cells).to_owned();
        if bound.matching.is_empty() {
            return None;
        }
        for place in &bound.matching {
            let cell = row.cells.get(*place).unwrap_or_default().trim();
            if cell.is_empty() {
                return None;
            }
            // The separator cannot be typed into a cell that agrees by accident: its length stands before it.
            text.extend(["|", &cell.len().to_string(), "|", cell]);
        }
        Some(short(&text))
    }

    /// How money is given that belongs to no payment.
    fn given_by(&self, rows: &[Row], bound: &BoundRefund) -> Result<Tender, RowProblem> {
        let (key, tender) = bound.tender.as_ref().map_or(("payment.tender", &self.payment.tender), |tender| ("refund.tender", tender));
        let word = self.tender_of(rows, key, tender)?;
        let line = rows.first().map_or(0, |row| row.line);
        let none = || RowProblem { line, reason: "money was given back, but the tender says that none moved".to_owned() };
        TenderWord::tender(word).ok_or_else(none)
    }

    fn reason_of(&self, bound: &BoundRefund, rows: &[Row]) -> Result<String, RowProblem> {
        let written = bound.reason.as_ref().map_or(Ok(""), |cell| self.agreed(rows, "reason", cell))?;
        let reason = self.mapping.refund.as_ref().and_then(|refund| refund.reason.as_deref()).unwrap_or(NO_REASON);
        Ok(if written.is_empty() { reason } else { written }.to_owned())
    }

    /// How much is given back, and for what: what was paid, otherwise what the same order above zero would cost. What the
    /// lines do not explain is the refund's adjustment.
    fn given_back(&self, order: BelowZero<'_>) -> Result<(i64, Breakdown, LineRounding), String> {
        let out_of_range = || OUT_OF_RANGE.to_owned();
        let tip = order.tip.checked_neg().filter(|tip| *tip >= 0).ok_or("the order is below zero, but the tip is above")?;
        let lines: Option<Vec<SaleLine>> = order.lines.into_iter().map(reversed).collect();
        let adjustments: Option<Vec<SaleAdjustment>> =
            order.adjustments.into_iter().map(|one| one.amount.checked_neg().map(|amount| SaleAdjustment { amount, ..one })).collect();
        let mut adjustments = adjustments.ok_or_else(out_of_range)?;
        let lines = self.above_zero(lines.ok_or_else(out_of_range)?, &mut adjustments)?;
        let priced = self.priced(&lines, &adjustments)?;
        let explained = priced.total.checked_add(tip).ok_or_else(out_of_range)?;
        let amount = match order.paid {
            Some(paid @ i64::MIN..=-1) => paid.checked_neg().ok_or_else(out_of_range)?,
            Some(0..=i64::MAX) => return Err("the lines are below zero, but the amount paid is not".to_owned()),
            None if explained > 0 => explained,
            None => return Err("the refund comes to nothing".to_owned()),
        };
        let adjustment = amount.checked_sub(explained).and_then(|rest| rest.checked_add(priced.adjustment)).ok_or_else(out_of_range)?;
        let rounding = rounding_of(&lines, &priced);
        let refund_line = |(line, figures): (SaleLine, &domain::pricing::PricedLine)| RefundLine {
            item_code: line.item_code,
            name: line.name,
            quantity_milli: line.quantity_milli,
            tax: figures.tax,
            total: figures.total,
        };
        let lines = lines.into_iter().zip(&priced.lines).map(refund_line).collect();
        Ok((amount, Breakdown { lines, adjustment, tip }, rounding))
    }
}

fn first_of(rows: &[Row], line: u64) -> Result<&Row, RowProblem> {
    rows.first().ok_or_else(|| RowProblem { line, reason: "no rows".to_owned() })
}

/// The same line with the other sign; the sign is on the price, never on the quantity.
fn reversed(line: SaleLine) -> Option<SaleLine> {
    let quantity_milli = line.quantity_milli.checked_abs()?;
    let unit_price = if line.quantity_milli < 0 { line.unit_price } else { line.unit_price.checked_neg()? };
    Some(SaleLine { quantity_milli, unit_price, ..line })
}

/// Cash goes back out of the drawer, everything else the way it came.
const fn destination(tender: Tender) -> Destination {
    match tender {
        Tender::Cash => Destination::Cash,
        Tender::PromptPay | Tender::Card | Tender::OnlineCard | Tender::Invoice | Tender::Unknown => Destination::Original,
    }
}
