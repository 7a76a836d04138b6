//! The pure core: what goes together, what waits, who is told what. And what its driver makes of a log that refuses; on a real database
//! it is tested in `tests`.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
};

use domain::{
    envelope::{NewEvent, StreamType},
    ids::{MerchantId, Ulid},
};
use proptest::prelude::*;

use super::*;
use crate::batch::{KeyClaim, PreparedEvent, StreamWrite};

type Core = CommitterCore<usize>;

fn ulid(n: u16) -> Ulid {
    Ulid::from_parts(0, n.into())
}

fn stream(n: u16) -> StreamKey {
    StreamKey { tenant: MerchantId(ulid(1)), stream_type: StreamType::Order, stream_id: ulid(n) }
}

/// An item with one event per stream and `size` bytes of payload in each.
fn sized(streams: &[u16], keys: &[u16], size: usize) -> AppendItem {
    let event = |n: &u16| PreparedEvent {
        stream: stream(*n),
        version: 1,
        event: NewEvent { event_type: "order.cancelled", schema_version: 1, payload: vec![b' '; size], pii: None },
        occurred_at_us: 0,
        correlation_id: ulid(1),
        causation_id: ulid(1),
        actor: "test".to_owned(),
        meta: b"{}".to_vec(),
        slice: 0,
        hash: [0; 32],
    };
    let key = |n: &u16| KeyClaim {
        tenant: ulid(1),
        scope: "test".to_owned(),
        key: n.to_string(),
        request_hash: [0; 32],
        fingerprint: None,
        response: None,
        taken: None,
    };
    AppendItem {
        streams: streams.iter().map(|n| StreamWrite { key: stream(*n), expected: 0, next: 1 }).collect(),
        keys: keys.iter().map(key).collect(),
        events: streams.iter().map(event).collect(),
    }
}

fn item(streams: &[u16]) -> AppendItem {
    sized(streams, &[], 10)
}

fn core(items: Vec<AppendItem>) -> Core {
    let mut core = Core::default();
    for (n, item) in items.into_iter().enumerate() {
        core.submit(item, n);
    }
    core
}

fn stored() -> StoredKey {
    StoredKey { request_hash: vec![7; 32], fingerprint: None, last_pos: Some(3), response: None }
}

/// Who was told what, and that nothing else was asked for.
fn replies(effects: Vec<Effect<usize>>) -> Vec<(usize, ItemOutcome)> {
    let reply = |effect| match effect {
        Effect::Reply(to, outcome) => (to, outcome),
        Effect::Append => panic!("an answer forms no batch"),
    };
    effects.into_iter().map(reply).collect()
}

/// Forms a batch, commits it and returns who was in it.
fn commit(core: &mut Core) -> Vec<usize> {
    assert_eq!(core.form(), Some(Effect::Append));
    let told = replies(core.answer(BatchAnswer::Committed { first_pos: 1, link: None }));
    told.into_iter().map(|(to, _)| to).collect()
}

#[test]
fn what_waits_goes_together_and_each_learns_its_own_position() {
    let mut core = core(vec![item(&[1]), item(&[2, 3]), sized(&[], &[1], 0), item(&[4])]);
    assert_eq!(core.form(), Some(Effect::Append));
    assert_eq!((core.batch().len(), core.len()), (4, 4));
    let told = replies(core.answer(BatchAnswer::Committed { first_pos: 11, link: None }));
    let expected = [(0, 11), (1, 13), (2, 13), (3, 14)].map(|(to, last_pos)| (to, ItemOutcome::Committed { last_pos }));
    assert_eq!(told, expected);
    assert!(core.is_empty() && core.batch().is_empty());
    assert_eq!(core.form(), None);
}

#[test]
fn there_is_one_batch_at_a_time() {
    let mut core = core(vec![item(&[1])]);
    assert_eq!(core.form(), Some(Effect::Append));
    core.submit(item(&[2]), 1);
    assert_eq!(core.form(), None);
    assert_eq!(core.batch().len(), 1);
    core.answer(BatchAnswer::Committed { first_pos: 1, link: None });
    assert_eq!(commit(&mut core), [1]);
}

#[test]
fn a_second_item_on_a_stream_or_a_key_waits_and_is_not_overtaken() {
    // 1 waits for stream 1 and holds stream 2, so 2 waits behind it; 3 has nothing to do with them.
    let mut core = core(vec![item(&[1]), item(&[1, 2]), item(&[2]), item(&[3]), sized(&[4], &[9], 1), sized(&[5], &[9], 1)]);
    assert_eq!(commit(&mut core), [0, 3, 4]);
    assert_eq!(commit(&mut core), [1, 5]);
    assert_eq!(commit(&mut core), [2]);
    assert!(core.is_empty());
}

#[test]
fn a_batch_is_bounded_in_items_and_in_bytes() {
    let many = u16::try_from(MAX_ITEMS).unwrap() + 1;
    let mut by_items = core((0..many).map(|n| item(&[n])).collect());
    assert_eq!(commit(&mut by_items).len(), MAX_ITEMS);
    assert_eq!(commit(&mut by_items), [MAX_ITEMS]);
    let mut by_bytes = core((0..3).map(|n| sized(&[n], &[], MAX_BYTES / 2)).collect());
    assert_eq!(commit(&mut by_bytes), [0, 1]);
    assert_eq!(commit(&mut by_bytes), [2]);
}

#[test]
fn a_refused_item_fails_alone_and_the_rest_goes_again() {
    let mut core = core(vec![item(&[1, 2]), sized(&[3], &[1, 2], 1), item(&[4, 5]), item(&[6])]);
    core.form();
    // Streams of the batch: 1 2 | 3 | 4 5 | 6; keys: 1 2.
    let refusals = vec![Refusal::Version { index: 4, actual: 8 }, Refusal::Key { index: 1, stored: stored() }];
    let told = replies(core.answer(BatchAnswer::Refused(refusals)));
    assert_eq!(told, [(1, ItemOutcome::KeyTaken { index: 1, stored: stored() }), (2, ItemOutcome::Conflict { stream: stream(5) })]);
    assert_eq!(commit(&mut core), [0, 3]);
}

#[test]
fn a_taken_key_speaks_before_a_moved_version() {
    let mut core = core(vec![sized(&[1], &[1], 1)]);
    core.form();
    let refusals = vec![Refusal::Version { index: 0, actual: 8 }, Refusal::Key { index: 0, stored: stored() }];
    assert_eq!(replies(core.answer(BatchAnswer::Refused(refusals))), [(0, ItemOutcome::KeyTaken { index: 0, stored: stored() })]);
}

#[test]
fn what_goes_again_stays_before_what_came_later() {
    let mut core = core(vec![item(&[1]), item(&[2]), item(&[2])]);
    core.form();
    core.submit(item(&[1]), 3);
    core.answer(BatchAnswer::Refused(vec![Refusal::Version { index: 0, actual: 1 }]));
    assert_eq!(commit(&mut core), [1, 3]);
    assert_eq!(commit(&mut core), [2]);
}

#[test]
fn a_batch_that_the_database_refuses_goes_one_by_one() {
    let mut core = core((1..=3).map(|n| item(&[n])).collect());
    core.form();
    assert_eq!(replies(core.answer(BatchAnswer::Failed("bad".to_owned()))), []);
    core.submit(item(&[4]), 3);
    core.submit(item(&[5]), 4);
    assert_eq!(commit(&mut core), [0]);
    core.form();
    assert_eq!(core.batch().len(), 1);
    assert_eq!(replies(core.answer(BatchAnswer::Failed("bad".to_owned()))), [(1, ItemOutcome::Failed("bad".to_owned()))]);
    assert_eq!(commit(&mut core), [2]);
    assert_eq!(commit(&mut core), [3, 4]);
}

#[test]
fn a_lost_batch_is_unknown_only_if_it_was_sent() {
    for (attempted, outcome) in [(true, ItemOutcome::Unknown), (false, ItemOutcome::Unavailable)] {
        let mut core = core(vec![item(&[1]), item(&[1])]);
        core.form();
        let told = replies(core.answer(BatchAnswer::Lost { attempted }));
        // The second waited for the first: it was never sent.
        assert_eq!(told, [(0, outcome), (1, ItemOutcome::Unavailable)]);
        assert!(core.is_empty());
    }
}

#[test]
fn an_outage_ends_the_going_one_by_one() {
    let mut core = core((1..=3).map(|n| item(&[n])).collect());
    core.form();
    core.answer(BatchAnswer::Failed("bad".to_owned()));
    core.form();
    core.answer(BatchAnswer::Lost { attempted: true });
    core.submit(item(&[1]), 3);
    core.submit(item(&[2]), 4);
    assert_eq!(commit(&mut core), [3, 4]);
}

/// A log that answers as it was told beforehand, and in which the batch is found or not.
struct Told {
    answers: VecDeque<Result<BatchAnswer, StoreError>>,
    written: Option<i64>,
}

impl Appender for Told {
    fn connect(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send {
        ready(Ok(()))
    }

    fn disconnect(&mut self) {}

    fn append(&mut self, _batch: &[AppendItem]) -> impl Future<Output = Result<BatchAnswer, StoreError>> + Send {
        ready(self.answers.pop_front().unwrap())
    }

    fn find_written(
        &mut self,
        _key: StreamKey,
        _version: i64,
        _hash: &[u8; 32],
    ) -> impl Future<Output = Result<Option<i64>, StoreError>> + Send {
        ready(Ok(self.written))
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_the_log_may_have_is_not_told_to_have_failed() {
    let lost = || Err(StoreError::Lost("the connection broke".to_owned()));
    let refused = || Err(StoreError::Refused("no".to_owned()));
    let conflict = || Ok(BatchAnswer::Refused(vec![Refusal::Version { index: 0, actual: 1 }]));
    let found = BatchAnswer::Committed { first_pos: 7, link: None };
    let cases = [
        (vec![refused()], None, BatchAnswer::Failed("no".to_owned())),
        (vec![lost(), refused()], None, BatchAnswer::Lost { attempted: true }),
        (vec![lost(), refused()], Some(7), found.clone()),
        (vec![lost(), conflict()], Some(7), found),
    ];
    for (answers, written, expected) in cases {
        let log = Told { answers: answers.into(), written };
        assert_eq!(Driver { log, news: News::default(), patience: PATIENCE }.append(&[item(&[1])]).await, expected);
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Items arrive: streams, keys, payload bytes.
    Arrive(Vec<(BTreeSet<u16>, BTreeSet<u16>, usize)>),
    /// Many small items on streams of their own arrive.
    Flood(u16),
    /// The batch under way is answered.
    Answer(Answered),
}

#[derive(Debug, Clone)]
enum Answered {
    Committed,
    /// These places among the batch's streams and keys, modulo their number.
    Refused(Vec<usize>, Vec<usize>),
    Failed,
    Lost(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = |of: u16| proptest::collection::btree_set(0..of, 1..4);
    let size = prop_oneof![19 => 0..2000_usize, 1 => Just(MAX_BYTES / 3)];
    let arrival = (some(8), proptest::collection::btree_set(0..6_u16, 0..3), size);
    let places = || proptest::collection::vec(0..1000_usize, 0..4);
    let answered = prop_oneof![
        4 => Just(Answered::Committed),
        4 => (places(), places()).prop_map(|(streams, keys)| Answered::Refused(streams, keys)),
        2 => Just(Answered::Failed),
        1 => any::<bool>().prop_map(Answered::Lost),
    ];
    let step = prop_oneof![
        10 => proptest::collection::vec(arrival, 1..8).prop_map(Step::Arrive),
        1 => (200..400_u16).prop_map(Step::Flood),
        16 => answered.prop_map(Step::Answer),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Drives a core and notes what must hold.
#[derive(Default)]
struct Watched {
    core: Core,
    items: Vec<AppendItem>,
    told: BTreeMap<usize, ItemOutcome>,
    in_batch: Vec<usize>,
    /// Who must come alone next, in this order.
    singly: VecDeque<usize>,
}

/// Its streams and keys.
fn names(item: &AppendItem) -> BTreeSet<(bool, u128)> {
    let streams = item.streams.iter().map(|write| (true, u128::from(write.key.stream_id)));
    streams.chain(item.keys.iter().map(|key| (false, key.key.parse().unwrap()))).collect()
}

impl Watched {
    fn arrive(&mut self, item: AppendItem) {
        self.core.submit(item.clone(), self.items.len());
        self.items.push(item);
    }

    fn form(&mut self) {
        let waiting = self.items.len() - self.told.len();
        let before = self.core.batch().len();
        if self.core.form().is_none() {
            assert!(before > 0 || waiting == 0, "{waiting} items wait and none goes");
            return;
        }
        let batch = self.core.batch();
        assert!((1..=MAX_ITEMS).contains(&batch.len()));
        let bytes: usize = batch[..batch.len() - 1].iter().map(AppendItem::size).sum();
        assert!(bytes < MAX_BYTES, "{bytes} bytes before the last item");
        let mut taken = BTreeSet::new();
        assert!(batch.iter().flat_map(names).all(|name| taken.insert(name)), "two items of a batch share a stream or key");
        self.in_batch.clone_from(&self.core.replies);
        assert!(self.in_batch.iter().zip(batch).all(|(n, item)| self.items[*n] == *item));
        if let Some(alone) = self.singly.pop_front() {
            assert_eq!(self.in_batch, [alone]);
        }
        for n in &self.in_batch {
            assert!(!self.told.contains_key(n), "item {n} goes after it was answered");
        }
        self.check_order();
    }

    /// No item goes while an older one with the same stream or key still waits.
    fn check_order(&self) {
        let mut waiting = BTreeSet::new();
        for (n, item) in self.items.iter().enumerate().filter(|(n, _)| !self.told.contains_key(n)) {
            if self.in_batch.contains(&n) {
                assert!(waiting.is_disjoint(&names(item)), "item {n} overtook an older one");
            } else {
                waiting.extend(names(item));
            }
        }
    }

    fn answer(&mut self, answered: Answered) {
        let batch = std::mem::take(&mut self.in_batch);
        if batch.is_empty() {
            return;
        }
        let items: Vec<&AppendItem> = batch.iter().map(|n| &self.items[*n]).collect();
        let streams: usize = items.iter().map(|item| item.streams.len()).sum();
        let keys: usize = items.iter().map(|item| item.keys.len()).sum();
        let answer = match answered {
            Answered::Committed => BatchAnswer::Committed { first_pos: 1, link: None },
            Answered::Failed => BatchAnswer::Failed("bad".to_owned()),
            Answered::Lost(attempted) => BatchAnswer::Lost { attempted },
            Answered::Refused(moved, taken) => {
                let versions = moved.iter().map(|place| Refusal::Version { index: place % streams, actual: 9 });
                let taken = taken.iter().filter_map(|place| place.checked_rem(keys));
                let refusals: Vec<_> = versions.chain(taken.map(|index| Refusal::Key { index, stored: stored() })).collect();
                // The function never refuses without a reason.
                if refusals.is_empty() { BatchAnswer::Committed { first_pos: 1, link: None } } else { BatchAnswer::Refused(refusals) }
            }
        };
        let kind = answer.clone();
        let told = replies(self.core.answer(answer));
        let now: Vec<usize> = told.iter().map(|(to, _)| *to).collect();
        for (to, outcome) in told {
            assert!(self.told.insert(to, outcome).is_none(), "item {to} was answered twice");
        }
        match kind {
            BatchAnswer::Committed { .. } => assert_eq!(now, batch),
            BatchAnswer::Refused(_) => {
                assert!(!now.is_empty() && now.iter().all(|n| batch.contains(n)));
            }
            BatchAnswer::Failed(_) if batch.len() == 1 => assert_eq!(now, batch),
            BatchAnswer::Failed(_) => {
                assert_eq!(now, [0; 0]);
                self.singly = batch.into();
            }
            BatchAnswer::Lost { .. } => {
                assert!(self.core.is_empty());
                self.singly.clear();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_item_is_answered_once_and_none_overtakes(steps in steps()) {
        let mut watched = Watched::default();
        let mut own_stream = 100_u16;
        for step in steps {
            match step {
                Step::Arrive(items) => {
                    for (streams, keys, size) in items {
                        watched.arrive(sized(&streams.into_iter().collect::<Vec<_>>(), &keys.into_iter().collect::<Vec<_>>(), size));
                    }
                }
                Step::Flood(count) => {
                    for _ in 0..count {
                        watched.arrive(item(&[own_stream]));
                        own_stream = own_stream.wrapping_add(1).max(100);
                    }
                }
                Step::Answer(answered) => {
                    watched.form();
                    watched.answer(answered);
                }
            }
        }
        // Left alone, all that waits is served: no item can block the others for ever.
        for _ in 0..watched.items.len() {
            if watched.core.is_empty() {
                break;
            }
            watched.form();
            watched.answer(Answered::Committed);
        }
        prop_assert!(watched.core.is_empty());
        prop_assert_eq!(watched.told.len(), watched.items.len());
    }
}
