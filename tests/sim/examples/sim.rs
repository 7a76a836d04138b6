//! Runs schedules: `sim --seeds 1000`, `sim --seed 42` (replays and prints), `sim --saboteurs` (each but `WipesCheckpointOnly` must be caught
//! within 2,000 schedules).
#![expect(clippy::expect_used, reason = "a thread that panicked is a bug of the simulator, and ends it")]

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use sim::{
    counters,
    run::{Outcome, run},
    sabotage::Saboteur,
    schedule::Schedule,
    shrink::shrink,
};

/// As in the product's program: a fifth of the time went into the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Schedules within which every saboteur has to be caught.
const SABOTEUR_SEEDS: u64 = 2_000;
/// Runs that shrinking may take.
const SHRINK_TRIES: u32 = 400;

#[path = "../paused.rs"]
mod paused;
use paused::paused;

fn simulate(schedule: &Schedule, sabotage: Option<Saboteur>) -> Outcome {
    run(&paused(schedule.seed), schedule, sabotage, false)
}

struct Options {
    seeds: u64,
    first: u64,
    seed: Option<u64>,
    payments: u64,
    threads: u64,
    saboteurs: bool,
}

const USAGE: &str = "\
sim [--seeds N] [--first N] [--payments N] [--threads N]     schedules by consecutive seeds (1000 from 0, about 100 payments each)
sim --seed N [--payments N]                                  one schedule, printed; a failing one is shrunk
sim --saboteurs [--payments N] [--threads N]                 every broken promise has to be caught";

fn usage(problem: &str) -> ! {
    eprintln!("{problem}\n\n{USAGE}");
    std::process::exit(2);
}

fn options() -> Options {
    let mut options = Options { seeds: 1_000, first: 0, seed: None, payments: 100, threads: processors(), saboteurs: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse().ok()).unwrap_or_else(|| usage(&format!("{word} needs a number")));
        match word.as_str() {
            "--seeds" => options.seeds = number(),
            "--first" => options.first = number(),
            "--seed" => options.seed = Some(number()),
            "--payments" => options.payments = number(),
            "--threads" => options.threads = number(),
            "--saboteurs" => options.saboteurs = true,
            "--help" | "-h" => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            other => usage(&format!("'{other}' is not an option")),
        }
    }
    options
}

fn processors() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| u64::try_from(count.get()).unwrap_or(1))
}

/// Does the pieces of work `from` to `to` - 1 on as many threads.
fn side_by_side(threads: u64, from: u64, to: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(from);
    let take = || Some(next.fetch_add(1, Ordering::SeqCst)).filter(|piece| *piece < to);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(piece) = take() {
                    work(piece);
                }
            });
        }
    });
}

fn main() {
    let options = options();
    let bad = if let Some(seed) = options.seed {
        replay(seed, options.payments)
    } else if options.saboteurs {
        saboteurs(&options)
    } else {
        batch(&options)
    };
    std::process::exit(i32::from(bad));
}

/// Replays one seed: prints the schedule, the history's hash and what it violated; a failing one is shrunk.
fn replay(seed: u64, payments: u64) -> bool {
    let schedule = Schedule::of(seed, payments);
    println!("{schedule:#?}");
    let outcome = run(&paused(seed), &schedule, None, true);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    println!("seed {seed}: {} steps, {} events, {} payments, history {}", outcome.steps, outcome.events, outcome.payments, outcome.hash);
    if outcome.violations.is_empty() {
        return false;
    }
    outcome.violations.iter().for_each(|violation| println!("VIOLATED {violation}"));
    let what = outcome.violations[0].split(':').next().unwrap_or_default().to_owned();
    let fails = |candidate: &Schedule| simulate(candidate, None).violations.iter().any(|violation| violation.starts_with(&what));
    let smallest = shrink(&schedule, SHRINK_TRIES, fails);
    println!("smallest schedule that still violates {what}:\n{smallest:#?}");
    simulate(&smallest, None).violations.iter().for_each(|violation| println!("VIOLATED {violation}"));
    true
}

#[derive(Default)]
struct Totals {
    steps: u64,
    payments: u64,
    events: u64,
    counters: BTreeMap<&'static str, u64>,
    failed: Vec<(u64, Vec<String>)>,
}

fn batch(options: &Options) -> bool {
    let (totals, began) = (Mutex::new(Totals::default()), Instant::now());
    side_by_side(options.threads, options.first, options.first + options.seeds, |seed| {
        let outcome = simulate(&Schedule::of(seed, options.payments), None);
        let mut totals = totals.lock().expect("nobody panicked");
        totals.steps += outcome.steps;
        totals.payments += outcome.payments;
        totals.events += outcome.events;
        outcome.counters.into_iter().for_each(|(name, count)| *totals.counters.entry(name).or_default() += count);
        if !outcome.violations.is_empty() {
            totals.failed.push((seed, outcome.violations));
        }
    });
    report(options, &totals.into_inner().expect("nobody panicked"), began.elapsed().as_secs_f64())
}

#[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "rates for people to read")]
fn report(options: &Options, totals: &Totals, seconds: f64) -> bool {
    for (seed, violations) in totals.failed.iter().take(20) {
        println!("seed {seed}: {} violations, first {}", violations.len(), violations[0]);
    }
    let never: Vec<&str> = counters::ALL.into_iter().filter(|name| totals.counters.get(name).copied().unwrap_or(0) == 0).collect();
    let per_core = options.seeds as f64 / seconds * 60.0 / options.threads as f64;
    println!(
        "{} schedules in {seconds:.1} s on {} threads: {per_core:.0} a minute and core; {} payments, {} events, {} steps, {:.1} us a step and core",
        options.seeds,
        options.threads,
        totals.payments,
        totals.events,
        totals.steps,
        seconds * 1e6 * options.threads as f64 / totals.steps.max(1) as f64,
    );
    println!(
        "{} schedules violated an invariant; {} of {} counters never moved: {never:?}",
        totals.failed.len(),
        never.len(),
        counters::ALL.len()
    );
    !totals.failed.is_empty() || !never.is_empty()
}

/// Each saboteur has to be caught; says after how many schedules.
fn saboteurs(options: &Options) -> bool {
    let chosen: Vec<Saboteur> = Saboteur::ALL.iter().copied().filter(|one| one.is_provoked()).collect();
    let missed = Mutex::new(Vec::new());
    side_by_side(options.threads, 0, u64::try_from(chosen.len()).unwrap_or(0), |piece| {
        let Some(saboteur) = usize::try_from(piece).ok().and_then(|piece| chosen.get(piece)) else { return };
        let caught = (0..SABOTEUR_SEEDS).find_map(|seed| {
            let outcome = simulate(&Schedule::of(seed, options.payments), Some(*saboteur));
            outcome.violations.first().cloned().map(|violation| (seed + 1, violation))
        });
        if let Some((schedules, violation)) = caught {
            println!("{saboteur:?}: caught by schedule {schedules}: {violation}");
        } else {
            println!("{saboteur:?}: NOT caught within {SABOTEUR_SEEDS} schedules");
            missed.lock().expect("nobody panicked").push(*saboteur);
        }
    });
    let missed = missed.into_inner().expect("nobody panicked");
    println!("{} of {} saboteurs, {} not caught: {missed:?}", chosen.len(), Saboteur::ALL.len(), missed.len());
    !missed.is_empty()
}
