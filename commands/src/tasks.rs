//! From whoever leaves a task to the provider worker of the same process.
//!
//! A worker is told that there is news and looks for what is due. Process managers do more: while it has places they leave a task
//! leased and hand it over, which saves a look, a lease of its own and a wait for the disk.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Duration, Utc};
use domain::process::Task;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified, mpsc};
use uuid::Uuid;

/// Tasks that were handed over and are not done with, at most: what comes beyond is found by the worker when it looks.
const PLACES: usize = 32;
/// How long a leased task is left alone: the longest pause after its worker died.
pub(crate) const LEASE_SECONDS: i32 = 5;

/// Shared by those who leave tasks in a process and its provider worker, if it has one.
#[derive(Debug)]
pub struct Tasks {
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
    /// Its place.
    pub place: Place,
}

impl Default for Tasks {
    fn default() -> Self {
        let (queue, inbox) = mpsc::unbounded_channel();
        Self { news: Notify::new(), places: Arc::new(Semaphore::new(PLACES)), queue, inbox: Mutex::new(Some(inbox)) }
    }
}

impl Tasks {
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

    /// Hands over a task that was left leased. Should the worker be gone, the lease runs out.
    pub(crate) fn hand_over(&self, handed: Handed) {
        let _ = self.queue.send(handed);
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
