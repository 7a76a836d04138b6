//! Levers of providers with charges: refunds that are carried out or fail later, disputes, and events that come late.
//!
//! `POST /sim/refund` (`{"reference": …, "state": "succeeded" | "failed"}`: all refunds of the charge that can go there),
//! `POST /sim/dispute` (`{"reference": …, "state": "open" | "won" | "lost"}`; open unless told) and `POST /sim/created`
//! (`{"reference": …, "webhook": …}`: that the charge was made, as it then stood). Each sends its event.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    CallbackPlan, Simulated,
    charges::{Charge, Charges, Dispute, RefundHabit, SentBack},
    ledger::Refusal,
    locked,
};

/// A simulator that keeps charges.
pub(crate) trait Charging: Simulated {
    fn charges(&self) -> &Mutex<Charges>;
    /// Whether a list of charges leaves this one out, by a rule `not_visible_yet` on its reference.
    fn hides(&self, charge: &Charge) -> bool {
        self.core().faults.hides(&charge.reference())
    }
    /// The event that tells that a charge was made.
    fn creation_event(&self, made: &Charge) -> String;
    /// The event that tells of a refund.
    fn refund_event(&self, charge: &Charge, refund: &SentBack) -> String;
    /// The event that tells of a dispute.
    fn dispute_event(&self, charge: &Charge) -> String;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RefundEnd {
    Succeeded,
    Failed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundLever {
    reference: String,
    state: RefundEnd,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DisputeLever {
    reference: String,
    #[serde(default = "open")]
    state: Dispute,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreatedLever {
    reference: String,
    #[serde(default)]
    webhook: CallbackPlan,
}

fn open() -> Dispute {
    Dispute::Open
}

pub(crate) fn routes<P: Charging>() -> Router<Arc<P>> {
    Router::new()
        .route("/sim/refund", post(refund::<P>))
        .route("/sim/dispute", post(dispute::<P>))
        .route("/sim/created", post(created::<P>))
}

async fn refund<P: Charging>(State(provider): State<Arc<P>>, Json(lever): Json<RefundLever>) -> Response {
    let now = provider.core().now();
    let end = |charge: &mut Charge| {
        let late = charge.habit == RefundHabit::FailsLater;
        let can = |state: &str| state == "pending" || (late && lever.state == RefundEnd::Failed && state == "succeeded");
        let word = if lever.state == RefundEnd::Failed { "failed" } else { "succeeded" };
        let moved: Vec<SentBack> = charge
            .refunds
            .iter_mut()
            .filter(|refund| can(&refund.state))
            .map(|refund| {
                word.clone_into(&mut refund.state);
                refund.ended_at = Some(now);
                refund.clone()
            })
            .collect();
        if moved.is_empty() { Err(Refusal::Rule("no refund can go there")) } else { Ok(moved) }
    };
    let changed = locked(provider.charges()).change(&lever.reference, end);
    match changed {
        Ok((charge, moved)) => {
            for refund in &moved {
                provider.core().announce(&provider.refund_event(&charge, refund));
            }
            Json(json!({"refunds": moved})).into_response()
        }
        Err(refusal) => refused(&refusal),
    }
}

async fn dispute<P: Charging>(State(provider): State<Arc<P>>, Json(lever): Json<DisputeLever>) -> Response {
    let dispute = |charge: &mut Charge| {
        let (before, after) = (charge.dispute, lever.state);
        if charge.captured == 0 || before.is_some_and(|before| before != Dispute::Open || after == Dispute::Open) {
            return Err(Refusal::Rule("only what is paid can be disputed, once, and decided once"));
        }
        if before.is_none() && after != Dispute::Open {
            return Err(Refusal::Rule("nothing is disputed"));
        }
        charge.dispute = Some(after);
        Ok(())
    };
    let changed = locked(provider.charges()).change(&lever.reference, dispute);
    match changed {
        Ok((charge, ())) => {
            provider.core().announce(&provider.dispute_event(&charge));
            Json(json!({"disputed": charge.captured})).into_response()
        }
        Err(refusal) => refused(&refusal),
    }
}

async fn created<P: Charging>(State(provider): State<Arc<P>>, Json(lever): Json<CreatedLever>) -> Response {
    let found = locked(provider.charges()).find(&lever.reference);
    match found {
        Ok(charge) => {
            provider.core().call_back(&lever.reference, &provider.creation_event(&charge.as_made()), &lever.webhook);
            StatusCode::ACCEPTED.into_response()
        }
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"error": format!("{refusal:?}")}))).into_response()
}
