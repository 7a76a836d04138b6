//! The schema `process`: what its statements do. Their commits do not wait for the disk, unless something that does comes after.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use commands::{
    process_store::{Conclusion, Leased, Leaves, Settled, Stuck},
    webhooks::Delivery,
};
use domain::{
    ids::MerchantId,
    process::{AttemptRef, InquiryMode, Task},
    provider::{HintSubject, WebhookHint},
};
use uuid::Uuid;

use crate::{journal::FirstLook, sabotage::Saboteur, world::World};

/// Who holds a task, or held it and did not say what came of it: no column, but what is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Managers,
    Door,
    Worker,
}

#[derive(Debug, Clone)]
pub(crate) struct TaskRow {
    pub tenant: Uuid,
    pub task: Task,
    pub due_at: DateTime<Utc>,
    pub leased_until: Option<DateTime<Utc>>,
    pub holder: Option<Holder>,
}

impl TaskRow {
    /// One that nobody holds.
    const fn free(tenant: Uuid, task: Task, due_at: DateTime<Utc>) -> Self {
        Self { tenant, task, due_at, leased_until: None, holder: None }
    }

    /// Lets go of it, if it stands leased until exactly then.
    pub fn release(&mut self, leased_until: DateTime<Utc>) {
        if self.leased_until == Some(leased_until) {
            (self.leased_until, self.holder) = (None, None);
        }
    }

    /// Looks into a call-back for the first time.
    const fn is_first_look(&self) -> bool {
        matches!(&self.task, Task::FollowHint { tried: 0, .. })
    }

    /// Waits behind what somebody waits for.
    const fn is_watch(&self) -> bool {
        matches!(&self.task, Task::Inquire { mode: InquiryMode::Watch, .. })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct HookRow {
    pub id: Uuid,
    pub owner: Option<Uuid>,
    /// Ours or the provider's.
    pub name: Option<String>,
    pub transaction_id: Option<String>,
    pub state: &'static str,
    pub deliveries: i32,
}

/// An account, and a name there.
pub(crate) type Named = (String, String);

/// Puts back what a commit changed.
#[derive(Debug, Clone)]
enum Undo {
    Checkpoint(i64),
    Task(String, Option<Box<TaskRow>>),
    Reference(Named),
    Object(Named),
    State(Named, &'static str),
    Stuck(usize),
}

/// Rows of the schema.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProcessRows {
    pub checkpoint: i64,
    pub tasks: BTreeMap<String, TaskRow>,
    pub references: BTreeMap<Named, (Uuid, AttemptRef)>,
    pub objects: BTreeMap<Named, String>,
    /// By account and the provider's name for the delivery.
    pub hooks: BTreeMap<Named, HookRow>,
    pub stuck: Vec<Stuck>,
    pub exchanges: u64,
    /// Of each commit that did not wait for the disk, the newest last.
    unsynced: Vec<Vec<Undo>>,
}

fn uuid_of(tenant: MerchantId) -> Uuid {
    Uuid::from_bytes(tenant.0.to_bytes())
}

impl ProcessRows {
    pub fn durable(&mut self) {
        self.unsynced.clear();
    }

    /// Undoes some of the newest commits that did not wait for the disk; how many.
    pub fn lose(&mut self, world: &World) -> u64 {
        let lost = world.draw(u64::try_from(self.unsynced.len()).unwrap_or(0) + 1);
        for _ in 0..lost {
            let undo = self.unsynced.pop().unwrap_or_default();
            undo.into_iter().rev().for_each(|undo| self.undo(undo));
        }
        lost
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Checkpoint(before) => self.checkpoint = before,
            Undo::Task(key, Some(row)) => drop(self.tasks.insert(key, *row)),
            Undo::Task(key, None) => drop(self.tasks.remove(&key)),
            Undo::Reference(name) => drop(self.references.remove(&name)),
            Undo::Object(name) => drop(self.objects.remove(&name)),
            Undo::State(name, before) => self.hooks.get_mut(&name).map_or((), |row| row.state = before),
            Undo::Stuck(before) => self.stuck.truncate(before),
        }
    }

    /// By our name or the provider's, and with both in it.
    pub fn attempt_of(&self, account: &str, name: &str) -> Option<(Uuid, AttemptRef)> {
        let named = |name: &str| (account.to_owned(), name.to_owned());
        let other = self.objects.get(&named(name)).and_then(|reference| self.references.get(&named(reference)));
        let (tenant, mut attempt) = self.references.get(&named(name)).or(other)?.clone();
        if attempt.provider_id.is_none() {
            let told = self.objects.iter().find(|((of, _), reference)| of == account && **reference == attempt.reference);
            attempt.provider_id = told.map(|((_, name), _)| name.clone());
        }
        Some((tenant, attempt))
    }

    /// With the keys of the tasks that were left leased, and whether one of them waits for the disk.
    pub fn advance(
        &mut self,
        world: &World,
        (from, to): (i64, i64),
        leaves: Vec<Leaves>,
        stuck: Vec<Stuck>,
    ) -> Option<(Vec<String>, bool)> {
        if self.checkpoint != from && world.sabotage != Some(Saboteur::CheckpointNotCompared) {
            world.saw("process checkpoint moved by another");
            return None;
        }
        if to < self.checkpoint {
            world.violated("I3", format!("the managers' checkpoint went back from {} to {to}", self.checkpoint));
        }
        let mut undo = vec![Undo::Checkpoint(self.checkpoint), Undo::Stuck(self.stuck.len())];
        self.checkpoint = to;
        let leaves = if world.sabotaged(Saboteur::CheckpointOutsideTransaction, 8) { Vec::new() } else { leaves };
        let (waits, mut leased) = (leaves.iter().any(Leaves::is_lease_that_begins_something), Vec::new());
        for left in leaves {
            match left {
                Leaves::Task { key, tenant, task, due_at, leased_until } => {
                    let held = leased_until.filter(|_| world.sabotage != Some(Saboteur::NoLeases));
                    let holder = leased_until.map(|_| Holder::Managers);
                    let row = TaskRow { leased_until: held, holder, ..TaskRow::free(uuid_of(tenant), *task, due_at) };
                    if let Some(added) = self.add_task(key.clone(), row) {
                        undo.push(added);
                        if leased_until.is_some() {
                            world.saw("task left leased");
                            leased.push(key);
                        }
                    }
                }
                Leaves::Reference { tenant, attempt } => {
                    let name = (attempt.provider.clone(), attempt.provider_id.clone().unwrap_or_else(|| attempt.reference.clone()));
                    if world.sabotage != Some(Saboteur::ReferencesForgotten) && !self.references.contains_key(&name) {
                        undo.push(Undo::Reference(name.clone()));
                        self.references.insert(name, (uuid_of(tenant), *attempt));
                    }
                }
            }
        }
        self.stuck.extend(stuck);
        self.unsynced.push(undo);
        leased.sort();
        Some((leased, waits))
    }

    /// Nothing when one with its key is there.
    fn add_task(&mut self, key: String, row: TaskRow) -> Option<Undo> {
        if self.tasks.contains_key(&key) {
            return None;
        }
        self.tasks.insert(key.clone(), row);
        Some(Undo::Task(key, None))
    }

    /// Changes a task, if it is there.
    pub fn change_task(&mut self, key: &str, change: impl FnOnce(&mut TaskRow)) {
        if let Some(row) = self.tasks.get_mut(key) {
            self.unsynced.push(vec![Undo::Task(key.to_owned(), Some(Box::new(row.clone())))]);
            change(row);
        }
    }

    /// Changes a task that stands leased, or stood so and was not let go of.
    pub fn change_held(&mut self, key: &str, change: impl FnOnce(&mut TaskRow)) {
        if self.tasks.get(key).is_some_and(|row| row.leased_until.is_some()) {
            self.change_task(key, change);
        }
    }

    /// All of it at once.
    pub fn conclude(&mut self, conclusions: &[Conclusion], forgets: bool, world: &World) {
        let mut undo = Vec::new();
        for done in conclusions {
            match &done.next {
                Some((task, tenant, due_at)) if !forgets => {
                    if let Some(row) = self.tasks.get_mut(&done.key) {
                        let new = TaskRow::free(*tenant, task.clone(), *due_at);
                        undo.push(Undo::Task(done.key.clone(), Some(Box::new(std::mem::replace(row, new)))));
                    }
                }
                Some(_) | None => undo.extend(self.remove_task(&done.key)),
            }
            undo.extend(done.also.as_ref().and_then(|also| self.remove_task(also)));
            if let Some(settled) = done.call_back {
                undo.extend(self.settle(settled, world));
            }
        }
        self.unsynced.push(undo);
    }

    fn remove_task(&mut self, key: &str) -> Option<Undo> {
        self.tasks.remove(key).map(|row| Undo::Task(key.to_owned(), Some(Box::new(row))))
    }

    pub fn remember(&mut self, account: &str, provider_id: &str, reference: &str) {
        let name = (account.to_owned(), provider_id.to_owned());
        if !self.objects.contains_key(&name) {
            self.unsynced.push(vec![Undo::Object(name.clone())]);
            self.objects.insert(name, reference.to_owned());
        }
    }

    /// And whether it waits for the disk, to which its caller sees.
    pub fn lease(&mut self, world: &World, now: DateTime<Utc>, until: DateTime<Utc>, count: usize) -> (Vec<Leased>, bool) {
        let honest = world.sabotage != Some(Saboteur::LeaseForEver);
        let free = |row: &TaskRow| row.leased_until.is_none_or(|leased| honest && leased <= now);
        let mut due: Vec<(String, (bool, DateTime<Utc>))> = self
            .tasks
            .iter()
            .filter(|(_, row)| row.due_at <= now && free(row))
            .map(|(key, row)| (key.clone(), (row.is_watch(), row.due_at)))
            .collect();
        due.sort_by_key(|(_, place)| *place);
        due.truncate(count);
        let (mut leased, mut undo, mut waits) = (Vec::new(), Vec::new(), false);
        for (key, _) in due {
            let Some(row) = self.tasks.get_mut(&key) else { continue };
            undo.push(Undo::Task(key.clone(), Some(Box::new(row.clone()))));
            waits |= row.task.begins_something();
            let abandoned = row.leased_until.is_some();
            if abandoned {
                taken_over(world, &key, row.holder);
            }
            row.holder = Some(Holder::Worker);
            row.leased_until = (world.sabotage != Some(Saboteur::NoLeases)).then_some(until);
            if row.is_first_look() {
                world.journal().first_look(&key).taken += 1;
            }
            leased.push(Leased { key: key.clone(), tenant: row.tenant, task: Ok(row.task.clone()), abandoned });
            if world.sabotaged(Saboteur::TaskGoneBeforeDone, 6) {
                self.tasks.remove(&key);
            }
        }
        if !waits && !undo.is_empty() {
            self.unsynced.push(undo);
        }
        (leased, waits)
    }

    /// As `process.take_webhook`, whose caller waits for the disk.
    pub fn take(
        &mut self,
        (id, leased_until): (Uuid, Option<DateTime<Utc>>),
        delivery: &Delivery<'_>,
        hint: &WebhookHint,
        world: &World,
    ) -> bool {
        let (name, state) = match &hint.subject {
            HintSubject::Reference(name) | HintSubject::ProviderId(name) => (Some(name.clone()), "received"),
            HintSubject::Nothing => (None, "done"),
        };
        let at = (delivery.account.to_owned(), hint.delivery_id.clone());
        let owner = delivery.tenant.map(uuid_of);
        let fresh = !self.hooks.contains_key(&at);
        let row = HookRow { id, owner, name: name.clone(), transaction_id: hint.transaction_id.clone(), state, deliveries: 0 };
        let row = self.hooks.entry(at).or_insert(row);
        row.deliveries += 1;
        if !fresh {
            world.saw("call-back known already");
        }
        if row.state == "unconfirmed" {
            row.state = "received";
        }
        if let (Some(reference), "received") = (name, row.state) {
            let (key, task) = (format!("webhook:{}", row.id), follow(delivery.account, reference, hint.transaction_id.clone()));
            let leased_until = leased_until.filter(|_| fresh && world.sabotage != Some(Saboteur::HandedOverUnleased));
            if leased_until.is_some() {
                *world.journal().first_look(&key) = FirstLook { left_leased: true, taken: 1, begun: 0 };
            }
            let row = TaskRow::free(owner.unwrap_or_default(), task, delivery.received_at);
            let row = TaskRow { leased_until, holder: leased_until.map(|_| Holder::Door), ..row };
            self.tasks.entry(key).or_insert(row);
        }
        fresh
    }

    /// Leaves a look that somebody waits for, whose caller waits for the disk.
    pub fn look_now(&mut self, tenant: MerchantId, key: &str, task: Task, now: DateTime<Utc>) {
        let _ = self.add_task(key.to_owned(), TaskRow::free(uuid_of(tenant), task, now));
    }

    pub fn looks_now(&self, tenant: MerchantId, key: &str) -> bool {
        self.tasks.get(key).is_some_and(|row| row.tenant == uuid_of(tenant))
    }

    /// Puts a call-back aside, and its task away.
    pub fn park(&mut self, id: Uuid, key: &str) {
        let mut undo: Vec<Undo> = self.remove_task(key).into_iter().collect();
        undo.extend(self.set_state(id, None, "parked"));
        self.unsynced.push(undo);
    }

    fn settle(&mut self, Settled { id, tenant, confirmed }: Settled, world: &World) -> Option<Undo> {
        let undo = self.set_state(id, Some("received"), if confirmed { "done" } else { "unconfirmed" })?;
        world.saw(if confirmed { "call-back confirmed by the books" } else { "call-back never confirmed" });
        if let Some(row) = self.hooks.values_mut().find(|row| row.id == id) {
            row.owner = row.owner.or(Some(tenant));
        }
        Some(undo)
    }

    fn set_state(&mut self, id: Uuid, only_from: Option<&str>, state: &'static str) -> Option<Undo> {
        let (name, row) = self.hooks.iter_mut().find(|(_, row)| row.id == id && only_from.is_none_or(|from| from == row.state))?;
        Some(Undo::State(name.clone(), std::mem::replace(&mut row.state, state)))
    }

    /// Takes up again what is parked and known by now; how many.
    pub fn unpark(&mut self, now: DateTime<Utc>) -> i64 {
        let known = |(account, _): &Named, row: &HookRow| row.name.as_deref().is_some_and(|name| self.attempt_of(account, name).is_some());
        let parked = self.hooks.iter().filter(|(_, row)| row.state == "parked");
        let found: Vec<(Named, HookRow)> = parked.filter(|(at, row)| known(at, row)).map(|(at, row)| (at.clone(), row.clone())).collect();
        let mut undo = Vec::new();
        for (at, row) in &found {
            undo.extend(self.set_state(row.id, None, "received"));
            let task = follow(&at.0, row.name.clone().unwrap_or_default(), row.transaction_id.clone());
            let task = TaskRow::free(row.owner.unwrap_or_default(), task, now);
            undo.extend(self.add_task(format!("webhook:{}", row.id), task));
        }
        if !undo.is_empty() {
            self.unsynced.push(undo);
        }
        i64::try_from(found.len()).unwrap_or(i64::MAX)
    }

    /// Delivery id, state, how often it came.
    pub fn stored_call_backs(&self) -> Vec<(String, String, i32)> {
        let mut stored: Vec<_> =
            self.hooks.iter().map(|((_, delivery), row)| (delivery.clone(), row.state.to_owned(), row.deliveries)).collect();
        stored.sort();
        stored
    }
}

/// A lease ran out, or its holder left the task for later.
fn taken_over(world: &World, key: &str, holder: Option<Holder>) {
    world.saw("lease taken over");
    match holder {
        Some(Holder::Door) => world.saw("lease left by a door taken over"),
        Some(Holder::Managers) => world.saw("lease left by managers taken over"),
        Some(Holder::Worker) => {}
        None => world.violated("I12", format!("'{key}' counts as perhaps begun, and nobody ever held it")),
    }
}

fn follow(account: &str, reference: String, transaction_id: Option<String>) -> Task {
    Task::FollowHint { provider: account.to_owned(), reference, transaction_id, tried: 0 }
}
