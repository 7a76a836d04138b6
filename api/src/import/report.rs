//! What an import did: counts, sums and the rows that were not taken.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    path::{Path, PathBuf},
};

use csv::StringRecord;
use domain::money::Money;
use rust_decimal::Decimal;
use serde::Serialize;

use super::{
    card_cells::printable,
    error::ImportError,
    sale::{LedgerUnit, LineRounding, RefundUnit, Row, SaleUnit},
};

/// Most rejected orders that the report names one by one; the reject file has them all.
pub const MAX_LISTED: usize = 1_000;
/// Most of them that the printed form shows.
const MAX_SHOWN: usize = 20;

/// An order that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// The line at fault.
    pub line: u64,
    /// The order's key, as far as it could be read.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// Payments of one tender and currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TenderTotal {
    /// `cash`, `card`, `invoice`, `unknown`; `written_off` or `none` for orders without a payment. For refunds, that of the
    /// sale, or by which the money was given.
    pub tender: &'static str,
    /// ISO 4217 code and sum, minor units, without tips.
    pub total: Money,
    /// Tips beside it, minor units; of refunds, in it.
    pub tips: Money,
    /// How many orders, or refunds.
    pub orders: u64,
}

/// Refunds that stand in the log; those that were not taken are among the rejected orders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Refunds {
    /// Written by this run.
    pub added: u64,
    /// Written by an earlier run.
    pub already_there: u64,
    /// Of all these, those without a payment.
    pub unlinked: u64,
    /// What they come to, as positive amounts; not subtracted from the totals of the orders.
    pub totals: Vec<TenderTotal>,
}

/// Ledger adjustments that stand in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LedgerAdjustments {
    /// Written by this run.
    pub added: u64,
    /// Written by an earlier run.
    pub already_there: u64,
    /// Their signed sum, by currency.
    pub totals: Vec<Money>,
}

/// What rounding lines to minor units changed, of orders and refunds: rounded less exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rounded {
    /// Lines that were not exact.
    pub lines: u64,
    /// Of lines of orders, in minor units, exact.
    #[serde(serialize_with = "as_text")]
    pub orders: Decimal,
    /// Of lines of refunds; they lower what orders come to, and so does this.
    #[serde(serialize_with = "as_text")]
    pub refunds: Decimal,
}

fn as_text<S: serde::Serializer>(value: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&value.normalize())
}

/// What an import did. Always `orders = added + already_there + rejected_orders`, and
/// `rows` = rows of these orders + rows of refunds + rows put on the books + skipped rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// The mapping's source.
    pub source: String,
    /// Data rows read.
    pub rows: u64,
    /// Orders found in them.
    pub orders: u64,
    /// Orders written by this run.
    pub added: u64,
    /// Orders that an earlier run wrote.
    pub already_there: u64,
    /// Rows left out by a rule of the mapping, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Orders not taken.
    pub rejected_orders: u64,
    /// Their rows.
    pub rejected_rows: u64,
    /// The first [`MAX_LISTED`] of them.
    pub rejected: Vec<Rejected>,
    /// What this file's orders come to in the log: added now or there already.
    pub totals: Vec<TenderTotal>,
    /// Tax in these orders, by currency.
    pub tax: Vec<Money>,
    /// Of the orders, those whose payment is contested, by currency.
    pub disputed: Vec<Money>,
    /// What rounding changed.
    pub rounding: Rounded,
    /// Money given back.
    pub refunds: Refunds,
    /// Amounts put on the books.
    pub ledger_adjustments: LedgerAdjustments,
    /// How long it took.
    pub elapsed_ms: u64,
}

impl ImportReport {
    /// Nothing was rejected.
    pub fn is_clean(&self) -> bool {
        self.rejected_orders == 0
    }

    /// Counts an order that stands in the log.
    pub(super) fn took(&mut self, sale: &SaleUnit, new: bool) {
        self.orders += 1;
        *(if new { &mut self.added } else { &mut self.already_there }) += 1;
        let unpaid = if sale.write_off.is_some() { "written_off" } else { "none" };
        let tender = sale.payment.as_ref().map_or(unpaid, |payment| payment.tender.as_str());
        let tip = sale.payment.as_ref().map_or(0, |payment| payment.tip);
        add(&mut self.totals, tender, sale.total, tip);
        add_money(&mut self.tax, Money::new(sale.tax, sale.total.currency));
        if sale.payment.as_ref().is_some_and(|payment| payment.dispute.is_some()) {
            add_money(&mut self.disputed, sale.total);
        }
        let LineRounding { lines, difference } = sale.rounding;
        self.rounding.lines += lines;
        self.rounding.orders += difference;
    }

    /// Counts a refund that stands in the log.
    pub(super) fn gave_back(&mut self, refund: &RefundUnit, new: bool) {
        let refunds = &mut self.refunds;
        *(if new { &mut refunds.added } else { &mut refunds.already_there }) += 1;
        refunds.unlinked += u64::from(refund.link.is_none());
        add(&mut refunds.totals, refund.tender.as_str(), refund.amount, refund.breakdown.tip);
        let LineRounding { lines, difference } = refund.rounding;
        self.rounding.lines += lines;
        self.rounding.refunds += difference;
    }

    /// Counts an amount that stands on the books.
    pub(super) fn adjusted(&mut self, ledger: &LedgerUnit, new: bool) {
        let ledger_adjustments = &mut self.ledger_adjustments;
        *(if new { &mut ledger_adjustments.added } else { &mut ledger_adjustments.already_there }) += 1;
        add_money(&mut ledger_adjustments.totals, ledger.amount);
    }

    /// Counts rows left out.
    pub(super) fn left_out(&mut self, reason: String, rows: u64) {
        *self.skipped.entry(reason).or_default() += rows;
    }

    /// Counts an order that was not taken.
    pub(super) fn refused(&mut self, rejected: Rejected, rows: u64) {
        self.orders += 1;
        self.rejected_orders += 1;
        self.rejected_rows += rows;
        if self.rejected.len() < MAX_LISTED {
            self.rejected.push(rejected);
        }
    }
}

fn add_money(sums: &mut Vec<Money>, amount: Money) {
    match sums.iter_mut().find(|sum| sum.currency == amount.currency) {
        Some(sum) => *sum = sum.checked_add(amount).unwrap_or(*sum),
        None => sums.push(amount),
    }
}

fn add(totals: &mut Vec<TenderTotal>, tender: &'static str, amount: Money, tip: i64) {
    let tips = Money::new(tip, amount.currency);
    let of_kind = |total: &&mut TenderTotal| total.tender == tender && total.total.currency == amount.currency;
    if let Some(known) = totals.iter_mut().find(of_kind) {
        known.total = known.total.checked_add(amount).unwrap_or(known.total);
        known.tips = known.tips.checked_add(tips).unwrap_or(known.tips);
        known.orders += 1;
    } else {
        totals.push(TenderTotal { tender, total: amount, tips, orders: 1 });
        totals.sort_by_key(|total| (total.tender, total.total.currency));
    }
}

fn write_totals(f: &mut fmt::Formatter<'_>, what: &str, totals: &[TenderTotal]) -> fmt::Result {
    if !totals.is_empty() {
        writeln!(f, "  {:<24}{what:>12}  {:>20}  {:>18}", "tender", "total", "tips")?;
    }
    for TenderTotal { tender, total, tips, orders } in totals {
        writeln!(f, "    {tender:<22}{orders:>12}  {:>20}  {:>18}", total.to_string(), tips.to_string())?;
    }
    Ok(())
}

impl ImportReport {
    fn write_sums(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, sums) in [("tax in these", &self.tax), ("disputed", &self.disputed)] {
            for sum in sums {
                writeln!(f, "  {what:<36}  {:>20}", sum.to_string())?;
            }
        }
        let Rounded { lines, orders, refunds } = self.rounding;
        if lines > 0 {
            let minor = (orders - refunds).normalize();
            writeln!(f, "  {:<24}{lines:>12}  {:>20}  minor units", "lines rounded, by", minor.to_string())?;
        }
        Ok(())
    }
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Import of '{}' in {}.{:03} s", self.source, self.elapsed_ms / 1000, self.elapsed_ms % 1000)?;
        let counts = [
            ("rows read", self.rows),
            ("orders", self.orders),
            ("  added", self.added),
            ("  already there", self.already_there),
            ("  rejected", self.rejected_orders),
        ];
        for (what, count) in counts {
            writeln!(f, "  {what:<24}{count:>12}")?;
        }
        for (reason, rows) in &self.skipped {
            writeln!(f, "  {:<24}{rows:>12}  {reason}", "rows skipped")?;
        }
        write_totals(f, "orders", &self.totals)?;
        self.write_sums(f)?;
        let Refunds { added, already_there, unlinked, totals } = &self.refunds;
        let counts = [("refunds added", added), ("refunds already there", already_there), ("  without a sale", unlinked)];
        for (what, count) in counts {
            if !totals.is_empty() {
                writeln!(f, "  {what:<24}{count:>12}")?;
            }
        }
        write_totals(f, "refunds", totals)?;
        let LedgerAdjustments { added, already_there, totals } = &self.ledger_adjustments;
        for total in totals {
            writeln!(f, "  {:<24}{:>12}  {:>20}", "ledger adjustments", added + already_there, total.to_string())?;
        }
        for Rejected { line, key, reason } in self.rejected.iter().take(MAX_SHOWN) {
            writeln!(f, "  rejected: line {line}, order '{key}': {reason}")?;
        }
        let shown = u64::try_from(self.rejected.len().min(MAX_SHOWN)).unwrap_or(0);
        match self.rejected_orders - shown.min(self.rejected_orders) {
            0 => Ok(()),
            more => writeln!(f, "  rejected: {more} more"),
        }
    }
}

/// Rejected rows as CSV: the columns of the input, then line, order key and reason. Can be mended and imported again. Card numbers are
/// masked.
pub(super) struct RejectFile {
    path: PathBuf,
    writer: csv::Writer<File>,
}

impl RejectFile {
    /// Creates the file, or empties an old one.
    ///
    /// # Errors
    /// `RejectFileIsInput`, `File`.
    pub fn create(path: &Path, input: &Path, delimiter: char, header: &StringRecord) -> Result<Self, ImportError> {
        let real = |path: &Path| path.canonicalize().ok();
        if real(path).is_some() && real(path) == real(input) {
            return Err(ImportError::RejectFileIsInput);
        }
        let file = File::create(path).map_err(|error| ImportError::File { path: path.to_owned(), error })?;
        let delimiter = u8::try_from(delimiter).unwrap_or(b',');
        let mut this =
            Self { path: path.to_owned(), writer: csv::WriterBuilder::new().delimiter(delimiter).flexible(true).from_writer(file) };
        this.record(header, &["import_line", "import_key", "import_reason"])?;
        Ok(this)
    }

    /// Writes the rows of a rejected order.
    ///
    /// # Errors
    /// `File`.
    pub fn write(&mut self, rows: &[Row], rejected: &Rejected) -> Result<(), ImportError> {
        for row in rows {
            let cells: StringRecord = row.cells.iter().map(printable).collect();
            self.record(&cells, &[&row.line.to_string(), &rejected.key, &rejected.reason])?;
        }
        Ok(())
    }

    /// Brings what was written to the file.
    ///
    /// # Errors
    /// `File`.
    pub fn flush(&mut self) -> Result<(), ImportError> {
        self.writer.flush().map_err(|error| ImportError::File { path: self.path.clone(), error })
    }

    fn record(&mut self, cells: &StringRecord, more: &[&str]) -> Result<(), ImportError> {
        let written = self.writer.write_record(cells.iter().chain(more.iter().copied()));
        written.map_err(|error| ImportError::File { path: self.path.clone(), error: std::io::Error::other(error) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rounding_changed_in_refunds_is_taken_off() {
        let rounding = Rounded { lines: 3, orders: Decimal::new(-4, 1), refunds: Decimal::new(3, 1) };
        let shown = ImportReport { rounding, ..ImportReport::default() }.to_string();
        assert!(shown.contains(" -0.7  minor units"), "{shown}");
    }
}
