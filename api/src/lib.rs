//! Speaks HTTP and composes the roles of the platform; the only crate that knows all the others.

pub mod auth;
pub mod config;
pub mod demo;
pub mod embedded;
pub mod extract;
pub mod import;
pub mod import_command;
pub mod key_file;
pub mod linger;
pub mod local;
pub mod master_key;
pub mod openapi;
pub mod platform;
pub mod problem;
pub mod resources;
pub mod router;
pub mod routes;
pub mod schemas_command;
pub mod server;
pub mod simulated_provider;
pub mod state;
pub mod telemetry;
pub mod token_command;
pub mod webhook_command;
pub mod webhook_delivery;
pub mod ws;
