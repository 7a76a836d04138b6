//! Call-backs as each provider sends them, written and signed here from the providers' published descriptions and not by the
//! simulators: SCB and KBank prove themselves by a secret path, Omise and Stripe sign what they send.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use commands::system::SystemClock;
use domain::clock::Clock as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::provider_faults::stage::{BILLER_ID, Bank, MERCHANT_ID, OMISE_HOOK, PARTNER_ID, STRIPE_HOOK, Stage};

/// Older than the five minutes for which a signature is good, in seconds.
const TOO_OLD: i64 = 600;

/// A payment as its provider tells of it.
#[derive(Debug, Clone)]
pub struct Told {
    /// Sets this call-back apart from the others of the storm.
    pub number: usize,
    /// The provider's name of the attempt.
    pub attempt: String,
    /// Our name of it.
    pub reference: String,
    /// The provider's name of the money.
    pub transaction: String,
    /// Satang.
    pub amount: i64,
}

/// Why a call-back must not be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// By the secret of somebody else.
    WrongKey,
    /// Not what was signed; where nothing is signed, of another payee.
    Altered,
    /// Signed well, ten minutes ago.
    TooOld,
    /// Without any proof.
    Unproven,
}

impl Flaw {
    /// Those that this provider's scheme knows.
    pub const fn of(bank: Bank) -> &'static [Self] {
        match bank {
            Bank::Omise | Bank::Stripe => &[Self::WrongKey, Self::Altered, Self::TooOld, Self::Unproven],
            Bank::Scb | Bank::Kbank => &[Self::WrongKey, Self::Altered, Self::Unproven],
        }
    }
}

/// What goes over the wire.
pub struct Sealed {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// The body, byte for byte the same each time it is sent.
pub fn body(bank: Bank, told: &Told) -> String {
    let Told { number, attempt, reference, transaction, amount } = told;
    let baht = format!("{}.{:02}", amount / 100, amount % 100);
    let body = match bank {
        Bank::Scb => json!({"transactionId": transaction, "billPaymentRef1": reference, "payeeProxyId": BILLER_ID, "amount": baht,
            "currencyCode": "764"}),
        Bank::Kbank => kbank(told, &baht),
        Bank::Omise => json!({"object": "event", "id": format!("evnt_test_storm{number}"), "livemode": false, "key": "charge.complete",
            "data": {"object": "charge", "id": attempt, "status": "successful", "paid": true, "amount": amount, "currency": "THB",
                "metadata": {"reference": reference}}}),
        Bank::Stripe => json!({"object": "event", "id": format!("evt_storm{number}"), "livemode": false,
            "type": "payment_intent.succeeded",
            "data": {"object": {"object": "payment_intent", "id": attempt, "status": "succeeded", "amount_received": amount,
                "currency": "thb", "metadata": {"reference": reference}}}}),
    };
    body.to_string()
}

/// Clients see our reference in some of them and not in others.
fn kbank(told: &Told, baht: &str) -> Value {
    let mut body = json!({"partnerTxnUid": told.attempt, "partnerId": PARTNER_ID, "merchantId": MERCHANT_ID, "statusCode": "00",
        "errorCode": null, "errorDesc": null, "txnAmount": baht, "txnCurrencyCode": "THB", "txnNo": told.transaction});
    if told.number.is_multiple_of(2) {
        body["reference1"] = json!(told.reference);
    }
    body
}

/// Addressed and signed at the time of sending, as a provider does at each try.
pub fn sealed(stage: &Stage, body: &str, flaw: Option<Flaw>) -> Sealed {
    let door = stage.door();
    match stage.bank {
        Bank::Scb | Bank::Kbank => by_path(door, body, flaw),
        Bank::Omise => {
            let key = STANDARD.decode(OMISE_HOOK).unwrap();
            signed(door, &key, body, flaw, |at, signature| {
                vec![("omise-signature".to_owned(), signature), ("omise-signature-timestamp".to_owned(), at)]
            })
        }
        Bank::Stripe => signed(door, STRIPE_HOOK.as_bytes(), body, flaw, |at, signature| {
            vec![("stripe-signature".to_owned(), format!("t={at},v1={signature}"))]
        }),
    }
}

fn by_path(door: String, body: &str, flaw: Option<Flaw>) -> Sealed {
    let body = match flaw {
        Some(Flaw::Altered) => body.replace(BILLER_ID, "099400016550199").replace(PARTNER_ID, "PTR0000002"),
        Some(Flaw::WrongKey | Flaw::TooOld | Flaw::Unproven) | None => body.to_owned(),
    };
    let path = match flaw {
        Some(Flaw::WrongKey) => format!("{door}-not"),
        Some(Flaw::Unproven) => door.rsplit_once('/').unwrap().0.to_owned(),
        Some(Flaw::Altered | Flaw::TooOld) | None => door,
    };
    Sealed { path, headers: vec![], body: body.into_bytes() }
}

/// Both sign `time "." body` by HMAC-SHA256 in hexadecimal and differ in where they write it.
fn signed(path: String, key: &[u8], body: &str, flaw: Option<Flaw>, headers: impl Fn(String, String) -> Vec<(String, String)>) -> Sealed {
    let now = SystemClock.now().timestamp();
    let at = if flaw == Some(Flaw::TooOld) { now - TOO_OLD } else { now };
    let key = if flaw == Some(Flaw::WrongKey) { b"of somebody else" } else { key };
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("{at}.{body}").as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    let headers = if flaw == Some(Flaw::Unproven) { vec![] } else { headers(at.to_string(), signature) };
    let sent = if flaw == Some(Flaw::Altered) { body.replace("\"livemode\":false", "\"livemode\":true") } else { body.to_owned() };
    assert_eq!(sent != body, flaw == Some(Flaw::Altered), "{body}");
    Sealed { path, headers, body: sent.into_bytes() }
}
