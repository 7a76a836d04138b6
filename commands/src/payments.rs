//! Use cases of payments: a payment intent with what it does to its bill.

use std::sync::Arc;

use chrono::{DateTime, Duration, NaiveDate, Utc};
use domain::{
    bill::{self, Bill},
    decider::Aggregate,
    ids::{AttemptId, BillId, PaymentIntentId, StoreId},
    money::Money,
    payment_intent::{self, Confirmed, Created, Evidence, NewAttempt, PaymentIntent, PaymentReport, Tender, Terms, Wishes},
    pricing::TaxProfile,
    provider::reference_of,
    rejection::{Rejected, RejectionClass},
    routing::Choice,
    store::Store,
};

use crate::{error::CommandError, handle::UnitOfWork, holder::Holder, routing, tenants::trading_store};

/// What is paid.
#[derive(Debug, Clone, Copy)]
pub enum PayFor {
    /// A bill; without an amount, all that is still due.
    Bill {
        /// The bill.
        bill_id: BillId,
        /// Minor units.
        amount: Option<Money>,
    },
    /// An amount at a store, without a bill.
    Amount {
        /// Where.
        store_id: StoreId,
        /// How much.
        amount: Money,
    },
}

/// How an attempt at a provider is to be made.
#[derive(Debug, Clone, Default)]
pub struct AttemptOptions {
    /// Which of the merchant's accounts there.
    pub provider_account: Option<String>,
    /// Why this provider was chosen, in words.
    pub route: Option<String>,
    /// For a card: the provider's token.
    pub card_token: Option<String>,
    /// Hold only; a capture follows.
    pub manual_capture: bool,
    /// Where the payer's browser goes after an action.
    pub return_url: Option<String>,
    /// Ways of paying that the payer may choose from at a later confirm, beside the payment's own.
    pub tenders: Vec<Tender>,
}

/// A confirm of a payment.
#[derive(Debug, Clone)]
pub struct Confirm {
    /// Name of the provider where nothing chooses one.
    pub provider: String,
    /// What whoever confirms says of the attempt.
    pub wishes: Wishes,
    /// It is the holder of the payment token, who takes what the merchant made.
    pub by_payer: bool,
    /// For a card: the provider's token.
    pub card_token: Option<String>,
    /// Where the payer's browser goes after an action; as the merchant said unless told.
    pub return_url: Option<String>,
    /// For cash: handed over; exactly what is to be collected unless told.
    pub cash_received: Option<Money>,
}

impl AttemptOptions {
    /// The same at the account that was chosen.
    pub(crate) fn at(self, choice: &Choice) -> Self {
        // The platform's own accounts are named after their provider.
        let provider_account = (choice.account != choice.provider).then(|| choice.account.clone());
        Self { provider_account, route: Some(choice.why.clone()), ..self }
    }

    /// Nothing but the account that was chosen.
    pub(crate) fn of(choice: &Choice) -> Self {
        Self::default().at(choice)
    }
}

/// A payment to be started.
#[derive(Debug, Clone)]
pub struct NewPayment {
    /// The intent to be.
    pub payment_intent_id: PaymentIntentId,
    /// For what.
    pub pay_for: PayFor,
    /// How.
    pub tender: Tender,
    /// Name of the provider for tenders that have one.
    pub provider: String,
    /// How long it accepts payment, for tenders with a provider.
    pub valid_for: Duration,
    /// Begin an attempt, or record the tender, at once. Otherwise a confirm follows, and nothing is held meanwhile.
    pub confirm: bool,
    /// How the attempt is to be made.
    pub options: AttemptOptions,
    /// For cash: handed over, minor units; without it exactly what is to be collected.
    pub cash_received: Option<i64>,
    /// For card and invoice: approval code or invoice number.
    pub transaction_id: Option<String>,
    /// The caller's own reference.
    pub merchant_reference: Option<String>,
    /// What it is for, in the caller's words.
    pub description: Option<String>,
    /// The caller's own name of the terminal that takes it.
    pub merchant_terminal_id: Option<String>,
    /// For recorded tenders: tip collected beside the amount, minor units.
    pub tip: i64,
    /// For recorded tenders: who takes the money in for the shop.
    pub acquirer: Option<String>,
    /// When it was taken, for historical sales; otherwise now.
    pub paid_at: Option<DateTime<Utc>>,
    /// Why a recorded tender is believed.
    pub evidence: Evidence,
}

/// Starts a payment. Cash, card and invoice are recorded as captured, at once or with their confirm, with bill and order in the same
/// append; a provider's tender holds its amount on the bill and starts an attempt, whose call follows from that fact.
///
/// # Errors
/// Any rejection of a payment intent or a bill; `StoreNotFound`, `StoreNotActive`.
pub async fn start(unit: &mut UnitOfWork, new: NewPayment) -> Result<Arc<payment_intent::State>, CommandError> {
    let target = target(unit, &new).await?;
    let provided = !new.tender.is_recorded();
    // What waits for a confirm ends by itself, whoever takes the money.
    let waits = provided || !new.confirm;
    let created = Created {
        payment_intent_id: new.payment_intent_id,
        store_id: target.store_id,
        bill_id: target.bill_id,
        order_id: target.order_id,
        amount: target.amount,
        tender: new.tender,
        expires_at: waits.then(|| unit.now() + new.valid_for),
        merchant_reference: new.merchant_reference.clone(),
        description: new.description.clone(),
        merchant_terminal_id: new.merchant_terminal_id.clone(),
        terms: waits.then(|| terms(&new)),
    };
    // An import keeps whatever its source wrote there, as often as it stands there.
    if let Some(reference) = new.merchant_reference.as_deref().filter(|_| new.evidence != Evidence::Import) {
        claim_reference(unit, new.payment_intent_id, target.store_id, reference);
    }
    let state = unit.decide::<PaymentIntent>(new.payment_intent_id, payment_intent::Command::Create(Box::new(created))).await?;
    match (provided, new.confirm) {
        (true, true) => start_attempt(unit, &state, new.provider, new.valid_for, new.options).await,
        (_, false) => Ok(state),
        (false, true) => record(unit, &new, &target).await,
    }
}

/// Takes a reference for a payment, for ever: a merchant uses each once.
pub(crate) fn claim_reference(unit: &mut UnitOfWork, id: PaymentIntentId, store: StoreId, reference: &str) {
    let taken = "merchant_reference: another payment has this reference";
    let holder = Holder { id: id.to_string(), store };
    unit.claim_for(unit.tenant().0, "payment reference", reference, taken, &holder);
}

/// What a later confirm goes by.
fn terms(new: &NewPayment) -> Terms {
    Terms {
        awaits_confirm: !new.confirm,
        tenders: new.options.tenders.clone(),
        valid_for_seconds: new.valid_for.num_seconds(),
        manual_capture: new.options.manual_capture,
        return_url: new.options.return_url.clone(),
    }
}

struct Target {
    store_id: StoreId,
    bill_id: Option<BillId>,
    order_id: Option<domain::ids::OrderId>,
    amount: Money,
    /// What rounding a cash payment of this amount collects beside it.
    cash_rounding: i64,
}

async fn target(unit: &mut UnitOfWork, new: &NewPayment) -> Result<Target, CommandError> {
    match new.pay_for {
        PayFor::Amount { store_id, amount } => {
            let store = trading_store(unit, store_id).await?;
            if store.currency != amount.currency {
                return Err(rejected(bill::Rejection::CurrencyMismatch { expected: store.currency }));
            }
            // Without a bill it counts in no sales, and so does no rounding.
            Ok(Target { store_id, bill_id: None, order_id: None, amount, cash_rounding: 0 })
        }
        PayFor::Bill { bill_id, amount } => {
            let bill = crate::bills::concerns(unit, bill_id).await?;
            let details = bill.details.as_ref().ok_or_else(|| rejected(bill::Rejection::BillNotFound))?;
            let open = matches!(bill.status, bill::Status::Pending | bill::Status::PartiallyPaid);
            if amount.is_none() && open && bill.due() <= 0 {
                // All of it is held by a payment under way.
                return Err(rejected(bill::Rejection::AmountExceedsDue { due: 0 }));
            }
            let amount = amount.unwrap_or(Money::new(bill.due(), details.currency));
            // The bill's own rule says whether this much can be taken; for recorded tenders nothing is held.
            let reserve = bill::Command::ReservePayment {
                payment_intent_id: new.payment_intent_id,
                amount: amount.amount,
                currency: amount.currency,
            };
            Bill::decide(&bill, reserve).map_err(rejected)?;
            let closes = amount.amount == bill.outstanding();
            let cash_rounding = if closes { cash_rounding(new, &details.tax_profile, amount.amount) } else { 0 };
            Ok(Target {
                store_id: details.store_id,
                bill_id: Some(bill_id),
                order_id: details.order_ids.first().copied(),
                amount,
                cash_rounding,
            })
        }
    }
}

/// What rounding a payment of all that is due collects beside it. A historical sale was rounded then or not at all: what its source does
/// not say is not invented.
fn cash_rounding(new: &NewPayment, profile: &TaxProfile, due: i64) -> i64 {
    let rounds = new.tender == Tender::Cash && new.evidence != Evidence::Import;
    if rounds { profile.cash_due(due).saturating_sub(due) } else { 0 }
}

fn rejected(rejection: bill::Rejection) -> CommandError {
    CommandError::Rejected(rejection.into())
}

/// Holds the amount on the bill, where there is one, and records the fact from which the call follows.
pub(crate) async fn start_attempt(
    unit: &mut UnitOfWork,
    state: &payment_intent::State,
    provider: String,
    valid_for: Duration,
    options: AttemptOptions,
) -> Result<Arc<payment_intent::State>, CommandError> {
    let not_found = || CommandError::Rejected(payment_intent::Rejection::PaymentIntentNotFound.into());
    let details = state.details.as_ref().ok_or_else(not_found)?;
    let payment_intent_id = details.payment_intent_id;
    let (provider, options) = match options.route {
        Some(_) => (provider, options),
        None => match routing::choose(unit, details).await? {
            Some(choice) => (choice.provider.clone(), options.at(&choice)),
            None => (provider, options),
        },
    };
    if let (Some(bill_id), payment_intent::Status::RequiresPaymentMethod) = (details.bill_id, state.status) {
        let (amount, currency) = (details.amount.amount, details.amount.currency);
        unit.decide::<Bill>(bill_id, bill::Command::ReservePayment { payment_intent_id, amount, currency }).await?;
    }
    let attempt_id: AttemptId = unit.next_id();
    let now = unit.now();
    let new = NewAttempt {
        attempt_id,
        provider,
        provider_account: options.provider_account,
        route: options.route,
        reference: reference_of(attempt_id),
        card_token: options.card_token,
        manual_capture: options.manual_capture,
        return_url: options.return_url,
        started_at: now,
        expires_at: now + valid_for,
    };
    unit.decide::<PaymentIntent>(payment_intent_id, payment_intent::Command::StartAttempt(Box::new(new))).await
}

async fn record(unit: &mut UnitOfWork, new: &NewPayment, target: &Target) -> Result<Arc<payment_intent::State>, CommandError> {
    let report = PaymentReport {
        attempt_id: None,
        transaction_id: new.transaction_id.clone(),
        amount: target.amount,
        paid_at: new.paid_at.unwrap_or_else(|| unit.now()),
        evidence: new.evidence,
        cash_received: new.cash_received,
        cash_rounding: target.cash_rounding,
        tip: new.tip,
        acquirer: new.acquirer.clone(),
    };
    let state = unit.decide::<PaymentIntent>(new.payment_intent_id, payment_intent::Command::RecordTender(report)).await?;
    if let Some(bill_id) = target.bill_id {
        let command = bill::Command::AllocatePayment {
            payment_intent_id: new.payment_intent_id,
            tender: new.tender,
            amount: target.amount.amount,
            cash_rounding: target.cash_rounding,
            tip: new.tip,
            acquirer: new.acquirer.clone(),
        };
        let bill = unit.decide::<Bill>(bill_id, command).await?;
        crate::bills::complete_orders(unit, bill_id, &bill).await?;
    }
    Ok(state)
}

/// The payer contests a payment; whether the money stays is not decided by it.
///
/// # Errors
/// Any rejection of a payment intent.
pub async fn dispute(
    unit: &mut UnitOfWork,
    id: PaymentIntentId,
    transaction_id: Option<String>,
    reason: String,
    disputed_at: DateTime<Utc>,
) -> Result<Arc<payment_intent::State>, CommandError> {
    let business_date = business_date(unit, id, disputed_at).await?;
    let command = payment_intent::Command::Dispute { transaction_id, reason, disputed_at, business_date };
    unit.decide::<PaymentIntent>(id, command).await
}

/// The business date of a payment's store. What happened to its money counts on it whether or not the store still trades.
///
/// # Errors
/// `PaymentIntentNotFound`; `Unavailable`, `Corrupt`.
pub(crate) async fn business_date(unit: &mut UnitOfWork, id: PaymentIntentId, at: DateTime<Utc>) -> Result<NaiveDate, CommandError> {
    let state = concerns(unit, id).await?;
    let not_found = || CommandError::Rejected(payment_intent::Rejection::PaymentIntentNotFound.into());
    let store_id = state.details.as_ref().ok_or_else(not_found)?.store_id;
    let store = unit.state::<Store>(store_id).await?;
    Ok(store.details.as_ref().map_or(at.date_naive(), |store| store.business_date(at)))
}

/// Asks to stop a payment. With a live attempt the provider is asked first; the answer decides.
///
/// # Errors
/// Any rejection of a payment intent; `StaleVersion` when `If-Match` is not its version.
pub async fn cancel(unit: &mut UnitOfWork, id: PaymentIntentId, reason: String) -> Result<Arc<payment_intent::State>, CommandError> {
    unit.check_if_match::<PaymentIntent>(id).await?;
    let state = concerns(unit, id).await?;
    let after = unit.decide::<PaymentIntent>(id, payment_intent::Command::Cancel { reason }).await?;
    let bill_id = state.details.as_ref().and_then(|details| details.bill_id);
    if let (payment_intent::Status::Canceled, Some(bill_id)) = (after.status, bill_id) {
        unit.decide::<Bill>(bill_id, bill::Command::ReleaseReservation { payment_intent_id: id }).await?;
    }
    Ok(after)
}

/// The code of what a payer is told who would let go of a hold.
pub const HELD_FOR_MERCHANT: &str = "HeldForMerchant";
/// The same in words.
pub const ONLY_MERCHANT_LETS_GO: &str =
    "the amount is held for the merchant, who may have handed over the goods already; only the merchant can let go of it";

/// [`cancel`] for whoever holds the payment token: what the provider holds for the merchant is not the payer's to let go of.
///
/// # Errors
/// [`HELD_FOR_MERCHANT`]; those of [`cancel`].
pub async fn cancel_by_payer(
    unit: &mut UnitOfWork,
    id: PaymentIntentId,
    reason: String,
) -> Result<Arc<payment_intent::State>, CommandError> {
    if unit.state::<PaymentIntent>(id).await?.status == payment_intent::Status::RequiresCapture {
        let (code, message) = (HELD_FOR_MERCHANT, ONLY_MERCHANT_LETS_GO.to_owned());
        return Err(Rejected { code, class: RejectionClass::State, message }.into());
    }
    cancel(unit, id, reason).await
}

/// Begins an attempt, the first or one after another that failed; holds the amount on the bill. Where whoever confirms names another
/// tender, the way to pay is changed before. Cash is recorded: nobody is called, so nothing of it can be unknown.
///
/// # Errors
/// Any rejection of a payment intent or a bill.
pub async fn confirm(unit: &mut UnitOfWork, id: PaymentIntentId, confirm: Confirm) -> Result<Arc<payment_intent::State>, CommandError> {
    let state = concerns(unit, id).await?;
    match state.status {
        payment_intent::Status::Processing
        | payment_intent::Status::RequiresAction
        | payment_intent::Status::RequiresCapture
        | payment_intent::Status::Succeeded => return Ok(state), // already in effect
        payment_intent::Status::Absent
        | payment_intent::Status::RequiresPaymentMethod
        | payment_intent::Status::Canceled
        | payment_intent::Status::Expired
        | payment_intent::Status::Failed => {}
    }
    if state.details.as_ref().is_some_and(|details| details.tender.is_recorded()) {
        return take_by_hand(unit, &state, &confirm).await;
    }
    let Confirm { provider, wishes, by_payer, card_token, return_url, cash_received } = confirm;
    if cash_received.is_some() {
        return Err(CommandError::Rejected(payment_intent::Rejection::TenderNotRecorded.into()));
    }
    let confirmed = state.confirmed(&wishes, by_payer).map_err(|rejection| CommandError::Rejected(rejection.into()))?;
    let state = match wishes.tender {
        None => state,
        Some(tender) => {
            let update = payment_intent::Update { tender: Some(tender), ..payment_intent::Update::default() };
            unit.decide::<PaymentIntent>(id, payment_intent::Command::Update(update)).await?
        }
    };
    let Confirmed { manual_capture, valid_for, return_url: otherwise } = confirmed;
    let options = AttemptOptions { card_token, manual_capture, return_url: return_url.or(otherwise), ..AttemptOptions::default() };
    start_attempt(unit, &state, provider, valid_for, options).await
}

/// Records what an intent waited for that is taken by hand: whoever stands at the drawer says so, never the payer.
async fn take_by_hand(
    unit: &mut UnitOfWork,
    state: &payment_intent::State,
    confirm: &Confirm,
) -> Result<Arc<payment_intent::State>, CommandError> {
    let refused = |rejection: payment_intent::Rejection| CommandError::Rejected(rejection.into());
    let details = state.details.as_ref().ok_or_else(|| refused(payment_intent::Rejection::PaymentIntentNotFound))?;
    let Confirm { wishes, by_payer, card_token, return_url, cash_received, provider: _ } = confirm;
    if *by_payer {
        return Err(refused(payment_intent::Rejection::NotThePayersChoice));
    }
    // To name the tender that it has is to say nothing new.
    let wishes = Wishes { tender: wishes.tender.filter(|tender| *tender != details.tender), ..*wishes };
    let of_a_provider = card_token.is_some() || return_url.is_some() || wishes != Wishes::default();
    if of_a_provider || (cash_received.is_some() && details.tender != Tender::Cash) {
        return Err(refused(payment_intent::Rejection::TenderIsRecorded));
    }
    if cash_received.is_some_and(|cash| cash.currency != details.amount.currency) {
        return Err(rejected(bill::Rejection::CurrencyMismatch { expected: details.amount.currency }));
    }
    let pay_for = match details.bill_id {
        Some(bill_id) => PayFor::Bill { bill_id, amount: Some(details.amount) },
        None => PayFor::Amount { store_id: details.store_id, amount: details.amount },
    };
    let new = NewPayment {
        payment_intent_id: details.payment_intent_id,
        pay_for,
        tender: details.tender,
        provider: String::new(),
        valid_for: Duration::zero(),
        confirm: true,
        options: AttemptOptions::default(),
        cash_received: cash_received.map(|cash| cash.amount),
        transaction_id: None,
        merchant_reference: None,
        description: None,
        merchant_terminal_id: None,
        tip: 0,
        acquirer: None,
        paid_at: None,
        evidence: Evidence::Staff,
    };
    let target = target(unit, &new).await?;
    record(unit, &new, &target).await
}

/// Notes the shop of a payment, if it exists.
pub(crate) async fn concerns(unit: &mut UnitOfWork, id: PaymentIntentId) -> Result<Arc<payment_intent::State>, CommandError> {
    let state = unit.state::<PaymentIntent>(id).await?;
    if let Some(details) = &state.details {
        unit.concerns_store(details.store_id);
    }
    Ok(state)
}
