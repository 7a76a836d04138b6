//! Carries out what process managers and provider workers decide: one place where their words become commands.

use domain::{
    bill::{self, Bill},
    order,
    payment_intent::{Command as IntentCommand, PaymentIntent},
    process::ProcessCommand,
    refund::{self, Refund},
};

use crate::{bills, error::CommandError, handle::UnitOfWork, orders, payment_cases, payments, refund_findings, refunds};

/// Applies one command within a unit. Each is a no-op when already in effect.
///
/// # Errors
/// Any rejection of the aggregate that it goes to.
pub async fn apply(unit: &mut UnitOfWork, command: ProcessCommand) -> Result<(), CommandError> {
    match command {
        ProcessCommand::AllocatePayment { bill_id, payment_intent_id, tender, amount, cash_rounding, tip, acquirer } => {
            let command = bill::Command::AllocatePayment { payment_intent_id, tender, amount, cash_rounding, tip, acquirer };
            on_bill(unit, bill_id, command).await
        }
        ProcessCommand::ReleaseReservation { bill_id, payment_intent_id } => {
            on_bill(unit, bill_id, bill::Command::ReleaseReservation { payment_intent_id }).await
        }
        ProcessCommand::RecordBillRefund { bill_id, payment_intent_id, refund_id, amount } => {
            on_bill(unit, bill_id, bill::Command::RecordSentRefund { refund_id, payment_intent_id, amount }).await
        }
        ProcessCommand::CompleteOrder { order_id, bill_id } => {
            orders::change(unit, order_id, order::Command::Complete { bill_id }).await.map(drop)
        }
        ProcessCommand::SettleRefund { payment_intent_id: id, refund_id } => {
            intent(unit, id, IntentCommand::SettleRefund { refund_id }).await
        }
        ProcessCommand::ReleaseRefund { payment_intent_id: id, refund_id } => {
            intent(unit, id, IntentCommand::ReleaseRefund { refund_id }).await
        }
        ProcessCommand::LeaveRefundOfPayment { payment_intent_id, refund_id } => {
            intent(unit, payment_intent_id, IntentCommand::LeaveRefundToPerson { refund_id }).await
        }
        ProcessCommand::TakeBackRefund { payment_intent_id: id, refund_id } => {
            intent(unit, id, IntentCommand::TakeBackRefund { refund_id }).await
        }
        ProcessCommand::TakeBackBillRefund { bill_id, payment_intent_id, refund_id } => {
            on_bill(unit, bill_id, bill::Command::TakeBackRefund { refund_id, payment_intent_id }).await
        }
        ProcessCommand::OpenDispute { payment_intent_id, transaction_id, reason, at } => {
            payments::dispute(unit, payment_intent_id, Some(transaction_id), reason, at).await.map(drop)
        }
        ProcessCommand::DecideDispute { payment_intent_id, transaction_id, outcome, at } => {
            payment_cases::resolve_dispute(unit, payment_intent_id, Some(transaction_id), outcome, at).await.map(drop)
        }
        ProcessCommand::AcceptAttempt { payment_intent_id, attempt_id, provider_id } => {
            intent(unit, payment_intent_id, IntentCommand::AcceptAttempt { attempt_id, provider_id }).await
        }
        ProcessCommand::RequireAction { payment_intent_id, attempt_id, qr_payload, redirect_url } => {
            intent(unit, payment_intent_id, IntentCommand::RequireAction { attempt_id, qr_payload, redirect_url }).await
        }
        ProcessCommand::AuthorizeAttempt { payment_intent_id, attempt_id, amount, capture_before } => {
            intent(unit, payment_intent_id, IntentCommand::Authorize { attempt_id, amount, capture_before }).await
        }
        ProcessCommand::FailCapture { payment_intent_id, attempt_id, code, message } => {
            intent(unit, payment_intent_id, IntentCommand::FailCapture { attempt_id, code, message }).await
        }
        ProcessCommand::FailIncrease { payment_intent_id, attempt_id, code, message } => {
            intent(unit, payment_intent_id, IntentCommand::FailIncrease { attempt_id, code, message }).await
        }
        ProcessCommand::LeaveToPerson { payment_intent_id, attempt_id, at } => {
            intent(unit, payment_intent_id, IntentCommand::LeaveToPerson { attempt_id, at }).await
        }
        ProcessCommand::FailAttempt { payment_intent_id, attempt_id, code, message } => {
            end_attempt(unit, payment_intent_id, IntentCommand::FailAttempt { attempt_id, code, message }).await
        }
        ProcessCommand::EndAttempt { payment_intent_id, attempt_id, how } => {
            end_attempt(unit, payment_intent_id, IntentCommand::EndAttempt { attempt_id, how }).await
        }
        ProcessCommand::MarkAttemptUnknown { payment_intent_id, attempt_id, reason, since } => {
            intent(unit, payment_intent_id, IntentCommand::MarkOutcomeUnknown { attempt_id, reason, since }).await
        }
        ProcessCommand::ConfirmPayment { payment_intent_id, report } => {
            intent(unit, payment_intent_id, IntentCommand::ConfirmFromProvider(report)).await
        }
        ProcessCommand::ConfirmCancel { payment_intent_id } => intent(unit, payment_intent_id, IntentCommand::ConfirmCancel).await,
        ProcessCommand::ExpirePayment { payment_intent_id: id, attempt_id } => intent(unit, id, IntentCommand::Expire { attempt_id }).await,
        ProcessCommand::LapsePayment { payment_intent_id, at } => intent(unit, payment_intent_id, IntentCommand::Lapse { at }).await,
        ProcessCommand::CountFoundRefund { payment_intent_id, refund_id, amount, unmatched_transaction_id } => {
            refund_findings::count_found(unit, payment_intent_id, refund_id, amount, unmatched_transaction_id).await
        }
        ProcessCommand::SucceedRefund { refund_id: id, provider_reference } => refund_findings::succeed(unit, id, provider_reference).await,
        ProcessCommand::FailRefund { refund_id, code, message, refused } => refunds::fail(unit, refund_id, code, message, refused).await,
        ProcessCommand::MarkRefundUnknown { refund_id, reason, since } => {
            refund(unit, refund_id, refund::Command::MarkOutcomeUnknown { reason, since }).await
        }
        ProcessCommand::LeaveRefundToPerson { refund_id, at } => refund(unit, refund_id, refund::Command::LeaveToPerson { at }).await,
    }
}

/// Ends an attempt and frees what it held on the bill, in one append.
async fn end_attempt(unit: &mut UnitOfWork, id: domain::ids::PaymentIntentId, command: IntentCommand) -> Result<(), CommandError> {
    let before = payments::concerns(unit, id).await?;
    let after = unit.decide::<PaymentIntent>(id, command).await?;
    let bill_id = before.details.as_ref().and_then(|details| details.bill_id);
    // Only when this very command ended the attempt: a later attempt's hold is not ours to free.
    if let (Some(bill_id), true) = (bill_id, after.status != before.status) {
        unit.decide::<Bill>(bill_id, bill::Command::ReleaseReservation { payment_intent_id: id }).await?;
    }
    Ok(())
}

async fn on_bill(unit: &mut UnitOfWork, id: domain::ids::BillId, command: bill::Command) -> Result<(), CommandError> {
    bills::concerns(unit, id).await?;
    unit.decide::<Bill>(id, command).await.map(drop)
}

async fn intent(unit: &mut UnitOfWork, id: domain::ids::PaymentIntentId, command: IntentCommand) -> Result<(), CommandError> {
    payments::concerns(unit, id).await?;
    unit.decide::<PaymentIntent>(id, command).await.map(drop)
}

async fn refund(unit: &mut UnitOfWork, id: domain::ids::RefundId, command: refund::Command) -> Result<(), CommandError> {
    refunds::concerns(unit, id).await?;
    unit.decide::<Refund>(id, command).await.map(drop)
}
