//! SCB (Siam Commercial Bank): PromptPay QR by bill payment (tag 30), inquiry, and void where the contract has it.
//!
//! A call-back carries no signature, so it only says *look*: money counts when the inquiry shows it. The bank has no
//! cancel and its v1 codes never expire. Source: SCB developer API, pages post-oauth-token, post-qrcode-create,
//! get-billpayment-inquiry, payment-confirmation, post-qrcode-void.

use std::fmt;

use chrono::NaiveDate;
use domain::{
    money::Currency,
    provider::{
        AttemptKey, AttemptStatus, AttemptView, BoxFuture, CallOutcome, Capabilities, ExchangeLog, InquiryRequest, MethodKind, NextAction,
        PaymentProvider, PaymentSeen, RawWebhook, RefundRequest, RefundStatus, StartRequest, WebhookHint, WebhookRefusal,
    },
};

use crate::{
    Clock,
    bangkok::bangkok_date,
    error::GatewayError,
    failure::{Failure, Kind, decline, surely_not_sent, void_refused},
    measure::measured,
    promptpay::{ParsedQr, QrSpec, Target, is_reference},
};

mod capabilities;
mod client;
mod config;
mod mapping;
pub mod simulator;
mod webhook;

pub use capabilities::with_void as capabilities_with_void;
use client::Client;
pub use config::{FIELDS, ScbConfig};

/// The name in events, metrics and the webhook path.
pub const NAME: &str = "scb";

/// Days that an inquiry asks for from the day of the attempt on: it, and the two at whose ends the books are asked anyway.
const FIRST_DAYS: usize = 3;

/// The connector. One per app of the bank; share it behind an `Arc`, since it holds the access token.
pub struct ScbProvider {
    config: ScbConfig,
    client: Client,
}

impl fmt::Debug for ScbProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScbProvider").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ScbProvider {
    /// Makes the connector; nothing is sent yet.
    ///
    /// # Errors
    /// `Setting`, `HttpClient`.
    pub fn new(config: ScbConfig, clock: Clock) -> Result<Self, GatewayError> {
        config.check()?;
        let client = Client::new(&config, clock)?;
        Ok(Self { config, client })
    }

    async fn create(&self, request: &StartRequest, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        let key = &request.key;
        if request.method.kind() != MethodKind::PromptPay || request.manual_capture {
            return CallOutcome::Declined(decline("not_supported", "SCB takes PromptPay codes, without a hold"));
        }
        if key.amount.currency != Currency::THB || !key.amount.is_positive() || !is_reference(&key.reference) {
            return CallOutcome::Declined(decline("invalid_request", "a positive baht amount and [A-Z0-9]{1,20} are needed"));
        }
        let shown = |payload| AttemptView {
            provider_id: None,
            status: AttemptStatus::ActionRequired(NextAction::ShowQr { payload }),
            payments: vec![],
        };
        match self.client.create(&self.config, key, log).await {
            Ok(payload) => match self.check_payload(&payload, key) {
                Ok(()) => CallOutcome::Done(shown(payload)),
                Err(problem) => CallOutcome::Unknown(problem),
            },
            // The bank has this reference already: a repeat whose first answer was lost. Its own payload is not given
            // out again, but the reference, biller and amount fix the meaning, so ours is as good.
            Err(Failure::Conflict(_)) => match self.own_payload(key) {
                Ok(payload) => CallOutcome::Done(shown(payload)),
                Err(error) => CallOutcome::Unknown(format!("duplicate, and no payload could be made: {error}")),
            },
            Err(failure) => failure.outcome(Kind::Money),
        }
    }

    /// A success that carries somebody else's QR must not reach a payer.
    fn check_payload(&self, payload: &str, key: &AttemptKey) -> Result<(), String> {
        let qr = ParsedQr::parse(payload).map_err(|e| format!("the bank's payload is not a PromptPay code: {e}"))?;
        let ours = matches!(&qr.target, Target::Bill { biller_id, reference1, .. }
            if *biller_id == self.config.biller_id && *reference1 == key.reference);
        if ours && qr.dynamic && qr.amount == Some(key.amount) {
            Ok(())
        } else {
            Err("the bank's payload names another payee, reference or amount".to_owned())
        }
    }

    fn own_payload(&self, key: &AttemptKey) -> Result<String, crate::promptpay::QrError> {
        let target = Target::Bill { biller_id: self.config.biller_id.clone(), reference1: key.reference.clone(), reference2: None };
        let prefix = &self.config.reference3_prefix;
        let terminal_label = (!prefix.is_empty()).then(|| prefix.clone());
        QrSpec { terminal_label, ..QrSpec::new(target, Some(key.amount)) }.encode()
    }

    async fn look(&self, request: &InquiryRequest, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        let key = &request.key;
        let (first, last) = (bangkok_date(key.started_at), bangkok_date(request.now));
        match self.inquire_days(&key.reference, first, last, log).await {
            Ok(payments) => {
                CallOutcome::Done(AttemptView { provider_id: None, status: mapping::status_of(&payments, key.amount), payments })
            }
            Err(failure) => failure.outcome(Kind::Read),
        }
    }

    /// Asks for the Bangkok days of payment that [`days_to_ask`] names: the bank searches by the day of *payment*.
    async fn inquire_days(
        &self,
        reference: &str,
        first: NaiveDate,
        last: NaiveDate,
        log: &ExchangeLog,
    ) -> Result<Vec<PaymentSeen>, Failure> {
        if !is_reference(reference) {
            return Err(Failure::Declined(decline("invalid_request", "the reference is not [A-Z0-9]{1,20}")));
        }
        let mut seen: Vec<PaymentSeen> = Vec::new();
        for day in days_to_ask(first, last) {
            for payment in self.client.inquire(&self.config, reference, day, log).await? {
                if seen.iter().all(|s| s.transaction_id != payment.transaction_id) {
                    seen.push(payment);
                }
            }
        }
        Ok(seen)
    }

    async fn void(&self, request: &RefundRequest, log: &ExchangeLog) -> CallOutcome<RefundStatus> {
        if !self.config.void_profile || request.amount != request.captured || request.amount.currency != Currency::THB {
            return CallOutcome::Declined(decline("not_supported", "SCB sends back whole payments in baht only, by contract"));
        }
        let now = request.now;
        if bangkok_date(request.paid_at) != bangkok_date(now) {
            // An earlier try of this very refund may have ended unknown before midnight: its books decide.
            let refusal = decline("cut_off_passed", "SCB voids on the Bangkok day of payment only");
            return void_refused(refusal, self.look_refund(request, log).await);
        }
        match self.client.void(request, now, log).await {
            // A whole payment can be sent back once, so "again" means that this refund is in effect.
            Ok(()) | Err(Failure::Conflict(_)) => CallOutcome::Done(mapping::voided(&request.transaction_id)),
            Err(failure) => match failure.outcome(Kind::Money) {
                CallOutcome::Declined(refusal) if surely_not_sent(&refusal, request) => CallOutcome::Declined(refusal),
                CallOutcome::Declined(refusal) => void_refused(refusal, self.look_refund(request, log).await),
                open @ (CallOutcome::Done(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_)) => open,
            },
        }
    }

    async fn look_refund(&self, request: &RefundRequest, log: &ExchangeLog) -> CallOutcome<RefundStatus> {
        let paid_on = bangkok_date(request.paid_at);
        match self.inquire_days(&request.reference, paid_on, paid_on, log).await {
            Ok(seen) if seen.iter().any(|p| p.is_reversed() && p.transaction_id == request.transaction_id) => {
                CallOutcome::Done(mapping::voided(&request.transaction_id))
            }
            Ok(_) => CallOutcome::Done(RefundStatus::NotFound),
            Err(failure) => failure.outcome(Kind::Read),
        }
    }
}

/// The first days of an attempt and the last two, in their order: at most five calls, however old it is. A payment on a day between them
/// was made known on that day by its call-back, or is found on a settlement list.
fn days_to_ask(first: NaiveDate, last: NaiveDate) -> Vec<NaiveDate> {
    let (first, last) = (first.min(last), last.max(first));
    let mut days: Vec<NaiveDate> = first.iter_days().take(FIRST_DAYS).take_while(|day| *day <= last).collect();
    days.extend(last.pred_opt().into_iter().chain([last]).filter(|day| *day >= first));
    days.sort_unstable();
    days.dedup();
    days
}

impl PaymentProvider for ScbProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        capabilities::of(&self.config)
    }

    fn start<'a>(&'a self, request: &'a StartRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(measured(NAME, "start", self.create(request, log)))
    }

    fn inquire<'a>(&'a self, request: &'a InquiryRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(measured(NAME, "inquire", self.look(request, log)))
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(measured(NAME, "refund", self.void(request, log)))
    }

    fn inquire_refund<'a>(&'a self, request: &'a RefundRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(measured(NAME, "inquire_refund", self.look_refund(request, log)))
    }

    fn read_webhook(&self, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
        webhook::read(&self.config, raw)
    }
}
