//! A client's way to ask: under a key, again while nobody says what came of it, of whichever API process is up.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use commands::{
    error::CommandError,
    handle::{Caller, Reply, UnitOfWork},
    idempotency::{Answer, IdempotencyKey},
};
use domain::{
    envelope::{StreamKey, StreamType},
    ids::{MerchantId, StoreId, Ulid},
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::{
    journal::Acked,
    procs::Fleet,
    schedule::Knob,
    world::{Shared, lock},
};

/// Tries of one request before a client gives up.
const TRIES: u32 = 14;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(9);

/// Somebody at a till.
#[derive(Clone)]
pub(crate) struct Client {
    pub world: Shared,
    pub fleet: Arc<Mutex<Fleet>>,
    pub index: usize,
    pub tenant: MerchantId,
    pub store: StoreId,
}

/// A request that may be said again.
pub(crate) struct Request {
    pub key: String,
    pub body: Value,
    /// What the answer's version is of.
    pub of: StreamType,
    pub if_match: Option<i64>,
}

impl Request {
    pub fn new(key: String, of: StreamType) -> Self {
        let body = json!({ "key": key });
        Self { key, body, of, if_match: None }
    }
}

/// The id in an answer's body, without its prefix.
pub(crate) fn id_in(body: &[u8]) -> Option<Ulid> {
    let text: String = serde_json::from_slice(body).ok()?;
    Ulid::from_string(text.rsplit_once('_')?.1).ok()
}

impl Client {
    pub fn actor(&self) -> String {
        format!("user:till{}", self.index)
    }

    fn caller(&self, request: &Request) -> Caller {
        let key = IdempotencyKey::new(self.tenant.0, self.actor(), request.key.clone(), "simulated", &request.body);
        let correlation_id = Ulid::from_parts(1, u128::from(self.world.draw(u64::MAX)));
        Caller {
            tenant: self.tenant,
            actor: self.actor(),
            device: None,
            operation: None,
            correlation_id,
            idempotency: Some(key),
            if_match: request.if_match,
        }
    }

    /// Asks until somebody answers. What was answered stands in the journal.
    pub async fn ask<F>(&self, request: &Request, work: F) -> Result<Answer, CommandError>
    where
        F: for<'a> Fn(&'a mut UnitOfWork) -> BoxFuture<'a, Result<Reply, CommandError>> + Send + Sync,
    {
        self.ask_first(self.world.pick(2), request, work).await
    }

    /// As [`Self::ask`], the named process first.
    pub async fn ask_first<F>(&self, first: usize, request: &Request, work: F) -> Result<Answer, CommandError>
    where
        F: for<'a> Fn(&'a mut UnitOfWork) -> BoxFuture<'a, Result<Reply, CommandError>> + Send + Sync,
    {
        let caller = self.caller(request);
        let mut asked = false;
        for tried in 0..TRIES {
            let which = if tried == 0 { first } else { self.world.pick(2) };
            let api = lock(&self.fleet).api(which);
            let Some((handler, life)) = api else {
                tokio::time::sleep(Duration::from_millis(300)).await;
                continue;
            };
            if asked {
                self.world.saw("request repeated under its key");
            }
            asked = true;
            let patience =
                if self.world.strikes(Knob::ClientImpatient) { Duration::from_millis(1 + self.world.draw(60)) } else { PATIENCE };
            let answer = tokio::select! {
                biased;
                () = life.over() => Err(CommandError::OutcomeUnknown),
                answer = tokio::time::timeout(patience, handler.transact(&caller, &work)) => answer.unwrap_or(Err(CommandError::OutcomeUnknown)),
            };
            match answer {
                Ok(answer) => {
                    self.note(request, &answer);
                    return Ok(answer);
                }
                Err(error) if error.is_transient() => {
                    if matches!(error, CommandError::OutcomeUnknown) {
                        self.world.saw("outcome of a command unknown");
                    }
                    self.world.note("not answered", i64::from(tried));
                    tokio::time::sleep(Duration::from_millis(50 + self.world.draw(400) * u64::from(tried + 1))).await;
                }
                Err(error) => {
                    self.world.note("refused", 0);
                    return Err(error);
                }
            }
        }
        Err(CommandError::Conflict)
    }

    fn note(&self, request: &Request, answer: &Answer) {
        self.world.note("answered", answer.position.unwrap_or(0));
        if answer.replayed {
            self.world.saw("first answer given again");
        }
        let stream = id_in(&answer.body).map(|stream_id| StreamKey { tenant: self.tenant, stream_type: request.of, stream_id });
        self.world.journal().acked.push(Acked {
            tenant: self.tenant.0,
            scope: self.actor(),
            key: request.key.clone(),
            status: answer.status,
            version: answer.version,
            body: answer.body.clone(),
            position: answer.position,
            stream,
        });
    }

    /// Reads: nothing is written, nothing is remembered. `None` when nobody answers.
    pub async fn look<F>(&self, work: F) -> Option<Answer>
    where
        F: for<'a> Fn(&'a mut UnitOfWork) -> BoxFuture<'a, Result<Reply, CommandError>> + Send + Sync,
    {
        let (handler, life) = lock(&self.fleet).api(self.world.pick(2))?;
        let caller = Caller { idempotency: None, ..self.caller(&Request::new(String::new(), StreamType::Order)) };
        let answer = async {
            tokio::select! {
                biased;
                () = life.over() => None,
                answer = tokio::time::timeout(PATIENCE, handler.transact(&caller, &work)) => answer.ok().and_then(Result::ok),
            }
        };
        answer.await
    }
}
