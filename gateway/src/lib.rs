//! Talks to payment providers and translates their world into ours.
//!
//! The port that every provider implements is `domain::provider::PaymentProvider`; this crate holds the connectors, the
//! registry that finds them by name, and a simulator per provider that speaks its wire format over real HTTP.
//!
//! Rules of every connector:
//! * a time-out, a cut or an unreadable answer to a call that may move money is *unknown*, never *declined*;
//! * repeats carry the same reference, so that the provider's books show one thing;
//! * amounts on the wire are read as text, digit by digit, and never pass through binary floating point;
//! * secrets appear in no log line, no `Debug` text, no error and no recorded exchange.
//!
//! Cash has no connector: nobody is called, nothing can be unknown and no call-back comes. A cash tender is a fact that the
//! operator records (amount tendered, change), so it lives with the orders and bills and never reaches this crate.
//!
//! # To add a provider
//! 1. Make `src/<name>/` with the same files as `scb`: `mod.rs` (the port), `config.rs` (settings), `client.rs` (calls and
//!    credentials), `mapping.rs` (wire format and error classes), `webhook.rs`, `capabilities.rs`, `simulator/`.
//! 2. Declare the module below and add its line to `catalog::all`.
//! 3. Add its file and its line to the contract suite in `tests/contract/`; what is its alone goes into that file too.

use std::sync::Arc;

use chrono::{DateTime, Utc};

mod amount;
mod bangkok;
pub mod catalog;
pub mod error;
mod failure;
pub mod guard;
mod http;
pub mod kbank;
mod measure;
mod moment;
pub mod omise;
pub mod outbound;
mod pace;
pub mod promptpay;
pub mod qr_image;
pub mod registry;
pub mod scb;
mod secret;
#[cfg(test)]
mod shared_vectors;
mod signature;
pub mod simulator;
pub mod stripe;
mod token;

pub use error::GatewayError;
pub use guard::{Guarded, Health};
pub use kbank::{KbankConfig, KbankProvider};
pub use omise::{OmiseConfig, OmiseProvider};
pub use registry::ProviderRegistry;
pub use scb::{ScbConfig, ScbProvider};
pub use secret::Secret;
pub use stripe::{StripeConfig, StripeProvider};

/// The injected clock (UTC): the program passes the real one, tests one that they move.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;
