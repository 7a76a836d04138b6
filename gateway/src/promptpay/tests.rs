//! Payloads made by other encoders and by banks, read and written.

use serde_json::Value;

use super::*;
use crate::shared_vectors::shared_vectors;

const SCB_PUBLISHED: &str = "00020101021230670016A00000067701011201151234567890123450210REFERENCE10310REFERENCE252047011530376454041.005802TH6007BANGKOK62070703SCB6304CE18";
const MOBILE_100_BAHT: &str = "00020101021229370016A000000677010111011300668123456785802TH53037645406100.006304BB8A";
const FULL_SET: &str = "00020101021229370016A000000677010111011300668123456785204581253037645406250.005802TH5909TEST CAFE6007BANGKOK62270106INV0010506REF0010703T0163049B40";

fn scb_spec() -> QrSpec {
    let target = Target::Bill {
        biller_id: "123456789012345".to_owned(),
        reference1: "REFERENCE1".to_owned(),
        reference2: Some("REFERENCE2".to_owned()),
    };
    QrSpec {
        category_code: Some("7011".to_owned()),
        merchant_city: Some("BANGKOK".to_owned()),
        terminal_label: Some("SCB".to_owned()),
        ..QrSpec::new(target, Some(Money::thb(1_00)))
    }
}

#[test]
fn the_payload_that_scb_publishes_is_written_to_the_byte() {
    assert_eq!(scb_spec().encode().unwrap(), SCB_PUBLISHED);
}

#[test]
fn the_full_set_of_a_generic_encoder_is_written_to_the_byte() {
    let spec = QrSpec {
        category_code: Some("5812".to_owned()),
        merchant_name: Some("TEST CAFE".to_owned()),
        merchant_city: Some("BANGKOK".to_owned()),
        bill_number: Some("INV001".to_owned()),
        reference_label: Some("REF001".to_owned()),
        terminal_label: Some("T01".to_owned()),
        ..QrSpec::new(Target::mobile("0066812345678").unwrap(), Some(Money::thb(250_00)))
    };
    assert_eq!(spec.encode().unwrap(), FULL_SET);
}

#[test]
fn a_payload_in_another_order_means_the_same() {
    let theirs = ParsedQr::parse(MOBILE_100_BAHT).unwrap();
    let ours = QrSpec::new(Target::mobile("0812345678").unwrap(), Some(Money::thb(100_00))).encode().unwrap();
    let ours = ParsedQr::parse(&ours).unwrap();
    assert_eq!((ours.target, ours.amount, ours.dynamic), (theirs.target.clone(), theirs.amount, theirs.dynamic));
    assert_eq!(theirs.encode().unwrap(), MOBILE_100_BAHT);
}

#[test]
fn amounts_and_targets_that_cannot_be_paid_are_not_written() {
    for satang in [0, -1, 100_000_000_000_00] {
        let spec = QrSpec { amount: Some(Money::thb(satang)), ..scb_spec() };
        assert_eq!(spec.encode(), Err(QrError::BadAmount), "{satang}");
    }
    let dollars = Money::new(1_00, "USD".parse().unwrap());
    assert_eq!(QrSpec { amount: Some(dollars), ..scb_spec() }.encode(), Err(QrError::BadAmount));
    for (biller_id, reference1) in [("12345", "REF"), ("123456789012345", "ref"), ("123456789012345", "")] {
        let target = Target::Bill { biller_id: biller_id.to_owned(), reference1: reference1.to_owned(), reference2: None };
        assert!(QrSpec::new(target, None).encode().is_err());
    }
    for bad in ["", "12345", "1234567890", "99812345678"] {
        assert_eq!(Target::mobile(bad), Err(QrError::BadTarget), "{bad}");
    }
}

#[test]
fn a_checksum_in_lower_case_is_refused() {
    let lower = MOBILE_100_BAHT.replace("BB8A", "bb8a");
    assert_eq!(ParsedQr::parse(&lower), Err(QrError::CrcMismatch));
}

#[test]
fn a_changed_digit_a_missing_checksum_and_a_cut_are_refused() {
    assert_eq!(ParsedQr::parse(&MOBILE_100_BAHT.replace("100.00", "900.00")), Err(QrError::CrcMismatch));
    assert_eq!(ParsedQr::parse(MOBILE_100_BAHT.strip_suffix("6304BB8A").unwrap()), Err(QrError::MissingCrc));
    for cut in 0..MOBILE_100_BAHT.len() {
        assert!(ParsedQr::parse(&MOBILE_100_BAHT[..cut]).is_err(), "cut at {cut} was accepted");
    }
}

/// Of our own making: laid out after EMVCo MPM and Thai QR tags 29 and 30 by a program of a few lines, the checksum by long division of
/// the message by its polynomial, which is not how this crate computes it.
fn own_vectors() -> [(QrSpec, &'static str); 7] {
    let mobile = || Target::mobile("098-765-4321").unwrap();
    let national_id = || Target::national_id("3-1007-00123-45-6").unwrap();
    let bill = |reference2: Option<&str>| Target::Bill {
        biller_id: "099900012345601".to_owned(),
        reference1: "SAMPLE1".to_owned(),
        reference2: reference2.map(str::to_owned),
    };
    let everything = QrSpec {
        category_code: Some("5814".to_owned()),
        merchant_name: Some("KOPI HOUSE".to_owned()),
        merchant_city: Some("CHIANG MAI".to_owned()),
        bill_number: Some("B0042".to_owned()),
        reference_label: Some("R9".to_owned()),
        terminal_label: Some("TILL2".to_owned()),
        ..QrSpec::new(bill(Some("TABLE7")), Some(Money::thb(42_00)))
    };
    [
        (QrSpec::new(mobile(), None), "00020101021129370016A0000006770101110113006698765432153037645802TH6304A00F"),
        (QrSpec::new(mobile(), Some(Money::thb(1))), "00020101021229370016A00000067701011101130066987654321530376454040.015802TH6304B5C5"),
        (QrSpec::new(national_id(), None), "00020101021129370016A0000006770101110213310070012345653037645802TH63047AA8"),
        (
            QrSpec::new(national_id(), Some(Money::thb(9_999_999_999_99))),
            "00020101021229370016A00000067701011102133100700123456530376454139999999999.995802TH63040167",
        ),
        (
            QrSpec::new(Target::e_wallet("009876543210123").unwrap(), Some(Money::thb(1_234_50))),
            "00020101021229390016A0000006770101110315009876543210123530376454071234.505802TH630490AB",
        ),
        (QrSpec::new(bill(None), None), "00020101021130500016A00000067701011201150999000123456010207SAMPLE153037645802TH630404EC"),
        (
            everything,
            "00020101021230600016A00000067701011201150999000123456010207SAMPLE10306TABLE7520458145303764540542.005802TH5910KOPI HOUSE6010CHIANG MAI62240105B00420502R90705TILL26304EA44",
        ),
    ]
}

#[test]
fn vectors_of_our_own_making_are_written_to_the_byte_and_read_back() {
    for (spec, payload) in own_vectors() {
        assert_eq!(spec.encode().unwrap(), payload);
        let read = ParsedQr::parse(payload).unwrap();
        assert_eq!((&read.target, read.amount, read.dynamic), (&spec.target, spec.amount, spec.amount.is_some()), "{payload}");
        for (id, expected) in [("52", &spec.category_code), ("59", &spec.merchant_name), ("60", &spec.merchant_city)] {
            assert_eq!(read.value(id), expected.as_deref(), "{id} of {payload}");
        }
        for (id, expected) in [("01", &spec.bill_number), ("05", &spec.reference_label), ("07", &spec.terminal_label)] {
            assert_eq!(read.additional_value(id), expected.as_deref(), "62-{id} of {payload}");
        }
    }
}

#[test]
fn one_changed_character_of_a_vector_is_always_noticed() {
    for (_, payload) in own_vectors() {
        for at in 0..payload.len() {
            let other = if payload.as_bytes()[at] == b'7' { "8" } else { "7" };
            let changed = format!("{}{other}{}", &payload[..at], &payload[at + 1..]);
            assert!(ParsedQr::parse(&changed).is_err(), "{changed}");
        }
    }
}

#[test]
fn a_static_code_is_written_and_read_without_an_amount() {
    let text = QrSpec::new(Target::e_wallet("004-999-000-288-505").unwrap(), None).encode().unwrap();
    let parsed = ParsedQr::parse(&text).unwrap();
    assert!(!parsed.dynamic && parsed.amount.is_none());
}

#[test]
fn both_tags_are_written_with_and_without_an_amount_and_read_back() {
    let bill = |reference2: Option<&str>| Target::Bill {
        biller_id: "099400016550100".to_owned(),
        reference1: "REF1".to_owned(),
        reference2: reference2.map(str::to_owned),
    };
    let targets = [
        Target::mobile("+66 81 234 5678").unwrap(),
        Target::national_id("1-2345-67890-12-1").unwrap(),
        Target::e_wallet("004999000288505").unwrap(),
        bill(None),
        bill(Some("REF2")),
    ];
    for target in targets {
        for amount in [None, Some(Money::thb(1)), Some(Money::thb(9_999_999_999_99))] {
            let text = QrSpec::new(target.clone(), amount).encode().unwrap();
            let read = ParsedQr::parse(&text).unwrap();
            assert_eq!((&read.target, read.amount, read.dynamic), (&target, amount, amount.is_some()), "{text}");
            assert_eq!(read.encode().unwrap(), text);
        }
    }
}

/// With a fresh checksum, so that only the named rule can refuse it.
fn resealed(body: &str) -> String {
    let mut text = body.to_owned();
    write_crc(&mut text);
    text
}

#[test]
fn each_rule_refuses_with_its_own_word() {
    let cases = [
        ("00020101021229370016A000000677010111011300668123456785802TH5303764", QrError::BadInitiation),
        ("00020101021329370016A000000677010111011300668123456785802TH530376454041.00", QrError::BadInitiation),
        ("00020101021229370016A000000677010111011300668123456785802TH530376454041.0055020156040.50", QrError::TipOrFee),
        ("0002010102115802TH5303764", QrError::BadTarget),
        ("00020101021229370016A000000677010199011300668123456785802TH530376454041.00", QrError::BadTarget),
        ("00020101021229370016A000000677010111011300668123456785802TH530376454050.001", QrError::BadAmount),
        ("00020101021229370016A000000677010111011300668123456785802TH530376454040.00", QrError::BadAmount),
        ("00020101021229370016A000000677010111011300668123456785802TH53037645303764", QrError::DuplicateObject("53".to_owned())),
    ];
    for (body, expected) in cases {
        assert_eq!(ParsedQr::parse(&resealed(body)), Err(expected), "{body}");
    }
}

fn text(value: &Value, field: &str) -> Option<String> {
    value[field].as_str().map(str::to_owned)
}

fn spec_of(input: &Value) -> QrSpec {
    let name = input["target"].as_str().unwrap();
    let target = match input["kind"].as_str().unwrap() {
        "mobile" => Target::mobile(name).unwrap(),
        "national_or_tax_id" => Target::national_id(name).unwrap(),
        "ewallet_id" => Target::e_wallet(name).unwrap(),
        "biller_id" => {
            Target::Bill { biller_id: name.to_owned(), reference1: text(input, "ref1").unwrap(), reference2: text(input, "ref2") }
        }
        other => panic!("kind {other} is not known"),
    };
    QrSpec {
        category_code: text(input, "mcc"),
        merchant_name: text(input, "merchant_name"),
        merchant_city: text(input, "merchant_city"),
        bill_number: text(input, "bill_number"),
        reference_label: text(input, "reference_label"),
        terminal_label: text(input, "terminal_label").or_else(|| text(input, "ref3")),
        ..QrSpec::new(target, input["amount_satang"].as_i64().map(Money::thb))
    }
}

#[test]
fn vectors_of_other_encoders_are_read_and_reproduced() {
    let Some(vectors) = shared_vectors("promptpay.json") else { return };
    let mut equal_bytes = 0;
    for vector in vectors["vectors"].as_array().unwrap() {
        let id = &vector["id"];
        let payload = vector["payload"].as_str().unwrap();
        let theirs = ParsedQr::parse(payload).unwrap_or_else(|e| panic!("{id}: {e}"));
        assert_eq!(theirs.encode().unwrap(), payload, "{id} written again");
        let ours_text = spec_of(&vector["input"]).encode().unwrap();
        let ours = ParsedQr::parse(&ours_text).unwrap();
        if theirs.objects.is_sorted_by_key(|o| o.id.clone()) {
            assert_eq!(ours_text, payload, "{id}");
            equal_bytes += 1;
        }
        let sorted = |qr: &ParsedQr| {
            let mut objects = qr.objects.clone();
            objects.sort_by(|a, b| a.id.cmp(&b.id));
            objects
        };
        assert_eq!(sorted(&ours), sorted(&theirs), "{id}");
    }
    assert!(equal_bytes >= 2, "only {equal_bytes} vectors were compared to the byte");
    for sample in vectors["published_samples"].as_array().unwrap() {
        let payload = sample["payload"].as_str().unwrap();
        assert_eq!(ParsedQr::parse(payload).unwrap().encode().unwrap(), payload, "{}", sample["id"]);
    }
}

#[test]
fn negative_vectors_are_all_refused() {
    let Some(vectors) = shared_vectors("promptpay.json") else { return };
    for vector in vectors["negative"].as_array().unwrap() {
        let error = ParsedQr::parse(vector["payload"].as_str().unwrap());
        let error = error.expect_err(&vector["id"].to_string());
        let word = match &error {
            QrError::CrcMismatch => "crc_mismatch",
            QrError::MissingCrc => "missing_crc",
            QrError::BadLength => "bad_length",
            QrError::BadPayloadFormat => "bad_payload_format",
            QrError::WrongCurrency => "wrong_currency",
            QrError::WrongCountry => "wrong_country",
            QrError::DuplicateObject(_) => "duplicate_object",
            QrError::BadAmount => "bad_amount",
            QrError::TooLong
            | QrError::BadObject
            | QrError::BadInitiation
            | QrError::TipOrFee
            | QrError::BadTarget
            | QrError::BadText(_) => panic!("{}: {error}", vector["id"]),
        };
        let expected = vector["reason"].as_str().unwrap().replace("truncated", "bad_length");
        assert_eq!(word, expected, "{}", vector["id"]);
    }
}
