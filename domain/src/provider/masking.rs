//! What nobody is shown of what was said to and heard from a provider: values of JSON and form fields, by the names of the fields.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// Bytes of a body that are shown.
const MOST: usize = 16 * 1024;
/// Deeper JSON is masked whole.
const MAX_DEPTH: u8 = 32;
const MASK: &str = "***";
/// A field whose name holds one of these may speak of a person, or hold a secret.
const PRIVATE: [&str; 18] = [
    "account",
    "address",
    "authorize_uri",
    "billing",
    "card",
    "customer",
    "email",
    "mobile",
    "name",
    "payment_method",
    "phone",
    "proxy",
    "receipt",
    "receiver",
    "secret",
    "sender",
    "shipping",
    "token",
];

/// A body in JSON with the values of fields masked whose names `hides` knows, at any depth; everything else keeps its spelling, since numbers
/// are evidence. What is not JSON could quote anything, so only its length is told.
pub fn json(body: &[u8], hides: impl Fn(&str) -> bool) -> String {
    if body.is_empty() {
        return String::new();
    }
    match serde_json::from_slice::<&RawValue>(body) {
        Ok(json) => cut(&masked(json, &hides, 0)),
        Err(_) => format!("[{} bytes that are not JSON]", body.len()),
    }
}

/// A form or a query with the values of fields masked whose names `hides` knows: `card[number]` and `payment_method_data%5Bcvc%5D` are named
/// by their last part.
pub fn form(text: &str, hides: impl Fn(&str) -> bool) -> String {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if hides(last_part(&name.replace("%5B", "[").replace("%5D", "]"))) => format!("{name}={MASK}"),
        Some(_) | None => pair.to_owned(),
    };
    cut(&text.split('&').map(pair).collect::<Vec<_>>().join("&"))
}

/// Whether a field of a provider's call-back may speak of a person or hold a secret, by its name: where the list of the provider's own fields
/// is not at hand, rather one too many is hidden.
pub fn is_private(name: &str) -> bool {
    let name = name.to_lowercase();
    name == "ip" || PRIVATE.iter().any(|private| name.contains(private))
}

fn last_part(name: &str) -> &str {
    name.trim_end_matches(']').rsplit('[').next().unwrap_or(name)
}

fn masked(json: &RawValue, hides: &impl Fn(&str) -> bool, depth: u8) -> String {
    let text = json.get();
    if depth > MAX_DEPTH {
        return format!("\"{MASK}\"");
    }
    // By its first letter: trying to read every number as an object took a twentieth of a payment's time.
    match text.as_bytes().first() {
        Some(b'{') => match serde_json::from_str(text) {
            Ok(Fields(fields)) => {
                let field = |(name, value): (Cow<'_, str>, &RawValue)| {
                    let shown = if value.get() != "null" && hides(&name) { format!("\"{MASK}\"") } else { masked(value, hides, depth + 1) };
                    format!("{}:{shown}", Value::from(name))
                };
                format!("{{{}}}", fields.into_iter().map(field).collect::<Vec<_>>().join(","))
            }
            Err(_) => format!("\"{MASK}\""),
        },
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(items) => format!("[{}]", items.into_iter().map(|item| masked(item, hides, depth + 1)).collect::<Vec<_>>().join(",")),
            Err(_) => format!("\"{MASK}\""),
        },
        Some(_) | None => text.to_owned(),
    }
}

/// The fields of an object in the order they came, repeated ones too.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn cut(text: &str) -> String {
    if text.len() <= MOST {
        return text.to_owned();
    }
    let end = (0..=MOST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_masked_at_any_depth_and_in_any_case() {
        let body = br#"{"a":{"PartnerSecret":"s","b":[{"cardNo":4111}]},"n":null,"amount":100.50,"access_token":"t"}"#;
        let shown = json(body, |name| ["partnersecret", "cardno", "n", "access_token"].contains(&name.to_lowercase().as_str()));
        assert_eq!(shown, r#"{"a":{"PartnerSecret":"***","b":[{"cardNo":"***"}]},"n":null,"amount":100.50,"access_token":"***"}"#);
    }

    #[test]
    fn forms_and_queries_are_masked_by_the_last_part_of_a_name() {
        let shown = form("amount=5&card[token]=tok&data%5Bcvc%5D=123&client_secret=x&plain", |name| {
            ["token", "cvc", "client_secret"].contains(&name)
        });
        assert_eq!(shown, "amount=5&card[token]=***&data%5Bcvc%5D=***&client_secret=***&plain");
    }

    #[test]
    fn what_is_not_json_is_only_counted() {
        assert_eq!(json(b"<html>secret</html>", |_| false), "[19 bytes that are not JSON]");
        assert_eq!(json(br#"{"access_token":"cut he"#, |_| false), "[23 bytes that are not JSON]");
        assert_eq!(json(b"", |_| false), "");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ก".repeat(MOST);
        assert!(cut(&text).len() <= MOST + 3);
    }

    #[test]
    fn a_call_back_shows_what_was_paid_and_not_who_paid() {
        let body = br#"{"transactionId":"T1","amount":"100.50","payerName":"S. T.","payerAccountNumber":"1","billPaymentRef1":"SMP1","card":{"last":1}}"#;
        let shown = json(body, is_private);
        let wanted = r#"{"transactionId":"T1","amount":"100.50","payerName":"***","payerAccountNumber":"***","billPaymentRef1":"SMP1","card":"***"}"#;
        assert_eq!(shown, wanted);
    }
}
