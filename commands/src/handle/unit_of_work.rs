//! The decisions of one command over any number of streams, on the states that it read.

use std::{any::Any, collections::BTreeMap, sync::Arc};

use domain::{
    decider::Aggregate,
    envelope::{EventMeta, NewEvent, Origin, StreamKey},
    event::AggregateEvent,
    ids::{MerchantId, StoreId, Ulid},
    rejection::{Rejected, RejectionClass},
    routing::Candidate,
};

use super::{Caller, CommandHandler, warm::Warm};
use crate::{
    batch::{AppendItem, KeyClaim, PreparedEvent, StreamWrite},
    error::CommandError,
    holder::Holder,
};

/// What a use case answers before it is stored.
pub struct Reply {
    pub(super) status: u16,
    pub(super) version: i64,
    pub(super) body: Vec<u8>,
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
    /// What is decided rests on streams that are only read.
    rests_on_reads: bool,
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

impl UnitOfWork {
    pub(super) fn new(handler: CommandHandler, caller: &Caller, first_attempt: bool) -> Self {
        Self {
            handler,
            tenant: caller.tenant,
            if_match: caller.if_match,
            first_attempt,
            rests_on_reads: false,
            touched: BTreeMap::new(),
            order: Vec::new(),
            claims: Vec::new(),
            store: None,
            reach: None,
            fresh: Vec::new(),
        }
    }

    /// Says that what is decided rests on streams that this unit only reads. An append does not check their versions: the log is asked
    /// for them before it.
    pub(crate) fn rest_on_reads(&mut self) {
        self.rests_on_reads = true;
    }

    /// No append checks what this was decided on: it is a refusal, an answer that changes nothing, or rests on what was only read.
    pub(super) fn is_unchecked(&self, decided: &Result<Reply, CommandError>) -> bool {
        if self.rests_on_reads {
            return true;
        }
        match decided {
            Ok(_) => self.order.is_empty(),
            Err(error) => matches!(error, CommandError::Rejected(_) | CommandError::StaleVersion { .. }),
        }
    }

    /// Every stream that was read, at the version at which this unit saw it.
    pub(super) fn read(&self) -> Vec<(StreamKey, i64)> {
        self.touched.iter().map(|(key, touched)| (*key, touched.version)).collect()
    }

    /// The streams that this unit wrote, as they stand once it is stored. What was only read was not checked by the append.
    pub(super) fn into_written(self) -> impl Iterator<Item = (StreamKey, Warm)> {
        self.touched.into_iter().filter(|(_, touched)| !touched.events.is_empty()).map(|(key, touched)| {
            let version = touched.version + i64::try_from(touched.events.len()).unwrap_or(0);
            (key, Warm { version, state: touched.state })
        })
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
    pub(super) fn refusal(&self, taken: &'static str, stored: Option<&[u8]>) -> CommandError {
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

    pub(super) fn item(&self, origin: &Origin) -> AppendItem {
        let meta = EventMeta { store: self.store, device: origin.device.clone(), operation: origin.operation.clone() };
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
