//! The door of a process to its tasks. For call-backs: a new one is stored, its task is handed to the provider worker beside it, only then
//! the sender is acknowledged. And for those who want to know now how a payment stands.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use commands::{
    event_log::StoreError,
    looks::Looks,
    tasks::Tasks,
    webhooks::{self, Delivery},
};
use domain::{
    clock::{Clock as _, IdSource as _},
    ids::{MerchantId, WebhookId},
    payment_intent::AttemptStarted,
    provider::WebhookHint,
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    bank::NAME,
    link::Link,
    log_ports::SimLog,
    world::{SimClock, SimIds},
};

/// See the module.
#[derive(Clone)]
pub(crate) struct Door {
    pub link: Link,
    clock: Arc<SimClock>,
    tasks: Arc<Tasks>,
    looks: Arc<Looks>,
    worker_beside: bool,
    under_way: Arc<AtomicUsize>,
}

impl Door {
    /// Of a process whose provider worker, if it has one, has these tasks.
    pub fn of(link: Link, clock: Arc<SimClock>, tasks: Arc<Tasks>, worker_beside: bool) -> Self {
        Self { link, clock, tasks, looks: Arc::default(), worker_beside, under_way: Arc::default() }
    }

    /// Call-backs are being taken in.
    pub fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) > 0
    }

    /// Takes a call-back in, also when its sender hangs up; whether the sender is to be acknowledged. Ends with the process.
    pub fn take(&self, body: String, hint: WebhookHint) -> JoinHandle<bool> {
        let door = self.clone();
        door.under_way.fetch_add(1, Ordering::SeqCst);
        door.link.world.journal().pending += 1;
        tokio::spawn(async move {
            let taken = tokio::select! {
                biased;
                () = door.link.life.over() => false,
                taken = door.taken(&body, &hint) => taken,
            };
            door.link.world.journal().pending -= 1;
            door.under_way.fetch_sub(1, Ordering::SeqCst);
            taken
        })
    }

    /// Has the books be asked about an attempt, and waits for what they say.
    pub async fn look(&self, attempt: (MerchantId, &AttemptStarted), patience: Duration) -> Result<(), StoreError> {
        self.looks.look(&SimLog(self.link.clone()), &self.tasks, attempt, self.clock.now(), patience).await
    }

    async fn taken(&self, body: &str, hint: &WebhookHint) -> bool {
        let world = &self.link.world;
        let (id, now) = (WebhookId(SimIds(world.clone()).next()), self.clock.now());
        let delivery = Delivery { id, provider: NAME, account: NAME, tenant: None, received_at: now, headers: &[], body: body.as_bytes() };
        let log = SimLog(self.link.clone());
        let taken = webhooks::receive((&log, &log), &self.tasks, now, &delivery, hint).await;
        let left_leased = world.journal().is_left_leased(Uuid::from_bytes(id.0.to_bytes()));
        match (&taken, self.worker_beside) {
            (Ok(true), true) if left_leased => world.saw("call-back handed to the worker beside the door"),
            (Ok(true), true) => world.saw("worker beside the door had no place"),
            (Ok(_) | Err(_), _) => {}
        }
        taken.is_ok()
    }
}
