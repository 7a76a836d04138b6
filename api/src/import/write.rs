//! One order as one command: order, bill and payment together or not at all, under the key that makes a repeat harmless.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use commands::{
    bills,
    error::CommandError,
    handle::{Caller, CommandHandler, Reply, UnitOfWork},
    idempotency::{Answer, IdempotencyKey},
    ledger_adjustments::{self, NewLedgerAdjustment},
    orders::{self, NewLine, NewOrder},
    payments::{self, AttemptOptions, NewPayment, PayFor},
    refunds::{self, NewRefund, UnlinkedRefund},
    tenants::NewStore,
};
use domain::{
    bill::Bill,
    ids::StoreId,
    ledger_adjustment::LedgerAdjustment,
    order::{Command, Order},
    payment_intent::{Evidence, PaymentIntent},
    refund::Refund,
    rejection::{Rejected, RejectionClass},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::{
    bind::Planner,
    error::ImportError,
    retry::retrying,
    sale::{LedgerUnit, RefundLink, RefundUnit, SaleUnit},
    setup,
    value::shown,
};

/// Longest order key that is an idempotency key as it is.
const LONGEST_KEY: usize = 255;

/// What became of one order.
#[derive(Debug)]
pub(super) enum Written {
    /// It is new in the log.
    Added,
    /// An earlier run wrote it.
    AlreadyThere,
    /// A rule forbids it, or an earlier run wrote it with other content.
    Refused(String),
}

/// Why nothing more can be written.
#[derive(Debug)]
pub(super) enum Halt {
    /// The log does not take it.
    Command(CommandError),
    /// The store cannot be set up.
    Setup(ImportError),
}

/// Writes units of sale for one mapping.
pub(super) struct Writer {
    handler: CommandHandler,
    caller: Caller,
    scope: String,
    stores: Mutex<HashMap<StoreId, Arc<OnceCell<()>>>>,
}

impl Writer {
    /// A writer; the merchant is registered if it is not there.
    ///
    /// # Errors
    /// `Setup`, `Differs`.
    pub async fn start(handler: CommandHandler, planner: &Planner) -> Result<Self, ImportError> {
        let mapping = planner.mapping();
        let caller = setup::caller(mapping, planner.merchant_id, handler.ids().next());
        setup::ensure_merchant(&handler, &caller, &setup::merchant_details(mapping)).await?;
        let scope = format!("import|{}", mapping.source);
        Ok(Self { handler, caller, scope, stores: Mutex::default() })
    }

    /// Writes one order, after its store.
    ///
    /// # Errors
    /// `Halt` when the log does not take it whatever is tried.
    pub async fn write(&self, sale: &SaleUnit) -> Result<Written, Halt> {
        if let Some(refused) = self.store(&sale.store).await? {
            return Ok(refused);
        }
        let caller = self.caller_for(&sale.key, "import order", sale)?;
        let answer: Result<Answer, CommandError> = retrying(|| {
            self.handler.transact(&caller, move |unit| {
                let sale = sale.clone();
                Box::pin(async move { write_unit(unit, sale).await })
            })
        })
        .await;
        written(answer)
    }

    /// Writes one refund; its sale must be stored, or it is refused.
    ///
    /// # Errors
    /// `Halt` when the log does not take it whatever is tried.
    pub async fn give_back(&self, refund: &RefundUnit) -> Result<Written, Halt> {
        if let Some(refused) = self.store(&refund.store).await? {
            return Ok(refused);
        }
        let caller = self.caller_for(&refund.key, "import refund", refund)?;
        let answer: Result<Answer, CommandError> = retrying(|| {
            self.handler.transact(&caller, move |unit| {
                let refund = refund.clone();
                Box::pin(async move { refund_unit(unit, refund).await })
            })
        })
        .await;
        written(answer)
    }

    /// Puts an amount on the books.
    ///
    /// # Errors
    /// `Halt` when the log does not take it whatever is tried.
    pub async fn adjust(&self, ledger: &LedgerUnit) -> Result<Written, Halt> {
        if let Some(refused) = self.store(&ledger.store).await? {
            return Ok(refused);
        }
        let caller = self.caller_for(&ledger.key, "import ledger adjustment", ledger)?;
        let answer: Result<Answer, CommandError> = retrying(|| {
            self.handler.transact(&caller, move |unit| {
                let ledger = ledger.clone();
                Box::pin(async move { ledger_unit(unit, ledger).await })
            })
        })
        .await;
        written(answer)
    }

    /// The importer with the idempotency key of one order or refund.
    fn caller_for(&self, key: &str, operation: &str, meaning: &impl Serialize) -> Result<Caller, Halt> {
        let body = serde_json::to_value(meaning).map_err(|error| Halt::Command(CommandError::Fault(error.to_string())))?;
        let key = IdempotencyKey::new(self.caller.tenant.0, self.scope.clone(), key_of(key), operation, &body);
        Ok(Caller { idempotency: Some(key), ..self.caller.clone() })
    }

    /// Makes sure that a store is open; asks the log once per store and run. A store that a rule forbids refuses what is
    /// sold there; the rest of the file goes on.
    async fn store(&self, store: &NewStore) -> Result<Option<Written>, Halt> {
        let ready = self.stores.lock().unwrap_or_else(PoisonError::into_inner).entry(store.store_id).or_default().clone();
        match ready.get_or_try_init(|| setup::ensure_store(&self.handler, &self.caller, store)).await {
            Ok(()) => Ok(None),
            Err(ImportError::Setup { what, error: CommandError::Rejected(rejected) }) => {
                Ok(Some(Written::Refused(format!("{}: {what} cannot be opened: {rejected}", rejected.code))))
            }
            Err(error) => Err(Halt::Setup(error)),
        }
    }
}

fn written(answer: Result<Answer, CommandError>) -> Result<Written, Halt> {
    match answer {
        Ok(answer) if answer.replayed => Ok(Written::AlreadyThere),
        Ok(_) => Ok(Written::Added),
        Err(CommandError::Rejected(rejected)) => Ok(Written::Refused(format!("{}: {rejected}", rejected.code))),
        Err(CommandError::KeyReused { field }) => {
            Ok(Written::Refused(format!("conflict: an earlier run imported this key with another {field}; the log keeps what it has")))
        }
        Err(error) => Err(Halt::Command(error)),
    }
}

/// The order key as an idempotency key: printable ASCII of bounded length, otherwise its hash.
fn key_of(key: &str) -> String {
    let plain = key.len() <= LONGEST_KEY && key.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && !key.starts_with("sha256:");
    if plain { key.to_owned() } else { format!("sha256:{}", hex::encode(Sha256::digest(key.as_bytes()))) }
}

async fn write_unit(unit: &mut UnitOfWork, sale: SaleUnit) -> Result<Reply, CommandError> {
    unit.expect_new::<Order>(sale.order_id);
    unit.expect_new::<Bill>(sale.bill_id);
    let lines = sale.lines.into_iter().map(|line| NewLine {
        line_id: Some(line.line_id),
        item_code: line.item_code,
        name: line.name,
        quantity_milli: line.quantity_milli,
        unit_price: line.unit_price,
        price_base_milli: line.price_base_milli,
        tax_class: line.tax_class,
        discount: None,
    });
    let order = NewOrder {
        order_id: sale.order_id,
        store_id: sale.store_id,
        order_type: sale.order_type,
        table_number: None,
        order_number: sale.order_number,
        lines: lines.collect(),
        opened_at: Some(sale.opened_at),
    };
    orders::open(unit, order).await?;
    for adjustment in sale.adjustments {
        orders::change(unit, sale.order_id, Command::Adjust { amount: adjustment.amount, reason: adjustment.reason }).await?;
    }
    let bill = bills::issue_at(unit, sale.order_id, sale.bill_id, sale.issued_at).await?;
    // A bill over nothing is paid as it is issued.
    bills::complete_orders(unit, sale.bill_id, &bill).await?;
    if let Some(reason) = sale.write_off {
        bills::write_off(unit, sale.bill_id, reason).await?;
    }
    let mut payment_intent_id = None;
    if let Some(payment) = sale.payment {
        payment_intent_id = Some(payment.payment_intent_id);
        unit.expect_new::<PaymentIntent>(payment.payment_intent_id);
        let new = NewPayment {
            confirm: true,
            options: AttemptOptions::default(),
            payment_intent_id: payment.payment_intent_id,
            pay_for: PayFor::Bill { bill_id: sale.bill_id, amount: Some(payment.amount) },
            tender: payment.tender,
            provider: String::new(),
            valid_for: chrono::Duration::zero(),
            cash_received: None,
            transaction_id: payment.transaction_id,
            merchant_reference: payment.merchant_reference,
            description: None,
            merchant_terminal_id: None,
            paid_at: Some(payment.paid_at),
            evidence: Evidence::Import,
            tip: payment.tip,
            acquirer: payment.acquirer,
        };
        payments::start(unit, new).await?;
        if let Some(reason) = payment.dispute {
            payments::dispute(unit, payment.payment_intent_id, None, reason, payment.paid_at).await?;
        }
    }
    let body = serde_json::json!({
        "order_id": sale.order_id,
        "bill_id": sale.bill_id,
        "payment_intent_id": payment_intent_id,
    });
    unit.reply::<Order>(201, sale.order_id, &body)
}

async fn refund_unit(unit: &mut UnitOfWork, refund: RefundUnit) -> Result<Reply, CommandError> {
    unit.expect_new::<Refund>(refund.refund_id);
    let (refund_id, link) = (refund.refund_id, refund.link.clone());
    let payment_intent_id = link.as_ref().map(|link| link.payment_intent_id);
    if let Some(link) = link {
        linked_refund(unit, refund, link).await?;
    } else {
        let new = UnlinkedRefund {
            refund_id,
            store_id: refund.store_id,
            amount: refund.amount,
            tender: refund.tender,
            acquirer: refund.acquirer,
            reason: refund.reason,
            given_at: refund.given_at,
            breakdown: Some(refund.breakdown),
        };
        refunds::record_unlinked(unit, new).await?;
    }
    let body = serde_json::json!({ "refund_id": refund_id, "payment_intent_id": payment_intent_id });
    unit.reply::<Refund>(201, refund_id, &body)
}

async fn linked_refund(unit: &mut UnitOfWork, refund: RefundUnit, link: RefundLink) -> Result<(), CommandError> {
    let refused = |code, class, message| Err(CommandError::Rejected(Rejected { code, class, message }));
    let payment = unit.state::<PaymentIntent>(link.payment_intent_id).await?;
    match &payment.details {
        None => {
            let message = format!("the payment of order '{}' is not in the log; was the order rejected?", shown(&link.of));
            return refused("SaleNotImported", RejectionClass::Missing, message);
        }
        Some(details) if details.tender != refund.tender => {
            let message = format!("order '{}' was imported with another tender", shown(&link.of));
            return refused("SaleDiffers", RejectionClass::State, message);
        }
        Some(_) => {}
    }
    let new = NewRefund {
        refund_id: refund.refund_id,
        payment_intent_id: link.payment_intent_id,
        amount: Some(refund.amount),
        destination: link.destination,
        reason: refund.reason,
        given_at: Some(refund.given_at),
        breakdown: Some(refund.breakdown),
        fallback_of: None,
    };
    refunds::request(unit, new).await.map(drop)
}

async fn ledger_unit(unit: &mut UnitOfWork, ledger: LedgerUnit) -> Result<Reply, CommandError> {
    unit.expect_new::<LedgerAdjustment>(ledger.ledger_adjustment_id);
    let new = NewLedgerAdjustment {
        ledger_adjustment_id: ledger.ledger_adjustment_id,
        store_id: ledger.store_id,
        amount: ledger.amount,
        reason: ledger.reason,
        reference: Some(ledger.key).filter(|key| key.chars().count() <= 64),
        adjusted_at: ledger.adjusted_at,
    };
    ledger_adjustments::record(unit, new).await?;
    let body = serde_json::json!({ "ledger_adjustment_id": ledger.ledger_adjustment_id });
    unit.reply::<LedgerAdjustment>(201, ledger.ledger_adjustment_id, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_the_log_cannot_hold_are_hashed() {
        assert_eq!(key_of("1-00001"), "1-00001");
        assert_eq!(key_of("чек 7").len(), "sha256:".len() + 64);
        assert_ne!(key_of(&"9".repeat(300)), key_of(&"9".repeat(301)));
        assert_ne!(key_of("sha256:ab"), "sha256:ab");
    }
}
