//! I5 and I6: the sums are right, and the provider's own books say the same.

use std::collections::BTreeMap;

use crate::{
    model::{Books, Payment},
    world::World,
};

pub(crate) fn all(world: &World, books: &Books) {
    bills(world, books);
    payments(world, books);
    provider(world, books);
    refunds(world, books);
}

/// I5: what a bill says was paid is what payments say; nothing is held once it is quiet.
fn bills(world: &World, books: &Books) {
    for (id, bill) in &books.bills {
        if bill.lines + bill.adjustment != bill.total {
            world.violated("I5", format!("{id}: lines of {} make a total of {}", bill.lines, bill.total));
        }
        let allocated: i64 = bill.allocated.values().sum();
        if allocated > bill.total {
            world.violated("I5", format!("{id}: {allocated} was put against {}", bill.total));
        }
        if bill.paid > 1 || (bill.paid == 1) != (allocated == bill.total) {
            world.violated("I5", format!("{id}: paid {} times with {allocated} of {}", bill.paid, bill.total));
        }
        if !bill.reserved.is_empty() {
            world.violated("I5", format!("{id}: still holds {:?}", bill.reserved));
        }
        if let Some(order) = bill.orders.iter().find(|order| (bill.paid == 1) != books.completed.contains(*order)) {
            world.violated("I5", format!("{order} is complete without its bill being paid, or the other way round"));
        }
        for (payment, amount) in &bill.allocated {
            let captured = books.payments.get(payment).map_or(0, |payment| payment.captured);
            if captured != *amount {
                world.violated("I5", format!("{id}: {amount} of {payment}, which captured {captured}"));
            }
        }
    }
}

fn payments(world: &World, books: &Books) {
    for (id, payment) in &books.payments {
        if payment.succeeded > 1 {
            world.violated("I6", format!("{id} succeeded {} times", payment.succeeded));
        }
        let settled: i64 = payment.settled.values().sum();
        if settled > payment.captured {
            world.violated("I6", format!("{id}: {settled} was given back out of {}", payment.captured));
        }
        if !payment.reserved.is_empty() {
            world.violated("I5", format!("{id} still holds refunds {:?}", payment.reserved));
        }
        if let (Some(bill), 1) = (&payment.bill, payment.succeeded) {
            let reached = books.bills.get(bill).is_some_and(|bill| bill.allocated.contains_key(id) || bill.parked.contains(id));
            if !reached {
                world.violated("I5", format!("the money of {id} never reached its bill"));
            }
        }
        let in_part = payment.to_be_held && (1..payment.amount).contains(&payment.captured);
        if payment.status == "succeeded" && !in_part && payment.captured != payment.amount {
            world.violated("I6", format!("{id} asked for {} and took {}", payment.amount, payment.captured));
        }
    }
}

fn money_of(payment: &Payment) -> BTreeMap<&str, i64> {
    payment.money.iter().map(|(transaction, amount)| (transaction.as_str(), *amount)).collect()
}

/// I6: what the provider's books show is what the log says, payment by payment; nobody was charged twice by us.
fn provider(world: &World, books: &Books) {
    let bank = world.bank();
    let mut known = Vec::new();
    for (id, payment) in &books.payments {
        let charges: Vec<_> = payment.references.iter().filter_map(|reference| bank.charges.get(reference)).collect();
        known.extend(payment.references.iter());
        let ours = money_of(payment);
        // Money beyond what was owed is told of by its call-back alone; a restored database forgot that it thanked for it.
        let forgot = world.journal().restored_at.filter(|_| payment.status == "succeeded");
        let theirs: BTreeMap<&str, i64> = charges
            .iter()
            .flat_map(|charge| &charge.payments)
            .map(|paid| (paid.transaction_id.as_str(), paid))
            .filter(|(transaction, paid)| ours.contains_key(transaction) || forgot.is_none_or(|at| paid.paid_at > at))
            .map(|(transaction, paid)| (transaction, paid.amount.amount))
            .collect();
        if payment.references.is_empty() {
            continue;
        }
        if ours != theirs {
            world.violated("I6", format!("{id}: the provider shows {theirs:?}, the log {:?}", payment.money));
        }
        let pulls: u32 = charges.iter().map(|charge| charge.pulls).sum();
        if pulls > 1 {
            world.violated("I6", format!("{id}: the payer was charged {pulls} times"));
        }
    }
    // What a restored database forgot is nobody's here; everything else is.
    if world.journal().restores == 0 {
        for (id, payment) in &books.payments {
            for (reference, at) in &payment.failed {
                let paid = bank.charges.get(reference).is_some_and(|charge| charge.payments.iter().any(|paid| paid.paid_at < *at));
                if paid {
                    world.violated("I6", format!("{id}: {reference} was declared failed after it had been paid"));
                }
            }
        }
        for (reference, charge) in &bank.charges {
            if !known.contains(&reference) && !charge.payments.is_empty() {
                world.violated("I6", format!("the provider took money under {reference}, which the log does not know"));
            }
        }
    }
}

/// I6: money went back exactly as the log says.
fn refunds(world: &World, books: &Books) {
    let bank = world.bank();
    for (id, refund) in &books.refunds {
        if refund.succeeded > 1 || (refund.succeeded == 1 && refund.failed > 0) {
            world.violated("I6", format!("{id} ended {} times well and {} times badly", refund.succeeded, refund.failed));
        }
        if !refund.by_provider {
            continue;
        }
        let theirs = bank.refunds.get(id).filter(|given| given.succeeds).map_or(0, |given| given.amount);
        let ours = if refund.succeeded > 0 { refund.amount } else { 0 };
        if theirs != ours {
            world.violated("I6", format!("{id}: the provider gave back {theirs}, the log says {ours}"));
        }
    }
    let given = |transaction: &str| -> i64 {
        bank.refunds.values().filter(|given| given.succeeds && given.transaction_id == transaction).map(|given| given.amount).sum()
    };
    for paid in bank.charges.values().flat_map(|charge| &charge.payments) {
        let given = given(&paid.transaction_id);
        if given > paid.amount.amount {
            world.violated("I6", format!("{given} was given back out of {} in {}", paid.amount.amount, paid.transaction_id));
        }
    }
    if world.journal().restores == 0 {
        for name in bank.refunds.keys().filter(|name| !books.refunds.contains_key(*name)) {
            world.violated("I6", format!("the provider gave money back under {name}, which the log does not know"));
        }
    }
}
