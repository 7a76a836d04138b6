//! The deterministic simulator: the product's own loops (command handling, committer, relay, feed, projectors, process managers,
//! provider worker, call-backs) in one thread under one seed, over a simulated log, bus, provider, clocks and clients; checked
//! against a naive model and the provider's own ledger.
//!
//! Every call on a port waits a delay drawn from the seed, on a runtime whose clock is paused: so a seed is an interleaving, the
//! same in every run. See `docs/reliability.md`.

mod bank;
pub mod bus;
mod check;
mod check_money;
mod check_read;
mod clients;
pub mod counters;
mod db;
mod door;
mod hooks;
mod journal;
mod link;
pub mod log_ports;
mod model;
mod process_ports;
mod process_rows;
mod procs;
mod read_rows;
mod requests;
pub mod run;
pub mod sabotage;
pub mod schedule;
pub mod servers;
pub mod shrink;
mod world;
