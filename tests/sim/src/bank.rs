//! The payment provider: its own ledger is the oracle for money. And the port on it, with all it may do wrong.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Duration as ChronoDuration, Utc};
use domain::{
    money::Money,
    provider::{
        AttemptKey, AttemptStatus, AttemptView, BoxFuture, CallOutcome, CancelRequest, Capabilities, CaptureRequest, Decline, ExchangeLog,
        IncrementRequest, InquiryRequest, Method, MethodKind, NextAction, PaymentProvider, PaymentSeen, RawWebhook, RefundRequest,
        RefundStatus, StartRequest, WebhookHint, WebhookRefusal,
    },
};

use crate::{hooks, link::Link, sabotage::Saboteur, schedule::Knob, world::World};

/// The provider's name.
pub(crate) const NAME: &str = "simbank";

/// Money that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub transaction_id: String,
    pub amount: Money,
    pub paid_at: DateTime<Utc>,
    /// Before this the books do not show it.
    pub visible_at: DateTime<Utc>,
    pub refunded: i64,
}

/// An attempt in the provider's books.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    pub provider_id: String,
    pub amount: Money,
    pub held: Option<i64>,
    /// When a hold is let go of.
    pub lapses_at: DateTime<Utc>,
    pub declined: bool,
    pub canceled: bool,
    pub payments: Vec<Received>,
    /// How often a call of ours moved the payer's money: never more than once.
    pub pulls: u32,
}

/// A refund in the provider's books.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub transaction_id: String,
    pub amount: i64,
    /// Before this the books do not show it.
    pub visible_at: DateTime<Utc>,
    /// When a pending one is decided, and how.
    pub decided_at: DateTime<Utc>,
    pub succeeds: bool,
}

/// The books.
#[derive(Debug, Default)]
pub(crate) struct Bank {
    pub charges: BTreeMap<String, Charge>,
    pub refunds: BTreeMap<String, Given>,
    pub calls: u64,
    made: u64,
    captured_under: BTreeMap<String, i64>,
}

impl Bank {
    /// A name that was not given before.
    pub fn name(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{}", self.made)
    }

    /// Money arrives on a reference; its transaction id.
    pub fn receive(&mut self, world: &World, reference: &str, amount: i64) -> Option<String> {
        let transaction_id = self.name("tx");
        let charge = self.charges.get_mut(reference)?;
        let now = world.now();
        let lag = if world.strikes(Knob::BankLags) { i64::try_from(world.draw(20_000)).unwrap_or(0) } else { 0 };
        let amount = Money::new(amount, charge.amount.currency);
        let visible_at = now + ChronoDuration::milliseconds(lag);
        charge.payments.push(Received { transaction_id: transaction_id.clone(), amount, paid_at: now, visible_at, refunded: 0 });
        Some(transaction_id)
    }

    fn view(&self, world: &World, reference: &str) -> AttemptView {
        let Some(charge) = self.charges.get(reference) else {
            return AttemptView { provider_id: None, status: AttemptStatus::NotFound, payments: vec![] };
        };
        let now = world.now();
        let doubled = world.sabotage == Some(Saboteur::NewNameEachLook);
        let owed = world.sabotage == Some(Saboteur::AmountAssumed);
        let float = i64::from(world.sabotage == Some(Saboteur::FloatMoney));
        let payments: Vec<PaymentSeen> = charge
            .payments
            .iter()
            .filter(|payment| payment.visible_at <= now)
            .map(|payment| PaymentSeen {
                transaction_id: if doubled { format!("{}-{}", payment.transaction_id, self.calls) } else { payment.transaction_id.clone() },
                amount: if owed {
                    charge.amount
                } else {
                    Money::new(payment.amount.amount - float * (payment.amount.amount % 7 / 6), payment.amount.currency)
                },
                paid_at: payment.paid_at,
                refunded: payment.refunded,
                dispute: None,
            })
            .collect();
        let status = if !payments.is_empty() {
            AttemptStatus::Paid
        } else if charge.declined {
            AttemptStatus::Failed(Decline { code: "card_declined".to_owned(), message: "no".to_owned() })
        } else if charge.canceled {
            AttemptStatus::Canceled
        } else if let Some(held) = charge.held {
            let amount = Money::new(held, charge.amount.currency);
            if now > charge.lapses_at {
                AttemptStatus::Expired
            } else {
                AttemptStatus::Authorized { amount, capture_before: Some(charge.lapses_at) }
            }
        } else {
            AttemptStatus::Pending
        };
        AttemptView { provider_id: Some(charge.provider_id.clone()), status, payments }
    }
}

/// A process's connection to the provider.
pub(crate) struct SimProvider(pub Link);

enum Trouble {
    Before,
    After,
}

impl SimProvider {
    /// What goes wrong with a call, if anything.
    async fn trouble<T>(&self) -> Result<Option<Trouble>, CallOutcome<T>> {
        let world = &self.0.world;
        self.0.way().await;
        world.bank().calls += 1;
        if world.strikes(Knob::BankTurnsAway) {
            return Err(CallOutcome::NotAttempted("429".to_owned()));
        }
        if world.strikes(Knob::BankSilentBefore) {
            return Ok(Some(Trouble::Before));
        }
        Ok((world.strikes(Knob::BankSilentAfter) || world.strikes(Knob::BankGarbles)).then_some(Trouble::After))
    }

    /// A call: `apply` happens in the books unless the trouble comes before; an answer comes unless there is trouble.
    async fn call<T>(&self, what: &'static str, apply: impl FnOnce(&mut Bank, &World) -> CallOutcome<T>) -> CallOutcome<T> {
        let trouble = match self.trouble().await {
            Ok(trouble) => trouble,
            Err(outcome) => return outcome,
        };
        let world = &self.0.world;
        if matches!(trouble, Some(Trouble::Before)) {
            tokio::time::sleep(Duration::from_millis(1_000 + world.draw(9_000))).await;
            return silence(world);
        }
        let outcome = apply(&mut world.bank(), world);
        world.note(what, i64::try_from(world.bank().calls).unwrap_or(0));
        self.0.way().await;
        if trouble.is_some() {
            tokio::time::sleep(Duration::from_millis(world.draw(10_000))).await;
            return silence(world);
        }
        outcome
    }

    fn begin(&self, bank: &mut Bank, world: &World, request: &StartRequest) -> CallOutcome<AttemptView> {
        let mut reference = request.key.reference.clone();
        if bank.charges.contains_key(&reference) {
            world.saw("provider knew a repeated start");
            if world.sabotage == Some(Saboteur::BlindRetry) {
                reference = bank.name("again");
            } else if matches!(request.method, Method::Card { .. }) && world.strikes(Knob::BankDeclines) {
                // The token is used up: says nothing of what it was used for.
                world.saw("provider refused a repeated start");
                return declined("token_used");
            }
        }
        if !bank.charges.contains_key(&reference) {
            let provider_id = bank.name("chg");
            let declined = matches!(request.method, Method::Card { .. }) && world.strikes(Knob::BankDeclines);
            let charge = Charge {
                provider_id,
                amount: request.key.amount,
                held: None,
                lapses_at: world.now() + ChronoDuration::minutes(30),
                declined,
                canceled: false,
                payments: vec![],
                pulls: 0,
            };
            bank.charges.insert(reference.clone(), charge);
            match request.method {
                Method::PromptPay => hooks::payer(&self.0.world, &reference, request.key.amount.amount, request.expires_at),
                Method::Card { .. } if declined => {}
                Method::Card { .. } if request.manual_capture => {
                    if let Some(charge) = bank.charges.get_mut(&reference) {
                        charge.held = Some(charge.amount.amount);
                    }
                }
                Method::Card { .. } => {
                    pull(bank, world, &reference, request.key.amount.amount);
                    let of = request.key.reference.clone();
                    let paid = bank.charges.get(&reference).and_then(|charge| charge.payments.last());
                    hooks::announce(&self.0.world, of, paid.map(|paid| paid.transaction_id.clone()), 1);
                }
            }
        }
        let mut view = bank.view(world, &reference);
        if request.method == Method::PromptPay && view.status == AttemptStatus::Pending {
            view.status = AttemptStatus::ActionRequired(NextAction::ShowQr { payload: format!("qr{reference}") });
        }
        if let AttemptStatus::Failed(decline) = view.status {
            return CallOutcome::Declined(decline);
        }
        CallOutcome::Done(view)
    }
}

/// No answer, as an honest connector calls it.
fn silence<T>(world: &World) -> CallOutcome<T> {
    if world.sabotage == Some(Saboteur::TimeoutIsDecline) {
        return declined("timeout");
    }
    if world.sabotage == Some(Saboteur::TimeoutIsNothing) {
        return CallOutcome::NotAttempted("timeout".to_owned());
    }
    CallOutcome::Unknown("no answer".to_owned())
}

/// Takes the payer's money because we asked for it.
fn pull(bank: &mut Bank, world: &World, reference: &str, amount: i64) {
    bank.receive(world, reference, amount);
    if let Some(charge) = bank.charges.get_mut(reference) {
        charge.pulls += 1;
    }
}

fn declined<T>(code: &str) -> CallOutcome<T> {
    CallOutcome::Declined(Decline { code: code.to_owned(), message: String::new() })
}

fn not_known<T>(_key: &AttemptKey) -> CallOutcome<T> {
    declined("not_found")
}

impl Bank {
    fn capture(&mut self, world: &World, request: &CaptureRequest) -> CallOutcome<AttemptView> {
        let reference = &request.key.reference;
        let Some(charge) = self.charges.get_mut(reference) else { return not_known(&request.key) };
        if self.captured_under.contains_key(&request.idempotency_key) && world.sabotage != Some(Saboteur::CaptureWithoutKey) {
            world.saw("provider knew a repeated capture");
            return CallOutcome::Done(self.view(world, reference));
        }
        let open = !charge.canceled && charge.lapses_at > world.now();
        if !open || charge.held.is_none_or(|held| held < request.amount.amount) {
            return declined("not_capturable");
        }
        if world.sabotage != Some(Saboteur::CaptureWithoutKey) {
            charge.held = None;
        }
        self.captured_under.insert(request.idempotency_key.clone(), request.amount.amount);
        pull(self, world, reference, request.amount.amount);
        CallOutcome::Done(self.view(world, reference))
    }

    fn cancel(&mut self, world: &World, request: &CancelRequest) -> CallOutcome<AttemptView> {
        if request.method == MethodKind::PromptPay && world.strikes(Knob::BankCannotCancel) {
            return declined("not_supported");
        }
        let reference = &request.key.reference;
        match self.charges.get_mut(reference) {
            None => return not_known(&request.key),
            Some(charge) if charge.payments.is_empty() => charge.canceled = true,
            Some(_) => world.saw("cancel lost to the payment"),
        }
        CallOutcome::Done(self.view(world, reference))
    }

    fn refund(&mut self, world: &World, request: &RefundRequest) -> CallOutcome<RefundStatus> {
        let mut name = request.refund_id.to_string();
        if self.refunds.contains_key(&name) {
            world.saw("provider knew a repeated refund");
            if world.sabotage == Some(Saboteur::RefundWithoutKey) {
                name = self.name("ref");
            }
        }
        if !self.refunds.contains_key(&name) {
            let received = self
                .charges
                .get(&request.reference)
                .and_then(|charge| charge.payments.iter().find(|paid| paid.transaction_id == request.transaction_id));
            let Some(received) = received else { return declined("payment_not_found") };
            let given: i64 = self
                .refunds
                .values()
                .filter(|given| given.transaction_id == request.transaction_id && given.succeeds)
                .map(|given| given.amount)
                .sum();
            if given + request.amount.amount > received.amount.amount && world.sabotage != Some(Saboteur::RefundWithoutKey) {
                return declined("refund_exceeds_payment");
            }
            let waits = if world.strikes(Knob::RefundWaits) { i64::try_from(world.draw(8_000)).unwrap_or(0) } else { 0 };
            let decided_at = world.now() + ChronoDuration::milliseconds(waits);
            let succeeds = !world.strikes(Knob::RefundFails);
            let lag = if world.strikes(Knob::BankLags) { i64::try_from(world.draw(20_000)).unwrap_or(0) } else { 0 };
            let visible_at = world.now() + ChronoDuration::milliseconds(lag);
            let (transaction_id, amount) = (request.transaction_id.clone(), request.amount.amount);
            self.refunds.insert(name.clone(), Given { transaction_id, amount, visible_at, decided_at, succeeds });
        }
        self.refund_status(world, &name)
    }

    /// The books, which may lag behind what was done.
    fn look_for_refund(&self, world: &World, name: &str) -> CallOutcome<RefundStatus> {
        match self.refunds.get(name) {
            Some(given) if given.visible_at > world.now() => CallOutcome::Done(RefundStatus::NotFound),
            Some(_) | None => self.refund_status(world, name),
        }
    }

    fn refund_status(&self, world: &World, name: &str) -> CallOutcome<RefundStatus> {
        let Some(given) = self.refunds.get(name) else { return CallOutcome::Done(RefundStatus::NotFound) };
        let provider_reference = format!("r-{name}");
        CallOutcome::Done(if given.decided_at > world.now() && world.sabotage != Some(Saboteur::PendingIsDone) {
            RefundStatus::Pending { provider_reference }
        } else if given.succeeds || world.sabotage == Some(Saboteur::PendingIsDone) {
            RefundStatus::Succeeded { provider_reference }
        } else {
            RefundStatus::Failed(Decline { code: "refund_failed".to_owned(), message: String::new() })
        })
    }
}

impl PaymentProvider for SimProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            methods: &[MethodKind::PromptPay, MethodKind::Card],
            manual_capture: true,
            partial_capture: true,
            incremental_authorization: false,
            cancel: true,
            refund: true,
            partial_refund: true,
            signed_webhooks: true,
        }
    }

    fn start<'a>(&'a self, request: &'a StartRequest, _log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(self.call("provider start", move |bank, world| self.begin(bank, world, request)))
    }

    fn inquire<'a>(&'a self, request: &'a InquiryRequest, _log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(self.call("provider inquire", move |bank, world| CallOutcome::Done(bank.view(world, &request.key.reference))))
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest, _log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(self.call("provider capture", move |bank, world| bank.capture(world, request)))
    }

    fn increment<'a>(&'a self, _request: &'a IncrementRequest, _log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(std::future::ready(declined("not_supported")))
    }

    fn cancel<'a>(&'a self, request: &'a CancelRequest, _log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(self.call("provider cancel", move |bank, world| bank.cancel(world, request)))
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest, _log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(self.call("provider refund", move |bank, world| bank.refund(world, request)))
    }

    fn inquire_refund<'a>(&'a self, request: &'a RefundRequest, _log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(self.call("provider inquire refund", move |bank, world| bank.look_for_refund(world, &request.refund_id.to_string())))
    }

    fn read_webhook(&self, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
        hooks::read(raw)
    }
}

/// The provider, as the worker of a process finds it.
pub(crate) fn found(link: &Link) -> commands::provider_worker::Providers {
    let link = link.clone();
    Arc::new(move |_, name| {
        let provider = (name == NAME).then(|| Arc::new(SimProvider(link.clone())) as Arc<dyn PaymentProvider>);
        Box::pin(std::future::ready(provider))
    })
}
