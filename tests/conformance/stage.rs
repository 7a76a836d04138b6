//! Servers of either kind, as the scripts see them: the product's own ports, and ways to break what is behind them.

use commands::{
    batch::{AppendItem, BatchAnswer},
    bus::Bus,
    event_log::{Appender, EventLog},
    process_store::ProcessStore,
};
use projections::{feed::EventBus, log_reader::LogSource, row_store::RowStore};

use crate::told::appended;

/// A database and a bus.
pub trait Stage {
    type Log: EventLog + ProcessStore + RowStore;
    type Source: LogSource;
    type Appender: Appender;
    type Bus: Bus;
    type Feed: EventBus;

    /// The log and what stands beside it, over connections whose commits wait for the disk.
    fn log(&self) -> Self::Log;
    /// The same as process managers and workers have it: their commits do not wait.
    fn processes(&self) -> Self::Log;
    /// The log as a feed reads it.
    fn source(&self) -> Self::Source;
    /// A connection to append over, not yet made.
    fn appender(&self) -> Self::Appender;
    /// The bus as a relay has it.
    async fn bus(&self) -> Self::Bus;
    /// The bus as a feed has it.
    async fn feed(&self) -> Self::Feed;

    /// Makes the read models.
    async fn install(&self);
    /// Stored call-backs by their delivery ids: state, how often they came.
    async fn call_backs(&self) -> Vec<(String, String, i32)>;
    /// From now on an append is written and its answer is lost, or they arrive again.
    fn lose_answers(&self, lost: bool);

    /// Kills the database and starts it again.
    async fn kill_database(&self);
    /// Kills the database, keeps a copy of what it stored, and starts it again.
    async fn keep_copy(&self);
    /// Kills the database, puts the copy in its place and starts it.
    async fn restore_copy(&self);
    /// Kills the bus and starts it again.
    async fn kill_bus(&self);
    /// Kills the bus, keeps a copy of what it stored, and starts it again.
    async fn keep_bus_copy(&self);
    /// Kills the bus, puts the copy, which has so many messages, in its place and starts it.
    async fn restore_bus_copy(&self, messages: usize);
    /// Kills the bus, empties its store and starts it.
    async fn wipe_bus(&self);
}

/// An appender that is connected.
pub async fn connected<S: Stage>(stage: &S) -> S::Appender {
    let mut appender = stage.appender();
    appender.connect().await.expect("the database answers");
    appender
}

/// Appends one batch over a connection of its own.
pub async fn append<S: Stage>(stage: &S, batch: &[AppendItem]) -> Result<BatchAnswer, &'static str> {
    appended(connected(stage).await.append(batch).await)
}
