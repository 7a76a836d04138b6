//! The calls on the provider port, with what was said kept beside them.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    ids::MerchantId,
    money::Money,
    payment_intent::Tender,
    process::{
        AttemptRef, RefundRef,
        work::{Start, hold::Asked},
    },
    provider::{
        AttemptKey, AttemptStatus, AttemptView, BoxFuture, CallOutcome, CancelRequest, CaptureRequest, Decline, ExchangeLog,
        IncrementRequest, InquiryRequest, Method, MethodKind, PaymentProvider, RefundRequest, RefundStatus, StartRequest,
    },
};
use quick_cache::sync::Cache;

use crate::{
    event_log::StoreError,
    grouped::Grouped,
    process_store::{ProcessStore, Said},
};

/// Finds the connector of a merchant's account: by `pac_…`, or by the provider's name for the platform's own.
pub type Providers = Arc<dyn Fn(MerchantId, String) -> BoxFuture<'static, Option<Arc<dyn PaymentProvider>>> + Send + Sync>;

/// A call on the port: the provider, what is asked, and where what was said is written.
type Call<R, T> = for<'a> fn(&'a (dyn PaymentProvider + 'static), &'a R, &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<T>>;

/// An attempt whose provider told its own name for it.
pub struct Named {
    attempt: AttemptRef,
    provider_id: String,
}

impl Named {
    /// By what came of a call; nothing when that tells no name, or a known one.
    pub fn by(attempt: &AttemptRef, outcome: &CallOutcome<AttemptView>) -> Option<Self> {
        let CallOutcome::Done(AttemptView { provider_id: Some(provider_id), .. }) = outcome else { return None };
        attempt.provider_id.is_none().then(|| Self { attempt: attempt.clone(), provider_id: provider_id.clone() })
    }
}

/// How often it is tried again to keep what was said.
const KEEP_TRIES: u32 = 4;
/// How long apart: longer than a statement may take, so that no earlier try is still under way unseen.
const KEEP_PAUSE: Duration = Duration::from_secs(16);
/// Accounts of which a process remembers what their provider can do.
const ACCOUNTS: usize = 10_000;

/// Makes the calls.
pub struct Calls<S> {
    /// Keeps the provider's names of attempts.
    pub store: S,
    /// Keeps what was said.
    pub said: Grouped<Said>,
    /// Who is called.
    pub providers: Providers,
    /// Of which accounts codes stay payable: an account is at one provider for ever.
    payable: Cache<String, bool>,
}

impl<S: ProcessStore> Calls<S> {
    /// Over these.
    pub fn new(store: S, said: Grouped<Said>, providers: Providers) -> Self {
        Self { store, said, providers, payable: Cache::new(ACCOUNTS) }
    }

    /// Begins an attempt.
    pub async fn start(&self, tenant: MerchantId, start: &Start) -> CallOutcome<AttemptView> {
        let attempt = &start.attempt;
        let method = match (&start.card_token, kind_of(attempt.tender)) {
            (Some(token), MethodKind::Card) => Method::Card { token: token.clone() },
            (None, MethodKind::Card) => return missing_token(),
            (_, MethodKind::PromptPay) => Method::PromptPay,
        };
        let request = StartRequest {
            key: key_of(attempt),
            method,
            manual_capture: attempt.manual_capture,
            expires_at: attempt.expires_at,
            return_url: start.return_url.clone(),
            uncertain_since: start.uncertain_since,
        };
        self.ask_of(tenant, attempt, &request, <dyn PaymentProvider>::start).await
    }

    /// Where an attempt stands. What was said is kept behind what `log` holds already.
    pub async fn inquire(
        &self,
        tenant: MerchantId,
        attempt: &AttemptRef,
        now: DateTime<Utc>,
        log: ExchangeLog,
    ) -> CallOutcome<AttemptView> {
        let request = InquiryRequest { key: key_of(attempt), method: kind_of(attempt.tender), now };
        let (subject, provider) = (attempt.attempt_id.to_string(), &attempt.provider);
        let outcome = self.ask_after(log, tenant, &subject, provider, &request, <dyn PaymentProvider>::inquire).await;
        if let CallOutcome::Done(AttemptView { status: AttemptStatus::Unrecognized(word), .. }) = &outcome {
            metrics::counter!("smartpos_provider_words_unrecognized_total").increment(1);
            tracing::error!(%attempt.attempt_id, provider, word, "a provider says of an attempt what is not known here");
        }
        outcome
    }

    /// Stops an attempt. Each try has a key of its own: stopping twice is stopping, and a provider that keeps an error under a
    /// key would give it again for a day.
    pub async fn cancel(&self, tenant: MerchantId, attempt: &AttemptRef, tried: u32, now: DateTime<Utc>) -> CallOutcome<AttemptView> {
        let idempotency_key = format!("{}-cancel-{tried}", attempt.reference);
        let request = CancelRequest { key: key_of(attempt), method: kind_of(attempt.tender), idempotency_key, now };
        self.ask_of(tenant, attempt, &request, <dyn PaymentProvider>::cancel).await
    }

    /// Captures what is held. Each try has a key of its own: the books were asked before it, and a provider that keeps an error under a
    /// key would give it again for a day.
    pub async fn capture(&self, tenant: MerchantId, attempt: &AttemptRef, asked: Asked) -> CallOutcome<AttemptView> {
        let amount = Money::new(asked.amount, attempt.amount.currency);
        let idempotency_key = format!("{}-capture-{}-{}", attempt.reference, asked.request, asked.tried);
        let request = CaptureRequest { key: key_of(attempt), idempotency_key, amount };
        self.ask_of(tenant, attempt, &request, <dyn PaymentProvider>::capture).await
    }

    /// Raises what is held.
    pub async fn increase(&self, tenant: MerchantId, attempt: &AttemptRef, asked: Asked) -> CallOutcome<AttemptView> {
        let amount = Money::new(asked.amount, attempt.amount.currency);
        let idempotency_key = format!("{}-increase-{}", attempt.reference, asked.request);
        let request = IncrementRequest { key: key_of(attempt), idempotency_key, amount };
        self.ask_of(tenant, attempt, &request, <dyn PaymentProvider>::increment).await
    }

    /// Sends money back.
    pub async fn refund(&self, tenant: MerchantId, refund: &RefundRef, now: DateTime<Utc>) -> CallOutcome<RefundStatus> {
        let (subject, provider) = (refund.refund_id.to_string(), &refund.payment.provider);
        self.ask(tenant, &subject, provider, &refund_request(refund, now), <dyn PaymentProvider>::refund).await
    }

    /// Where a refund stands.
    pub async fn inquire_refund(&self, tenant: MerchantId, refund: &RefundRef, now: DateTime<Utc>) -> CallOutcome<RefundStatus> {
        let (subject, provider) = (refund.refund_id.to_string(), &refund.payment.provider);
        self.ask(tenant, &subject, provider, &refund_request(refund, now), <dyn PaymentProvider>::inquire_refund).await
    }

    /// One call about an attempt.
    async fn ask_of<R>(
        &self,
        tenant: MerchantId,
        attempt: &AttemptRef,
        request: &R,
        call: Call<R, AttemptView>,
    ) -> CallOutcome<AttemptView> {
        self.ask(tenant, &attempt.attempt_id.to_string(), &attempt.provider, request, call).await
    }

    /// One call: whoever is asked is looked up, and what was said is kept under `subject`, whatever came of it. A provider that is not
    /// configured is an outcome, not a fault: nothing reaches its books.
    async fn ask<R, T>(&self, tenant: MerchantId, subject: &str, provider: &str, request: &R, call: Call<R, T>) -> CallOutcome<T> {
        self.ask_after(ExchangeLog::default(), tenant, subject, provider, request, call).await
    }

    async fn ask_after<R, T>(
        &self,
        log: ExchangeLog,
        tenant: MerchantId,
        subject: &str,
        provider: &str,
        request: &R,
        call: Call<R, T>,
    ) -> CallOutcome<T> {
        let found = (self.providers)(tenant, provider.to_owned()).await;
        let outcome = if let Some(found) = &found {
            call(&**found, request, &log).await
        } else {
            let message = format!("the provider '{provider}' is not configured");
            CallOutcome::Declined(Decline { code: "provider_not_configured".to_owned(), message })
        };
        self.keep(tenant, subject, provider, &log);
        outcome
    }

    /// Whether codes of this account can still be paid when nobody waits for them; not at an account that the merchant does not have.
    pub async fn codes_stay_payable(&self, tenant: MerchantId, account: &str) -> bool {
        if let Some(known) = self.payable.get(account) {
            return known;
        }
        let Some(found) = (self.providers)(tenant, account.to_owned()).await else { return false };
        let can = found.capabilities();
        // One that cannot be used right now takes nothing; who is behind the account is not known then.
        if !can.methods.is_empty() {
            self.payable.insert(account.to_owned(), can.codes_stay_payable());
        }
        can.codes_stay_payable()
    }

    /// Keeps the provider's own name for an attempt. Should that fail, the next inquiry tells it again.
    pub async fn keep_name(&self, named: Option<Named>) {
        let Some(Named { attempt, provider_id }) = named else { return };
        if let Err(error) = self.store.remember(&attempt, &provider_id).await {
            tracing::warn!(%error, "a provider's name for an attempt could not be kept");
        }
    }

    /// Nothing is decided by what was said, so nobody at a counter waits until it is kept. It is the evidence, so it is tried again for a
    /// minute, unless the process stops; that it cannot be kept then is told.
    fn keep(&self, tenant: MerchantId, subject: &str, provider: &str, log: &ExchangeLog) {
        let exchanges = log.take();
        if exchanges.is_empty() {
            return;
        }
        let said = Said { tenant, subject: subject.to_owned(), provider: provider.to_owned(), exchanges, again: false };
        let (first, later) = (self.said.hand_in(said.clone()), self.said.later());
        tokio::spawn(async move {
            let mut kept = first.await;
            for _ in 0..KEEP_TRIES {
                let Err(StoreError::Lost(_)) = &kept else { break };
                tokio::time::sleep(KEEP_PAUSE).await;
                let Some(open) = later.open() else { break };
                let again = open.hand_in(Said { again: true, ..said.clone() });
                drop(open);
                kept = again.await;
            }
            if let Err(error) = kept {
                tracing::warn!(%error, subject = said.subject, "what was said to a provider could not be kept");
                metrics::counter!("smartpos_exchanges_lost_total").increment(1);
            }
        });
    }
}

fn missing_token() -> CallOutcome<AttemptView> {
    CallOutcome::Declined(Decline { code: "invalid_request".to_owned(), message: "the attempt has no card token".to_owned() })
}

/// Recorded tenders never come here.
const fn kind_of(tender: Tender) -> MethodKind {
    match tender {
        Tender::OnlineCard => MethodKind::Card,
        Tender::PromptPay | Tender::Cash | Tender::Card | Tender::Invoice | Tender::Unknown => MethodKind::PromptPay,
    }
}

fn key_of(attempt: &AttemptRef) -> AttemptKey {
    AttemptKey {
        attempt_id: attempt.attempt_id,
        reference: attempt.reference.clone(),
        provider_id: attempt.provider_id.clone(),
        amount: attempt.amount,
        started_at: attempt.created_at,
    }
}

fn refund_request(refund: &RefundRef, now: DateTime<Utc>) -> RefundRequest {
    let RefundRef { refund_id, amount, payment, uncertain_since, .. } = refund;
    RefundRequest {
        refund_id: *refund_id,
        reference: payment.reference.clone(),
        provider_id: payment.provider_id.clone(),
        transaction_id: payment.transaction_id.clone(),
        amount: *amount,
        captured: payment.captured,
        paid_at: payment.paid_at,
        uncertain_since: *uncertain_since,
        now,
    }
}
