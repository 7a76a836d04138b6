//! The tax profile: every choice about tax and rounding that a store makes, versioned and frozen on each document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PricingError, WHOLE_BASIS_POINTS};
use crate::money::round_ratio;

/// Whether prices contain the tax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaxMode {
    /// Tax is added to prices.
    Exclusive,
    /// Tax is part of prices; the total never depends on the rate.
    Inclusive,
}

/// What happens to exactly half a minor unit. Everything else goes to the nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Away from zero.
    HalfUp,
    /// To the even neighbour (bankers' rounding).
    HalfEven,
}

impl Rounding {
    /// `numerator / denominator` to the nearest integer. `denominator` must be positive and fit in 64 bits.
    pub(super) fn ratio(self, numerator: i128, denominator: i128) -> i128 {
        match self {
            Self::HalfUp => round_ratio(numerator, denominator),
            Self::HalfEven => {
                let floor = numerator.div_euclid(denominator);
                let twice = numerator.rem_euclid(denominator) * 2;
                let up = twice > denominator || (twice == denominator && floor % 2 != 0);
                floor + i128::from(up)
            }
        }
    }
}

/// A charge for service on the discounted sum, before tax, and taxed like the lines it falls on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceCharge {
    /// 1,000 is 10 %; at most 10,000.
    pub basis_points: u32,
}

/// Which way a cash payment is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CashRoundingPolicy {
    /// Not at all.
    None,
    /// To the nearest unit; half a unit as the profile rounds.
    Nearest,
    /// Down, in the guest's favour.
    Down,
    /// Up, in the store's favour.
    Up,
}

/// Rounding of what is paid in cash: untaxed, and never part of the document's total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CashRounding {
    /// Which way.
    pub policy: CashRoundingPolicy,
    /// The smallest coin in minor units (25 satang is common in Thailand); at least 1.
    pub unit: i64,
}

impl CashRounding {
    /// Cash is paid to the last minor unit.
    pub const NONE: Self = Self { policy: CashRoundingPolicy::None, unit: 1 };
}

/// The tax choices of a store. A change makes a new version; documents keep the one they were made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaxProfile {
    /// Name of the profile, 1 to 64 characters.
    pub code: String,
    /// From 1 up.
    pub version: u32,
    /// Whether prices contain the tax.
    pub mode: TaxMode,
    /// Rate of [`Standard`](super::TaxClass::Standard) lines; 700 is 7 %, at most 10,000. The other classes pay nothing.
    pub standard_rate_basis_points: u32,
    /// Used for every rounded figure of a document.
    pub rounding: Rounding,
    /// Charged on every document, if any.
    pub service_charge: Option<ServiceCharge>,
    /// Used for what is paid in cash.
    pub cash_rounding: CashRounding,
}

impl TaxProfile {
    /// Thai VAT of 7 %, contained in the prices.
    pub fn thai_vat_inclusive() -> Self {
        Self::plain("th_vat_inclusive", TaxMode::Inclusive, 700)
    }

    /// Thai VAT of 7 %, added to the prices.
    pub fn thai_vat_exclusive() -> Self {
        Self::plain("th_vat_exclusive", TaxMode::Exclusive, 700)
    }

    /// No tax at all, for a store that is not registered for it.
    pub fn untaxed() -> Self {
        Self::plain("untaxed", TaxMode::Exclusive, 0)
    }

    fn plain(code: &str, mode: TaxMode, standard_rate_basis_points: u32) -> Self {
        Self {
            code: code.to_owned(),
            version: 1,
            mode,
            standard_rate_basis_points,
            rounding: Rounding::HalfUp,
            service_charge: None,
            cash_rounding: CashRounding::NONE,
        }
    }

    /// Checks the bounds given at each field.
    ///
    /// # Errors
    /// `BadProfile`, naming the first rule that is broken.
    pub fn validate(&self) -> Result<(), PricingError> {
        let charge = self.service_charge.map_or(0, |charge| charge.basis_points);
        let rules = [
            (!self.code.is_empty() && self.code.chars().count() <= 64, "the code must have 1 to 64 characters"),
            (self.version >= 1, "the version starts at 1"),
            (self.standard_rate_basis_points <= WHOLE_BASIS_POINTS, "the standard rate is above 100 %"),
            (charge <= WHOLE_BASIS_POINTS, "the service charge is above 100 %"),
            (self.cash_rounding.unit >= 1, "the cash unit must be positive"),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(PricingError::BadProfile(rule)))
    }

    /// What is due when all of `total` (minor units) is paid in cash: a multiple of the cash unit, less than one unit away.
    ///
    /// The total comes back as it is when the profile does not round, its unit is not positive, or the result would not fit.
    pub fn cash_due(&self, total: i64) -> i64 {
        let CashRounding { policy, unit } = self.cash_rounding;
        if unit < 1 {
            return total;
        }
        let (exact, unit) = (i128::from(total), i128::from(unit));
        let units = match policy {
            CashRoundingPolicy::None => return total,
            CashRoundingPolicy::Nearest => self.rounding.ratio(exact, unit),
            CashRoundingPolicy::Down => exact.div_euclid(unit),
            CashRoundingPolicy::Up => -(-exact).div_euclid(unit),
        };
        i64::try_from(units * unit).unwrap_or(total)
    }
}
