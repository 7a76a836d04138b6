//! Decides what may happen and says what happened, as pure functions. No I/O, no clock, no randomness.
//!
//! **To add an aggregate**: a new folder with the files of `order/` (facts, `events!`, commands, `rejections!`, state,
//! decider, tests), a `StreamType`, arms in [`event::DomainEvent`] and [`public_event::public_type`], samples of its events; then its use case in `commands` and its route in `api`.
//! **To change an event's shape**: see [`upcast`]. **To add a process manager**: see [`process`].

pub mod bill;
pub mod clock;
pub mod customer;
pub mod decider;
pub mod delivery;
pub mod envelope;
pub mod event;
pub mod ids;
pub mod integrity;
pub mod ledger_adjustment;
pub mod merchant;
pub mod money;
pub mod order;
pub mod payment_intent;
pub mod postings;
pub mod pricing;
pub mod process;
pub mod provider;
pub mod provider_account;
pub mod public_event;
pub mod reconciliation;
pub mod refund;
pub mod rejection;
pub mod routing;
pub mod store;
#[cfg(test)]
mod testing;
pub mod upcast;
pub mod webhook_endpoint;
pub mod wire;
