//! Facts of a refund: what is stored for ever.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    event::events,
    ids::{BillId, PaymentIntentId, RefundId, StoreId},
    merchant::is_text,
    money::Money,
    order::MAX_LINES,
    payment_intent::Tender,
};

/// By which way money goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// The way it came.
    Original,
    /// Out of the drawer; for cash payments, or where the provider cannot send it back.
    Cash,
}

/// Refund requested, within what was captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requested {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment; nothing for an unlinked refund.
    pub payment_intent_id: Option<PaymentIntentId>,
    /// The bill that was paid.
    pub bill_id: Option<BillId>,
    /// Where.
    pub store_id: StoreId,
    /// The store's business date at that moment.
    pub business_date: NaiveDate,
    /// How much of the payment goes back.
    pub amount: Money,
    /// What is handed out beside `amount`, signed: the refund that empties a cash payment takes its cash rounding back, so that
    /// no more leaves the drawer than came in. Minor units.
    pub cash_rounding: i64,
    /// How the payment was tendered; of an unlinked refund, how the money is given.
    pub tender: Tender,
    /// Who moves the money for the shop (acquirer, terminal operator), in the shop's own word.
    pub acquirer: Option<String>,
    /// By which way it goes back.
    pub destination: Destination,
    /// Why.
    pub reason: String,
    /// For provider refunds: whom to ask and about what.
    pub provider: Option<Box<ProviderPayment>>,
    /// What is given back, where that is known.
    pub breakdown: Option<Breakdown>,
    /// It gives back money that did not close the payment (a duplicate, late or other amount) and so was never a sale.
    pub unmatched: bool,
    /// The refund of the same payment that its provider refused or did not carry out, and that this one follows up.
    pub fallback_of: Option<RefundId>,
}

/// What a refund is made of, minor units. Always Σ lines.total + adjustment + tip = the amount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Breakdown {
    /// Goods taken back, and taxes that are lines of their own.
    pub lines: Vec<RefundLine>,
    /// The part that stands outside the lines, signed: a positive one is given back.
    pub adjustment: i64,
    /// The tip that goes back; it was never the shop's revenue.
    pub tip: i64,
}

/// One line that is given back. Amounts in minor units, none negative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefundLine {
    /// The catalogue's code.
    pub item_code: String,
    /// Name as sold.
    pub name: String,
    /// Thousandths of a piece.
    pub quantity_milli: i64,
    /// The tax in `total`.
    pub tax: i64,
    /// What is given back for the line.
    pub total: i64,
}

impl Breakdown {
    /// The sum of its parts, where it fits.
    pub fn total(&self) -> Option<i64> {
        let lines = self.lines.iter().map(|line| i128::from(line.total));
        let parts = [i128::from(self.adjustment), i128::from(self.tip)];
        i64::try_from(lines.chain(parts).sum::<i128>()).ok()
    }

    pub(super) fn is_sound(&self) -> bool {
        let line_is_sound = |line: &RefundLine| {
            line.quantity_milli >= 0 && (0..=line.total).contains(&line.tax) && is_text(&line.item_code, 64) && is_text(&line.name, 200)
        };
        self.tip >= 0 && self.lines.len() <= MAX_LINES && self.lines.iter().all(line_is_sound)
    }
}

/// The payment as the provider knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderPayment {
    /// The account: `pac_…`, or the provider's name for the platform's own.
    pub provider: String,
    /// Our reference there.
    pub reference: String,
    /// The provider's own name for the attempt, where it has one.
    #[serde(default)]
    pub provider_id: Option<String>,
    /// The provider's transaction.
    pub transaction_id: String,
    /// The whole payment.
    pub captured: Money,
    /// When it arrived, UTC.
    pub paid_at: DateTime<Utc>,
}

impl ProviderPayment {
    /// Whether a provider's name for a refund is that of the whole payment gone back (`void:` and its transaction), and of no refund:
    /// its books do not tell then by which refund it went.
    pub fn went_back_as_a_whole(&self, provider_reference: &str) -> bool {
        provider_reference.strip_prefix("void:") == Some(self.transaction_id.as_str())
    }
}

/// Nobody knows whether the provider sent it back; it will be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeUnknown {
    /// What happened.
    pub reason: String,
    /// Since when no answer says how it stands (UTC).
    pub since: Option<DateTime<Utc>>,
}

/// For too long no answer of the provider said how the refund stands: a person has to look. It is asked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftToPerson {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment out of which it goes back.
    pub payment_intent_id: PaymentIntentId,
    /// When (UTC).
    pub at: DateTime<Utc>,
}

/// A person says, out of a statement, whether the money went back. Who, is the actor of the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResolvedByPerson {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment out of which it goes back.
    pub payment_intent_id: PaymentIntentId,
    /// The money went back.
    pub sent: bool,
    /// The line of the statement that shows it, or the statement that lacks it.
    pub statement_reference: String,
}

/// The money went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Succeeded {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment; nothing for an unlinked refund.
    pub payment_intent_id: Option<PaymentIntentId>,
    /// The bill.
    pub bill_id: Option<BillId>,
    /// How much.
    pub amount: Money,
    /// The provider's name for it; nothing for cash.
    pub provider_reference: Option<String>,
}

/// The provider refused; nothing went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failed {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment whose reserve is freed.
    pub payment_intent_id: PaymentIntentId,
    /// Our word.
    pub code: String,
    /// The provider's words.
    pub message: String,
}

/// The provider had said that the money went back, and it did not: it has it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TakenBack {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment whose balance is restored.
    pub payment_intent_id: PaymentIntentId,
    /// The bill that had recorded it.
    pub bill_id: Option<BillId>,
    /// How much did not go back.
    pub amount: Money,
    /// Our word.
    pub code: String,
    /// The provider's words.
    pub message: String,
}

/// The provider's books show that the money went back, of a refund that a person had declared not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundSent {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment that is to count it.
    pub payment_intent_id: PaymentIntentId,
    /// The bill that was paid.
    pub bill_id: Option<BillId>,
    /// How much went back.
    pub amount: Money,
    /// Of money that did not close the payment: the provider's transaction that it went back of.
    pub unmatched_transaction_id: Option<String>,
    /// The provider's name for it.
    pub provider_reference: Option<String>,
}

events! {
    /// Facts of a refund.
    {
        /// Requested, within what was captured.
        Requested = "refund.requested" v 4;
        /// Nobody knows whether it went back.
        OutcomeUnknown = "refund.outcome_unknown" v 2;
        /// For too long nobody knows how it stands.
        LeftToPerson = "refund.left_to_person" v 1;
        /// A person says how it ended.
        ResolvedByPerson = "refund.resolved_by_person" v 1;
        /// The money went back.
        Succeeded = "refund.succeeded" v 2;
        /// The provider refused.
        Failed = "refund.failed" v 1;
        /// The provider took back that it succeeded.
        TakenBack = "refund.taken_back" v 1;
        /// The provider shows that it went back, and a person had declared it not sent.
        FoundSent = "refund.found_sent" v 1;
    }
}
