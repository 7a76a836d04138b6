//! The pricing pipeline: gross, line discount, document discount, service charge, tax once per class, total.

use std::collections::BTreeSet;

use super::{
    Discount, Priced, PricedLine, PricingError, PricingLine, Rounding, TaxClass, TaxMode, TaxProfile, TaxTotal, WHOLE_BASIS_POINTS,
    WHOLE_MILLI,
};
use crate::money::{Currency, split_by_weights};

/// Prices a document. All amounts are minor units of `currency`.
///
/// `order_discount` is taken once from the sum of the discounted lines and spread over them by largest remainder, as are
/// the service charge and the tax of each class, so that lines always add up. `adjustment` is signed, untaxed and outside
/// the lines. No lines give a document of zeros and the adjustment. Lines that are themselves a tax take no part in the
/// document's discount and service charge.
///
/// # Errors
/// `BadProfile`; `QuantityNegative`, `PriceNegative`, `PriceBaseNotPositive`, `DuplicateLine` naming the line; `DiscountNegative`,
/// `DiscountTooLarge`; `NegativeTotal` when the adjustment exceeds the lines; `Overflow`.
pub fn price(
    currency: Currency,
    lines: &[PricingLine],
    order_discount: Option<&Discount>,
    adjustment: i64,
    profile: &TaxProfile,
) -> Result<Priced, PricingError> {
    profile.validate()?;
    let rounding = profile.rounding;
    let mut seen = BTreeSet::new();
    let mut priced = Vec::with_capacity(lines.len());
    for line in lines {
        if !seen.insert(line.line_id) {
            return Err(PricingError::DuplicateLine(line.line_id));
        }
        priced.push(discounted_line(line, rounding)?);
    }

    let mut values: Vec<i64> = priced.iter().map(|line| line.gross - line.discount).collect();
    if let Some(discount) = order_discount {
        let weights = goods(&priced, &values);
        let whole = discount_of(discount, sum(weights.iter().copied())?, rounding)?;
        let shares = split_by_weights(whole, &weights);
        for ((line, value), share) in priced.iter_mut().zip(&mut values).zip(shares) {
            line.discount += share; // at most what is left of the line's gross
            *value -= share;
        }
    }
    if let Some(charge) = profile.service_charge {
        let weights = goods(&priced, &values);
        let whole = share_of(sum(weights.iter().copied())?, charge.basis_points, rounding)?;
        let shares = split_by_weights(whole, &weights);
        for ((line, value), share) in priced.iter_mut().zip(&mut values).zip(shares) {
            line.service_charge = share;
            *value = value.checked_add(share).ok_or(PricingError::Overflow)?;
        }
    }

    let mut taxes = Vec::new();
    for class in TaxClass::ALL {
        let members: Vec<usize> = (0..priced.len()).filter(|i| priced[*i].tax_class == class).collect();
        if members.is_empty() {
            continue;
        }
        let weights: Vec<i64> = members.iter().map(|i| values[*i]).collect();
        let rate = rate_of(class, profile);
        let total = tax_of(class, rate, sum(weights.iter().copied())?, profile.mode, rounding)?;
        for (i, tax) in members.into_iter().zip(split_by_weights(total.tax, &weights)) {
            let line = &mut priced[i];
            line.tax = tax;
            (line.net, line.total) = match profile.mode {
                TaxMode::Exclusive | TaxMode::Inclusive if class == TaxClass::Stated => (0, values[i]),
                TaxMode::Exclusive => (values[i], values[i].checked_add(tax).ok_or(PricingError::Overflow)?),
                TaxMode::Inclusive => (values[i] - tax, values[i]),
            };
        }
        taxes.push(total);
    }
    add_up(currency, profile.mode, rounding, priced, taxes, adjustment)
}

/// The price of one piece, rounded where it is finer than a minor unit: for people to read, never to multiply.
pub fn piece_price(unit_price: i64, price_base_milli: i64, rounding: Rounding) -> i64 {
    if price_base_milli == WHOLE_MILLI || price_base_milli <= 0 {
        return unit_price;
    }
    narrow(rounding.ratio(i128::from(unit_price) * i128::from(WHOLE_MILLI), i128::from(price_base_milli))).unwrap_or(unit_price)
}

/// The values of what is sold; nothing for lines that are themselves a tax.
fn goods(lines: &[PricedLine], values: &[i64]) -> Vec<i64> {
    let of = |(line, value): (&PricedLine, &i64)| if line.tax_class == TaxClass::Stated { 0 } else { *value };
    lines.iter().zip(values).map(of).collect()
}

/// The line with its gross and its own discount; the later steps fill in the rest.
fn discounted_line(line: &PricingLine, rounding: Rounding) -> Result<PricedLine, PricingError> {
    if line.quantity_milli < 0 {
        return Err(PricingError::QuantityNegative(line.line_id));
    }
    if line.unit_price < 0 {
        return Err(PricingError::PriceNegative(line.line_id));
    }
    if line.price_base_milli <= 0 {
        return Err(PricingError::PriceBaseNotPositive(line.line_id));
    }
    let product = i128::from(line.quantity_milli) * i128::from(line.unit_price);
    let gross = narrow(rounding.ratio(product, i128::from(line.price_base_milli)))?;
    let discount = line.discount.as_ref().map_or(Ok(0), |discount| discount_of(discount, gross, rounding))?;
    Ok(PricedLine {
        line_id: line.line_id,
        quantity_milli: line.quantity_milli,
        tax_class: line.tax_class,
        gross,
        discount,
        service_charge: 0,
        tax: 0,
        net: 0,
        total: 0,
    })
}

/// What `discount` takes from `value`: from nothing to all of it.
fn discount_of(discount: &Discount, value: i64, rounding: Rounding) -> Result<i64, PricingError> {
    match *discount {
        Discount::Percent { basis_points } if basis_points > WHOLE_BASIS_POINTS => Err(PricingError::DiscountTooLarge),
        Discount::Percent { basis_points } => share_of(value, basis_points, rounding),
        Discount::Amount { amount } if amount < 0 => Err(PricingError::DiscountNegative),
        Discount::Amount { amount } if amount > value => Err(PricingError::DiscountTooLarge),
        Discount::Amount { amount } => Ok(amount),
    }
}

fn share_of(value: i64, basis_points: u32, rounding: Rounding) -> Result<i64, PricingError> {
    narrow(rounding.ratio(i128::from(value) * i128::from(basis_points), i128::from(WHOLE_BASIS_POINTS)))
}

fn rate_of(class: TaxClass, profile: &TaxProfile) -> u32 {
    match class {
        TaxClass::Standard => profile.standard_rate_basis_points,
        TaxClass::Zero | TaxClass::Exempt | TaxClass::Stated => 0,
    }
}

/// The tax of a whole class on `value`, rounded once. The tax is rounded, the base is what it leaves.
pub(super) fn tax_of(
    tax_class: TaxClass,
    rate_basis_points: u32,
    value: i64,
    mode: TaxMode,
    rounding: Rounding,
) -> Result<TaxTotal, PricingError> {
    let (base, tax) = match mode {
        TaxMode::Exclusive | TaxMode::Inclusive if tax_class == TaxClass::Stated => (0, value),
        TaxMode::Exclusive => (value, share_of(value, rate_basis_points, rounding)?),
        TaxMode::Inclusive => {
            let rate = i128::from(rate_basis_points);
            let tax = narrow(rounding.ratio(i128::from(value) * rate, i128::from(WHOLE_BASIS_POINTS) + rate))?;
            (value - tax, tax)
        }
    };
    Ok(TaxTotal { tax_class, rate_basis_points, base, tax })
}

/// The document of these lines, with every sum checked.
pub(super) fn add_up(
    currency: Currency,
    mode: TaxMode,
    rounding: Rounding,
    lines: Vec<PricedLine>,
    taxes: Vec<TaxTotal>,
    adjustment: i64,
) -> Result<Priced, PricingError> {
    let total = sum(lines.iter().map(|line| line.total).chain([adjustment]))?;
    if total < 0 {
        return Err(PricingError::NegativeTotal);
    }
    Ok(Priced {
        currency,
        mode,
        rounding,
        subtotal: sum(lines.iter().map(|line| line.gross))?,
        discount: sum(lines.iter().map(|line| line.discount))?,
        service_charge: sum(lines.iter().map(|line| line.service_charge))?,
        tax: sum(lines.iter().map(|line| line.tax))?,
        adjustment,
        total,
        lines,
        taxes,
    })
}

pub(super) fn sum(values: impl Iterator<Item = i64>) -> Result<i64, PricingError> {
    narrow(values.map(i128::from).sum())
}

fn narrow(value: i128) -> Result<i64, PricingError> {
    i64::try_from(value).map_err(|_| PricingError::Overflow)
}
