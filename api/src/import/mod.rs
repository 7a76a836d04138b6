//! `smartpos import`: historical sales out of any CSV file, through the ordinary command path.
//!
//! A mapping ([`mapping::Mapping`]) says what the columns mean. Reading ([`rows`]) and planning ([`plan`]) are pure of the
//! log: rows become units of sale. Writing puts each unit (order, bill, payment) into the log in one append, under ids and
//! an idempotency key that follow from the data. Invariants: a second run adds nothing; a row that changed is reported,
//! never overwritten; no row is dropped without being counted; memory does not grow with the file.
//!
//! **To add a key to the mapping**: the field in `mapping*.rs`, its check in `check.rs`, its columns in `bind.rs`, its
//! meaning in `plan.rs`, its words in `docs/import.md`.

mod bind;
mod card_cells;
mod check;
pub mod error;
mod ids;
mod links;
pub mod mapping;
pub mod mapping_order;
pub mod mapping_payment;
pub mod mapping_rows;
pub mod plan;
mod plan_refund;
mod plan_rows;
mod recent;
pub mod report;
mod retry;
pub mod rows;
pub mod sale;
mod setup;
mod value;
mod write;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use commands::handle::CommandHandler;
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::{mpsc, watch};

pub use self::{
    bind::Planner,
    error::{ImportError, MappingError},
    mapping::Mapping,
    report::{ImportReport, Refunds, Rejected, TenderTotal},
};
use self::{
    card_cells::printable,
    report::RejectFile,
    rows::{Input, Step, StepKind, Steps},
    sale::Row,
    write::{Halt, Writer, Written},
};

/// Orders under way at the same time, so that the group committer can store them together.
pub const DEFAULT_IN_FLIGHT: usize = 768;
/// Orders planned ahead of those under way.
const AHEAD: usize = 1_024;

/// What to import, and how.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// CSV with a header, plain or gzip.
    pub file: PathBuf,
    /// The mapping, TOML.
    pub mapping: PathBuf,
    /// Where rejected rows are written, with reasons.
    pub reject_file: Option<PathBuf>,
    /// Orders under way at the same time, 1 to 1,024; [`DEFAULT_IN_FLIGHT`] is a good choice.
    pub in_flight: usize,
    /// No progress bar. It is hidden anyway when standard error is no terminal.
    pub quiet: bool,
}

/// Imports a file. Running it again, after an interruption or at any time, adds only what is missing.
///
/// # Errors
/// Any [`ImportError`]. Bad rows are no error: see [`ImportReport::is_clean`].
pub async fn run(handler: &CommandHandler, options: &ImportOptions) -> Result<ImportReport, ImportError> {
    let started = Instant::now();
    let mapping = Mapping::load(&options.mapping)?;
    let input = Input::open(&options.file, &mapping.file)?;
    let header = input.header().clone();
    let delimiter = mapping.file.delimiter;
    let planner = Planner::bind(mapping, &header)?;
    let rejects = options.reject_file.as_ref().map(|path| RejectFile::create(path, &options.file, delimiter, &header)).transpose()?;
    let report = ImportReport { source: planner.mapping().source.clone(), ..ImportReport::default() };
    let mut tally = Tally { report, rejects, bar: bar(options.quiet, input.size()) };
    let writer = Arc::new(Writer::start(handler.clone(), &planner).await?);

    let (sender, mut receiver) = mpsc::channel(AHEAD);
    let reading = tokio::task::spawn_blocking(move || read(Steps::new(input, planner), &sender));
    let steps = stream::poll_fn(move |context| receiver.poll_recv(context));
    let (counted, earlier) = watch::channel(0);
    let settled =
        steps.enumerate().map(|(n, step)| settle(writer.clone(), earlier.clone(), n, step)).buffered(options.in_flight.clamp(1, 1_024));
    let mut settled = std::pin::pin!(settled);
    let mut halted = None;
    while let Some((step, outcome)) = settled.next().await {
        if let Err(halt) = tally.count(step, outcome)? {
            halted = Some(halt);
            break;
        }
        counted.send_modify(|counted| *counted += 1);
    }
    tally.finish(started.elapsed())?;
    match halted {
        Some((_, _, Halt::Setup(error))) => Err(error),
        Some((line, key, Halt::Command(error))) => Err(ImportError::Stopped { line, key, error, so_far: Box::new(tally.report) }),
        None => reading.await?.map(|()| tally.report),
    }
}

/// Reads on a thread of its own, as far ahead as the channel allows; ends early when nobody listens.
fn read(mut steps: Steps, sender: &mpsc::Sender<Step>) -> Result<(), ImportError> {
    while let Some(step) = steps.advance()? {
        if sender.blocking_send(step).is_err() {
            break;
        }
    }
    Ok(())
}

/// Writes a step. A refund of a sale waits until all `n` steps before it are counted, so that its sale is stored.
async fn settle(writer: Arc<Writer>, mut counted: watch::Receiver<usize>, n: usize, step: Step) -> (Step, Option<Result<Written, Halt>>) {
    let outcome = match &step.what {
        StepKind::Sale(sale) => Some(writer.write(sale).await),
        StepKind::Ledger(ledger) => Some(writer.adjust(ledger).await),
        StepKind::Refund(refund) if refund.link.is_none() => Some(writer.give_back(refund).await),
        StepKind::Refund(refund) => {
            // It fails only when nobody counts any more, and then nobody asks for the outcome either.
            let _ = counted.wait_for(|counted| *counted >= n).await;
            Some(writer.give_back(refund).await)
        }
        StepKind::Skipped(_) | StepKind::Bad(_) => None,
    };
    (step, outcome)
}

fn bar(quiet: bool, size: u64) -> ProgressBar {
    let template = "{bar:30} {percent:>3} % | {msg} | {elapsed_precise}, {eta_precise} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    // Standard error at five frames a second; indicatif draws nothing when it is no terminal.
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(5) };
    ProgressBar::with_draw_target(Some(size), target).with_style(style)
}

/// Counts what became of each step, in the order of the file.
struct Tally {
    report: ImportReport,
    rejects: Option<RejectFile>,
    bar: ProgressBar,
}

impl Tally {
    fn count(&mut self, step: Step, outcome: Option<Result<Written, Halt>>) -> Result<Result<(), (u64, String, Halt)>, ImportError> {
        let Step { rows, key, what } = step;
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let line = rows.first().map_or(0, |row| row.line);
        match (what, outcome) {
            (StepKind::Sale(_) | StepKind::Refund(_) | StepKind::Ledger(_), Some(Err(halt))) => return Ok(Err((line, key, halt))),
            (StepKind::Sale(sale), Some(Ok(Written::Added))) => self.report.took(&sale, true),
            (StepKind::Sale(sale), Some(Ok(Written::AlreadyThere))) => self.report.took(&sale, false),
            (StepKind::Refund(refund), Some(Ok(Written::Added))) => self.report.gave_back(&refund, true),
            (StepKind::Refund(refund), Some(Ok(Written::AlreadyThere))) => self.report.gave_back(&refund, false),
            (StepKind::Ledger(ledger), Some(Ok(Written::Added))) => self.report.adjusted(&ledger, true),
            (StepKind::Ledger(ledger), Some(Ok(Written::AlreadyThere))) => self.report.adjusted(&ledger, false),
            (StepKind::Sale(_) | StepKind::Refund(_) | StepKind::Ledger(_), Some(Ok(Written::Refused(reason)))) => {
                self.refuse(&rows, Rejected { line, key, reason })?;
            }
            (StepKind::Bad(problem), _) => self.refuse(&rows, Rejected { line: problem.line, key, reason: problem.reason })?,
            (StepKind::Skipped(reason), _) => self.report.left_out(reason, count),
            (StepKind::Sale(_) | StepKind::Refund(_) | StepKind::Ledger(_), None) => {} // every one is written
        }
        self.report.rows += count;
        self.show(rows.last());
        Ok(Ok(()))
    }

    fn refuse(&mut self, rows: &[Row], rejected: Rejected) -> Result<(), ImportError> {
        let rejected = Rejected { key: printable(&rejected.key).into_owned(), ..rejected };
        if let Some(file) = &mut self.rejects {
            file.write(rows, &rejected)?;
        }
        self.report.refused(rejected, u64::try_from(rows.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn show(&self, last: Option<&Row>) {
        let end = last.map_or(0, |row| row.end).max(self.bar.position());
        if self.bar.length().is_some_and(|length| length < end) {
            self.bar.set_length(end);
        }
        self.bar.set_position(end);
        if !self.bar.is_hidden() {
            let ImportReport { orders, rejected_orders, .. } = self.report;
            self.bar.set_message(format!("{orders} orders, {rejected_orders} rejected"));
        }
    }

    fn finish(&mut self, elapsed: Duration) -> Result<(), ImportError> {
        self.bar.finish_and_clear();
        self.report.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.rejects.as_mut().map_or(Ok(()), RejectFile::flush)
    }
}

#[cfg(test)]
mod end_to_end_tests;
