//! The read side: folds the log into read models and answers queries on them.
//!
//! **To add a read model**: a file like `models/refunds.rs` (row, projection, queries), its table in `sql/`, a line in
//! [`all`]. **To change one**: raise its `version`; the new version gets a schema of its own and folds from the start,
//! while the views in schema `read` keep naming the old one until the new one has caught up (`read.serve`).
//!
//! A projection is a pure fold over typed rows ([`projection`], [`rows`], [`fold`]). The [`runner`] feeds it from the
//! [`feed`] and writes changed rows and the checkpoint in one transaction, by compare-and-set: exactly once in effect.
//! Rows hold nothing but what events say, so a rebuild gives equal rows, which [`check`] proves.

pub mod as_of;
pub mod check;
pub mod checkpoint;
mod columns;
mod document;
pub mod error;
pub mod explain;
pub mod feed;
pub mod fold;
pub mod install;
pub mod log_reader;
pub mod masking;
pub mod models;
pub mod past;
pub mod projection;
pub mod proof;
pub mod queries;
pub mod rebuild;
pub mod reconciliation;
pub mod row_store;
pub mod rows;
pub mod runner;
pub mod search;
mod seen;
mod snapshot;
pub mod stats;
mod tables;
#[cfg(test)]
mod testing;
pub mod trail;
mod turns;
pub mod verify;
pub mod visibility;
pub mod waiting;

use std::sync::Arc;

pub use error::Error;
pub use feed::Feed;
pub use log_reader::LogReader;
pub use projection::Projection;
pub use queries::{Page, ReadModels, ReadScope};

/// Every projection of the platform, in a fixed order.
pub fn all() -> Vec<Arc<dyn Projection>> {
    vec![
        Arc::new(models::directory::Directory),
        Arc::new(models::orders::Orders),
        Arc::new(models::bills::Bills),
        Arc::new(models::payments::Payments),
        Arc::new(models::refunds::Refunds),
        Arc::new(models::customers::Customers),
        Arc::new(models::provider_accounts::ProviderAccounts),
        Arc::new(models::daily_sales::DailySales),
        Arc::new(models::events::Events),
    ]
}
