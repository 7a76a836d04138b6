//! A merchant with one store, and the steps of a sale.

use std::sync::{Arc, Mutex};

use commands::{
    bills,
    error::CommandError,
    handle::{Caller, CommandHandler, Reply, UnitOfWork},
    idempotency::{Answer, IdempotencyKey},
    orders::{self, NewLine, NewOrder},
    payments::{self, AttemptOptions, NewPayment, PayFor},
    tenants::{self, NewStore},
};
use domain::{
    bill::Bill,
    ids::{BillId, MerchantId, OrderId, PaymentIntentId, PspId, StoreId},
    merchant::{self, Merchant},
    money::Currency,
    order::{self, Order, OrderType},
    payment_intent::{Evidence, PaymentIntent, Tender},
    pricing::{TaxClass, TaxProfile},
    store::Store,
};
use futures_util::FutureExt;
use serde_json::Value;

/// One piece of something, taxed as usual.
pub fn new_line(item_code: &str, unit_price: i64) -> NewLine {
    NewLine {
        line_id: None,
        item_code: item_code.to_owned(),
        name: format!("Item {item_code}"),
        quantity_milli: 1000,
        unit_price,
        price_base_milli: 1_000,
        tax_class: TaxClass::Standard,
        discount: None,
    }
}

/// A registered merchant with an open store.
#[derive(Debug, Clone, Copy)]
pub struct Shop {
    /// The PSP.
    pub psp: PspId,
    /// The merchant: the tenant.
    pub merchant: MerchantId,
    /// Its store.
    pub store: StoreId,
}

impl Shop {
    /// Registers a merchant and opens its store, which sells in baht with the VAT in the prices.
    pub async fn open(handler: &CommandHandler) -> Self {
        let ids = handler.ids();
        let shop = Self { psp: PspId(ids.next()), merchant: MerchantId(ids.next()), store: StoreId(ids.next()) };
        let caller = shop.caller(handler);
        handler.transact(&caller, move |unit| shop.register(unit, "KOPI").boxed()).await.expect("the merchant is registered");
        handler.transact(&caller, move |unit| shop.open_store(unit).boxed()).await.expect("the store is opened");
        shop
    }

    /// The registration, for a unit whose tenant is this merchant.
    ///
    /// # Errors
    /// Those of the use case.
    pub async fn register(self, unit: &mut UnitOfWork, code: &'static str) -> Result<Reply, CommandError> {
        let details =
            merchant::Registered { merchant_id: self.merchant, psp_id: self.psp, code: code.to_owned(), name: "Kopi House".to_owned() };
        tenants::register_merchant(unit, details).await?;
        unit.reply::<Merchant>(201, self.merchant, &self.merchant)
    }

    async fn open_store(self, unit: &mut UnitOfWork) -> Result<Reply, CommandError> {
        let new = NewStore {
            store_id: self.store,
            code: "BKK-01".to_owned(),
            name: "Silom".to_owned(),
            currency: Currency::THB,
            tax_profile: TaxProfile::thai_vat_inclusive(),
            zone: "Asia/Bangkok".to_owned(),
            day_starts_at_minute: 240,
        };
        tenants::open_store(unit, new).await?;
        unit.reply::<Store>(201, self.store, &self.store)
    }

    /// A cashier of this merchant, as part of a new request.
    pub fn caller(&self, handler: &CommandHandler) -> Caller {
        Caller {
            tenant: self.merchant,
            actor: "user:cashier".to_owned(),
            device: None,
            operation: None,
            correlation_id: handler.ids().next(),
            idempotency: None,
            if_match: None,
        }
    }

    /// The same with an idempotency key for `operation` with this body.
    pub fn caller_with_key(&self, handler: &CommandHandler, key: &str, operation: &str, body: &Value) -> Caller {
        let key = IdempotencyKey::new(self.merchant.0, "user:cashier".to_owned(), key.to_owned(), operation, body);
        Caller { idempotency: Some(key), ..self.caller(handler) }
    }

    /// Opens an order with these items and prices in satang.
    pub async fn open_order(&self, handler: &CommandHandler, items: &[(&str, i64)]) -> OrderId {
        let order_id = OrderId(handler.ids().next());
        let new = NewOrder {
            order_id,
            store_id: self.store,
            order_type: OrderType::Takeaway,
            table_number: None,
            order_number: None,
            lines: items.iter().map(|(code, price)| new_line(code, *price)).collect(),
            opened_at: None,
        };
        handler.transact(&self.caller(handler), |unit| open(unit, new.clone()).boxed()).await.expect("the order is opened");
        order_id
    }

    /// Adds a line.
    ///
    /// # Errors
    /// Those of the use case.
    pub async fn add_line(&self, handler: &CommandHandler, caller: &Caller, order: OrderId, line: NewLine) -> Result<Answer, CommandError> {
        handler.transact(caller, |unit| add_line(unit, order, line.clone()).boxed()).await
    }

    /// Bills an order.
    ///
    /// # Errors
    /// Those of the use case.
    pub async fn bill(&self, handler: &CommandHandler, order: OrderId) -> Result<BillId, CommandError> {
        let bill_id = BillId(handler.ids().next());
        handler.transact(&self.caller(handler), |unit| bill(unit, order, bill_id).boxed()).await.map(|_| bill_id)
    }

    /// Changes an order in any other way.
    ///
    /// # Errors
    /// Those of the use case.
    pub async fn change(
        &self,
        handler: &CommandHandler,
        caller: &Caller,
        order: OrderId,
        command: order::Command,
    ) -> Result<Answer, CommandError> {
        handler.transact(caller, |unit| change(unit, order, command.clone()).boxed()).await
    }

    /// An order as the handler sees it, warm or loaded.
    pub async fn order_state(&self, handler: &CommandHandler, order: OrderId) -> order::State {
        let seen = Arc::new(Mutex::new(order::State::default()));
        handler.transact(&self.caller(handler), |unit| look(unit, order, seen.clone()).boxed()).await.expect("the order is read");
        seen.lock().expect("nobody panicked").clone()
    }

    /// Voids a bill.
    ///
    /// # Errors
    /// Those of the use case.
    pub async fn void_bill(&self, handler: &CommandHandler, bill: BillId) -> Result<Answer, CommandError> {
        handler.transact(&self.caller(handler), |unit| void(unit, bill).boxed()).await
    }

    /// Pays all that is due of a bill in cash.
    ///
    /// # Errors
    /// Those of the use case.
    pub async fn pay_cash(&self, handler: &CommandHandler, bill_id: BillId) -> Result<PaymentIntentId, CommandError> {
        let payment_intent_id = PaymentIntentId(handler.ids().next());
        let new = NewPayment {
            confirm: true,
            options: AttemptOptions::default(),
            payment_intent_id,
            pay_for: PayFor::Bill { bill_id, amount: None },
            tender: Tender::Cash,
            provider: String::new(),
            valid_for: chrono::Duration::minutes(15),
            cash_received: None,
            transaction_id: None,
            merchant_reference: None,
            description: None,
            merchant_terminal_id: None,
            paid_at: None,
            evidence: Evidence::Staff,
            tip: 0,
            acquirer: None,
        };
        handler.transact(&self.caller(handler), |unit| pay(unit, new.clone()).boxed()).await.map(|_| payment_intent_id)
    }
}

async fn open(unit: &mut UnitOfWork, new: NewOrder) -> Result<Reply, CommandError> {
    let id = new.order_id;
    let state = orders::open(unit, new).await?;
    unit.reply::<Order>(201, id, &state)
}

async fn add_line(unit: &mut UnitOfWork, order: OrderId, line: NewLine) -> Result<Reply, CommandError> {
    let state = orders::add_line(unit, order, line).await?;
    unit.reply::<Order>(200, order, &state)
}

async fn change(unit: &mut UnitOfWork, order: OrderId, command: order::Command) -> Result<Reply, CommandError> {
    let state = orders::change(unit, order, command).await?;
    unit.reply::<Order>(200, order, &state)
}

async fn look(unit: &mut UnitOfWork, order: OrderId, seen: Arc<Mutex<order::State>>) -> Result<Reply, CommandError> {
    let state = unit.state::<Order>(order).await?;
    *seen.lock().expect("nobody panicked") = (*state).clone();
    Ok(unit.done())
}

async fn void(unit: &mut UnitOfWork, bill: BillId) -> Result<Reply, CommandError> {
    let state = bills::void(unit, bill, "wrong table".to_owned()).await?;
    unit.reply::<Bill>(200, bill, &state)
}

async fn bill(unit: &mut UnitOfWork, order: OrderId, bill_id: BillId) -> Result<Reply, CommandError> {
    let state = bills::issue(unit, order, bill_id).await?;
    unit.reply::<Bill>(201, bill_id, &state)
}

async fn pay(unit: &mut UnitOfWork, new: NewPayment) -> Result<Reply, CommandError> {
    let id = new.payment_intent_id;
    let state = payments::start(unit, new).await?;
    unit.reply::<PaymentIntent>(201, id, &state)
}
