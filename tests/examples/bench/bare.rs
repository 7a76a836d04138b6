//! The ceiling: prepared batches, one connection, the platform's own append function, nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use commands::{
    batch::{AppendItem, BatchAnswer, KeyClaim, PreparedEvent, StreamWrite},
    event_store,
};
use domain::{
    clock::{Clock, IdSource},
    envelope::{EventMeta, NewEvent, Origin},
    ids::{CommandId, StoreId, Ulid},
};
use sqlx::{Connection, PgConnection, PgPool, Row, postgres::PgConnectOptions};
use support::{ManualClock, SeededIds};
use tokio::sync::mpsc;

use crate::measure;

/// The writes of one command on new streams.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Payloads, each with the number of its stream.
    payloads: Vec<(usize, Vec<u8>)>,
    streams: usize,
    meta: EventMeta,
    key: Option<Remembered>,
}

/// Fingerprint and stored answer of an idempotency key.
type Remembered = (Option<Vec<u8>>, Option<Vec<u8>>);

impl Shape {
    /// Two events of about 300 bytes, with about 100 bytes of meta data, on one stream, without a key.
    pub fn two_events(ids: &SeededIds) -> Self {
        let payload = format!(r#"{{"reason":"{}"}}"#, "guest left before the kitchen began; ".repeat(8)).into_bytes();
        let meta = EventMeta {
            store: Some(StoreId(ids.next())),
            device: Some("terminal-0000000000000042-counter".to_owned()),
            operation: Some("POST /v1/orders".to_owned()),
        };
        Self { payloads: vec![(0, payload.clone()), (0, payload)], streams: 1, meta, key: None }
    }

    /// What the newest command with an event of type `kind` wrote, its key included if it had one: the same work as that command.
    pub async fn of_newest(log: &PgPool, kind: &str) -> Result<Self> {
        let sql = "select stream_id, payload, pos from log.event where causation_id = (select causation_id from log.event \
                   where type = $1 order by pos desc limit 1) order by pos";
        let rows = sqlx::query(sql).bind(kind).fetch_all(log).await?;
        let (mut streams, mut payloads, mut last) = (Vec::new(), Vec::new(), 0_i64);
        for row in &rows {
            let stream: uuid::Uuid = row.try_get(0)?;
            let index = streams.iter().position(|known| *known == stream).unwrap_or(streams.len());
            if index == streams.len() {
                streams.push(stream);
            }
            payloads.push((index, row.try_get(1)?));
            last = row.try_get(2)?;
        }
        let sql = "select fingerprint, response from log.append_key where last_pos = $1";
        let key = sqlx::query(sql).bind(last).fetch_optional(log).await?;
        let key = key.map(|key| Ok::<_, sqlx::Error>((key.try_get(0)?, key.try_get(1)?))).transpose()?;
        anyhow::ensure!(!payloads.is_empty(), "there is no event {kind}");
        let meta = EventMeta { store: Some(StoreId(Ulid::from_bytes([3; 16]))), ..EventMeta::default() };
        Ok(Self { payloads, streams: streams.len(), meta, key })
    }

    /// One such command.
    pub fn item(&self, ids: &SeededIds) -> AppendItem {
        let origin = Origin {
            occurred_at: ManualClock::default().now(),
            correlation_id: ids.next(),
            causation_id: CommandId(ids.next()),
            actor: "user:development".to_owned(),
            device: None,
            operation: None,
        };
        let new_stream = |_| StreamWrite { key: support::stream(ids), expected: 0, next: 0 };
        let mut streams: Vec<StreamWrite> = (0..self.streams).map(new_stream).collect();
        let mut events = Vec::with_capacity(self.payloads.len());
        for (index, payload) in &self.payloads {
            let stream = &mut streams[*index];
            stream.next += 1;
            let event = NewEvent { event_type: "order.cancelled", schema_version: 1, payload: payload.clone(), pii: None };
            events.push(PreparedEvent::new(stream.key, stream.next, event, &origin, &self.meta));
        }
        let claim = |(fingerprint, response): &Remembered| KeyClaim {
            tenant: streams[0].key.tenant.0,
            scope: "user:development|POST /v1/orders".to_owned(),
            key: streams[0].key.stream_id.to_string(),
            request_hash: [1; 32],
            fingerprint: fingerprint.clone(),
            response: response.clone(),
            taken: None,
        };
        let keys = self.key.iter().map(claim).collect();
        AppendItem { streams, keys, events }
    }

    /// Events of one command.
    pub fn events(&self) -> usize {
        self.payloads.len()
    }
}

/// Commands per second over one connection in batches of `batch`; the next ones are prepared while one is under way.
pub async fn rate(options: &PgConnectOptions, shape: &Shape, ids: &Arc<SeededIds>, batch: usize, window: Duration) -> Result<f64> {
    let rate = measure::rate(1, window, |done| {
        let (options, shape, ids) = (options.clone(), shape.clone(), Arc::clone(ids));
        async move { run(&options, shape, ids, batch, u64::MAX, &done).await.context("the bare batcher") }
    });
    rate.await
}

/// Commands per second of `count` over one connection in batches of `batch`. The first batch, for which statements are prepared, comes before.
pub async fn rate_of(options: &PgConnectOptions, shape: &Shape, ids: &Arc<SeededIds>, batch: usize, count: u64) -> Result<f64> {
    let mut connection = PgConnection::connect_with(options).await?;
    let done = AtomicU64::default();
    append(&mut connection, shape.clone(), Arc::clone(ids), batch, 1, &done).await?;
    done.store(0, Ordering::Relaxed);
    let started = Instant::now();
    append(&mut connection, shape.clone(), Arc::clone(ids), batch, count, &done).await?;
    let rate = measure::per_second(done.load(Ordering::Relaxed), started.elapsed());
    connection.close().await?;
    Ok(rate)
}

/// Appends `count` commands (or, for `u64::MAX`, goes on until it is dropped), counting them in `done`.
pub async fn run(options: &PgConnectOptions, shape: Shape, ids: Arc<SeededIds>, batch: usize, count: u64, done: &AtomicU64) -> Result<()> {
    let mut connection = PgConnection::connect_with(options).await?;
    append(&mut connection, shape, ids, batch, count, done).await?;
    Ok(connection.close().await?)
}

async fn append(
    connection: &mut PgConnection,
    shape: Shape,
    ids: Arc<SeededIds>,
    batch: usize,
    count: u64,
    done: &AtomicU64,
) -> Result<()> {
    let (sender, mut batches) = mpsc::channel(2);
    let size = u64::try_from(batch)?;
    let preparing = tokio::spawn(async move {
        let mut made = 0;
        while made < count {
            let items: Vec<AppendItem> = (0..batch).map(|_| shape.item(&ids)).collect();
            made = made.saturating_add(size);
            if sender.send(items).await.is_err() {
                break;
            }
        }
    });
    while let Some(items) = batches.recv().await {
        let answer = event_store::append(connection, &items).await?;
        anyhow::ensure!(matches!(answer, BatchAnswer::Committed { .. }), "a prepared batch was refused: {answer:?}");
        done.fetch_add(size, Ordering::Relaxed);
    }
    Ok(preparing.await?)
}
