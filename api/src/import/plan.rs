//! Rows as a unit of sale: what is to be written, decided without any I/O. Hard to fool, easy to fuzz.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use commands::tenants::NewStore;
use domain::{
    ids::LineId,
    money::Money,
    order::MAX_LINES,
    pricing::{Priced, PricingLine, WHOLE_MILLI, price},
};
use rust_decimal::Decimal;

use super::{
    bind::{BoundLine, BoundTender, BoundTime, Cell, Planner},
    check,
    ids::OrderIds,
    links::Links,
    mapping::Unlisted,
    mapping_payment::TenderWord,
    plan_refund::BelowZero,
    sale::{LineRounding, Planned, Row, RowProblem, SaleAdjustment, SaleLine, SalePayment, SaleUnit},
    setup,
    value::shown,
};

/// Why a bill is written off, where the mapping does not say.
const NO_WRITE_OFF_REASON: &str = "written off in the source";
const OUT_OF_RANGE: &str = "the amount is out of range";

impl Planner {
    /// The order key of a row.
    pub fn key<'a>(&self, row: &'a Row) -> &'a str {
        row.cells.get(self.key).unwrap_or_default().trim()
    }

    /// What the rows of one order come to, given how the orders before it were paid.
    ///
    /// # Errors
    /// The first problem: a cell that cannot be read, an unknown store or tender, rows that disagree, a sum that does not
    /// match and may not differ, an order below zero.
    pub fn plan(&self, rows: &[Row], before: &Links) -> Result<Planned, RowProblem> {
        let Some(first) = rows.first() else { return Err(RowProblem { line: 0, reason: "no rows".to_owned() }) };
        let at_first = |reason: String| RowProblem { line: first.line, reason };
        let key = self.key(first);
        if key.is_empty() {
            return Err(at_first("the order key is empty".to_owned()));
        }
        let store = self.store_of(self.agreed(rows, "store", &self.store)?).map_err(at_first)?;
        let opened_at = time(first, &self.opened_at)?;
        let ids = OrderIds { tenant: &self.tenant, source: &self.mapping.source, key, at: opened_at };
        let mut lines = self.lines_of(rows, &ids)?;
        let mut adjustments = self.adjustments_of(rows)?;
        if let (true, Some(bound)) = (lines.is_empty() && adjustments.is_empty(), self.lines.first()) {
            // An order over nothing still names what it was for.
            lines.extend(self.line_of(first, bound, ids.id("line|0"), false).map_err(at_first)?);
        }
        let (paid, tip) = (self.paid(rows)?, self.tip(rows)?);
        if paid.is_some_and(|paid| paid < 0) || gross(&lines) < 0 {
            let order = BelowZero { rows, ids, line: first.line, store, lines, adjustments, paid, tip };
            return self.below_zero(order, before);
        }
        if tip < 0 {
            return Err(at_first("the tip is below zero, but the order is not".to_owned()));
        }
        let lines = self.above_zero(lines, &mut adjustments).map_err(at_first)?;
        let mut priced = self.priced(&lines, &adjustments).map_err(at_first)?;
        let owed = paid.map(|paid| paid.checked_sub(tip).ok_or_else(|| at_first(OUT_OF_RANGE.to_owned()))).transpose()?;
        if let Some(difference) = owed.and_then(|owed| owed.checked_sub(priced.total)).filter(|difference| *difference != 0) {
            adjustments.push(self.difference(difference, priced.total).map_err(at_first)?);
            priced = self.priced(&lines, &adjustments).map_err(at_first)?;
        }
        let total = Money::new(priced.total, self.mapping.store.currency);
        let word = self.tender_of(rows, "payment.tender", &self.payment.tender)?;
        let payment = self.payment_of(rows, &ids, total, tip, word)?;
        if tip != 0 && payment.is_none() {
            return Err(at_first("a tip without a payment".to_owned()));
        }
        Ok(Planned::Sale(Box::new(SaleUnit {
            key: key.to_owned(),
            order_id: ids.id("order"),
            bill_id: ids.id("bill"),
            store_id: store.store_id,
            store,
            opened_at,
            issued_at: self.issued_at.as_ref().map(|issued_at| time(first, issued_at)).transpose()?,
            order_number: self.number.as_ref().and_then(|number| filled(number.text(&first.cells))),
            order_type: self.mapping.order.order_type,
            rounding: rounding_of(&lines, &priced),
            lines,
            adjustments,
            total,
            tax: priced.tax,
            payment,
            write_off: (word == TenderWord::WrittenOff && total.is_positive()).then(|| self.write_off_reason()),
        })))
    }

    fn write_off_reason(&self) -> String {
        self.mapping.payment.write_off_reason.clone().unwrap_or_else(|| NO_WRITE_OFF_REASON.to_owned())
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

    pub(super) fn store_of(&self, value: &str) -> Result<Arc<NewStore>, String> {
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
                let line = self.line_of(row, bound, line_id, bound.omit_zero).map_err(|reason| RowProblem { line: row.line, reason })?;
                lines.extend(line);
                if lines.len() > MAX_LINES {
                    return Err(RowProblem { line: row.line, reason: format!("an order has at most {MAX_LINES} lines") });
                }
            }
        }
        Ok(lines)
    }

    fn line_of(&self, row: &Row, bound: &BoundLine, line_id: LineId, omit_zero: bool) -> Result<Option<SaleLine>, String> {
        let (decimal, currency) = (self.mapping.file.decimal, self.mapping.store.currency);
        let text = bound.price.text(&row.cells);
        if omit_zero && text.is_empty() {
            return Ok(None);
        }
        // Where an empty cell means that there is no such charge, it also means nothing to pay.
        let text = if bound.omit_zero && text.is_empty() { "0" } else { text };
        let (amount, price_base_milli) = if bound.per_piece {
            decimal.price(text, currency, bound.price_decimals)?
        } else {
            (decimal.money(text, currency)?, WHOLE_MILLI)
        };
        if omit_zero && amount == 0 {
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
            price_base_milli,
            tax_class: bound.tax_class,
            may_adjust: bound.may_adjust,
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

    /// The tips of the rows, summed; nothing where the mapping has none.
    fn tip(&self, rows: &[Row]) -> Result<i64, RowProblem> {
        let Some(cell) = &self.payment.tip else { return Ok(0) };
        let mut sum = 0_i64;
        for row in rows {
            let text = cell.text(&row.cells);
            let at_row = |reason: String| RowProblem { line: row.line, reason };
            let tip =
                if text.is_empty() { 0 } else { self.mapping.file.decimal.money(text, self.mapping.store.currency).map_err(at_row)? };
            sum = sum.checked_add(tip).ok_or_else(|| at_row(OUT_OF_RANGE.to_owned()))?;
        }
        Ok(sum)
    }

    /// The lines that can stand on a bill; those below zero become adjustments, where the mapping allows it.
    pub(super) fn above_zero(&self, lines: Vec<SaleLine>, adjustments: &mut Vec<SaleAdjustment>) -> Result<Vec<SaleLine>, String> {
        let mut kept = Vec::with_capacity(lines.len());
        for line in lines {
            if !line.may_adjust || product(&line) >= 0 {
                kept.push(line);
                continue;
            }
            let magnitude = self.amount_of(&line)?;
            let amount = magnitude.checked_neg().ok_or_else(|| OUT_OF_RANGE.to_owned())?;
            if amount != 0 {
                adjustments.push(SaleAdjustment { amount, reason: line.name });
            }
        }
        Ok(kept)
    }

    /// What a line comes to without its sign, by the very rule that prices it.
    fn amount_of(&self, line: &SaleLine) -> Result<i64, String> {
        let magnitude = |value: i64| value.checked_abs().ok_or_else(|| OUT_OF_RANGE.to_owned());
        let (quantity_milli, unit_price) = (magnitude(line.quantity_milli)?, magnitude(line.unit_price)?);
        let one = PricingLine { quantity_milli, unit_price, ..pricing_line(line) };
        let priced = price(self.mapping.store.currency, &[one], None, 0, &self.tax_profile).map_err(|error| error.to_string())?;
        Ok(priced.subtotal)
    }

    /// What the bill will ask for, by the very rules that will price it.
    pub(super) fn priced(&self, lines: &[SaleLine], adjustments: &[SaleAdjustment]) -> Result<Priced, String> {
        if lines.is_empty() && adjustments.is_empty() {
            return Err("the order has no line".to_owned());
        }
        let pricing: Vec<PricingLine> = lines.iter().map(pricing_line).collect();
        let out_of_range = || "the adjustments are out of range".to_owned();
        let adjustment = adjustments.iter().try_fold(0_i64, |sum, one| sum.checked_add(one.amount)).ok_or_else(out_of_range)?;
        price(self.mapping.store.currency, &pricing, None, adjustment, &self.tax_profile).map_err(|error| error.to_string())
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

    /// The word for the tender of an order's rows.
    pub(super) fn tender_of(&self, rows: &[Row], key: &str, tender: &BoundTender) -> Result<TenderWord, RowProblem> {
        match tender {
            BoundTender::Fixed(word) => Ok(*word),
            BoundTender::ByValue(place, values) => {
                let value = self.agreed(rows, "tender", &Cell::At(*place, String::new()))?.to_owned();
                let line = rows.first().map_or(0, |row| row.line);
                let unknown = || RowProblem { line, reason: format!("tender '{}' is not in {key}.values", shown(&value)) };
                values.get(&value).copied().ok_or_else(unknown)
            }
        }
    }

    /// Who moved the money; all rows must agree.
    pub(super) fn acquirer_of(&self, rows: &[Row]) -> Result<Option<String>, RowProblem> {
        let Some(cell) = &self.payment.acquirer else { return Ok(None) };
        let (acquirer, line) = (self.agreed(rows, "acquirer", cell)?, rows.first().map_or(0, |row| row.line));
        if acquirer.chars().count() > 64 {
            return Err(RowProblem { line, reason: format!("acquirer '{}' is longer than 64 characters", shown(acquirer)) });
        }
        Ok(filled(acquirer))
    }

    fn payment_of(
        &self,
        rows: &[Row],
        ids: &OrderIds<'_>,
        total: Money,
        tip: i64,
        word: TenderWord,
    ) -> Result<Option<SalePayment>, RowProblem> {
        let Some(first) = rows.first() else { return Ok(None) };
        let paid_at = self.payment.paid_at.as_ref().unwrap_or(&self.opened_at);
        let paid_at = time(first, paid_at)?;
        let text = |cell: &Option<Cell>| cell.as_ref().and_then(|cell| filled(cell.text(&first.cells)));
        let Some(tender) = TenderWord::tender(word).filter(|_| total.is_positive()) else { return Ok(None) };
        let disputed = self.payment.dispute.as_ref().filter(|dispute| self.holds(&dispute.when, first));
        Ok(Some(SalePayment {
            payment_intent_id: ids.id("payment"),
            tender,
            amount: total,
            tip,
            acquirer: self.acquirer_of(rows)?,
            dispute: disputed.map(|dispute| dispute.reason.clone()),
            paid_at,
            transaction_id: text(&self.payment.transaction_id),
            merchant_reference: text(&self.payment.merchant_reference),
        }))
    }
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) fn time(row: &Row, time: &BoundTime) -> Result<DateTime<Utc>, RowProblem> {
    let text = row.cells.get(time.place).unwrap_or_default().trim();
    time.clock.read(text, &time.format).map_err(|reason| RowProblem { line: row.line, reason })
}

/// The price of one piece of a line, where it is a whole number of minor units.
fn piece_of(amount: i64, quantity_milli: i64) -> Result<i64, String> {
    let thousandfold = i128::from(amount) * i128::from(WHOLE_MILLI);
    let piece = thousandfold.checked_div(i128::from(quantity_milli)).filter(|piece| piece * i128::from(quantity_milli) == thousandfold);
    let piece = piece.and_then(|piece| i64::try_from(piece).ok());
    piece.ok_or_else(|| "the amount of the line is not a whole price for each piece".to_owned())
}

/// What a line comes to before tax, in millionths of minor units; only its sign matters.
fn product(line: &SaleLine) -> i128 {
    i128::from(line.quantity_milli) * i128::from(line.unit_price) * 1_000_000 / i128::from(line.price_base_milli.max(1))
}

/// What the lines come to; only its sign matters.
fn gross(lines: &[SaleLine]) -> i128 {
    lines.iter().map(product).sum()
}

/// What rounding lines to minor units changed.
pub(super) fn rounding_of(lines: &[SaleLine], priced: &Priced) -> LineRounding {
    let mut rounding = LineRounding::default();
    for (line, priced) in lines.iter().zip(&priced.lines) {
        let product = i128::from(line.quantity_milli) * i128::from(line.unit_price);
        if product % i128::from(line.price_base_milli.max(1)) == 0 {
            continue;
        }
        // A base is a power of ten, so the quotient is exact.
        let exact = Decimal::try_from_i128_with_scale(product, 0)
            .ok()
            .and_then(|product| product.checked_div(Decimal::from(line.price_base_milli)));
        rounding.lines += 1;
        rounding.difference += Decimal::from(priced.gross) - exact.unwrap_or_default();
    }
    rounding
}

fn pricing_line(line: &SaleLine) -> PricingLine {
    PricingLine {
        line_id: line.line_id,
        quantity_milli: line.quantity_milli,
        unit_price: line.unit_price,
        price_base_milli: line.price_base_milli,
        tax_class: line.tax_class,
        discount: None,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(crate) mod tests;
