//! Routing: to which provider account a payment goes, and why. Pure; whoever asks brings the accounts and their health.
//!
//! An account that does not take the payment is passed over, with the reason. Of the others the healthy ones come first, then
//! the lower priority number, then the name. An account whose provider seems to be away is put last and not left out: its
//! breaker refuses before anything is sent, so trying it risks nothing, and there may be no other.

use std::fmt;

use crate::{
    ids::StoreId,
    money::Money,
    provider::MethodKind,
    provider_account::{AmountRange, Opened, State, Status},
};

/// Longest recorded reason, bytes.
const MAX_WHY: usize = 600;

/// What is to be paid.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// By which method.
    pub method: MethodKind,
    /// How much.
    pub amount: Money,
    /// Where.
    pub store: StoreId,
    /// Accounts that an earlier attempt of the same payment is known to have failed at.
    pub failed_at: &'a [String],
}

/// How an account's provider has answered of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Health {
    /// As it should, or nobody asked.
    #[default]
    Good,
    /// It was away and is being tried again.
    Recovering,
    /// It does not answer.
    Away,
}

/// An account that a payment could go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// `pac_…`, or the provider's name for the platform's own account.
    pub account: String,
    /// The provider's stable name.
    pub provider: String,
    /// The only store that it serves.
    pub store: Option<StoreId>,
    /// In service.
    pub enabled: bool,
    /// Real money.
    pub live: bool,
    /// The lower is asked first.
    pub priority: u16,
    /// Which methods it takes.
    pub methods: Vec<MethodKind>,
    /// Which currencies and amounts it takes; nothing: all that the provider does.
    pub amounts: Option<Vec<AmountRange>>,
    /// How its provider has answered of late.
    pub health: Health,
}

impl Candidate {
    /// An account of a merchant; `None` for one that was never opened.
    pub fn of(state: &State, health: Health) -> Option<Self> {
        let Opened { provider_account_id, provider, store_id, live, terms, .. } = state.details.as_ref()?;
        Some(Self {
            account: provider_account_id.to_string(),
            provider: provider.clone(),
            store: *store_id,
            enabled: state.status == Status::Enabled,
            live: *live,
            priority: terms.priority,
            methods: terms.methods.clone(),
            amounts: Some(terms.amounts.clone()),
            health,
        })
    }
}

/// Where a payment goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// `pac_…`, or the provider's name for the platform's own account.
    pub account: String,
    /// The provider's stable name.
    pub provider: String,
    /// Why this one, and why none of the others; recorded with the attempt. At most 600 bytes.
    pub why: String,
}

/// No account takes the payment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoRoute {
    /// Why none of them.
    pub why: String,
}

/// Why an account was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PassedOver {
    Disabled,
    OtherStore,
    StoreHasItsOwn,
    TestMode,
    Method,
    Currency,
    Amount(AmountRange),
    FailedBefore,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("disabled"),
            Self::OtherStore => f.write_str("serves another store"),
            Self::StoreHasItsOwn => f.write_str("the store has an account of its own at this provider"),
            Self::TestMode => f.write_str("in test mode beside a live account"),
            Self::Method => f.write_str("does not take the method"),
            Self::Currency => f.write_str("does not take the currency"),
            Self::Amount(AmountRange { currency, min, max: Some(max) }) => {
                write!(f, "takes {min} to {max} {} minor units", currency.code())
            }
            Self::Amount(AmountRange { currency, min, max: None }) => write!(f, "takes {} minor units from {min}", currency.code()),
            Self::FailedBefore => f.write_str("an attempt failed there"),
        }
    }
}

/// The accounts that take the payment, best first; each with the reason for which it would be chosen.
///
/// # Errors
/// `NoRoute` when none does.
pub fn route(request: &Request<'_>, candidates: &[Candidate]) -> Result<Vec<Choice>, NoRoute> {
    let mut taking: Vec<&Candidate> = Vec::new();
    let mut passed_over: Vec<String> = Vec::new();
    for candidate in candidates {
        match refusal(request, candidate, candidates) {
            None => taking.push(candidate),
            Some(reason) => passed_over.push(format!("{}: {reason}", candidate.account)),
        }
    }
    let passed_over = if passed_over.is_empty() { String::new() } else { format!("; passed over {}", passed_over.join(", ")) };
    let asked = format!("{} of {} {} minor units", request.method.as_str(), request.amount.amount, request.amount.currency.code());
    if taking.is_empty() {
        let what = if candidates.is_empty() { "there is none" } else { "none fits" };
        return Err(NoRoute { why: cut(format!("{asked}: {what}{passed_over}")) });
    }
    taking.sort_by(|a, b| (a.health, a.priority, &a.account).cmp(&(b.health, b.priority, &b.account)));
    let count = taking.len();
    let choice = |(n, candidate): (usize, &&Candidate)| {
        let whose = match candidate.store {
            Some(_) => "the store's",
            None if candidate.account == candidate.provider => "the platform's",
            None => "the merchant's",
        };
        let health = match candidate.health {
            Health::Good => "",
            Health::Recovering => ", recovering",
            Health::Away => ", away",
        };
        let place = format!("{} of {count} that take {asked}", n.saturating_add(1));
        let why = format!("{whose} {} account, priority {}{health}: {place}{passed_over}", candidate.provider, candidate.priority);
        Choice { account: candidate.account.clone(), provider: candidate.provider.clone(), why: cut(why) }
    };
    Ok(taking.iter().enumerate().map(choice).collect())
}

/// Why a candidate does not take the payment.
fn refusal(request: &Request<'_>, candidate: &Candidate, all: &[Candidate]) -> Option<PassedOver> {
    if !candidate.enabled {
        return Some(PassedOver::Disabled);
    }
    if candidate.store.is_some_and(|store| store != request.store) {
        return Some(PassedOver::OtherStore);
    }
    let usable = |other: &&Candidate| other.enabled && other.store.is_none_or(|store| store == request.store);
    // The money of a store with a contract of its own must not end up in the merchant's.
    let own = |other: &Candidate| other.store.is_some() && other.provider == candidate.provider;
    if candidate.store.is_none() && all.iter().filter(usable).any(own) {
        return Some(PassedOver::StoreHasItsOwn);
    }
    // Also beside one that is switched off: whoever has sold in earnest would not notice that a sale was for nothing.
    let live_here = |other: &Candidate| other.live && other.store.is_none_or(|store| store == request.store);
    if !candidate.live && all.iter().any(live_here) {
        return Some(PassedOver::TestMode);
    }
    if !candidate.methods.contains(&request.method) {
        return Some(PassedOver::Method);
    }
    if let Some(amounts) = &candidate.amounts {
        match amounts.iter().find(|range| range.currency == request.amount.currency) {
            None => return Some(PassedOver::Currency),
            Some(range) if !range.holds(request.amount.amount) => return Some(PassedOver::Amount(*range)),
            Some(_) => {}
        }
    }
    request.failed_at.contains(&candidate.account).then_some(PassedOver::FailedBefore)
}

/// The same, no longer than what is recorded.
fn cut(mut text: String) -> String {
    if text.len() > MAX_WHY {
        let end = (0..=MAX_WHY - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Failures of an attempt that lie with the account or its provider and not with the payer or the request: another account may
/// succeed. Each is known to have moved no money.
pub fn may_succeed_elsewhere(code: &str) -> bool {
    ["provider_unavailable", "provider_not_configured", "credentials_refused", "account_restricted", "not_supported"].contains(&code)
}

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;
