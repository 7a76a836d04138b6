//! Puts the payment token into the answer to whoever made an intent. It is worked out anew each time, so that the stored answer
//! holds none and a repeated one has the same.

use chrono::{DateTime, Utc};
use commands::idempotency::Answer;
use domain::ids::{MerchantId, PaymentIntentId};
use serde_json::{Value, value::to_raw_value};

use crate::{auth::payment_token::payment_token, problem::Problem, state::AppState};

/// The answer with a `payment_token`, if it is that of an intent with an end.
///
/// # Errors
/// An internal problem where this process has no master key.
pub fn with_payment_token(state: &AppState, tenant: MerchantId, mut answer: Answer) -> Result<Answer, Problem> {
    let shown: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let id = shown["id"].as_str().and_then(|id| id.parse::<PaymentIntentId>().ok());
    let ends = shown["expires_at"].as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    if let (Some(id), Some(ends), Some(open)) = (id, ends, answer.body.strip_suffix(b"}")) {
        let token = payment_token(&state.keyring()?, tenant, id, ends);
        let token = to_raw_value(&token).map_err(|error| Problem::internal(&error))?;
        // The rest stays byte for byte what was answered first.
        answer.body = [open, b",\"payment_token\":", token.get().as_bytes(), b"}"].concat();
    }
    Ok(answer)
}
