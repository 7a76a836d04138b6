//! Which creations may be repeated. Omise promises no idempotency, so a repeat looks first; but a list may lag behind, and
//! then "not there" proves nothing until the settling time after the last uncertain try has passed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use ulid::Ulid;

/// A thing this young, of which this connector knows nothing, has not been tried before: whoever takes over another's
/// work waits longer than this for it.
const YOUNG: TimeDelta = TimeDelta::seconds(5);
/// What is remembered; beyond it the settled are forgotten, which is safe.
const MANY: usize = 10_000;

/// How the tries so far ended.
#[derive(Clone, Copy)]
enum Tries {
    /// All certainly made nothing.
    Clean,
    /// One at this time may have made it.
    Uncertain(DateTime<Utc>),
}

/// The memory of one connector.
pub(super) struct Unsettled {
    settling: TimeDelta,
    tries: Mutex<HashMap<Ulid, Tries>>,
}

impl Unsettled {
    pub(super) fn new(settling: TimeDelta) -> Self {
        Self { settling, tries: Mutex::default() }
    }

    /// Whether the thing may be made, given that the books do not show it.
    pub(super) fn may_create(&self, id: Ulid, begun_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let known = self.tries.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
        let age = now - begun_at;
        match known {
            Some(Tries::Clean) => true,
            Some(Tries::Uncertain(at)) => now - at >= self.settling,
            None => age <= YOUNG || age >= self.settling,
        }
    }

    /// A try is about to be sent: until it has ended it may have made the thing.
    pub(super) fn sending(&self, id: Ulid, now: DateTime<Utc>) {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.len() >= MANY {
            tries.retain(|_, tries| matches!(tries, Tries::Uncertain(at) if now - *at < self.settling));
        }
        tries.insert(id, Tries::Uncertain(now));
    }

    /// The try certainly made nothing.
    pub(super) fn made_nothing(&self, id: Ulid) {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Tries::Clean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uncertain_try_is_not_repeated_until_the_list_must_show_it() {
        let unsettled = Unsettled::new(TimeDelta::minutes(2));
        let (id, begun) = (Ulid(7), DateTime::UNIX_EPOCH);
        let after = |seconds| begun + TimeDelta::seconds(seconds);
        assert!(unsettled.may_create(id, begun, after(0)));
        unsettled.sending(id, after(1));
        assert!(!unsettled.may_create(id, begun, after(2)));
        assert!(!unsettled.may_create(id, begun, after(120)));
        assert!(unsettled.may_create(id, begun, after(121)));
        unsettled.made_nothing(id);
        assert!(unsettled.may_create(id, begun, after(3)));
    }

    #[test]
    fn what_another_process_may_have_tried_waits_too() {
        let unsettled = Unsettled::new(TimeDelta::minutes(2));
        let begun = DateTime::UNIX_EPOCH;
        assert!(!unsettled.may_create(Ulid(7), begun, begun + TimeDelta::seconds(30)));
        assert!(unsettled.may_create(Ulid(7), begun, begun + TimeDelta::seconds(120)));
    }
}
