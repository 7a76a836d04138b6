//! Merchant and stores of an import: what they are to be, and making sure that they exist.

use commands::{
    error::CommandError,
    handle::{Caller, CommandHandler},
    idempotency::Answer,
    tenants::{self, NewStore},
};
use domain::{
    ids::{MerchantId, StoreId, Ulid},
    merchant::{self, Merchant, Registered},
    pricing::TaxProfile,
    process,
    store::{self, Store},
};

use super::{check, error::ImportError, ids, mapping::Mapping, retry::retrying};

/// The merchant that a mapping describes.
pub(super) fn merchant_details(mapping: &Mapping) -> Registered {
    let psp_id = ids::psp_of(&mapping.merchant.psp);
    let derived = || ids::merchant_of(psp_id, &mapping.merchant.code);
    Registered {
        merchant_id: mapping.merchant.id.unwrap_or_else(derived),
        psp_id,
        code: mapping.merchant.code.clone(),
        name: mapping.merchant.name.clone(),
    }
}

/// A store by the mapping's rules; without an id, a stand-in that is only looked at.
pub(super) fn store_of(mapping: &Mapping, code: &str, name: &str, id: Option<StoreId>) -> NewStore {
    NewStore {
        store_id: id.unwrap_or(StoreId(Ulid::from_parts(0, 0))),
        code: code.to_owned(),
        name: name.to_owned(),
        currency: mapping.store.currency,
        tax_profile: mapping.tax_profile().unwrap_or_else(TaxProfile::untaxed),
        zone: mapping.store.zone.clone(),
        day_starts_at_minute: check::day_start(&mapping.store.day_starts_at).unwrap_or(0),
    }
}

/// Who imports.
pub(super) fn caller(mapping: &Mapping, tenant: MerchantId, correlation_id: Ulid) -> Caller {
    let actor = format!("{}{}", process::HISTORY, mapping.source);
    Caller { tenant, actor, device: None, operation: None, correlation_id, idempotency: None, if_match: None }
}

/// Registers the merchant unless it is there.
///
/// # Errors
/// `Setup`, `Differs`.
pub(super) async fn ensure_merchant(handler: &CommandHandler, caller: &Caller, wanted: &Registered) -> Result<(), ImportError> {
    let what = format!("merchant '{}'", wanted.code);
    let register = || {
        handler.transact(caller, move |unit| {
            let wanted = wanted.clone();
            Box::pin(async move {
                let there = unit.state::<Merchant>(wanted.merchant_id).await?;
                if there.status == merchant::Status::Absent {
                    tenants::register_merchant(unit, wanted.clone()).await?;
                }
                let merchant = unit.state::<Merchant>(wanted.merchant_id).await?;
                unit.reply::<Merchant>(200, wanted.merchant_id, &merchant.details)
            })
        })
    };
    let existing: Option<Registered> = set_up(&what, retrying(register).await)?;
    let Some(existing) = existing else { return Ok(()) };
    differs(&what, "PSP", &existing.psp_id, &wanted.psp_id)?;
    differs(&what, "code", &existing.code, &wanted.code)
}

/// Opens a store unless it is there.
///
/// # Errors
/// `Setup`, `Differs`: prices in another currency, zone or tax than the mapping's would be wrong for ever.
pub(super) async fn ensure_store(handler: &CommandHandler, caller: &Caller, wanted: &NewStore) -> Result<(), ImportError> {
    let what = format!("store '{}'", wanted.code);
    let open = || {
        handler.transact(caller, move |unit| {
            let wanted = wanted.clone();
            Box::pin(async move {
                let there = unit.state::<Store>(wanted.store_id).await?;
                if there.status == store::Status::Absent {
                    tenants::open_store(unit, wanted.clone()).await?;
                }
                let store = unit.state::<Store>(wanted.store_id).await?;
                unit.reply::<Store>(200, wanted.store_id, &store.details)
            })
        })
    };
    let existing: Option<store::Opened> = set_up(&what, retrying(open).await)?;
    let Some(existing) = existing else { return Ok(()) };
    differs(&what, "code", &existing.code, &wanted.code)?;
    differs(&what, "currency", &existing.currency, &wanted.currency)?;
    differs(&what, "zone", &existing.zone, &wanted.zone)?;
    differs(&what, "start of the day (minute)", &existing.day_starts_at_minute, &wanted.day_starts_at_minute)?;
    if existing.tax_profile == wanted.tax_profile {
        return Ok(());
    }
    let named = |profile: &TaxProfile| format!("{} version {}", profile.code, profile.version);
    let (existing, wanted) = (named(&existing.tax_profile), named(&wanted.tax_profile));
    Err(ImportError::Differs { what, field: "tax profile", existing, wanted })
}

fn set_up<T: serde::de::DeserializeOwned>(what: &str, answer: Result<Answer, CommandError>) -> Result<T, ImportError> {
    let failed = |error| ImportError::Setup { what: what.to_owned(), error };
    let answer = answer.map_err(failed)?;
    serde_json::from_slice(&answer.body).map_err(|error| failed(CommandError::Fault(error.to_string())))
}

fn differs<T: PartialEq + ToString>(what: &str, field: &'static str, existing: &T, wanted: &T) -> Result<(), ImportError> {
    if existing == wanted {
        return Ok(());
    }
    let (existing, wanted) = (existing.to_string(), wanted.to_string());
    Err(ImportError::Differs { what: what.to_owned(), field, existing, wanted })
}
