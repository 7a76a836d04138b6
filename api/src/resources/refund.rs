//! Refunds as callers see them.

use chrono::{Duration, NaiveDate};
use domain::{
    money::Money,
    payment_intent::Tender,
    process::work::UNCLEAR_MINUTES,
    refund::{self, Status},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    MoneySchema, Resource, TenderSchema,
    payment_intent::{Failure, OutcomeLadder, Rung},
};

/// Money given back: out of one payment, or recorded without one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Refund)]
pub struct RefundResource {
    /// `ref_…`.
    #[schema(examples("ref_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// `pay_…`; nothing for a refund whose sale is not known here.
    pub payment_id: Option<String>,
    /// `bill_…` that was paid.
    pub bill_id: Option<String>,
    /// `sto_…`.
    pub store_id: String,
    /// `pending`, `succeeded` or `failed`.
    #[schema(examples("succeeded"))]
    pub status: &'static str,
    /// How much.
    #[schema(value_type = MoneySchema)]
    pub amount: Money,
    /// What is handed out beside the amount, signed: the refund that empties a cash payment takes its cash rounding back.
    #[schema(value_type = MoneySchema)]
    pub cash_rounding: Money,
    /// How the payment was tendered, or the money given.
    #[schema(value_type = TenderSchema)]
    pub tender: Tender,
    /// `original` or `cash`.
    #[schema(value_type = String)]
    pub destination: refund::Destination,
    /// Why.
    pub reason: String,
    /// The store's business date at the request.
    #[schema(value_type = String, format = Date)]
    pub business_date: NaiveDate,
    /// The outcome of the last call to the provider is not known; it is being asked.
    pub outcome_unknown: bool,
    /// How the outcome is being found out.
    pub outcome: OutcomeLadder,
    /// For an hour no answer of the provider said how it stands: someone has to look. It is asked on; its answer ends this, or what
    /// somebody finds on a statement (`…/resolve`).
    pub needs_attention: bool,
    /// The provider's name for it.
    pub provider_reference: Option<String>,
    /// Why it failed: the provider refused it, or took back that it had succeeded, or a statement lacks it (`not_on_statement`).
    pub failure: Option<Failure>,
    /// `ref_…` that failed and that this one follows up.
    pub fallback_of: Option<String>,
    /// Version, as in `ETag`.
    pub version: i64,
}

impl Resource<refund::State> for RefundResource {
    fn of(state: &refund::State, version: i64) -> Option<Self> {
        let details = state.details.as_ref()?;
        let failure = state.failure.as_ref();
        Some(Self {
            id: details.refund_id.to_string(),
            payment_id: details.payment_intent_id.map(|id| id.payment_id().to_string()),
            bill_id: details.bill_id.map(|id| id.to_string()),
            store_id: details.store_id.to_string(),
            status: state.status.as_str(),
            amount: details.amount,
            cash_rounding: Money::new(details.cash_rounding, details.amount.currency),
            tender: details.tender,
            destination: details.destination,
            reason: details.reason.clone(),
            business_date: details.business_date,
            outcome_unknown: state.unknown,
            outcome: ladder(state),
            needs_attention: state.left_to_person.is_some(),
            provider_reference: state.provider_reference.clone(),
            failure: failure.map(|failed| Failure { code: failed.code.clone(), message: failed.message.clone() }),
            fallback_of: details.fallback_of.map(|id| id.to_string()),
            version,
        })
    }
}

fn ladder(state: &refund::State) -> OutcomeLadder {
    if !state.unknown && state.left_to_person.is_none() {
        return OutcomeLadder::known(vec![]);
    }
    let asked_until = state.unknown_since.map(|since| since + Duration::minutes(UNCLEAR_MINUTES)).or(state.left_to_person);
    OutcomeLadder::unknown(state.unknown_since, state.left_to_person, asked_until.map(Rung::asked_until).unwrap_or_default())
}

/// The status that a word means.
pub fn status_of(word: &str) -> Option<Status> {
    [Status::Pending, Status::Succeeded, Status::Failed].into_iter().find(|status| status.as_str() == word)
}
