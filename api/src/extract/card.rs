//! Card numbers are refused at the door: an event log cannot forget, so none may ever come in.
//!
//! This catches what people and programs write by mistake, not somebody who wants to hide one.

use std::{borrow::Cow, ops::Range};

use serde_json::Value;
use unicode_normalization::UnicodeNormalization as _;

use super::percent_decoded;

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
/// one refused puts a letter among its digits.
pub fn takes_article_numbers(name: &str) -> bool {
    ARTICLE_FIELDS.contains(&name)
}

/// Whether the whole text is the number of an article: 13 or 14 digits with their own check digit.
pub fn is_article_number(text: &str) -> bool {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect();
    matches!(text.len(), 13 | 14) && digits.len() == text.len() && passes_ean(&digits)
}

/// Whether the text holds what looks like a card number: the length and the first digits of a card scheme and a valid check digit,
/// in whatever dress: other scripts' digits, invisible characters between them, groups with any separator, letters right before
/// or after. Names that machines make (our ids, UUIDs, hashes) are passed over, but not what a chip tells of its card, and 13 digits
/// that are an article's or a Thai person's number.
pub fn holds_card_number(text: &str) -> bool {
    let mut held = false;
    each_card_number(text, |_| {
        held = true;
        false
    });
    held
}

/// Says where card numbers stand, from the beginning, as long as `found` wants more.
fn each_card_number(text: &str, mut found: impl FnMut(Range<usize>) -> bool) {
    // The shortest card number has 13 digits, and most texts have none.
    if text.len() < 13 || (text.is_ascii() && text.bytes().filter(u8::is_ascii_digit).count() < 13) {
        return;
    }
    let is_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || is_invisible(c);
    let mut runs = Runs::default();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let word = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        // A word, or else what stands up to the next one.
        let part = if word > 0 { word } else { rest.find(is_of_word).unwrap_or(rest.len()) };
        if is_made_by_a_machine(&rest[..word]) {
            runs = Runs::default();
            if cards_of_track_2(&rest[..word]).any(|card| !found(at + card.start..at + card.end)) {
                return;
            }
        } else {
            for (place, c) in rest[..part].char_indices() {
                let place = at + place..at + place + c.len_utf8();
                if runs.takes(c, place).is_some_and(|card| !found(card)) {
                    return;
                }
            }
        }
        at += part;
    }
    if let Some(card) = runs.ends() {
        found(card);
    }
}

/// Characters that show nothing: soft hyphen, zero widths, marks of direction, variation selectors.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

/// The first digits of the scripts that have ten of their own in a row. Source: Unicode 16, general category Nd, living scripts;
/// what else is a digit becomes an ASCII one by NFKC.
const ZEROS: [char; 22] = [
    '0', '\u{660}', '\u{6f0}', '\u{7c0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}', '\u{c66}', '\u{ce6}',
    '\u{d66}', '\u{de6}', '\u{e50}', '\u{ed0}', '\u{f20}', '\u{1040}', '\u{1090}', '\u{17e0}', '\u{1810}', '\u{a9d0}',
];

fn digit_of(c: char) -> Option<u8> {
    let past = |zero: char| u32::from(c).checked_sub(u32::from(zero)).filter(|past| *past < 10);
    ZEROS.into_iter().find_map(past).and_then(|digit| u8::try_from(digit).ok())
}

/// `ord_` and a ULID, a UUID, a hash or token in hex: drawn by a machine, and too often full of digits to be looked into.
fn is_made_by_a_machine(word: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let of_ulid = |text: &str| text.len() == 26 && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    let of_hash = |text: &str| text.len() >= 32 && is_hex(text) && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    let named = |(prefix, id): (&str, &str)| prefix.bytes().all(|byte| byte.is_ascii_lowercase()) && (of_ulid(id) || of_hash(id));
    let uuid = word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && word.split('-').all(is_hex);
    uuid || of_hash(word) || word.split_once('_').is_some_and(named)
}

/// The places of card numbers in track 2 as a chip tells it: the number, `D`, year and month of expiry, and more, all of it in hex like
/// a hash. It begins the word or what follows a name and `_`, or stands behind its tag and length. Source: EMV 4.3 book 3, tag 57.
fn cards_of_track_2(word: &str) -> impl Iterator<Item = Range<usize>> {
    let (bytes, begin) = (word.as_bytes(), word.find('_').map_or(0, |at| at + 1));
    let is_tagged = move |start: usize| matches!(bytes[..start], [.., b'5', b'7', b'0' | b'1', _]);
    let is_number = move |place: &Range<usize>| {
        let digits: Option<Vec<u8>> = bytes[place.clone()].iter().map(|byte| digit_of(char::from(*byte))).collect();
        (place.start == begin || is_tagged(place.start)) && digits.is_some_and(|digits| is_card(&digits))
    };
    word.match_indices(['D', 'd']).filter_map(move |(end, _)| {
        let expiry = bytes.get(end + 1..end + 5).filter(|expiry| expiry.iter().all(u8::is_ascii_digit))?;
        if !matches!(expiry[2..], [b'0', b'1'..=b'9'] | [b'1', b'0'..=b'2']) {
            return None;
        }
        (13..=19).filter_map(|length| end.checked_sub(length)).map(|start| start..end).find(is_number)
    })
}

/// Runs of digits that stand together, as a text is read.
#[derive(Default)]
struct Runs {
    seen: Vec<Run>,
    /// The last character was a digit.
    open: bool,
    /// Something else than a blank or a dash stood after the last run.
    loose: bool,
}

struct Run {
    digits: Vec<u8>,
    /// In the text, bytes.
    place: Range<usize>,
    /// Something else than a blank or a dash stands before it.
    loose: bool,
}

impl Runs {
    /// Takes in a character; the place of a card number that ends right before it.
    fn takes(&mut self, c: char, place: Range<usize>) -> Option<Range<usize>> {
        if is_invisible(c) {
            return None;
        }
        // One character may stand for several digits.
        let digits: Vec<u8> = if c.is_ascii() { digit_of(c).into_iter().collect() } else { c.nfkc().map_while(digit_of).collect() };
        if !digits.is_empty() {
            if !self.open {
                self.seen.push(Run { digits: Vec::new(), place: place.clone(), loose: self.loose });
                (self.open, self.loose) = (true, false);
            }
            if let Some(run) = self.seen.last_mut() {
                run.digits.extend(digits);
                run.place.end = place.end;
            }
            return None;
        }
        let found = self.ends();
        let blank = c.is_whitespace() || matches!(c, '-' | '.' | '+' | '_' | '\u{2010}'..='\u{2015}' | '\u{2212}');
        if c.is_alphabetic() || found.is_some() {
            // Digits on the other side belong to something else.
            *self = Self::default();
        } else if !blank {
            self.loose = true;
        }
        found
    }

    /// The place of a card number that ends here.
    fn ends(&mut self) -> Option<Range<usize>> {
        if std::mem::take(&mut self.open) { ends_in_card(&self.seen) } else { None }
    }
}

/// The row of whole runs that ends with the last one and is a card number. Behind separators that lists of numbers have, too, only
/// groups as they stand on cards count.
fn ends_in_card(runs: &[Run]) -> Option<Range<usize>> {
    let last = runs.last()?;
    if begins_with_card_and_expiry(&last.digits) {
        return Some(last.place.clone());
    }
    let (mut digits, mut lengths, mut loose) = (Vec::with_capacity(19), Vec::with_capacity(4), false);
    for run in runs.iter().rev() {
        if digits.len() + run.digits.len() > 19 {
            return None;
        }
        digits.splice(0..0, run.digits.iter().copied());
        lengths.insert(0, run.digits.len());
        let grouped = matches!(lengths.as_slice(), [4, 4, 4, 4 | 6] | [4, 6, 4 | 5] | [4, 4, 4, 4, 3] | [6, 13]);
        if (!loose || grouped) && is_card(&digits) {
            return Some(run.place.start..last.place.end);
        }
        loose |= run.loose;
    }
    None
}

/// A card number with its expiry, and perhaps its security code, in one run of digits.
fn begins_with_card_and_expiry(digits: &[u8]) -> bool {
    [4, 7, 8].into_iter().any(|more| {
        let Some((card, rest)) = digits.len().checked_sub(more).and_then(|at| digits.split_at_checked(at)) else { return false };
        let month = |at: usize| rest.get(at..at + 2).is_some_and(|pair| matches!(pair, [0, 1..=9] | [1, 0..=2]));
        (month(0) || month(2)) && card.len() >= 15 && is_card(card)
    })
}

fn is_card(digits: &[u8]) -> bool {
    has_scheme(digits) && passes_luhn(digits) && !(digits.len() == 13 && (passes_ean(digits) || is_thai_person(digits)))
}

/// Source: GS1 General Specifications, section 7.9.
fn passes_ean(digits: &[u8]) -> bool {
    let weighed = digits.iter().rev().enumerate().map(|(place, digit)| u32::from(*digit) * if place % 2 == 0 { 1 } else { 3 });
    weighed.sum::<u32>().is_multiple_of(10)
}

/// Source: the Thai national identification number; its last digit is 11 less the weighed sum modulo 11, modulo 10.
fn is_thai_person(digits: &[u8]) -> bool {
    let Some((check, rest)) = digits.split_last() else { return false };
    let sum: u32 = rest.iter().zip((2..=13).rev()).map(|(digit, weight)| u32::from(*digit) * weight).sum();
    (11 - sum % 11) % 10 == u32::from(*check)
}

/// A body as it may be kept when it could not be refused (a provider's call-back): card numbers and what stands in fields for card
/// data are masked. Untouched, byte for byte, when there is none.
pub fn without_card_data(body: &[u8]) -> Cow<'_, [u8]> {
    let masked = if let Ok(mut value) = serde_json::from_slice::<Value>(body) {
        mask_value(&mut value).then(|| value.to_string())
    } else {
        let text = String::from_utf8_lossy(body);
        // A form may be a card number only when it is read.
        without_card_numbers(&text).or_else(|| without_card_numbers(&percent_decoded(&text)))
    };
    masked.map_or(Cow::Borrowed(body), |masked| Cow::Owned(masked.into_bytes()))
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
            let masked = without_card_numbers(&text);
            let held = masked.is_some();
            if let Some(masked) = masked {
                *value = Value::from(masked);
            }
            held
        }
        Value::Null | Value::Bool(_) => false,
    }
}

/// The text with its card numbers masked; nothing when it has none.
pub fn without_card_numbers(text: &str) -> Option<String> {
    let (mut masked, mut done) = (String::new(), 0);
    each_card_number(text, |place| {
        masked.push_str(&text[done..place.start]);
        masked.extend(text[place.clone()].chars().map(|_| '*'));
        done = place.end;
        true
    });
    (done > 0).then(|| masked + &text[done..])
}

/// Lengths and first digits in use. Source: ISO/IEC 7812-1 and the schemes' published ranges: Visa, Mastercard, American Express,
/// Diners, Discover, JCB, UnionPay, RuPay, Maestro, Mir, Troy.
fn has_scheme(digits: &[u8]) -> bool {
    let Some(first) = digits.get(..4) else { return false };
    let head = first.iter().fold(0_u32, |number, digit| number * 10 + u32::from(*digit));
    match digits.len() {
        13 => head / 1000 == 4,
        14 => matches!(head / 10, 300..=305 | 309) || matches!(head / 100, 36 | 38 | 39),
        15 => matches!(head / 100, 34 | 37),
        16 => matches!(head / 100, 40..=58 | 60..=69 | 81) || matches!(head, 2200..=2204 | 2221..=2720 | 3528..=3589 | 9792),
        17 => head / 100 == 62 || matches!(head, 2200..=2204 | 3528..=3589),
        18 | 19 => matches!(head / 100, 40..=50 | 56..=58 | 60..=69) || matches!(head, 2200..=2204 | 3528..=3589),
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
#[path = "card_tests.rs"]
mod tests;
