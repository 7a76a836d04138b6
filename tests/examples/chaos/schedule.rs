//! What breaks when, and for how long: drawn from the seed.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    dice::Dice,
    plan::{End, Fault, Line, Part, ROLES, Thing, lines},
};

/// Faults at the same time.
#[derive(Debug, Clone)]
pub struct Round {
    pub faults: Vec<Fault>,
    pub hold: Duration,
    /// Afterwards.
    pub rest: Duration,
}

/// What this machine and build allow.
#[derive(Debug, Clone, Copy)]
pub struct Means {
    /// File systems of the run's own can be mounted.
    pub disks: bool,
    /// The programs have fail points.
    pub fail_points: bool,
}

impl Means {
    fn allow(self, fault: Fault) -> bool {
        let disks = matches!(fault, Fault::PostgresDiskFull | Fault::NatsDiskFull | Fault::PowerLoss);
        (self.disks || !disks) && (self.fail_points || !matches!(fault, Fault::FailPoint(..)))
    }
}

/// Every kind with everything that it can take hold of; a run draws from it.
fn everything() -> Vec<Vec<Fault>> {
    let parts = [&ROLES[..], &[Part::Bank]].concat();
    let each = |of: &[Part], fault: fn(Part) -> Fault| of.iter().map(|part| fault(*part)).collect::<Vec<_>>();
    let on = |fault: fn(Line) -> Fault| lines().into_iter().map(fault).collect::<Vec<_>>();
    let databases = |fault: fn(Line) -> Fault| ROLES.iter().map(|part| fault((*part, End::Postgres))).collect::<Vec<_>>();
    let point = |(part, names): (Part, &[&'static str])| names.iter().map(|name| Fault::FailPoint(part, name)).collect::<Vec<_>>();
    let at_gateway = ["before_call", "before_outcome", "after_outcome", "before_webhook", "before_webhook_answer"];
    let trouble = |fault| ["start", "inquire", "refund"].map(|operation| Fault::BankTrouble(operation, fault)).to_vec();
    let mut all = parts.iter().map(|part| vec![Fault::Kill(*part)]).collect::<Vec<_>>();
    all.extend([
        each(&ROLES, Fault::Terminate),
        each(&parts, Fault::Pause),
        each(&ROLES, Fault::Starve),
        each(&[Part::Api, Part::Gateway], Fault::FewFiles),
        vec![Fault::Twin(Part::Relay)],
        each(&[Part::Worker, Part::Gateway], Fault::Twin),
        vec![
            Fault::Skew(Part::Api, 3_600),
            Fault::Skew(Part::Relay, -3_600),
            Fault::Skew(Part::ProjectorA, 3_600),
            Fault::Skew(Part::ProjectorB, -3_600),
            Fault::Skew(Part::Worker, 3),
            Fault::Skew(Part::Gateway, -3),
        ],
        [point((Part::Gateway, &at_gateway)), point((Part::Worker, &["before_task"]))].concat(),
        vec![Fault::PostgresKilled],
        vec![Fault::PostgresStopped],
        vec![Fault::BackendKilled],
        vec![Fault::PostgresPaused],
        vec![Fault::HeadLocked],
        vec![Fault::FewConnections],
        vec![Fault::PostgresDiskFull],
        vec![Fault::NatsKilled],
        vec![Fault::NatsPaused],
        vec![Fault::NatsWiped],
        vec![Fault::StreamDeleted],
        vec![Fault::NatsBitFlipped],
        vec![Fault::NatsOlder],
        vec![Fault::NatsDiskFull],
        on(Fault::Cut),
        [on(Fault::CutUp), on(Fault::CutDown)].concat(),
        [on(|line| Fault::Slow(line, 50)), on(|line| Fault::Slow(line, 400)), on(|line| Fault::Slow(line, 2_000))].concat(),
        on(Fault::Refused),
        [on(|line| Fault::Narrow(line, 32_000)), on(|line| Fault::Narrow(line, 4_000))].concat(),
        databases(Fault::AnswersLost),
        ["timeout_after", "reset_after"].into_iter().flat_map(trouble).collect(),
        ["http_500", "http_429", "cut_body", "not_json", "slow", "trouble_after", "token_expired"].into_iter().flat_map(trouble).collect(),
    ]);
    all
}

/// Kinds that are never drawn on this machine, by their first fault.
pub fn impossible(means: Means) -> Vec<&'static str> {
    let first = everything().into_iter().filter_map(|kind| kind.first().copied());
    let mut names: Vec<_> = first.chain([Fault::PowerLoss]).filter(|fault| !means.allow(*fault)).map(|fault| fault.kind().0).collect();
    names.dedup();
    names
}

/// Every kind once, alone and in pairs by turns, with one loss of power; in an order and with victims by the seed.
pub fn smoke(dice: &mut Dice, means: Means) -> Vec<Round> {
    let mut faults: Vec<Fault> = everything().iter().map(|kind| *dice.pick(kind)).chain([Fault::PowerLoss]).collect();
    faults.retain(|fault| means.allow(*fault));
    dice.shuffle(&mut faults);
    let mut rounds: Vec<Round> = Vec::new();
    while let Some(first) = faults.pop() {
        let mut together = vec![first];
        let taken: BTreeSet<Thing> = first.things().into_iter().collect();
        let fits = |fault: &Fault| *fault != Fault::PowerLoss && fault.things().iter().all(|thing| !taken.contains(thing));
        if !rounds.len().is_multiple_of(3)
            && first != Fault::PowerLoss
            && let Some(at) = faults.iter().position(fits)
        {
            together.push(faults.remove(at));
        }
        let (hold, rest) = (dice.between(1_200, 2_400), dice.between(200, 500));
        rounds.push(Round { faults: together, hold: Duration::from_millis(hold), rest: Duration::from_millis(rest) });
    }
    rounds
}

/// The next of a run without end: one to three faults for one to fifteen seconds, one in twenty a loss of power, one in fifty a
/// database that is restored to its backup.
pub fn next(dice: &mut Dice, means: Means) -> Round {
    let kinds = everything();
    let draw = |dice: &mut Dice| {
        let kind = dice.pick(&kinds).clone();
        *dice.pick(&kind)
    };
    let special = dice.below(100);
    let (mut faults, count) = match special {
        0..=1 => (vec![Fault::Restored], 1),
        2..=6 if means.disks => (vec![Fault::PowerLoss], 1),
        _ => (Vec::new(), [1, 1, 1, 1, 1, 2, 2, 2, 2, 3][usize::try_from(dice.below(10)).unwrap_or(0)]),
    };
    while faults.len() < count {
        let fault = draw(dice);
        let taken: BTreeSet<Thing> = faults.iter().flat_map(|fault| fault.things()).collect();
        if means.allow(fault) && fault.things().iter().all(|thing| !taken.contains(thing)) {
            faults.push(fault);
        }
    }
    // A pause beyond the thirty seconds of an acknowledgement, now and then.
    let longest = longest(dice);
    let hold = if faults.contains(&Fault::NatsPaused) && dice.percent(20) { 40_000 } else { dice.between(1_000, longest) };
    Round { faults, hold: Duration::from_millis(hold), rest: Duration::from_millis(dice.between(300, 2_500)) }
}

/// Short ones are more frequent: more faults in the same time.
const fn longest(dice: &mut Dice) -> u64 {
    match dice.below(4) {
        0 | 1 => 3_000,
        2 => 5_000,
        _ => 15_000,
    }
}
