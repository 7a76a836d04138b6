//! The postings of an intent's history explain its state, whatever was decided.

use proptest::prelude::*;

use super::*;
use crate::{
    event::{AggregateEvent, DomainEvent},
    money::Currency,
    postings::{Account, Balances, Journal, PostingError},
};

/// Every event's postings sum to zero, and what they come to is what the state tells.
pub(super) fn explain(history: &[Event], state: &State) -> Result<(), TestCaseError> {
    let (mut journal, mut balances) = (Journal::default(), Balances::default());
    // The reports of these histories name the first attempt, whether or not it was begun.
    prop_assert_eq!(journal.post(id(1), &DomainEvent::PaymentIntent(attempt(1).into())), Ok(vec![]));
    for event in history {
        let postings = match journal.post(id(1), &DomainEvent::PaymentIntent(event.clone())) {
            Ok(postings) => postings,
            // The one amount that has no opposite.
            Err(PostingError::OutOfRange) if names_the_least(event) => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(format!("{event:?}: {error}"))),
        };
        let sum: i128 = postings.iter().map(|posting| i128::from(posting.amount.amount)).sum();
        prop_assert_eq!(sum, 0, "{:?} is posted as {:?}", event, postings);
        prop_assert!(postings.iter().all(|posting| posting.amount.amount != 0));
        balances.add(&postings);
    }
    let holds = |account: Account| balances.of(&account, Currency::THB);
    let beyond = sum_of(state.refunds_beyond.iter().map(|refund| refund.amount));
    let (captured, refunded) = (i128::from(state.captured()), i128::from(state.refunded_total));
    prop_assert_eq!(-holds(Account::CustomerReceivable), captured - refunded - beyond);
    let parked = |is: fn(Option<Resolution>) -> bool| {
        sum_of(state.unmatched.iter().filter(|payment| is(payment.resolution)).map(|payment| payment.received.amount.amount))
    };
    prop_assert_eq!(-holds(Account::UnmatchedLiability), parked(|is| matches!(is, None | Some(Resolution::Refunding))));
    prop_assert_eq!(-holds(Account::UnmatchedIncome), parked(|is| is == Some(Resolution::Kept)));
    // What the payment and the money beside it count as given back; that it was sent is the refunds' to say.
    prop_assert_eq!(-holds(Account::RefundPayable), refunded + beyond + parked(|is| is == Some(Resolution::Refunded)));
    came_where_it_is(state, &holds, parked(|is| is != Some(Resolution::Accepted)))
}

/// What was captured, and what closed nothing, came to the provider or to the drawer.
fn came_where_it_is(state: &State, holds: &dyn Fn(Account) -> i128, beside: i128) -> Result<(), TestCaseError> {
    let (cash, provider) = (holds(Account::Cash), holds(Account::ProviderClearing("scb".into())));
    let captured = i128::from(state.captured());
    let by_hand = state.payment.as_ref().filter(|payment| payment.attempt_id.is_none());
    let Some(payment) = by_hand else {
        prop_assert_eq!((cash, provider), (0, captured + beside));
        return Ok(());
    };
    let (rounding, tip) = (i128::from(payment.cash_rounding), i128::from(payment.tip));
    prop_assert_eq!((cash, provider), (captured + rounding + tip, beside));
    prop_assert_eq!((holds(Account::CashRounding), holds(Account::TipsPayable)), (-rounding, -tip));
    Ok(())
}

fn sum_of(amounts: impl Iterator<Item = i64>) -> i128 {
    amounts.map(i128::from).sum()
}

fn names_the_least(event: &Event) -> bool {
    String::from_utf8_lossy(&event.encode().payload).contains(&i64::MIN.to_string())
}
