//! SCB's payment confirmation. Unsigned: the secret in the path and the biller id are the only proof of the sender, so
//! the content is a hint and is confirmed by inquiry. Source: SCB developer API, payment-confirmation.

use domain::provider::{HintSubject, RawWebhook, WebhookHint, WebhookRefusal};
use serde::Deserialize;

use super::ScbConfig;

/// Longer bodies are not the bank's.
const MAX_BODY: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Confirmation {
    transaction_id: String,
    bill_payment_ref1: String,
    payee_proxy_id: String,
}

/// The amount and time in the body are ignored on purpose: the inquiry gives them.
pub(super) fn read(config: &ScbConfig, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
    if !raw.proven && !config.webhook_path_secret.matches(raw.path_secret.unwrap_or_default()) {
        return Err(WebhookRefusal::NotAuthentic);
    }
    let malformed = |problem: &str| WebhookRefusal::Malformed("scb", problem.to_owned());
    if raw.body.len() > MAX_BODY {
        return Err(malformed("longer than 16 KiB"));
    }
    // The parser's own words could quote a payer's name or account.
    let body: Confirmation = serde_json::from_slice(raw.body)
        .map_err(|e| malformed(&format!("not the expected JSON, at line {} column {}", e.line(), e.column())))?;
    if body.payee_proxy_id != config.biller_id {
        return Err(WebhookRefusal::NotAuthentic);
    }
    for (name, value) in [("transactionId", &body.transaction_id), ("billPaymentRef1", &body.bill_payment_ref1)] {
        let is_name = (1..=64).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic());
        if !is_name {
            return Err(malformed(&format!("{name} is not 1 to 64 printable characters")));
        }
    }
    let acknowledgement = serde_json::json!({"resCode": "00", "resDesc": "success", "transactionId": body.transaction_id}).to_string();
    Ok(WebhookHint {
        delivery_id: body.transaction_id.clone(),
        subject: HintSubject::Reference(body.bill_payment_ref1),
        transaction_id: Some(body.transaction_id),
        acknowledgement,
    })
}
