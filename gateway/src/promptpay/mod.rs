//! PromptPay QR payloads (EMVCo merchant-presented mode): a canonical writer and a strict reader.
//!
//! The writer puts objects in ascending order of their ids, which is also the order in the banks' own payloads, and adds
//! an amount to every dynamic code. Amounts go to text from integer satang. Source: EMVCo MPM v1.1; Thai QR tags 29, 30.

use domain::money::{Currency, Money};

mod read;
mod tlv;

pub use read::ParsedQr;
pub use tlv::{Object, crc16};

use tlv::{is_digits, write_crc, write_object};

pub(crate) const AID_TRANSFER: &str = "A000000677010111";
pub(crate) const AID_TRANSFER_ONE_TIME: &str = "A000000677010114";
pub(crate) const AID_BILL: &str = "A000000677010112";
pub(crate) const AID_BILL_CROSS_BORDER: &str = "A000000677012006";

/// Why a payload was not written or not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QrError {
    /// Longer than EMVCo's 512 characters.
    #[error("the payload is too long")]
    TooLong,
    /// An id or a length that is not two digits.
    #[error("an object does not start with two digits of id and two of length")]
    BadObject,
    /// A length of zero, over 99, or past the end of its parent.
    #[error("an object's length is zero or runs past its end")]
    BadLength,
    /// An id twice at the same level.
    #[error("object {0} occurs twice")]
    DuplicateObject(String),
    /// Object 63 is not the last one.
    #[error("the payload does not end with a checksum")]
    MissingCrc,
    /// The checksum is wrong or not upper-case hexadecimal.
    #[error("the checksum does not match")]
    CrcMismatch,
    /// Object 00 is not first or not `01`.
    #[error("the payload format is not 01")]
    BadPayloadFormat,
    /// Object 01 is neither `11` nor `12`, or says dynamic where there is no amount.
    #[error("the point of initiation is not 11, or 12 with an amount")]
    BadInitiation,
    /// Object 53 is not `764`.
    #[error("the currency is not 764")]
    WrongCurrency,
    /// Object 58 is not `TH`.
    #[error("the country is not TH")]
    WrongCountry,
    /// Not a positive baht amount of at most two decimals and 13 characters.
    #[error("the amount is not a positive baht amount")]
    BadAmount,
    /// A tip or convenience fee: the paid amount could differ from the amount shown.
    #[error("tips and fees are not accepted")]
    TipOrFee,
    /// Not exactly one well-formed PromptPay target.
    #[error("the payee is not one well-formed PromptPay target")]
    BadTarget,
    /// A text that is empty, too long or of the wrong alphabet. Names the object.
    #[error("the text of object {0} has the wrong length or alphabet")]
    BadText(&'static str),
}

/// Who is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Tag 29-01: 13 digits, `0066` and the number without its leading zero. See [`Target::mobile`].
    Mobile(String),
    /// Tag 29-02: 13 digits of a national or tax id. See [`Target::national_id`].
    NationalId(String),
    /// Tag 29-03: 15 digits. See [`Target::e_wallet`].
    EWallet(String),
    /// Tag 29-04: bank code and account number; read, not written.
    BankAccount(String),
    /// Tag 30: bill payment, the only form with references of the payee's own.
    Bill {
        /// 15 digits (13–15 when read).
        biller_id: String,
        /// 1–20 characters of `[A-Z0-9]`.
        reference1: String,
        /// The same, only for billers that are set up for two references.
        reference2: Option<String>,
    },
}

impl Target {
    /// A mobile number in any usual spelling: `081-234-5678`, `+66 81 234 5678`, `0066812345678`.
    ///
    /// # Errors
    /// `BadTarget`.
    pub fn mobile(text: &str) -> Result<Self, QrError> {
        let digits = digits_of(text);
        let national = match digits.len() {
            10 => digits.strip_prefix('0'),
            11 => digits.strip_prefix("66"),
            13 => digits.strip_prefix("0066"),
            _ => None,
        };
        national.map(|n| Self::Mobile(format!("0066{n}"))).ok_or(QrError::BadTarget)
    }

    /// A national or tax id; separators are dropped, the check digit is not verified.
    ///
    /// # Errors
    /// `BadTarget`.
    pub fn national_id(text: &str) -> Result<Self, QrError> {
        let digits = digits_of(text);
        if digits.len() == 13 { Ok(Self::NationalId(digits)) } else { Err(QrError::BadTarget) }
    }

    /// An e-wallet id; separators are dropped.
    ///
    /// # Errors
    /// `BadTarget`.
    pub fn e_wallet(text: &str) -> Result<Self, QrError> {
        let digits = digits_of(text);
        if digits.len() == 15 { Ok(Self::EWallet(digits)) } else { Err(QrError::BadTarget) }
    }

    /// Tag and template text.
    fn template(&self) -> Result<(&'static str, String), QrError> {
        let mut text = String::new();
        let (tag, aid) = match self {
            Self::Bill { .. } => ("30", AID_BILL),
            Self::Mobile(_) | Self::NationalId(_) | Self::EWallet(_) | Self::BankAccount(_) => ("29", AID_TRANSFER),
        };
        write_object(&mut text, "00", aid)?;
        match self {
            Self::Mobile(id) if id.len() == 13 && is_digits(id) => write_object(&mut text, "01", id)?,
            Self::NationalId(id) if id.len() == 13 && is_digits(id) => write_object(&mut text, "02", id)?,
            Self::EWallet(id) if id.len() == 15 && is_digits(id) => write_object(&mut text, "03", id)?,
            Self::Bill { biller_id, reference1, reference2 } if biller_id.len() == 15 && is_digits(biller_id) => {
                write_object(&mut text, "01", biller_id)?;
                for (id, reference) in [("02", Some(reference1)), ("03", reference2.as_ref())] {
                    if let Some(reference) = reference {
                        if !is_reference(reference) {
                            return Err(QrError::BadTarget);
                        }
                        write_object(&mut text, id, reference)?;
                    }
                }
            }
            Self::Mobile(_) | Self::NationalId(_) | Self::EWallet(_) | Self::BankAccount(_) | Self::Bill { .. } => {
                return Err(QrError::BadTarget);
            }
        }
        Ok((tag, text))
    }
}

/// What to write. Absent texts leave their object out.
#[derive(Debug, Clone)]
pub struct QrSpec {
    /// Who is paid.
    pub target: Target,
    /// Positive baht for a dynamic code (`01` = 12); `None` for a static one (11), which anyone can pay any number of times.
    pub amount: Option<Money>,
    /// Object 52: 4 digits.
    pub category_code: Option<String>,
    /// Object 59: up to 25 characters.
    pub merchant_name: Option<String>,
    /// Object 60: up to 15 characters.
    pub merchant_city: Option<String>,
    /// Object 62-01: up to 25 characters.
    pub bill_number: Option<String>,
    /// Object 62-05: up to 25 characters.
    pub reference_label: Option<String>,
    /// Object 62-07: up to 25 characters. SCB keeps reference 3 here.
    pub terminal_label: Option<String>,
}

impl QrSpec {
    /// Only the target and, for a dynamic code, the amount.
    pub const fn new(target: Target, amount: Option<Money>) -> Self {
        Self {
            target,
            amount,
            category_code: None,
            merchant_name: None,
            merchant_city: None,
            bill_number: None,
            reference_label: None,
            terminal_label: None,
        }
    }

    /// The payload text, objects ascending, checksum last.
    ///
    /// # Errors
    /// `BadTarget`, `BadAmount` (zero and negative amounts too), `BadText`, `BadLength`, `TooLong`.
    pub fn encode(&self) -> Result<String, QrError> {
        let mut out = String::with_capacity(160);
        write_object(&mut out, "00", "01")?;
        write_object(&mut out, "01", if self.amount.is_some() { "12" } else { "11" })?;
        let (tag, template) = self.target.template()?;
        write_object(&mut out, tag, &template)?;
        if let Some(code) = &self.category_code {
            if code.len() != 4 || !is_digits(code) {
                return Err(QrError::BadText("52"));
            }
            write_object(&mut out, "52", code)?;
        }
        write_object(&mut out, "53", "764")?;
        if let Some(amount) = self.amount {
            write_object(&mut out, "54", &amount_text(amount)?)?;
        }
        write_object(&mut out, "58", "TH")?;
        write_text(&mut out, "59", self.merchant_name.as_deref(), 25)?;
        write_text(&mut out, "60", self.merchant_city.as_deref(), 15)?;
        let mut additional = String::new();
        write_text(&mut additional, "01", self.bill_number.as_deref(), 25)?;
        write_text(&mut additional, "05", self.reference_label.as_deref(), 25)?;
        write_text(&mut additional, "07", self.terminal_label.as_deref(), 25)?;
        if !additional.is_empty() {
            write_object(&mut out, "62", &additional)?;
        }
        write_crc(&mut out);
        if out.len() > read::MAX_LENGTH { Err(QrError::TooLong) } else { Ok(out) }
    }
}

fn amount_text(amount: Money) -> Result<String, QrError> {
    let text = amount.to_major();
    if amount.currency == Currency::THB && amount.is_positive() && text.len() <= 13 { Ok(text) } else { Err(QrError::BadAmount) }
}

fn write_text(out: &mut String, id: &'static str, text: Option<&str>, limit: usize) -> Result<(), QrError> {
    let Some(text) = text else { return Ok(()) };
    let printable = text.bytes().all(|b| (0x20..0x7f).contains(&b));
    if text.is_empty() || text.len() > limit || !printable {
        return Err(QrError::BadText(id));
    }
    write_object(out, id, text)
}

fn digits_of(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// 1–20 characters of `[A-Z0-9]`.
pub(crate) fn is_reference(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests;
