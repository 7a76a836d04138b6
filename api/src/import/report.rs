//! What an import did: counts, sums and the rows that were not taken.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    path::{Path, PathBuf},
};

use csv::StringRecord;
use domain::money::Money;
use serde::Serialize;

use super::{
    error::ImportError,
    sale::{RefundUnit, Row, SaleUnit},
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
    /// `cash`, `card`, `invoice`, or `none` for orders without a payment. For refunds, that of the sale.
    pub tender: &'static str,
    /// ISO 4217 code and sum, minor units.
    pub total: Money,
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
    /// What they come to, as positive amounts; not subtracted from the totals of the orders.
    pub totals: Vec<TenderTotal>,
}

/// What an import did. Always `orders = added + already_there + rejected_orders`, and
/// `rows` = rows of these orders + rows of refunds + skipped rows.
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
    /// Money given back.
    pub refunds: Refunds,
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
        let tender = sale.payment.as_ref().map_or("none", |payment| payment.tender.as_str());
        add(&mut self.totals, tender, sale.total);
    }

    /// Counts a refund that stands in the log.
    pub(super) fn gave_back(&mut self, refund: &RefundUnit, new: bool) {
        let refunds = &mut self.refunds;
        *(if new { &mut refunds.added } else { &mut refunds.already_there }) += 1;
        add(&mut refunds.totals, refund.tender.as_str(), refund.amount);
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

fn add(totals: &mut Vec<TenderTotal>, tender: &'static str, amount: Money) {
    let of_kind = |total: &&mut TenderTotal| total.tender == tender && total.total.currency == amount.currency;
    if let Some(known) = totals.iter_mut().find(of_kind) {
        known.total = known.total.checked_add(amount).unwrap_or(known.total);
        known.orders += 1;
    } else {
        totals.push(TenderTotal { tender, total: amount, orders: 1 });
        totals.sort_by_key(|total| (total.tender, total.total.currency));
    }
}

fn write_totals(f: &mut fmt::Formatter<'_>, what: &str, totals: &[TenderTotal]) -> fmt::Result {
    if !totals.is_empty() {
        writeln!(f, "  {:<24}{what:>12}  {:>20}", "tender", "total")?;
    }
    for TenderTotal { tender, total, orders } in totals {
        writeln!(f, "    {tender:<22}{orders:>12}  {:>20}", total.to_string())?;
    }
    Ok(())
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
        let Refunds { added, already_there, totals } = &self.refunds;
        for (what, count) in [("refunds added", added), ("refunds already there", already_there)] {
            if !totals.is_empty() {
                writeln!(f, "  {what:<24}{count:>12}")?;
            }
        }
        write_totals(f, "refunds", totals)?;
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

/// Rejected rows as CSV: the columns of the input, then line, order key and reason. Can be mended and imported again.
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
            self.record(&row.cells, &[&row.line.to_string(), &rejected.key, &rejected.reason])?;
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
