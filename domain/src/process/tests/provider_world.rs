//! An intent, its process manager and its worker against a provider that answers late, never, or refuses after having charged.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    decider::Aggregate,
    ids::{AttemptId, Ulid},
    money::Money,
    payment_intent::{self, Command, Created, NewAttempt, PaymentIntent, Status, Tender},
    provider::{AttemptStatus, AttemptView, CallOutcome, Decline, PaymentSeen},
};

/// Seconds that an attempt is good for.
const VALID: i64 = 600;

fn id<T: From<Ulid>>(n: u128) -> T {
    Ulid::from(n).into()
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + chrono::Duration::seconds(second)
}

/// What becomes of one call that begins an attempt.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Charged,
    /// A key that was rolled, a token that was used up: says nothing of earlier calls.
    Refused,
    NotSent,
    /// No answer came for so many seconds.
    Lost {
        seconds: i64,
        /// It charged all the same, after so many of them, and hid that for so long.
        effect: Option<(i64, i64)>,
    },
}

fn some_fate() -> impl Strategy<Value = Fate> {
    let lost = (0..=30_i64, prop::option::of((0..=30_i64, 0..=120_i64)));
    prop_oneof![
        1 => Just(Fate::Charged),
        2 => Just(Fate::Refused),
        1 => Just(Fate::NotSent),
        4 => lost.prop_map(|(seconds, effect)| Fate::Lost { seconds, effect: effect.map(|(after, hidden)| (after.min(seconds), hidden)) }),
    ]
}

enum Action {
    Do(Task),
    /// A call that began an attempt ends.
    End(work::Start, CallOutcome<AttemptView>),
    /// The shop asks to stop.
    Cancel,
}

struct World {
    intent: payment_intent::State,
    /// What is due when, in the order in which it was put there.
    agenda: BTreeMap<(i64, u64), (String, Action)>,
    next: u64,
    attempts: u128,
    /// Of each charged attempt: since when the books show it.
    charges: BTreeMap<AttemptId, i64>,
    fates: Vec<Fate>,
    /// So many looks give no answer.
    silent_looks: u32,
}

impl World {
    fn new(fates: Vec<Fate>, silent_looks: u32, cancel_at: Option<i64>) -> Self {
        let intent = payment_intent::State::default();
        let (agenda, charges) = (BTreeMap::new(), BTreeMap::new());
        let mut world = Self { intent, agenda, next: 0, attempts: 0, charges, fates, silent_looks };
        let details = Created {
            payment_intent_id: id(1),
            store_id: id(2),
            bill_id: None,
            order_id: None,
            amount: Money::thb(100_00),
            tender: Tender::OnlineCard,
            expires_at: Some(at(VALID)),
            merchant_reference: None,
            description: None,
            merchant_terminal_id: None,
            terms: None,
        };
        world.tell(Command::Create(Box::new(details)), 0);
        if let Some(second) = cancel_at {
            world.put(second, "shop", Action::Cancel);
        }
        world.start_attempt(0);
        world
    }

    fn put(&mut self, second: i64, key: &str, action: Action) {
        self.next += 1;
        self.agenda.insert((second, self.next), (key.to_owned(), action));
    }

    fn start_attempt(&mut self, now: i64) {
        self.attempts += 1;
        let new = NewAttempt {
            attempt_id: id(self.attempts),
            provider: "omise".into(),
            provider_account: None,
            route: None,
            reference: format!("REF{}", self.attempts),
            card_token: Some("tokn_1".into()),
            manual_capture: false,
            return_url: None,
            started_at: at(now),
            expires_at: at(now + VALID),
        };
        self.tell(Command::StartAttempt(Box::new(new)), now);
    }

    fn tell(&mut self, command: Command, now: i64) {
        for event in PaymentIntent::decide(&self.intent, command).unwrap_or_default() {
            self.intent = PaymentIntent::evolve(std::mem::take(&mut self.intent), &event);
            let event = DomainEvent::PaymentIntent(event);
            let happened = Happened { tenant: id(1), stream_id: id(1), position: 1, recorded_at: at(now), event: &event };
            for intent in provider_calls::react(&happened) {
                if let Intent::Schedule { key, task, after_ms } = intent {
                    self.put(now + after_ms / 1_000, &key, Action::Do(task));
                }
            }
        }
    }

    /// As the worker does: the commands, then the task that follows under the same key.
    fn conclude(&mut self, key: &str, step: work::Step, now: i64) {
        for command in step.commands {
            let command = on_intent(command);
            self.tell(command, now);
        }
        if let Some((task, due)) = step.next {
            // Whole seconds, never earlier.
            let second = due.timestamp() + i64::from(due.timestamp_subsec_millis() > 0);
            self.put(second.max(now + 1), key, Action::Do(task));
        }
    }

    fn books(&self, attempt: &AttemptRef, now: i64) -> AttemptView {
        let seen = self.charges.get(&attempt.attempt_id).is_some_and(|shown| *shown <= now);
        let payment =
            PaymentSeen { transaction_id: attempt.reference.clone(), amount: attempt.amount, paid_at: at(now), refunded: 0, dispute: None };
        let provider_id = seen.then(|| attempt.reference.clone());
        let status = if seen { AttemptStatus::Paid } else { AttemptStatus::NotFound };
        AttemptView { provider_id, status, payments: if seen { vec![payment] } else { vec![] } }
    }

    fn look(&mut self, attempt: &AttemptRef, now: i64) -> CallOutcome<AttemptView> {
        if self.silent_looks > 0 {
            self.silent_looks -= 1;
            return CallOutcome::NotAttempted("away".into());
        }
        CallOutcome::Done(self.books(attempt, now))
    }

    fn begin(&mut self, key: &str, start: work::Start, now: i64) {
        let attempt = start.attempt.clone();
        let standing = self.intent.standing(attempt.attempt_id);
        if !work::may_start(standing, &attempt, at(now)) {
            return;
        }
        let fate = if self.fates.is_empty() { Fate::Charged } else { self.fates.remove(0) };
        // The same identifiers: it charges once, and shows it at once to whoever is answered.
        let (ends, outcome) = match fate {
            Fate::Charged => {
                self.charges.entry(attempt.attempt_id).and_modify(|shown| *shown = (*shown).min(now)).or_insert(now);
                (now, CallOutcome::Done(self.books(&attempt, now)))
            }
            Fate::Refused => (now, CallOutcome::Declined(Decline { code: "credentials_refused".into(), message: "HTTP 401".into() })),
            Fate::NotSent => (now, CallOutcome::NotAttempted("no connection".into())),
            Fate::Lost { seconds, effect } => {
                if let Some((after, hidden)) = effect {
                    self.charges.entry(attempt.attempt_id).or_insert(now + after + hidden);
                }
                (now + seconds, CallOutcome::Unknown("time-out".into()))
            }
        };
        self.put(ends, key, Action::End(start, outcome));
    }

    fn act(&mut self, key: &str, action: Action, now: i64) {
        match action {
            Action::Cancel => self.tell(Command::Cancel { reason: "pays cash".into() }, now),
            Action::End(start, outcome) => self.conclude(key, work::after_start(start, outcome, at(now)), now),
            Action::Do(Task::Start { attempt, card_token, return_url, tried, uncertain_since }) => {
                self.begin(key, work::Start { attempt, card_token, return_url, tried, uncertain_since }, now);
            }
            Action::Do(Task::Inquire { attempt, mode, asked }) => {
                let (standing, outcome) = (self.intent.standing(attempt.attempt_id), self.look(&attempt, now));
                self.conclude(key, work::after_inquiry(attempt, mode, asked, standing, outcome, at(now)), now);
            }
            Action::Do(Task::Stop { attempt, mode, tried }) => {
                let (standing, outcome) = (self.intent.standing(attempt.attempt_id), self.look(&attempt, now));
                self.conclude(key, work::hold::after_stop(attempt, mode, tried, standing, outcome, at(now)), now);
            }
            Action::Do(Task::Lapse { payment_intent_id }) => {
                let step = work::lapse::after_look(payment_intent_id, &self.intent, at(now));
                self.conclude(key, step, now);
            }
            Action::Do(other) => panic!("{other:?}"),
        }
    }

    /// Until nothing is left to do. The shop tries another card whenever the intent lets it.
    fn run(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..2_000 {
            let Some(((now, _), (key, action))) = self.agenda.pop_first() else { return Ok(()) };
            self.act(&key, action, now);
            if self.intent.status == Status::RequiresPaymentMethod && self.intent.cancel_requested.is_none() && self.attempts < 5 {
                self.start_attempt(now);
            }
            if let Status::Canceled = self.intent.status {
                prop_assert!(self.charges.is_empty(), "canceled at {now} beside a charge: {:?}", self.charges);
            }
        }
        Err(TestCaseError::fail("it does not end"))
    }
}

/// The command to the intent that a worker's word becomes.
fn on_intent(command: ProcessCommand) -> Command {
    if let ProcessCommand::AcceptAttempt { attempt_id, provider_id, .. } = command {
        Command::AcceptAttempt { attempt_id, provider_id }
    } else if let ProcessCommand::FailAttempt { attempt_id, code, message, .. } = command {
        Command::FailAttempt { attempt_id, code, message }
    } else if let ProcessCommand::EndAttempt { attempt_id, how, .. } = command {
        Command::EndAttempt { attempt_id, how }
    } else if let ProcessCommand::MarkAttemptUnknown { attempt_id, reason, since, .. } = command {
        Command::MarkOutcomeUnknown { attempt_id, reason, since }
    } else if let ProcessCommand::LeaveToPerson { attempt_id, at, .. } = command {
        Command::LeaveToPerson { attempt_id, at }
    } else if let ProcessCommand::ConfirmPayment { report, .. } = command {
        Command::ConfirmFromProvider(report)
    } else if let ProcessCommand::ConfirmCancel { .. } = command {
        Command::ConfirmCancel
    } else if let ProcessCommand::ExpirePayment { attempt_id, .. } = command {
        Command::Expire { attempt_id }
    } else if let ProcessCommand::LapsePayment { at, .. } = command {
        Command::Lapse { at }
    } else {
        panic!("{command:?}")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_payer_is_charged_at_most_once_never_for_a_canceled_intent_and_never_unseen(
        fates in prop::collection::vec(some_fate(), 0..8),
        silent_looks in 0_u32..6,
        cancel_at in prop::option::of(0_i64..60),
    ) {
        let mut world = World::new(fates, silent_looks, cancel_at);
        world.run()?;
        prop_assert!(world.charges.len() <= 1, "charged more than once: {:?}", world.charges);
        let known = usize::from(world.intent.payment.is_some()) + world.intent.unmatched.len();
        prop_assert_eq!(known, world.charges.len(), "{:?}", world.intent.status);
    }
}
