//! Store: a physical place of a merchant. Stream `store-{StoreId}`.
//! Owns what prices depend on: currency, tax profile, time zone and the hour at which its business day begins.

use chrono::{DateTime, Duration, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    decider::Aggregate,
    envelope::StreamType,
    event::events,
    ids::{MerchantId, PspId, StoreId},
    merchant::{is_code, is_text},
    money::Currency,
    pricing::TaxProfile,
    rejection::rejections,
};

/// Store opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// The store.
    pub store_id: StoreId,
    /// Its merchant.
    pub merchant_id: MerchantId,
    /// The merchant's PSP.
    pub psp_id: PspId,
    /// Short code, unique within the merchant.
    pub code: String,
    /// Name for people.
    pub name: String,
    /// The only currency of its prices.
    pub currency: Currency,
    /// How its prices are taxed and rounded; frozen into each order.
    pub tax_profile: TaxProfile,
    /// IANA time zone, `Asia/Bangkok`.
    pub zone: String,
    /// Minute of the local day (0–1439) at which a business day begins.
    pub day_starts_at_minute: u16,
}

/// Name changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Renamed {
    /// New name.
    pub name: String,
}

/// Tax profile changed for orders opened from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaxProfileChanged {
    /// The new profile.
    pub tax_profile: TaxProfile,
}

/// Closed for good; nothing is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deactivated {
    /// Why.
    pub reason: String,
}

events! {
    /// Facts of a store.
    {
        /// Opened under a merchant.
        Opened = "store.opened" v 1;
        /// Name changed.
        Renamed = "store.renamed" v 1;
        /// Tax profile changed for orders opened from now on.
        TaxProfileChanged = "store.tax_profile_changed" v 1;
        /// Closed for good.
        Deactivated = "store.deactivated" v 1;
    }
}

/// What can be asked of a store.
#[derive(Debug, Clone)]
pub enum Command {
    /// Open it.
    Open(Box<Opened>),
    /// Change its name.
    Rename {
        /// New name.
        name: String,
    },
    /// Change the tax profile of orders to come.
    ChangeTaxProfile {
        /// The new profile.
        tax_profile: TaxProfile,
    },
    /// Close it for good.
    Deactivate {
        /// Why.
        reason: String,
    },
}

rejections! {
    /// Rules of a store.
    {
        StoreNotFound => Missing, "the store does not exist";
        StoreIdReused => State, "a store with this id exists already";
        StoreNotActive => State, "the store is not active";
        NameRequired => Invalid, "name must have 1 to 120 characters";
        CodeInvalid => Invalid, "code must have 1 to 32 characters of A-Z, a-z, 0-9, '-' and '_'";
        ZoneUnknown { zone: String } => Invalid, "'{zone}' is not an IANA time zone";
        DayStartInvalid => Invalid, "day_starts_at_minute must be 0 to 1439";
        TaxProfileInvalid { reason: String } => Invalid, "the tax profile is not valid: {reason}";
        ReasonRequired => Invalid, "a reason of 1 to 200 characters is required";
    }
}

/// Life of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never opened.
    #[default]
    Absent,
    /// Trading.
    Active,
    /// Closed for good.
    Inactive,
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Life.
    pub status: Status,
    /// As opened, with current name and tax profile.
    pub details: Option<Opened>,
}

impl State {
    /// The details of a trading store.
    ///
    /// # Errors
    /// `StoreNotFound`, `StoreNotActive`.
    pub fn trading(&self) -> Result<&Opened, Rejection> {
        match (self.status, &self.details) {
            (Status::Active, Some(details)) => Ok(details),
            (Status::Inactive, _) => Err(Rejection::StoreNotActive),
            (Status::Absent | Status::Active, _) => Err(Rejection::StoreNotFound),
        }
    }
}

impl Opened {
    /// The business date of an instant: the local date, where hours before the day's start belong to the day before.
    pub fn business_date(&self, at: DateTime<Utc>) -> NaiveDate {
        let zone: chrono_tz::Tz = self.zone.parse().unwrap_or(chrono_tz::UTC);
        let local = at.with_timezone(&zone).naive_local();
        (local - Duration::minutes(i64::from(self.day_starts_at_minute))).date()
    }
}

/// The decider.
pub struct Store;

impl Aggregate for Store {
    const STREAM_TYPE: StreamType = StreamType::Store;
    const STATE_SCHEMA: i16 = 1;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        if let Command::Open(details) = command {
            if state.status != Status::Absent {
                return Err(Rejection::StoreIdReused);
            }
            check_details(&details)?;
            return Ok(vec![(*details).into()]);
        }
        if let Command::Deactivate { reason } = command {
            return match state.status {
                Status::Absent => Err(Rejection::StoreNotFound),
                Status::Inactive => Ok(vec![]),
                Status::Active if !is_text(&reason, 200) => Err(Rejection::ReasonRequired),
                Status::Active => Ok(vec![Deactivated { reason }.into()]),
            };
        }
        let details = state.trading()?;
        match command {
            Command::Rename { name } if !is_text(&name, 120) => Err(Rejection::NameRequired),
            Command::Rename { name } if name == details.name => Ok(vec![]),
            Command::Rename { name } => Ok(vec![Renamed { name }.into()]),
            Command::ChangeTaxProfile { tax_profile } => {
                check_profile(&tax_profile)?;
                let unchanged = tax_profile == details.tax_profile;
                Ok(if unchanged { vec![] } else { vec![TaxProfileChanged { tax_profile }.into()] })
            }
            Command::Open(_) | Command::Deactivate { .. } => Ok(vec![]), // answered above
        }
    }

    fn evolve(mut state: State, event: &Event) -> State {
        match (event, &mut state.details) {
            (Event::Opened(details), _) => {
                state.status = Status::Active;
                state.details = Some(details.clone());
            }
            (Event::Renamed(renamed), Some(details)) => details.name.clone_from(&renamed.name),
            (Event::TaxProfileChanged(changed), Some(details)) => details.tax_profile = changed.tax_profile.clone(),
            (Event::Deactivated(_), _) => state.status = Status::Inactive,
            (Event::Renamed(_) | Event::TaxProfileChanged(_), None) => {} // never emitted; replay must not panic
        }
        state
    }
}

fn check_details(details: &Opened) -> Result<(), Rejection> {
    if !is_text(&details.name, 120) {
        return Err(Rejection::NameRequired);
    }
    if !is_code(&details.code) {
        return Err(Rejection::CodeInvalid);
    }
    if details.zone.parse::<chrono_tz::Tz>().is_err() {
        return Err(Rejection::ZoneUnknown { zone: details.zone.chars().take(60).collect() });
    }
    if details.day_starts_at_minute > 1439 {
        return Err(Rejection::DayStartInvalid);
    }
    check_profile(&details.tax_profile)
}

fn check_profile(profile: &TaxProfile) -> Result<(), Rejection> {
    profile.validate().map_err(|error| Rejection::TaxProfileInvalid { reason: error.to_string() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{ids::Ulid, testing::given};

    pub(crate) fn opened() -> Opened {
        Opened {
            store_id: StoreId(Ulid::from_bytes([3; 16])),
            merchant_id: MerchantId(Ulid::from_bytes([1; 16])),
            psp_id: PspId(Ulid::from_bytes([2; 16])),
            code: "SIAM".into(),
            name: "Siam Square".into(),
            currency: Currency::THB,
            tax_profile: TaxProfile::thai_vat_exclusive(),
            zone: "Asia/Bangkok".into(),
            day_starts_at_minute: 300,
        }
    }

    #[test]
    fn a_store_opens_with_a_known_zone_and_a_valid_profile() {
        given::<Store>(&[]).when(Command::Open(Box::new(opened()))).then(&[opened().into()]);
        let nowhere = Opened { zone: "Asia/Atlantis".into(), ..opened() };
        given::<Store>(&[]).when(Command::Open(Box::new(nowhere))).then_rejected("ZoneUnknown");
        let late = Opened { day_starts_at_minute: 1440, ..opened() };
        given::<Store>(&[]).when(Command::Open(Box::new(late))).then_rejected("DayStartInvalid");
    }

    #[test]
    fn the_small_hours_belong_to_the_day_before() {
        let store = opened();
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        // 04:59 and 05:00 in Bangkok (UTC+7) on the second of May.
        assert_eq!(store.business_date(at("2026-05-01T21:59:59Z")).to_string(), "2026-05-01");
        assert_eq!(store.business_date(at("2026-05-01T22:00:00Z")).to_string(), "2026-05-02");
    }

    #[test]
    fn a_closed_store_changes_no_more() {
        let history = [opened().into(), Deactivated { reason: "lease".into() }.into()];
        given::<Store>(&history).when(Command::Rename { name: "X".into() }).then_rejected("StoreNotActive");
        given::<Store>(&history).when(Command::Deactivate { reason: "again".into() }).then(&[]);
        given::<Store>(&[]).when(Command::Deactivate { reason: "x".into() }).then_rejected("StoreNotFound");
    }
}
