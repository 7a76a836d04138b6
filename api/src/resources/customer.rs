//! Customers as callers see them.

use domain::customer::{self, ErasureReason, Profile, Status};
use serde::Serialize;
use utoipa::ToSchema;

use super::Resource;

/// A person known to a merchant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Customer)]
pub struct CustomerResource {
    /// `cus_…`.
    #[schema(examples("cus_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// `active` or `erased`.
    #[schema(value_type = String, examples("active"))]
    pub status: Status,
    /// What is known of the person. Answers to queries have it, answers to changes do not: those are kept for ever. Nothing
    /// once the person is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ProfileSchema>)]
    pub profile: Option<Profile>,
    /// Why the person was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, examples("requested"))]
    pub erasure_reason: Option<ErasureReason>,
    /// Version, as in `ETag`.
    pub version: i64,
}

impl Resource<customer::State> for CustomerResource {
    fn of(state: &customer::State, version: i64) -> Option<Self> {
        let id = state.customer_id?.to_string();
        Some(Self { id, status: state.status, profile: None, erasure_reason: state.erasure_reason, version })
    }
}

/// A customer with its profile, opened.
impl Resource<(customer::State, Option<Profile>)> for CustomerResource {
    fn of((state, profile): &(customer::State, Option<Profile>), version: i64) -> Option<Self> {
        Some(Self { profile: profile.clone(), ..Self::of(state, version)? })
    }
}

/// How a profile looks: at least one field. The platform's own type is `domain::customer::Profile`, which knows nothing of OpenAPI.
#[derive(ToSchema)]
#[schema(as = CustomerProfile)]
pub struct ProfileSchema {
    /// Name, 1 to 120 characters.
    #[schema(examples("Somchai Jaidee"))]
    pub name: Option<String>,
    /// E.164: `+` and 7 to 15 digits.
    #[schema(examples("+66812345678"))]
    pub phone: Option<String>,
    /// Address, at most 254 characters.
    #[schema(examples("somchai@example.co.th"))]
    pub email: Option<String>,
}
