//! From whoever leaves a task to the provider worker of the same process.
//!
//! A worker is told that there is news and looks for what is due. Process managers, and the door for call-backs, do more: while it has
//! places they leave a task leased and hand it over, which saves a look, a lease of its own and a wait for the disk.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Duration, Utc};
use domain::process::Task;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified, mpsc};
use uuid::Uuid;

use crate::process_store::ProcessStore;

/// How many tasks a provider worker has at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breadth {
    /// Tasks under way side by side.
    pub side_by_side: usize,
    /// Tasks leased at a look, at most.
    pub at_once: usize,
    /// Tasks that were handed over and are not done with, at most: what comes beyond is found by the worker when it looks.
    pub places: usize,
}

impl Default for Breadth {
    /// As many side by side as the guards of all providers together let call, so that a provider that hangs takes no place of another's.
    fn default() -> Self {
        Self { side_by_side: 768, at_once: 64, places: 32 }
    }
}

/// How long a leased task is left alone: the longest pause after its worker died.
pub(crate) const LEASE_SECONDS: i32 = 5;

/// Shared by those who leave tasks in a process and its provider worker, if it has one.
#[derive(Debug)]
pub struct Tasks {
    breadth: Breadth,
    news: Notify,
    places: Arc<Semaphore>,
    queue: mpsc::UnboundedSender<Handed>,
    /// Until a worker takes it.
    inbox: Mutex<Option<Inbox>>,
}

/// What is handed over.
pub(crate) type Inbox = mpsc::UnboundedReceiver<Handed>;

/// A place of the worker, kept until a task is done with.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

/// A task that stands leased in the store.
#[derive(Debug)]
pub(crate) struct Handed {
    /// Names it.
    pub key: String,
    /// Whose.
    pub tenant: Uuid,
    /// What to do.
    pub task: Task,
    /// Until when it stands leased, UTC.
    pub leased_until: DateTime<Utc>,
    /// Its place.
    pub place: Place,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::of(Breadth::default())
    }
}

impl Tasks {
    /// With a worker of this breadth.
    pub fn of(breadth: Breadth) -> Self {
        let (queue, inbox) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(breadth.places));
        Self { breadth, news: Notify::new(), places, queue, inbox: Mutex::new(Some(inbox)) }
    }

    /// How many tasks the worker has at a time.
    pub(crate) const fn breadth(&self) -> Breadth {
        self.breadth
    }

    /// Something is due that nobody was handed.
    pub fn notify(&self) {
        self.news.notify_one();
    }

    /// Ends when there is news.
    pub(crate) fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Takes a place of this process's worker; nothing when it has none left, or there is no worker.
    pub(crate) fn place(&self) -> Option<Place> {
        let waits_for_a_worker = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if waits_for_a_worker || self.queue.is_closed() {
            return None;
        }
        Arc::clone(&self.places).try_acquire_owned().ok().map(Place)
    }

    /// The same for those of whom many come at once: half of the places are left to others, who have somebody waiting at a counter.
    pub(crate) fn place_among_many(&self) -> Option<Place> {
        // Taken first: of many at the same moment each would see that of another still free.
        let place = self.place()?;
        (self.places.available_permits() >= self.breadth.places / 2).then_some(place)
    }

    /// Hands over a task that was left leased; gives it back when the worker is gone.
    fn hand_over(&self, handed: Handed) -> Result<(), Box<Handed>> {
        self.queue.send(handed).map_err(|refused| Box::new(refused.0))
    }

    /// Hands over a task that was left leased; should the worker have stopped meanwhile, it is free again.
    pub(crate) async fn hand_over_or_release(&self, store: &impl ProcessStore, handed: Handed) {
        if let Err(task) = self.hand_over(handed)
            && let Err(error) = store.release(&task.key, task.leased_until).await
        {
            tracing::warn!(%error, key = task.key, "a task that nobody was handed waits until its lease runs out");
        }
    }

    /// For the worker: from now on there are places. The second one has none.
    pub(crate) fn serve(&self) -> Inbox {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        inbox.unwrap_or_else(|| mpsc::unbounded_channel().1)
    }
}

/// Until when a lease that begins now holds.
pub(crate) fn leased_until(now: DateTime<Utc>) -> DateTime<Utc> {
    now + Duration::seconds(LEASE_SECONDS.into())
}

#[cfg(test)]
mod tests {
    use domain::ids::PaymentIntentId;

    use super::*;

    const PLACES: usize = 32;

    fn task(place: Place) -> Handed {
        let task = Task::Lapse { payment_intent_id: PaymentIntentId(ulid::Ulid::nil()) };
        Handed { key: "a".to_owned(), tenant: Uuid::nil(), task, leased_until: DateTime::UNIX_EPOCH, place }
    }

    #[tokio::test]
    async fn there_are_as_many_places_as_the_worker_has_and_each_is_free_again_when_its_task_is_done_with() {
        let tasks = Tasks::default();
        let mut inbox = tasks.serve();
        let mut taken: Vec<Place> = std::iter::from_fn(|| tasks.place()).collect();
        assert_eq!(taken.len(), PLACES);
        tasks.hand_over(task(taken.pop().unwrap())).unwrap();
        assert!(tasks.place().is_none());
        drop(inbox.recv().await.unwrap());
        assert!(tasks.place().is_some());
    }

    #[tokio::test]
    async fn those_of_whom_many_come_leave_half_of_the_places() {
        let tasks = Tasks::default();
        let _inbox = tasks.serve();
        let many: Vec<Place> = std::iter::from_fn(|| tasks.place_among_many()).collect();
        let others: Vec<Place> = std::iter::from_fn(|| tasks.place()).collect();
        assert_eq!((many.len(), others.len()), (PLACES / 2, PLACES / 2));
    }

    #[test]
    fn without_a_worker_there_are_none() {
        let tasks = Tasks::default();
        assert!(tasks.place().is_none(), "it has not begun");
        let inbox = tasks.serve();
        assert!(tasks.place().is_some());
        assert!(tasks.serve().is_closed(), "a second one is handed nothing");
        let place = tasks.place().unwrap();
        drop(inbox);
        assert!(tasks.hand_over(task(place)).is_err());
        assert!(tasks.place().is_none(), "it has ended");
    }
}
