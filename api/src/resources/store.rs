//! Stores as callers see them.

use domain::{
    money::Currency,
    pricing::TaxProfile,
    store::{self, Status},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::Resource;

/// A physical place of a merchant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Store)]
pub struct StoreResource {
    /// `sto_…`.
    #[schema(examples("sto_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// `mer_…`.
    pub merchant_id: String,
    /// Short code, unique within the merchant.
    #[schema(examples("SILOM"))]
    pub code: String,
    /// Name for people.
    #[schema(examples("Kopi House Silom"))]
    pub name: String,
    /// The only currency of its prices.
    #[schema(value_type = String, examples("THB"))]
    pub currency: Currency,
    /// How its prices are taxed and rounded; frozen into each order.
    #[schema(value_type = TaxProfileSchema)]
    pub tax_profile: TaxProfile,
    /// IANA time zone.
    #[schema(examples("Asia/Bangkok"))]
    pub zone: String,
    /// Minute of the local day at which a business day begins.
    #[schema(examples(300))]
    pub day_starts_at_minute: u16,
    /// `active` or `inactive`.
    #[schema(value_type = String, examples("active"))]
    pub status: Status,
    /// Version, as in `ETag`.
    pub version: i64,
}

impl Resource<store::State> for StoreResource {
    fn of(state: &store::State, version: i64) -> Option<Self> {
        let details = state.details.as_ref()?;
        Some(Self {
            id: details.store_id.to_string(),
            merchant_id: details.merchant_id.to_string(),
            code: details.code.clone(),
            name: details.name.clone(),
            currency: details.currency,
            tax_profile: details.tax_profile.clone(),
            zone: details.zone.clone(),
            day_starts_at_minute: details.day_starts_at_minute,
            status: state.status,
            version,
        })
    }
}

/// How a tax profile looks. The platform's own type is `domain::pricing::TaxProfile`, which knows nothing of OpenAPI.
#[derive(ToSchema)]
#[schema(as = TaxProfile)]
pub struct TaxProfileSchema {
    /// Name of the profile, 1 to 64 characters.
    #[schema(examples("th_vat_inclusive"))]
    pub code: String,
    /// From 1 up.
    #[schema(minimum = 1)]
    pub version: u32,
    /// Whether prices contain the tax.
    #[schema(inline)]
    pub mode: TaxModeSchema,
    /// Rate of lines of the class `standard`; 700 is 7 %.
    #[schema(maximum = 10_000)]
    pub standard_rate_basis_points: u32,
    /// What happens to exactly half a minor unit.
    #[schema(inline)]
    pub rounding: RoundingSchema,
    /// Charged on every document, if any.
    #[schema(inline)]
    pub service_charge: Option<ServiceChargeSchema>,
    /// Rounding of what is paid in cash.
    #[schema(inline)]
    pub cash_rounding: CashRoundingSchema,
}

/// Whether prices contain the tax.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaxModeSchema {
    /// Tax is added to prices.
    Exclusive,
    /// Tax is part of prices.
    Inclusive,
}

/// What happens to exactly half a minor unit.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoundingSchema {
    /// Away from zero.
    HalfUp,
    /// To the even neighbour.
    HalfEven,
}

/// A charge for service on the discounted sum, before tax.
#[derive(ToSchema)]
pub struct ServiceChargeSchema {
    /// 1,000 is 10 %.
    #[schema(maximum = 10_000)]
    pub basis_points: u32,
}

/// Rounding of what is paid in cash.
#[derive(ToSchema)]
pub struct CashRoundingSchema {
    /// Which way.
    #[schema(inline)]
    pub policy: CashPolicySchema,
    /// The smallest coin in minor units.
    #[schema(minimum = 1)]
    pub unit: i64,
}

/// Which way a cash payment is rounded.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CashPolicySchema {
    /// Not at all.
    None,
    /// To the nearest unit.
    Nearest,
    /// Down, in the guest's favour.
    Down,
    /// Up, in the store's favour.
    Up,
}
