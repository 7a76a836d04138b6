//! One merchant with an account at one simulated provider of its own: nothing that another test breaks there is felt here.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api::simulated_provider::free_address;
use domain::clock::Clock;
use futures_util::future::join_all;
use gateway::{StripeConfig, kbank, omise, scb, simulator::SimulatorConfig, stripe};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Answered, ApiShop, ShiftedClock, TestPlatform, answered, patiently_answered};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

/// Ends the address of call-backs of the banks.
pub const PATH_SECRET: &str = "of-this-account-only";
/// SCB's payee.
pub const BILLER_ID: &str = "099400016550100";
/// KBank's partner and payee.
pub const PARTNER_ID: &str = "PTR0000001";
pub const MERCHANT_ID: &str = "KB000000000001";
/// Base64; signs Omise's events.
pub const OMISE_HOOK: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Signs Stripe's events.
pub const STRIPE_HOOK: &str = "whsec_of_this_account";
/// Merchants are opened a few at a time: dozens of tests begin together, and this is not about load.
static DOOR: Semaphore = Semaphore::const_new(2);
/// Nobody waits for longer than this, even while everything else runs beside it: longer than the two minutes after a call without an answer
/// in which a refusal proves nothing.
pub const PATIENCE: Duration = Duration::from_secs(200);

/// A provider with a simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bank {
    Scb,
    Kbank,
    Omise,
    Stripe,
}

impl Bank {
    pub const ALL: [Self; 4] = [Self::Scb, Self::Kbank, Self::Omise, Self::Stripe];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Scb => "scb",
            Self::Kbank => "kbank",
            Self::Omise => "omise",
            Self::Stripe => "stripe",
        }
    }

    const fn takes_cards(self) -> bool {
        matches!(self, Self::Omise | Self::Stripe)
    }

    /// A card that is charged at once.
    pub const fn card(self) -> &'static str {
        match self {
            Self::Omise => "tokn_test_ok_1",
            Self::Scb | Self::Kbank | Self::Stripe => "pm_card_visa",
        }
    }

    fn account(self) -> (Value, Value) {
        match self {
            Self::Scb => (
                json!({"biller_id": BILLER_ID, "void_profile": true}),
                json!({"api_key": "scb-key", "api_secret": "scb-secret", "webhook_path_secret": PATH_SECRET}),
            ),
            Self::Kbank => (
                json!({"partner_id": PARTNER_ID, "merchant_id": MERCHANT_ID, "quota_pause_ms": 1_000}),
                json!({"consumer_id": "kb-id", "consumer_secret": "kb-secret", "partner_secret": "kb-partner", "webhook_path_secret": PATH_SECRET}),
            ),
            Self::Omise => (
                json!({"promptpay_min": 1, "promptpay_max": 100_000_000, "settling_ms": 1_500}),
                json!({"secret_key": "skey_test_key", "webhook_secret": OMISE_HOOK}),
            ),
            Self::Stripe => (json!({}), json!({"secret_key": "sk_test_key", "webhook_secret": STRIPE_HOOK})),
        }
    }

    async fn serve(self, listener: TcpListener, config: SimulatorConfig, setup: Setup, stop: CancellationToken) {
        let ended = match self {
            Self::Scb => {
                let (api_key, api_secret) = ("scb-key".to_owned(), "scb-secret".to_owned());
                let settings = scb::simulator::Settings { api_key, api_secret, biller_id: BILLER_ID.to_owned(), allow_void: true };
                scb::simulator::serve(listener, settings, config, stop).await
            }
            Self::Kbank => {
                let settings = kbank::simulator::Settings {
                    consumer_id: "kb-id".to_owned(),
                    consumer_secret: "kb-secret".to_owned(),
                    partner_id: PARTNER_ID.to_owned(),
                    partner_secret: "kb-partner".to_owned(),
                    merchant_id: MERCHANT_ID.to_owned(),
                };
                kbank::simulator::serve(listener, settings, config, stop).await
            }
            Self::Omise => {
                let settings = omise::simulator::Settings {
                    secret_key: "skey_test_key".to_owned(),
                    webhook_secret: OMISE_HOOK.to_owned(),
                    other_webhook_secret: "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
                    promptpay_refundable: setup.promptpay_refundable,
                };
                omise::simulator::serve(listener, settings, config, stop).await
            }
            Self::Stripe => {
                let settings = stripe::simulator::Settings {
                    secret_key: "sk_test_key".to_owned(),
                    webhook_secret: STRIPE_HOOK.to_owned(),
                    other_webhook_secret: "whsec_after_the_roll".to_owned(),
                    api_version: StripeConfig::default_api_version(),
                };
                stripe::simulator::serve(listener, settings, config, stop).await
            }
        };
        ended.expect("the simulator serves");
    }
}

/// Asks again and again until there is something, with pauses: dozens of tests ask at the same time.
pub async fn patiently<T, W: Future<Output = Option<T>>>(what: &str, question: impl Fn() -> W) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// The same at each of these banks side by side, on a stage of its own.
pub async fn at_each<W: Future<Output = ()>>(
    platform: &Arc<TestPlatform>,
    banks: impl IntoIterator<Item = Bank>,
    work: impl Fn(Stage) -> W,
) {
    let work = &work;
    let each: Vec<_> = banks.into_iter().map(|bank| async move { work(Stage::open(platform, bank).await).await }).collect();
    join_all(each).await;
}

/// What differs from the ordinary.
#[derive(Clone)]
pub struct Setup {
    /// Call-backs go there instead of to the platform.
    pub webhook_url: Option<String>,
    /// The process that takes call-backs, where it is not the test's own.
    pub platform_url: Option<String>,
    /// Omise only: whether PromptPay charges can be refunded.
    pub promptpay_refundable: bool,
    /// Whether the simulator is there from the beginning.
    pub open: bool,
    /// The provider's clock.
    pub clock: Arc<ShiftedClock>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { webhook_url: None, platform_url: None, promptpay_refundable: true, open: true, clock: Arc::default() }
    }
}

/// See the module.
pub struct Stage {
    pub platform: Arc<TestPlatform>,
    pub bank: Bank,
    pub shop: ApiShop,
    pub account: String,
    /// Of the simulator.
    pub url: String,
    listen: SocketAddr,
    setup: Setup,
    http: reqwest::Client,
    stop: CancellationToken,
}

impl Stage {
    pub async fn open(platform: &Arc<TestPlatform>, bank: Bank) -> Self {
        Self::open_with(platform, bank, Setup::default()).await
    }

    pub async fn open_with(platform: &Arc<TestPlatform>, bank: Bank, setup: Setup) -> Self {
        let _turn = DOOR.acquire().await.unwrap();
        let shop = platform.shop().await;
        Self::open_for(platform, shop, bank, setup).await
    }

    /// An account, and the simulator behind it, of a merchant that may have others.
    pub async fn open_for(platform: &Arc<TestPlatform>, shop: ApiShop, bank: Bank, setup: Setup) -> Self {
        let listen = free_address().unwrap();
        let url = format!("http://{listen}");
        let (mut settings, secrets) = bank.account();
        settings["base_url"] = json!(url);
        let mut methods = vec![json!({"method": "promptpay"})];
        if bank.takes_cards() {
            methods.push(json!({"method": "card"}));
        }
        let body = json!({
            "provider": bank.name(), "name": bank.name(), "live": false, "priority": 10, "methods": methods,
            "amounts": [{"currency": "THB", "min": 1, "max": 70_000_000}], "settings": settings, "secrets": secrets,
        });
        let account = platform.post(&shop.admin, "/v1/provider-accounts", body).await.id();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (platform, stop) = (platform.clone(), CancellationToken::new());
        let open = setup.open;
        let stage = Self { platform, bank, shop, account, url, listen, setup, http, stop };
        if open {
            stage.serve().await;
        }
        stage
    }

    /// Starts the simulator.
    pub async fn serve(&self) {
        let listener = TcpListener::bind(self.listen).await.expect("the simulator's port is free");
        let clock = self.setup.clock.clone();
        let config = SimulatorConfig {
            webhook_url: self.setup.webhook_url.clone().unwrap_or_else(|| {
                let base = self.setup.platform_url.as_ref().unwrap_or(&self.platform.base);
                format!("{base}{}", self.door())
            }),
            seed: 7,
            ledger_file: None,
            clock: Arc::new(move || clock.now()),
        };
        tokio::spawn(self.bank.serve(listener, config, self.setup.clone(), self.stop.clone()));
    }

    /// Where this account's call-backs are taken.
    pub fn door(&self) -> String {
        let (name, account) = (self.bank.name(), &self.account);
        match self.bank {
            Bank::Scb | Bank::Kbank => format!("/webhooks/{name}/accounts/{account}/{PATH_SECRET}"),
            Bank::Omise | Bank::Stripe => format!("/webhooks/{name}/accounts/{account}"),
        }
    }

    /// POST as a careful client sends it: a 503 is asked again under the same key.
    pub async fn post(&self, token: &str, path: &str, body: Value) -> Answered {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let key = format!("careful-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.platform.send(token, Method::POST, path, Some(&key), Some(&body)).await;
            if answer.status != StatusCode::SERVICE_UNAVAILABLE || tokio::time::Instant::now() > deadline {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Sends bytes to the platform as if they were the provider's, and as it does: what was not taken is sent again.
    pub async fn deliver(&self, path: &str, headers: &[(String, String)], body: Vec<u8>) -> Answered {
        let request = self.platform.raw(Method::POST, path).header("content-type", "application/json").body(body);
        let proofs = headers.iter().filter(|(name, _)| name.contains("signature"));
        patiently_answered(proofs.fold(request, |request, (name, value)| request.header(name, value))).await
    }

    /// An intent for PromptPay, begun at once.
    pub async fn intent(&self, satang: i64) -> String {
        self.intent_with(satang, json!({})).await
    }

    /// An intent on a card, begun at once.
    pub async fn card_intent(&self, satang: i64, token: &str, more: Value) -> String {
        let mut fields = json!({"tender": "online_card", "card_token": token});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.intent_with(satang, fields).await
    }

    pub async fn intent_with(&self, satang: i64, more: Value) -> String {
        let mut body = json!({"store_id": self.shop.store, "amount": {"amount": satang, "currency": "THB"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post(&self.shop.cashier, "/v1/payment-intents", body).await.id()
    }

    /// The intent, once it is `good`.
    pub async fn until(&self, what: &str, intent: &str, good: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/payment-intents/{intent}");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let shown = self.platform.get(&self.shop.cashier, &path).await;
            if shown.status.is_success() && good(&shown.body) {
                return shown.body;
            }
            assert!(tokio::time::Instant::now() < deadline, "{:?}: not within {PATIENCE:?}: {what}: {shown:?}", self.bank);
            // Dozens of tests ask at the same time.
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }

    pub async fn status(&self, intent: &str, status: &str) -> Value {
        self.until(status, intent, |shown| shown["status"] == status).await
    }

    /// Waits for a code or a page for the payer; gives our reference at the provider.
    pub async fn reference(&self, intent: &str) -> String {
        self.status(intent, "requires_action").await["reference"].as_str().unwrap().to_owned()
    }

    /// An intent for PromptPay with a code that can be scanned, and our reference at the provider.
    pub async fn payable(&self, satang: i64) -> (String, String) {
        let intent = self.intent(satang).await;
        let reference = self.reference(&intent).await;
        (intent, reference)
    }

    /// The provider's next calls of an operation go wrong.
    pub async fn fault(&self, operation: &str, fault: &str, more: Value) {
        let mut rule = json!({"operation": operation, "fault": fault, "times": 1});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.lever("/sim/faults", rule).await.ok();
    }

    /// The provider is well again.
    pub async fn clear_faults(&self) {
        answered(self.http.delete(format!("{}/sim/faults", self.url))).await.ok();
    }

    /// Pulls a lever of the simulator. A call-back that a busy machine does not take comes again for longer than the machine is busy.
    pub async fn lever(&self, path: &str, mut body: Value) -> Answered {
        if let Some(plan) = body.get_mut("webhook").and_then(Value::as_object_mut) {
            plan.entry("resends").or_insert(json!(60));
        }
        answered(self.http.post(format!("{}{path}", self.url)).json(&body)).await
    }

    /// What the simulator answers to a question of the test's.
    pub async fn sim(&self, path: &str) -> Value {
        answered(self.http.get(format!("{}{path}", self.url))).await.ok().body
    }

    /// The payer pays; nobody is told unless `more` says so.
    pub async fn pay(&self, reference: &str, more: Value) -> Value {
        let mut body = json!({"reference": reference, "webhook": "never"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.lever("/sim/pay", body).await.ok().body
    }

    /// The payer pays and the provider says so once.
    pub async fn pay_and_tell(&self, reference: &str) -> Value {
        self.pay(reference, json!({"webhook": {"retry_ms": 500}})).await
    }

    /// A payment, succeeded.
    pub async fn paid(&self, satang: i64) -> String {
        let intent = self.intent(satang).await;
        self.pay_and_tell(&self.reference(&intent).await).await;
        self.status(&intent, "succeeded").await;
        intent
    }

    /// Pays an intent that may have been through anything: a code whose text was lost is replaced by another attempt.
    pub async fn pay_in_the_end(&self, intent: &str) {
        let payable = |shown: &Value| shown["status"] == "requires_action" || shown["status"] == "requires_payment_method";
        let shown = self.until("something to pay", intent, payable).await;
        if shown["status"] == "requires_payment_method" {
            self.lost_the_text(intent, &shown["failure"]["code"]).await;
            self.post(&self.shop.cashier, &format!("/v1/payment-intents/{intent}/confirm"), json!({})).await.ok();
        }
        let reference = self.reference(intent).await;
        self.pay_and_tell(&reference).await;
        self.status(intent, "succeeded").await;
    }

    /// Only KBank gives the text of a code out once. The repeat of the call that asked for it stops the code, makes sure of that, and
    /// ends the attempt with `qr_lost`. A look of the schedule that comes after the code was stopped and before that end is stored
    /// (the two calls overlap, or the repeat had no answer when it made sure, or its process died) finds a stopped code in the books
    /// and ends the attempt first: `canceled_at_provider`. Nobody but our own call stopped it then either, and the same follows.
    async fn lost_the_text(&self, intent: &str, code: &Value) {
        assert_eq!(self.bank, Bank::Kbank, "{code}");
        if code != "qr_lost" {
            assert_eq!(code, "canceled_at_provider");
            patiently("it was our own call that stopped the code", || async {
                let path = format!("/v1/payment-intents/{intent}/explain");
                let lines = self.platform.get(&self.shop.cashier, &path).await.body;
                lines["data"].as_array()?.iter().any(|line| line["operation"] == "cancel").then_some(())
            })
            .await;
        }
    }

    /// Asks for a refund; without an amount of all that is left.
    pub async fn refund(&self, intent: &str, satang: Option<i64>) -> Answered {
        let payment = intent.replacen("pi_", "pay_", 1);
        let mut body = json!({"payment_id": payment, "reason": "cold"});
        if let Some(amount) = satang {
            body["amount"] = json!({"amount": amount, "currency": "THB"});
        }
        self.post(&self.shop.manager, "/v1/refunds", body).await
    }

    /// A refund, once it is `good`.
    pub async fn refund_until(&self, what: &str, refund: &str, good: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/refunds/{refund}");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let shown = self.platform.get(&self.shop.manager, &path).await;
            if shown.status.is_success() && good(&shown.body) {
                return shown.body;
            }
            assert!(tokio::time::Instant::now() < deadline, "{:?}: not within {PATIENCE:?}: {what}: {shown:?}", self.bank);
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }

    /// Waits until there is one call-back in this state that came at least so often and comes no more: an answer of ours may be lost, and
    /// the call-back come once more; were it answered as it should not be, it would come twice a second.
    pub async fn one_call_back(&self, state: &str, times: i64) {
        let came = patiently("its call-back came, and comes no more", || async {
            let before = self.call_backs(state).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            (before.1 >= times && before == self.call_backs(state).await).then_some(before)
        })
        .await;
        assert!(came.0 == 1 && came.1 < times + 20, "{:?}: rows and deliveries {came:?}", self.bank);
    }

    /// How many rows the stored call-backs of this account have in a state, and how often those were delivered.
    pub async fn call_backs(&self, state: &str) -> (i64, i64) {
        let sql = "select count(*), coalesce(sum(deliveries), 0)::bigint from process.webhook where account = $1 and state = $2";
        sqlx::query_as(sql).bind(&self.account).bind(state).fetch_one(&self.platform.database.admin).await.unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
