//! Command handling: load → decide → append, and again when another was faster.
//!
//! A [`UnitOfWork`] gathers the decisions of one command over any number of streams; [`CommandHandler::transact`] appends
//! them as one item and answers. Recent states are kept warm by version, so a command on a warm stream reads nothing.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use domain::{
    clock::{Clock, IdSource},
    decider::Aggregate,
    envelope::{EventMeta, NewEvent, Origin, StreamKey},
    event::AggregateEvent,
    ids::{CommandId, MerchantId, StoreId, Ulid},
    rejection::{Rejected, RejectionClass},
    routing::Candidate,
};
use futures_util::future::BoxFuture;
use quick_cache::sync::Cache;

use crate::{
    batch::{AppendItem, KeyClaim, PreparedEvent, StreamWrite},
    committer::{Committer, ItemOutcome},
    error::CommandError,
    event_log::EventLog,
    holder::Holder,
    idempotency::{Answer, IdempotencyKey},
    routing::Candidates,
    snapshot,
};

/// How often a command is decided again after losing a race.
const MAX_ATTEMPTS: usize = 24;
/// States kept warm per process.
const WARM_STATES: usize = 50_000;

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant, from the token.
    pub tenant: MerchantId,
    /// `user:…`, `device:…`, `process:…`, `import:…`.
    pub actor: String,
    /// The device, if any.
    pub device: Option<String>,
    /// Ties together all that follows from one request.
    pub correlation_id: Ulid,
    /// The key under which the answer is remembered.
    pub idempotency: Option<IdempotencyKey>,
    /// The version that the caller saw; checked where the use case says so.
    pub if_match: Option<i64>,
}

#[derive(Clone)]
struct Warm {
    version: i64,
    state: Arc<dyn Any + Send + Sync>,
}

struct Inner {
    log: Arc<dyn EventLog>,
    committer: Committer,
    warm: Cache<StreamKey, Warm>,
    /// Versions that others are known to have written: nothing older may become warm.
    noticed: Cache<StreamKey, i64>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    candidates: OnceLock<Candidates>,
}

/// Handles commands; cheap to clone.
#[derive(Clone)]
pub struct CommandHandler(Arc<Inner>);

/// What a use case answers before it is stored.
pub struct Reply {
    status: u16,
    version: i64,
    body: Vec<u8>,
}

struct Touched {
    version: i64,
    state: Arc<dyn Any + Send + Sync>,
    events: Vec<NewEvent>,
}

/// The decisions of one command, not yet stored.
pub struct UnitOfWork {
    handler: CommandHandler,
    tenant: MerchantId,
    if_match: Option<i64>,
    /// Nothing of this command was decided before.
    first_attempt: bool,
    touched: BTreeMap<StreamKey, Touched>,
    /// Streams in the order of their events, so that causes stand before effects in the log.
    order: Vec<(StreamKey, usize)>,
    claims: Vec<KeyClaim>,
    store: Option<StoreId>,
    /// The only store that the caller reaches.
    reach: Option<StoreId>,
    /// Ids that this unit made a moment ago: nothing can have been written under them.
    fresh: Vec<Ulid>,
}

impl CommandHandler {
    /// A handler that reads from `log` and writes through `committer`.
    pub fn new(log: impl EventLog + 'static, committer: Committer, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Self {
        Self(Arc::new(Inner {
            log: Arc::new(log),
            committer,
            warm: Cache::new(WARM_STATES),
            noticed: Cache::new(WARM_STATES),
            clock,
            ids,
            candidates: OnceLock::new(),
        }))
    }

    /// Has attempts go to the accounts that `candidates` knows; said once, before the first command.
    pub fn route_by(&self, candidates: Candidates) {
        let _ = self.0.candidates.set(candidates);
    }

    /// Forgets a warm state that the log has moved beyond. States that are only read (a store, a merchant) are not
    /// version-checked by the append, so a process must hear of what others wrote.
    pub fn notice(&self, key: StreamKey, version: i64) {
        // First the floor, so that nobody puts an older state back in between.
        self.0.noticed.insert(key, version);
        if self.0.warm.peek(&key).is_some_and(|warm| warm.version < version) {
            drop(self.0.warm.remove(&key));
        }
    }

    /// Forgets every warm state: the log is not the one that they came from.
    pub fn forget_all(&self) {
        self.0.warm.clear();
        self.0.noticed.clear();
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
        };
        for attempt in 0..MAX_ATTEMPTS {
            let mut unit = UnitOfWork::new(self.clone(), caller, attempt == 0);
            let decided = work(&mut unit).await;
            if unit.appends_nothing(&decided) && !self.is_current(&unit).await? {
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

    /// An aggregate as it stands in the log at this moment, past every cache.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn read<A: Aggregate>(&self, tenant: MerchantId, id: impl Into<Ulid>) -> Result<Arc<A::State>, CommandError> {
        let key = StreamKey { tenant, stream_type: A::STREAM_TYPE, stream_id: id.into() };
        let warm = self.load::<A>(key).await?;
        warm.state.downcast().map_err(|_| CommandError::Fault(format!("stream {} holds another kind of state", key.stream_type.as_str())))
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
                self.keep_warm(unit);
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
    /// what it writes; an answer that writes nothing would otherwise rest on a cache that another process outdated, or on
    /// two streams read before and after the same commit.
    async fn is_current(&self, unit: &UnitOfWork) -> Result<bool, CommandError> {
        let read: Vec<(StreamKey, i64)> = unit.touched.iter().map(|(key, touched)| (*key, touched.version)).collect();
        Ok(self.0.log.stand_at(unit.tenant, &read).await?)
    }

    fn forget(&self, unit: &UnitOfWork) {
        unit.touched.keys().for_each(|key| drop(self.0.warm.remove(key)));
    }

    fn keep_warm(&self, unit: UnitOfWork) {
        for (key, touched) in unit.touched {
            let version = touched.version + i64::try_from(touched.events.len()).unwrap_or(0);
            // What was only read was not checked by the append; it stays as it was in the cache.
            if !touched.events.is_empty() {
                self.warm_up(key, Warm { version, state: touched.state });
            }
        }
    }

    /// Keeps a state unless a newer one is warm or known to exist.
    fn warm_up(&self, key: StreamKey, warm: Warm) {
        let version = warm.version;
        let known = self.0.noticed.get(&key).unwrap_or(0).max(self.0.warm.peek(&key).map_or(0, |warm| warm.version));
        if known > version {
            return;
        }
        self.0.warm.insert(key, warm);
        if self.0.noticed.get(&key).is_some_and(|noticed| noticed > version) {
            drop(self.0.warm.remove(&key)); // heard of while it was put in
        }
    }

    async fn load<A: Aggregate>(&self, key: StreamKey) -> Result<Warm, CommandError> {
        let (mut version, mut state) = snapshot::load::<A>(self.0.log.as_ref(), key).await?.unwrap_or_default();
        let events = self.0.log.load_stream(key, version).await?;
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
            self.warm_up(key, warm.clone());
        }
        Ok(warm)
    }
}

impl UnitOfWork {
    fn new(handler: CommandHandler, caller: &Caller, first_attempt: bool) -> Self {
        Self {
            handler,
            tenant: caller.tenant,
            if_match: caller.if_match,
            first_attempt,
            touched: BTreeMap::new(),
            order: Vec::new(),
            claims: Vec::new(),
            store: None,
            reach: None,
            fresh: Vec::new(),
        }
    }

    /// A refusal, or an answer that changes nothing.
    fn appends_nothing(&self, decided: &Result<Reply, CommandError>) -> bool {
        match decided {
            Ok(_) => self.order.is_empty(),
            Err(error) => matches!(error, CommandError::Rejected(_) | CommandError::StaleVersion { .. }),
        }
    }

    /// The tenant of every stream that this unit touches.
    pub fn tenant(&self) -> MerchantId {
        self.tenant
    }

    /// A new identifier. A stream under it is taken for absent without a look; the append refuses it should it exist.
    pub fn next_id<T: From<Ulid>>(&mut self) -> T {
        let id = self.handler.0.ids.next();
        self.fresh.push(id);
        T::from(id)
    }

    /// The accounts that a payment of this unit's merchant could go to; nothing where nobody has said.
    pub(crate) async fn candidates(&self) -> Result<Option<Vec<Candidate>>, CommandError> {
        match self.handler.0.candidates.get() {
            Some(candidates) => candidates(self.tenant).await.map(Some),
            None => Ok(None),
        }
    }

    /// Now, UTC.
    pub fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.handler.0.clock.now()
    }

    /// Notes the shop that the events concern.
    pub fn concerns_store(&mut self, store: StoreId) {
        self.store = Some(store);
    }

    /// Takes a name for ever within `scope`; `taken` is said to whoever comes second.
    pub fn claim(&mut self, tenant: Ulid, scope: &str, name: &str, taken: &'static str) {
        self.claim_with(tenant, scope, name, taken, None);
    }

    /// The same on behalf of `holder`, whose id is told to whoever comes second, if it reaches the store that `holder` is in.
    pub fn claim_for(&mut self, tenant: Ulid, scope: &str, name: &str, taken: &'static str, holder: &Holder) {
        self.claim_with(tenant, scope, name, taken, Some(holder.to_string().into_bytes()));
    }

    fn claim_with(&mut self, tenant: Ulid, scope: &str, name: &str, taken: &'static str, response: Option<Vec<u8>>) {
        let claim = KeyClaim {
            tenant,
            scope: scope.to_owned(),
            key: name.to_owned(),
            request_hash: [0; 32],
            fingerprint: None,
            response,
            taken: Some(taken),
        };
        self.claims.push(claim);
    }

    /// Says that whoever asks reaches this store only; nothing of another one is told to it.
    pub fn reaches_only(&mut self, store: Option<StoreId>) {
        self.reach = store;
    }

    /// What is said of a name that is taken.
    fn refusal(&self, taken: &'static str, stored: Option<&[u8]>) -> CommandError {
        let holder = stored.and_then(|stored| Holder::shown_to(std::str::from_utf8(stored).ok()?, self.reach));
        let message = holder.map_or_else(|| taken.to_owned(), |holder| format!("{taken}: {holder}"));
        Rejected { code: "AlreadyTaken", class: RejectionClass::State, message }.into()
    }

    fn key<A: Aggregate>(&self, id: impl Into<Ulid>) -> StreamKey {
        StreamKey { tenant: self.tenant, stream_type: A::STREAM_TYPE, stream_id: id.into() }
    }

    /// Takes it for granted that an aggregate does not exist, so that nothing is read: for ids that are made for this very
    /// command. The append refuses the unit if it does exist, and then it is decided again on what is there.
    pub fn expect_new<A: Aggregate>(&mut self, id: impl Into<Ulid>) {
        let key = self.key::<A>(id);
        if self.first_attempt && self.handler.0.warm.get(&key).is_none() {
            let touched = || Touched { version: 0, state: Arc::new(A::State::default()), events: Vec::new() };
            self.touched.entry(key).or_insert_with(touched);
        }
    }

    /// The state of an aggregate as this unit sees it; absent ones are at their default.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn state<A: Aggregate>(&mut self, id: impl Into<Ulid>) -> Result<Arc<A::State>, CommandError> {
        let key = self.key::<A>(id);
        if !self.touched.contains_key(&key) {
            let warm = match self.handler.0.warm.get(&key) {
                Some(warm) => warm,
                None if self.fresh.contains(&key.stream_id) => Warm { version: 0, state: Arc::new(A::State::default()) },
                None => self.handler.load::<A>(key).await?,
            };
            self.touched.insert(key, Touched { version: warm.version, state: warm.state, events: Vec::new() });
        }
        let state = self.touched.get(&key).map(|touched| touched.state.clone());
        state
            .and_then(|state| state.downcast::<A::State>().ok())
            .ok_or_else(|| CommandError::Fault(format!("stream {} holds another kind of state", key.stream_type.as_str())))
    }

    /// Decides a command on an aggregate and takes its events into this unit; returns the state after it.
    ///
    /// # Errors
    /// `Rejected` by a rule; `Unavailable`, `Corrupt`.
    pub async fn decide<A: Aggregate>(&mut self, id: impl Into<Ulid>, command: A::Command) -> Result<Arc<A::State>, CommandError> {
        let key = self.key::<A>(id);
        let state = self.state::<A>(key.stream_id).await?;
        let events = A::decide(&state, command).map_err(|rejection| CommandError::Rejected(rejection.into()))?;
        if events.is_empty() {
            return Ok(state);
        }
        let after = Arc::new(events.iter().fold((*state).clone(), A::evolve));
        if let Some(touched) = self.touched.get_mut(&key) {
            touched.state = after.clone();
            touched.events.extend(events.iter().map(AggregateEvent::encode));
            self.order.push((key, events.len()));
        }
        Ok(after)
    }

    /// Compares the caller's `If-Match` with the version that an aggregate had before this unit.
    ///
    /// # Errors
    /// `StaleVersion`; `Unavailable`, `Corrupt`.
    pub async fn check_if_match<A: Aggregate>(&mut self, id: impl Into<Ulid>) -> Result<(), CommandError> {
        let Some(wanted) = self.if_match else { return Ok(()) };
        let key = self.key::<A>(id);
        self.state::<A>(key.stream_id).await?;
        let current = self.touched.get(&key).map_or(0, |touched| touched.version);
        if current == wanted { Ok(()) } else { Err(CommandError::StaleVersion { current }) }
    }

    /// The version that an aggregate will have once this unit is stored.
    pub fn version<A: Aggregate>(&self, id: impl Into<Ulid>) -> i64 {
        let touched = self.touched.get(&self.key::<A>(id));
        touched.map_or(0, |touched| touched.version + i64::try_from(touched.events.len()).unwrap_or(0))
    }

    /// Ends a use case: `body` is remembered and answered with `status` and the version of aggregate `id`.
    ///
    /// # Errors
    /// `Fault` when the body cannot be serialised.
    pub fn reply<A: Aggregate>(&self, status: u16, id: impl Into<Ulid>, body: &impl serde::Serialize) -> Result<Reply, CommandError> {
        let body = serde_json::to_vec(body).map_err(|error| CommandError::Fault(error.to_string()))?;
        Ok(Reply { status, version: self.version::<A>(id), body })
    }

    /// Ends a use case that nobody waits to read.
    pub fn done(&self) -> Reply {
        Reply { status: 204, version: 0, body: b"null".to_vec() }
    }

    fn item(&self, origin: &Origin) -> AppendItem {
        let meta = EventMeta { store: self.store, device: origin.device.clone() };
        let written = |(key, touched): (&StreamKey, &Touched)| {
            let count = i64::try_from(touched.events.len()).unwrap_or(0);
            (count > 0).then_some(StreamWrite { key: *key, expected: touched.version, next: touched.version + count })
        };
        let mut taken: BTreeMap<StreamKey, usize> = BTreeMap::new();
        let mut events = Vec::new();
        for (key, count) in &self.order {
            let Some(touched) = self.touched.get(key) else { continue };
            let from = taken.entry(*key).or_default();
            for event in touched.events.iter().skip(*from).take(*count) {
                *from += 1;
                let version = touched.version + i64::try_from(*from).unwrap_or(0);
                events.push(PreparedEvent::new(*key, version, event.clone(), origin, &meta));
            }
        }
        AppendItem { streams: self.touched.iter().filter_map(written).collect(), keys: self.claims.clone(), events }
    }
}
