//! Talks to payment providers and translates their world into ours.
//!
//! The port that every provider implements is `domain::provider::PaymentProvider`; this crate holds the connectors, the
//! registry that finds them by name, and a simulator per provider that speaks its wire format over real HTTP.
//!
//! Rules of every connector:
//! * a time-out, a cut or an unreadable answer to a call that may move money is *unknown*, never *declined*;
//! * repeats carry the same reference, so that the provider's books show one thing;
//! * amounts on the wire are read as text, digit by digit, and never pass through binary floating point;
//! * secrets appear in no log line, no `Debug` text and no error.
//!
//! # To add a provider
//! 1. Make `src/<name>/` with the same files as `scb`: `mod.rs` (configuration, the port), `client.rs` (HTTP and
//!    credentials), `mapping.rs` (wire format and error classes), `webhook.rs`, `simulator/`.
//! 2. Declare the module below; build it and hand it to [`ProviderRegistry::with`] where the program starts.
//! 3. Drive it against its simulator in `tests/<name>.rs`: every fault, exact amounts, refused call-backs.

use std::sync::Arc;

use chrono::{DateTime, Utc};

pub mod error;
pub mod outbound;
pub mod promptpay;
pub mod registry;
pub mod scb;
pub mod simulator;

pub use error::GatewayError;
pub use registry::ProviderRegistry;
pub use scb::{ScbConfig, ScbProvider};

/// The injected clock (UTC): the program passes the real one, tests one that they move.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;
