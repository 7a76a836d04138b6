//! The hub: takes events off the log once per process and hands them to the sessions that listen.
//!
//! A session that does not take its frames is cut off, so that it cannot slow the others; it comes back and resumes from
//! its last sequence. The hub keeps the newest events for resuming without a look at the log.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering},
    },
};

use axum::extract::ws::Utf8Bytes;
use domain::{event::ReadEvent, ids::StoreId};
use metrics::{counter, gauge};
use projections::feed::size;
use tokio::sync::mpsc;

use super::topic::Topic;
use crate::auth::Sight;

/// Frames that may wait for one session before it is cut off.
pub const SESSION_QUEUE: usize = 256;
/// Newest events kept for resuming, and their bytes.
const KEPT: usize = 10_000;
const KEPT_BYTES: usize = 16 << 20;

/// An event on its way to the sessions that listen to a topic.
#[derive(Debug)]
pub struct Frame {
    /// The topic.
    pub topic: Topic,
    /// The event.
    pub event: Arc<ReadEvent>,
    /// What all of them send, made by the first.
    text: OnceLock<Utf8Bytes>,
}

impl Frame {
    /// An event on a topic.
    pub const fn new(topic: Topic, event: Arc<ReadEvent>) -> Self {
        Self { topic, event, text: OnceLock::new() }
    }

    /// What is sent; `make` makes it the first time.
    pub fn text(&self, make: impl FnOnce() -> Utf8Bytes) -> Utf8Bytes {
        self.text.get_or_init(make).clone()
    }
}

/// A frame that waits for one session.
pub type Delivery = Arc<Frame>;

struct Listener {
    session: u64,
    who: Sight,
    queue: mpsc::Sender<Delivery>,
}

#[derive(Default)]
struct State {
    listeners: HashMap<Topic, Vec<Listener>>,
    kept: VecDeque<Arc<ReadEvent>>,
    kept_bytes: usize,
}

/// Shared by all sessions of a process; cheap to clone.
#[derive(Clone, Default)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    sessions: Arc<AtomicU64>,
    position: Arc<AtomicI64>,
    epoch: Arc<AtomicI32>,
    beginnings: Arc<AtomicU64>,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves plain maps that are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A hub that knows of nothing after `position` of the log's `epoch` yet.
    pub fn starting_at(position: i64, epoch: i32) -> Self {
        let hub = Self::default();
        hub.start_anew(position, epoch);
        hub
    }

    /// The log was restored to the past: what was kept and what sessions have seen is void. All of them are cut off.
    pub fn start_anew(&self, position: i64, epoch: i32) {
        let mut state = self.state();
        state.kept.clear();
        state.kept_bytes = 0;
        self.position.store(position, Ordering::Release);
        self.epoch.store(epoch, Ordering::Release);
        self.beginnings.fetch_add(1, Ordering::Release);
        state.listeners.clear();
    }

    /// How often everything began anew: a session that began before the last time saw what is void. More than the epoch, which
    /// is raised a moment after the log was found shorter.
    pub fn beginnings(&self) -> u64 {
        self.beginnings.load(Ordering::Acquire)
    }

    /// The log's epoch; raised when it was restored to the past.
    pub fn epoch(&self) -> i32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// A number for a new session.
    pub fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// The newest position that was handed out.
    pub fn position(&self) -> i64 {
        self.position.load(Ordering::Acquire)
    }

    /// Starts listening; false when the session was cut off, which closed its queue. Looked at under the lock: a sender held from before
    /// would keep the queue open when all others go.
    pub fn listen(&self, session: u64, topic: Topic, who: Sight, queue: &mpsc::WeakSender<Delivery>) -> bool {
        let mut state = self.state();
        let Some(queue) = queue.upgrade() else { return false };
        let listeners = state.listeners.entry(topic).or_default();
        listeners.retain(|listener| listener.session != session);
        listeners.push(Listener { session, who, queue });
        true
    }

    /// Stops listening.
    pub fn leave(&self, session: u64, topics: impl IntoIterator<Item = Topic>) {
        let mut state = self.state();
        for topic in topics {
            if let Some(listeners) = state.listeners.get_mut(&topic) {
                listeners.retain(|listener| listener.session != session);
                if listeners.is_empty() {
                    state.listeners.remove(&topic);
                }
            }
        }
    }

    /// Hands out events in log order.
    pub fn dispatch(&self, events: Vec<Arc<ReadEvent>>) {
        let mut state = self.state();
        for event in events {
            let store = event.event_meta().store;
            let topics = Topic::of(event.stream, store);
            let slow: Vec<u64> = topics.into_iter().flat_map(|topic| state.deliver(topic, &event, store)).collect();
            state.cut_off(&slow);
            self.position.store(event.pos, Ordering::Release);
            state.keep(event);
        }
        gauge!("smartpos_ws_topics").set(u32::try_from(state.listeners.len()).unwrap_or(u32::MAX));
    }

    /// The kept events after a position, if they reach back that far.
    pub fn kept_after(&self, position: i64) -> Option<Vec<Arc<ReadEvent>>> {
        let state = self.state();
        let oldest = state.kept.front().map_or(self.position() + 1, |event| event.pos);
        if position.saturating_add(1) < oldest {
            return None;
        }
        Some(state.kept.iter().filter(|event| event.pos > position).cloned().collect())
    }
}

impl State {
    /// Keeps an event for resuming; the oldest ones go, but never the last.
    fn keep(&mut self, event: Arc<ReadEvent>) {
        self.kept_bytes = self.kept_bytes.saturating_add(size(&event));
        self.kept.push_back(event);
        while self.kept.len() > KEPT || (self.kept_bytes > KEPT_BYTES && self.kept.len() > 1) {
            if let Some(oldest) = self.kept.pop_front() {
                self.kept_bytes = self.kept_bytes.saturating_sub(size(&oldest));
            }
        }
    }

    /// Hands an event to a topic's listeners; returns the sessions that could not take it.
    fn deliver(&self, topic: Topic, event: &Arc<ReadEvent>, store: Option<StoreId>) -> Vec<u64> {
        let Some(listeners) = self.listeners.get(&topic) else { return Vec::new() };
        let frame: Delivery = Arc::new(Frame::new(topic, event.clone()));
        let takes = |listener: &&Listener| !listener.who.sees(event.stream, store) || listener.queue.try_send(frame.clone()).is_ok();
        listeners.iter().filter(|listener| !takes(listener)).map(|listener| listener.session).collect()
    }

    /// Forgets sessions altogether: one that missed a frame must resume everything. Dropping its last sender closes the
    /// session's queue, which is how it learns.
    fn cut_off(&mut self, sessions: &[u64]) {
        if sessions.is_empty() {
            return;
        }
        counter!("smartpos_ws_cut_off_total").increment(u64::try_from(sessions.len()).unwrap_or(0));
        self.listeners.retain(|_, listeners| {
            listeners.retain(|listener| !sessions.contains(&listener.session));
            !listeners.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{
        envelope::{RecordedEvent, StreamKey, StreamType},
        ids::{MerchantId, Ulid},
    };

    use crate::auth::Role;

    fn event(pos: i64, tenant: u8, store: Option<u8>) -> RecordedEvent {
        let at = chrono::DateTime::UNIX_EPOCH;
        let meta = domain::envelope::EventMeta {
            store: store.map(|n| StoreId(Ulid::from_bytes([n; 16]))),
            ..domain::envelope::EventMeta::default()
        };
        RecordedEvent {
            pos,
            stream: StreamKey {
                tenant: MerchantId(Ulid::from_bytes([tenant; 16])),
                stream_type: StreamType::Order,
                stream_id: Ulid::from_bytes([7; 16]),
            },
            version: pos,
            event_type: "order.opened".into(),
            schema_version: 1,
            slice: 0,
            occurred_at: at,
            recorded_at: at,
            correlation_id: Ulid::nil(),
            causation_id: Ulid::nil(),
            actor: "user:a".into(),
            meta: serde_json::to_vec(&meta).unwrap(),
            payload: b"{}".to_vec(),
            pii: None,
            hash: [0; 32],
        }
    }
    fn tenant(n: u8) -> MerchantId {
        MerchantId(Ulid::from_bytes([n; 16]))
    }
    fn store(n: u8) -> StoreId {
        StoreId(Ulid::from_bytes([n; 16]))
    }
    fn sight(role: Role, store: Option<StoreId>) -> Sight {
        Sight { tenant: tenant(1), store, role }
    }

    #[test]
    fn a_listener_hears_its_own_tenant_and_store_only() {
        let hub = Hub::default();
        let (sender, mut queue) = mpsc::channel(8);
        let topic = Topic::Stream(StreamType::Order, Ulid::from_bytes([7; 16]));
        hub.listen(1, topic, sight(Role::Cashier, Some(store(3))), &sender.downgrade());
        hub.dispatch([event(1, 2, Some(3)), event(2, 1, Some(4)), event(3, 1, None), event(4, 1, Some(3))].map(ReadEvent::shared).to_vec());
        assert_eq!(queue.try_recv().unwrap().event.pos, 4);
        assert!(queue.try_recv().is_err());
    }

    #[test]
    fn a_listener_hears_of_what_its_role_may_read_only() {
        let hub = Hub::default();
        let (sender, mut queue) = mpsc::channel(8);
        hub.listen(1, Topic::Tenant(tenant(1)), sight(Role::Cashier, None), &sender.downgrade());
        let of = |pos: i64, stream_type: StreamType| {
            let order = event(pos, 1, None);
            ReadEvent::shared(RecordedEvent { stream: StreamKey { stream_type, ..order.stream }, ..order })
        };
        hub.dispatch(vec![of(1, StreamType::WebhookEndpoint), of(2, StreamType::ProviderAccount), of(3, StreamType::Refund)]);
        assert_eq!(queue.try_recv().unwrap().event.pos, 3);
        assert!(queue.try_recv().is_err());
    }

    #[test]
    fn a_session_that_misses_one_frame_is_cut_off_from_all_topics() {
        let hub = Hub::default();
        let (sender, mut queue) = mpsc::channel(1);
        let weak = sender.downgrade();
        assert!([3, 4].into_iter().all(|n| hub.listen(1, Topic::Store(store(n)), sight(Role::Cashier, None), &weak)));
        drop(sender);
        hub.dispatch([event(1, 1, Some(3)), event(2, 1, Some(3)), event(3, 1, Some(4))].map(ReadEvent::shared).to_vec());
        assert_eq!(queue.try_recv().unwrap().event.pos, 1);
        assert_eq!(queue.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
        assert!(!hub.listen(1, Topic::Store(store(5)), sight(Role::Cashier, None), &weak), "it listens to nothing until it comes back");
    }

    #[test]
    fn newest_events_are_kept_for_resuming() {
        assert!(Hub::starting_at(1000, 1).kept_after(500).is_none(), "a new process does not pretend to know the past");
        let hub = Hub::starting_at(10, 1);
        hub.dispatch([event(11, 1, None), event(12, 1, None)].map(ReadEvent::shared).to_vec());
        assert_eq!(hub.kept_after(11).unwrap().len(), 1);
        assert_eq!(hub.kept_after(10).unwrap().len(), 2);
        assert!(hub.kept_after(9).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_and_without_a_gap() {
        let hub = Hub::starting_at(0, 1);
        for pos in 1..=20 {
            hub.dispatch(vec![ReadEvent::shared(RecordedEvent { payload: vec![b' '; 1 << 20], ..event(pos, 1, None) })]);
        }
        // Sixteen times a MiB and what else an event takes is more than 16 MiB.
        assert!(hub.kept_after(4).is_none());
        assert_eq!(hub.kept_after(5).unwrap().iter().map(|event| event.pos).collect::<Vec<_>>(), (6..=20).collect::<Vec<_>>());
        hub.dispatch(vec![ReadEvent::shared(RecordedEvent { payload: vec![b' '; 17 << 20], ..event(21, 1, None) })]);
        assert_eq!(hub.kept_after(20).unwrap().len(), 1, "the newest one stays, whatever its size");
        hub.dispatch(vec![ReadEvent::shared(event(22, 1, None))]);
        assert_eq!(hub.kept_after(21).unwrap().len(), 1);
        assert!(hub.kept_after(20).is_none());
    }
}
