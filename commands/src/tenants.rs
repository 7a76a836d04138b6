//! Use cases of merchants and stores.

use domain::{
    ids::{MerchantId, StoreId},
    merchant::{self, Merchant},
    money::Currency,
    pricing::TaxProfile,
    store::{self, Store},
};

use crate::{error::CommandError, handle::UnitOfWork};

/// Registers a merchant; its code is unique within the PSP. The unit's tenant must be the new merchant.
///
/// # Errors
/// Any rejection of a merchant; `AlreadyTaken`.
pub async fn register_merchant(unit: &mut UnitOfWork, details: merchant::Registered) -> Result<(), CommandError> {
    let (id, scope) = (details.merchant_id, format!("merchant_code|{}", details.psp_id));
    unit.claim(details.psp_id.0, &scope, &details.code, "another merchant of this PSP has this code");
    unit.decide::<Merchant>(id, merchant::Command::Register(details)).await?;
    Ok(())
}

/// What a new store is like.
#[derive(Debug, Clone)]
pub struct NewStore {
    /// The store to be.
    pub store_id: StoreId,
    /// Short code, unique within the merchant.
    pub code: String,
    /// Name for people.
    pub name: String,
    /// The only currency of its prices.
    pub currency: Currency,
    /// How its prices are taxed and rounded.
    pub tax_profile: TaxProfile,
    /// IANA time zone.
    pub zone: String,
    /// Minute of the local day at which a business day begins.
    pub day_starts_at_minute: u16,
}

/// Opens a store of the unit's tenant.
///
/// # Errors
/// Any rejection of a store; `MerchantNotFound`, `MerchantNotActive`; `AlreadyTaken`.
pub async fn open_store(unit: &mut UnitOfWork, new: NewStore) -> Result<(), CommandError> {
    let merchant_id: MerchantId = unit.tenant();
    let merchant = unit.state::<Merchant>(merchant_id).await?;
    let details = match (merchant.status, &merchant.details) {
        (merchant::Status::Active, Some(details)) => details.clone(),
        (merchant::Status::Inactive, _) => return Err(CommandError::Rejected(merchant::Rejection::MerchantNotActive.into())),
        (merchant::Status::Absent | merchant::Status::Active, _) => {
            return Err(CommandError::Rejected(merchant::Rejection::MerchantNotFound.into()));
        }
    };
    unit.claim(merchant_id.0, "store_code", &new.code, "another store of this merchant has this code");
    unit.concerns_store(new.store_id);
    let opened = store::Opened {
        store_id: new.store_id,
        merchant_id,
        psp_id: details.psp_id,
        code: new.code,
        name: new.name,
        currency: new.currency,
        tax_profile: new.tax_profile,
        zone: new.zone,
        day_starts_at_minute: new.day_starts_at_minute,
    };
    unit.decide::<Store>(new.store_id, store::Command::Open(Box::new(opened))).await?;
    Ok(())
}

/// The details of a trading store of the unit's tenant; notes that the unit concerns it.
///
/// # Errors
/// `StoreNotFound`, `StoreNotActive`, `MerchantNotActive`.
pub async fn trading_store(unit: &mut UnitOfWork, store_id: StoreId) -> Result<store::Opened, CommandError> {
    unit.concerns_store(store_id);
    let state = unit.state::<Store>(store_id).await?;
    let merchant_id: MerchantId = unit.tenant();
    if unit.state::<Merchant>(merchant_id).await?.status == merchant::Status::Inactive {
        return Err(CommandError::Rejected(merchant::Rejection::MerchantNotActive.into()));
    }
    state.trading().cloned().map_err(|rejection| CommandError::Rejected(rejection.into()))
}
