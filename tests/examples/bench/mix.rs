//! The published peak mix, request by request: 40 % orders, 20 % bills, 15 % payment intents for a bill, 15 % confirms of an intent
//! by QR, 10 % reads of a bill. What a request needs (an order to bill, a bill to pay) was made by an earlier one. No share of it is
//! cash. Tokens of devices, published on top at a tenth of the rate, are not asked for: the platform has no route for them.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{client::Answer, peak_payers::Payers, server::Shop, sockets::micros};

/// Ids kept for later requests, of each kind.
const KEPT: usize = 20_000;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    /// Orders with two lines, nothing else.
    Orders,
    /// The published mix.
    Peak,
    /// Signed call-backs of a provider, each a new one, about payments that nobody knows.
    CallBacks,
}

/// What one request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `POST /v1/orders`
    Order,
    /// `POST /v1/bills`
    Bill,
    /// `POST /v1/payment-intents`, of a bill.
    Intent,
    /// `POST /v1/payment-intents/{id}/confirm`: the provider is called, the payer pays, the bill is paid, the order completed.
    Confirm,
    /// `GET /v1/bills/{id}`, as fresh as the command that made it.
    Read,
    /// `POST /webhooks/stripe/accounts/{id}`
    CallBack,
}

/// A thing made by an earlier request.
#[derive(Debug, Clone)]
struct Made {
    shop: usize,
    id: String,
    position: String,
}

/// Things by what can be done with them next.
#[derive(Debug, Default)]
struct Pools {
    orders: VecDeque<Made>,
    bills: VecDeque<Made>,
    intents: VecDeque<Made>,
    readable: VecDeque<Made>,
}

/// Makes requests and learns from answers; shared by all connections.
pub struct Traffic {
    mix: Mix,
    shops: Vec<Shop>,
    run: String,
    pools: Mutex<Pools>,
    /// Who pays what is confirmed.
    pub payers: Option<Payers>,
}

/// A request on its way.
pub struct Pending {
    /// What it does.
    pub operation: Operation,
    shop: usize,
    /// The intent that it confirms.
    intent: Option<String>,
}

impl Traffic {
    /// `run` keeps idempotency keys of different runs apart.
    pub fn new(mix: Mix, shops: Vec<Shop>, run: String, payers: Option<Payers>) -> Self {
        Self { mix, shops, run, pools: Mutex::default(), payers }
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes request number `n` into `request`.
    pub fn write(&self, n: u64, request: &mut Vec<u8>) -> Pending {
        let wanted = match (self.mix, n.wrapping_mul(37) % 100) {
            (Mix::Orders, _) | (Mix::Peak, 0..40) => Operation::Order,
            (Mix::Peak, 40..60) => Operation::Bill,
            (Mix::Peak, 60..75) => Operation::Intent,
            (Mix::Peak, 75..90) => Operation::Confirm,
            (Mix::Peak, _) => Operation::Read,
            (Mix::CallBacks, _) => Operation::CallBack,
        };
        let needed = match wanted {
            Operation::Order | Operation::CallBack => None,
            Operation::Bill => self.pools().orders.pop_front(),
            Operation::Intent => self.pools().bills.pop_front(),
            Operation::Confirm => self.pools().intents.pop_front(),
            Operation::Read => self.pools().readable.pop_front(),
        };
        // At the start there is nothing to bill, pay or read yet.
        let operation = if needed.is_none() && wanted != Operation::CallBack { Operation::Order } else { wanted };
        let shop = needed.as_ref().map_or_else(|| usize::try_from(n).unwrap_or(0) % self.shops.len(), |made| made.shop);
        self.render(n, operation, shop, needed.as_ref(), request);
        let mut intent = None;
        match (operation, needed) {
            (Operation::Read, Some(made)) => keep(&mut self.pools().readable, made),
            (Operation::Confirm, Some(made)) => {
                if let Some(payers) = &self.payers {
                    payers.expect(&made.id);
                }
                intent = Some(made.id);
            }
            _ => {}
        }
        Pending { operation, shop, intent }
    }

    fn render(&self, n: u64, operation: Operation, shop: usize, needed: Option<&Made>, request: &mut Vec<u8>) {
        let Shop { store, token, account, .. } = &self.shops[shop];
        let id = needed.map_or("", |made| made.id.as_str());
        let (line, body) = match operation {
            Operation::Order => ("POST /v1/orders".to_owned(), order(store, n)),
            Operation::Bill => ("POST /v1/bills".to_owned(), format!(r#"{{"order_id":"{id}"}}"#)),
            Operation::Intent => {
                let body = format!(r#"{{"bill_id":"{id}","tender":"promptpay","confirm":false}}"#);
                ("POST /v1/payment-intents".to_owned(), body)
            }
            Operation::Confirm => (format!("POST /v1/payment-intents/{id}/confirm"), "{}".to_owned()),
            Operation::Read => (format!("GET /v1/bills/{id}"), String::new()),
            Operation::CallBack => {
                let path = account.as_ref().map_or("", |account| account.path.as_str());
                (format!("POST {path}"), call_back(&self.run, n))
            }
        };
        let (run, length) = (&self.run, body.len());
        let rest = match (operation, account) {
            (Operation::Read, _) => {
                let position = needed.map_or("0", |made| made.position.as_str());
                format!("Authorization: Bearer {token}\r\nSmartpos-Min-Position: {position}")
            }
            (Operation::CallBack, Some(account)) => {
                let seal = seal(&account.secret, &body);
                format!("Stripe-Signature: {seal}\r\nContent-Type: application/json\r\nContent-Length: {length}")
            }
            _ => format!(
                "Authorization: Bearer {token}\r\nIdempotency-Key: {run}-{n}\r\nContent-Type: application/json\r\nContent-Length: {length}"
            ),
        };
        let head = format!("{line} HTTP/1.1\r\nHost: bench\r\n{rest}\r\n\r\n");
        request.clear();
        request.extend_from_slice(head.as_bytes());
        request.extend_from_slice(body.as_bytes());
    }

    /// Remembers what a request made.
    pub fn learn(&self, pending: &Pending, answer: &Answer<'_>) {
        if let (Some(intent), Some(payers)) = (&pending.intent, &self.payers) {
            if answer.status == 200 { payers.confirmed() } else { payers.forget(intent) }
        }
        let (Some(id), Some(position), Mix::Peak) = (answer.id, answer.position, self.mix) else { return };
        let made = Made { shop: pending.shop, id: id.to_owned(), position: position.to_owned() };
        let mut pools = self.pools();
        match pending.operation {
            Operation::Order => keep(&mut pools.orders, made),
            Operation::Bill => {
                keep(&mut pools.readable, made.clone());
                keep(&mut pools.bills, made);
            }
            Operation::Intent => keep(&mut pools.intents, made),
            Operation::Confirm | Operation::Read | Operation::CallBack => {}
        }
    }

    /// A request whose answer was lost.
    pub fn lost(&self, pending: &Pending) {
        if let (Some(intent), Some(payers)) = (&pending.intent, &self.payers) {
            payers.forget(intent);
        }
    }
}

fn keep(pool: &mut VecDeque<Made>, made: Made) {
    pool.push_back(made);
    if pool.len() > KEPT {
        pool.pop_front();
    }
}

/// An order with two lines.
fn order(store: &str, n: u64) -> String {
    let line = |code: &str, name: &str, price: u64| {
        format!(
            r#"{{"item_code":"{code}","name":"{name}","quantity_milli":1000,"unit_price":{{"amount":{price},"currency":"THB"}},"tax_class":"standard"}}"#
        )
    };
    let lines = [line("LAT", "Latte", 8_500 + n % 500), line("CRO", "Croissant", 7_500)].join(",");
    format!(r#"{{"store_id":"{store}","order_type":"takeaway","lines":[{lines}]}}"#)
}

/// An event of a payment, of about the size of a real one.
fn call_back(run: &str, n: u64) -> String {
    // A provider's ids have no hyphens.
    let (run, reference, words) = (run.replace('-', "_"), format!("BENCH{n:015}"), "latte and croissant; ".repeat(50));
    let object = format!(
        r#"{{"id":"pi_{run}_{n}","object":"payment_intent","amount":10700,"currency":"thb","description":"{words}","metadata":{{"reference":"{reference}"}}}}"#
    );
    format!(r#"{{"id":"evt_{run}_{n}","object":"event","type":"payment_intent.succeeded","data":{{"object":{object}}}}}"#)
}

/// The provider's signature of this moment.
fn seal(secret: &str, body: &str) -> String {
    let at = micros() / 1_000_000;
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map(|mac| mac.chain_update(format!("{at}.{body}")));
    format!("t={at},v1={}", mac.map(|mac| hex::encode(mac.finalize().into_bytes())).unwrap_or_default())
}
