//! `make bench`: how fast the platform is, as ratios within one run; where the time goes; what a command costs.
//!
//! `bench [--quick] [--out DIR] [--record DOCUMENT] [SECTION …]` measures all sections or those named; only a full run of all is
//! recorded. It fails, after everything else was measured, when a section did not come to its end. Figures are medians of
//! rounds in which the things compared take turns, so that a slow moment of the machine hits them all. Servers listen on
//! loopback only and are gone afterwards. The load comes from second processes: this program again, with other arguments.
//!
//! **To add a section**: a file with `pub async fn run(&mut Bench)`, a line in [`SECTIONS`] and in [`section`].
#![expect(clippy::float_arithmetic, reason = "figures for people; nothing here decides about money")]

mod append;
mod bare;
mod cards;
mod client;
mod consumer;
mod cpu;
mod edge;
mod frames;
mod growth;
mod history;
mod live;
mod load;
mod machine;
mod measure;
mod memory;
mod mix;
mod payers;
mod payments;
mod peak;
mod peak_payers;
mod relay;
mod replay;
mod report;
mod server;
mod sockets;
mod terminals;
mod waste;

use std::{panic::AssertUnwindSafe, path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use futures_util::FutureExt as _;
use machine::Machine;
use measure::Effort;
use report::Report;
use support::OwnServers;

// As the programs that are measured have it: some sections run the platform's own code in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// In this order.
const SECTIONS: [&str; 11] = ["append", "edge", "payments", "relay", "live", "replay", "import", "growth", "peak", "terminals", "waste"];

/// What every section has at hand.
pub struct Bench {
    effort: Effort,
    servers: OwnServers,
    report: Report,
    /// The program of the peer, when it is built.
    peer: Option<PathBuf>,
}

struct Arguments {
    quick: bool,
    out: PathBuf,
    record: Option<PathBuf>,
    help: bool,
    sections: Vec<String>,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self { quick: false, out: "target/bench".into(), record: None, help: false, sections: Vec::new() };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => arguments.quick = true,
                "--out" => arguments.out = words.next().context("--out names a directory")?.into(),
                "--record" => arguments.record = Some(words.next().context("--record names a document")?.into()),
                "--help" | "-h" => arguments.help = true,
                section if SECTIONS.contains(&section) => arguments.sections.push(word),
                other => anyhow::bail!("'{other}' is no section; there are {}", SECTIONS.join(", ")),
            }
        }
        Ok(arguments)
    }

    fn wants(&self, section: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|wanted| wanted == section)
    }

    /// Refuses to put a part in the place of a whole: the record has one table, and this run would replace it.
    fn check_recordable(&self, with_peer: bool) -> Result<()> {
        let Some(document) = &self.record else { return Ok(()) };
        anyhow::ensure!(!self.quick, "--record replaces the whole recorded table: a quick run is not recorded");
        let left_out: Vec<_> = SECTIONS.into_iter().filter(|section| !self.wants(section)).collect();
        anyhow::ensure!(left_out.is_empty(), "--record replaces the whole recorded table: {} would be missing", left_out.join(", "));
        anyhow::ensure!(with_peer, "--record replaces the whole recorded table: bench-peer is not built, `make bench` builds it");
        report::check_place(document)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1).peekable();
    match words.peek().map(String::as_str) {
        Some("load") => return load::main().await,
        Some("sockets") => return sockets::main().await,
        Some("payers") => return payers::main().await,
        Some("card-provider") => return cards::main().await,
        _ => {}
    }
    let arguments = Arguments::read(words)?;
    if arguments.help {
        println!("bench [--quick] [--out DIR] [--record DOCUMENT] [SECTION…]\n\nsections: {}", SECTIONS.join(", "));
        return Ok(());
    }
    let peer = append::peer_program();
    arguments.check_recordable(peer.is_some())?;
    let machine = Machine::here();
    let mode = if arguments.quick { "quick" } else { "full" };
    println!("{}\n", machine.description());
    let servers = OwnServers::start("bench").await;
    let mut bench = Bench { effort: Effort { quick: arguments.quick }, servers, report: Report::default(), peer };
    if bench.peer.is_none() {
        bench.report.note("bench-peer is not built: nothing is compared with postgres-es");
    }
    let lacking = measure_all(&mut bench, &arguments).await;
    bench.report.write(&arguments.out, &machine, mode)?;
    anyhow::ensure!(lacking.is_empty(), "this run is not whole: {}", lacking.join("; "));
    match arguments.record {
        Some(document) => bench.report.record(&document, &machine, mode),
        None => Ok(()),
    }
}

/// Runs the sections that are wanted; what is lacking in the end.
async fn measure_all(bench: &mut Bench, arguments: &Arguments) -> Vec<String> {
    let mut lacking = Vec::new();
    if bench.peer.is_none() && !arguments.quick && arguments.wants("append") {
        lacking.push("append has nothing of postgres-es".to_owned());
    }
    let began = Instant::now();
    for name in SECTIONS.iter().filter(|name| arguments.wants(name)) {
        let started = Instant::now();
        println!("\n{name} (after {} s)", began.elapsed().as_secs());
        // The other sections still have something to say, even after a panic of what the tests and this program share.
        let ended = AssertUnwindSafe(section(name, bench)).catch_unwind().await;
        if let Err(error) = ended.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))) {
            bench.report.note(format!("{name} could not be measured to its end: {error:#}"));
            lacking.push(format!("{name} did not come to its end"));
        }
        println!("  took {:.0} s", started.elapsed().as_secs_f64());
    }
    lacking
}

async fn section(name: &str, bench: &mut Bench) -> Result<()> {
    match name {
        "append" => append::run(bench).await,
        "edge" => edge::run(bench).await,
        "payments" => payments::run(bench).await,
        "relay" => relay::run(bench).await,
        "live" => live::run(bench).await,
        "replay" => replay::run(bench).await,
        "import" => history::run(bench).await,
        "growth" => growth::run(bench).await,
        "peak" => peak::run(bench).await,
        "terminals" => terminals::run(bench).await,
        _ => waste::run(bench).await,
    }
}
