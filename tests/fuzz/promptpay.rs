//! PromptPay codes: what is accepted is what was written, and no checksum but the right one will do.

use gateway::promptpay::{ParsedQr, Target, crc16};

use crate::{Tally, edits::Samples, fuzz};

/// CRC-16/CCITT-FALSE bit by bit, written apart from the one under test.
fn checksum(text: &str) -> String {
    let mut register: u32 = 0xFFFF;
    for bit in text.bytes().flat_map(|byte| (0..8).rev().map(move |place| u32::from(byte >> place & 1))) {
        let carried = register >> 15 & 1;
        register = register << 1 & 0xFFFF;
        if carried != bit {
            register ^= 0x1021;
        }
    }
    format!("{register:04X}")
}

/// The same text with the checksum that it should have.
fn sealed(text: &str) -> String {
    let body = text.char_indices().rev().nth(3).map_or("", |(at, _)| &text[..at]);
    format!("{body}{}", checksum(body))
}

#[test]
fn codes_that_are_accepted_say_what_they_said() {
    assert_eq!(checksum("123456789"), "29B1");
    let tally = Tally::default();
    fuzz!(1_500, Samples::of("promptpay"), |input| {
        let Some(text) = input.text() else { return tally.refused() };
        // Most edits break the checksum and nothing else would be looked at; three of four get the right one.
        let text = if input.salt % 4 == 0 { text.to_owned() } else { sealed(text) };
        assert_eq!(format!("{:04X}", crc16(text.as_bytes())), checksum(&text));
        let Ok(read) = ParsedQr::parse(&text) else { return tally.refused() };
        tally.accepted();
        assert_eq!(sealed(&text), text, "a wrong checksum was accepted");
        assert_eq!(read.encode().as_deref(), Ok(text.as_str()));
        assert!(read.amount.is_none_or(|amount| amount.is_positive() && amount.currency.code() == "THB"));
        assert!(!read.dynamic || read.amount.is_some());
        if let Target::Bill { reference1, reference2, .. } = &read.target {
            let plain = |text: &str| (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
            assert!(plain(reference1) && reference2.as_deref().is_none_or(plain));
        }
        let (body, last) = text.split_at(text.len() - 4);
        let other = u16::from_str_radix(last, 16).unwrap() ^ (1 << (input.salt >> 8 & 15));
        for wrong in [format!("{body}{other:04X}"), format!("{body}{}", last.to_lowercase()), body.to_owned(), format!("{text}0")] {
            assert!(wrong == text || ParsedQr::parse(&wrong).is_err(), "{wrong}");
        }
    });
    tally.has_seen_both("promptpay");
}
