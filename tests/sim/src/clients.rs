//! What clients do: they sell, take money, give it back, repeat themselves, and try what they may not.

use std::time::Duration;

use commands::{
    bills,
    error::CommandError,
    handle::{Reply, UnitOfWork},
    idempotency::Answer,
    orders::{self, NewLine, NewOrder},
    payment_cases::{self, Decision},
    payments::{self, AttemptOptions, NewPayment, PayFor},
    refunds::{self, NewRefund},
};
use domain::{
    bill::Bill,
    envelope::StreamType,
    ids::{BillId, OrderId, PaymentIntentId},
    money::Money,
    order::{self, Order, OrderType},
    payment_intent::{Command, Evidence, PaymentIntent, Tender},
    pricing::TaxClass,
    refund::{Destination, Refund},
    rejection::RejectionClass,
};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::{
    requests::{Client, Request, id_in},
    schedule::{Pay, Sale, Then},
    world::lock,
};

/// How long a client waits for the provider's books.
const LOOKS_FOR: Duration = Duration::from_secs(10);

/// What a client knows of its sale.
struct Sold {
    key: String,
    sale: Sale,
    opened: Answer,
    restores: u64,
    order: OrderId,
    payment: PaymentIntentId,
}

impl Client {
    /// All its sales, one after the other.
    pub async fn work(self, sales: Vec<Sale>) {
        for (n, sale) in sales.into_iter().enumerate() {
            tokio::time::sleep(Duration::from_millis(sale.after_ms)).await;
            // Tenants number their sales alike: a key is its owner's.
            self.sell(&format!("s{n}"), sale).await;
        }
    }

    /// One sale; whether it was paid for, or the payment asked for.
    pub async fn sell(&self, key: &str, sale: Sale) -> bool {
        let restores = self.world.journal().restores;
        let opening = Request::new(format!("{key}-open"), StreamType::Order);
        let Ok(opened) = self.open(&opening, &sale).await else { return false };
        let Some(order) = id_in(&opened.body).map(OrderId) else { return false };
        let billing = Request::new(format!("{key}-bill"), StreamType::Bill);
        let billed = self.ask(&billing, move |unit| bill(unit, order).boxed()).await;
        let Some(bill) = billed.ok().and_then(|answer| id_in(&answer.body)).map(BillId) else { return false };
        let total: i64 = sale.prices.iter().sum();
        if sale.pay == Pay::Halves && self.pay(&format!("{key}-half"), bill, Pay::Cash, Some(total / 2)).await.is_none() {
            return false;
        }
        let Some(payment) = self.pay(&format!("{key}-pay"), bill, sale.pay, None).await else { return false };
        let sold = Sold { key: key.to_owned(), sale: sale.clone(), opened, restores, order, payment };
        for (n, then) in sale.then.iter().enumerate() {
            self.go_on(&sold, &format!("{key}-then{n}"), *then).await;
        }
        true
    }

    async fn open(&self, request: &Request, sale: &Sale) -> Result<Answer, CommandError> {
        self.open_at(self.world.pick(2), request, sale).await
    }

    async fn open_at(&self, first: usize, request: &Request, sale: &Sale) -> Result<Answer, CommandError> {
        let line = |(n, price): (usize, &i64)| NewLine {
            line_id: None,
            item_code: format!("I{n}"),
            name: format!("canary{}", self.index),
            quantity_milli: 1000,
            unit_price: *price,
            price_base_milli: 1000,
            tax_class: TaxClass::Standard,
            discount: None,
        };
        let new = NewOrder {
            order_id: OrderId(id_zero()),
            store_id: self.store,
            order_type: OrderType::Takeaway,
            table_number: None,
            order_number: Some(request.key.clone()),
            lines: sale.prices.iter().enumerate().map(line).collect(),
            opened_at: None,
        };
        self.ask_first(first, request, move |unit| open(unit, new.clone()).boxed()).await
    }

    async fn pay(&self, key: &str, bill_id: BillId, pay: Pay, amount: Option<i64>) -> Option<PaymentIntentId> {
        let (tender, card_token) = match pay {
            Pay::Cash => (Tender::Cash, None),
            Pay::Qr | Pay::Halves => (Tender::PromptPay, None),
            Pay::Card | Pay::Hold => (Tender::OnlineCard, Some("tok".to_owned())),
        };
        let new = NewPayment {
            payment_intent_id: PaymentIntentId(id_zero()),
            pay_for: PayFor::Bill { bill_id, amount: amount.map(Money::thb) },
            tender,
            provider: crate::bank::NAME.to_owned(),
            valid_for: chrono::Duration::seconds(42),
            confirm: true,
            options: AttemptOptions { card_token, manual_capture: pay == Pay::Hold, ..AttemptOptions::default() },
            cash_received: None,
            transaction_id: None,
            merchant_reference: Some(key.to_owned()),
            description: None,
            merchant_terminal_id: None,
            tip: 0,
            acquirer: None,
            paid_at: None,
            evidence: Evidence::Staff,
        };
        self.world.journal().payments += 1;
        let request = Request::new(key.to_owned(), StreamType::PaymentIntent);
        let paid = self.ask(&request, move |unit| start(unit, new.clone()).boxed()).await.ok()?;
        id_in(&paid.body).map(PaymentIntentId)
    }

    /// Where a payment stands, as soon as it stands at one of these words.
    async fn wait_for(&self, payment: PaymentIntentId, words: &[&str]) -> Option<Value> {
        for _ in 0..10 {
            let seen = self.look(move |unit| status(unit, payment).boxed()).await;
            let seen: Option<Value> = seen.and_then(|answer| serde_json::from_slice(&answer.body).ok());
            if seen.as_ref().and_then(|seen| seen["status"].as_str()).is_some_and(|status| words.contains(&status)) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        None
    }

    async fn go_on(&self, sold: &Sold, key: &str, then: Then) {
        match then {
            Then::Refund(percent) => self.refund(sold, key, Some(percent)).await,
            Then::RefundRace => {
                let (one, other) = (format!("{key}a"), format!("{key}b"));
                tokio::join!(self.refund(sold, &one, None), self.refund(sold, &other, None));
            }
            Then::Cancel => {
                let (id, request) = (sold.payment, Request::new(key.to_owned(), StreamType::PaymentIntent));
                let _ = self.ask(&request, move |unit| cancel(unit, id).boxed()).await;
            }
            Then::Capture(percent) => self.capture(sold, key, percent).await,
            Then::Unmatched => self.decide_unmatched(sold, key).await,
            Then::Sync => self.bring_up_to_date(sold).await,
            Then::Repeat => self.repeat(sold).await,
            Then::OtherBody => self.other_body(sold).await,
            Then::Foreign => self.foreign(key).await,
            Then::Stale => self.stale(sold, key).await,
            Then::Twins => self.twins(sold, key).await,
        }
    }

    async fn refund(&self, sold: &Sold, key: &str, percent: Option<i64>) {
        let Some(seen) = self.wait_for(sold.payment, &["succeeded"]).await else { return };
        let captured = seen["captured"].as_i64().unwrap_or(0);
        let new = NewRefund {
            refund_id: domain::ids::RefundId(id_zero()),
            payment_intent_id: sold.payment,
            amount: percent.map(|percent| Money::thb((captured * percent / 100).max(1))),
            destination: Destination::Original,
            reason: "cold".to_owned(),
            given_at: None,
            breakdown: None,
            fallback_of: None,
        };
        let request = Request::new(key.to_owned(), StreamType::Refund);
        if let Err(CommandError::Rejected(_)) = self.ask(&request, move |unit| give_back(unit, new.clone()).boxed()).await {
            self.world.saw(if percent.is_none() { "refund race lost" } else { "refund refused" });
        }
    }

    async fn capture(&self, sold: &Sold, key: &str, percent: i64) {
        let Some(seen) = self.wait_for(sold.payment, &["requires_capture"]).await else { return };
        let amount = (seen["held"].as_i64().unwrap_or(0) * percent / 100).max(1);
        let (id, request) = (sold.payment, Request::new(key.to_owned(), StreamType::PaymentIntent));
        let _ = self.ask(&request, move |unit| capture(unit, id, amount).boxed()).await;
    }

    async fn decide_unmatched(&self, sold: &Sold, key: &str) {
        let Some(seen) = self.wait_for(sold.payment, &["succeeded", "canceled", "expired", "failed"]).await else { return };
        let Some(transaction) = seen["unmatched"].as_str().map(str::to_owned) else { return };
        let decision = [Decision::Refund, Decision::Accept, Decision::Keep][self.world.pick(3)];
        let (id, request) = (sold.payment, Request::new(key.to_owned(), StreamType::PaymentIntent));
        if self.ask(&request, move |unit| decide(unit, id, transaction.clone(), decision).boxed()).await.is_ok() {
            self.world.saw("unmatched payment decided");
        }
    }

    /// Has the provider's books be looked at, of whichever API process is up. Nothing is promised of what they say; it is done with in time.
    async fn bring_up_to_date(&self, sold: &Sold) {
        let which = self.world.pick(2);
        let api = lock(&self.fleet).api(which);
        let door = self.world.doors().get(&which).cloned();
        let (Some((handler, life)), Some(door)) = (api, door) else { return };
        let look = async {
            let intent = handler.read::<PaymentIntent>(self.tenant, sold.payment).await.ok()?;
            let attempt = &intent.attempt.as_ref()?.started;
            door.look((self.tenant, attempt), LOOKS_FOR).await.ok()
        };
        let looked = tokio::select! {
            biased;
            () = life.over() => None,
            looked = look => looked,
        };
        if looked.is_some() {
            self.world.saw("books looked at on request");
        }
    }

    /// The first request once more: its very first answer, whatever happened since.
    async fn repeat(&self, sold: &Sold) {
        let request = Request::new(format!("{}-open", sold.key), StreamType::Order);
        let again = self.open(&request, &sold.sale).await;
        if self.world.journal().restores != sold.restores {
            return;
        }
        match again {
            Ok(again) if again.body == sold.opened.body && again.version == sold.opened.version && again.status == sold.opened.status => {}
            Ok(_) => self.world.violated("I2", format!("{} was answered in two ways", request.key)),
            Err(error) if error.is_transient() => {}
            Err(error) => self.world.violated("I2", format!("{} was accepted, then: {error}", request.key)),
        }
    }

    /// Another request under a used key is refused.
    async fn other_body(&self, sold: &Sold) {
        let mut request = Request::new(format!("{}-open", sold.key), StreamType::Order);
        request.body = json!({ "key": "another" });
        let other = self.open(&request, &sold.sale).await;
        match other {
            Err(CommandError::KeyReused { .. }) => self.world.saw("other body refused"),
            Ok(_) if self.world.journal().restores == sold.restores => {
                self.world.violated("I2", format!("{} served two requests", request.key));
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Another tenant's order is not there, whoever knows its id.
    async fn foreign(&self, key: &str) {
        let foreign = self
            .world
            .journal()
            .acked
            .iter()
            .find(|acked| acked.tenant != self.tenant.0 && acked.key.ends_with("-open"))
            .and_then(|acked| id_in(&acked.body));
        let Some(order) = foreign.map(OrderId) else { return };
        let seen = self.look(move |unit| is_there(unit, order).boxed()).await;
        if seen.is_some_and(|seen| seen.body == b"true") {
            self.world.violated("I9", "a foreign order was read");
        }
        let request = Request::new(key.to_owned(), StreamType::Order);
        let asked = self.ask(&request, move |unit| call_off(unit, order).boxed()).await;
        match asked {
            Err(CommandError::Rejected(rejected)) if rejected.class == RejectionClass::Missing => self.world.saw("foreign thing refused"),
            Err(error) if error.is_transient() => {}
            Err(error) => self.world.violated("I9", format!("a foreign order is refused as if it were there: {error}")),
            Ok(_) => self.world.violated("I9", "a foreign order was changed"),
        }
    }

    /// A change on a version that the order does not have; the one it has is told, truly.
    async fn stale(&self, sold: &Sold, key: &str) {
        let (order, request) = (sold.order, Request { if_match: Some(999), ..Request::new(key.to_owned(), StreamType::Order) });
        let before = sold.opened.version;
        match self.ask(&request, move |unit| call_off(unit, order).boxed()).await {
            Err(CommandError::StaleVersion { current }) => {
                self.world.saw("stale version refused");
                if self.world.journal().restores == sold.restores && current <= before {
                    self.world.violated("I11", format!("the order is said to be at {current}, and was billed after {before}"));
                }
            }
            Ok(_) => self.world.violated("I11", "a change on version 999 was accepted"),
            Err(_) => {}
        }
    }

    /// One request twice at the same moment: one effect, one answer.
    async fn twins(&self, sold: &Sold, key: &str) {
        let request = Request::new(format!("{key}-open"), StreamType::Order);
        let restores = self.world.journal().restores;
        let (one, other) = tokio::join!(self.open_at(0, &request, &sold.sale), self.open_at(1, &request, &sold.sale));
        if let (Ok(one), Ok(other), true) = (one, other, self.world.journal().restores == restores) {
            if one.body != other.body {
                self.world.violated("I2", format!("{} took effect twice", request.key));
            }
            if one.replayed != other.replayed {
                self.world.saw("one of two twins was the repeat");
            }
        }
    }
}

const fn id_zero() -> domain::ids::Ulid {
    domain::ids::Ulid::nil()
}

async fn open(unit: &mut UnitOfWork, new: NewOrder) -> Result<Reply, CommandError> {
    let order_id: OrderId = unit.next_id();
    orders::open(unit, NewOrder { order_id, ..new }).await?;
    unit.reply::<Order>(201, order_id, &order_id)
}

async fn bill(unit: &mut UnitOfWork, order: OrderId) -> Result<Reply, CommandError> {
    let bill_id: BillId = unit.next_id();
    bills::issue(unit, order, bill_id).await?;
    unit.reply::<Bill>(201, bill_id, &bill_id)
}

async fn start(unit: &mut UnitOfWork, new: NewPayment) -> Result<Reply, CommandError> {
    let payment_intent_id: PaymentIntentId = unit.next_id();
    payments::start(unit, NewPayment { payment_intent_id, ..new }).await?;
    unit.reply::<PaymentIntent>(201, payment_intent_id, &payment_intent_id)
}

async fn status(unit: &mut UnitOfWork, id: PaymentIntentId) -> Result<Reply, CommandError> {
    let state = unit.state::<PaymentIntent>(id).await?;
    let unmatched =
        state.unmatched.iter().find(|payment| payment.resolution.is_none()).map(|payment| payment.received.transaction_id.clone());
    let held = state.held().map_or(0, |held| held.amount.amount);
    let seen = json!({ "status": state.status.as_str(), "captured": state.captured(), "held": held, "unmatched": unmatched });
    unit.reply::<PaymentIntent>(200, id, &seen)
}

async fn is_there(unit: &mut UnitOfWork, id: OrderId) -> Result<Reply, CommandError> {
    unit.state::<Order>(id).await?;
    unit.reply::<Order>(200, id, &(unit.version::<Order>(id) > 0))
}

async fn give_back(unit: &mut UnitOfWork, new: NewRefund) -> Result<Reply, CommandError> {
    let refund_id = unit.next_id();
    refunds::request(unit, NewRefund { refund_id, ..new }).await?;
    unit.reply::<Refund>(201, refund_id, &refund_id)
}

async fn cancel(unit: &mut UnitOfWork, id: PaymentIntentId) -> Result<Reply, CommandError> {
    payments::cancel(unit, id, "changed my mind".to_owned()).await?;
    unit.reply::<PaymentIntent>(200, id, &id)
}

async fn capture(unit: &mut UnitOfWork, id: PaymentIntentId, amount: i64) -> Result<Reply, CommandError> {
    payment_cases::ask(unit, id, Command::Capture { amount: Some(Money::thb(amount)) }).await?;
    unit.reply::<PaymentIntent>(200, id, &id)
}

async fn decide(unit: &mut UnitOfWork, id: PaymentIntentId, transaction: String, decision: Decision) -> Result<Reply, CommandError> {
    payment_cases::resolve_unmatched(unit, id, &transaction, decision, "looked into".to_owned()).await?;
    unit.reply::<PaymentIntent>(200, id, &id)
}

async fn call_off(unit: &mut UnitOfWork, order: OrderId) -> Result<Reply, CommandError> {
    orders::change(unit, order, order::Command::Cancel { reason: "no".to_owned() }).await?;
    unit.reply::<Order>(200, order, &order)
}
