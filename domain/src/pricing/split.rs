//! Cutting a priced document into child bills by item. Frozen figures are divided; rates are never applied to prices again,
//! because three guests billed apart would then pay another sum than three guests billed together.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ChildBill, Priced, PricedLine, PricingError, TaxClass, TaxMode, TaxTotal,
    price::{add_up, sum, tax_of},
};
use crate::{
    ids::LineId,
    money::{cumulative_part, split_by_weights},
};

/// Divides a document into one child per part; a part says how much it takes of which line, in thousandths.
///
/// Every quantity of every line must be taken, exactly. Each line total is cut by the cumulative rule in the order of
/// `parts`, so children add up to the parent's total, discount and adjustment exactly. Each child's tax is then the
/// part contained in its own total, once per class, so that its tax document stands alone; the children's taxes may
/// therefore miss the parent's by a minor unit or so, and the gross of a divided line follows. The adjustment is spread
/// over the children by their line totals. Lines of a child keep the order of the parent. A line of quantity zero costs
/// nothing and goes to nobody.
///
/// # Errors
/// `PartEmpty`, `LineNotOnBill`, `DuplicateLine` (within one part), `PartQuantityNotPositive`, `QuantityExceedsLine`,
/// `LineLeftOver`; `InconsistentFigures` when `priced` was not made by [`price`](super::price()) or this function;
/// `Overflow`.
pub fn allocate_parts(priced: &Priced, parts: &[Vec<(LineId, i64)>]) -> Result<Vec<ChildBill>, PricingError> {
    check_figures(priced)?;
    if parts.is_empty() {
        return Err(PricingError::PartEmpty);
    }
    let mut taken = vec![0_i64; priced.lines.len()];
    let mut children = Vec::with_capacity(parts.len());
    for part in parts {
        children.push(cut_lines(priced, part, &mut taken)?);
    }
    if let Some((line, _)) = priced.lines.iter().zip(&taken).find(|(line, taken)| line.quantity_milli != **taken) {
        return Err(PricingError::LineLeftOver(line.line_id));
    }

    let mut weights = Vec::with_capacity(children.len());
    for lines in &children {
        weights.push(sum(lines.iter().map(|line| line.total))?);
    }
    let adjustments = split_by_weights(priced.adjustment, &weights);
    let tax_and_add = |(mut lines, adjustment): (Vec<PricedLine>, i64)| {
        let taxes = tax_lines(priced, &mut lines)?;
        add_up(priced.currency, priced.mode, priced.rounding, lines, taxes, adjustment)
    };
    children.into_iter().zip(adjustments).map(tax_and_add).collect()
}

/// Bounds that every document made here keeps, checked because figures may come back from storage.
fn check_figures(priced: &Priced) -> Result<(), PricingError> {
    let mut seen = BTreeSet::new();
    for line in &priced.lines {
        if !seen.insert(line.line_id) {
            return Err(PricingError::DuplicateLine(line.line_id));
        }
        let figures = [line.quantity_milli, line.gross, line.discount, line.service_charge, line.tax, line.net, line.total];
        if figures.iter().any(|figure| *figure < 0) {
            return Err(PricingError::InconsistentFigures("a line has a negative figure"));
        }
        if line.quantity_milli == 0 && line.total != 0 {
            return Err(PricingError::InconsistentFigures("a line without quantity costs something"));
        }
        if !priced.taxes.iter().any(|tax| tax.tax_class == line.tax_class) {
            return Err(PricingError::InconsistentFigures("a line has no tax entry"));
        }
    }
    if sum(priced.lines.iter().map(|line| line.total).chain([priced.adjustment]))? != priced.total {
        return Err(PricingError::InconsistentFigures("the lines do not add up to the total"));
    }
    Ok(())
}

/// The lines of one part, cut from the parent; `taken` counts what earlier parts took of each line. `tax` is the cut of the
/// parent's tax, still to be settled by [`tax_lines`]; `gross` and `net` are not known before that.
fn cut_lines(priced: &Priced, part: &[(LineId, i64)], taken: &mut [i64]) -> Result<Vec<PricedLine>, PricingError> {
    if part.is_empty() {
        return Err(PricingError::PartEmpty);
    }
    let index: BTreeMap<LineId, usize> = priced.lines.iter().enumerate().map(|(i, line)| (line.line_id, i)).collect();
    let mut quantities = BTreeMap::new();
    for &(line_id, quantity) in part {
        let i = *index.get(&line_id).ok_or(PricingError::LineNotOnBill(line_id))?;
        if quantity <= 0 {
            return Err(PricingError::PartQuantityNotPositive(line_id));
        }
        if quantities.insert(i, quantity).is_some() {
            return Err(PricingError::DuplicateLine(line_id));
        }
    }
    let mut lines = Vec::with_capacity(quantities.len());
    for (i, quantity_milli) in quantities {
        let parent = &priced.lines[i];
        let before = taken[i];
        let after = before
            .checked_add(quantity_milli)
            .filter(|after| *after <= parent.quantity_milli)
            .ok_or(PricingError::QuantityExceedsLine(parent.line_id))?;
        taken[i] = after;
        let cut = |figure: i64| cumulative_part(figure, before, after, parent.quantity_milli);
        let total = cut(parent.total);
        lines.push(PricedLine {
            line_id: parent.line_id,
            quantity_milli,
            tax_class: parent.tax_class,
            gross: 0,
            discount: cut(parent.discount),
            service_charge: cut(parent.service_charge),
            tax: cut(parent.tax).min(total),
            net: 0,
            total,
        });
    }
    Ok(lines)
}

/// Settles the tax of a child: contained in its total, rounded once per class. What that differs from the cut of the
/// parent's tax is a unit or so, spread where there is most room; every other line keeps its share of the parent's figures.
fn tax_lines(priced: &Priced, lines: &mut [PricedLine]) -> Result<Vec<TaxTotal>, PricingError> {
    let mut taxes = Vec::new();
    for class in TaxClass::ALL {
        let mut members: Vec<&mut PricedLine> = lines.iter_mut().filter(|line| line.tax_class == class).collect();
        let frozen = priced.taxes.iter().find(|tax| tax.tax_class == class);
        let Some(frozen) = frozen.filter(|_| !members.is_empty()) else { continue };
        let value = sum(members.iter().map(|line| line.total))?;
        let total = tax_of(class, frozen.rate_basis_points, value, TaxMode::Inclusive, priced.rounding)?;
        let difference = total.tax - sum(members.iter().map(|line| line.tax))?;
        let room = |line: &&mut PricedLine| if difference > 0 { line.total - line.tax } else { line.tax };
        let rooms: Vec<i64> = members.iter().map(room).collect();
        for (line, correction) in members.iter_mut().zip(split_by_weights(difference, &rooms)) {
            line.tax += correction;
            line.net = line.total - line.tax;
            let value = match priced.mode {
                TaxMode::Exclusive if class != TaxClass::Stated => line.net,
                TaxMode::Exclusive | TaxMode::Inclusive => line.total,
            };
            // Only on slivers of a satang can the cut charge exceed the value it is part of.
            line.service_charge = line.service_charge.min(value);
            line.gross = (value - line.service_charge).checked_add(line.discount).ok_or(PricingError::Overflow)?;
        }
        taxes.push(total);
    }
    Ok(taxes)
}
