//! Rows as a unit of sale: what is to be written, decided without any I/O. Hard to fool, easy to fuzz.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use commands::tenants::NewStore;
use domain::{
    ids::LineId,
    money::Money,
    order::MAX_LINES,
    pricing::{PricingLine, WHOLE_MILLI, price},
};

use super::{
    bind::{BoundLine, BoundTender, BoundTime, Cell, Planner},
    check,
    ids::OrderIds,
    mapping::Unlisted,
    mapping_payment::{Condition, Sign, TenderWord},
    plan_refund::BelowZero,
    recent::{Paid, Recent},
    sale::{Planned, Row, RowProblem, SaleAdjustment, SaleLine, SalePayment, SaleUnit},
    setup,
    value::shown,
};

impl Planner {
    /// The reason under which a row is left out, if a skip rule says so.
    pub fn skips(&self, row: &Row) -> Option<&str> {
        let decimal = self.mapping.file.decimal;
        let holds = |(place, condition): &(usize, Condition)| {
            let text = row.cells.get(*place).unwrap_or_default().trim();
            condition.is.as_ref().is_none_or(|values| values.iter().any(|value| value == text))
                && condition.starts_with.as_ref().is_none_or(|start| text.starts_with(start.as_str()))
                && condition.empty.is_none_or(|empty| text.is_empty() == empty)
                // What is not a number has no sign: the row stays in and is judged as a sale.
                && condition.sign.is_none_or(|sign| decimal.milli(text).is_ok_and(|value| sign == sign_of(value)))
        };
        self.skips.iter().find(|skip| skip.when.iter().all(holds)).map(|skip| skip.reason.as_str())
    }

    /// The order key of a row.
    pub fn key<'a>(&self, row: &'a Row) -> &'a str {
        row.cells.get(self.key).unwrap_or_default().trim()
    }

    /// What the rows of one order come to, given how the orders before it were paid.
    ///
    /// # Errors
    /// The first problem: a cell that cannot be read, an unknown store or tender, rows that disagree, a sum that does not
    /// match and may not differ, an order below zero.
    pub fn plan(&self, rows: &[Row], paid_before: &Recent<Paid>) -> Result<Planned, RowProblem> {
        let Some(first) = rows.first() else { return Err(RowProblem { line: 0, reason: "no rows".to_owned() }) };
        let at_first = |reason: String| RowProblem { line: first.line, reason };
        let key = self.key(first);
        if key.is_empty() {
            return Err(at_first("the order key is empty".to_owned()));
        }
        let store = self.store_of(self.agreed(rows, "store", &self.store)?).map_err(at_first)?;
        let opened_at = time(first, &self.opened_at)?;
        let ids = OrderIds { tenant: &self.tenant, source: &self.mapping.source, key, at: opened_at };
        let lines = self.lines_of(rows, &ids)?;
        let mut adjustments = self.adjustments_of(rows)?;
        let paid = self.paid(rows)?;
        if paid.is_some_and(|paid| paid < 0) || gross(&lines) < 0 {
            let order = BelowZero { rows, ids, line: first.line, lines, adjustments, paid };
            return self.below_zero(order, paid_before);
        }
        let mut total = self.total(&lines, &adjustments).map_err(at_first)?;
        if let Some(difference) = paid.and_then(|paid| paid.checked_sub(total)).filter(|difference| *difference != 0) {
            adjustments.push(self.difference(difference, total).map_err(at_first)?);
            total = self.total(&lines, &adjustments).map_err(at_first)?;
        }
        let total = Money::new(total, self.mapping.store.currency);
        let payment = self.payment_of(rows, &ids, total)?;
        Ok(Planned::Sale(Box::new(SaleUnit {
            key: key.to_owned(),
            order_id: ids.id("order"),
            bill_id: ids.id("bill"),
            store_id: store.store_id,
            store,
            opened_at,
            order_number: self.number.as_ref().and_then(|number| filled(number.text(&first.cells))),
            order_type: self.mapping.order.order_type,
            lines,
            adjustments,
            total,
            payment,
        })))
    }

    /// A text that all rows of an order must share.
    pub(super) fn agreed<'a>(&self, rows: &'a [Row], what: &str, cell: &'a Cell) -> Result<&'a str, RowProblem> {
        let mut texts = rows.iter().map(|row| (row.line, cell.text(&row.cells)));
        let (_, agreed) = texts.next().unwrap_or_default();
        match texts.find(|(_, text)| *text != agreed) {
            None => Ok(agreed),
            Some((line, other)) => {
                let key = rows.first().map_or("", |row| self.key(row));
                let reason =
                    format!("the rows of order '{}' disagree on the {what}: '{}' and '{}'", shown(key), shown(agreed), shown(other));
                Err(RowProblem { line, reason })
            }
        }
    }

    fn store_of(&self, value: &str) -> Result<Arc<NewStore>, String> {
        if let Some(store) = self.known.get(value) {
            return Ok(store.clone());
        }
        match self.mapping.store.unlisted {
            Unlisted::Refuse if value.is_empty() => Err("the store is empty".to_owned()),
            Unlisted::Refuse => Err(format!("store '{}' is not listed under store.known", shown(value))),
            Unlisted::Open => {
                let code: String = value.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(32).collect();
                let code = code.trim_matches('-');
                if code.is_empty() {
                    return Err(format!("no store code can be made of '{}'", shown(value)));
                }
                let id = check::store_id(&self.mapping, value);
                Ok(Arc::new(setup::store_of(&self.mapping, code, value, Some(id))))
            }
        }
    }

    fn lines_of(&self, rows: &[Row], ids: &OrderIds<'_>) -> Result<Vec<SaleLine>, RowProblem> {
        let mut lines = Vec::with_capacity(rows.len());
        for row in rows {
            for bound in &self.lines {
                let line_id = ids.id(&format!("line|{}", lines.len()));
                let line = self.line_of(row, bound, line_id).map_err(|reason| RowProblem { line: row.line, reason })?;
                lines.extend(line);
                if lines.len() > MAX_LINES {
                    return Err(RowProblem { line: row.line, reason: format!("an order has at most {MAX_LINES} lines") });
                }
            }
        }
        Ok(lines)
    }

    fn line_of(&self, row: &Row, bound: &BoundLine, line_id: LineId) -> Result<Option<SaleLine>, String> {
        let (decimal, currency) = (self.mapping.file.decimal, self.mapping.store.currency);
        let text = bound.price.text(&row.cells);
        if bound.omit_zero && text.is_empty() {
            return Ok(None);
        }
        let amount = decimal.money(text, currency)?;
        if bound.omit_zero && amount == 0 {
            return Ok(None);
        }
        let quantity_milli = bound.quantity.as_ref().map_or(Ok(WHOLE_MILLI), |quantity| decimal.milli(quantity.text(&row.cells)))?;
        let unit_price = if bound.per_piece { amount } else { piece_of(amount, quantity_milli)? };
        Ok(Some(SaleLine {
            line_id,
            item_code: bound.item_code.text(&row.cells).to_owned(),
            name: bound.name.text(&row.cells).to_owned(),
            quantity_milli,
            unit_price,
            tax_class: bound.tax_class,
        }))
    }

    fn adjustments_of(&self, rows: &[Row]) -> Result<Vec<SaleAdjustment>, RowProblem> {
        let mut found = Vec::new();
        for row in rows {
            for (place, reason) in &self.adjustments {
                let text = row.cells.get(*place).unwrap_or_default().trim();
                if text.is_empty() {
                    continue;
                }
                let amount = self.mapping.file.decimal.money(text, self.mapping.store.currency);
                let amount = amount.map_err(|reason| RowProblem { line: row.line, reason })?;
                if amount != 0 {
                    found.push(SaleAdjustment { amount, reason: reason.clone() });
                }
            }
        }
        Ok(found)
    }

    /// What was paid, as the rows say; they must agree.
    fn paid(&self, rows: &[Row]) -> Result<Option<i64>, RowProblem> {
        let Some(cell) = &self.payment.amount else { return Ok(None) };
        let text = self.agreed(rows, "amount paid", cell)?;
        let line = rows.first().map_or(0, |row| row.line);
        let paid = self.mapping.file.decimal.money(text, self.mapping.store.currency);
        paid.map(Some).map_err(|reason| RowProblem { line, reason })
    }

    /// What the bill will ask for, by the very rules that will price it.
    pub(super) fn total(&self, lines: &[SaleLine], adjustments: &[SaleAdjustment]) -> Result<i64, String> {
        if lines.is_empty() && adjustments.is_empty() {
            return Err("the order has no line".to_owned());
        }
        let pricing: Vec<PricingLine> = lines.iter().map(pricing_line).collect();
        let out_of_range = || "the adjustments are out of range".to_owned();
        let adjustment = adjustments.iter().try_fold(0_i64, |sum, one| sum.checked_add(one.amount)).ok_or_else(out_of_range)?;
        let priced = price(self.mapping.store.currency, &pricing, None, adjustment, &self.tax_profile);
        priced.map(|priced| priced.total).map_err(|error| error.to_string())
    }

    fn difference(&self, difference: i64, total: i64) -> Result<SaleAdjustment, String> {
        let money = |amount| Money::new(amount, self.mapping.store.currency);
        let both = || format!("the lines come to {}, paid were {}", money(total), money(total.saturating_add(difference)));
        match &self.difference {
            Some((reason, limit)) if difference.checked_abs().is_some_and(|size| size <= *limit) => {
                Ok(SaleAdjustment { amount: difference, reason: reason.clone() })
            }
            Some((_, limit)) => Err(format!("{}; [difference] allows at most {}", both(), money(*limit))),
            None => Err(format!("{}; without [difference] they must be equal", both())),
        }
    }

    fn payment_of(&self, rows: &[Row], ids: &OrderIds<'_>, total: Money) -> Result<Option<SalePayment>, RowProblem> {
        let Some(first) = rows.first() else { return Ok(None) };
        let word = match &self.payment.tender {
            BoundTender::Fixed(word) => *word,
            BoundTender::ByValue(place, values) => {
                let cell = Cell::At(*place, String::new());
                let value = self.agreed(rows, "tender", &cell)?;
                let unknown =
                    || RowProblem { line: first.line, reason: format!("tender '{}' is not in payment.tender.values", shown(value)) };
                *values.get(value).ok_or_else(unknown)?
            }
        };
        let paid_at = self.payment.paid_at.as_ref().unwrap_or(&self.opened_at);
        let paid_at = time(first, paid_at)?;
        let text = |cell: &Option<Cell>| cell.as_ref().and_then(|cell| filled(cell.text(&first.cells)));
        let tender = TenderWord::tender(word).filter(|_| total.is_positive());
        Ok(tender.map(|tender| SalePayment {
            payment_intent_id: ids.id("payment"),
            tender,
            amount: total,
            paid_at,
            transaction_id: text(&self.payment.transaction_id),
            merchant_reference: text(&self.payment.merchant_reference),
        }))
    }
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn time(row: &Row, time: &BoundTime) -> Result<DateTime<Utc>, RowProblem> {
    let text = row.cells.get(time.place).unwrap_or_default().trim();
    time.clock.read(text, &time.format).map_err(|reason| RowProblem { line: row.line, reason })
}

const fn sign_of(value: i64) -> Sign {
    match value {
        i64::MIN..=-1 => Sign::Negative,
        0 => Sign::Zero,
        1..=i64::MAX => Sign::Positive,
    }
}

/// The price of one piece of a line, where it is a whole number of minor units.
fn piece_of(amount: i64, quantity_milli: i64) -> Result<i64, String> {
    let thousandfold = i128::from(amount) * i128::from(WHOLE_MILLI);
    let piece = thousandfold.checked_div(i128::from(quantity_milli)).filter(|piece| piece * i128::from(quantity_milli) == thousandfold);
    let piece = piece.and_then(|piece| i64::try_from(piece).ok());
    piece.ok_or_else(|| "the amount of the line is not a whole price for each piece".to_owned())
}

/// What the lines come to before tax, in thousandths of minor units; only its sign matters.
fn gross(lines: &[SaleLine]) -> i128 {
    lines.iter().map(|line| i128::from(line.quantity_milli) * i128::from(line.unit_price)).sum()
}

fn pricing_line(line: &SaleLine) -> PricingLine {
    PricingLine {
        line_id: line.line_id,
        quantity_milli: line.quantity_milli,
        unit_price: line.unit_price,
        tax_class: line.tax_class,
        discount: None,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(crate) mod tests;
