//! What the merchant said of attempts when it made an intent, and how far whoever confirms may say otherwise.

use chrono::{DateTime, Duration, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Rejection, State, Status, Tender};

/// How long an attempt is good unless told, minutes.
pub const DEFAULT_VALID_MINUTES: i64 = 15;

/// How attempts are to be made, for whichever confirm begins one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Terms {
    /// No attempt was begun with the intent: a confirm is awaited.
    pub awaits_confirm: bool,
    /// Ways of paying that the payer may choose from, beside the intent's own.
    pub tenders: Vec<Tender>,
    /// How long an attempt is good, seconds.
    pub valid_for_seconds: i64,
    /// The amount is held only; a capture follows.
    pub manual_capture: bool,
    /// Where the payer's browser goes after an action.
    pub return_url: Option<String>,
}

/// What whoever confirms says of the attempt; the merchant's terms hold for the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// How it is paid.
    pub tender: Option<Tender>,
    /// Hold only.
    pub manual_capture: Option<bool>,
    /// How long it is good.
    pub valid_for: Option<Duration>,
}

/// How an attempt is made after a confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Hold only.
    pub manual_capture: bool,
    /// How long it is good.
    pub valid_for: Duration,
    /// Where the payer's browser goes after an action.
    pub return_url: Option<String>,
}

impl State {
    /// The ways of paying that the merchant left to the payer, the intent's own first.
    pub fn tenders(&self) -> Vec<Tender> {
        let Some(details) = &self.details else { return vec![] };
        let more = details.terms.iter().flat_map(|terms| terms.tenders.iter().copied()).filter(|tender| *tender != details.tender);
        std::iter::once(details.tender).chain(more).collect()
    }

    /// How an attempt is made after a confirm with these wishes. The holder of a payment token (`by_payer`) confirms what the merchant
    /// made, and chooses nothing but among the ways of paying that it left open.
    ///
    /// # Errors
    /// `PaymentIntentNotFound`; `NotThePayersChoice`.
    pub fn confirmed(&self, wishes: &Wishes, by_payer: bool) -> Result<Confirmed, Rejection> {
        let terms = self.created()?.terms.as_ref();
        let manual_capture = terms.is_some_and(|terms| terms.manual_capture);
        let valid_for = terms.and_then(|terms| Duration::try_seconds(terms.valid_for_seconds));
        let valid_for = valid_for.unwrap_or_else(|| Duration::minutes(DEFAULT_VALID_MINUTES));
        let chosen = wishes.tender.is_some_and(|tender| !self.tenders().contains(&tender))
            || wishes.manual_capture.is_some_and(|wanted| wanted != manual_capture)
            || wishes.valid_for.is_some_and(|wanted| wanted != valid_for);
        if by_payer && chosen {
            return Err(Rejection::NotThePayersChoice);
        }
        Ok(Confirmed {
            manual_capture: wishes.manual_capture.unwrap_or(manual_capture),
            valid_for: wishes.valid_for.unwrap_or(valid_for),
            return_url: terms.and_then(|terms| terms.return_url.clone()),
        })
    }

    /// Until when an attempt may be begun: to the end that the intent was given, or to that of its last attempt, whichever is later.
    pub fn open_until(&self) -> Option<DateTime<Utc>> {
        let end = self.details.as_ref()?.expires_at?;
        Some(self.attempt.as_ref().map_or(end, |last| last.started.expires_at.max(end)))
    }

    /// When an intent without a live attempt ends by itself.
    pub fn lapses_at(&self) -> Option<DateTime<Utc>> {
        if self.status == Status::RequiresPaymentMethod { self.open_until() } else { None }
    }
}
