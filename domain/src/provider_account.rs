//! Provider account: a merchant's contract with a payment provider. Stream `provider_account-{ProviderAccountId}`.
//!
//! Invariants: provider, store and mode never change, since payments name the account; nothing here holds a secret in the clear.
//! Secrets are sealed under the account's own key before an event is decided and stand in the log's column for ciphertext; events
//! and state know only which are set, each with four characters by which people tell one from another.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::customer::Sealed;
use crate::{
    decider::Aggregate,
    envelope::StreamType,
    event::events,
    ids::{ProviderAccountId, StoreId},
    merchant::is_text,
    money::Currency,
    provider::MethodKind,
    rejection::rejections,
};

/// Largest setting of a contract, bytes of its JSON together.
const MAX_SETTINGS_BYTES: usize = 8 * 1024;

/// How much of one currency an account takes with one payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AmountRange {
    /// The currency.
    pub currency: Currency,
    /// Smallest amount, minor units, at least 1.
    pub min: i64,
    /// Largest amount, minor units; nothing: no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max: Option<i64>,
}

impl AmountRange {
    /// Whether this much of its currency is within it.
    pub const fn holds(&self, minor_units: i64) -> bool {
        let below = match self.max {
            Some(max) => minor_units <= max,
            None => true,
        };
        minor_units >= self.min && below
    }
}

/// What of an account may be changed: how it is called, what it takes, how it is reached. No secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Terms {
    /// Name for people, 1 to 120 characters.
    pub name: String,
    /// Which account is asked first: the lower number.
    pub priority: u16,
    /// Which methods it takes, at least one.
    pub methods: Vec<MethodKind>,
    /// Which currencies and amounts it takes, one entry per currency, at least one.
    pub amounts: Vec<AmountRange>,
    /// The provider's own settings by name, without secrets.
    pub settings: BTreeMap<String, Value>,
}

impl Terms {
    fn check(&self) -> Result<(), Rejection> {
        if !is_text(&self.name, 120) {
            return Err(Rejection::NameRequired);
        }
        if self.methods.is_empty() || self.methods.iter().enumerate().any(|(n, method)| self.methods[..n].contains(method)) {
            return Err(Rejection::MethodsInvalid);
        }
        let sound = |(n, range): (usize, &AmountRange)| {
            let fresh = self.amounts[..n].iter().all(|other| other.currency != range.currency);
            fresh && range.min >= 1 && range.max.is_none_or(|max| max >= range.min)
        };
        if self.amounts.is_empty() || !self.amounts.iter().enumerate().all(sound) {
            return Err(Rejection::AmountsInvalid);
        }
        let size: usize = self.settings.iter().map(|(name, value)| name.len() + value.to_string().len()).sum();
        if size > MAX_SETTINGS_BYTES {
            return Err(Rejection::SettingsTooLarge);
        }
        Ok(())
    }
}

/// Which secrets are set: name → four hex digits that only the platform's master key makes of the secret.
pub type SecretMarks = BTreeMap<String, String>;

/// The account was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// The account.
    pub provider_account_id: ProviderAccountId,
    /// The provider's stable name, `scb`.
    pub provider: String,
    /// The only store that it serves; nothing: all of the merchant's.
    pub store_id: Option<StoreId>,
    /// Real money; otherwise the provider's test mode or a simulator.
    pub live: bool,
    /// What may be changed later.
    pub terms: Terms,
    /// Which secrets are set.
    pub secrets: SecretMarks,
    /// The secrets, sealed; stored beside the payload, never in it.
    #[serde(skip)]
    pub sealed: Sealed,
}

/// Its terms changed; the new ones replace the old ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TermsChanged {
    /// The new terms.
    pub terms: Terms,
}

/// Its secrets were replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretsReplaced {
    /// Which secrets are set now.
    pub secrets: SecretMarks,
    /// Until when call-backs that prove themselves by the former secrets are still taken (UTC); nothing: not at all.
    pub former_good_until: Option<DateTime<Utc>>,
    /// The secrets, sealed, with the former ones where they are still good; stored beside the payload, never in it.
    #[serde(skip)]
    pub sealed: Sealed,
}

/// Taken out of service: no new payment goes to it. What it has taken is still asked about and given back through it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Disabled {
    /// Why.
    pub reason: String,
}

/// Put into service again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Enabled {}

events! {
    /// Facts of a provider account.
    {
        /// Opened by its merchant.
        Opened = "provider_account.opened" v 1 sealed sealed;
        /// Its terms changed.
        TermsChanged = "provider_account.terms_changed" v 1;
        /// Its secrets were replaced.
        SecretsReplaced = "provider_account.secrets_replaced" v 1 sealed sealed;
        /// Taken out of service.
        Disabled = "provider_account.disabled" v 1;
        /// Put into service again.
        Enabled = "provider_account.enabled" v 1;
    }
}

/// What can be asked of a provider account. Secrets come sealed.
#[derive(Debug, Clone)]
pub enum Command {
    /// Open it.
    Open(Box<Opened>),
    /// Replace its terms.
    ChangeTerms(Box<Terms>),
    /// Replace its secrets.
    ReplaceSecrets {
        /// What is to be.
        replaced: Box<SecretsReplaced>,
        /// Now, UTC.
        now: DateTime<Utc>,
    },
    /// Take it out of service.
    Disable {
        /// Why.
        reason: String,
    },
    /// Put it into service again.
    Enable,
}

rejections! {
    /// Rules of a provider account.
    {
        ProviderAccountNotFound => Missing, "the provider account does not exist";
        ProviderAccountIdReused => State, "a provider account with this id exists already";
        ProviderUnknown { provider: String } => Invalid, "there is no provider '{provider}'";
        SettingsRefused { problem: String } => Invalid, "the settings do not make an account: {problem}";
        SettingsTooLarge => Invalid, "the settings may have 8 KiB together";
        NameRequired => Invalid, "name must have 1 to 120 characters";
        MethodsInvalid => Invalid, "methods must name at least one method, each once, and only what the provider takes";
        AmountsInvalid => Invalid, "amounts must name at least one currency, each once, with min at least 1 and max not below min";
        OverlapInvalid => Invalid, "former secrets may stay good for 1 to 10,080 minutes";
        OverlapUnderWay { until: String } => State, "the secrets before the last replacement prove call-backs until {until}; replace after that, or without an overlap, which drops them now";
        ReasonRequired => Invalid, "a reason of 1 to 200 characters is required";
        NoProviderAccount { reason: String } => State, "no provider account takes this payment: {reason}";
    }
}

/// Life of a provider account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never opened.
    #[default]
    Absent,
    /// Takes payments.
    Enabled,
    /// Takes no new payments.
    Disabled,
}

/// What is remembered: no secret, not even sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Life.
    pub status: Status,
    /// As opened, with the current terms and marks of secrets.
    pub details: Option<Opened>,
    /// Until when call-backs by the former secrets are taken (UTC).
    pub former_good_until: Option<DateTime<Utc>>,
}

impl State {
    /// What is known of it.
    ///
    /// # Errors
    /// `ProviderAccountNotFound`.
    pub fn known(&self) -> Result<&Opened, Rejection> {
        self.details.as_ref().ok_or(Rejection::ProviderAccountNotFound)
    }
}

/// The decider.
pub struct ProviderAccount;

impl Aggregate for ProviderAccount {
    const STREAM_TYPE: StreamType = StreamType::ProviderAccount;
    const STATE_SCHEMA: i16 = 1;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Open(_) if state.status != Status::Absent => Err(Rejection::ProviderAccountIdReused),
            Command::Open(opened) => {
                opened.terms.check()?;
                Ok(vec![(*opened).into()])
            }
            Command::ChangeTerms(terms) => {
                let unchanged = state.known()?.terms == *terms;
                terms.check()?;
                Ok(if unchanged { vec![] } else { vec![TermsChanged { terms: *terms }.into()] })
            }
            Command::ReplaceSecrets { replaced, now } => {
                state.known()?;
                // Two sets prove call-backs at the most: a third would drop one that the provider was promised.
                if let Some(until) = state.former_good_until.filter(|until| *until > now && replaced.former_good_until.is_some()) {
                    return Err(Rejection::OverlapUnderWay { until: until.to_rfc3339_opts(SecondsFormat::Millis, true) });
                }
                // Ciphertexts of equal secrets differ, so a repeat cannot be seen here; its idempotency key tells.
                Ok(vec![(*replaced).into()])
            }
            Command::Disable { reason } => {
                state.known()?;
                if state.status == Status::Disabled {
                    return Ok(vec![]);
                }
                if is_text(&reason, 200) { Ok(vec![Disabled { reason }.into()]) } else { Err(Rejection::ReasonRequired) }
            }
            Command::Enable => {
                state.known()?;
                Ok(if state.status == Status::Enabled { vec![] } else { vec![Enabled {}.into()] })
            }
        }
    }

    fn evolve(mut state: State, event: &Event) -> State {
        match event {
            Event::Opened(opened) => {
                state.status = Status::Enabled;
                state.details = Some(Opened { sealed: Sealed::default(), ..opened.clone() });
            }
            Event::TermsChanged(changed) => {
                if let Some(details) = &mut state.details {
                    details.terms.clone_from(&changed.terms);
                }
            }
            Event::SecretsReplaced(replaced) => {
                state.former_good_until = replaced.former_good_until;
                if let Some(details) = &mut state.details {
                    details.secrets.clone_from(&replaced.secrets);
                }
            }
            Event::Disabled(_) => state.status = Status::Disabled,
            Event::Enabled(_) => state.status = Status::Enabled,
        }
        state
    }
}

#[cfg(test)]
#[path = "provider_account_tests.rs"]
mod tests;
