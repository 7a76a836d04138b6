//! Checks of a mapping that need no file. Each names the key that it refuses.

use std::fmt::Write;

use chrono::format::{Item, StrftimeItems};
use domain::{
    decider::Aggregate,
    ids::StoreId,
    merchant::{self, Merchant},
    money::Currency,
    store::{self, Store},
};

use super::{
    error::MappingError,
    ids,
    mapping::{Field, Mapping, TaxChoice},
    mapping_order::{Grouping, TimeMapping},
    mapping_payment::{Negative, RefundMapping, TenderMapping, Unlinked},
    mapping_rows::Condition,
    value::{DecimalSign, FINEST},
};

type Checked = Result<(), MappingError>;

/// Refuses what cannot be imported with.
pub(super) fn check(mapping: &Mapping) -> Checked {
    let source = &mapping.source;
    let plain = source.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    ensure(plain && (1..=64).contains(&source.len()), "source", "must have 1 to 64 characters of A-Z, a-z, 0-9, '-', '_' and '.'")?;
    ensure(mapping.file.delimiter.is_ascii(), "file.delimiter", "must be one ASCII character")?;
    check_merchant(mapping)?;
    check_stores(mapping)?;
    check_time(mapping, "order.opened_at", &mapping.order.opened_at)?;
    check_optional("order.number", mapping.order.number.as_ref())?;
    check_grouping(mapping)?;
    mapping.bill.as_ref().map_or(Ok(()), |bill| check_time(mapping, "bill.issued_at", &bill.issued_at))?;
    check_lines(mapping)?;
    check_money_rules(mapping)?;
    check_payment(mapping)?;
    check_skips(mapping)?;
    check_ledger(mapping)
}

fn ensure(holds: bool, key: impl Into<String>, problem: impl Into<String>) -> Checked {
    if holds { Ok(()) } else { Err(MappingError::at(key, problem)) }
}

/// Rows of one order may stand this many rows apart at most; a bound on the orders that are open at a time.
const WIDEST: u64 = 10_000;

fn check_grouping(mapping: &Mapping) -> Checked {
    let Some(within) = mapping.order.within else { return Ok(()) };
    let consecutive = mapping.order.rows == Grouping::Consecutive;
    ensure(consecutive, "order.within", "belongs to rows = \"consecutive\", and only to it")?;
    ensure((1..=WIDEST).contains(&within), "order.within", format!("must be 1 to {WIDEST}"))
}

fn check_merchant(mapping: &Mapping) -> Checked {
    let psp = &mapping.merchant.psp;
    ensure(!psp.trim().is_empty() && psp.len() <= 64, "merchant.psp", "must be an id (psp_…) or a code of 1 to 64 characters")?;
    ensure(!psp.starts_with("psp_") || psp.parse::<domain::ids::PspId>().is_ok(), "merchant.psp", "looks like an id, but is none")?;
    let details = super::setup::merchant_details(mapping);
    let decided = Merchant::decide(&merchant::State::default(), merchant::Command::Register(details));
    decided.map(drop).map_err(|rejection| MappingError::at("merchant", rejection.to_string()))
}

fn check_stores(mapping: &Mapping) -> Checked {
    let store = &mapping.store;
    check_field("store.value", &store.value)?;
    ensure(day_start(&store.day_starts_at).is_some(), "store.day_starts_at", "must be a time of day, HH:MM")?;
    let explicit = store.tax == TaxChoice::Explicit;
    ensure(explicit == store.tax_profile.is_some(), "store.tax_profile", "belongs to tax = \"explicit\", and only to it")?;
    if let Some(constant) = &store.value.constant {
        let listed = store.known.contains_key(constant) || store.unlisted == super::mapping::Unlisted::Open;
        ensure(listed, "store.known", format!("has no store '{constant}', which store.value names"))?;
    }
    // The domain's own rules judge zone, tax profile, codes and names; without stores a stand-in is judged.
    let stand_in = super::setup::store_of(mapping, "store", "Store", None);
    let known = store.known.iter().map(|(value, known)| {
        let key = format!("store.known.{value}");
        (key, super::setup::store_of(mapping, &known.code, &known.name, Some(known.id.unwrap_or_else(|| store_id(mapping, value)))))
    });
    for (key, new) in std::iter::once(("store".to_owned(), stand_in)).chain(known) {
        let opened = store::Opened {
            store_id: new.store_id,
            merchant_id: super::setup::merchant_details(mapping).merchant_id,
            psp_id: ids::psp_of(&mapping.merchant.psp),
            code: new.code,
            name: new.name,
            currency: new.currency,
            tax_profile: new.tax_profile,
            zone: new.zone,
            day_starts_at_minute: new.day_starts_at_minute,
        };
        let decided = Store::decide(&store::State::default(), store::Command::Open(Box::new(opened)));
        decided.map_err(|rejection| MappingError::at(key, rejection.to_string()))?;
    }
    Ok(())
}

/// The id of the store that a value of the file names.
pub(super) fn store_id(mapping: &Mapping, value: &str) -> StoreId {
    let merchant = super::setup::merchant_details(mapping).merchant_id;
    ids::derive(None, &["store", &merchant.to_string(), &mapping.source, value])
}

/// Minutes of the day of `HH:MM`.
pub(super) fn day_start(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |text: &str, below: u16| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|value| digits && *value < below)
    };
    Some(two(hours, 24)? * 60 + two(minutes, 60)?)
}

fn check_time(mapping: &Mapping, key: &str, time: &TimeMapping) -> Checked {
    let sound = StrftimeItems::new(&time.format).all(|item| !matches!(item, Item::Error));
    ensure(sound && !time.format.is_empty(), format!("{key}.format"), "is not a strftime format")?;
    // What the format writes of a sample it must read back; writing fails for items that a local time does not have.
    let mut sample = String::new();
    let written = write!(sample, "{}", chrono::DateTime::UNIX_EPOCH.naive_utc().format(&time.format)).is_ok();
    let complete = chrono::NaiveDateTime::parse_from_str(&sample, &time.format).is_ok();
    ensure(written && complete, format!("{key}.format"), "does not give a date and a time of day, at least to the minute")?;
    mapping.clock(time).map(drop).map_err(|problem| MappingError::at(format!("{key}.zone"), problem))
}

fn check_field(key: &str, field: &Field) -> Checked {
    let problem = match (&field.column, &field.constant, &field.default) {
        (Some(_), None, _) => return Ok(()),
        (None, Some(constant), None) if !constant.trim().is_empty() => return Ok(()),
        (None, Some(_), None) => "the constant is blank",
        (None, Some(_), Some(_)) => "a constant needs no default",
        (Some(_), Some(_), _) | (None, None, _) => "needs either 'column' or 'constant'",
    };
    Err(MappingError::at(key, problem))
}

fn check_optional(key: &str, field: Option<&Field>) -> Checked {
    field.map_or(Ok(()), |field| check_field(key, field))
}

/// A fixed amount or quantity must be readable once and for all.
fn check_number(key: &str, field: Option<&Field>, read: impl Fn(&str) -> Result<i64, String>) -> Checked {
    check_optional(key, field)?;
    let fixed = field.into_iter().flat_map(|field| field.constant.iter().chain(&field.default));
    for text in fixed {
        read(text).map_err(|problem| MappingError::at(key, problem))?;
    }
    Ok(())
}

fn check_lines(mapping: &Mapping) -> Checked {
    ensure(!mapping.lines.is_empty(), "line", "at least one [[line]] is needed")?;
    let (sign, currency) = (mapping.file.decimal, mapping.store.currency);
    for (n, line) in mapping.lines.iter().enumerate() {
        check_field(&format!("line[{n}].item_code"), &line.item_code)?;
        check_field(&format!("line[{n}].name"), &line.name)?;
        check_number(&format!("line[{n}].quantity"), line.quantity.as_ref(), |text| sign.milli(text))?;
        let decimals = line.price_decimals.unwrap_or(currency.exponent());
        let sound = (currency.exponent()..=currency.exponent() + FINEST).contains(&decimals);
        ensure(sound, format!("line[{n}].price_decimals"), format!("must be at least those of the currency, and at most {FINEST} more"))?;
        let of_piece = line.price_decimals.is_none() || line.unit_price.is_some();
        ensure(of_piece, format!("line[{n}].price_decimals"), "belongs to 'unit_price', and only to it")?;
        let price = |text: &str| sign.price(text, currency, decimals).map(|(amount, _)| amount);
        check_number(&format!("line[{n}].unit_price"), line.unit_price.as_ref(), price)?;
        check_number(&format!("line[{n}].amount"), line.amount.as_ref(), |text| sign.money(text, currency))?;
        ensure(line.unit_price.is_some() != line.amount.is_some(), format!("line[{n}]"), "needs either 'unit_price' or 'amount'")?;
    }
    Ok(())
}

fn check_money_rules(mapping: &Mapping) -> Checked {
    for (n, adjustment) in mapping.adjustments.iter().enumerate() {
        check_reason(format!("adjustment[{n}].reason"), &adjustment.reason)?;
    }
    if let Some(difference) = &mapping.difference {
        check_reason("difference.reason", &difference.reason)?;
        let limit = difference.limit.as_deref().map_or(Ok(0), |text| limit(text, mapping.store.currency));
        let limit = limit.map_err(|problem| MappingError::at("difference.limit", problem))?;
        ensure(limit >= 0, "difference.limit", "must not be negative")?;
        ensure(mapping.payment.amount.is_some(), "difference", "needs payment.amount: without it nothing can differ")?;
    }
    mapping.refund.as_ref().map_or(Ok(()), check_refund)
}

fn check_refund(refund: &RefundMapping) -> Checked {
    let gives = refund.negative == Negative::Refund;
    for (key, present) in [
        ("refund.of", refund.of.is_some()),
        ("refund.match", refund.matching.is_some()),
        ("refund.unlinked", refund.unlinked == Unlinked::Record),
        ("refund.tender", refund.tender.is_some()),
        ("refund.reason_column", refund.reason_column.is_some()),
    ] {
        ensure(gives || !present, key, "belongs to negative = \"refund\", and only to it")?;
    }
    ensure(refund.of.is_none() || refund.matching.is_none(), "refund.match", "finds a sale where 'of' does not name it; give one of them")?;
    ensure(refund.matching.as_ref().is_none_or(|columns| !columns.is_empty()), "refund.match", "needs at least one column")?;
    let records = refund.unlinked == Unlinked::Record;
    let found = refund.of.is_some() || refund.matching.is_some() || records;
    ensure(!gives || found, "refund.of", "is needed, or 'match', or unlinked = \"record\": otherwise no refund can be taken")?;
    ensure(records || refund.tender.is_none(), "refund.tender", "belongs to unlinked = \"record\", and only to it")?;
    refund.tender.as_ref().map_or(Ok(()), |tender| check_tender("refund.tender", tender))?;
    if gives && refund.reason.is_none() {
        return Ok(());
    }
    check_reason("refund.reason", refund.reason.as_deref().unwrap_or_default())
}

/// The largest difference, minor units.
pub(super) fn limit(text: &str, currency: Currency) -> Result<i64, String> {
    DecimalSign::Point.money(text, currency)
}

fn check_reason(key: impl Into<String>, reason: &str) -> Checked {
    let sound = !reason.trim().is_empty() && reason.chars().count() <= 200 && !reason.chars().any(char::is_control);
    ensure(sound, key, "a reason of 1 to 200 characters is required")
}

fn check_payment(mapping: &Mapping) -> Checked {
    let payment = &mapping.payment;
    let (sign, currency) = (mapping.file.decimal, mapping.store.currency);
    check_number("payment.amount", payment.amount.as_ref(), |text| sign.money(text, currency))?;
    check_optional("payment.transaction_id", payment.transaction_id.as_ref())?;
    if let Some(time) = &payment.paid_at {
        check_time(mapping, "payment.paid_at", time)?;
    }
    check_number("payment.tip", payment.tip.as_ref(), |text| sign.money(text, currency))?;
    check_optional("payment.acquirer", payment.acquirer.as_ref())?;
    if let Some(dispute) = &payment.dispute {
        check_reason("payment.dispute.reason", &dispute.reason)?;
        check_conditions("payment.dispute", &dispute.when)?;
    }
    if let Some(reason) = &payment.write_off_reason {
        check_reason("payment.write_off_reason", reason)?;
    }
    check_tender("payment.tender", &payment.tender)?;
    let Some(customer) = &mapping.customer else { return Ok(()) };
    let stated = "must be true: only a pseudonym may be kept, never a name, card or telephone number";
    ensure(customer.pseudonymous, "customer.pseudonymous", stated)?;
    let twice = customer.keep_as == super::mapping_payment::KeepAs::TransactionId && payment.transaction_id.is_some();
    ensure(!twice, "customer.keep_as", "transaction_id is filled by payment.transaction_id already")
}

fn check_tender(key: &str, tender: &TenderMapping) -> Checked {
    let sound = match (&tender.column, tender.constant) {
        (Some(_), None) => !tender.values.is_empty(),
        (None, Some(_)) => tender.values.is_empty(),
        (Some(_), Some(_)) | (None, None) => false,
    };
    ensure(sound, key, "needs either 'column' with 'values', or 'constant'")
}

fn check_skips(mapping: &Mapping) -> Checked {
    for (n, skip) in mapping.skips.iter().enumerate() {
        check_reason(format!("skip[{n}].reason"), &skip.reason)?;
        check_conditions(&format!("skip[{n}]"), &skip.when)?;
    }
    Ok(())
}

fn check_ledger(mapping: &Mapping) -> Checked {
    let (sign, currency) = (mapping.file.decimal, mapping.store.currency);
    for (n, ledger) in mapping.ledger.iter().enumerate() {
        check_field(&format!("ledger[{n}].reason"), &ledger.reason)?;
        check_number(&format!("ledger[{n}].amount"), Some(&ledger.amount), |text| sign.money(text, currency))?;
        check_conditions(&format!("ledger[{n}]"), &ledger.when)?;
    }
    Ok(())
}

fn check_conditions(key: &str, when: &[Condition]) -> Checked {
    ensure(!when.is_empty(), format!("{key}.when"), "needs at least one condition")?;
    for (m, condition) in when.iter().enumerate() {
        let Condition { column: _, is, starts_with, empty, sign } = condition;
        let tests = is.is_some() || starts_with.is_some() || empty.is_some() || sign.is_some();
        ensure(tests, format!("{key}.when[{m}]"), "needs 'is', 'starts_with', 'empty' or 'sign'")?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
