//! Command handling: load → decide → append, and again when another was faster.
//!
//! A [`UnitOfWork`] gathers the decisions of one command over any number of streams; [`CommandHandler::transact`] appends
//! them as one item and answers. Recent states are kept warm by version, so a command on a warm stream reads nothing.

use std::sync::{Arc, OnceLock};

use domain::{
    clock::{Clock, IdSource},
    decider::Aggregate,
    envelope::{Origin, RecordedEvent, StreamKey},
    event::AggregateEvent,
    ids::{CommandId, MerchantId, Ulid},
    rejection::RejectionClass,
};
use futures_util::future::BoxFuture;

use crate::{
    committer::{Committer, ItemOutcome},
    error::CommandError,
    event_log::EventLog,
    idempotency::{Answer, IdempotencyKey},
    routing::Candidates,
    snapshot,
};

mod unit_of_work;
mod warm;

pub use unit_of_work::{Reply, UnitOfWork};
use warm::{Warm, WarmStates};

/// How often a command is decided again after losing a race.
const MAX_ATTEMPTS: usize = 24;

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant, from the token.
    pub tenant: MerchantId,
    /// `user:…`, `device:…`, `process:…`, `import:…`.
    pub actor: String,
    /// The device, if any.
    pub device: Option<String>,
    /// The call of the API, as method and path template; nothing when it was none.
    pub operation: Option<String>,
    /// Ties together all that follows from one request.
    pub correlation_id: Ulid,
    /// The key under which the answer is remembered.
    pub idempotency: Option<IdempotencyKey>,
    /// The version that the caller saw; checked where the use case says so.
    pub if_match: Option<i64>,
}

struct Inner {
    log: Arc<dyn EventLog>,
    committer: Committer,
    warm: WarmStates,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    candidates: OnceLock<Candidates>,
}

/// Handles commands; cheap to clone.
#[derive(Clone)]
pub struct CommandHandler(Arc<Inner>);

impl CommandHandler {
    /// A handler that reads from `log` and writes through `committer`.
    pub fn new(log: impl EventLog + 'static, committer: Committer, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Self {
        Self(Arc::new(Inner { log: Arc::new(log), committer, warm: WarmStates::new(), clock, ids, candidates: OnceLock::new() }))
    }

    /// Has attempts go to the accounts that `candidates` knows; said once, before the first command.
    pub fn route_by(&self, candidates: Candidates) {
        let _ = self.0.candidates.set(candidates);
    }

    /// Forgets a warm state that the log has moved beyond. States that are only read (a store, a merchant) are not
    /// version-checked by the append, so a process must hear of what others wrote.
    pub fn notice(&self, key: StreamKey, version: i64) {
        self.0.warm.notice(key, version);
    }

    /// Forgets every warm state: the log is not the one that they came from.
    pub fn forget_all(&self) {
        self.0.warm.forget_all();
    }

    /// The injected clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// The injected id source.
    pub fn ids(&self) -> &Arc<dyn IdSource> {
        &self.0.ids
    }

    /// Runs a use case until it is stored, rejected or out of attempts. `work` may run several times; only its last
    /// decisions count.
    ///
    /// # Errors
    /// Any [`CommandError`]; on every error but `OutcomeUnknown` nothing was stored.
    pub async fn transact<F>(&self, caller: &Caller, work: F) -> Result<Answer, CommandError>
    where
        F: for<'a> Fn(&'a mut UnitOfWork) -> BoxFuture<'a, Result<Reply, CommandError>> + Send + Sync,
    {
        let origin = Origin {
            occurred_at: self.0.clock.now(),
            correlation_id: caller.correlation_id,
            causation_id: CommandId(self.0.ids.next()),
            actor: caller.actor.clone(),
            device: caller.device.clone(),
            operation: caller.operation.clone(),
        };
        for attempt in 0..MAX_ATTEMPTS {
            let mut unit = UnitOfWork::new(self.clone(), caller, attempt == 0);
            let decided = work(&mut unit).await;
            if unit.is_unchecked(&decided) && !self.is_current(&unit).await? {
                self.forget(&unit);
                tokio::task::yield_now().await;
                continue;
            }
            let reply = match decided {
                Ok(reply) => reply,
                Err(error) => return self.stored_answer(caller, error).await,
            };
            match self.commit(caller, &origin, unit, reply).await? {
                Some(answer) => return Ok(answer),
                None => tokio::task::yield_now().await,
            }
        }
        Err(CommandError::Conflict)
    }

    /// An aggregate as it stands in the log at this moment: what others wrote is read, what is warm is not read again.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn read<A: Aggregate>(&self, tenant: MerchantId, id: impl Into<Ulid>) -> Result<Arc<A::State>, CommandError> {
        self.read_at::<A>(tenant, id).await.map(|(_, state)| state)
    }

    /// The same with the version of its stream; 0 of what was never written.
    ///
    /// # Errors
    /// As of [`Self::read`].
    pub async fn read_at<A: Aggregate>(&self, tenant: MerchantId, id: impl Into<Ulid>) -> Result<(i64, Arc<A::State>), CommandError> {
        let key = StreamKey { tenant, stream_type: A::STREAM_TYPE, stream_id: id.into() };
        let warm = match self.0.warm.get(&key) {
            Some(warm) => self.bring_up_to_date::<A>(key, warm).await?,
            None => self.load::<A>(key).await?,
        };
        let other = |_| CommandError::Fault(format!("stream {} holds another kind of state", key.stream_type.as_str()));
        Ok((warm.version, warm.state.downcast().map_err(other)?))
    }

    /// An aggregate as this process saw it last: what it wrote a moment ago, perhaps not what others wrote since. Nothing when it is not
    /// in memory.
    pub fn last_seen<A: Aggregate>(&self, tenant: MerchantId, id: impl Into<Ulid>) -> Option<Arc<A::State>> {
        let key = StreamKey { tenant, stream_type: A::STREAM_TYPE, stream_id: id.into() };
        self.0.warm.get(&key)?.state.downcast().ok()
    }

    /// A repeat of a request that took effect may now break a rule; its first answer stands.
    async fn stored_answer(&self, caller: &Caller, error: CommandError) -> Result<Answer, CommandError> {
        let Some(key) = &caller.idempotency else { return Err(error) };
        let replayable = match &error {
            // What does not exist for this caller has no answer for it either, whoever asked first.
            CommandError::Rejected(rejected) => rejected.class != RejectionClass::Missing,
            CommandError::StaleVersion { .. } => true,
            CommandError::Conflict
            | CommandError::KeyReused { .. }
            | CommandError::Unavailable(_)
            | CommandError::Overloaded
            | CommandError::OutcomeUnknown
            | CommandError::Fault(_)
            | CommandError::Corrupt { .. } => false,
        };
        if !replayable {
            return Err(error);
        }
        match self.0.log.find_key(key.tenant, &key.scope, &key.key).await? {
            Some(stored) => key.replay(&stored),
            None => Err(error),
        }
    }

    async fn commit(&self, caller: &Caller, origin: &Origin, unit: UnitOfWork, reply: Reply) -> Result<Option<Answer>, CommandError> {
        let Reply { status, version, body } = reply;
        let mut item = unit.item(origin);
        if let Some(key) = &caller.idempotency {
            item.keys.insert(0, key.claim(Answer::encode(status, version, &body)));
        }
        if item.events.is_empty() && item.keys.is_empty() {
            return Ok(Some(Answer { status, version, body, position: None, replayed: false }));
        }
        let changed = !item.events.is_empty();
        let taken: Vec<Option<&'static str>> = item.keys.iter().map(|key| key.taken).collect();
        match self.0.committer.append(item).await? {
            ItemOutcome::Committed { last_pos } => {
                unit.into_written().for_each(|(key, warm)| self.0.warm.keep(key, warm));
                let position = changed.then_some(last_pos);
                Ok(Some(Answer { status, version, body, position, replayed: false }))
            }
            ItemOutcome::Conflict { .. } => {
                // Any stream of the item may have moved, and with it what the use case read.
                self.forget(&unit);
                Ok(None)
            }
            ItemOutcome::KeyTaken { index, stored } => match (taken.get(index).copied().flatten(), &caller.idempotency) {
                (Some(message), _) => Err(unit.refusal(message, stored.response.as_deref())),
                (None, Some(key)) => key.replay(&stored).map(Some),
                (None, None) => Err(CommandError::Fault("a key was refused that was not asked for".to_owned())),
            },
            ItemOutcome::Unavailable => Err(CommandError::Unavailable("the database does not answer".to_owned())),
            ItemOutcome::Unknown => Err(CommandError::OutcomeUnknown),
            ItemOutcome::Failed(reason) => Err(CommandError::Fault(reason)),
        }
    }

    /// Whether every stream that was read stands, all at one moment, where this unit saw it. An append checks the versions of
    /// what it writes; what rests on nothing that is written would otherwise rest on a cache that another process outdated, or on
    /// two streams read before and after the same commit.
    async fn is_current(&self, unit: &UnitOfWork) -> Result<bool, CommandError> {
        Ok(self.0.log.stand_at(unit.tenant(), &unit.read()).await?)
    }

    fn forget(&self, unit: &UnitOfWork) {
        unit.read().iter().for_each(|(key, _)| self.0.warm.forget(key));
    }

    /// A warm state with what was written since. The event that it ended with is asked for, too: where the log does not have it any more,
    /// because it was restored to the past, the stream is read anew.
    async fn bring_up_to_date<A: Aggregate>(&self, key: StreamKey, warm: Warm) -> Result<Warm, CommandError> {
        let mut events = self.0.log.load_stream(key, warm.version - 1).await?;
        let stands = events.first().is_some_and(|event| event.version == warm.version);
        match (stands, warm.state.downcast::<A::State>()) {
            (true, Ok(state)) if events.len() == 1 => Ok(Warm { version: warm.version, state }),
            (true, Ok(state)) => self.fold::<A>(key, (warm.version, (*state).clone()), events.split_off(1)),
            (false, _) | (_, Err(_)) => {
                self.0.warm.forget(&key);
                self.load::<A>(key).await
            }
        }
    }

    async fn load<A: Aggregate>(&self, key: StreamKey) -> Result<Warm, CommandError> {
        let from = snapshot::load::<A>(self.0.log.as_ref(), key).await?.unwrap_or_default();
        let events = self.0.log.load_stream(key, from.0).await?;
        self.fold::<A>(key, from, events)
    }

    /// Folds what follows on a state and keeps it warm.
    fn fold<A: Aggregate>(
        &self,
        key: StreamKey,
        (mut version, mut state): (i64, A::State),
        events: Vec<RecordedEvent>,
    ) -> Result<Warm, CommandError> {
        let read = events.len();
        for event in events {
            let decoded = A::Event::decode(&event.event_type, event.schema_version, &event.payload).map_err(|error| {
                let stream = format!("{}-{}", key.stream_type.as_str(), key.stream_id);
                CommandError::Corrupt { stream, version: event.version, error }
            })?;
            state = A::evolve(state, &decoded);
            version = event.version;
        }
        if read >= snapshot::EVERY {
            snapshot::save::<A>(self.0.log.clone(), key, version, &state);
        }
        let warm = Warm { version, state: Arc::new(state) };
        if version > 0 {
            self.0.warm.keep(key, warm.clone());
        }
        Ok(warm)
    }
}
