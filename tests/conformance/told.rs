//! What a script is told, step by step, without what may differ: texts of errors, times of recording, identities of logs.

use std::fmt::{Debug, Write as _};

use chrono::DateTime;
use commands::{
    batch::{BatchAnswer, Link},
    bus::BusError,
    event_log::StoreError,
};
use domain::{envelope::RecordedEvent, integrity::recorded_hash};

/// Steps and their answers.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told(Vec<(String, String)>);

impl Told {
    /// Notes an answer.
    pub fn that(&mut self, step: impl Into<String>, answer: impl Debug) {
        self.0.push((step.into(), format!("{answer:?}")));
    }

    /// How many.
    pub const fn steps(&self) -> usize {
        self.0.len()
    }
}

/// The first step at which the two were told something else, in words, with what led to it.
pub fn difference(script: &str, real: &Told, simulated: &Told) -> Option<String> {
    let at = (0..real.steps().max(simulated.steps())).find(|step| real.0.get(*step) != simulated.0.get(*step))?;
    let nothing = (String::from("(no such step)"), String::new());
    let [real_step, simulated_step] = [real, simulated].map(|told| told.0.get(at).unwrap_or(&nothing));
    let mut text = format!("'{script}' differs at its step {}\n", at + 1);
    for (step, answer) in real.0.iter().take(at).skip(at.saturating_sub(4)) {
        let _ = writeln!(text, "  both       {step}: {answer}");
    }
    for (side, (step, answer)) in [("real     ", real_step), ("simulated", simulated_step)] {
        let _ = writeln!(text, "  {side}  {step}: {answer}");
    }
    Some(text)
}

/// An answer of the log or of what stands beside it.
pub fn stored<T>(answer: Result<T, StoreError>) -> Result<T, &'static str> {
    answer.map_err(|error| match error {
        StoreError::Refused(_) => "refused",
        StoreError::Lost(_) => "lost",
    })
}

/// An answer of the append function, but for what stands in its link: that it is true is another question.
pub fn appended(answer: Result<BatchAnswer, StoreError>) -> Result<BatchAnswer, &'static str> {
    let blank = |_| Link { before: [0; 32], hash: [0; 32], recorded_at: DateTime::UNIX_EPOCH };
    stored(answer).map(|answer| match answer {
        BatchAnswer::Committed { first_pos, link } => BatchAnswer::Committed { first_pos, link: link.map(blank) },
        other => other,
    })
}

/// An answer of the bus.
pub fn bused<T>(answer: Result<T, BusError>) -> Result<T, &'static str> {
    answer.map_err(|_| "failed")
}

/// An answer of the read side.
pub fn read<T>(answer: Result<T, projections::Error>) -> Result<T, &'static str> {
    answer.map_err(|_| "failed")
}

/// An event but for its time of recording; its own hash speaks for the columns that are not shown.
#[derive(Debug)]
#[expect(dead_code, reason = "shown, which is all that is compared")]
pub struct Seen {
    pos: i64,
    of: String,
    version: i64,
    payload: String,
    hash: String,
    hash_is_true: bool,
}

/// Events as they are compared.
pub fn seen<'a>(events: impl IntoIterator<Item = &'a RecordedEvent>) -> Vec<Seen> {
    let one = |event: &RecordedEvent| Seen {
        pos: event.pos,
        of: format!("{} {}", event.stream.stream_type.as_str(), event.stream.stream_id),
        version: event.version,
        payload: String::from_utf8_lossy(&event.payload).into_owned(),
        hash: hex::encode(event.hash),
        hash_is_true: recorded_hash(event) == event.hash,
    };
    events.into_iter().map(one).collect()
}
