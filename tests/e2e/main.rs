//! End to end: the log and the write side on a real PostgreSQL and a real NATS; the shape of the workspace.

#[cfg(test)]
mod as_of;
#[cfg(test)]
mod as_of_bounds;
#[cfg(test)]
mod as_of_replay;
#[cfg(test)]
mod card_numbers;
#[cfg(test)]
mod card_tokens;
#[cfg(test)]
mod cards;
#[cfg(test)]
mod cards_holds;
#[cfg(test)]
mod cash_intents;
#[cfg(test)]
mod customers;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod disputes;
#[cfg(test)]
mod door_signatures;
#[cfg(test)]
mod door_tokens;
#[cfg(test)]
mod edge;
#[cfg(test)]
mod event_pages;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod feed;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod import;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod logged;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod money_back;
#[cfg(test)]
mod operation;
#[cfg(test)]
mod payment_intents;
#[cfg(test)]
mod payment_intents_shown;
#[cfg(test)]
mod process_managers;
#[cfg(test)]
mod process_plan;
#[cfg(test)]
mod process_store;
#[cfg(test)]
mod promptpay_qr;
#[cfg(test)]
mod provider_accounts;
#[cfg(test)]
mod provider_faults;
#[cfg(test)]
mod provider_people;
#[cfg(test)]
mod published_flow;
#[cfg(test)]
mod rate_limits;
#[cfg(test)]
mod reach;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod replay_auditor;
#[cfg(test)]
mod replay_browse;
#[cfg(test)]
mod replay_export;
#[cfg(test)]
mod replay_progress;
#[cfg(test)]
mod replay_proof;
#[cfg(test)]
mod replay_rebuild;
#[cfg(test)]
mod replay_reconcile;
#[cfg(test)]
mod replay_verify;
#[cfg(test)]
mod restored;
#[cfg(test)]
mod settlement_lists;
#[cfg(test)]
mod simulated_providers;
#[cfg(test)]
mod store_conflict;
#[cfg(test)]
mod store_faults;
#[cfg(test)]
mod store_fresh;
#[cfg(test)]
mod store_guard;
#[cfg(test)]
mod store_idempotency;
#[cfg(test)]
mod store_order;
#[cfg(test)]
mod store_plan;
#[cfg(test)]
mod store_snapshot;
#[cfg(test)]
mod timeline;
#[cfg(test)]
mod volume;
#[cfg(test)]
mod volume_files;
#[cfg(test)]
mod volume_kills;
#[cfg(test)]
mod volume_past;
#[cfg(test)]
mod volume_replay;
#[cfg(test)]
mod volume_reports;
#[cfg(test)]
mod volume_sums;
#[cfg(test)]
mod webhook_storm;
#[cfg(test)]
mod webhooks_out;
#[cfg(test)]
mod webhooks_verified;
#[cfg(test)]
mod workspace;
