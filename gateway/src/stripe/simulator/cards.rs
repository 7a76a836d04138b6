//! What a card does.

use chrono::{DateTime, Utc};

use super::wire;
use crate::simulator::{
    Reply,
    charges::{Charge, Dispute, RefundHabit, Stand},
};

/// What a card does by its token.
pub(super) fn swipe(charge: &mut Charge, token: &str, now: DateTime<Utc>) -> Result<(), Reply> {
    let failed = match token {
        "pm_card_chargeDeclined" | "pm_card_visa_chargeDeclined" => "card_declined/generic_decline",
        "pm_card_chargeDeclinedInsufficientFunds" | "pm_card_visa_chargeDeclinedInsufficientFunds" => "card_declined/insufficient_funds",
        "pm_card_chargeDeclinedExpiredCard" => "expired_card/expired_card",
        "pm_card_chargeDeclinedIncorrectCvc" => "incorrect_cvc/incorrect_cvc",
        "pm_card_chargeDeclinedProcessingError" => "processing_error/processing_error",
        "pm_card_authenticationRequired" => return Ok(()),
        "pm_card_createDispute" => {
            charge.dispute = Some(Dispute::Open);
            ""
        }
        "pm_card_pendingRefund" => {
            charge.habit = RefundHabit::Delayed;
            ""
        }
        "pm_card_refundFail" => {
            charge.habit = RefundHabit::FailsLater;
            ""
        }
        "pm_card_visa" | "pm_card_mastercard" | "pm_sim_stored_500" | "pm_sim_no_increment" => "",
        other if other.starts_with("pm_test_") => "",
        _ => return Err(wire::invalid("resource_missing", "No such PaymentMethod")),
    };
    if failed.is_empty() {
        charge.authorize(charge.amount, now);
    } else {
        charge.stand = Stand::Failed(failed.to_owned());
    }
    Ok(())
}
