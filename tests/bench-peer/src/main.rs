//! `bench-peer <database URL> <callers> <milliseconds>`: commands per second through `postgres-es`, printed as one number.
//!
//! The work is that of the platform's append benchmark: one command is two events of about 300 bytes with about 100 bytes of
//! meta data, on a new aggregate. As many connections as callers, at most 64. The first quarter is not counted.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use postgres_es::postgres_cqrs;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

/// As `postgres-es` publishes it in `db/init.sql`.
const TABLE: &str = "create table if not exists events (aggregate_type text not null, aggregate_id text not null, \
    sequence bigint check (sequence >= 0) not null, event_type text not null, event_version text not null, \
    payload json not null, metadata json not null, primary key (aggregate_type, aggregate_id, sequence))";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Order {
    events: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Event {
    Cancelled { reason: String },
}

impl DomainEvent for Event {
    fn event_type(&self) -> String {
        "order.cancelled".to_owned()
    }
    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("never refused")]
struct Refusal;

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = String;
    type Event = Event;
    type Error = Refusal;
    type Services = ();

    async fn handle(&mut self, command: String, (): &(), sink: &EventSink<Self>) -> Result<(), Refusal> {
        sink.write(Event::Cancelled { reason: command.clone() }, self).await;
        sink.write(Event::Cancelled { reason: command }, self).await;
        Ok(())
    }

    fn apply(&mut self, _: Event) {
        self.events += 1;
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, callers, millis] = arguments.as_slice() else { anyhow::bail!("usage: bench-peer URL CALLERS MILLISECONDS") };
    let (callers, window) = (callers.parse::<u32>()?, Duration::from_millis(millis.parse()?));
    let pool = PgPoolOptions::new().max_connections(callers.min(64)).connect(url).await.context("the database answers")?;
    sqlx::query(TABLE).execute(&pool).await?;
    let cqrs = Arc::new(postgres_cqrs::<Order>(pool, Vec::new(), ()));
    let done = Arc::new(AtomicU64::new(0));
    let run = std::process::id();
    let started = Instant::now();
    for caller in 0..callers {
        let (cqrs, done) = (cqrs.clone(), done.clone());
        tokio::spawn(async move {
            let reason = "guest left before the kitchen began; ".repeat(8);
            let metadata = HashMap::from([
                ("store".to_owned(), "sto_01HZY3T5V6W7X8Y9Z0A1B2C3D4".to_owned()),
                ("device".to_owned(), "terminal-0000000000000042-counter".to_owned()),
            ]);
            for n in 0_u64.. {
                // Unlike one another in their first characters, as random ids are.
                let mixed = (u64::from(caller) << 40 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let id = format!("{mixed:016x}-{run}");
                if let Err(error) = cqrs.execute_with_metadata(&id, reason.clone(), metadata.clone()).await {
                    eprintln!("a command failed: {error}");
                    return;
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(window / 4).await;
    let (from, counted) = (done.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(window).await;
    println!("{:.0}", (done.load(Ordering::Relaxed) - from) as f64 / counted.elapsed().as_secs_f64());
    Ok(())
}
