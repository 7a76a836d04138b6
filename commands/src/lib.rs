//! The write side: load → decide → append exactly once; relay to NATS; drive process managers and provider work.
//!
//! **To add a use case**: a function in the file of its noun (`orders.rs`, `bills.rs` …) over a
//! [`handle::UnitOfWork`]; the route calls [`handle::CommandHandler::transact`] with it.

pub mod batch;
pub mod bills;
pub mod bus;
pub mod call_backs;
mod cipher;
pub mod committer;
pub mod customers;
pub mod database;
pub mod error;
pub mod event_log;
pub mod event_store;
pub mod exchanges;
pub mod fail_point;
mod grouped;
pub mod handle;
pub mod holder;
pub mod idempotency;
mod leases;
pub mod ledger_adjustments;
pub mod looks;
mod migrations;
pub mod orders;
pub mod own_commits;
pub mod partner;
pub mod payment_cases;
pub mod payments;
pub mod personal;
pub mod process_commands;
pub mod process_runner;
pub mod process_store;
pub mod provider_accounts;
mod provider_calls;
pub mod provider_worker;
pub mod refund_checks;
pub mod refund_findings;
pub mod refunds;
pub mod relay;
pub mod routing;
pub mod snapshot;
pub mod system;
pub mod tasks;
pub mod tenants;
pub mod webhook_deliveries;
pub mod webhook_endpoints;
pub mod webhooks;
