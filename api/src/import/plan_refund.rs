//! Orders below zero: refused, left out, or money given back out of the payment of an order that came before.

use domain::{money::Money, payment_intent::Tender, refund::Destination};

use super::{
    bind::{BoundRefund, Planner},
    ids::OrderIds,
    mapping_payment::Negative,
    recent::{Paid, Recent},
    sale::{Planned, RefundUnit, Row, RowProblem, SaleAdjustment, SaleLine},
    value::shown,
};

/// Why money is given back, where the file does not say.
const NO_REASON: &str = "imported refund";

/// An order below zero, as far as its rows say.
pub(super) struct BelowZero<'a> {
    pub rows: &'a [Row],
    pub ids: OrderIds<'a>,
    /// The line of its first row.
    pub line: u64,
    pub lines: Vec<SaleLine>,
    pub adjustments: Vec<SaleAdjustment>,
    /// What was paid, where the mapping names it.
    pub paid: Option<i64>,
}

impl Planner {
    /// What an order below zero becomes.
    ///
    /// # Errors
    /// Refunds are refused, or this one cannot be linked to the payment of an order that came before.
    pub(super) fn below_zero(&self, order: BelowZero<'_>, paid: &Recent<Paid>) -> Result<Planned, RowProblem> {
        let line = order.line;
        let at_first = |reason: String| RowProblem { line, reason };
        match (&self.mapping.refund, &self.refund) {
            (Some(refund), _) if refund.negative == Negative::Skip => Ok(Planned::Skipped(refund.reason.clone().unwrap_or_default())),
            (Some(refund), Some(bound)) if refund.negative == Negative::Refund => {
                let of = self.agreed(order.rows, "refunded order", &bound.of)?.to_owned();
                let reason = self.reason_of(bound, order.rows)?;
                let linked = linked(&of, paid).map_err(at_first)?;
                let amount = self.given_back(order.lines, order.adjustments, order.paid).map_err(at_first)?;
                Ok(Planned::Refund(Box::new(RefundUnit {
                    key: order.ids.key.to_owned(),
                    refund_id: order.ids.id("refund"),
                    of,
                    payment_intent_id: linked.payment_intent_id,
                    tender: linked.tender,
                    destination: destination(linked.tender),
                    amount: Money::new(amount, self.mapping.store.currency),
                    given_at: order.ids.at,
                    reason,
                })))
            }
            (Some(_) | None, _) => Err(at_first("the order is below zero; [refund] can say what becomes of such orders".to_owned())),
        }
    }

    fn reason_of(&self, bound: &BoundRefund, rows: &[Row]) -> Result<String, RowProblem> {
        let written = bound.reason.as_ref().map_or(Ok(""), |cell| self.agreed(rows, "reason", cell))?;
        let reason = self.mapping.refund.as_ref().and_then(|refund| refund.reason.as_deref()).unwrap_or(NO_REASON);
        Ok(if written.is_empty() { reason } else { written }.to_owned())
    }

    /// How much is given back: what was paid, otherwise what the same order above zero would cost.
    fn given_back(&self, lines: Vec<SaleLine>, adjustments: Vec<SaleAdjustment>, paid: Option<i64>) -> Result<i64, String> {
        let out_of_range = || "the amount is out of range".to_owned();
        match paid {
            Some(paid @ i64::MIN..=-1) => paid.checked_neg().ok_or_else(out_of_range),
            Some(0..=i64::MAX) => Err("the lines are below zero, but the amount paid is not".to_owned()),
            None => {
                let lines: Option<Vec<SaleLine>> = lines.into_iter().map(reversed).collect();
                let adjustments: Option<Vec<SaleAdjustment>> =
                    adjustments.into_iter().map(|one| one.amount.checked_neg().map(|amount| SaleAdjustment { amount, ..one })).collect();
                let total = self.total(&lines.ok_or_else(out_of_range)?, &adjustments.ok_or_else(out_of_range)?)?;
                if total > 0 { Ok(total) } else { Err("the refund comes to nothing".to_owned()) }
            }
        }
    }
}

fn linked(of: &str, paid: &Recent<Paid>) -> Result<Paid, String> {
    if of.is_empty() {
        return Err("the order is below zero and names no order that is refunded".to_owned());
    }
    let unknown = || format!("refund of order '{}', which is no paid sale earlier in this file", shown(of));
    paid.get(of).copied().ok_or_else(unknown)
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
        Tender::PromptPay | Tender::Card | Tender::Invoice => Destination::Original,
    }
}
