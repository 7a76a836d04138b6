//! What nobody is shown of an event: the provider's single-use token of a card. The log keeps it, since the call that needs it follows
//! from the event; whoever shows events shows them through here.

use std::borrow::Cow;

use domain::envelope::RecordedEvent;
use serde_json::{Value, json};

const FIELD: &[u8] = b"\"card_token\"";
/// What stands in its place.
const MASK: &[u8] = b"***";

/// An event's payload, byte for byte, with tokens of cards masked.
pub fn payload(event: &RecordedEvent) -> Cow<'_, [u8]> {
    masked(&event.payload)
}

/// Whether an event's payload holds what is masked when it is shown.
pub fn hides_something_of(event: &RecordedEvent) -> bool {
    *payload(event) != *event.payload
}

/// An event's payload as JSON with tokens of cards masked; what is no JSON, in hex.
pub fn payload_json(event: &RecordedEvent) -> Value {
    let shown = payload(event);
    serde_json::from_slice(&shown).unwrap_or_else(|_| json!({"not_json_hex": hex::encode(&shown)}))
}

/// An event's payload as text with tokens of cards masked.
pub fn payload_text(event: &RecordedEvent) -> String {
    String::from_utf8_lossy(&payload(event)).into_owned()
}

/// An event without tokens of cards. Its hash is still the hash of what is stored.
#[must_use]
pub fn event(event: RecordedEvent) -> RecordedEvent {
    let shown = match masked(&event.payload) {
        Cow::Borrowed(_) => None,
        Cow::Owned(shown) => Some(shown),
    };
    match shown {
        Some(payload) => RecordedEvent { payload, ..event },
        None => event,
    }
}

fn masked(payload: &[u8]) -> Cow<'_, [u8]> {
    let mut shown = Vec::new();
    let mut rest = payload;
    while let Some((before, after)) = after_field(rest) {
        shown.extend_from_slice(before);
        rest = after;
        if let Some(end) = end_of_text(rest) {
            shown.push(b'"');
            shown.extend_from_slice(MASK);
            rest = rest.get(end..).unwrap_or_default();
        }
    }
    if shown.is_empty() {
        return Cow::Borrowed(payload);
    }
    shown.extend_from_slice(rest);
    Cow::Owned(shown)
}

/// Cuts behind the next field of that name, its colon and blanks.
fn after_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(FIELD.len()).position(|window| window == FIELD)?.checked_add(FIELD.len())?;
    let blanks = bytes.get(at..)?.iter().take_while(|byte| **byte == b':' || byte.is_ascii_whitespace()).count();
    bytes.split_at_checked(at.checked_add(blanks)?)
}

/// Where a text that begins here ends: the place of its closing quote.
fn end_of_text(bytes: &[u8]) -> Option<usize> {
    let (b'"', text) = bytes.split_first()? else { return None };
    let mut escaped = false;
    let end = text.iter().position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    })?;
    end.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(payload: &str) -> String {
        String::from_utf8(masked(payload.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn a_card_token_is_not_shown_wherever_it_stands_and_nothing_else_changes() {
        for (stored, expected) in [
            (r#"{"card_token":"tokn_1","route":"x"}"#, r#"{"card_token":"***","route":"x"}"#),
            (
                r#"{"a":{"card_token":"tokn_1"},"b":[{"card_token" : "pm_\"2\\"}]}"#,
                r#"{"a":{"card_token":"***"},"b":[{"card_token" : "***"}]}"#,
            ),
            (r#"{"card_token":null,"x":"card_token","card_token":"t"}"#, r#"{"card_token":null,"x":"card_token","card_token":"***"}"#),
            (r#"{"card_token":"cut"#, r#"{"card_token":"cut"#),
        ] {
            assert_eq!(shown(stored), expected);
        }
        let plain = br#"{"reason":"no \"card_tokens\" here"}"#;
        assert!(matches!(masked(plain), Cow::Borrowed(_)));
    }
}
