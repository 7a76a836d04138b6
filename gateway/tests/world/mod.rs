//! A card provider's simulator, a connector to it, their common clock, and an endpoint that hears the call-backs.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::TimeDelta;
use domain::{
    ids::{RefundId, Ulid},
    money::Money,
    provider::{
        AttemptKey, AttemptStatus, AttemptView, CallOutcome, CancelRequest, CaptureRequest, HintSubject, InquiryRequest, Method,
        MethodKind, PaymentProvider, RawWebhook, RefundRequest, RefundStatus, StartRequest, WebhookHint, WebhookRefusal,
    },
};
use gateway::{Clock, simulator::SimulatorConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::stage::{Driver, HELD_BACK_MS, Stage};

/// 2026-03-01 23:50 in Bangkok.
const LATE_EVENING: &str = "2026-03-01T16:50:00Z";

static NEXT: AtomicU64 = AtomicU64::new(1);

pub struct World {
    driver: Driver,
}

impl Deref for World {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }
}

impl World {
    /// `serve` starts the simulator, `connect` makes a connector to it that waits for so many milliseconds.
    pub async fn new<F: Future<Output = std::io::Result<()>> + Send + 'static>(
        serve: impl FnOnce(TcpListener, SimulatorConfig, CancellationToken) -> F,
        connect: impl Fn(&str, Clock, u64) -> Arc<dyn PaymentProvider>,
    ) -> Self {
        let stage = Stage::new("/hook", LATE_EVENING, 7, |listener, config, stop| drop(tokio::spawn(serve(listener, config, stop)))).await;
        let connect = |stage: &Stage, timeout_ms| connect(&stage.base_url, Arc::clone(&stage.clock), timeout_ms);
        Self { driver: Driver::new(stage, connect) }
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (agreed, answer) = self.lever(path, body).await;
        assert!(agreed, "{path}: {answer}");
        answer
    }

    /// Over one call. An answer that is held back, and a slow one, comes long after its time-out.
    pub async fn fault(&self, operation: &str, fault: &str) {
        self.post("/sim/faults", json!({"operation": operation, "fault": fault, "times": 1, "delay_ms": HELD_BACK_MS})).await;
        if fault == "slow" || fault.starts_with("timeout_") {
            self.hurry(1);
        }
    }

    /// A call-back about a payment that never was, sealed like this.
    pub async fn lie(&self, reference: &str, seal: &str) {
        let lie = json!({"reference": reference, "webhook": {"copies": 1, "badly_sealed": 1, "seal": seal}});
        assert!(self.lever("/sim/lie", lie).await.0);
    }

    pub fn request(&self, method: Method, amount: Money) -> StartRequest {
        StartRequest {
            key: self.key(amount),
            method,
            manual_capture: false,
            expires_at: self.now() + TimeDelta::minutes(15),
            return_url: Some("https://shop.example/back".to_owned()),
            uncertain_since: None,
        }
    }

    pub fn card(&self, token: &str) -> StartRequest {
        self.request(Method::Card { token: token.to_owned() }, Money::thb(100_00))
    }

    pub async fn started(&self, request: &StartRequest) -> AttemptView {
        done(self.start(request).await)
    }

    pub async fn inquire(&self, key: &AttemptKey) -> AttemptView {
        let request = InquiryRequest { key: key.clone(), method: MethodKind::Card, now: self.now() };
        done(self.connector().inquire(&request, &self.log).await)
    }

    pub async fn capture(&self, key: &AttemptKey, satang: i64) -> CallOutcome<AttemptView> {
        let request =
            CaptureRequest { key: key.clone(), idempotency_key: format!("c-{satang}-{}", key.attempt_id.0), amount: Money::thb(satang) };
        self.connector().capture(&request, &self.log).await
    }

    pub async fn cancel(&self, key: &AttemptKey) -> CallOutcome<AttemptView> {
        let request = CancelRequest {
            key: key.clone(),
            method: MethodKind::Card,
            idempotency_key: format!("x-{}", key.attempt_id.0),
            now: self.now(),
        };
        self.connector().cancel(&request, &self.log).await
    }

    pub fn refund_of(&self, view: &AttemptView, key: &AttemptKey, satang: i64) -> RefundRequest {
        let payment = &view.payments[0];
        RefundRequest {
            refund_id: RefundId(Ulid::from_parts(2_000, u128::from(NEXT.fetch_add(1, Ordering::SeqCst)))),
            reference: key.reference.clone(),
            provider_id: view.provider_id.clone(),
            transaction_id: payment.transaction_id.clone(),
            amount: Money::thb(satang),
            captured: payment.amount,
            paid_at: payment.paid_at,
            uncertain_since: None,
            now: self.now(),
        }
    }

    pub async fn inquire_refund(&self, request: &RefundRequest) -> RefundStatus {
        done(self.look_refund(request).await)
    }

    /// The next call-back, read by the connector.
    pub async fn heard(&self) -> Result<WebhookHint, WebhookRefusal> {
        let heard = self.hear().await;
        let path_secret = heard.path_secret.as_deref();
        self.provider.read_webhook(&RawWebhook {
            proven: false,
            path_secret,
            headers: &heard.headers,
            body: &heard.body,
            received_at: self.now(),
        })
    }

    /// A refund on one card waits until the lever says so; one on the other succeeds and is taken back.
    pub async fn refunds_wait_and_fail_later(&self, slow: &StartRequest, bad: &StartRequest) {
        let refund = self.refund_of(&self.started(slow).await, &slow.key, 50_00);
        assert!(matches!(done(self.refund(&refund).await), RefundStatus::Pending { .. }));
        self.post("/sim/refund", json!({"reference": slow.key.reference, "state": "succeeded"})).await;
        assert!(matches!(self.inquire_refund(&refund).await, RefundStatus::Succeeded { .. }));
        let refund = self.refund_of(&self.started(bad).await, &bad.key, 50_00);
        assert!(matches!(done(self.refund(&refund).await), RefundStatus::Succeeded { .. }));
        self.post("/sim/refund", json!({"reference": bad.key.reference, "state": "failed"})).await;
        assert!(matches!(self.inquire_refund(&refund).await, RefundStatus::Failed(_)));
        assert_eq!(self.inquire(&bad.key).await.payments[0].refunded, 0);
    }

    /// Call-backs under the old and the new secret are believed; bad, missing, old and early seals are not.
    pub async fn tells_a_roll_from_forgeries(&self) {
        let expected = [
            ("rolled", None),
            ("bad", Some(WebhookRefusal::NotAuthentic)),
            ("missing", Some(WebhookRefusal::NotAuthentic)),
            ("stale", Some(WebhookRefusal::Stale)),
            ("future", Some(WebhookRefusal::Stale)),
        ];
        for (seal, refusal) in expected {
            self.lie("ABC", seal).await;
            let heard = self.heard().await;
            match refusal {
                None => assert_eq!(heard.unwrap().subject, HintSubject::Reference("ABC".to_owned())),
                Some(refusal) => assert_eq!(heard, Err(refusal), "{seal}"),
            }
        }
    }

    /// No secret and no token in what was recorded.
    pub fn exchanges_hold_none_of(&self, secrets: &[&str]) {
        let shown = format!("{:?} {:?}", self.log.take(), self.provider.capabilities());
        assert!(shown.contains("request_line"), "nothing was recorded");
        for secret in secrets {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

pub fn done<T: std::fmt::Debug>(outcome: CallOutcome<T>) -> T {
    match outcome {
        CallOutcome::Done(value) => value,
        other @ (CallOutcome::Declined(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_)) => panic!("not done: {other:?}"),
    }
}

pub fn declined<T: std::fmt::Debug>(outcome: CallOutcome<T>) -> String {
    match outcome {
        CallOutcome::Declined(decline) => decline.code,
        other @ (CallOutcome::Done(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_)) => panic!("not declined: {other:?}"),
    }
}

/// The key once an answer told the provider's name.
pub fn named(request: &StartRequest, view: &AttemptView) -> AttemptKey {
    AttemptKey { provider_id: view.provider_id.clone(), ..request.key.clone() }
}

pub fn failure_of(view: &AttemptView) -> &str {
    match &view.status {
        AttemptStatus::Failed(decline) => &decline.code,
        other @ (AttemptStatus::NotFound
        | AttemptStatus::ActionRequired(_)
        | AttemptStatus::Pending
        | AttemptStatus::Authorized { .. }
        | AttemptStatus::Paid
        | AttemptStatus::Canceled
        | AttemptStatus::Expired
        | AttemptStatus::Unrecognized(_)) => panic!("not failed: {other:?}"),
    }
}
