//! What a run says in the end: one JSON document, and a short table.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    behind::CaughtUp,
    measure::{Measure, Spread},
    plan::Fault,
    schedule::{self, Means},
    verdict::Verdict,
};

/// A fault as it was.
#[derive(Debug, Clone, Serialize)]
pub struct Struck {
    pub at_ms: u64,
    pub fault: String,
    pub kind: &'static str,
    pub catalogue: &'static str,
    pub held_ms: u64,
    /// Others at the same time.
    pub beside: usize,
}

impl Struck {
    /// One of a round.
    pub fn new(fault: Fault, at: Duration, held: Duration, beside: usize) -> Self {
        let (kind, catalogue) = fault.kind();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { at_ms: ms(at), fault: fault.words(), kind, catalogue, held_ms: ms(held), beside }
    }
}

/// Everything that a run knows of itself.
pub struct Report {
    pub seed: u64,
    pub smoke: bool,
    pub took: Duration,
    pub means: Means,
    pub no_disks: Option<String>,
    pub struck: Vec<Struck>,
    /// Faults that could not be made, and why.
    pub not_made: Vec<String>,
    pub restores: u64,
    pub verdict: Verdict,
    /// The last sale of each merchant, from beginning to end.
    pub last_sale: Option<Duration>,
    /// After NATS was wiped far behind.
    pub caught_up: Option<CaughtUp>,
}

/// Whether a spread's hundredth worst is at most this; nothing when nothing was measured.
fn within(spread: Option<&Spread>, most_ms: u64) -> Option<bool> {
    spread.map(|spread| spread.p99_ms <= most_ms)
}

impl Report {
    fn json(&self, measure: &Measure) -> Value {
        let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
        self.struck.iter().for_each(|struck| *by_kind.entry(struck.kind).or_default() += 1);
        let (by_count, starts) = (measure.by_count(), measure.starts());
        let restarts = starts.iter().filter(|(part, _)| **part != "edge");
        let Verdict { rested_after, events, epoch, acknowledged, taken_back, asked, payments, refunds, messages } = &self.verdict;
        json!({
            "seed": self.seed,
            "mode": if self.smoke { "smoke" } else { "long" },
            "build": if cfg!(debug_assertions) { "debug" } else { "release" },
            "took_s": self.took.as_secs(),
            "faults": {"total": self.struck.len(), "by_kind": by_kind, "each": self.struck, "not_made": self.not_made},
            "not_on_this_machine": {"kinds": schedule::impossible(self.means), "why": self.no_disks},
            "restores": self.restores,
            "commands": {"asked": asked, "acknowledged": acknowledged, "taken_back_by_restores": taken_back, "tries": measure.tries()},
            "answer_ms": {"by_number_of_faults": by_count, "by_kind": measure.by_kind()},
            "until_acknowledged_ms": measure.until_acknowledged(),
            "serves_again_ms": starts,
            "nats_wiped_far_behind": self.caught_up.map(|caught| json!({"events": caught.events, "caught_up_ms": caught.took.as_millis()})),
            "targets": {
                "restart_within_3_s": restarts.map(|(_, spread)| spread.p99_ms).max().map(|worst| worst <= 3_000),
                "p99_one_fault_250_ms": within(by_count.get("one fault"), 250),
                "p99_two_faults_1_s": within(by_count.get("two faults"), 1_000),
                "caught_up_within_30_s": self.caught_up.map(|caught| caught.took <= Duration::from_secs(30)),
            },
            "end": {
                "rested_after_ms": rested_after.map(|time| time.as_millis()),
                "last_sales_ms": self.last_sale.map(|time| time.as_millis()),
                "events": events, "epoch": epoch, "provider_payments": payments, "provider_refunds": refunds, "messages_compared": messages,
            },
            "seen": measure.sights(),
            "violations": measure.violations(),
        })
    }

    /// Writes the document and prints the table.
    pub fn write(&self, measure: &Measure, dir: &Path) -> Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("{}.json", self.seed));
        fs::write(&path, serde_json::to_vec_pretty(&self.json(measure))?)?;
        let Verdict { acknowledged, taken_back, events, payments, rested_after, .. } = &self.verdict;
        println!("\n  {} faults, {} restores in {} s", self.struck.len(), self.restores, self.took.as_secs());
        println!("  {acknowledged} acknowledged commands held, {taken_back} taken back by restores; {events} events, {payments} payments");
        if let Some(rested) = rested_after {
            println!("  at rest {} ms after the last sale", rested.as_millis());
        }
        if let Some(caught) = self.caught_up {
            println!("  NATS wiped {} events behind: caught up in {} ms", caught.events, caught.took.as_millis());
        }
        let line = |name: &str, what: &str, spread: &Spread| {
            println!(
                "  {what:<22} {name:<34} p50 {:>6} ms  p99 {:>6} ms  max {:>6} ms  of {}",
                spread.p50_ms, spread.p99_ms, spread.max_ms, spread.count
            );
        };
        measure.by_count().iter().for_each(|(name, spread)| line(name, "answered in", spread));
        measure.until_acknowledged().iter().for_each(|(name, spread)| line(name, "acknowledged in", spread));
        measure.starts().iter().for_each(|(name, spread)| line(name, "serves again in", spread));
        let violations = measure.violations();
        println!("  {} violations; {}", violations.len(), path.display());
        for violation in &violations {
            println!("  ! {violation}");
        }
        Ok(path)
    }
}
