//! `make chaos`: the whole platform as processes of their own, behind proxies, broken by a seed under load; then every promise is
//! checked. See `docs/reliability.md`.
//!
//! **To add a fault**: a variant of [`plan::Fault`] with its kind and what it takes hold of, a line in `schedule::everything`, how it is
//! made and unmade in `faults.rs`.

mod behind;
mod clients;
mod db;
mod dice;
mod disks;
mod faults;
mod journal;
mod measure;
#[path = "../../sim/src/model.rs"]
mod model;
mod money;
mod plan;
mod report;
mod role;
mod schedule;
mod servers;
mod till;
mod verdict;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;
use clients::Counter;
use dice::Dice;
use journal::{Entry, Journal};
use measure::Measure;
use plan::{Fault, Thing};
use report::{Report, Struck};
use schedule::Round;
use tokio::task::JoinSet;
use verdict::{Anchors, Verdict};
use world::World;

/// How long tills have to finish what they began, once nothing is broken any more: one may wait for a hundred seconds for a code, and
/// then for a minute for a refund.
const CLOSES_WITHIN: Duration = Duration::from_secs(300);

/// Breaks real processes under load and checks that every promise holds. Exits 1 when one does not.
#[derive(Parser)]
#[command(
    after_help = "The same seed breaks the same things in the same order; what the processes make of it is theirs. Needs root for the faults of\ndisks; without it they are left out, and the report says so."
)]
struct Arguments {
    /// Seed of the plan and the load; one by the time of day unless told, and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// How long to break things.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Every kind of fault once, then as they come, three minutes with start and end.
    #[arg(long)]
    smoke: bool,
    /// In the end NATS is wiped while the read models are so many events behind; 0 leaves it out, as a smoke does.
    #[arg(long, default_value_t = 100_000)]
    behind: u64,
    /// Where the report goes, and after a violation the logs.
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "role") {
        return role::main(&words).await.map(|()| ExitCode::SUCCESS);
    }
    let arguments = Arguments::parse();
    let clock = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
    let seed = arguments.seed.unwrap_or(clock % 1_000_000);
    println!("chaos --seed {seed}{}", if arguments.smoke { " --smoke".to_owned() } else { format!(" --minutes {}", arguments.minutes) });
    let measure = Arc::new(Measure::default());
    let run = Run::start(seed, arguments.smoke, &measure).await?;
    let until = Duration::from_secs(arguments.minutes * 60);
    let behind = if arguments.smoke { 0 } else { arguments.behind };
    let report = run.whole(until, behind, &arguments.out).await?;
    report.write(&measure, &arguments.out)?;
    Ok(if measure.violations().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A smoke breaks things until then; start and end included it takes three minutes.
const SMOKE_BREAKS_FOR: Duration = Duration::from_secs(155);

/// A run under way.
struct Run {
    world: World,
    counter: Counter,
    tills: JoinSet<Result<()>>,
    dice: Dice,
    seed: u64,
    smoke: bool,
    began: Instant,
    struck: Vec<Struck>,
    not_made: Vec<String>,
    anchors: Anchors,
    /// One more than the database was restored.
    era: u64,
}

impl Run {
    async fn start(seed: u64, smoke: bool, measure: &Arc<Measure>) -> Result<Self> {
        let (began, dice) = (Instant::now(), Dice::new(seed));
        let world = World::start(seed, measure.clone()).await?;
        if let Some(why) = &world.no_disks {
            println!("  faults of disks are left out: {why}");
        }
        let journal = Journal::create(&world.dir().join("journal.jsonl"))?;
        let counter = Counter::open(&world, journal).await?;
        let tills = counter.trade(&dice, 1);
        println!("  everything serves after {} s", began.elapsed().as_secs());
        Ok(Self {
            world,
            counter,
            tills,
            dice,
            seed,
            smoke,
            began,
            struck: Vec::new(),
            not_made: Vec::new(),
            anchors: Anchors::new(),
            era: 1,
        })
    }

    /// Breaks what the plan says, lets everything come to rest, and judges.
    async fn whole(mut self, until: Duration, behind: u64, out: &Path) -> Result<Report> {
        let means = self.world.means();
        if self.smoke {
            let mut rounds = schedule::smoke(&mut self.dice.clone(), means);
            rounds.push(Round { faults: vec![Fault::Restored], hold: Duration::ZERO, rest: Duration::from_secs(3) });
            let (backup, restore) = (rounds.len() / 2, rounds.len() * 2 / 3);
            let last = rounds.len() - 1;
            rounds.swap(restore, last);
            for (n, round) in rounds.into_iter().enumerate() {
                if n == backup {
                    servers::back_up(&mut self.world).await?;
                }
                self.round(round).await?;
            }
            let mut dice = self.dice.fork(u64::MAX);
            while self.began.elapsed() < SMOKE_BREAKS_FOR {
                let round = schedule::next(&mut dice, means);
                // Its backup has been used.
                if round.faults != [Fault::Restored] {
                    self.round(round).await?;
                }
            }
        } else {
            let mut dice = self.dice.fork(u64::MAX);
            let mut backed_up: Option<Instant> = None;
            while self.began.elapsed() < until {
                if backed_up.is_none_or(|since| since.elapsed() > Duration::from_secs(180)) {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    servers::back_up(&mut self.world).await?;
                    backed_up = Some(Instant::now());
                }
                let round = schedule::next(&mut dice, means);
                if round.faults == [Fault::Restored] {
                    backed_up = None;
                }
                self.round(round).await?;
            }
        }
        self.end(behind, out).await
    }

    async fn round(&mut self, round: Round) -> Result<()> {
        let at = self.began.elapsed();
        let words: Vec<String> = round.faults.iter().map(|fault| fault.words()).collect();
        if round.faults == [Fault::Restored] {
            self.restore().await?;
        } else {
            self.strike(&round).await?;
        }
        let beside = round.faults.len() - 1;
        let held = self.began.elapsed().saturating_sub(at);
        self.struck.extend(round.faults.iter().map(|fault| Struck::new(*fault, at, held, beside)));
        println!("  {:>5} s  {}  ({} acknowledged)", at.as_secs(), words.join(" + "), self.world.measure.count());
        self.rest(round.rest).await;
        Ok(())
    }

    /// Makes the faults of a round, holds them, and heals.
    async fn strike(&mut self, round: &Round) -> Result<()> {
        self.world.measure.broken(round.faults.iter().map(|fault| fault.kind().0).collect());
        let mut broken = Vec::new();
        for fault in &round.faults {
            match faults::inject(&mut self.world, *fault).await {
                Ok(made) => broken.push(made),
                Err(error) => self.not_made.push(format!("{}: {error:#}", fault.words())),
            }
        }
        let until = Instant::now() + round.hold;
        while Instant::now() < until {
            for made in &broken {
                faults::again(&self.world, made);
            }
            self.rest(Duration::from_millis(250).min(until.saturating_duration_since(Instant::now()))).await;
        }
        // Servers first: what is started again needs them.
        broken.sort_by_key(|made| made.fault.things().first().map(|thing| matches!(thing, Thing::Part(_) | Thing::Line(_))));
        for made in broken {
            let words = made.fault.words();
            faults::heal(&mut self.world, made).await.with_context(|| format!("{words} cannot be healed"))?;
        }
        self.recovered(round).await;
        self.world.measure.broken(Vec::new());
        Ok(())
    }

    /// Waits until everything serves again, and notes how long that took.
    async fn recovered(&mut self, round: &Round) {
        let alone = round.faults.len() == 1;
        for fault in &round.faults {
            for thing in fault.things() {
                let Thing::Part(part) = thing else { continue };
                let restarted = matches!(fault, Fault::Kill(_) | Fault::Terminate(_) | Fault::Skew(..) | Fault::FailPoint(..));
                match self.world.serves(part).await {
                    Ok(after) if alone && restarted => self.world.measure.serves(part.name(), after),
                    Ok(_) => {}
                    Err(error) => self.world.measure.violated("I8", format!("after {}: {error:#}", fault.words())),
                }
            }
        }
        match self.world.ready().await {
            Ok(after) => self.world.measure.serves("edge", after),
            Err(error) => self.world.measure.violated("I8", format!("after {}: {error:#}", round.faults[0].words())),
        }
        if let Err(error) = self.world.revive() {
            self.world.measure.violated("I8", format!("after {}: {error:#}", round.faults[0].words()));
        }
    }

    /// The database goes back to its backup under the running platform; tills walk away from what they were doing, others come.
    async fn restore(&mut self) -> Result<()> {
        self.tills.shutdown().await;
        let before = commands::event_store::log_head(&self.world.log).await?.pos;
        let head = servers::restore(&mut self.world).await?;
        self.anchors.retain(|position, _| *position <= head);
        self.counter.journal.write(Entry::Restored { head }).await?;
        println!("           the log went back from {before} to {head}");
        self.era += 1;
        self.tills = self.counter.trade(&self.dice, self.era);
        if let Err(error) = self.world.ready().await {
            self.world.measure.violated("I8", format!("after a restore: {error:#}"));
        }
        Ok(())
    }

    /// Lets time pass, and notes where the chain ends meanwhile.
    async fn rest(&mut self, time: Duration) {
        let until = Instant::now() + time;
        self.anchors.extend(verdict::anchor(&self.world.log).await);
        tokio::time::sleep(until.saturating_duration_since(Instant::now())).await;
    }

    async fn end(mut self, behind: u64, out: &Path) -> Result<Report> {
        let (measure, means) = (self.world.measure.clone(), self.world.means());
        self.counter.closing.store(true, Ordering::Relaxed);
        let closed = tokio::time::timeout(CLOSES_WITHIN, async {
            while let Some(till) = self.tills.join_next().await {
                till??;
            }
            anyhow::Ok(())
        });
        match closed.await {
            Ok(closed) => closed?,
            Err(_) => measure.violated("I8", format!("sales do not end within {CLOSES_WITHIN:?} after everything was healed")),
        }
        let mut caught_up = None;
        if behind > 0 {
            match behind::catch_up(&mut self.world, behind).await {
                Ok(caught) => caught_up = Some(caught),
                Err(error) => measure.violated("I8", format!("NATS wiped far behind: {error:#}")),
            }
        }
        let last_sale = tokio::time::timeout(CLOSES_WITHIN, self.counter.sale_each(self.era)).await;
        let last_sale = last_sale.ok().transpose()?;
        if last_sale.is_none() {
            measure.violated("I8", "a new sale does not come to its end");
        }
        println!("  {:>5} s  everything is healed and sold; the verdict", self.began.elapsed().as_secs());
        let verdict = verdict::judge(&self.world, &self.counter, &self.anchors, self.era - 1).await;
        let verdict = verdict.unwrap_or_else(|error| {
            measure.violated("I8", format!("it cannot be judged: {error:#}"));
            Verdict::default()
        });
        if !measure.violations().is_empty() {
            keep(&self.world, &out.join(self.seed.to_string()))?;
        }
        let Self { seed, smoke, began, struck, not_made, era, world, .. } = self;
        let no_disks = world.no_disks.clone();
        Ok(Report {
            seed,
            smoke,
            took: began.elapsed(),
            means,
            no_disks,
            struck,
            not_made,
            restores: era - 1,
            verdict,
            last_sale,
            caught_up,
        })
    }
}

/// Logs, journal and books, for whoever looks why.
fn keep(world: &World, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let roles = fs::read_dir(world.dir().join("roles"))?.flatten().map(|entry| entry.path());
    let logs = roles.filter(|path| path.extension().is_some_and(|end| end == "log"));
    let more = ["journal.jsonl", "ledger.jsonl", "data/postgres.log", "data/nats.log"].map(|name| world.dir().join(name));
    for path in logs.chain(more).filter(|path| path.is_file()) {
        fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
    }
    let dump = "copy (select pos, tenant, stream_type, stream_id, version, type, actor, recorded_at, convert_from(payload, 'UTF8') from log.event order by pos) to stdout";
    let events = fs::File::create(to.join("events.tsv"))?;
    let psql = std::process::Command::new("psql").arg(world.embedded.admin_url()).args(["-c", dump]).stdout(events).status();
    if !psql.is_ok_and(|status| status.success()) {
        println!("  the events could not be kept: psql");
    }
    println!("  logs are kept in {}", to.display());
    Ok(())
}
