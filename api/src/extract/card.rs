//! Card numbers are refused at the door: an event log cannot forget, so none may ever come in.

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
    // Short texts are the rule, and the shortest card number has 13 digits.
    if text.len() < 13 {
        return false;
    }
    let bytes = text.as_bytes();
    let mut groups: Vec<&[u8]> = Vec::new();
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
                groups.push(word);
            }
        } else {
            groups.clear();
        }
        if ends_in_card(&groups) {
            return true;
        }
        if !matches!(separator, Some(b' ' | b'-' | b'.' | b'+' | b'_')) {
            groups.clear();
        }
        at += 1;
    }
    false
}

/// Whether some run of whole groups that ends with the last one is a card number.
fn ends_in_card(groups: &[&[u8]]) -> bool {
    let mut digits: Vec<u8> = Vec::with_capacity(19);
    for group in groups.iter().rev() {
        if digits.len() + group.len() > 19 {
            return false;
        }
        digits.splice(0..0, group.iter().map(|digit| digit - b'0'));
        if has_scheme(&digits) && passes_luhn(&digits) {
            return true;
        }
    }
    false
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
}
