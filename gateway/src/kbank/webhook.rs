//! KBank's payment call-back. Unsigned: the secret in the path and our own ids in it are the only proof of the sender, so
//! the content is a hint and is confirmed by inquiry. Source: K-API payment callback.

use domain::provider::{HintSubject, RawWebhook, WebhookHint, WebhookRefusal};
use serde::Deserialize;

use super::{KbankConfig, NAME};

/// Longer bodies are not the bank's.
const MAX_BODY: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notice {
    partner_txn_uid: String,
    partner_id: String,
    status_code: String,
    #[serde(default)]
    merchant_id: Option<String>,
    #[serde(default)]
    txn_no: Option<String>,
    #[serde(default)]
    reference1: Option<String>,
}

/// The amount in the body is ignored on purpose: the inquiry gives it.
pub(super) fn read(config: &KbankConfig, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
    if !raw.proven && !config.webhook_path_secret.matches(raw.path_secret.unwrap_or_default()) {
        return Err(WebhookRefusal::NotAuthentic);
    }
    let malformed = |problem: &str| WebhookRefusal::Malformed(NAME, problem.to_owned());
    if raw.body.len() > MAX_BODY {
        return Err(malformed("longer than 16 KiB"));
    }
    // The parser's own words could quote a payer's data.
    let notice: Notice = serde_json::from_slice(raw.body)
        .map_err(|e| malformed(&format!("not the expected JSON, at line {} column {}", e.line(), e.column())))?;
    if notice.partner_id != config.partner_id || notice.merchant_id.as_deref().is_some_and(|id| id != config.merchant_id) {
        return Err(WebhookRefusal::NotAuthentic);
    }
    let (txn_no, reference) = (notice.txn_no.filter(|n| !n.is_empty()), notice.reference1.filter(|r| !r.is_empty()));
    let names = [("partnerTxnUid", Some(&notice.partner_txn_uid)), ("txnNo", txn_no.as_ref()), ("reference1", reference.as_ref())];
    for (name, value) in names {
        let is_name = value.is_none_or(|v| (1..=64).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_graphic()));
        if !is_name {
            return Err(malformed(&format!("{name} is not 1 to 64 printable characters")));
        }
    }
    let delivery_id = format!("{}:{}:{}", notice.partner_txn_uid, txn_no.as_deref().unwrap_or_default(), notice.status_code);
    let subject = reference.map_or(HintSubject::ProviderId(notice.partner_txn_uid), HintSubject::Reference);
    // Anything but 00 says that the payment failed or was cancelled: the books are asked, and no transaction is waited for.
    let transaction_id = txn_no.filter(|_| notice.status_code == "00");
    let acknowledgement = r#"{"statusCode":"00","errorCode":null,"errorDesc":null}"#.to_owned();
    Ok(WebhookHint { delivery_id, subject, transaction_id, acknowledgement })
}
