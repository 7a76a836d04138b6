//! Counts and times the calls on the port.

use std::time::Instant;

use domain::provider::{CallOutcome, Decline};

/// Counts and times one call, and logs the outcomes that someone may have to look into.
pub async fn measured<T>(provider: &'static str, operation: &'static str, call: impl Future<Output = CallOutcome<T>>) -> CallOutcome<T> {
    let started = Instant::now();
    let outcome = call.await;
    let word = match &outcome {
        CallOutcome::Done(_) => "done",
        CallOutcome::Declined(Decline { code, message }) => {
            if code == "credentials_refused" {
                tracing::error!(provider, operation, message, "the provider refuses our credentials");
            }
            "declined"
        }
        CallOutcome::NotAttempted(reason) => {
            tracing::warn!(provider, operation, reason, "call not attempted");
            "not_attempted"
        }
        CallOutcome::Unknown(reason) => {
            tracing::warn!(provider, operation, reason, "outcome unknown");
            "unknown"
        }
    };
    metrics::counter!("gateway_calls_total", "provider" => provider, "operation" => operation, "outcome" => word).increment(1);
    metrics::histogram!("gateway_call_seconds", "provider" => provider, "operation" => operation).record(started.elapsed());
    outcome
}
