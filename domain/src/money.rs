//! Money: integer minor units with their currency, checked arithmetic, exact splits.
//!
//! There is no default currency and no floating point. `Money` serialises as
//! `{"amount": 12050, "currency": "THB"}` where `amount` is in minor units (satang for THB, yen for JPY).

use std::{fmt, str::FromStr};

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a sum of money could not be formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The code is not an ISO 4217 currency that the platform knows.
    #[error("currency '{0}' is not known")]
    UnknownCurrency(String),
    /// Two amounts of different currencies met.
    #[error("currencies differ: {0} and {1}")]
    CurrencyMismatch(Currency, Currency),
    /// The result does not fit in 64 bits.
    #[error("the amount is out of range")]
    Overflow,
    /// Text that is not a plain decimal number of at most the currency's decimals.
    #[error("'{0}' is not a decimal amount with at most {1} decimals")]
    BadDecimal(String, u32),
}

/// An ISO 4217 currency code with a known exponent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// Code and number of decimals. Source: ISO 4217, list one (SIX Financial Information).
const CURRENCIES: &[(&[u8; 3], u32)] = &[
    (b"AUD", 2),
    (b"BHD", 3),
    (b"CHF", 2),
    (b"CNY", 2),
    (b"EUR", 2),
    (b"GBP", 2),
    (b"HKD", 2),
    (b"IDR", 2),
    (b"INR", 2),
    (b"JPY", 0),
    (b"KHR", 2),
    (b"KRW", 0),
    (b"KWD", 3),
    (b"LAK", 2),
    (b"MMK", 2),
    (b"MYR", 2),
    (b"PHP", 2),
    (b"SGD", 2),
    (b"THB", 2),
    (b"TWD", 2),
    (b"UAH", 2),
    (b"USD", 2),
    (b"VND", 0),
];

impl Currency {
    /// The Thai baht, the currency of the PromptPay rails.
    pub const THB: Self = Self(*b"THB");

    /// Number of decimals of the major unit: 2 for THB, 0 for JPY, 3 for KWD.
    pub fn exponent(self) -> u32 {
        CURRENCIES.iter().find(|(code, _)| **code == self.0).map_or(2, |(_, exponent)| *exponent)
    }

    /// The three-letter code.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl FromStr for Currency {
    type Err = MoneyError;
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        CURRENCIES
            .iter()
            .find(|(code, _)| code.as_slice() == text.as_bytes())
            .map(|(code, _)| Self(**code))
            .ok_or_else(|| MoneyError::UnknownCurrency(text.chars().take(8).collect()))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Currency {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Currency".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217 code"})
    }
}

/// An amount in minor units of one currency. May be negative where the context says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units: satang for THB, yen for JPY.
    pub amount: i64,
    /// ISO 4217 code.
    pub currency: Currency,
}

impl Money {
    /// `amount` minor units of `currency`.
    pub const fn new(amount: i64, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Satang.
    pub const fn thb(satang: i64) -> Self {
        Self::new(satang, Currency::THB)
    }

    /// Nothing, in `currency`.
    pub const fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// Greater than nothing.
    pub const fn is_positive(self) -> bool {
        self.amount > 0
    }

    /// Sum. # Errors: `CurrencyMismatch`, `Overflow`.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let amount = self.amount.checked_add(other.amount).ok_or(MoneyError::Overflow)?;
        Ok(Self::new(amount, self.currency))
    }

    /// Difference. # Errors: `CurrencyMismatch`, `Overflow`.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let amount = self.amount.checked_sub(other.amount).ok_or(MoneyError::Overflow)?;
        Ok(Self::new(amount, self.currency))
    }

    fn same_currency(self, other: Self) -> Result<(), MoneyError> {
        if self.currency == other.currency { Ok(()) } else { Err(MoneyError::CurrencyMismatch(self.currency, other.currency)) }
    }

    /// Parses a decimal in major units (`"38.7"` THB is 3870 satang), lexically and exactly.
    ///
    /// # Errors
    /// `BadDecimal` when the text is no plain decimal or has more non-zero decimals than the currency; `Overflow`.
    pub fn parse_major(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let bad = || MoneyError::BadDecimal(text.chars().take(24).collect(), currency.exponent());
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && digits.starts_with(|c: char| c.is_ascii_digit())
            && !digits.ends_with('.');
        if !plain {
            return Err(bad());
        }
        let value = Decimal::from_str_exact(text).map_err(|_| bad())?;
        let minor = value.checked_mul(Decimal::from(10_i64.pow(currency.exponent()))).ok_or(MoneyError::Overflow)?.normalize();
        if minor.scale() != 0 {
            return Err(bad());
        }
        let amount = i64::try_from(minor).map_err(|_| MoneyError::Overflow)?;
        Ok(Self::new(amount, currency))
    }

    /// Major units with all decimals of the currency: `120.50`.
    pub fn to_major(self) -> String {
        Decimal::new(self.amount, self.currency.exponent()).to_string()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.to_major(), self.currency)
    }
}

/// Splits `total` into parts in the ratio of `weights` by largest remainder: the parts always add up to `total`.
///
/// Each exact share is floored and the left-over units go to the largest fractions, ties by order. A negative total is
/// split by its absolute value. Weights must not be negative; when all are zero the split is even. No weights, no parts.
pub fn split_by_weights(total: i64, weights: &[i64]) -> Vec<i64> {
    if weights.is_empty() {
        return Vec::new();
    }
    let clean: Vec<i128> = weights.iter().map(|w| i128::from((*w).max(0))).collect();
    let even = clean.iter().all(|w| *w == 0);
    let weight = |i: usize| if even { 1 } else { clean[i] };
    let sum: i128 = (0..clean.len()).map(weight).sum();
    let magnitude = i128::from(total).abs();
    let mut parts: Vec<i128> = (0..clean.len()).map(|i| magnitude * weight(i) / sum).collect();
    let mut by_fraction: Vec<usize> = (0..clean.len()).collect();
    // A stable sort keeps the line order among equal fractions.
    by_fraction.sort_by_key(|i| std::cmp::Reverse(magnitude * weight(*i) % sum));
    let left: i128 = magnitude - parts.iter().sum::<i128>();
    for i in by_fraction.into_iter().take(usize::try_from(left).unwrap_or(0)) {
        parts[i] += 1;
    }
    let sign = i128::from(total.signum());
    parts.into_iter().map(|p| i64::try_from(p * sign).unwrap_or(i64::MAX)).collect()
}

/// The part of `total` that belongs to the step from `before` to `after` of `whole` units, so that the parts of all
/// steps end exactly at `total`: `round(total × after/whole) − round(total × before/whole)`, half up.
///
/// Used for repeated partial refunds and partial quantities of one line. `whole` must be positive.
pub fn cumulative_part(total: i64, before: i64, after: i64, whole: i64) -> i64 {
    let at = |n: i64| round_ratio(i128::from(total) * i128::from(n), i128::from(whole.max(1)));
    i64::try_from(at(after) - at(before)).unwrap_or(0)
}

/// `numerator / denominator` rounded half away from zero. `denominator` must be positive.
pub fn round_ratio(numerator: i128, denominator: i128) -> i128 {
    let half = denominator / 2 + denominator % 2;
    let magnitude = numerator.abs();
    let quotient = magnitude / denominator;
    let rounded = if magnitude % denominator >= half { quotient + 1 } else { quotient };
    rounded * numerator.signum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_read_exactly() {
        assert_eq!(Money::parse_major("38.7", Currency::THB), Ok(Money::thb(38_70)));
        assert_eq!(Money::parse_major("100.50", Currency::THB), Ok(Money::thb(100_50)));
        assert_eq!(Money::parse_major("-0.01", Currency::THB), Ok(Money::thb(-1)));
        for bad in ["", ".", "1.", ".5", "1e3", "1,0", "NaN", "0.001", "١", "--1", "+1", " 1"] {
            assert!(Money::parse_major(bad, Currency::THB).is_err(), "{bad} was accepted");
        }
        let yen: Currency = "JPY".parse().unwrap();
        assert_eq!(Money::parse_major("108000", yen).unwrap().amount, 108_000);
        assert!(Money::parse_major("1.5", yen).is_err());
    }

    #[test]
    fn golden_vector_4_splits_evenly() {
        assert_eq!(split_by_weights(100_00, &[1, 1, 1]), [33_34, 33_33, 33_33]);
        assert_eq!(split_by_weights(476_16_i64, &[1; 7]), [68_03, 68_03, 68_02, 68_02, 68_02, 68_02, 68_02]);
    }

    #[test]
    fn golden_vector_6_refunds_one_at_a_time() {
        let thirds: Vec<i64> = (0..3).map(|i| cumulative_part(100_00, i, i + 1, 3)).collect();
        assert_eq!(thirds, [33_33, 33_34, 33_33]);
        let quarters: Vec<i64> = (0..4).map(|i| cumulative_part(9_99, i, i + 1, 4)).collect();
        assert_eq!(quarters, [2_50, 2_50, 2_49, 2_50]);
    }

    #[test]
    fn golden_vectors_7_and_8_spread_by_weight() {
        assert_eq!(split_by_weights(1_00, &[5, 5, 5]), [34, 33, 33]);
        assert_eq!(split_by_weights(150_00, &[276_25, 200_00]), [87_01, 62_99]);
    }

    proptest! {
        #[test]
        fn a_split_always_adds_up(total in -1_000_000_000_000_i64..1_000_000_000_000, weights in prop::collection::vec(0_i64..1_000_000, 1..40)) {
            let parts = split_by_weights(total, &weights);
            prop_assert_eq!(parts.iter().sum::<i64>(), total);
            prop_assert!(parts.iter().all(|p| *p == 0 || p.signum() == total.signum()));
        }

        #[test]
        fn cumulative_parts_end_at_the_total(total in 0_i64..1_000_000_000, whole in 1_i64..500) {
            let sum: i64 = (0..whole).map(|i| cumulative_part(total, i, i + 1, whole)).sum();
            prop_assert_eq!(sum, total);
        }

        #[test]
        fn major_text_round_trips(amount in any::<i32>()) {
            let money = Money::thb(i64::from(amount));
            prop_assert_eq!(Money::parse_major(&money.to_major(), Currency::THB), Ok(money));
        }
    }
}
