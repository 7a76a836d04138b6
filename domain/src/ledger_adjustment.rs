//! Ledger adjustment: an amount that changes what a store's books say, outside orders, payments and refunds (a bad debt, its
//! reversal). Stream `ledger_adjustment-{LedgerAdjustmentId}`.
//!
//! Recorded once, never changed: a mistake is corrected by a second one. No money moves by it.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    decider::Aggregate,
    envelope::StreamType,
    event::events,
    ids::{LedgerAdjustmentId, StoreId},
    merchant::is_text,
    money::{Currency, Money},
    order::MAX_PRICE,
    rejection::rejections,
};

/// An amount put on, or taken off, a store's books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recorded {
    /// The adjustment.
    pub ledger_adjustment_id: LedgerAdjustmentId,
    /// Where.
    pub store_id: StoreId,
    /// The store's business date on which it counts.
    pub business_date: NaiveDate,
    /// Signed, not zero: above zero in the store's favour.
    pub amount: Money,
    /// Why.
    pub reason: String,
    /// The number of the document behind it, 1 to 64 characters.
    pub reference: Option<String>,
}

events! {
    /// Facts of a ledger adjustment.
    {
        /// An amount put on, or taken off, a store's books.
        Recorded = "ledger_adjustment.recorded" v 1;
    }
}

/// What can be asked of a ledger adjustment.
#[derive(Debug, Clone)]
pub enum Command {
    /// Record it.
    Record(Box<Recorded>),
}

rejections! {
    /// Rules of a ledger adjustment.
    {
        LedgerAdjustmentIdReused => State, "a ledger adjustment with this id exists already";
        AmountOutOfRange => Invalid, "the amount is zero or out of range";
        CurrencyMismatch { expected: Currency } => Invalid, "the store's books are in {expected}";
        ReasonRequired => Invalid, "a reason of 1 to 200 characters is required";
        ReferenceInvalid => Invalid, "reference must have 1 to 64 characters";
    }
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// As recorded.
    pub details: Option<Recorded>,
}

/// The decider.
pub struct LedgerAdjustment;

impl Aggregate for LedgerAdjustment {
    const STREAM_TYPE: StreamType = StreamType::LedgerAdjustment;
    const STATE_SCHEMA: i16 = 1;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        let Command::Record(details) = command;
        match &state.details {
            Some(known) if *known == *details => return Ok(vec![]),
            Some(_) => return Err(Rejection::LedgerAdjustmentIdReused),
            None => {}
        }
        let amount = details.amount.amount;
        if amount == 0 || amount.checked_abs().is_none_or(|magnitude| magnitude > MAX_PRICE) {
            return Err(Rejection::AmountOutOfRange);
        }
        if !is_text(&details.reason, 200) {
            return Err(Rejection::ReasonRequired);
        }
        if details.reference.as_deref().is_some_and(|text| !is_text(text, 64)) {
            return Err(Rejection::ReferenceInvalid);
        }
        Ok(vec![(*details).into()])
    }

    fn evolve(_: State, event: &Event) -> State {
        let Event::Recorded(details) = event;
        State { details: Some(details.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::Ulid, testing::given};

    fn bad_debt(amount: i64) -> Recorded {
        Recorded {
            ledger_adjustment_id: LedgerAdjustmentId(Ulid::from(1_u128)),
            store_id: StoreId(Ulid::from(2_u128)),
            business_date: NaiveDate::from_ymd_opt(2011, 8, 12).unwrap(),
            amount: Money::new(amount, "GBP".parse().unwrap()),
            reason: "Adjust bad debt".into(),
            reference: Some("A563186".into()),
        }
    }

    fn record(details: Recorded) -> Command {
        Command::Record(Box::new(details))
    }

    #[test]
    fn an_adjustment_of_either_sign_is_recorded_once() {
        for amount in [-1_106_206, 1_106_206] {
            given::<LedgerAdjustment>(&[]).when(record(bad_debt(amount))).then(&[bad_debt(amount).into()]);
        }
        let history = [bad_debt(-1).into()];
        given::<LedgerAdjustment>(&history).when(record(bad_debt(-1))).then(&[]);
        given::<LedgerAdjustment>(&history).when(record(bad_debt(1))).then_rejected("LedgerAdjustmentIdReused");
    }

    #[test]
    fn an_adjustment_out_of_bounds_is_refused_by_name() {
        let cases = [
            ("AmountOutOfRange", bad_debt(0)),
            ("AmountOutOfRange", bad_debt(MAX_PRICE + 1)),
            ("AmountOutOfRange", bad_debt(i64::MIN)),
            ("ReasonRequired", Recorded { reason: String::new(), ..bad_debt(1) }),
            ("ReferenceInvalid", Recorded { reference: Some("x".repeat(65)), ..bad_debt(1) }),
        ];
        for (code, details) in cases {
            given::<LedgerAdjustment>(&[]).when(record(details)).then_rejected(code);
        }
    }
}
