//! The EMVCo object form (`ID`, length, value) and its checksum.

use super::QrError;

/// One data object of a payload or of a template inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Two digits.
    pub id: String,
    /// 1–99 characters.
    pub value: String,
}

/// CRC-16/CCITT-FALSE: polynomial 1021, initial FFFF, no reflection, no final XOR. Source: EMVCo MPM, object 63.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

/// Reads objects to the end of `text`; an id twice at this level or a length past the end is an error.
pub(super) fn read_objects(text: &str) -> Result<Vec<Object>, QrError> {
    let mut objects: Vec<Object> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (id, after_id) = take(rest, 2)?;
        let (length, after_length) = take(after_id, 2)?;
        if !is_digits(id) || !is_digits(length) {
            return Err(QrError::BadObject);
        }
        let length: usize = length.parse().map_err(|_| QrError::BadObject)?;
        if length == 0 {
            return Err(QrError::BadLength);
        }
        let (value, after_value) = take(after_length, length)?;
        if objects.iter().any(|o| o.id == id) {
            return Err(QrError::DuplicateObject(id.to_owned()));
        }
        objects.push(Object { id: id.to_owned(), value: value.to_owned() });
        rest = after_value;
    }
    Ok(objects)
}

/// Appends one object; values are 1–99 characters.
pub(super) fn write_object(out: &mut String, id: &str, value: &str) -> Result<(), QrError> {
    let length = value.chars().count();
    if !(1..=99).contains(&length) {
        return Err(QrError::BadLength);
    }
    for part in [id, &format!("{length:02}"), value] {
        out.push_str(part);
    }
    Ok(())
}

/// Appends object 63 over everything before it.
pub(super) fn write_crc(out: &mut String) {
    out.push_str("6304");
    let crc = format!("{:04X}", crc16(out.as_bytes()));
    out.push_str(&crc);
}

pub(super) fn is_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// The first `count` characters and the rest.
fn take(text: &str, count: usize) -> Result<(&str, &str), QrError> {
    match text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(count) {
        Some(at) => Ok(text.split_at(at)),
        None => Err(QrError::BadLength),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_check_value_comes_out() {
        assert_eq!(crc16(b"123456789"), 0x29B1);
    }

    #[test]
    fn lengths_count_characters_and_stay_inside() {
        assert_eq!(read_objects("0002กข").unwrap()[0].value, "กข");
        for bad in ["0", "00", "000", "0003ab", "0000", "0x01a", "00+1a", "0001a0001b"] {
            assert!(read_objects(bad).is_err(), "{bad} was accepted");
        }
    }
}
