//! Payment intents as callers see them: the gateway's view of a payment.

use chrono::{DateTime, Duration, Utc};
use domain::{
    money::Money,
    payment_intent::{self, Attempt, DisputeOutcome, Disputed, Status, Tender},
    process::work::{SETTLING_MARGIN_MS, UNCLEAR_MINUTES, resolves_by},
};
use projections::models::payments::PaymentRow;
use serde::Serialize;
use utoipa::ToSchema;

use super::{MoneySchema, Resource, TenderSchema};

/// One tender and its conversation with a provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PaymentIntent)]
pub struct PaymentIntentResource {
    /// `pi_…`.
    #[schema(examples("pi_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// The shop's name for the same, `pay_…`.
    pub payment_id: String,
    /// `sto_…`.
    pub store_id: String,
    /// `bill_…` that it pays, if any.
    pub bill_id: Option<String>,
    /// `ord_…` behind the bill.
    pub order_id: Option<String>,
    /// `requires_payment_method`, `processing`, `requires_action`, `requires_capture`, `succeeded`, `canceled`, `expired` or `failed`.
    #[schema(examples("requires_action"))]
    pub status: &'static str,
    /// What is owed.
    #[schema(value_type = MoneySchema)]
    pub amount: Money,
    /// What arrived and closed it.
    #[schema(value_type = MoneySchema)]
    pub captured: Money,
    /// Of cash: what was handed over.
    #[schema(value_type = Option<MoneySchema>)]
    pub cash_received: Option<Money>,
    /// Of cash: what was handed back.
    #[schema(value_type = Option<MoneySchema>)]
    pub cash_change: Option<Money>,
    /// Of cash: what rounding added to what was owed, signed.
    #[schema(value_type = Option<MoneySchema>)]
    pub cash_rounding: Option<Money>,
    /// Given back.
    #[schema(value_type = MoneySchema)]
    pub refunded: Money,
    /// Given back, or set aside for it, beyond what came: a refund that a person had declared not sent was, and another had been made;
    /// or money beside the payment went back and was lost in a dispute as well.
    #[schema(value_type = MoneySchema)]
    pub over_refunded: Money,
    /// Of that, what somebody has taken note of: `needs_attention` is for the rest.
    #[schema(value_type = MoneySchema)]
    pub over_refund_acknowledged: Money,
    /// How it is tendered.
    #[schema(value_type = TenderSchema)]
    pub tender: Tender,
    /// The provider of the live or last attempt.
    pub provider: Option<String>,
    /// Our reference there.
    pub reference: Option<String>,
    /// Why this provider was chosen, where there was a choice.
    pub route: Option<String>,
    /// How the holder of the payment token may pay; one way unless the merchant left a choice.
    #[schema(value_type = Vec<TenderSchema>)]
    pub tenders: Vec<Tender>,
    /// `automatic`, or `manual`: hold first, capture later. Of the live or last attempt; before the first one as it will be.
    pub capture_method: Option<&'static str>,
    /// What can still be captured out of the hold.
    #[schema(value_type = MoneySchema)]
    pub capturable: Money,
    /// When the provider lets go of the hold by itself, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub capture_before: Option<DateTime<Utc>>,
    /// What the payer must do.
    pub next_action: Option<NextAction>,
    /// The outcome of the last call to the provider is not known; it is being asked.
    pub outcome_unknown: bool,
    /// How the outcome is being found out.
    pub outcome: OutcomeLadder,
    /// A cancellation was asked for; the provider's answer decides.
    pub cancel_requested: bool,
    /// Whether the cancellation came to anything: `none`, `requested`, `done`, or `lost` when the payment was faster.
    pub cancel: &'static str,
    /// Why it was stopped, or asked to be, in the words of whoever asked; `authorization_lapsed` when a hold came to its end.
    pub cancellation_reason: Option<String>,
    /// A dispute: `open`, `won` or `lost`.
    pub dispute: Option<&'static str>,
    /// How many attempts there were.
    pub attempts: usize,
    /// Someone has to look. What its bill had no use for is known to `GET` only: answers to commands, and events, say what the payment itself
    /// knows.
    pub needs_attention: bool,
    /// Why the last attempt failed.
    pub failure: Option<Failure>,
    /// Money on its reference that does not close it: another amount, a second payment, or too late.
    pub unmatched: Vec<UnmatchedPayment>,
    /// The caller's own reference.
    pub merchant_reference: Option<String>,
    /// What it is for, in the caller's words.
    pub description: Option<String>,
    /// The caller's own name of the terminal that takes it.
    pub merchant_terminal_id: Option<String>,
    /// When it stops accepting payment, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<DateTime<Utc>>,
    /// Version, as in `ETag`.
    pub version: i64,
}

/// What the payer must do.
#[derive(Debug, Serialize, ToSchema)]
pub struct NextAction {
    /// `display_qr` or `redirect`.
    pub r#type: &'static str,
    /// EMVCo payload to show as a QR code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qr_payload: Option<String>,
    /// The same as a picture: path of a PNG.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qr_png: Option<String>,
    /// Path of an SVG.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qr_svg: Option<String>,
    /// Address for the payer's browser (3-D Secure).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_url: Option<String>,
}

/// How an outcome that is not known is found out; a step is left for the next when it gave no answer.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct OutcomeLadder {
    /// `known` or `unknown`.
    pub state: &'static str,
    /// Since when it is not known, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<DateTime<Utc>>,
    /// The step of the ladder that it stands on while it is not known. Only a `GET` about now says `webhook`; answers to commands and to
    /// `…/sync`, events and the past say `inquiry` for it.
    pub step: Option<&'static str>,
    /// The whole ladder with its times: of an attempt from its beginning until its amount is held or it ends; of a capture, a higher hold or
    /// a refund while its outcome is not known.
    pub ladder: Vec<Rung>,
    /// When the provider is asked next, UTC; an answer to a query about now says so while an attempt is under way.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_inquiry_at: Option<DateTime<Utc>>,
    /// The worst case: by then the outcome is known or a person is told, UTC. Shown as long as the ladder is.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resolves_by: Option<DateTime<Utc>>,
}

/// A step on the way to an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rung {
    /// `inquiry`: the provider's books are asked on a schedule. `webhook`: its call-back is waited for, the books are asked rarely.
    /// `person`: somebody decides by a statement; the books are still asked.
    #[schema(examples("inquiry"))]
    pub step: &'static str,
    /// When the next step begins, UTC; nothing for the last one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<DateTime<Utc>>,
}

impl Rung {
    /// The books are asked until then, and after that a person is.
    pub fn asked_until(until: DateTime<Utc>) -> Vec<Self> {
        vec![Self { step: INQUIRY, until: Some(until) }, Self { step: PERSON, until: None }]
    }
}

const INQUIRY: &str = "inquiry";
const WEBHOOK: &str = "webhook";
const PERSON: &str = "person";

impl OutcomeLadder {
    /// Nothing is unclear; the steps are those that there would be.
    pub fn known(ladder: Vec<Rung>) -> Self {
        Self { state: "known", resolves_by: worst_case(&ladder), ladder, ..Self::default() }
    }

    /// Nobody knows; a person has been told at `told`, if at all.
    pub fn unknown(since: Option<DateTime<Utc>>, told: Option<DateTime<Utc>>, ladder: Vec<Rung>) -> Self {
        let step = Some(if told.is_some() { PERSON } else { INQUIRY });
        Self { state: "unknown", since: since.or(told), step, resolves_by: worst_case(&ladder), ladder, next_inquiry_at: None }
    }

    /// The same with the moment at which the provider is asked next: beyond the end of the inquiries what tells sooner is a call-back.
    pub(super) fn asked_next(&mut self, next: Option<DateTime<Utc>>) {
        self.next_inquiry_at = next;
        let asked_until = self.ladder.iter().find(|rung| rung.step == INQUIRY).and_then(|rung| rung.until);
        let waits = self.ladder.iter().any(|rung| rung.step == WEBHOOK);
        if self.step == Some(INQUIRY) && waits && next.zip(asked_until).is_some_and(|(next, until)| next > until) {
            self.step = Some(WEBHOOK);
        }
    }
}

/// When the last step begins, at which a person is told.
fn worst_case(ladder: &[Rung]) -> Option<DateTime<Utc>> {
    ladder.iter().filter_map(|rung| rung.until).max()
}

/// Why something failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Failure {
    /// Our stable word for it.
    #[schema(examples("not_supported"))]
    pub code: String,
    /// In words.
    pub message: String,
}

/// Money that does not close an intent.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnmatchedPayment {
    /// `amount_differs`, `duplicate` or `late`.
    #[schema(value_type = String)]
    pub why: payment_intent::UnmatchedReason,
    /// `accepted`, `refunding`, `refunded` or `kept`; nothing while somebody has to decide.
    #[schema(value_type = Option<String>)]
    pub resolution: Option<payment_intent::Resolution>,
    /// The refund that sends it back.
    pub refund_id: Option<String>,
    /// A dispute about it: `open`, `won` or `lost`. Nothing is decided about it while that is open, nor once it is lost.
    pub dispute: Option<&'static str>,
    /// What arrived.
    #[schema(value_type = MoneySchema)]
    pub amount: Money,
    /// The provider's transaction.
    pub transaction_id: String,
    /// When, UTC.
    #[schema(value_type = String, format = DateTime)]
    pub paid_at: DateTime<Utc>,
}

impl PaymentIntentResource {
    /// The same as the read model has it, which knows what the bill had no use for, with the moment at which the provider is asked next.
    #[must_use]
    pub fn as_read(mut self, row: &PaymentRow, next: Option<DateTime<Utc>>) -> Self {
        self.needs_attention = row.needs_attention;
        self.outcome.asked_next(next);
        self
    }
}

impl Resource<payment_intent::State> for PaymentIntentResource {
    fn of(state: &payment_intent::State, version: i64) -> Option<Self> {
        let details = state.details.as_ref()?;
        let money = |amount| Money::new(amount, details.amount.currency);
        let attempt = state.attempt.as_ref();
        let cash = state.payment.as_ref().filter(|payment| payment.tender == Tender::Cash);
        Some(Self {
            id: details.payment_intent_id.to_string(),
            payment_id: details.payment_intent_id.payment_id().to_string(),
            store_id: details.store_id.to_string(),
            bill_id: details.bill_id.map(|id| id.to_string()),
            order_id: details.order_id.map(|id| id.to_string()),
            status: state.status.as_str(),
            amount: details.amount,
            captured: money(state.captured()),
            cash_received: cash.and_then(|cash| cash.cash_received).map(money),
            cash_change: cash.and_then(|cash| cash.cash_change).map(money),
            cash_rounding: cash.map(|cash| money(cash.cash_rounding)),
            refunded: money(state.refunded_total),
            over_refunded: money(state.over_refunded()),
            over_refund_acknowledged: money(state.over_refund_acknowledged),
            tender: details.tender,
            provider: attempt.map(|attempt| attempt.started.provider.clone()),
            reference: attempt.map(|attempt| attempt.started.reference.clone()),
            route: attempt.and_then(|attempt| attempt.started.route.clone()),
            tenders: state.tenders(),
            capture_method: capture_method(state),
            capturable: money(state.held().map_or(0, |held| held.amount.amount)),
            capture_before: state.held().and_then(|held| held.capture_before),
            next_action: next_action(state),
            outcome_unknown: attempt.is_some_and(|attempt| attempt.unknown),
            outcome: ladder(state),
            cancel_requested: state.cancel_requested.is_some(),
            cancel: cancel_word(state),
            cancellation_reason: state.canceled_because.clone().or_else(|| state.cancel_requested.clone()),
            dispute: dispute_word(state.dispute.as_ref(), state.dispute_outcome),
            attempts: state.earlier.len() + usize::from(attempt.is_some()),
            needs_attention: state.needs_attention(),
            failure: attempt.and_then(failure),
            unmatched: state.unmatched.iter().map(unmatched).collect(),
            merchant_reference: details.merchant_reference.clone(),
            description: details.description.clone(),
            merchant_terminal_id: details.merchant_terminal_id.clone(),
            expires_at: details.expires_at,
            version,
        })
    }
}

fn capture_method(state: &payment_intent::State) -> Option<&'static str> {
    let of_attempt = state.attempt.as_ref().map(|attempt| attempt.started.manual_capture);
    let terms = || state.details.as_ref()?.terms.as_ref().map(|terms| terms.manual_capture);
    of_attempt.or_else(terms).map(|manual| if manual { "manual" } else { "automatic" })
}

fn unmatched(payment: &payment_intent::UnmatchedPayment) -> UnmatchedPayment {
    let received = &payment.received;
    UnmatchedPayment {
        why: received.why,
        resolution: payment.resolution,
        refund_id: payment.refund_id.map(|id| id.to_string()),
        dispute: dispute_word(payment.dispute.as_ref(), payment.dispute_outcome),
        amount: received.amount,
        transaction_id: received.transaction_id.clone(),
        paid_at: received.paid_at,
    }
}

fn ladder(state: &payment_intent::State) -> OutcomeLadder {
    let live = state.attempt.as_ref().filter(|attempt| attempt.failed.is_none());
    let Some(attempt) = live else { return OutcomeLadder::known(vec![]) };
    let ladder = match state.status {
        Status::Processing | Status::RequiresAction => {
            let expires_at = attempt.started.expires_at;
            let asked_until = expires_at + Duration::milliseconds(SETTLING_MARGIN_MS);
            vec![
                Rung { step: INQUIRY, until: Some(asked_until) },
                Rung { step: WEBHOOK, until: Some(resolves_by(expires_at)) },
                Rung { step: PERSON, until: None },
            ]
        }
        // Of what is held: a capture or an increase whose answer is awaited.
        Status::RequiresCapture => {
            let asked_until = attempt.unknown_since.map(|since| since + Duration::minutes(UNCLEAR_MINUTES)).or(attempt.left_to_person);
            asked_until.map(Rung::asked_until).unwrap_or_default()
        }
        Status::Absent | Status::RequiresPaymentMethod | Status::Succeeded | Status::Canceled | Status::Expired | Status::Failed => vec![],
    };
    if attempt.unknown || attempt.left_to_person.is_some() {
        OutcomeLadder::unknown(attempt.unknown_since, attempt.left_to_person, ladder)
    } else {
        OutcomeLadder::known(ladder)
    }
}

const fn cancel_word(state: &payment_intent::State) -> &'static str {
    match (state.status, state.cancel_requested.is_some()) {
        (Status::Canceled, _) => "done",
        (_, false) => "none",
        (Status::Succeeded, true) => "lost",
        (
            Status::Absent
            | Status::RequiresPaymentMethod
            | Status::Processing
            | Status::RequiresAction
            | Status::RequiresCapture
            | Status::Expired
            | Status::Failed,
            true,
        ) => "requested",
    }
}

fn dispute_word(dispute: Option<&Disputed>, outcome: Option<DisputeOutcome>) -> Option<&'static str> {
    dispute?;
    Some(match outcome {
        None => "open",
        Some(DisputeOutcome::Won) => "won",
        Some(DisputeOutcome::Lost) => "lost",
    })
}

/// What the payer must do, shown only while it may be done.
pub(super) fn next_action(state: &payment_intent::State) -> Option<NextAction> {
    let attempt = state.attempt.as_ref().filter(|attempt| attempt.failed.is_none() && state.status == Status::RequiresAction)?;
    let (qr_payload, redirect_url) = (attempt.qr_payload.clone(), attempt.redirect_url.clone());
    let id = state.details.as_ref().filter(|_| qr_payload.is_some()).map(|details| details.payment_intent_id);
    let picture = |kind| id.map(|id| format!("/v1/payment-intents/{id}/qr.{kind}"));
    let r#type = if qr_payload.is_some() { "display_qr" } else { "redirect" };
    Some(NextAction { r#type, qr_payload, qr_png: picture("png"), qr_svg: picture("svg"), redirect_url })
}

pub(super) fn failure(attempt: &Attempt) -> Option<Failure> {
    attempt.failed.as_ref().map(|failed| Failure { code: failed.code.clone(), message: failed.message.clone() })
}

/// The status that a word means.
pub fn status_of(word: &str) -> Option<Status> {
    [
        Status::RequiresPaymentMethod,
        Status::Processing,
        Status::RequiresAction,
        Status::RequiresCapture,
        Status::Succeeded,
        Status::Canceled,
        Status::Expired,
        Status::Failed,
    ]
    .into_iter()
    .find(|status| status.as_str() == word)
}
