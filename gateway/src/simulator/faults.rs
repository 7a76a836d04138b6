//! Faults that hit calls on command: the injectable ones of the fault catalogue, and the rules that say when. What each does to an
//! answer stands in `broken.rs`.

use std::{collections::VecDeque, sync::Mutex};

use serde::{Deserialize, Serialize};

use super::{locked, scramble};

/// What a rule breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The access token.
    Token,
    /// Beginning an attempt: making a QR, charging a card.
    #[serde(alias = "create")]
    Start,
    /// Asking where an attempt stands.
    #[serde(alias = "inquiry")]
    Inquire,
    /// Capturing a held amount.
    Capture,
    /// Raising a held amount.
    Increment,
    /// Stopping an attempt or letting go of a held amount.
    Cancel,
    /// Sending money back.
    #[serde(alias = "void")]
    Refund,
    /// Asking where a refund stands.
    InquireRefund,
    /// The settlement list; each of its rows counts as a call on its reference.
    Settlement,
}

/// How it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nothing happens; the connection ends without an answer.
    ResetBefore,
    /// It happens; the connection ends without an answer.
    ResetAfter,
    /// Nothing happens; the answer comes after `delay_ms`, and then it is a 504.
    TimeoutBefore,
    /// It happens at once; the answer comes after `delay_ms`, and then it is a 504.
    TimeoutAfter,
    /// It happens at once; the true answer comes after `delay_ms`.
    Slow,
    /// Nothing happens; HTTP 500, or `status`.
    #[serde(rename = "http_500")]
    Http500,
    /// It happens; HTTP 500, or `status`.
    #[serde(rename = "http_500_after")]
    Http500After,
    /// It happens; the connection is cut in the middle of the answer.
    CutBody,
    /// It happens; the answer is HTTP 200 with a web page.
    NotJson,
    /// It happens; the answer is HTTP 200 with nothing.
    EmptyBody,
    /// Nothing happens; HTTP 429 or the provider's own words for it.
    #[serde(rename = "http_429")]
    Http429,
    /// Nothing happens; every access token becomes invalid; HTTP 401.
    TokenExpired,
    /// Nothing happens; the provider's own error that does not say so.
    Trouble,
    /// It happens; the provider's own error that does not say so.
    TroubleAfter,
    /// It happens; the status words of the answer are ones that nobody knows.
    UnknownStatus,
    /// It happens; the answer has fields that nobody knows.
    ExtraFields,
    /// It happens; the answer lacks the fields named in `fields`.
    MissingFields,
    /// A read answers as if nothing had happened yet.
    NotVisibleYet,
    /// It happens; the answer says that it was there before.
    Duplicate,
    /// Nothing happens; of money to be sent back: it is settled.
    Settled,
    /// Nothing happens; of money to be sent back: not at this time of the day.
    Window,
    /// Of a capture: half of what was asked for is taken, and the answer says so.
    CapturePart,
    /// Of settlement lists: the row is left out.
    MissingRow,
    /// Of settlement lists: another row stands behind it, of a payment that never was.
    ExtraRow,
    /// Of settlement lists: the fee is one minor unit too high, and the net is as it was.
    WrongFee,
}

/// A fault that hits the next `times` matching calls.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Which call.
    pub operation: Operation,
    /// How it breaks.
    pub fault: Fault,
    /// How many calls are hit.
    pub times: u32,
    /// Only calls on this reference; `None`: any.
    #[serde(default)]
    pub reference: Option<String>,
    /// How long answers are held back; 30 s unless told.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// The first matching call that is hit: 1, the next one, unless told. Counts down as calls pass.
    #[serde(default = "next_call")]
    pub nth: u32,
    /// How many of a thousand matching calls are hit, by the simulator's seed; all unless told.
    #[serde(default = "always")]
    pub per_mille: u16,
    /// Of `http_429`: the answer asks for a pause of so many seconds.
    #[serde(default)]
    pub retry_after_s: Option<u32>,
    /// Of `missing_fields`: their names, wherever they stand.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Of the two `http_500` faults: 502, 503 or 504 instead.
    #[serde(default)]
    pub status: Option<u16>,
}

fn next_call() -> u32 {
    1
}

fn always() -> u16 {
    1000
}

/// The rules in force, oldest first.
pub(super) struct FaultBook(Mutex<Rules>);

struct Rules {
    rules: VecDeque<FaultRule>,
    dice: u64,
}

impl FaultBook {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(Rules { rules: VecDeque::new(), dice: seed }))
    }

    pub(super) fn add(&self, rules: Vec<FaultRule>) {
        locked(&self.0).rules.extend(rules);
    }

    pub(super) fn clear(&self) {
        locked(&self.0).rules.clear();
    }

    pub(super) fn remaining(&self) -> Vec<FaultRule> {
        locked(&self.0).rules.iter().filter(|rule| rule.times > 0).cloned().collect()
    }

    /// What breaks a row of a settlement list.
    pub(super) fn strike_row(&self, reference: &str) -> Option<Fault> {
        self.strike(Operation::Settlement, Some(reference)).map(|rule| rule.fault)
    }

    /// Whether a list of what was begun leaves this one out: who looks through a list does not see either what is not to be seen by name. Each
    /// list uses up a stroke, whatever was looked for in it.
    pub(super) fn hides(&self, reference: &str) -> bool {
        let is_hidden = |rule: &FaultRule| rule.fault == Fault::NotVisibleYet && rule.reference.is_some();
        self.strike_if(Operation::Inquire, Some(reference), is_hidden).is_some()
    }

    /// Uses up one stroke of the oldest rule that matches and is due.
    pub(super) fn strike(&self, operation: Operation, reference: Option<&str>) -> Option<FaultRule> {
        self.strike_if(operation, reference, |_| true)
    }

    fn strike_if(&self, operation: Operation, reference: Option<&str>, is_meant: impl Fn(&FaultRule) -> bool) -> Option<FaultRule> {
        let Rules { rules, dice } = &mut *locked(&self.0);
        rules.retain(|rule| rule.times > 0);
        for rule in rules {
            if rule.operation != operation || (rule.reference.is_some() && rule.reference.as_deref() != reference) || !is_meant(rule) {
                continue;
            }
            if rule.nth > 1 {
                rule.nth -= 1;
                continue;
            }
            *dice = scramble(*dice);
            if *dice % 1000 < u64::from(rule.per_mille) {
                rule.times -= 1;
                return Some(rule.clone());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(nth: u32, times: u32, per_mille: u16) -> FaultRule {
        let (operation, fault) = (Operation::Start, Fault::Http500);
        FaultRule {
            operation,
            fault,
            times,
            reference: None,
            delay_ms: None,
            nth,
            per_mille,
            retry_after_s: None,
            fields: vec![],
            status: None,
        }
    }

    #[test]
    fn a_rule_waits_for_its_call_and_ends_after_its_strokes() {
        let book = FaultBook::new(1);
        book.add(vec![rule(3, 2, 1000)]);
        let hits: Vec<bool> = (0..6).map(|_| book.strike(Operation::Start, None).is_some()).collect();
        assert_eq!(hits, [false, false, true, true, false, false]);
        assert!(book.remaining().is_empty());
    }

    #[test]
    fn what_is_not_visible_by_its_name_is_not_in_a_list_either() {
        let book = FaultBook::new(1);
        let of = |fault, reference: Option<&str>| FaultRule {
            operation: Operation::Inquire,
            fault,
            reference: reference.map(str::to_owned),
            ..rule(1, 2, 1000)
        };
        book.add(vec![of(Fault::Http500, Some("A")), of(Fault::NotVisibleYet, None), of(Fault::NotVisibleYet, Some("A"))]);
        assert_eq!([book.hides("B"), book.hides("A"), book.hides("A"), book.hides("A")], [false, true, true, false]);
        // The others are for calls by name, and for whole lists.
        assert_eq!(book.remaining().len(), 2);
    }

    #[test]
    fn a_random_rule_hits_the_same_calls_with_the_same_seed() {
        let hits = |seed| {
            let book = FaultBook::new(seed);
            book.add(vec![rule(1, 1_000, 300)]);
            (0..1_000).map(|_| book.strike(Operation::Start, None).is_some()).collect::<Vec<bool>>()
        };
        let count = hits(5).iter().filter(|hit| **hit).count();
        assert!((200..400).contains(&count), "{count} of a thousand");
        assert_eq!(hits(5), hits(5));
        assert_ne!(hits(5), hits(6));
    }
}
