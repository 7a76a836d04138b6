//! What is SCB's alone, against the simulated bank over real HTTP; the contract suite holds the rest.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic like the test itself")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use chrono::{DateTime, Utc};
use domain::{
    ids::{AttemptId, RefundId, Ulid},
    money::Money,
    provider::{
        AttemptKey, AttemptStatus, AttemptView, CallOutcome, Exchange, ExchangeLog, HintSubject, InquiryRequest, Method, MethodKind,
        NextAction, PaymentProvider, PaymentSeen, RawWebhook, RefundRequest, RefundStatus, StartRequest, WebhookHint, WebhookRefusal,
        reference_of,
    },
};
use gateway::{
    Clock, ProviderRegistry, ScbConfig, ScbProvider, Secret,
    promptpay::ParsedQr,
    scb::simulator::{self, Settings},
    simulator::SimulatorConfig,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const BILLER: &str = "123456789012345";
const PATH_SECRET: &str = "a-path-secret-of-tests";
/// 2026-03-01 23:50 in Bangkok: ten minutes before midnight.
const LATE_EVENING: &str = "2026-03-01T16:50:00Z";
const PATIENCE: Duration = Duration::from_secs(60);

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A bank, a connector to it, and their common clock.
struct World {
    provider: ScbProvider,
    base_url: String,
    http: reqwest::Client,
    micros: Arc<AtomicI64>,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

struct Setup {
    void: bool,
    seed: u64,
    webhook_url: String,
    ledger_file: Option<PathBuf>,
    timeout_ms: u64,
    api_secret: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            void: true,
            seed: 7,
            webhook_url: "http://127.0.0.1:9/nobody".to_owned(),
            ledger_file: None,
            timeout_ms: 20_000,
            api_secret: "secret",
        }
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

impl World {
    async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    async fn with(setup: Setup) -> Self {
        let micros = Arc::new(AtomicI64::new(at(LATE_EVENING).timestamp_micros()));
        let clock: Clock = {
            let micros = Arc::clone(&micros);
            Arc::new(move || DateTime::from_timestamp_micros(micros.load(Ordering::SeqCst)).unwrap())
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let settings =
            Settings { api_key: "key".to_owned(), api_secret: "secret".to_owned(), biller_id: BILLER.to_owned(), allow_void: setup.void };
        let config =
            SimulatorConfig { webhook_url: setup.webhook_url, seed: setup.seed, ledger_file: setup.ledger_file, clock: Arc::clone(&clock) };
        let server = tokio::spawn(simulator::serve(listener, settings, config, stop.clone()));
        let config = ScbConfig { timeout_ms: setup.timeout_ms, ..config_for(&base_url, setup.api_secret) };
        let provider = ScbProvider::new(config, clock).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { provider, base_url, http, micros, stop, server }
    }

    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.micros.load(Ordering::SeqCst)).unwrap()
    }

    fn advance_minutes(&self, minutes: i64) {
        self.micros.fetch_add(minutes * 60_000_000, Ordering::SeqCst);
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let answer = self.http.post(format!("{}{path}", self.base_url)).json(&body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn fault(&self, operation: &str, fault: &str, times: u32) {
        let rule = json!({"operation": operation, "fault": fault, "times": times, "delay_ms": 3_000});
        assert_eq!(self.post("/sim/faults", rule).await.0, StatusCode::OK);
    }

    /// Strokes that no call has used up.
    async fn faults_left(&self) -> u64 {
        let answer = self.http.get(format!("{}/sim/faults", self.base_url)).send().await.unwrap();
        let rules: Vec<Value> = answer.json().await.unwrap();
        rules.iter().map(|r| r["times"].as_u64().unwrap()).sum()
    }

    async fn pay(&self, reference: &str) -> String {
        let (status, payment) = self.post("/sim/pay", json!({"reference": reference, "webhook": "never"})).await;
        assert_eq!(status, StatusCode::OK, "{payment}");
        payment["transaction_id"].as_str().unwrap().to_owned()
    }

    async fn ledger(&self) -> Value {
        let answer = self.http.get(format!("{}/sim/ledger", self.base_url)).send().await.unwrap();
        answer.json().await.unwrap()
    }

    fn request(&self, satang: i64) -> StartRequest {
        let attempt_id = AttemptId(Ulid(u128::from(NEXT.fetch_add(1, Ordering::SeqCst))));
        let reference = reference_of(attempt_id);
        let key = AttemptKey { attempt_id, reference, provider_id: None, amount: Money::thb(satang), started_at: self.now() };
        let expires_at = self.now() + chrono::TimeDelta::minutes(10);
        StartRequest { key, method: Method::PromptPay, manual_capture: false, expires_at, return_url: None, uncertain_since: None }
    }

    async fn start(&self, request: &StartRequest) -> CallOutcome<AttemptView> {
        self.provider.start(request, &ExchangeLog::default()).await
    }

    /// A QR that exists at the bank.
    async fn created(&self, satang: i64) -> StartRequest {
        let request = self.request(satang);
        assert!(matches!(self.start(&request).await, CallOutcome::Done(_)));
        request
    }

    async fn inquire(&self, request: &StartRequest) -> CallOutcome<AttemptView> {
        let request = InquiryRequest { key: request.key.clone(), method: MethodKind::PromptPay, now: self.now() };
        self.provider.inquire(&request, &ExchangeLog::default()).await
    }

    async fn seen(&self, request: &StartRequest) -> Vec<PaymentSeen> {
        let outcome = self.inquire(request).await;
        let CallOutcome::Done(view) = outcome else { panic!("the inquiry ended in {outcome:?}") };
        view.payments
    }

    async fn refund(&self, refund: &RefundRequest) -> CallOutcome<RefundStatus> {
        self.provider.refund(&RefundRequest { now: self.now(), ..refund.clone() }, &ExchangeLog::default()).await
    }

    /// A created and paid QR, and the request that sends its money back.
    async fn paid(&self, satang: i64) -> (StartRequest, RefundRequest) {
        let request = self.created(satang).await;
        let transaction_id = self.pay(&request.key.reference).await;
        let refund = RefundRequest {
            refund_id: RefundId(request.key.attempt_id.0),
            reference: request.key.reference.clone(),
            provider_id: None,
            transaction_id,
            amount: request.key.amount,
            captured: request.key.amount,
            paid_at: self.now(),
            uncertain_since: None,
            now: self.now(),
        };
        (request, refund)
    }

    async fn shut_down(self) {
        self.stop.cancel();
        self.server.await.unwrap().unwrap();
    }
}

fn config_for(base_url: &str, api_secret: &str) -> ScbConfig {
    ScbConfig {
        base_url: base_url.to_owned(),
        api_key: Secret::new("key"),
        api_secret: Secret::new(api_secret),
        biller_id: BILLER.to_owned(),
        reference3_prefix: "SCB".to_owned(),
        webhook_path_secret: Secret::new(PATH_SECRET),
        timeout_ms: ScbConfig::default_timeout_ms(),
        calls_per_second: None,
        // The clock stands still here.
        quota_pause_ms: 0,
        void_profile: true,
    }
}

fn declined_code<T: std::fmt::Debug>(outcome: CallOutcome<T>) -> String {
    let CallOutcome::Declined(decline) = outcome else { panic!("expected a decline, got {outcome:?}") };
    decline.code
}

#[tokio::test]
async fn a_code_is_created_paid_and_found() {
    let world = World::new().await;
    let request = world.request(100_50);
    let CallOutcome::Done(created) = world.start(&request).await else { panic!("not created") };
    let AttemptStatus::ActionRequired(NextAction::ShowQr { payload }) = created.status else { panic!("no code") };
    let qr = ParsedQr::parse(&payload).unwrap();
    assert_eq!((qr.amount, qr.dynamic, qr.additional_value("07")), (Some(request.key.amount), true, Some("SCB")));
    let transaction_id = world.pay(&request.key.reference).await;
    let expected = PaymentSeen { transaction_id, amount: Money::thb(100_50), paid_at: world.now(), refunded: 0, dispute: None };
    assert_eq!(world.seen(&request).await, [expected]);
    world.shut_down().await;
}

#[tokio::test]
async fn both_ways_of_saying_not_paid_mean_an_empty_answer() {
    let world = World::new().await;
    let request = world.created(1_00).await;
    for _ in 0..4 {
        assert!(world.seen(&request).await.is_empty());
    }
    let unknown = world.post("/sim/pay", json!({"reference": "NOSUCHQR", "webhook": "never"})).await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_payment_after_midnight_is_found_from_either_side() {
    let world = World::new().await;
    let request = world.created(1_00).await;
    let before = world.pay(&request.key.reference).await;
    world.advance_minutes(20);
    let after = world.pay(&request.key.reference).await;
    let ids: Vec<String> = world.seen(&request).await.into_iter().map(|p| p.transaction_id).collect();
    assert_eq!(ids, [before, after], "paid twice, once on each Bangkok day");
}

#[tokio::test]
async fn an_attempt_of_long_ago_is_asked_for_by_its_first_days_and_the_last_two() {
    let world = World::new().await;
    let request = world.created(1_00).await;
    let mut paid = Vec::new();
    // In the evening of the days 0, 1, 2, 20, 39 and 40.
    for days in [0, 1, 1, 18, 19, 1] {
        world.advance_minutes(days * 24 * 60);
        paid.push(world.pay(&request.key.reference).await);
    }
    let log = ExchangeLog::default();
    let inquiry = InquiryRequest { key: request.key.clone(), method: MethodKind::PromptPay, now: world.now() };
    let CallOutcome::Done(view) = world.provider.inquire(&inquiry, &log).await else { panic!("it is too old to be asked for") };
    paid.remove(3);
    let ids: Vec<String> = view.payments.into_iter().map(|payment| payment.transaction_id).collect();
    assert_eq!(ids, paid, "what came on a day between them is on a settlement list");
    // The token is forty days old as well: the first call is refused and made again with a new one.
    let answered = |exchange: &&Exchange| exchange.operation == "inquire" && exchange.status != Some(401);
    assert_eq!(log.take().iter().filter(answered).count(), 5, "one call for each day");
    world.shut_down().await;
}

#[tokio::test]
async fn a_rate_limit_is_not_an_attempt() {
    let world = World::new().await;
    for operation in ["token", "create"] {
        world.fault(operation, "http_429", 1).await;
        let request = world.request(5_00);
        assert!(matches!(world.start(&request).await, CallOutcome::NotAttempted(_)));
        assert!(matches!(world.start(&request).await, CallOutcome::Done(_)));
    }
}

#[tokio::test]
async fn callers_that_wait_for_one_token_share_its_fate() {
    let world = World::new().await;
    world.fault("token", "http_500", 1).await;
    let requests: Vec<StartRequest> = (0..8).map(|_| world.request(1_00)).collect();
    let outcomes = futures_util::future::join_all(requests.iter().map(|r| world.start(r))).await;
    assert!(outcomes.iter().all(|o| matches!(o, CallOutcome::NotAttempted(_))), "{outcomes:?}");
    let outcomes = futures_util::future::join_all(requests.iter().map(|r| world.start(r))).await;
    assert!(outcomes.iter().all(|o| matches!(o, CallOutcome::Done(_))), "{outcomes:?}");
    let health = world.http.get(format!("{}/sim/health", world.base_url)).send().await.unwrap();
    assert_eq!(health.json::<Value>().await.unwrap()["tokens_issued"], 1, "one fetch for all");
}

#[tokio::test]
async fn wrong_credentials_are_a_final_refusal() {
    let world = World::with(Setup { api_secret: "wrong", ..Setup::default() }).await;
    let outcome = world.start(&world.request(1_00)).await;
    assert_eq!(declined_code(outcome), "credentials_refused");
}

#[tokio::test]
async fn requests_that_the_bank_cannot_take_are_declined_here() {
    let world = World::new().await;
    let dollars = Money::new(1_00, "USD".parse().unwrap());
    for (amount, reference) in [(Money::thb(0), "REF"), (Money::thb(-1), "REF"), (dollars, "REF"), (Money::thb(1), "ref")] {
        let mut request = world.request(1);
        (request.key.amount, request.key.reference) = (amount, reference.to_owned());
        assert_eq!(declined_code(world.start(&request).await), "invalid_request");
    }
    let mut other_amount = world.created(1_00).await;
    other_amount.key.amount = Money::thb(2_00);
    // 1111: the reference is taken; the code we answer with states the amount asked for, and the inquiry decides.
    assert!(matches!(world.start(&other_amount).await, CallOutcome::Done(_)));
}

#[tokio::test]
async fn a_whole_payment_is_sent_back_on_its_day() {
    let world = World::new().await;
    let (request, refund) = world.paid(75_00).await;
    let CallOutcome::Done(done) = world.refund(&refund).await else { panic!("not refunded") };
    assert_eq!(world.refund(&refund).await, CallOutcome::Done(done), "a repeat is the same refund");
    assert!(world.seen(&request).await[0].is_reversed());
    assert_eq!(world.ledger().await["totals"], json!({"received": 75_00, "reversed": 75_00, "net": 0, "currency": "THB"}));
}

#[tokio::test]
async fn part_of_a_payment_is_refused_without_a_call() {
    let world = World::new().await;
    let refund = RefundRequest { amount: Money::thb(1), ..world.paid(75_00).await.1 };
    world.fault("void", "http_500", 1).await;
    assert_eq!(declined_code(world.refund(&refund).await), "not_supported");
    assert_eq!(world.faults_left().await, 1);
    assert_eq!(world.ledger().await["totals"]["reversed"], 0);
}

#[tokio::test]
async fn money_of_another_currency_is_not_asked_back_as_baht() {
    let world = World::new().await;
    let (request, refund) = world.paid(100_00).await;
    let dollars = json!({"reference": request.key.reference, "currency": "USD", "webhook": "never"});
    let (_, payment) = world.post("/sim/pay", dollars).await;
    let (transaction_id, amount) = (payment["transaction_id"].as_str().unwrap().to_owned(), Money::new(100_00, "USD".parse().unwrap()));
    let refund = RefundRequest { transaction_id, amount, captured: amount, ..refund };
    world.fault("void", "http_500", 1).await;
    assert_eq!(declined_code(world.refund(&refund).await), "not_supported");
    assert_eq!(world.faults_left().await, 1, "the bank was called");
}

#[tokio::test]
async fn after_midnight_a_payment_cannot_be_sent_back() {
    let world = World::new().await;
    let (_, refund) = world.paid(75_00).await;
    world.advance_minutes(20);
    assert_eq!(declined_code(world.refund(&refund).await), "cut_off_passed");
    assert_eq!(world.ledger().await["totals"]["reversed"], 0);
}

#[tokio::test]
async fn a_void_of_unknown_outcome_is_recognised_after_midnight() {
    let world = World::new().await;
    let (_, refund) = world.paid(75_00).await;
    world.fault("void", "http_500_after", 1).await;
    assert!(matches!(world.refund(&refund).await, CallOutcome::Unknown(_)));
    world.advance_minutes(20);
    assert!(matches!(world.refund(&refund).await, CallOutcome::Done(_)));
    assert_eq!(world.ledger().await["totals"]["reversed"], 75_00);
}

#[tokio::test]
async fn a_bank_without_void_declines_it() {
    let world = World::with(Setup { void: false, ..Setup::default() }).await;
    let (_, refund) = world.paid(75_00).await;
    assert_eq!(declined_code(world.refund(&refund).await), "not_supported");
    let config = ScbConfig { void_profile: false, ..config_for(&world.base_url, "secret") };
    let provider = ScbProvider::new(config, Arc::new(|| at(LATE_EVENING))).unwrap();
    assert!(!provider.capabilities().refund);
    assert_eq!(declined_code(provider.refund(&refund, &ExchangeLog::default()).await), "not_supported");
}

#[tokio::test]
async fn a_killed_bank_keeps_its_books() {
    let file = std::env::temp_dir().join(format!("scb-ledger-{}.jsonl", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let setup = || Setup { ledger_file: Some(file.clone()), ..Setup::default() };
    let world = World::with(setup()).await;
    let (_, refund) = world.paid(30_00).await;
    world.refund(&refund).await;
    let unpaid = world.created(40_00).await;
    let before = world.ledger().await;
    world.shut_down().await;
    let torn = [std::fs::read(&file).unwrap(), b"{\"kind\":\"paym".to_vec()].concat();
    std::fs::write(&file, torn).unwrap();

    let world = World::with(setup()).await;
    assert_eq!(world.ledger().await, before);
    assert_ne!(world.pay(&unpaid.key.reference).await, refund.transaction_id);
    world.shut_down().await;
    let world = World::with(setup()).await;
    assert_eq!(world.ledger().await["totals"]["received"], 70_00);
    std::fs::remove_file(&file).unwrap();
}

fn webhook_provider() -> ScbProvider {
    ScbProvider::new(config_for("http://127.0.0.1:9", "secret"), Arc::new(|| at(LATE_EVENING))).unwrap()
}

fn confirmation(biller: &str) -> Vec<u8> {
    json!({"payeeProxyId": biller, "payeeProxyType": "BILLERID", "amount": "100.00", "transactionId": "201907169lbqgPbt1Bl3oiA",
        "transactionDateandTime": "2019-07-16T11:30:58.000+07:00", "billPaymentRef1": "REFERENCE1", "currencyCode": "764"})
    .to_string()
    .into_bytes()
}

fn read(path_secret: Option<&str>, body: &[u8]) -> Result<WebhookHint, WebhookRefusal> {
    webhook_provider().read_webhook(&RawWebhook { proven: false, path_secret, headers: &[], body, received_at: at(LATE_EVENING) })
}

#[test]
fn a_callback_is_read_and_answered_in_the_banks_words() {
    let hint = read(Some(PATH_SECRET), &confirmation(BILLER)).unwrap();
    assert_eq!(hint.transaction_id.as_deref(), Some("201907169lbqgPbt1Bl3oiA"));
    assert_eq!(hint.subject, HintSubject::Reference("REFERENCE1".to_owned()));
    let expected = r#"{"resCode":"00","resDesc":"success","transactionId":"201907169lbqgPbt1Bl3oiA"}"#;
    assert_eq!(hint.acknowledgement, expected);
}

#[test]
fn a_callback_with_another_secret_or_biller_is_not_authentic() {
    for secret in [None, Some(""), Some("a-path-secret-of-testz"), Some("a-path-secret-of-tests2")] {
        assert_eq!(read(secret, &confirmation(BILLER)), Err(WebhookRefusal::NotAuthentic), "{secret:?}");
    }
    assert_eq!(read(Some(PATH_SECRET), &confirmation("999999999999999")), Err(WebhookRefusal::NotAuthentic));
}

#[test]
fn a_callback_that_is_not_the_banks_json_is_malformed() {
    let deep = "[".repeat(10_000);
    let long = format!("{{\"x\":\"{}\"}}", "a".repeat(20_000));
    let strange = String::from_utf8(confirmation(BILLER)).unwrap().replace("REFERENCE1", "a\\u0000b");
    for body in ["", "hello", "{}", "[]", "{\"transactionId\":1}", &deep, &long, &strange] {
        let refusal = read(Some(PATH_SECRET), body.as_bytes());
        assert!(matches!(refusal, Err(WebhookRefusal::Malformed("scb", _))), "{refusal:?}");
    }
}

/// A merchant that refuses the first call-back it gets and reports all of them.
async fn merchant() -> (String, mpsc::UnboundedReceiver<WebhookHint>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let heard = Arc::new((sender, AtomicU64::new(0)));
    let handler = |State(heard): State<Arc<(mpsc::UnboundedSender<WebhookHint>, AtomicU64)>>, body: Bytes| async move {
        let hint = read(Some(PATH_SECRET), &body).unwrap();
        let acknowledgement = hint.acknowledgement.clone();
        heard.0.send(hint).unwrap();
        if heard.1.fetch_add(1, Ordering::SeqCst) == 0 {
            (StatusCode::INTERNAL_SERVER_ERROR, "down".to_owned())
        } else {
            (StatusCode::OK, acknowledgement)
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhooks/scb/{PATH_SECRET}", listener.local_addr().unwrap());
    let router = Router::new().route("/webhooks/scb/{secret}", post(handler)).with_state(heard);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, receiver)
}

#[tokio::test]
async fn callbacks_come_in_copies_and_are_resent_until_acknowledged() {
    let (webhook_url, mut hints) = merchant().await;
    let world = World::with(Setup { webhook_url, ..Setup::default() }).await;
    let request = world.created(9_00).await;
    let plan = json!({"copies": 2, "delays_ms": [0, 20], "retry_ms": 20});
    let (_, payment) = world.post("/sim/pay", json!({"reference": request.key.reference, "webhook": plan})).await;
    for delivery in ["refused", "second copy or resend", "the other"] {
        let hint = tokio::time::timeout(PATIENCE, hints.recv()).await.expect(delivery).unwrap();
        assert_eq!(hint.transaction_id.as_deref(), payment["transaction_id"].as_str());
        assert_eq!(hint.subject, HintSubject::Reference(request.key.reference.clone()));
    }
    let more = tokio::time::timeout(Duration::from_millis(200), hints.recv()).await;
    assert!(more.is_err(), "an acknowledged call-back was sent again");
    assert_eq!(world.ledger().await["payments"].as_array().unwrap().len(), 1);
}

#[test]
fn settings_are_checked_and_secrets_do_not_show() {
    let good = || config_for("http://127.0.0.1:9", "hush-hush");
    let bad = [
        ScbConfig { base_url: "api.partners.scb".to_owned(), ..good() },
        ScbConfig { api_key: Secret::new(""), ..good() },
        ScbConfig { biller_id: "12345".to_owned(), ..good() },
        ScbConfig { reference3_prefix: "scb".to_owned(), ..good() },
        ScbConfig { webhook_path_secret: Secret::new("short"), ..good() },
        ScbConfig { timeout_ms: 0, ..good() },
        ScbConfig { calls_per_second: Some(0), ..good() },
        ScbConfig { quota_pause_ms: 3_600_001, ..good() },
    ];
    for config in bad {
        assert!(ScbProvider::new(config, Arc::new(|| at(LATE_EVENING))).is_err());
    }
    let shown = format!("{:?}", good());
    assert!(!shown.contains("hush") && !shown.contains(PATH_SECRET) && !shown.contains("\"key\""), "{shown}");
}

#[test]
fn the_registry_finds_a_provider_by_name_and_takes_each_name_once() {
    let registry = ProviderRegistry::new().with(Arc::new(webhook_provider())).unwrap();
    assert_eq!(registry.get("scb").unwrap().name(), "scb");
    assert!(registry.get("SCB").is_none());
    assert_eq!(registry.names().collect::<Vec<_>>(), ["scb"]);
    assert!(registry.with(Arc::new(webhook_provider())).is_err());
}
