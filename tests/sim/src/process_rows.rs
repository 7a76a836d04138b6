//! The schema `process` and the port on it.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use commands::{
    call_backs::Sweep,
    event_log::StoreError,
    process_store::{Conclusion, Leased, Leaves, ProcessStore, Said, Settled, Stuck},
    webhooks::Delivery,
};
use domain::{
    ids::MerchantId,
    process::{AttemptRef, Task},
    provider::{HintSubject, WebhookHint},
};
use uuid::Uuid;

use crate::{log_ports::SimLog, sabotage::Saboteur, world::World};

#[derive(Debug, Clone)]
pub(crate) struct TaskRow {
    pub tenant: Uuid,
    pub task: Task,
    pub due_at: DateTime<Utc>,
    pub leased_until: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone)]
pub(crate) struct HookRow {
    pub name: Option<String>,
    pub transaction_id: Option<String>,
    pub state: &'static str,
    pub deliveries: u32,
}

/// Rows of the schema.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProcessRows {
    pub checkpoint: i64,
    /// Where the checkpoint stood before moves that did not wait for the disk.
    unsynced: Vec<i64>,
    pub tasks: BTreeMap<String, TaskRow>,
    pub references: BTreeMap<(String, String), (Uuid, AttemptRef)>,
    pub objects: BTreeMap<(String, String), String>,
    /// By the provider's name for the delivery.
    pub hooks: BTreeMap<String, (Uuid, HookRow)>,
    pub stuck: Vec<Stuck>,
    pub exchanges: u64,
}

fn uuid_of(tenant: MerchantId) -> Uuid {
    Uuid::from_bytes(tenant.0.to_bytes())
}

impl ProcessRows {
    pub fn durable(&mut self) {
        self.unsynced.clear();
    }

    /// Undoes some of the newest moves that did not wait for the disk; how many.
    pub fn lose(&mut self, world: &World) -> u64 {
        let lost = world.draw(u64::try_from(self.unsynced.len()).unwrap_or(0) + 1);
        for _ in 0..lost {
            self.checkpoint = self.unsynced.pop().unwrap_or(self.checkpoint);
        }
        lost
    }

    pub fn attempt_of(&self, account: &str, name: &str) -> Option<&(Uuid, AttemptRef)> {
        let key = |name: &str| (account.to_owned(), name.to_owned());
        let known = self.objects.get(&key(name)).cloned();
        self.references.get(&key(name)).or_else(|| known.and_then(|reference| self.references.get(&key(&reference))))
    }

    fn advance(&mut self, world: &World, from: i64, to: i64, leaves: Vec<Leaves>, stuck: Vec<Stuck>) -> bool {
        if self.checkpoint != from && world.sabotage != Some(Saboteur::CheckpointNotCompared) {
            world.saw("process checkpoint moved by another");
            return false;
        }
        if leaves.is_empty() && stuck.is_empty() {
            self.unsynced.push(self.checkpoint);
        } else {
            self.durable();
        }
        if to < self.checkpoint {
            world.violated("I3", format!("the managers' checkpoint went back from {} to {to}", self.checkpoint));
        }
        self.checkpoint = to;
        if world.sabotaged(Saboteur::CheckpointOutsideTransaction, 8) {
            return true;
        }
        for left in leaves {
            match left {
                Leaves::Task { key, tenant, task, due_at } => {
                    self.tasks.entry(key).or_insert(TaskRow { tenant: uuid_of(tenant), task: *task, due_at, leased_until: None });
                }
                Leaves::Reference { tenant, attempt } => {
                    if world.sabotage == Some(Saboteur::ReferencesForgotten) {
                        continue;
                    }
                    let name = attempt.provider_id.clone().unwrap_or_else(|| attempt.reference.clone());
                    self.references.entry((attempt.provider.clone(), name)).or_insert((uuid_of(tenant), *attempt));
                }
            }
        }
        self.stuck.extend(stuck);
        true
    }

    fn lease(&mut self, world: &World, now: DateTime<Utc>, until: DateTime<Utc>, count: usize) -> Vec<Leased> {
        let honest = world.sabotage != Some(Saboteur::LeaseForEver);
        let free = |row: &TaskRow| row.leased_until.is_none_or(|leased| honest && leased <= now);
        let mut due: Vec<(String, DateTime<Utc>)> =
            self.tasks.iter().filter(|(_, row)| row.due_at <= now && free(row)).map(|(key, row)| (key.clone(), row.due_at)).collect();
        due.sort_by_key(|(_, due_at)| *due_at);
        due.truncate(count);
        let mut leased = Vec::new();
        for (key, _) in due {
            let Some(row) = self.tasks.get_mut(&key) else { continue };
            let abandoned = row.leased_until.is_some();
            if abandoned {
                world.saw("lease taken over");
            }
            row.leased_until = (world.sabotage != Some(Saboteur::NoLeases)).then_some(until);
            leased.push(Leased { key: key.clone(), tenant: row.tenant, task: Ok(row.task.clone()), abandoned });
            if world.sabotaged(Saboteur::TaskGoneBeforeDone, 6) {
                self.tasks.remove(&key);
            }
        }
        leased
    }

    /// As `process.take_webhook`.
    fn take(&mut self, id: Uuid, delivery: &Delivery<'_>, hint: &WebhookHint, world: &World) -> bool {
        let (name, state) = match &hint.subject {
            HintSubject::Reference(name) | HintSubject::ProviderId(name) => (Some(name.clone()), "received"),
            HintSubject::Nothing => (None, "done"),
        };
        let fresh = !self.hooks.contains_key(&hint.delivery_id);
        let row = HookRow { name: name.clone(), transaction_id: hint.transaction_id.clone(), state, deliveries: 0 };
        let (id, row) = self.hooks.entry(hint.delivery_id.clone()).or_insert((id, row));
        row.deliveries += 1;
        if !fresh {
            world.saw("call-back known already");
        }
        if row.state == "unconfirmed" {
            row.state = "received";
        }
        if let (Some(reference), "received") = (name, row.state) {
            let task = follow(delivery.account, reference, hint.transaction_id.clone());
            let row = TaskRow { tenant: Uuid::nil(), task, due_at: delivery.received_at, leased_until: None };
            self.tasks.entry(format!("webhook:{id}")).or_insert(row);
        }
        fresh
    }

    fn unpark(&mut self, account: &str, now: DateTime<Utc>) -> u64 {
        let known = |name: &Option<String>| name.as_deref().is_some_and(|name| self.attempt_of(account, name).is_some());
        let found: Vec<String> =
            self.hooks.iter().filter(|(_, (_, row))| row.state == "parked" && known(&row.name)).map(|(key, _)| key.clone()).collect();
        for delivery in &found {
            let Some((id, row)) = self.hooks.get_mut(delivery) else { continue };
            row.state = "received";
            let task = follow(account, row.name.clone().unwrap_or_default(), row.transaction_id.clone());
            let task = TaskRow { tenant: Uuid::nil(), task, due_at: now, leased_until: None };
            self.tasks.entry(format!("webhook:{id}")).or_insert(task);
        }
        u64::try_from(found.len()).unwrap_or(0)
    }

    fn conclude(&mut self, done: &Conclusion, forgets: bool, world: &World) {
        match &done.next {
            Some((task, tenant, due_at)) if !forgets => {
                if let Some(old) = self.tasks.get_mut(&done.key) {
                    *old = TaskRow { tenant: *tenant, task: task.clone(), due_at: *due_at, leased_until: None };
                }
            }
            Some(_) | None => drop(self.tasks.remove(&done.key)),
        }
        if let Some(also) = &done.also {
            self.tasks.remove(also);
        }
        if let Some(Settled { id, confirmed, .. }) = done.call_back
            && let Some(row) = self.hook(id).filter(|row| row.state == "received")
        {
            world.saw(if confirmed { "call-back confirmed by the books" } else { "call-back never confirmed" });
            row.state = if confirmed { "done" } else { "unconfirmed" };
        }
    }

    fn hook(&mut self, id: Uuid) -> Option<&mut HookRow> {
        self.hooks.values_mut().find(|(of, _)| *of == id).map(|(_, row)| row)
    }
}

fn follow(account: &str, reference: String, transaction_id: Option<String>) -> Task {
    Task::FollowHint { provider: account.to_owned(), reference, transaction_id, tried: 0 }
}

/// Seconds of a lease; whole ones are all that is used.
fn seconds(seconds: f64) -> Duration {
    Duration::seconds(format!("{seconds:.0}").parse().unwrap_or(5))
}

impl ProcessStore for SimLog {
    async fn checkpoint(&self) -> Result<i64, StoreError> {
        self.0.ask("process checkpoint", |db| db.process.checkpoint).await
    }

    async fn advance(&self, from: i64, to: i64, leaves: Vec<Leaves>, stuck: Vec<Stuck>) -> Result<bool, StoreError> {
        let world = &self.0.world;
        self.0.ask("advance", |db| db.process.advance(world, from, to, leaves, stuck)).await
    }

    async fn lease(&self, now: DateTime<Utc>, lease: f64, count: i64) -> Result<Vec<Leased>, StoreError> {
        let (world, count) = (&self.0.world, usize::try_from(count).unwrap_or(0));
        self.0.ask("lease", |db| db.process.lease(world, now, now + seconds(lease), count)).await
    }

    async fn renew(&self, key: &str, now: DateTime<Utc>, lease: f64) -> Result<(), StoreError> {
        self.0.ask("renew", |db| db.process.tasks.get_mut(key).map_or((), |row| row.leased_until = Some(now + seconds(lease)))).await
    }

    async fn put_back(&self, key: &str, due: DateTime<Utc>) -> Result<(), StoreError> {
        // As in SQL: with a lease that has run out by then, so that nobody takes it for a fresh one.
        let back = |row: &mut TaskRow| (row.leased_until, row.due_at) = (Some(due), due);
        self.0.ask("put back", |db| db.process.tasks.get_mut(key).map_or((), back)).await
    }

    async fn conclude(&self, conclusions: &[Conclusion]) -> Result<(), StoreError> {
        let world = &self.0.world;
        let forgets = world.sabotaged(Saboteur::FollowUpForgotten, 6);
        self.0.ask("conclude", |db| conclusions.iter().for_each(|done| db.process.conclude(done, forgets, world))).await
    }

    async fn attempt_of(&self, account: &str, name: &str) -> Result<Option<(Uuid, AttemptRef)>, StoreError> {
        self.0.ask("attempt of", |db| db.process.attempt_of(account, name).cloned()).await
    }

    async fn remember(&self, attempt: &AttemptRef, provider_id: &str) -> Result<(), StoreError> {
        let key = (attempt.provider.clone(), provider_id.to_owned());
        self.0
            .ask("remember", |db| {
                db.process.objects.entry(key).or_insert_with(|| attempt.reference.clone());
            })
            .await
    }

    async fn take_webhook(&self, delivery: &Delivery<'_>, hint: &WebhookHint) -> Result<bool, StoreError> {
        let world = &self.0.world;
        let id = Uuid::from_bytes(delivery.id.0.to_bytes());
        if world.sabotaged(Saboteur::HookAckedUnstored, 3) {
            return Ok(true);
        }
        self.0.ask("take call-back", |db| db.process.take(id, delivery, hint, world)).await
    }

    async fn park(&self, id: Uuid, key: &str) -> Result<(), StoreError> {
        self.0.world.saw("call-back parked");
        self.0
            .ask("park", |db| {
                db.process.tasks.remove(key);
                if let Some(row) = db.process.hook(id) {
                    row.state = "parked";
                }
            })
            .await
    }

    async fn unpark(&self, now: DateTime<Utc>, _after: i64) -> Result<Sweep, StoreError> {
        let honest = self.0.world.sabotage != Some(Saboteur::ParkedForgotten);
        let done = self.0.ask("unpark", |db| if honest { db.process.unpark(crate::bank::NAME, now) } else { 0 }).await?;
        if done > 0 {
            self.0.world.saw("parked call-back taken up again");
        }
        // All of them in one sweep.
        Ok(Sweep { reopened: i64::try_from(done).unwrap_or(i64::MAX), next: 0 })
    }

    async fn keep_exchanges(&self, said: &[Said]) -> Result<(), StoreError> {
        let count = said.iter().map(|said| u64::try_from(said.exchanges.len()).unwrap_or(0)).sum::<u64>();
        self.0.ask("exchanges", |db| db.process.exchanges += count).await
    }
}
