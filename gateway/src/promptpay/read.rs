//! The strict reader: everything that a careful payer's app would refuse is refused.

use domain::money::{Currency, Money};

use super::{
    AID_BILL, AID_BILL_CROSS_BORDER, AID_TRANSFER, AID_TRANSFER_ONE_TIME, Object, QrError, Target, crc16, is_reference,
    tlv::{is_digits, read_objects, write_crc, write_object},
};

/// The longest payload. Source: EMVCo MPM.
pub(super) const MAX_LENGTH: usize = 512;

/// A payload that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedQr {
    /// `01` = 12: one use, with an amount.
    pub dynamic: bool,
    /// Who is paid.
    pub target: Target,
    /// Object 54, exact.
    pub amount: Option<Money>,
    /// The objects of template 62; empty without it.
    pub additional: Vec<Object>,
    /// All top-level objects in the order found, unknown ones too, without the checksum.
    pub objects: Vec<Object>,
}

impl ParsedQr {
    /// Reads a payload.
    ///
    /// # Errors
    /// The first rule of [`QrError`] that it breaks.
    pub fn parse(text: &str) -> Result<Self, QrError> {
        if text.len() > MAX_LENGTH {
            return Err(QrError::TooLong);
        }
        let mut objects = read_objects(text)?;
        let crc = objects.pop().filter(|o| o.id == "63").ok_or(QrError::MissingCrc)?;
        check_crc(text, &crc.value)?;
        if objects.first().is_none_or(|o| o.id != "00" || o.value != "01") {
            return Err(QrError::BadPayloadFormat);
        }
        let value = |id: &str| value_of(&objects, id);
        if value("53") != Some("764") {
            return Err(QrError::WrongCurrency);
        }
        if value("58") != Some("TH") {
            return Err(QrError::WrongCountry);
        }
        let amount = value("54").map(read_amount).transpose()?;
        let dynamic = match value("01") {
            Some("12") if amount.is_some() => true,
            Some("11") | None => false,
            Some(_) => return Err(QrError::BadInitiation),
        };
        if dynamic && ["55", "56", "57"].iter().any(|id| value(id).is_some()) {
            return Err(QrError::TipOrFee);
        }
        let target = match (value("29"), value("30")) {
            (Some(transfer), None) => read_transfer(transfer)?,
            (None, Some(bill)) => read_bill(bill)?,
            (Some(_), Some(_)) | (None, None) => return Err(QrError::BadTarget),
        };
        let additional = value("62").map(read_objects).transpose()?.unwrap_or_default();
        Ok(Self { dynamic, target, amount, additional, objects })
    }

    /// A top-level value.
    pub fn value(&self, id: &str) -> Option<&str> {
        value_of(&self.objects, id)
    }

    /// A value of template 62; SCB's reference 3 is `07`.
    pub fn additional_value(&self, id: &str) -> Option<&str> {
        value_of(&self.additional, id)
    }

    /// The payload again, in the order found.
    ///
    /// # Errors
    /// `BadLength` when a value was changed to one that does not fit.
    pub fn encode(&self) -> Result<String, QrError> {
        let mut out = String::new();
        for object in &self.objects {
            write_object(&mut out, &object.id, &object.value)?;
        }
        write_crc(&mut out);
        Ok(out)
    }
}

fn value_of<'a>(objects: &'a [Object], id: &str) -> Option<&'a str> {
    objects.iter().find(|o| o.id == id).map(|o| o.value.as_str())
}

/// Compared as text: lower-case digits are refused by the comparison itself.
fn check_crc(text: &str, stated: &str) -> Result<(), QrError> {
    let covered = text.strip_suffix(stated).ok_or(QrError::CrcMismatch)?;
    let expected = format!("{:04X}", crc16(covered.as_bytes()));
    if stated == expected { Ok(()) } else { Err(QrError::CrcMismatch) }
}

fn read_amount(text: &str) -> Result<Money, QrError> {
    let amount = Money::parse_major(text, Currency::THB).map_err(|_| QrError::BadAmount)?;
    if text.len() <= 13 && amount.is_positive() { Ok(amount) } else { Err(QrError::BadAmount) }
}

fn read_transfer(text: &str) -> Result<Target, QrError> {
    let objects = read_objects(text)?;
    match objects.first() {
        Some(aid) if aid.id == "00" && [AID_TRANSFER, AID_TRANSFER_ONE_TIME].contains(&aid.value.as_str()) => {}
        Some(_) | None => return Err(QrError::BadTarget),
    }
    let mut proxies = objects.into_iter().filter(|o| matches!(o.id.as_str(), "01" | "02" | "03" | "04"));
    let (Some(proxy), None) = (proxies.next(), proxies.next()) else {
        return Err(QrError::BadTarget);
    };
    if !is_digits(&proxy.value) {
        return Err(QrError::BadTarget);
    }
    match (proxy.id.as_str(), proxy.value.len()) {
        ("01", 13) => Ok(Target::Mobile(proxy.value)),
        ("02", 13) => Ok(Target::NationalId(proxy.value)),
        ("03", 15) => Ok(Target::EWallet(proxy.value)),
        ("04", 4..=43) => Ok(Target::BankAccount(proxy.value)),
        _ => Err(QrError::BadTarget),
    }
}

fn read_bill(text: &str) -> Result<Target, QrError> {
    let objects = read_objects(text)?;
    match objects.first() {
        Some(aid) if aid.id == "00" && [AID_BILL, AID_BILL_CROSS_BORDER].contains(&aid.value.as_str()) => {}
        Some(_) | None => return Err(QrError::BadTarget),
    }
    let value = |id: &str| value_of(&objects, id).map(str::to_owned);
    let biller_id = value("01").filter(|id| (13..=15).contains(&id.len()) && is_digits(id)).ok_or(QrError::BadTarget)?;
    let reference1 = value("02").filter(|r| is_reference(r)).ok_or(QrError::BadTarget)?;
    let reference2 = value("03");
    if reference2.as_deref().is_some_and(|r| !is_reference(r)) {
        return Err(QrError::BadTarget);
    }
    Ok(Target::Bill { biller_id, reference1, reference2 })
}
