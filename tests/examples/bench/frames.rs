//! What a shop's socket says of payments.

use serde::Deserialize;

/// What was heard of an intent.
#[derive(Debug)]
pub enum Heard {
    /// An attempt began, under this reference at the provider.
    Started { reference: String },
    /// The payer is shown what to do; `at` in microseconds since 1970.
    ActionRequired { at: u64 },
    /// It succeeded; `at` in microseconds since 1970.
    Succeeded { at: u64, position: i64 },
}

#[derive(Deserialize)]
struct Frame<'a> {
    r#type: &'a str,
    position: i64,
    #[serde(borrow)]
    body: Body<'a>,
}

#[derive(Deserialize)]
struct Body<'a> {
    id: &'a str,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    reference: Option<String>,
}

/// The intent that a frame received at `at` speaks of, and what it says; nothing for any other frame.
pub fn heard(text: &str, at: u64) -> Option<(&str, Heard)> {
    // Most frames are about something else: a look is cheaper than reading them.
    if !text.contains("\"payment_intent.") {
        return None;
    }
    let Frame { r#type, position, body } = serde_json::from_str(text).ok()?;
    let heard = match (r#type, body.data.reference) {
        ("payment_intent.attempt_started", Some(reference)) => Heard::Started { reference },
        ("payment_intent.action_required", _) => Heard::ActionRequired { at },
        ("payment_intent.succeeded", _) => Heard::Succeeded { at, position },
        _ => return None,
    };
    Some((body.id, heard))
}
