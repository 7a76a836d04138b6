//! What of the contract holds for PromptPay codes that are written here, without a provider: exact amounts, one payee, and no code for a
//! request that makes no sense. There is nobody to call, so whatever of the contract is about calls, answers and call-backs does not
//! apply; see ADR 19. Codes are read by a camera's decoder and by a reader that is written here, apart from the crate's own.

use std::collections::BTreeMap;

use domain::money::Money;
use gateway::{
    promptpay::{QrError, QrSpec, Target},
    qr_image,
};

const BILLER: &str = "099900012345601";

/// Id to value; templates are read once more by [`objects`]. A payload that breaks the form fails the test.
fn objects(mut text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while !text.is_empty() {
        let (id, rest) = text.split_at(2);
        let (length, rest) = rest.split_at(2);
        let (value, rest) = rest.split_at(length.parse().unwrap());
        assert_eq!(found.insert(id.to_owned(), value.to_owned()), None, "{id} occurs twice");
        text = rest;
    }
    found
}

/// CRC-16 with polynomial 1021 as a division: the message times x¹⁶, its first 16 bits inverted, modulo the polynomial.
fn remainder(message: &[u8]) -> u16 {
    let mut bits: Vec<bool> =
        message.iter().flat_map(|byte| (0..8).rev().map(move |at| (byte >> at) & 1 == 1)).chain([false; 16]).collect();
    bits.iter_mut().take(16).for_each(|bit| *bit = !*bit);
    let end = bits.len() - 16;
    for at in 0..end {
        if bits[at] {
            // x¹⁶ + x¹² + x⁵ + 1
            for power in [0, 4, 11, 16] {
                bits[at + power] = !bits[at + power];
            }
        }
    }
    bits[end..].iter().fold(0, |sum, bit| (sum << 1) | u16::from(*bit))
}

/// What the payer's app shows: the objects of a payload that a camera reads off its picture.
fn scanned(payload: &str) -> BTreeMap<String, String> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(qr_image::png(payload, 4).unwrap()));
    reader.set_transformations(png::Transformations::EXPAND);
    let mut reader = reader.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let (width, height) = (info.width as usize, info.height as usize);
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| pixels[y * info.line_size + x]);
    let text = image.detect_grids()[0].decode().unwrap().1;
    assert_eq!(text, payload);
    let (covered, crc) = text.split_at(text.len() - 4);
    assert_eq!(crc, format!("{:04X}", remainder(covered.as_bytes())), "{text}");
    objects(&text)
}

fn bill(reference1: &str, reference2: Option<&str>) -> Target {
    Target::Bill { biller_id: BILLER.to_owned(), reference1: reference1.to_owned(), reference2: reference2.map(str::to_owned) }
}

/// A payee, its tag, and the objects of its template behind the application's name.
type Payee = (Target, &'static str, Vec<(&'static str, &'static str)>);

/// Each kind of payee.
fn payees() -> Vec<Payee> {
    vec![
        (Target::mobile("081-234-5678").unwrap(), "29", vec![("01", "0066812345678")]),
        (Target::national_id("3-1007-00123-45-6").unwrap(), "29", vec![("02", "3100700123456")]),
        (Target::e_wallet("009876543210123").unwrap(), "29", vec![("03", "009876543210123")]),
        (bill("INV42", None), "30", vec![("01", BILLER), ("02", "INV42")]),
        (bill("INV42", Some("TABLE7")), "30", vec![("01", BILLER), ("02", "INV42"), ("03", "TABLE7")]),
    ]
}

#[test]
fn amounts_are_exact() {
    for (target, ..) in payees() {
        for (satang, text) in [(100_50, "100.50"), (1, "0.01"), (20_00, "20.00"), (700_000_00, "700000.00"), (99_99, "99.99")] {
            let seen = scanned(&QrSpec::new(target.clone(), Some(Money::thb(satang))).encode().unwrap());
            assert_eq!((seen["54"].as_str(), seen["53"].as_str(), seen["58"].as_str()), (text, "764", "TH"), "{target:?}");
        }
    }
}

#[test]
fn a_code_names_its_payee_and_references_and_nobody_else() {
    for amount in [None, Some(Money::thb(100_50))] {
        for (target, tag, expected) in payees() {
            let seen = scanned(&QrSpec::new(target.clone(), amount).encode().unwrap());
            let aid = if tag == "29" { "A000000677010111" } else { "A000000677010112" };
            let expected: BTreeMap<String, String> =
                expected.into_iter().chain([("00", aid)]).map(|(id, value)| (id.to_owned(), value.to_owned())).collect();
            assert_eq!(objects(&seen[tag]), expected, "{target:?}");
            assert!(!seen.contains_key(if tag == "29" { "30" } else { "29" }), "{seen:?}");
        }
    }
}

#[test]
fn a_code_with_an_amount_is_for_one_use_and_one_without_is_static() {
    for (target, ..) in payees() {
        let dynamic = scanned(&QrSpec::new(target.clone(), Some(Money::thb(1_00))).encode().unwrap());
        assert_eq!((dynamic["01"].as_str(), dynamic.contains_key("54")), ("12", true), "{target:?}");
        let fixed = scanned(&QrSpec::new(target.clone(), None).encode().unwrap());
        assert_eq!((fixed["01"].as_str(), fixed.contains_key("54")), ("11", false), "{target:?}");
    }
}

#[test]
fn requests_that_make_no_sense_are_declined() {
    for (target, ..) in payees() {
        for amount in [Money::thb(0), Money::thb(-1), Money::thb(10_000_000_000_00), Money::new(1_00, "USD".parse().unwrap())] {
            assert_eq!(QrSpec::new(target.clone(), Some(amount)).encode(), Err(QrError::BadAmount), "{target:?} {amount:?}");
        }
    }
    for (kind, bad) in [("mobile", "0812"), ("mobile", "1812345678"), ("national_id", "310070012345"), ("e_wallet", "31007001234567")] {
        let target = match kind {
            "mobile" => Target::mobile(bad),
            "national_id" => Target::national_id(bad),
            _ => Target::e_wallet(bad),
        };
        assert_eq!(target, Err(QrError::BadTarget), "{kind} {bad}");
    }
    let long = "A".repeat(21);
    for (biller_id, reference1, reference2) in [
        ("0999000123456", "INV42", None),
        ("09990001234560X", "INV42", None),
        (BILLER, "", None),
        (BILLER, "inv42", None),
        (BILLER, "INV 42", None),
        (BILLER, long.as_str(), None),
        (BILLER, "INV42", Some("")),
        (BILLER, "INV42", Some("table")),
    ] {
        let target =
            Target::Bill { biller_id: biller_id.to_owned(), reference1: reference1.to_owned(), reference2: reference2.map(str::to_owned) };
        assert_eq!(QrSpec::new(target.clone(), None).encode(), Err(QrError::BadTarget), "{target:?}");
    }
    let account = Target::BankAccount("0041234567890".to_owned());
    assert_eq!(QrSpec::new(account, None).encode(), Err(QrError::BadTarget), "read, never written");
}

#[test]
fn the_same_request_has_the_same_code() {
    for (target, ..) in payees() {
        let spec = QrSpec::new(target, Some(Money::thb(12_34)));
        assert_eq!(spec.encode(), spec.clone().encode());
    }
}
