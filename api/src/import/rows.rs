//! The file as rows, and rows as orders. Reads a stream; never holds more than one order and the keys of recent orders.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use csv::{ByteRecord, StringRecord};
use flate2::read::MultiGzDecoder;

use super::{
    bind::Planner,
    error::ImportError,
    mapping::FileFormat,
    mapping_order::Grouping,
    recent::{Paid, Recent},
    sale::{Planned, RefundUnit, Row, RowProblem, SaleUnit},
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
    /// Money to be given back; its sale stands before it.
    Refund(Box<RefundUnit>),
    /// No sale, counted under this reason.
    Skipped(String),
    /// Bad.
    Bad(RowProblem),
}

/// Rows of the order under way.
#[derive(Default)]
struct Open {
    key: String,
    rows: Vec<Row>,
    problem: Option<RowProblem>,
}

/// The steps of a file, in the order of its rows.
pub struct Steps {
    input: Input,
    planner: Planner,
    open: Option<Open>,
    ready: VecDeque<Step>,
    /// Keys of recent orders.
    seen: Recent<()>,
    /// How recent orders were paid; empty unless the mapping has refunds.
    paid: Recent<Paid>,
    /// The row before could not be used and may have belonged to the order that begins now.
    spoiled: Option<u64>,
    ended: bool,
}

impl Steps {
    /// The steps of `input` under `planner`.
    pub fn new(input: Input, planner: Planner) -> Self {
        let (seen, paid) = (Recent::default(), Recent::default());
        Self { input, planner, open: None, ready: VecDeque::new(), seen, paid, spoiled: None, ended: false }
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
                self.close();
            }
        }
        Ok(self.ready.pop_front())
    }

    fn take(&mut self, row: Row, problem: Option<String>) {
        if let Some(reason) = problem {
            return self.unusable(row, reason);
        }
        if let Some(reason) = self.planner.skips(&row) {
            let (key, what) = (self.planner.key(&row).to_owned(), StepKind::Skipped(reason.to_owned()));
            return self.ready.push_back(Step { rows: vec![row], key, what });
        }
        let key = self.planner.key(&row).to_owned();
        let consecutive = self.planner.mapping().order.rows == Grouping::Consecutive;
        match &mut self.open {
            Some(open) if consecutive && open.key == key && open.rows.len() < MAX_ROWS => open.rows.push(row),
            Some(_) | None => {
                self.close();
                let twice = (!key.is_empty() && !self.seen.remember(&key, ()))
                    .then(|| format!("order key '{}' came before in this file", shown(&key)));
                let cut = self
                    .spoiled
                    .take()
                    .filter(|_| consecutive)
                    .map(|line| format!("line {line} may belong to this order, but cannot be used"));
                let problem = twice.or(cut).map(|reason| RowProblem { line: row.line, reason });
                self.open = Some(Open { key, rows: vec![row], problem });
                if !consecutive {
                    self.close();
                }
            }
        }
    }

    /// A row whose cells cannot be trusted. Its key neither, so with several rows per order its neighbours are incomplete.
    fn unusable(&mut self, row: Row, reason: String) {
        let line = row.line;
        if let Some(open) = &mut self.open {
            let reason = format!("line {line} may belong to this order, but cannot be used");
            let first = open.rows.first().map_or(line, |row| row.line);
            open.problem.get_or_insert(RowProblem { line: first, reason });
        }
        self.close();
        self.spoiled = Some(line);
        let key = self.planner.key(&row).to_owned();
        self.ready.push_back(Step { rows: vec![row], key, what: StepKind::Bad(RowProblem { line, reason }) });
    }

    fn close(&mut self) {
        let Some(Open { key, rows, problem }) = self.open.take() else { return };
        let planned = problem.map_or_else(|| self.planner.plan(&rows, &self.paid), Err);
        let what = match planned {
            Ok(Planned::Sale(unit)) => {
                if let (Some(_), Some(payment)) = (&self.planner.refund, &unit.payment) {
                    let paid = Paid { payment_intent_id: payment.payment_intent_id, tender: payment.tender };
                    self.paid.remember(&key, paid);
                }
                StepKind::Sale(unit)
            }
            Ok(Planned::Refund(unit)) => StepKind::Refund(unit),
            Ok(Planned::Skipped(reason)) => StepKind::Skipped(reason),
            Err(problem) => StepKind::Bad(problem),
        };
        self.ready.push_back(Step { rows, key, what });
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
pub(crate) mod tests;
