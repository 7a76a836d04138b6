//! The file as rows, and rows as orders. Reads a stream; never holds more than the orders under way (one,
//! unless `order.within` says otherwise) and the keys of recent orders.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use csv::{ByteRecord, StringRecord};
use flate2::read::MultiGzDecoder;

use super::{
    bind::Planner,
    error::ImportError,
    links::{Links, Paid},
    mapping::FileFormat,
    mapping_order::Grouping,
    recent::Recent,
    sale::{LedgerUnit, Planned, RefundUnit, Row, RowProblem, SaleUnit},
    value::shown,
};

/// First bytes of a gzip stream. Source: RFC 1952, section 2.3.1.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Most rows of one order; more are refused, so that a bad key column cannot fill the memory.
const MAX_ROWS: usize = 10_000;

/// An open file, plain or gzip, positioned after its header.
pub struct Input {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read + Send>>,
    header: StringRecord,
    size: u64,
    last_line: u64,
}

impl Input {
    /// Opens a file and reads its header. Gzip is known by its first bytes, not by the name.
    ///
    /// # Errors
    /// `File`, `Broken`.
    pub fn open(path: &Path, format: &FileFormat) -> Result<Self, ImportError> {
        let failed = |error| ImportError::File { path: path.to_owned(), error };
        let (file, size) = open(path).map_err(failed)?;
        let delimiter = u8::try_from(format.delimiter).unwrap_or(b',');
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(file);
        let header = reader.headers().cloned();
        let header = header.map_err(|error| ImportError::Broken { path: path.to_owned(), line: 1, error })?;
        Ok(Self { path: path.to_owned(), reader, header, size, last_line: 1 })
    }

    /// The names of the columns.
    pub fn header(&self) -> &StringRecord {
        &self.header
    }

    /// Bytes of the unpacked file; of a gzip file what its last four bytes say.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next row; a row that cannot be used comes with its problem.
    fn read_row(&mut self) -> Result<Option<(Row, Option<String>)>, ImportError> {
        let mut bytes = ByteRecord::new();
        let (path, line) = (&self.path, self.last_line);
        let more = self.reader.read_byte_record(&mut bytes);
        if !more.map_err(|error| ImportError::Broken { path: path.clone(), line, error })? {
            return Ok(None);
        }
        let line = bytes.position().map_or(line, csv::Position::line);
        self.last_line = line;
        let end = self.reader.position().byte();
        let (found, wanted) = (bytes.len(), self.header.len());
        let (cells, not_utf8) = match StringRecord::from_byte_record(bytes) {
            Ok(cells) => (cells, None),
            Err(error) => {
                let bytes = error.into_byte_record();
                (StringRecord::from_byte_record_lossy(bytes), Some("the row is not UTF-8".to_owned()))
            }
        };
        let uneven = (found != wanted).then(|| format!("the row has {found} cells, the header {wanted}"));
        Ok(Some((Row { line, end, cells }, uneven.or(not_utf8))))
    }
}

/// The readable end of a file and the number of bytes that will come out of it.
fn open(path: &Path) -> std::io::Result<(Box<dyn Read + Send>, u64)> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut magic = Vec::new();
    Read::by_ref(&mut file).take(2).read_to_end(&mut magic)?;
    if magic != GZIP_MAGIC {
        file.seek(SeekFrom::Start(0))?;
        return Ok((Box::new(BufReader::new(file)), size));
    }
    let mut unpacked = [0; 4];
    if size >= 18 {
        file.seek(SeekFrom::End(-4))?;
        file.read_exact(&mut unpacked)?;
    }
    file.seek(SeekFrom::Start(0))?;
    // Right for one member below 4 GiB; it only drives the progress bar.
    Ok((Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file)))), u64::from(u32::from_le_bytes(unpacked))))
}

/// What became of some rows before anything is written.
#[derive(Debug)]
pub struct Step {
    /// The rows: those of one order, or one that stands alone.
    pub rows: Vec<Row>,
    /// Their order key, as far as it could be read.
    pub key: String,
    /// What they are.
    pub what: StepKind,
}

/// What some rows are.
#[derive(Debug)]
pub enum StepKind {
    /// An order to be written.
    Sale(Box<SaleUnit>),
    /// Money to be given back; its sale, if it has one, stands before it.
    Refund(Box<RefundUnit>),
    /// An amount to be put on the books.
    Ledger(Box<LedgerUnit>),
    /// No sale, counted under this reason.
    Skipped(String),
    /// Bad.
    Bad(RowProblem),
}

/// Rows of an order under way.
struct Open {
    rows: Vec<Row>,
    problem: Option<RowProblem>,
    /// Number of its newest row.
    newest: u64,
}

/// The steps of a file, in the order in which orders end.
pub struct Steps {
    input: Input,
    planner: Planner,
    /// Orders that may go on, by key.
    open: HashMap<String, Open>,
    /// Number and key of the rows that are the newest of an open order, or were.
    touched: VecDeque<(u64, String)>,
    /// Rows of orders so far.
    rows: u64,
    /// How many rows apart rows of one order may stand.
    within: u64,
    ready: VecDeque<Step>,
    /// Keys of recent orders.
    seen: Recent<()>,
    /// What is known of recent sales; empty unless the mapping has refunds.
    links: Links,
    /// Line of the newest row that could not be used, and number of the last row whose order it may have begun.
    spoiled: Option<(u64, u64)>,
    ended: bool,
}

impl Steps {
    /// The steps of `input` under `planner`.
    pub fn new(input: Input, planner: Planner) -> Self {
        let within = match planner.mapping().order.rows {
            Grouping::Single => 0,
            Grouping::Consecutive => planner.mapping().order.within.unwrap_or(1),
        };
        Self {
            input,
            planner,
            open: HashMap::new(),
            touched: VecDeque::new(),
            rows: 0,
            within,
            ready: VecDeque::new(),
            seen: Recent::default(),
            links: Links::default(),
            spoiled: None,
            ended: false,
        }
    }

    /// The next step; nothing at the end.
    ///
    /// # Errors
    /// `Broken` when the file cannot be read on.
    pub fn advance(&mut self) -> Result<Option<Step>, ImportError> {
        while self.ready.is_empty() && !self.ended {
            if let Some((row, problem)) = self.input.read_row()? {
                self.take(row, problem);
            } else {
                self.ended = true;
                self.close_up_to(u64::MAX);
            }
        }
        Ok(self.ready.pop_front())
    }

    fn take(&mut self, row: Row, problem: Option<String>) {
        if let Some(reason) = problem {
            return self.unusable(row, reason);
        }
        let key = self.planner.key(&row).to_owned();
        if let Some(reason) = self.planner.skips(&row) {
            let what = StepKind::Skipped(reason.to_owned());
            return self.ready.push_back(Step { rows: vec![row], key, what });
        }
        let card = self.planner.card_number_in(&row);
        if let Some(rule) = self.planner.ledger_rule(&row) {
            let planned = self.planner.plan_ledger(&row, rule);
            let unit = card.or_else(|| self.twice(&key, row.line)).map_or(planned, Err);
            let what = unit.map_or_else(StepKind::Bad, |unit| StepKind::Ledger(Box::new(unit)));
            return self.ready.push_back(Step { rows: vec![row], key, what });
        }
        self.group(key, row, card);
    }

    /// Puts a row to its order, which a `fault` of the row spoils, or begins one; ends the orders that no later row can belong to.
    fn group(&mut self, key: String, row: Row, fault: Option<RowProblem>) {
        self.rows += 1;
        let cut = self.spoiled.filter(|(_, last)| self.rows <= *last).map(|(line, _)| may_belong(line, row.line));
        let spoiled = fault.or(cut);
        if self.open.get(&key).is_some_and(|open| open.rows.len() >= MAX_ROWS) {
            self.close(&key);
        }
        if let Some(open) = self.open.get_mut(&key) {
            open.problem = open.problem.take().or(spoiled);
            open.rows.push(row);
            open.newest = self.rows;
        } else {
            let problem = self.twice(&key, row.line).or(spoiled);
            self.open.insert(key.clone(), Open { rows: vec![row], problem, newest: self.rows });
        }
        self.touched.push_back((self.rows, key));
        self.close_up_to(self.rows.saturating_sub(self.within));
    }

    fn twice(&mut self, key: &str, line: u64) -> Option<RowProblem> {
        let twice = !key.is_empty() && !self.seen.remember(key, ());
        twice.then(|| RowProblem { line, reason: format!("order key '{}' came before in this file", shown(key)) })
    }

    /// Ends the orders whose newest row is this one or an earlier one.
    fn close_up_to(&mut self, last: u64) {
        while let Some((number, key)) = self.touched.pop_front_if(|(number, _)| *number <= last) {
            if self.open.get(&key).is_some_and(|open| open.newest == number) {
                self.close(&key);
            }
        }
    }

    /// A row whose cells cannot be trusted: the orders that it may belong to are incomplete. Where orders may be scattered and
    /// what stands as its key is that of an order under way, it is that one; otherwise any that is, or begins within reach.
    fn unusable(&mut self, row: Row, reason: String) {
        let line = row.line;
        let key = self.planner.key(&row).to_owned();
        let spoil = |open: &mut Open| {
            let first = open.rows.first().map_or(line, |row| row.line);
            open.problem.get_or_insert(may_belong(line, first));
        };
        match self.open.get_mut(&key) {
            Some(open) if self.within > 1 => spoil(open),
            Some(_) | None => {
                self.open.values_mut().for_each(spoil);
                self.spoiled = Some((line, self.rows.saturating_add(self.within)));
            }
        }
        if self.within <= 1 {
            self.close_up_to(u64::MAX);
        }
        self.ready.push_back(Step { rows: vec![row], key, what: StepKind::Bad(RowProblem { line, reason }) });
    }

    fn close(&mut self, key: &str) {
        let Some(Open { rows, problem, .. }) = self.open.remove(key) else { return };
        let planned = problem.map_or_else(|| self.planner.plan(&rows, &self.links), Err);
        let what = match planned {
            Ok(Planned::Sale(unit)) => {
                self.note_sale(key, &unit, &rows);
                StepKind::Sale(unit)
            }
            Ok(Planned::Refund(unit)) => {
                if let Some(link) = &unit.link {
                    self.links.give_back(link.payment_intent_id, unit.amount.amount);
                }
                StepKind::Refund(unit)
            }
            Ok(Planned::Ledger(unit)) => StepKind::Ledger(unit),
            Ok(Planned::Skipped(reason)) => StepKind::Skipped(reason),
            Err(problem) => StepKind::Bad(problem),
        };
        self.ready.push_back(Step { rows, key: key.to_owned(), what });
    }

    /// What later refunds must know of a sale.
    fn note_sale(&mut self, key: &str, unit: &SaleUnit, rows: &[Row]) {
        let (Some(refund), Some(payment)) = (&self.planner.refund, &unit.payment) else { return };
        let paid = Paid { payment_intent_id: payment.payment_intent_id, tender: payment.tender };
        if refund.matching.is_empty() {
            self.links.paid.remember(key, paid);
        } else if payment.dispute.is_none() {
            let keys = rows.iter().filter_map(|row| self.planner.row_key(refund, row));
            self.links.remember(key, paid, payment.amount.amount, keys);
        }
    }
}

fn may_belong(unusable: u64, line: u64) -> RowProblem {
    RowProblem { line, reason: format!("line {unusable} may belong to this order, but cannot be used") }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
pub(crate) mod tests;
