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
