//! Deliveries to merchants' webhook endpoints: which addresses may be called, how a delivery is signed, how it is sent.

pub mod address;
pub mod client;
pub mod signature;

pub use address::{AddressPolicy, TargetError, check_url};
pub use client::{Deliverer, Delivery, Sent};
pub use signature::{Secret, SignatureError};
