//! Card numbers are refused at the door: an event log cannot forget, so none may ever come in.

use std::{borrow::Cow, ops::Range};

use serde_json::Value;

/// Names of fields that are for card data and nothing else, without case and separators.
const CARD_FIELDS: [&str; 13] = [
    "cvv",
    "cvv2",
    "cvc",
    "cvc2",
    "cvn",
    "securitycode",
    "cardsecuritycode",
    "cardverificationvalue",
    "cardnumber",
    "primaryaccountnumber",
    "pan",
    "track1",
    "track2",
];
/// Names of fields that hold numbers of articles (EAN-13, GTIN-14), of which one in some hundred looks like a card number.
const ARTICLE_FIELDS: [&str; 4] = ["item_code", "barcode", "gtin", "sku"];

/// Whether a field of this name can only be meant for card data.
pub fn names_card_data(name: &str) -> bool {
    // Longer names are none of these, whatever stands between the letters.
    if name.len() > 32 {
        return false;
    }
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    CARD_FIELDS.contains(&plain.as_str())
}

/// Whether a field of this name may hold the number of an article. A reference that a shop makes up itself may not: whoever sees
/// one refused puts a letter before it.
pub fn takes_article_numbers(name: &str) -> bool {
    ARTICLE_FIELDS.contains(&name)
}

/// Whether the whole text is the number of an article: 13 or 14 digits with their own check digit. Source: GS1 General
/// Specifications, section 7.9.
pub fn is_article_number(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let weighed = digits.iter().rev().enumerate().map(|(place, digit)| if place % 2 == 0 { *digit } else { digit * 3 });
    matches!(text.len(), 13 | 14) && digits.len() == text.len() && weighed.sum::<u32>().is_multiple_of(10)
}

/// Whether the text holds what looks like a card number: digits, possibly grouped by spaces or dashes, standing alone, with
/// the length and the first digits of a card scheme and a valid check digit.
pub fn holds_card_number(text: &str) -> bool {
    first_card_number(text.as_bytes()).is_some()
}

/// Where the first card number stands.
fn first_card_number(bytes: &[u8]) -> Option<Range<usize>> {
    // Short texts are the rule, and the shortest card number has 13 digits.
    if bytes.len() < 13 {
        return None;
    }
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        while bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
            at += 1;
        }
        let word = &bytes[start..at];
        let separator = bytes.get(at).copied();
        if word.iter().all(u8::is_ascii_digit) {
            if !word.is_empty() {
                groups.push(start..at);
            }
        } else {
            groups.clear();
        }
        if let Some(found) = ends_in_card(bytes, &groups) {
            return Some(found);
        }
        if !matches!(separator, Some(b' ' | b'-' | b'.' | b'+' | b'_')) {
            groups.clear();
        }
        at += 1;
    }
    None
}

/// The run of whole groups that ends with the last one and is a card number.
fn ends_in_card(bytes: &[u8], groups: &[Range<usize>]) -> Option<Range<usize>> {
    let end = groups.last()?.end;
    let mut digits: Vec<u8> = Vec::with_capacity(19);
    for group in groups.iter().rev() {
        if digits.len() + group.len() > 19 {
            return None;
        }
        digits.splice(0..0, bytes[group.clone()].iter().map(|digit| digit - b'0'));
        if has_scheme(&digits) && passes_luhn(&digits) {
            return Some(group.start..end);
        }
    }
    None
}

/// A body as it may be kept when it could not be refused (a provider's call-back): card numbers and what stands in fields for card
/// data are masked. Untouched, byte for byte, when there is none.
pub fn without_card_data(body: &[u8]) -> Cow<'_, [u8]> {
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else { return mask_numbers(body) };
    if mask_value(&mut value) { Cow::Owned(value.to_string().into_bytes()) } else { Cow::Borrowed(body) }
}

/// True when something was masked.
fn mask_value(value: &mut Value) -> bool {
    match value {
        Value::Object(fields) => {
            let mut masked = false;
            for (name, field) in fields.iter_mut() {
                let secret = names_card_data(name) && !field.is_null();
                if secret {
                    *field = Value::from("***");
                }
                masked |= secret || mask_value(field);
            }
            masked
        }
        Value::Array(items) => items.iter_mut().fold(false, |masked, item| mask_value(item) | masked),
        Value::String(_) | Value::Number(_) => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let held = holds_card_number(&text);
            if held {
                *value = Value::from(String::from_utf8_lossy(&mask_numbers(text.as_bytes())));
            }
            held
        }
        Value::Null | Value::Bool(_) => false,
    }
}

fn mask_numbers(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut masked = Cow::Borrowed(bytes);
    while let Some(place) = first_card_number(&masked) {
        for byte in &mut masked.to_mut()[place] {
            *byte = b'*';
        }
    }
    masked
}

/// Lengths and first digits in use. Source: ISO/IEC 7812-1 and the schemes' published ranges.
fn has_scheme(digits: &[u8]) -> bool {
    let Some(first) = digits.get(..4) else { return false };
    let head = first.iter().fold(0_u32, |number, digit| number * 10 + u32::from(*digit));
    match digits.len() {
        13 => head / 1000 == 4,
        14 => matches!(head / 10, 300..=305) || matches!(head / 100, 36 | 38 | 39),
        15 => matches!(head / 100, 34 | 37),
        16 => matches!(head / 100, 51..=55 | 40..=49 | 62 | 65) || matches!(head, 2221..=2720 | 3528..=3589 | 6011 | 6440..=6499),
        17 | 18 => head / 100 == 62,
        19 => matches!(head / 100, 40..=49 | 62 | 65) || matches!(head, 3528..=3589 | 6011),
        _ => false,
    }
}

/// Source: ISO/IEC 7812-1 annex B.
fn passes_luhn(digits: &[u8]) -> bool {
    let weigh = |(place, digit): (usize, &u8)| {
        let digit = u32::from(*digit);
        if place % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
    };
    digits.iter().rev().enumerate().map(weigh).sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_of_every_scheme_are_seen_in_any_dress() {
        for number in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "pay with 5555555555554444 please",
            "378282246310005",
            "6011111111111117",
            "3530111333300000",
            "30569309025904",
            "4222222222222",
            "4111 1111 1111 1111 12 26 123",
            "a 4111111111111111",
            "12 4111111111111111",
            "card=2223003122003222",
        ] {
            assert!(holds_card_number(number), "{number}");
        }
    }

    #[test]
    fn other_long_numbers_pass() {
        for text in [
            "4111111111111112",
            "1101700230705",
            "20261122133252",
            "ord_01HZY3T5V6W7X8Y9Z0A1B2C3D4",
            "ord_41111111111111110000000000",
            "X4111111111111111",
            "+66812345678",
            "00020101021230",
            "2026-11-22T13:32:52.123456Z",
            "",
        ] {
            assert!(!holds_card_number(text), "{text}");
        }
    }

    #[test]
    fn what_must_be_kept_is_kept_without_card_data() {
        let kept = |body: &str| String::from_utf8(without_card_data(body.as_bytes()).into_owned()).unwrap();
        assert_eq!(
            kept(r#"{"a":"x 4111 1111 1111 1111 y","n":4111111111111111}"#),
            r#"{"a":"x ******************* y","n":"****************"}"#
        );
        assert_eq!(
            kept(r#"{"card":{"cvv":123,"pan":null},"b":[{"security_code":"1"}]}"#),
            r#"{"b":[{"security_code":"***"}],"card":{"cvv":"***","pan":null}}"#
        );
        assert_eq!(kept("pan=4111111111111111&x=5555555555554444"), "pan=****************&x=****************");
        for body in ["", "{", r#"{ "id" : "20261122133252", "amount":"107.00" }"#] {
            assert!(matches!(without_card_data(body.as_bytes()), Cow::Borrowed(_)), "{body}");
        }
    }
}
