//! The routes, one file per resource.
//!
//! **To add a route**: a handler beside its kin whose first extractor is a [`command::Change`] or a [`query::Ask`] with the
//! permission that it demands, the same word in `x-permission`, and a `routes!` line. Tests over the OpenAPI document notice
//! a route that lets in whom it should not.

pub mod api_keys;
pub mod auth;
pub mod bills;
pub mod command;
pub mod customers;
pub mod events;
pub mod health;
pub mod idempotency_keys;
pub mod inbound_webhooks;
pub mod merchants;
pub mod order_lines;
pub mod orders;
mod pay_for;
pub mod payment_intent_changes;
pub mod payment_intent_sync;
pub mod payment_intent_views;
pub mod payment_intents;
pub mod payment_token;
pub mod payments;
pub mod promptpay_qr;
pub mod provider_accounts;
pub mod providers;
pub mod query;
pub mod refunds;
pub mod reports;
pub mod settlement_lists;
pub mod stores;
pub mod webhook_deliveries;
pub mod webhook_endpoints;
pub mod webhooks;
