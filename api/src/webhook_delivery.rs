//! Delivers webhooks: turns public events into deliveries, makes the attempts, carries out what the pure step says.
//!
//! Everything that must survive stands in the log or in `process.webhook_…`; this loop may die at any moment. What is sent is
//! made from the log at each attempt, so that it is the same as in the feed.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use chrono::Duration as ChronoDuration;
use commands::{
    error::CommandError,
    handle::{Caller, CommandHandler},
    personal::{Keyring, Subject},
    system::SystemRandom,
    webhook_deliveries::{self as store, Attempt, Due, Leased},
    webhook_endpoints,
};
use domain::{
    clock::RandomSource,
    delivery::{self, Answer, Before, Policy},
    public_event::{self, Filter},
    webhook_endpoint::{Command, Status},
};
use futures_util::FutureExt as _;
use gateway::outbound::{Deliverer, Delivery, Secret};
use metrics::{counter, gauge, histogram};
use projections::{
    ReadModels, ReadScope,
    models::events::{PublicEvent, WebhookEndpointRow},
};
use sqlx::PgPool;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{config::Config, resources::event::told};

/// Attempts under way in one process.
const MOST_UNDER_WAY: usize = 256;
/// Events turned into deliveries at a time.
const PAGE: i64 = 200;
/// Events of the log behind a cursor, none of them to be told, after which it moves.
const FAR: i64 = 10_000;
/// Poll when nothing wakes the loop.
const POLL: Duration = Duration::from_millis(100);
/// After each pass, so that what happens meanwhile shares the next one: a server far away does not notice.
const PACE: Duration = Duration::from_millis(20);
/// How often every endpoint is looked at, whatever happened.
const SWEEP: Duration = Duration::from_secs(10);
/// How long a delivery rests that cannot be attempted, seconds: its endpoint is disabled, or the database fails.
const REST_SECONDS: i64 = 5;

/// Delivers. Cheap to clone.
#[derive(Clone)]
pub struct Courier(Arc<Parts>);

struct Parts {
    pool: PgPool,
    reads: ReadModels,
    commands: CommandHandler,
    keyring: Keyring,
    deliverer: Deliverer,
    policy: Policy,
    random: Box<dyn RandomSource>,
}

/// Why a delivery was not attempted.
#[derive(Debug, thiserror::Error)]
enum NotAttempted {
    #[error("the endpoint is not enabled")]
    Resting,
    #[error("{0}")]
    Failed(String),
}

impl From<projections::Error> for NotAttempted {
    fn from(error: projections::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<CommandError> for NotAttempted {
    fn from(error: CommandError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Courier {
    /// Over the worker's pool.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(config: &Config, pool: PgPool, commands: CommandHandler, keyring: Keyring) -> Result<Self> {
        let deliverer = Deliverer::new(config.webhooks.addresses()).context("webhooks cannot be delivered")?;
        let (reads, policy, random) = (ReadModels::new(pool.clone()), config.webhooks.policy(), Box::new(SystemRandom));
        Ok(Self(Arc::new(Parts { pool, reads, commands, keyring, deliverer, policy, random })))
    }

    /// Runs until `shutdown`; attempts under way are finished as far as the time for stopping allows.
    pub async fn run(self, mut moved: watch::Receiver<i64>, shutdown: CancellationToken) {
        let mut under_way = JoinSet::new();
        let (mut at, mut swept) = (None, Instant::now());
        while !shutdown.is_cancelled() {
            let sweeps = swept.elapsed() >= SWEEP;
            let passed = self.pass(at.filter(|_| !sweeps), &mut under_way).await;
            if sweeps {
                // After it: one that takes longer than from one to the next is not all that is done.
                swept = Instant::now();
            }
            match passed {
                Ok(position) => at = Some(position),
                Err(error) => {
                    at = None;
                    counter!("smartpos_webhook_faults_total").increment(1);
                    tracing::warn!(%error, "deliveries start over");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(PACE) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                Ok(()) = moved.changed() => {}
                Some(_) = under_way.join_next() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Takes in what happened since `at` (everything without) and starts what is due. Returns how far it looked.
    async fn pass(&self, at: Option<i64>, under_way: &mut JoinSet<()>) -> Result<i64, CommandError> {
        // Before the endpoints are read: their filters are at least as new as the events up to here.
        let until = self.0.reads.events_position().await.map_err(unavailable)?;
        let endpoints = match at {
            Some(at) if at == until => vec![],
            Some(at) if at < until => {
                let tenants = store::tenants_between(&self.0.pool, at, until).await?;
                self.0.reads.enabled_endpoints(Some(&tenants)).await.map_err(unavailable)?
            }
            // Nothing is known yet, or the log was restored to the past.
            Some(_) | None => {
                let (waiting, oldest) = store::backlog(&self.0.pool).await?;
                gauge!("smartpos_webhook_waiting").set(u32::try_from(waiting).unwrap_or(u32::MAX));
                let lag = oldest.map_or(0, |due| (self.0.commands.clock().now() - due).num_seconds().max(0));
                gauge!("smartpos_webhook_lag_seconds").set(u32::try_from(lag).unwrap_or(u32::MAX));
                self.0.reads.enabled_endpoints(None).await.map_err(unavailable)?
            }
        };
        let mut failed = None;
        for endpoint in endpoints {
            // One that cannot be served keeps no other waiting.
            if let Err(error) = self.fan_out(&endpoint, until).await {
                tracing::warn!(endpoint = %endpoint.webhook_endpoint_id, %error, "no deliveries are made of new events");
                failed = Some(error);
            }
        }
        let free = free(under_way);
        for leased in store::lease(&self.0.pool, self.0.commands.clock().now(), free).await? {
            let courier = self.clone();
            under_way.spawn(async move { courier.deliver(&leased).await });
        }
        failed.map_or(Ok(until), Err)
    }

    /// Makes deliveries of one endpoint's events up to `until`, as long as not too many wait.
    async fn fan_out(&self, endpoint: &WebhookEndpointRow, until: i64) -> Result<(), CommandError> {
        let (tenant, id) = (endpoint.tenant, endpoint.webhook_endpoint_id);
        let scope = ReadScope { tenant: Some(tenant), ..ReadScope::default() };
        let cursor = store::cursor(&self.0.pool, tenant, id, endpoint.stamp.opened_pos).await?;
        for resend in endpoint.resends.iter().filter(|resend| resend.pos > cursor.resends_pos) {
            store::take_in_resend(&self.0.pool, id, resend.pos, resend.after, resend.until).await?;
        }
        let (mut from, mut waiting) = (cursor.pos, cursor.waiting);
        while waiting < store::MOST_WAITING {
            let page = self.0.reads.events(&scope, from, until, PAGE).await.map_err(unavailable)?;
            let full = i64::try_from(page.len()).is_ok_and(|count| count == PAGE);
            // What nobody is told of is not to be looked at again and again, and a cursor not to be moved for every event of others.
            let to = match page.last() {
                Some(row) if full => row.pos,
                None if until.saturating_sub(from) < FAR => break,
                Some(_) | None => until,
            };
            let due = due(endpoint, &page, false);
            if !store::advance(&self.0.pool, (tenant, id), (from, to), &due, self.0.commands.clock().now()).await? {
                return Ok(());
            }
            (from, waiting) = (to, waiting.saturating_add(i64::try_from(due.len()).unwrap_or(i64::MAX)));
        }
        for (requested, mut from, last) in store::resends(&self.0.pool, id).await? {
            while waiting < store::MOST_WAITING && from < last {
                let page = self.0.reads.events(&scope, from, last, PAGE).await.map_err(unavailable)?;
                let full = i64::try_from(page.len()).is_ok_and(|count| count == PAGE);
                let to = if full { page.last().map_or(last, |row| row.pos) } else { last };
                // One event that was asked for by its name goes out whatever the filter says.
                let due = due(endpoint, &page, from.saturating_add(1) == last);
                let now = self.0.commands.clock().now();
                store::advance_resend(&self.0.pool, (tenant, id), requested, (from, to), &due, now).await?;
                (from, waiting) = (to, waiting.saturating_add(i64::try_from(due.len()).unwrap_or(i64::MAX)));
            }
        }
        Ok(())
    }

    async fn deliver(&self, leased: &Leased) {
        if let Err(why) = self.attempt(leased).await {
            if matches!(why, NotAttempted::Failed(_)) {
                tracing::warn!(endpoint = %leased.endpoint, event = %leased.event, %why, "a delivery was not attempted");
            }
            let until = self.0.commands.clock().now() + ChronoDuration::seconds(REST_SECONDS);
            // Should this fail too, the lease runs out.
            if let Err(error) = store::put_back(&self.0.pool, leased, until).await {
                tracing::warn!(%error, "a delivery is left to its lease");
            }
        }
    }

    async fn attempt(&self, leased: &Leased) -> Result<(), NotAttempted> {
        let scope = ReadScope { tenant: Some(leased.tenant), ..ReadScope::default() };
        let endpoint = self.0.reads.webhook_endpoint(&scope, leased.endpoint).await?;
        let endpoint = endpoint.filter(|row| row.status == Status::Enabled).ok_or(NotAttempted::Resting)?;
        let url = endpoint.document.details.as_ref().map(|details| details.url.as_str()).ok_or(NotAttempted::Resting)?;
        let missing = || NotAttempted::Failed("the event is not in the feed".to_owned());
        let found = self.0.reads.event_at(&scope, leased.pos).await?;
        let row = found.filter(|event| event.is_named(leased.event)).ok_or_else(missing)?;
        // By the name under which it became due, at every attempt.
        let row = PublicEvent { event_id: leased.event, ..row };
        let event = told(&self.0.reads, &[row]).await.map_err(|problem| NotAttempted::Failed(problem.detail().to_owned()))?;
        let event = event.into_iter().next().ok_or_else(missing)?;
        let body = serde_json::to_vec(&event).map_err(|error| NotAttempted::Failed(error.to_string()))?;
        let secrets = self.secrets(&endpoint).await?;
        let now = self.0.commands.clock().now();
        let sent = self
            .0
            .deliverer
            .send(&Delivery { url, id: &event.id, timestamp: now.timestamp(), sequence: event.sequence, body: &body, secrets: &secrets })
            .await;
        let answer = sent.status.map_or(Answer::None, |code| Answer::Status { code, retry_after: sent.retry_after });
        let mut dice = [0_u8; 2];
        self.0.random.fill(&mut dice);
        let attempts = u32::try_from(leased.tries).unwrap_or(0).saturating_add(1);
        let before = Before { attempts, failing_since: leased.failing_since };
        let effects = delivery::step(&self.0.policy, before, answer, self.0.commands.clock().now(), u16::from_be_bytes(dice));
        let outcome = if effects.fate == delivery::Fate::Delivered { "delivered" } else { "failed" };
        counter!("smartpos_webhook_attempts_total", "outcome" => outcome).increment(1);
        histogram!("smartpos_webhook_seconds").record(Duration::from_millis(u64::from(sent.elapsed_ms)));
        let attempt = Attempt { at: now, status: sent.status, elapsed_ms: sent.elapsed_ms, error: sent.error, answer: sent.answer };
        if let Err(error) = store::note(&self.0.pool, leased, &attempt, &effects).await {
            // It may have arrived: the receiver knows the repeat by its id.
            tracing::warn!(%error, "an attempt was not noted; it is made again when its lease has run out");
        }
        if let Some(reason) = effects.disable {
            self.change(leased, Command::Disable(reason)).await?;
        }
        Ok(())
    }

    /// The newest secret, and the one before it while both sign.
    async fn secrets(&self, endpoint: &WebhookEndpointRow) -> Result<Vec<Secret>, NotAttempted> {
        let both = endpoint.document.previous_secret_until.is_some_and(|until| self.0.commands.clock().now() < until);
        let sealed: Vec<Vec<u8>> =
            endpoint.secrets.iter().take(if both { 2 } else { 1 }).filter_map(|text| hex::decode(text).ok()).collect();
        let subject = Subject::endpoint(endpoint.tenant, endpoint.webhook_endpoint_id);
        let opened = self.0.keyring.open_for(&subject, &sealed).await?.unwrap_or_default();
        let secrets: Vec<Secret> = opened.iter().filter_map(|bytes| Secret::new(bytes.to_vec()).ok()).collect();
        // Never unsigned.
        if secrets.is_empty() { Err(NotAttempted::Failed("the endpoint has no secret".to_owned())) } else { Ok(secrets) }
    }

    async fn change(&self, leased: &Leased, command: Command) -> Result<(), NotAttempted> {
        let caller = Caller {
            tenant: leased.tenant,
            actor: "process:webhook_delivery".to_owned(),
            device: None,
            operation: None,
            correlation_id: self.0.commands.ids().next(),
            idempotency: None,
            if_match: None,
        };
        let id = leased.endpoint;
        let work = self.0.commands.transact(&caller, |unit| {
            let command = command.clone();
            async move {
                webhook_endpoints::change(unit, id, command).await?;
                Ok(unit.done())
            }
            .boxed()
        });
        match work.await {
            // Rejected: deleted meanwhile.
            Ok(_) | Err(CommandError::Rejected(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// How many more attempts there is room for.
fn free(under_way: &mut JoinSet<()>) -> i64 {
    // The set counts what has ended until it is joined, and a pass waits for one at most.
    while under_way.try_join_next().is_some() {}
    i64::try_from(MOST_UNDER_WAY.saturating_sub(under_way.len())).unwrap_or(0)
}

/// Which of these events the endpoint is to get. History is in the feed only.
fn due(endpoint: &WebhookEndpointRow, page: &[PublicEvent], named: bool) -> Vec<Due> {
    let filters: Vec<Filter> =
        endpoint.document.details.iter().flat_map(|details| details.events.iter().filter_map(|text| Filter::parse(text))).collect();
    let own = endpoint.webhook_endpoint_id.to_string();
    let wanted = |row: &&PublicEvent| {
        let test = row.event_type == public_event::TEST && row.object_id() == own;
        named || test || (!row.historic && filters.iter().any(|filter| filter.matches(row.event_type)))
    };
    page.iter().filter(wanted).map(|row| Due { event: row.event_id, pos: row.pos, event_type: row.event_type.to_owned() }).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` passes")]
fn unavailable(error: projections::Error) -> CommandError {
    CommandError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_attempt_that_has_ended_takes_no_room() {
        let (mut under_way, most) = (JoinSet::new(), i64::try_from(MOST_UNDER_WAY).unwrap());
        for _ in 0..MOST_UNDER_WAY {
            under_way.spawn(async {});
        }
        under_way.spawn(std::future::pending());
        // The runtime looks at a few tasks between two turns of this one.
        for _ in 0..MOST_UNDER_WAY {
            tokio::task::yield_now().await;
        }
        assert_eq!(free(&mut under_way), most - 1);
    }
}
