//! Amounts and card numbers, against readers of their own.

use api::extract::card::holds_card_number;
use domain::money::{Currency, Money, MoneyError};

use crate::{Tally, edits::Samples, fuzz, time_for};

/// Minor units of a decimal number, by its characters alone; nothing when it is none, or not one of at most `decimals` decimals.
fn minor_units(text: &str, decimals: usize) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || fraction.is_some_and(|fraction| !is_number(fraction)) {
        return None;
    }
    let fraction = fraction.unwrap_or_default();
    let (kept, rest) = fraction.split_at(decimals.min(fraction.len()));
    if rest.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let units = format!("{whole}{kept:0<decimals$}")
        .bytes()
        .try_fold(0_i128, |sum, digit| sum.checked_mul(10).and_then(|sum| sum.checked_add(i128::from(digit - b'0'))))?;
    Some(if negative { -units } else { units })
}

#[test]
fn amounts_are_read_digit_by_digit_or_not_at_all() {
    assert_eq!((minor_units("-12.5", 2), minor_units("1.001", 2), minor_units("1.000", 2)), (Some(-12_50), None, Some(1_00)));
    let tally = Tally::default();
    fuzz!(1_500, Samples::of("amounts"), |input| {
        let Some(text) = input.text() else { return tally.refused() };
        for code in ["THB", "JPY", "KWD"] {
            let currency: Currency = code.parse().unwrap();
            let expected = minor_units(text, usize::try_from(currency.exponent()).unwrap());
            match Money::parse_major(text, currency) {
                Ok(money) => {
                    tally.accepted();
                    assert_eq!((Some(i128::from(money.amount)), money.currency), (expected, currency), "{text} {code}");
                    assert_eq!(Money::parse_major(&money.to_major(), currency), Ok(money));
                }
                Err(error) => {
                    tally.refused();
                    // More digits than the decimal type holds are refused, whatever they say.
                    let long = text.bytes().filter(u8::is_ascii_digit).count() > 27;
                    let fits = expected.is_some_and(|units| i64::try_from(units).is_ok());
                    assert!(long || !fits, "{text} {code}: {error}");
                    assert!(error != MoneyError::Overflow || expected.is_some(), "{text} {code}");
                }
            }
        }
    });
    tally.has_seen_both("amounts");
}

/// First digits of the schemes, with a length that each uses.
/// Those of thirteen digits are left out: where an article's or a person's number fits, the screen lets them pass.
const SCHEMES: [(&str, usize); 11] = [
    ("4", 16),
    ("51", 16),
    ("55", 16),
    ("2221", 16),
    ("2720", 16),
    ("34", 15),
    ("37", 15),
    ("6011", 16),
    ("3528", 16),
    ("36", 14),
    ("62", 19),
];

/// A number of a scheme with its check digit.
fn card_number(scheme: u8, digits: [u8; 19]) -> String {
    let (head, length) = SCHEMES[usize::from(scheme) % SCHEMES.len()];
    let mut number: Vec<u32> = head.bytes().map(|digit| u32::from(digit - b'0')).collect();
    number.extend(digits.iter().map(|digit| u32::from(digit % 10)));
    number.truncate(length - 1);
    let doubled = |(place, digit): (usize, &u32)| if place % 2 == 0 { digit * 2 / 10 + digit * 2 % 10 } else { *digit };
    let sum: u32 = number.iter().rev().enumerate().map(doubled).sum();
    number.push((10 - sum % 10) % 10);
    number.iter().map(u32::to_string).collect()
}

#[test]
fn card_numbers_are_seen_in_every_dress() {
    let places = ["", "pay with ", "card=", "no: ", "12 ", "(", "\"", "ก ", "a, "];
    let ends = ["", " please", ")", "\"", " 12 26 123", ", a", " ก", "\n"];
    bolero::check!().with_test_time(time_for(1_000)).with_iterations(usize::MAX).with_type::<(u8, [u8; 19], [u8; 8])>().for_each(
        |(scheme, digits, dress)| {
            let number = card_number(*scheme, *digits);
            let separator = [" ", "-", ".", "+", "_"][usize::from(dress[0]) % 5];
            let mut written = String::new();
            for (place, digit) in number.chars().enumerate() {
                // Groups of four as on the card, none, or any; a long word of short parts is a machine's name.
                let parted = match dress[1] % 3 {
                    2 if ["-", "_"].contains(&separator) => place > 0 && place % 4 == 0,
                    0 => place > 0 && place % 4 == 0,
                    1 => false,
                    _ => place > 0 && dress[2 + place % 6] >> (place % 8) & 1 == 1,
                };
                written.push_str(if parted { separator } else { "" });
                written.push(digit);
            }
            let text = format!("{}{written}{}", places[usize::from(dress[6]) % places.len()], ends[usize::from(dress[7]) % ends.len()]);
            assert!(holds_card_number(&text), "{text}");
            // As a chip tells it: the number with its expiry, in what otherwise would be a hash.
            let (before, d) = (["", "t_", "5713", "9f1a0207645713"][usize::from(dress[2]) % 4], ["D", "d"][usize::from(dress[3]) % 2]);
            let track = format!("{before}{number}{d}{:02}{:02}{}", dress[4] % 100, dress[5] % 12 + 1, hex::encode(digits));
            assert!(holds_card_number(&track), "{track}");
        },
    );
}
