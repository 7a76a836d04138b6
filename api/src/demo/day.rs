//! A trading day: several stores, dine-in and takeaway, cash and PromptPay QR, cancellations and refunds.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, stream};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    client::{Client, text},
    dice::Dice,
};

/// Item code, name, price in satang.
const MENU: &[(&str, &str, i64)] = &[
    ("ESP", "Espresso", 60_00),
    ("LAT", "Latte", 85_00),
    ("MTC", "Matcha latte", 95_00),
    ("CRO", "Croissant", 75_00),
    ("PAD", "Pad thai", 120_00),
    ("TYG", "Tom yum goong", 189_50),
    ("MSR", "Mango sticky rice", 99_25),
    ("WAT", "Water", 15_00),
];

/// How long anything may take. A refund whose first call had no answer is looked for in the bank's books for two minutes.
const PATIENCE: Duration = Duration::from_secs(200);

/// A store as the day needs it.
#[derive(Clone)]
pub struct Shop {
    /// Its id.
    pub store_id: String,
    /// A caller with the role of its staff.
    pub staff: Client,
    /// A caller who may refund.
    pub manager: Client,
}

/// The payer's side: the provider's simulator.
#[derive(Clone)]
pub struct Payer {
    /// Plain HTTP.
    pub http: reqwest::Client,
    /// Where the simulator listens.
    pub base: String,
}

/// What became of a day, as the terminals saw it.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Orders opened, completed, cancelled.
    pub orders: [u64; 3],
    /// Bills voided and made anew.
    pub voided_bills: u64,
    /// Refunds asked for, carried out, refused by the provider.
    pub refunds: [u64; 3],
    /// Call-backs on time, late, twice, never.
    pub callbacks: [u64; 4],
}

impl Tally {
    fn add(&mut self, other: &Self) {
        let sum = |a: &mut [u64], b: &[u64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        sum(&mut self.orders, &other.orders);
        sum(&mut self.refunds, &other.refunds);
        sum(&mut self.callbacks, &other.callbacks);
        self.voided_bills += other.voided_bills;
    }
}

/// Plays `orders` orders over the shops with `terminals` of them at a time.
///
/// # Errors
/// The first thing that did not go as a terminal expects.
pub async fn play(shops: Arc<Vec<Shop>>, payer: Payer, orders: u64, terminals: usize, seed: u64) -> Result<Tally> {
    let bars = MultiProgress::new();
    let style = ProgressStyle::with_template("{msg:12} [{bar:40}] {pos}/{len}  {eta} left")?.progress_chars("=> ");
    let bar = bars.add(ProgressBar::new(orders).with_style(style).with_message("Trading day"));
    bar.enable_steady_tick(Duration::from_millis(200));
    let tallies: Vec<Result<Tally>> = stream::iter(0..orders)
        .map(|n| {
            let (shops, payer, bar) = (shops.clone(), payer.clone(), bar.clone());
            async move {
                let mut dice = Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(n));
                let shop = dice.pick(&shops).clone();
                let done = guest(&shop, &payer, &mut dice).await.with_context(|| format!("order {n}"));
                bar.inc(1);
                done
            }
        })
        .buffer_unordered(terminals)
        .collect()
        .await;
    bar.finish();
    let mut tally = Tally::default();
    for one in tallies {
        tally.add(&one?);
    }
    Ok(tally)
}

/// One guest from order to goodbye.
async fn guest(shop: &Shop, payer: &Payer, dice: &mut Dice) -> Result<Tally> {
    let mut tally = Tally { orders: [1, 0, 0], ..Tally::default() };
    let order = open_order(shop, dice).await?;
    let order_id = text(&order, "id")?.to_owned();
    if dice.chance(4) {
        shop.staff.post("cancel order", &format!("/v1/orders/{order_id}/cancel"), &json!({"reason": "guest left"})).await?;
        tally.orders[2] = 1;
        return Ok(tally);
    }
    if dice.chance(15) {
        let discount = json!({"discount": {"kind": "percent", "basis_points": 1000}, "reason": "member"});
        shop.staff.call("discount", reqwest::Method::PUT, &format!("/v1/orders/{order_id}/discount"), Some(&discount)).await?;
    }
    let mut bill = make_bill(shop, &order_id).await?;
    if dice.chance(3) {
        let path = format!("/v1/bills/{}/void", text(&bill, "id")?);
        shop.staff.post("void bill", &path, &json!({"reason": "forgot the water"})).await?;
        add_line(shop, &order_id, dice).await?;
        bill = make_bill(shop, &order_id).await?;
        tally.voided_bills = 1;
    }
    let payments = settle(shop, payer, dice, &bill, &mut tally).await?;
    tally.orders[1] = 1;
    if dice.chance(8) {
        let payment = dice.pick(&payments).clone();
        refund(shop, dice, &payment, &mut tally).await?;
    }
    Ok(tally)
}

fn line(dice: &mut Dice) -> Value {
    let (code, name, price) = dice.pick(MENU);
    let quantity = 1000 * (1 + dice.below(3));
    json!({"item_code": code, "name": name, "quantity_milli": quantity, "unit_price": {"amount": price, "currency": "THB"}, "tax_class": "standard"})
}

async fn open_order(shop: &Shop, dice: &mut Dice) -> Result<Value> {
    let lines: Vec<Value> = (0..=dice.below(4)).map(|_| line(dice)).collect();
    let dine_in = dice.chance(60);
    let table = dine_in.then(|| format!("T{}", 1 + dice.below(30)));
    let body = json!({
        "store_id": shop.store_id,
        "order_type": if dine_in { "dine_in" } else { "takeaway" },
        "table_number": table,
        "lines": lines,
    });
    shop.staff.post("open order", "/v1/orders", &body).await
}

async fn add_line(shop: &Shop, order_id: &str, dice: &mut Dice) -> Result<Value> {
    shop.staff.post("add line", &format!("/v1/orders/{order_id}/lines"), &line(dice)).await
}

async fn make_bill(shop: &Shop, order_id: &str) -> Result<Value> {
    shop.staff.post("make bill", "/v1/bills", &json!({"order_id": order_id})).await
}

fn amount_of(body: &Value, field: &str) -> Result<i64> {
    body.get(field).and_then(|money| money.get("amount")).and_then(Value::as_i64).with_context(|| format!("no '{field}' in {body}"))
}

/// Pays a bill in one or two tenders; returns the payments.
async fn settle(shop: &Shop, payer: &Payer, dice: &mut Dice, bill: &Value, tally: &mut Tally) -> Result<Vec<Value>> {
    let bill_id = text(bill, "id")?;
    let total = amount_of(&bill["totals"], "total")?;
    let mut payments = Vec::new();
    if dice.chance(10) && total > 1_000 {
        let part = json!({"bill_id": bill_id, "tender": "cash", "amount": {"amount": total / 2, "currency": "THB"}});
        payments.push(shop.staff.post("pay cash", "/v1/payments", &part).await?);
    }
    let by_phone = dice.chance(50);
    if by_phone && let Some(payment) = pay_by_qr(shop, payer, dice, bill_id, tally).await? {
        payments.push(payment);
        return Ok(payments);
    }
    // Without a phone, or given up on it: cash.
    let cash = json!({"bill_id": bill_id, "tender": "cash", "cash_received": {"amount": (total / 100_00 + 1) * 100_00, "currency": "THB"}});
    payments.push(shop.staff.post("pay cash", "/v1/payments", &cash).await?);
    Ok(payments)
}

/// Shows a QR and waits until the platform knows that it was paid; nothing when the guest cancelled.
async fn pay_by_qr(shop: &Shop, payer: &Payer, dice: &mut Dice, bill_id: &str, tally: &mut Tally) -> Result<Option<Value>> {
    let started = shop.staff.post("start QR", "/v1/payments", &json!({"bill_id": bill_id, "tender": "promptpay"})).await?;
    let path = format!("/v1/payment-intents/{}", text(&started, "payment_intent_id")?);
    let payment_path = format!("/v1/payments/{}", text(&started, "id")?);
    let intent = wait_until(shop, "read intent", &path, |intent| intent["next_action"]["qr_payload"].is_string()).await?;
    if dice.chance(6) {
        shop.staff.post("cancel QR", &format!("{path}/cancel"), &json!({"reason": "guest changed their mind"})).await?;
        let ended =
            wait_until(shop, "read intent", &path, |intent| intent["status"] == "canceled" || intent["status"] == "succeeded").await?;
        wait_until_released(shop, bill_id).await?;
        if ended["status"] == "canceled" {
            return Ok(None);
        }
    }
    pay(payer, dice, text(&intent["next_action"], "qr_payload")?, tally).await?;
    let payment = wait_until(shop, "read payment", &payment_path, |payment| payment["status"] == "completed").await?;
    Ok(Some(payment))
}

/// After a cancelled QR the bill frees what it held a moment later.
async fn wait_until_released(shop: &Shop, bill_id: &str) -> Result<()> {
    let free = |bill: &Value| bill["due"]["amount"].as_i64().is_some_and(|due| due > 0);
    wait_until(shop, "read bill", &format!("/v1/bills/{bill_id}"), free).await.map(drop)
}

async fn wait_until(shop: &Shop, name: &'static str, path: &str, good: impl Fn(&Value) -> bool) -> Result<Value> {
    let until = Instant::now() + PATIENCE;
    for n in 0_u64.. {
        let asked_at = Instant::now();
        let answered = shop.staff.call(name, reqwest::Method::GET, path, None).await?;
        if answered.status.is_success() && good(&answered.body) {
            return Ok(answered.body);
        }
        if asked_at >= until {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20 + n.min(80))).await;
    }
    bail!("{path} did not get there in time")
}

/// The guest's bank app pays; the provider calls back on time, late, twice or never.
async fn pay(payer: &Payer, dice: &mut Dice, qr_payload: &str, tally: &mut Tally) -> Result<()> {
    let qr = gateway::promptpay::ParsedQr::parse(qr_payload).map_err(|error| anyhow::anyhow!("the QR cannot be read: {error}"))?;
    let gateway::promptpay::Target::Bill { reference1: reference, .. } = qr.target else { bail!("the QR is not a bill payment") };
    let (kind, webhook) = match dice.below(10) {
        0 | 1 => (1, json!({"delays_ms": [500 + dice.below(1_500)]})),
        2 | 3 => (2, json!({"copies": 2, "delays_ms": [dice.below(300), dice.below(300)]})),
        4 => (3, json!("never")),
        _ => (0, json!({"delays_ms": [dice.below(100)]})),
    };
    tally.callbacks[kind] += 1;
    let body = json!({"reference": reference, "webhook": webhook});
    let paid = payer.http.post(format!("{}/sim/pay", payer.base)).json(&body).send().await?;
    if !paid.status().is_success() {
        bail!("the simulated bank refused: {}", paid.text().await?);
    }
    Ok(())
}

async fn refund(shop: &Shop, dice: &mut Dice, payment: &Value, tally: &mut Tally) -> Result<()> {
    let captured = amount_of(payment, "amount")?;
    let by_qr = payment["tender"] == "promptpay";
    let part = dice.chance(50) && captured > 1_000;
    let amount = if part { captured / 3 } else { captured };
    let payment_id = text(payment, "id")?;
    let ask = |destination: &str| json!({"payment_id": payment_id, "amount": {"amount": amount, "currency": "THB"}, "destination": destination, "reason": "complaint"});
    tally.refunds[0] += 1;
    let refund = shop.manager.post("refund", "/v1/refunds", &ask("original")).await?;
    let path = format!("/v1/refunds/{}", text(&refund, "id")?);
    let ended = wait_until(shop, "read refund", &path, |refund| refund["status"] != "pending").await?;
    if ended["status"] == "succeeded" {
        tally.refunds[1] += 1;
        return Ok(());
    }
    // The bank sends back whole payments only; the rest of the way is the drawer, once the payment's reserve is free.
    tally.refunds[2] += 1;
    if !by_qr {
        bail!("a cash refund failed: {ended}");
    }
    for _ in 0..100 {
        let answered = shop.manager.call("refund", reqwest::Method::POST, "/v1/refunds", Some(&ask("cash"))).await?;
        if answered.status.is_success() {
            tally.refunds[0] += 1;
            tally.refunds[1] += 1;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the refused refund of {payment_id} could not be given back in cash")
}
