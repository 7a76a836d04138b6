//! One provider's simulator, a connector to it, their common clock, and whoever listens to the call-backs.

use std::{ops::Deref, pin::Pin, sync::Arc};

use chrono::TimeDelta;
use domain::{
    ids::RefundId,
    money::Money,
    provider::{AttemptView, CallOutcome, CancelRequest, Exchange, InquiryRequest, Method, RefundRequest, StartRequest},
};
use gateway::{catalog, simulator::SimulatorConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use crate::stage::Heard;
use crate::stage::{self, Driver, HELD_BACK_MS};

/// 2026-03-01 19:00 in Bangkok.
const EVENING: &str = "2026-03-01T12:00:00Z";

/// What a behaviour wants of its world.
#[derive(Clone, Copy)]
pub struct Setup {
    /// Of the simulator.
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self { seed: 7 }
    }
}

/// Makes a provider's world.
pub type Launch = fn(Setup) -> Pin<Box<dyn Future<Output = World> + Send>>;

/// What differs between providers beyond their capabilities.
#[derive(Clone)]
pub struct Traits {
    /// What a payable attempt is paid with.
    pub method: Method,
    /// A card that can be held, where the provider takes cards.
    pub card: Option<Method>,
    /// Answers carry a status word.
    pub has_status: bool,
    /// It has access tokens that can lapse.
    pub has_tokens: bool,
    /// The simulator takes a second payment on one attempt.
    pub pays_twice: bool,
    /// How long an unclear creation may stay invisible, and so is not repeated.
    pub settling: TimeDelta,
    /// Texts that nobody may see.
    pub secrets: &'static [&'static str],
}

/// One provider's stage with a connector to it.
pub struct World {
    pub traits: Traits,
    driver: Driver,
}

impl Deref for World {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

/// What a simulator is started with: where it listens, its settings, its end.
pub struct Stage {
    pub listener: TcpListener,
    pub config: SimulatorConfig,
    pub stop: CancellationToken,
}

impl World {
    /// `serve` starts the simulator on the stage; `settings` are the connector's, without its `base_url` and `timeout_ms`.
    pub async fn new(
        name: &'static str,
        path_secret: &str,
        mut settings: Value,
        traits: Traits,
        seed: u64,
        serve: impl FnOnce(Stage),
    ) -> Self {
        let suffix = if path_secret.is_empty() { String::new() } else { format!("/{path_secret}") };
        let serve = |listener, config, stop| serve(Stage { listener, config, stop });
        let stage = stage::Stage::new(&format!("/webhooks/{name}{suffix}"), EVENING, seed, serve).await;
        settings["base_url"] = json!(stage.base_url);
        let connect = |stage: &stage::Stage, timeout_ms: u64| {
            settings["timeout_ms"] = json!(timeout_ms);
            catalog::connect(name, &settings, Arc::clone(&stage.clock)).unwrap()
        };
        Self { traits, driver: Driver::new(stage, connect) }
    }

    pub fn advance_minutes(&self, minutes: i64) {
        self.advance_seconds(60 * minutes);
    }

    pub fn advance_seconds(&self, seconds: i64) {
        self.advance(TimeDelta::seconds(seconds));
    }

    /// Time passes until the provider's books must show whatever was made.
    pub fn settle(&self) {
        self.advance(self.traits.settling);
    }

    pub fn request(&self, satang: i64) -> StartRequest {
        let key = self.key(Money::thb(satang));
        let expires_at = self.now() + TimeDelta::minutes(10);
        let return_url = Some("https://shop.example/back".to_owned());
        StartRequest { key, method: self.traits.method.clone(), manual_capture: false, expires_at, return_url, uncertain_since: None }
    }

    /// An attempt that waits for its payer, with what the provider calls it.
    pub async fn started(&self, satang: i64) -> StartRequest {
        let mut request = self.request(satang);
        let outcome = self.start(&request).await;
        let CallOutcome::Done(view) = outcome else { panic!("not started: {outcome:?}") };
        request.key.provider_id = view.provider_id;
        request
    }

    pub async fn inquire(&self, request: &StartRequest) -> CallOutcome<AttemptView> {
        let inquiry = InquiryRequest { key: request.key.clone(), method: request.method.kind(), now: self.now() };
        self.connector().inquire(&inquiry, &self.log).await
    }

    pub async fn view(&self, request: &StartRequest) -> AttemptView {
        let outcome = self.inquire(request).await;
        let CallOutcome::Done(view) = outcome else { panic!("the inquiry ended in {outcome:?}") };
        view
    }

    pub async fn cancel(&self, request: &StartRequest) -> CallOutcome<AttemptView> {
        let cancel = CancelRequest {
            key: request.key.clone(),
            method: request.method.kind(),
            idempotency_key: format!("cancel-{}", request.key.reference),
            now: self.now(),
        };
        self.connector().cancel(&cancel, &self.log).await
    }

    /// A paid attempt and the request that sends all of it back.
    pub async fn paid(&self, satang: i64) -> (StartRequest, RefundRequest) {
        let request = self.started(satang).await;
        self.pay(&request, json!({})).await;
        let view = self.view(&request).await;
        let payment = view.payments.first().unwrap();
        let refund = RefundRequest {
            refund_id: RefundId(request.key.attempt_id.0),
            reference: request.key.reference.clone(),
            provider_id: request.key.provider_id.clone(),
            transaction_id: payment.transaction_id.clone(),
            amount: request.key.amount,
            captured: request.key.amount,
            paid_at: payment.paid_at,
            uncertain_since: None,
            now: self.now(),
        };
        (request, refund)
    }

    pub fn exchanges(&self) -> Vec<Exchange> {
        self.log.take()
    }

    /// The payer pays; `more` fields of the lever on top. Nobody is told unless they say so.
    pub async fn pay(&self, request: &StartRequest, more: Value) -> Value {
        let (agreed, payment) = self.try_pay(request, more).await;
        assert!(agreed, "{payment}");
        payment
    }

    pub async fn try_pay(&self, request: &StartRequest, more: Value) -> (bool, Value) {
        let mut body = json!({"reference": request.key.reference, "webhook": "never"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.lever("/sim/pay", body).await
    }

    /// An answer that is held back comes long after its time-out; a slow one well before.
    pub async fn fault(&self, operation: &str, fault: &str, times: u32) {
        let held_back = fault.starts_with("timeout_");
        let delay_ms = if held_back { HELD_BACK_MS } else { 1_000 };
        let rule = json!({"operation": operation, "fault": fault, "times": times, "delay_ms": delay_ms});
        assert!(self.lever("/sim/faults", rule).await.0);
        if held_back {
            self.hurry(times);
        }
    }

    /// Strokes that no call has used up.
    pub async fn faults_left(&self) -> usize {
        self.look("/sim/faults").await.as_array().unwrap().len()
    }

    /// How many attempts on this reference the provider's own books have.
    pub async fn attempts_on(&self, request: &StartRequest) -> usize {
        let ledger = self.ledger().await;
        ledger["attempts"].as_array().unwrap().iter().filter(|a| a["reference"] == request.key.reference.as_str()).count()
    }

    /// Minor units that the provider has sent back.
    pub async fn sent_back(&self) -> i64 {
        self.ledger().await["totals"]["reversed"].as_i64().unwrap()
    }
}
