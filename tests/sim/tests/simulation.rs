//! What the simulator promises about itself. The large batches run as a program: `make sim`.
#![cfg(tokio_unstable)]

use std::collections::BTreeSet;

use sim::{
    run::{Outcome, run},
    sabotage::Saboteur,
    schedule::{Break, Schedule},
    shrink::shrink,
};

#[path = "../paused.rs"]
mod paused;

const PAYMENTS: u64 = 12;

fn simulate(schedule: &Schedule, sabotage: Option<Saboteur>) -> Outcome {
    run(&paused::paused(schedule.seed), schedule, sabotage, false)
}

#[test]
fn the_same_seed_gives_the_same_history_and_another_seed_another_one() {
    let mut hashes = BTreeSet::new();
    for seed in 0..12 {
        let schedule = Schedule::of(seed, PAYMENTS);
        let (one, again) = (simulate(&schedule, None), simulate(&schedule, None));
        assert_eq!(one.violations, Vec::<String>::new(), "seed {seed}");
        assert_eq!((one.hash.clone(), one.steps), (again.hash, again.steps), "seed {seed}");
        assert!(hashes.insert(one.hash), "seed {seed} is like another");
    }
}

#[test]
fn a_dropped_deduplication_is_caught_and_its_schedule_shrinks() {
    let seed = (0..200).find(|seed| !simulate(&Schedule::of(*seed, PAYMENTS), Some(Saboteur::DropsDedup)).violations.is_empty());
    let schedule = Schedule::of(seed.expect("one of two hundred schedules catches it"), PAYMENTS);
    let fails = |candidate: &Schedule| !simulate(candidate, Some(Saboteur::DropsDedup)).violations.is_empty();
    let smallest = shrink(&schedule, 300, fails);
    assert!(fails(&smallest));
    let sales = |schedule: &Schedule| schedule.clients.iter().map(Vec::len).sum::<usize>();
    assert!(sales(&smallest) < sales(&schedule) && smallest.breaks.len() <= schedule.breaks.len());
}

#[test]
fn a_restored_database_is_noticed_and_everything_follows_it() {
    let mut seen = 0;
    for seed in 0..6 {
        let mut schedule = Schedule::of(seed, PAYMENTS);
        schedule.breaks = vec![(3_000, Break::Backup), (7_000, Break::DatabaseRestored)];
        let outcome = simulate(&schedule, None);
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        seen += outcome.counters["epoch raised"];
    }
    assert!(seen > 0, "no schedule had the bus ahead of the log");
}

#[test]
fn a_process_without_faults_stops_in_order_and_lets_go_of_what_it_was_handed_too_late() {
    let (mut in_order, mut let_go) = (0, 0);
    // Forty, and as many more as it takes to stop one in that very moment.
    for seed in 0..1_000 {
        if seed >= 40 && let_go > 0 {
            break;
        }
        let mut schedule = Schedule::of(seed, PAYMENTS);
        schedule.knobs.clear();
        schedule.breaks = (0..12).map(|n| (1_500 + 900 * n, Break::Stop(7, 100))).collect();
        let outcome = simulate(&schedule, None);
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        assert_eq!(outcome.counters["process stopped before it was done"], 0, "seed {seed}");
        in_order += outcome.counters["process stopped in order"];
        let_go += outcome.counters["task that was handed over let go of"];
    }
    assert!(in_order > 100, "{in_order}");
    assert!(let_go > 0, "no schedule stopped a worker between a task being stored and handed over");
}
