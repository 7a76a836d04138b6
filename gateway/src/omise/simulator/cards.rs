//! What a card does, by its number or its token.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};

use super::wire;
use crate::simulator::{
    Reply,
    charges::{Charge, RefundHabit, Stand},
};

/// What a published test card does: its token's word.
pub(super) fn word_of(number: &str) -> Option<&'static str> {
    Some(match number {
        "4242424242424242" | "4111111111111111" | "5555555555554444" | "5454545454545454" | "3530111333300000" | "3566111111111113"
        | "378282246310005" => "ok",
        "4111111111140011" | "5555551111110011" | "3530111111190011" => "insufficient_fund",
        "4111111111130012" | "5555551111100012" | "3530111111180012" => "stolen_or_lost_card",
        "4111111111120013" | "5555551111190013" | "3530111111170013" => "failed_processing",
        "4111111111110014" | "5555551111180014" | "3530111111160014" => "payment_rejected",
        _ => return None,
    })
}

/// What a card does by its token.
pub(super) fn swipe(charge: &mut Charge, token: &str, now: DateTime<Utc>) -> Result<(), Reply> {
    let word = token.strip_prefix("tokn_test_").ok_or_else(|| wire::error(StatusCode::NOT_FOUND, "not_found", "token was not found"))?;
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_');
    match word {
        "used" => return Err(wire::bad("used_token", "token was already used")),
        "threeds" => return Ok(()),
        "slowrefund" => charge.habit = RefundHabit::Delayed,
        "badrefund" => charge.habit = RefundHabit::FailsLater,
        "ok" => {}
        failure => {
            charge.stand = Stand::Failed(failure.to_owned());
            return Ok(());
        }
    }
    charge.authorize(charge.amount, now);
    Ok(())
}
