//! The port on the schema `process`.

use chrono::{DateTime, Duration, Utc};
use commands::{
    call_backs::Sweep,
    event_log::StoreError,
    process_store::{Conclusion, Leased, Leaves, ProcessStore, Said, Stuck},
    webhooks::Delivery,
};
use domain::{
    ids::MerchantId,
    process::{AttemptRef, Task},
    provider::WebhookHint,
};
use uuid::Uuid;

use crate::{log_ports::SimLog, process_rows::TaskRow, sabotage::Saboteur, schedule::Knob};

/// After a call-back was acknowledged that is not kept yet.
const LATER: std::time::Duration = std::time::Duration::from_millis(300);

/// Seconds of a lease; whole ones are all that is used.
fn seconds(seconds: f64) -> Duration {
    Duration::seconds(format!("{seconds:.0}").parse().unwrap_or(5))
}

impl ProcessStore for SimLog {
    async fn checkpoint(&self) -> Result<i64, StoreError> {
        self.0.ask("process checkpoint", |db| db.process.checkpoint).await
    }

    async fn advance(
        &self,
        from: i64,
        (to, hash): (i64, Option<[u8; 32]>),
        leaves: Vec<Leaves>,
        stuck: Vec<Stuck>,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let world = &self.0.world;
        let advance = |db: &mut crate::db::Db| {
            if hash.is_some_and(|hash| db.range(to - 1, 1).first().is_none_or(|event| event.hash != hash)) {
                return None;
            }
            let (leased, waits) = db.process.advance(world, (from, to), leaves, stuck)?;
            if waits {
                db.durable();
            }
            Some(leased)
        };
        self.0.ask("advance", advance).await
    }

    async fn lease(&self, now: DateTime<Utc>, lease: f64, count: i64) -> Result<Vec<Leased>, StoreError> {
        let (world, count) = (&self.0.world, usize::try_from(count).unwrap_or(0));
        let take = |db: &mut crate::db::Db| {
            let (leased, waits) = db.process.lease(world, now, now + seconds(lease), count);
            if waits {
                db.durable();
            }
            leased
        };
        self.0.ask("lease", take).await
    }

    async fn release(&self, key: &str, leased_until: DateTime<Utc>) -> Result<(), StoreError> {
        self.0.world.saw("task that was handed over let go of");
        self.0.ask("release", |db| db.process.change_task(key, |row| row.release(leased_until))).await
    }

    async fn renew(&self, keys: &[String], now: DateTime<Utc>, lease: f64) -> Result<(), StoreError> {
        let until = now + seconds(lease);
        let renew = |db: &mut crate::db::Db| {
            for key in keys {
                db.process.change_held(key, |row| row.leased_until = Some(until));
            }
        };
        self.0.ask("renew", renew).await
    }

    async fn put_back(&self, key: &str, due: DateTime<Utc>) -> Result<(), StoreError> {
        // As in SQL: with a lease that has run out by then, so that nobody takes it for a fresh one.
        let back = |row: &mut TaskRow| (row.leased_until, row.due_at) = (Some(due), due);
        self.0.ask("put back", |db| db.process.change_held(key, back)).await
    }

    async fn conclude(&self, conclusions: &[Conclusion]) -> Result<(), StoreError> {
        let world = &self.0.world;
        let forgets = world.sabotaged(Saboteur::FollowUpForgotten, 6);
        self.0.ask("conclude", |db| db.process.conclude(conclusions, forgets, world)).await
    }

    async fn attempt_of(&self, account: &str, name: &str) -> Result<Option<(Uuid, AttemptRef)>, StoreError> {
        self.0.ask("attempt of", |db| db.process.attempt_of(account, name)).await
    }

    async fn remember(&self, attempt: &AttemptRef, provider_id: &str) -> Result<(), StoreError> {
        self.0.ask("remember", |db| db.process.remember(&attempt.provider, provider_id, &attempt.reference)).await
    }

    async fn take_webhook(
        &self,
        delivery: &Delivery<'_>,
        hint: &WebhookHint,
        leased_until: Option<DateTime<Utc>>,
    ) -> Result<bool, StoreError> {
        let world = &self.0.world;
        let id = Uuid::from_bytes(delivery.id.0.to_bytes());
        if world.sabotaged(Saboteur::HookAckedUnstored, 3) {
            return Ok(true);
        }
        if world.sabotaged(Saboteur::KeptAfterHandOver, 3) {
            self.keep_later((id, leased_until), delivery, hint);
            return Ok(true);
        }
        let take = |db: &mut crate::db::Db| {
            let fresh = db.process.take((id, leased_until), delivery, hint, world);
            // The sender is acknowledged: whoever stores a call-back waits for the disk.
            db.durable();
            if fresh && leased_until.is_some() && world.strikes(Knob::DoorDies) {
                self.0.life.end();
            }
            fresh
        };
        self.0.ask("take call-back", take).await
    }

    async fn look_now(&self, tenant: MerchantId, key: &str, task: &Task, now: DateTime<Utc>) -> Result<(), StoreError> {
        let look = |db: &mut crate::db::Db| {
            db.process.look_now(tenant, key, task.clone(), now);
            // As all that an API process writes: it waits for the disk.
            db.durable();
        };
        self.0.ask("look now", look).await
    }

    async fn looks_now(&self, tenant: MerchantId, key: &str) -> Result<bool, StoreError> {
        self.0.ask("looks now", |db| db.process.looks_now(tenant, key)).await
    }

    async fn park(&self, id: Uuid, key: &str) -> Result<(), StoreError> {
        self.0.world.saw("call-back parked");
        self.0.ask("park", |db| db.process.park(id, key)).await
    }

    async fn unpark(&self, now: DateTime<Utc>, _after: i64) -> Result<Sweep, StoreError> {
        let honest = self.0.world.sabotage != Some(Saboteur::ParkedForgotten);
        let reopened = self.0.ask("unpark", |db| if honest { db.process.unpark(now) } else { 0 }).await?;
        if reopened > 0 {
            self.0.world.saw("parked call-back taken up again");
        }
        // All of them in one sweep.
        Ok(Sweep { reopened, next: 0 })
    }

    async fn keep_exchanges(&self, said: &[Said]) -> Result<(), StoreError> {
        // One that is handed in again was counted before.
        let looks =
            said.iter().filter(|said| !said.again).flat_map(|said| &said.exchanges).filter(|exchange| exchange.operation == "call_back");
        for (key, _) in looks.filter_map(|look| look.request_body.split_once(';')) {
            self.0.world.journal().first_look(key).begun += 1;
        }
        let count = said.iter().map(|said| u64::try_from(said.exchanges.len()).unwrap_or(0)).sum::<u64>();
        self.0.ask("exchanges", |db| db.process.exchanges += count).await
    }
}

impl SimLog {
    /// Keeps a call-back that was said to be kept; not when its process or the database dies before.
    fn keep_later(&self, (id, leased_until): (Uuid, Option<DateTime<Utc>>), delivery: &Delivery<'_>, hint: &WebhookHint) {
        let (link, hint, generation) = (self.0.clone(), hint.clone(), self.0.world.db().generation);
        let (received_at, body, headers) = (delivery.received_at, delivery.body.to_vec(), delivery.headers.to_vec());
        let names = (delivery.provider.to_owned(), delivery.account.to_owned(), delivery.tenant);
        let at = delivery.id;
        tokio::spawn(async move {
            tokio::time::sleep(LATER).await;
            let mut db = link.world.db();
            if !link.life.is_over() && db.up && db.generation == generation {
                let (provider, account, tenant) = (names.0.as_str(), names.1.as_str(), names.2);
                let delivery = Delivery { id: at, provider, account, tenant, received_at, headers: &headers, body: &body };
                db.process.take((id, leased_until), &delivery, &hint, &link.world);
            }
        });
    }
}
