//! Merchants as callers see them.

use domain::merchant::{self, Status};
use serde::Serialize;
use utoipa::ToSchema;

use super::Resource;

/// A business or brand under a PSP.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Merchant)]
pub struct MerchantResource {
    /// `mer_…`.
    #[schema(examples("mer_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// `psp_…`.
    pub psp_id: String,
    /// Short code, unique within the PSP.
    #[schema(examples("KOPI"))]
    pub code: String,
    /// Name for people.
    #[schema(examples("Kopi House"))]
    pub name: String,
    /// `active` or `inactive`.
    #[schema(value_type = String, examples("active"))]
    pub status: Status,
    /// Version, as in `ETag`.
    pub version: i64,
}

impl Resource<merchant::State> for MerchantResource {
    fn of(state: &merchant::State, version: i64) -> Option<Self> {
        let details = state.details.as_ref()?;
        Some(Self {
            id: details.merchant_id.to_string(),
            psp_id: details.psp_id.to_string(),
            code: details.code.clone(),
            name: details.name.clone(),
            status: state.status,
            version,
        })
    }
}
