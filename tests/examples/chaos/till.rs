//! One till: it sells, shows QR codes, gives money back, repeats itself, and tries what it may not; all by the seed.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};
use support::PATIENCE;
use tokio::task::JoinSet;

use crate::{
    clients::{Counter, Outcome, Shop, text},
    dice::Dice,
};

/// Payments by QR under way at one till, while it goes on selling.
const ASIDE: usize = 24;

/// A sale whose payment was asked for.
pub struct Sold {
    name: String,
    payment: Value,
    by_qr: bool,
}

/// One cashier at one till.
#[derive(Clone)]
pub struct Till {
    pub counter: Counter,
    pub shop: Shop,
    pub dice: Dice,
    /// Begins every key of it.
    pub name: String,
}

impl Till {
    /// Sells until it is closing time; what is under way is finished.
    pub async fn work(mut self) -> Result<()> {
        let (mut n, mut aside) = (0, JoinSet::new());
        while !self.counter.closing.load(Ordering::Relaxed) {
            n += 1;
            if let Some(sold) = self.sell(&n.to_string(), None).await? {
                let mut till = Self { dice: self.dice.fork(n), ..self.clone() };
                aside.spawn(async move { till.follow(sold).await });
            }
            while aside.len() >= ASIDE {
                if let Some(done) = aside.join_next().await {
                    done??;
                }
            }
            let pause = Duration::from_millis(self.dice.between(10, 120));
            tokio::time::sleep(pause).await;
        }
        while let Some(done) = aside.join_next().await {
            done??;
        }
        Ok(())
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> Result<Outcome> {
        self.counter.post(&self.shop.merchant.to_string(), &self.shop.cashier, path, key, body).await
    }

    async fn get(&self, path: &str) -> Option<(u16, Value)> {
        let answer = self.counter.http.get(format!("{}{path}", self.counter.api)).bearer_auth(&self.shop.cashier).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// A refusal of what nothing speaks against.
    fn unexpected(&self, what: &str, refused: &Outcome) {
        if let Outcome::Refused(status, said) = refused {
            self.counter.measure.violated("I11", format!("{}: {what} was refused with {status}: {said}", self.name));
        }
    }

    /// A refusal that has to be.
    fn refused(&self, invariant: &str, what: &'static str, outcome: &Outcome, with: &[u16]) {
        if matches!(outcome, Outcome::Refused(status, _) if with.contains(status)) {
            self.counter.measure.saw(what);
        } else {
            self.counter.measure.violated(invariant, format!("{}: {what}: {outcome:?}", self.name));
        }
    }

    fn line(&self, satang: u64) -> Value {
        json!({"item_code": "LAT", "name": format!("Latte {}", self.shop.canary), "quantity_milli": 1000,
               "unit_price": {"amount": satang, "currency": "THB"}, "tax_class": "standard"})
    }

    /// An order, perhaps changed from two sides at once, its bill and its payment; by QR if told. Nothing where something was refused.
    pub async fn sell(&mut self, n: &str, by_qr: Option<bool>) -> Result<Option<Sold>> {
        let name = format!("{}-{n}", self.name);
        let price = self.dice.between(1, 400) * 25;
        let mut opening = json!({"store_id": self.shop.store, "order_type": "takeaway", "order_number": name, "lines": [self.line(price)]});
        let opened = self.post("/v1/orders", &format!("{name}-open"), &opening).await?;
        self.unexpected("an order", &opened);
        let Some((order, position)) = opened.done() else { return Ok(None) };
        let order = text(&order, "id");
        if self.dice.percent(30) {
            let path = format!("/v1/orders/{order}/lines");
            let (one, other) = (self.line(price), self.line(price + 25));
            let (first, second) = (format!("{name}-line1"), format!("{name}-line2"));
            let both = tokio::try_join!(self.post(&path, &first, &one), self.post(&path, &second, &other))?;
            self.unexpected("a line", &both.0);
            self.unexpected("a line", &both.1);
        }
        if self.dice.percent(20) {
            self.look(&order, position).await;
        }
        let billed = self.post("/v1/bills", &format!("{name}-bill"), &json!({"order_id": order})).await?;
        self.unexpected("a bill", &billed);
        let Some((bill, _)) = billed.done() else { return Ok(None) };
        self.repeat(&name, &mut opening).await?;
        if self.dice.percent(5) {
            self.try_what_may_not(&name).await?;
        }
        let by_qr = by_qr.unwrap_or_else(|| self.dice.percent(50));
        let paying = json!({"bill_id": text(&bill, "id"), "tender": if by_qr { "promptpay" } else { "cash" }});
        let paid = self.post("/v1/payments", &format!("{name}-pay"), &paying).await?;
        self.unexpected("a payment", &paid);
        Ok(paid.done().map(|(payment, _)| Sold { name, payment, by_qr }))
    }

    /// What follows a payment: its QR is paid, money is given back.
    pub async fn follow(&mut self, sold: Sold) -> Result<()> {
        let Sold { name, payment, by_qr } = sold;
        let succeeded = if by_qr { self.pay_by_qr(&name, &payment).await? } else { true };
        if succeeded && self.dice.percent(30) {
            self.give_back(&name, &payment).await?;
        }
        Ok(())
    }

    /// I2: the same again is answered with the very same, which the journal compares; something else under its key is refused.
    async fn repeat(&mut self, name: &str, opening: &mut Value) -> Result<()> {
        if self.dice.percent(15) {
            let again = self.post("/v1/orders", &format!("{name}-open"), opening).await?;
            self.unexpected("a repeat", &again);
            opening["order_number"] = json!("another");
            let other = self.post("/v1/orders", &format!("{name}-open"), opening).await?;
            self.refused("I2", "another body under a used key", &other, &[422]);
        }
        Ok(())
    }

    /// I11: a read that names a position sees what was written there.
    async fn look(&self, order: &str, position: i64) {
        match self.get(&format!("/v1/orders/{order}?min_pos={position}")).await {
            Some((200, _)) => self.counter.measure.saw("own write read at once"),
            Some((404, said)) => self.counter.measure.violated("I11", format!("{order} of {position} is not there at {position}: {said}")),
            _ => {}
        }
    }

    /// A card number is refused and stored nowhere; another merchant's order is not there.
    async fn try_what_may_not(&mut self, name: &str) -> Result<()> {
        let line = json!({"item_code": "LAT", "name": crate::verdict::CARD, "quantity_milli": 1000,
                          "unit_price": {"amount": 25, "currency": "THB"}, "tax_class": "standard"});
        let body = json!({"store_id": self.shop.store, "order_type": "takeaway", "lines": [line]});
        let card = self.post("/v1/orders", &format!("{name}-card"), &body).await?;
        self.refused("I10", "a card number", &card, &[422]);
        let Some(other) = self.counter.shops.iter().find(|shop| shop.merchant != self.shop.merchant) else { return Ok(()) };
        let body = json!({"store_id": other.store, "order_type": "takeaway", "lines": [self.line(25)]});
        let foreign = self.post("/v1/orders", &format!("{name}-foreign"), &body).await?;
        self.refused("I9", "an order in another merchant's store", &foreign, &[403, 404]);
        Ok(())
    }

    /// Shows the QR, has it paid once, and waits for the outcome; whether it was seen to succeed.
    async fn pay_by_qr(&mut self, name: &str, payment: &Value) -> Result<bool> {
        let intent = text(payment, "payment_intent_id");
        let path = format!("/v1/payment-intents/{intent}");
        let (mut paid, mut confirms) = (false, 0);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(100) {
            let shown = self.get(&path).await.filter(|(status, _)| *status == 200).map(|(_, shown)| shown).unwrap_or_default();
            match shown["status"].as_str().unwrap_or_default() {
                "succeeded" => return Ok(true),
                "requires_action" if !paid => {
                    if let Some(reference) = shown["reference"].as_str() {
                        self.payer_pays(reference).await;
                        paid = true;
                    }
                }
                // The text of the code was lost with its answer: another one.
                "requires_payment_method" if !paid => {
                    confirms += 1;
                    self.counter.measure.saw("another attempt after a lost code");
                    let key = format!("{name}-confirm{confirms}");
                    // Refused when the view was older than the payment.
                    self.post(&format!("{path}/confirm"), &key, &json!({})).await?;
                }
                "expired" | "failed" | "canceled" => return Ok(false),
                _ => {}
            }
            // Whether it succeeded is told in a moment, or later to the verdict.
            if paid && (started.elapsed() > Duration::from_secs(20) || !self.dice.percent(70)) {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(80)).await;
        }
        self.counter.measure.saw("a payment without a code after 100 s");
        Ok(false)
    }

    /// The payer's bank app: pays once, asks its own books whether it did when it was not answered.
    async fn payer_pays(&mut self, reference: &str) {
        let webhook = match self.dice.below(10) {
            0 => json!("never"),
            1..=2 => json!({"copies": 3, "delays_ms": [0, 100, 900], "retry_ms": 700}),
            3 => json!({"copies": 2, "delays_ms": [2_500, 1_500], "retry_ms": 700}),
            _ => json!({"retry_ms": 700}),
        };
        let body = json!({"reference": reference, "webhook": webhook});
        // For a minute of refusals, and longer where the bank says nothing.
        for _ in 0..400 {
            let sent = self.counter.http.post(format!("{}/sim/pay", self.counter.bank)).json(&body).send().await;
            if sent.is_ok_and(|answer| answer.status().is_success()) || self.has_paid(reference).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }

    async fn has_paid(&self, reference: &str) -> bool {
        let Ok(answer) = self.counter.http.get(format!("{}/sim/ledger", self.counter.bank)).send().await else { return false };
        let ledger: Value = answer.json().await.unwrap_or_default();
        ledger["payments"].as_array().is_some_and(|payments| payments.iter().any(|payment| payment["reference"] == reference))
    }

    /// All of it by two people at once: one of them is refused.
    async fn give_back(&mut self, name: &str, payment: &Value) -> Result<()> {
        let body = json!({"payment_id": text(payment, "id"), "reason": "cold"});
        let tenant = self.shop.merchant.to_string();
        let twins = if self.dice.percent(40) { 2 } else { 1 };
        let asked = (0..twins).map(|twin| {
            let (key, body, tenant) = (format!("{name}-refund{twin}"), &body, &tenant);
            let (counter, shop) = (&self.counter, &self.shop);
            async move { counter.post(tenant, &shop.manager, "/v1/refunds", &key, body).await }
        });
        let mut taken = Vec::new();
        for outcome in futures_util::future::join_all(asked).await {
            match outcome? {
                Outcome::Done(refund, _) => taken.push(text(&refund, "id")),
                Outcome::Refused(409 | 422, _) if twins == 2 => self.counter.measure.saw("one of two refunds refused"),
                refused @ Outcome::Refused(..) => self.unexpected("a refund", &refused),
            }
        }
        if taken.len() > 1 && !self.one_failed(&taken).await {
            self.counter.measure.violated("I6", format!("{name}: all of it was given back {} times", taken.len()));
        }
        Ok(())
    }

    /// Another refund of everything is right once the provider refused the first (a token that it will not renew, say). One that is
    /// not there was taken back by a restore.
    async fn one_failed(&self, refunds: &[String]) -> bool {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            for id in refunds {
                if let Some((status, refund)) = self.get(&format!("/v1/refunds/{id}")).await
                    && (status == 404 || refund["status"] == "failed")
                {
                    return true;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }
}
