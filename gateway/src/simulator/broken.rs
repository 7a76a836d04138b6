//! An answer with a fault laid over it.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};

use super::{Fault, FaultRule, Operation, Reply, Simulated, Wording};

/// Runs `act` with a fault around it, if a rule says so.
pub(super) async fn answer<P: Simulated>(
    provider: &P,
    operation: Operation,
    reference: Option<&str>,
    act: impl FnOnce() -> Result<Reply, Reply> + Send,
) -> Response {
    let act = || act().unwrap_or_else(|refusal| refusal);
    let Some(rule) = provider.core().faults.strike(operation, reference) else {
        return act().into_response();
    };
    if let Some((happens, failure)) = worded(&rule, operation) {
        if happens {
            act();
        }
        return provider.word(failure).into_response();
    }
    if rule.fault == Fault::CapturePart {
        provider.capture_in_part(reference);
    }
    broken(provider, &rule, act).await
}

/// A failure that the provider words itself, and whether it happens all the same.
fn worded(rule: &FaultRule, operation: Operation) -> Option<(bool, Wording)> {
    let status = rule.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Some(match rule.fault {
        Fault::Http500 => (false, Wording::Http(status)),
        Fault::Http500After => (true, Wording::Http(status)),
        Fault::Trouble => (false, Wording::Trouble),
        Fault::TroubleAfter => (true, Wording::Trouble),
        Fault::NotVisibleYet if operation == Operation::InquireRefund => (false, Wording::NoRefunds),
        Fault::NotVisibleYet => (false, Wording::NotVisible),
        Fault::Duplicate => (true, Wording::Duplicate),
        Fault::Settled => (false, Wording::Settled),
        Fault::Window => (false, Wording::OutsideHours),
        Fault::ResetBefore
        | Fault::ResetAfter
        | Fault::TimeoutBefore
        | Fault::TimeoutAfter
        | Fault::Slow
        | Fault::CutBody
        | Fault::NotJson
        | Fault::EmptyBody
        | Fault::Http429
        | Fault::TokenExpired
        | Fault::UnknownStatus
        | Fault::ExtraFields
        | Fault::MissingFields
        | Fault::CapturePart
        | Fault::MissingRow
        | Fault::ExtraRow
        | Fault::WrongFee => return None,
    })
}

/// The other faults: of the connection, of time, and of an answer's form.
async fn broken<P: Simulated>(provider: &P, rule: &FaultRule, act: impl FnOnce() -> Reply + Send) -> Response {
    let word = |failure| provider.word(failure).into_response();
    let delay = || wait(provider, rule.delay_ms);
    match rule.fault {
        Fault::ResetBefore => Reply::reset(),
        Fault::ResetAfter => {
            act();
            Reply::reset()
        }
        Fault::TimeoutBefore => {
            delay().await;
            word(Wording::Http(StatusCode::GATEWAY_TIMEOUT))
        }
        Fault::TimeoutAfter => {
            act();
            delay().await;
            word(Wording::Http(StatusCode::GATEWAY_TIMEOUT))
        }
        Fault::Slow => {
            let reply = act();
            delay().await;
            reply.into_response()
        }
        Fault::CutBody => act().cut(),
        Fault::NotJson => {
            act();
            Html("<html><body>Maintenance</body></html>").into_response()
        }
        Fault::EmptyBody => {
            act();
            StatusCode::OK.into_response()
        }
        Fault::Http429 => {
            let mut response = word(Wording::Quota);
            if let Some(seconds) = rule.retry_after_s {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
        }
        Fault::TokenExpired => {
            if let Some(tokens) = provider.tokens() {
                tokens.forget();
            }
            word(Wording::Unauthorized)
        }
        Fault::UnknownStatus => act().with_unknown_status(P::STATUS_FIELDS).into_response(),
        Fault::ExtraFields => act().with_extra_fields().into_response(),
        Fault::MissingFields => act().without_fields(&rule.fields).into_response(),
        // Told by `worded`, done before the call, or of lists only.
        Fault::Http500
        | Fault::Http500After
        | Fault::Trouble
        | Fault::TroubleAfter
        | Fault::NotVisibleYet
        | Fault::Duplicate
        | Fault::Settled
        | Fault::Window
        | Fault::CapturePart
        | Fault::MissingRow
        | Fault::ExtraRow
        | Fault::WrongFee => act().into_response(),
    }
}

async fn wait(provider: &impl Simulated, delay_ms: Option<u64>) {
    let delay = Duration::from_millis(delay_ms.unwrap_or(30_000));
    provider.core().stop.run_until_cancelled(tokio::time::sleep(delay)).await;
}
