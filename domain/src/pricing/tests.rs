//! The golden vectors 1, 2, 3, 5, 7 and 9 (the rest are in `money`), and what must hold for every document.
#![expect(clippy::mistyped_literal_suffixes, reason = "476_16 reads as 476.16 baht in satang")]

use proptest::prelude::*;

use super::*;
use crate::ids::Ulid;

fn id(n: usize) -> LineId {
    LineId(Ulid::from(n as u128))
}

fn line(n: usize, pieces: i64, unit_price: i64) -> PricingLine {
    let quantity_milli = pieces * WHOLE_MILLI;
    PricingLine { line_id: id(n), quantity_milli, unit_price, price_base_milli: WHOLE_MILLI, tax_class: TaxClass::Standard, discount: None }
}

fn thb(lines: &[PricingLine], discount: Option<&Discount>, profile: &TaxProfile) -> Result<Priced, PricingError> {
    price(Currency::THB, lines, discount, 0, profile)
}

fn of(priced: &Priced, figure: impl Fn(&PricedLine) -> i64) -> Vec<i64> {
    priced.lines.iter().map(figure).collect()
}

fn restaurant() -> TaxProfile {
    TaxProfile { service_charge: Some(ServiceCharge { basis_points: 1_000 }), ..TaxProfile::thai_vat_exclusive() }
}

fn golden_dinner() -> Priced {
    let lines = [line(1, 3, 120_00), line(2, 1, 89_50)];
    thb(&lines, Some(&Discount::Percent { basis_points: 1_000 }), &restaurant()).unwrap()
}

fn rounding_cash(policy: CashRoundingPolicy, unit: i64) -> TaxProfile {
    TaxProfile { cash_rounding: CashRounding { policy, unit }, ..restaurant() }
}

#[test]
fn golden_vector_1_discount_then_service_then_vat() {
    let dinner = golden_dinner();
    assert_eq!((dinner.subtotal, dinner.discount, dinner.service_charge), (449_50, 44_95, 40_46));
    assert_eq!(of(&dinner, |l| l.discount), [36_00, 8_95]);
    assert_eq!(of(&dinner, |l| l.gross - l.discount), [324_00, 80_55]);
    assert_eq!(of(&dinner, |l| l.service_charge), [32_40, 8_06]);
    assert_eq!(of(&dinner, |l| l.tax), [24_95, 6_20]);
    assert_eq!(of(&dinner, |l| l.total), [381_35, 94_81]);
    assert_eq!((dinner.tax, dinner.total), (31_15, 476_16));
    let vat = TaxTotal { tax_class: TaxClass::Standard, rate_basis_points: 700, base: 445_01, tax: 31_15 };
    assert_eq!(dinner.taxes, [vat]);
}

#[test]
fn a_line_that_is_itself_a_tax_is_neither_taxed_nor_discounted_nor_served() {
    let levy = PricingLine { tax_class: TaxClass::Stated, ..line(2, 1, 50) };
    for profile in [restaurant(), TaxProfile { mode: TaxMode::Inclusive, ..restaurant() }, TaxProfile::untaxed()] {
        let alone = thb(&[line(1, 1, 100_00)], Some(&Discount::Percent { basis_points: 1_000 }), &profile).unwrap();
        let with = thb(&[line(1, 1, 100_00), levy.clone()], Some(&Discount::Percent { basis_points: 1_000 }), &profile).unwrap();
        assert_eq!((with.total, with.tax), (alone.total + 50, alone.tax + 50));
        assert_eq!((with.discount, with.service_charge), (alone.discount, alone.service_charge));
        let stated = TaxTotal { tax_class: TaxClass::Stated, rate_basis_points: 0, base: 0, tax: 50 };
        assert_eq!((with.taxes.last(), with.lines[1].net), (Some(&stated), 0));
    }
}

#[test]
fn golden_vector_2_cash_is_rounded_apart_from_the_total() {
    let total = golden_dinner().total;
    assert_eq!(rounding_cash(CashRoundingPolicy::Nearest, 25).cash_due(total), 476_25);
    assert_eq!(rounding_cash(CashRoundingPolicy::Down, 25).cash_due(total), 476_00);
    assert_eq!(rounding_cash(CashRoundingPolicy::Up, 25).cash_due(total), 476_25);
    assert_eq!(restaurant().cash_due(total), 476_16);
}

#[test]
fn golden_vector_3_vat_is_rounded_once_per_document() {
    let lines = [line(1, 1, 10_00), line(2, 1, 10_00), line(3, 1, 10_00)];
    let priced = thb(&lines, None, &TaxProfile::thai_vat_inclusive()).unwrap();
    assert_eq!((priced.tax, priced.total), (1_96, 30_00));
    assert_eq!(of(&priced, |l| l.tax), [66, 65, 65]);
}

#[test]
fn golden_vector_5_children_share_frozen_figures() {
    let parts = [vec![(id(1), 2_000)], vec![(id(1), 1_000), (id(2), 1_000)]];
    let children = allocate_parts(&golden_dinner(), &parts).unwrap();
    let figures: Vec<_> = children.iter().map(|child| (child.total, child.tax)).collect();
    assert_eq!(figures, [(254_23, 16_63), (221_93, 14_52)]);
    assert_eq!(children[0].lines[0].gross, 240_00);
    assert_eq!(children[1].lines[1], golden_dinner().lines[1]);
}

#[test]
fn golden_vector_7_a_discount_is_spread_without_loss() {
    let lines = [line(1, 1, 5_00), line(2, 1, 5_00), line(3, 1, 5_00)];
    let priced = thb(&lines, Some(&Discount::Amount { amount: 1_00 }), &TaxProfile::untaxed()).unwrap();
    assert_eq!(of(&priced, |l| l.discount), [34, 33, 33]);
    assert_eq!(priced.total, 14_00);
}

#[test]
fn golden_vector_9_vat_inside_a_price() {
    let priced = thb(&[line(1, 1, 107_00)], None, &TaxProfile::thai_vat_inclusive()).unwrap();
    assert_eq!((priced.tax, priced.lines[0].net, priced.taxes[0].base, priced.total), (7_00, 100_00, 100_00, 107_00));
}

#[test]
fn three_guests_on_child_bills_pay_what_one_bill_says() {
    let lines = [line(1, 1, 33_01), line(2, 1, 33_01), line(3, 1, 33_01)];
    let parent = thb(&lines, None, &restaurant()).unwrap();
    assert_eq!(parent.total, 116_56);
    let parts: Vec<_> = (1..=3).map(|n| vec![(id(n), 1_000)]).collect();
    let children = allocate_parts(&parent, &parts).unwrap();
    assert_eq!(children.iter().map(|child| child.total).sum::<i64>(), 116_56);
}

#[test]
fn each_class_is_taxed_by_itself_in_document_order() {
    let mut lines = [line(1, 1, 50_00), line(2, 1, 30_00), line(3, 1, 20_00)];
    lines[0].tax_class = TaxClass::Exempt;
    lines[1].tax_class = TaxClass::Zero;
    let priced = thb(&lines, None, &TaxProfile::thai_vat_exclusive()).unwrap();
    let taxes: Vec<_> = priced.taxes.iter().map(|t| (t.tax_class, t.rate_basis_points, t.base, t.tax)).collect();
    let expected = [(TaxClass::Standard, 700, 20_00, 1_40), (TaxClass::Zero, 0, 30_00, 0), (TaxClass::Exempt, 0, 50_00, 0)];
    assert_eq!(taxes, expected);
}

#[test]
fn the_profile_decides_where_half_a_satang_goes() {
    // 0.5, 1.5 and 2.5 satang.
    let at = |rounding, quantity_milli| {
        let half = PricingLine { quantity_milli, ..line(1, 0, 1) };
        thb(&[half], None, &TaxProfile { rounding, ..TaxProfile::untaxed() }).unwrap().total
    };
    assert_eq!([500, 1_500, 2_500].map(|q| at(Rounding::HalfUp, q)), [1, 2, 3]);
    assert_eq!([500, 1_500, 2_500].map(|q| at(Rounding::HalfEven, q)), [0, 2, 2]);
    assert_eq!([-5, -4, -3, -2, -1].map(|n| Rounding::HalfEven.ratio(n, 2)), [-2, -2, -2, -1, 0]);
}

#[test]
fn an_adjustment_is_untaxed_and_cannot_exceed_the_lines() {
    let at = |adjustment| price(Currency::THB, &[line(1, 1, 100_00)], None, adjustment, &TaxProfile::thai_vat_exclusive());
    assert_eq!(at(-7_00).map(|p| (p.tax, p.total)), Ok((7_00, 100_00)));
    assert_eq!(at(-107_00).map(|p| p.total), Ok(0));
    assert_eq!(at(-107_01), Err(PricingError::NegativeTotal));
}

#[test]
fn impossible_input_is_refused_by_name() {
    let profile = TaxProfile::untaxed();
    let refused = |line: PricingLine| thb(&[line], None, &profile).unwrap_err();
    let with = |discount| PricingLine { discount: Some(discount), ..line(1, 1, 10_00) };
    assert_eq!(refused(line(1, -1, 10_00)), PricingError::QuantityNegative(id(1)));
    assert_eq!(refused(line(1, 1, -1)), PricingError::PriceNegative(id(1)));
    assert_eq!(refused(line(1, 9_000, i64::MAX)), PricingError::Overflow);
    assert_eq!(refused(with(Discount::Amount { amount: 10_01 })), PricingError::DiscountTooLarge);
    assert_eq!(refused(with(Discount::Amount { amount: -1 })), PricingError::DiscountNegative);
    assert_eq!(refused(with(Discount::Percent { basis_points: 10_001 })), PricingError::DiscountTooLarge);
    let twice = [line(1, 1, 1), line(1, 1, 1)];
    assert_eq!(thb(&twice, None, &profile), Err(PricingError::DuplicateLine(id(1))));
    let beyond = Some(&Discount::Amount { amount: 3 });
    assert_eq!(thb(&[line(1, 1, 1), line(2, 1, 1)], beyond, &profile), Err(PricingError::DiscountTooLarge));
}

#[test]
fn a_profile_out_of_bounds_prices_nothing() {
    let good = restaurant();
    assert_eq!(good.validate(), Ok(()));
    let bad = [
        TaxProfile { code: String::new(), ..good.clone() },
        TaxProfile { version: 0, ..good.clone() },
        TaxProfile { standard_rate_basis_points: 10_001, ..good.clone() },
        TaxProfile { service_charge: Some(ServiceCharge { basis_points: 10_001 }), ..good },
        rounding_cash(CashRoundingPolicy::Nearest, 0),
    ];
    for profile in bad {
        let answer = thb(&[line(1, 1, 1)], None, &profile);
        assert!(matches!(answer, Err(PricingError::BadProfile(_))), "{profile:?} gave {answer:?}");
    }
}

#[test]
fn a_split_that_does_not_take_everything_exactly_is_refused() {
    let refused = |parts: &[Vec<(LineId, i64)>]| allocate_parts(&golden_dinner(), parts).unwrap_err();
    assert_eq!(refused(&[]), PricingError::PartEmpty);
    assert_eq!(refused(&[vec![], vec![(id(1), 3_000), (id(2), 1_000)]]), PricingError::PartEmpty);
    assert_eq!(refused(&[vec![(id(3), 1_000)]]), PricingError::LineNotOnBill(id(3)));
    assert_eq!(refused(&[vec![(id(1), 0)]]), PricingError::PartQuantityNotPositive(id(1)));
    assert_eq!(refused(&[vec![(id(1), 1_000), (id(1), 2_000)]]), PricingError::DuplicateLine(id(1)));
    assert_eq!(refused(&[vec![(id(1), 2_000)], vec![(id(1), 1_001)]]), PricingError::QuantityExceedsLine(id(1)));
    assert_eq!(refused(&[vec![(id(1), 3_000)], vec![(id(2), 999)]]), PricingError::LineLeftOver(id(2)));
    let spoiled = Priced { total: 1, ..golden_dinner() };
    assert!(matches!(allocate_parts(&spoiled, &[vec![(id(1), 3_000)]]), Err(PricingError::InconsistentFigures(_))));
}

#[test]
fn outside_input_is_read_strictly() {
    let discount: Discount = serde_json::from_str(r#"{"kind":"percent","basis_points":1000}"#).unwrap();
    assert_eq!(discount, Discount::Percent { basis_points: 1_000 });
    assert!(serde_json::from_str::<Discount>(r#"{"kind":"percent","basis_points":1000,"amount":5}"#).is_err());
    let text = serde_json::to_string(&restaurant()).unwrap();
    assert_eq!(serde_json::from_str::<TaxProfile>(&text).unwrap(), restaurant());
    assert!(serde_json::from_str::<TaxProfile>(&text.replace("\"mode\"", "\"tip\":1,\"mode\"")).is_err());
    let frozen = serde_json::to_string(&golden_dinner()).unwrap();
    assert_eq!(serde_json::from_str::<Priced>(&frozen).unwrap(), golden_dinner());
}

/// Every sum and identity that [`Priced`] and [`PricedLine`] promise.
fn holds(priced: &Priced) -> Result<(), TestCaseError> {
    let sum = |figure: fn(&PricedLine) -> i64| priced.lines.iter().map(figure).sum::<i64>();
    prop_assert_eq!(sum(|l| l.total) + priced.adjustment, priced.total);
    prop_assert!(priced.total >= 0);
    prop_assert_eq!(sum(|l| l.gross), priced.subtotal);
    prop_assert_eq!(sum(|l| l.discount), priced.discount);
    prop_assert_eq!(sum(|l| l.service_charge), priced.service_charge);
    prop_assert_eq!(sum(|l| l.tax), priced.tax);
    for line in &priced.lines {
        let figures = [line.gross, line.discount, line.service_charge, line.tax, line.net, line.total];
        prop_assert!(figures.iter().all(|figure| *figure >= 0), "{:?}", line);
        prop_assert!(line.discount <= line.gross);
        prop_assert_eq!(line.net + line.tax, line.total);
        let charged = match priced.mode {
            TaxMode::Exclusive if line.tax_class != TaxClass::Stated => line.net,
            TaxMode::Exclusive | TaxMode::Inclusive => line.total,
        };
        prop_assert_eq!(line.gross - line.discount + line.service_charge, charged);
    }
    for class in TaxClass::ALL {
        let of_class = || priced.lines.iter().filter(|l| l.tax_class == class);
        let expected = (of_class().count() > 0).then(|| (of_class().map(|l| l.net).sum(), of_class().map(|l| l.tax).sum()));
        prop_assert_eq!(priced.taxes.iter().find(|t| t.tax_class == class).map(|t| (t.base, t.tax)), expected);
    }
    Ok(())
}

fn some_class() -> impl Strategy<Value = TaxClass> {
    prop_oneof![4 => Just(TaxClass::Standard), 1 => Just(TaxClass::Zero), 1 => Just(TaxClass::Exempt), 1 => Just(TaxClass::Stated)]
}

/// Prices from slivers to thousands of baht, so that rounding is met at every step.
fn some_lines() -> impl Strategy<Value = Vec<PricingLine>> {
    let unit_price = prop_oneof![0_i64..10, 0_i64..500_00, 0_i64..1_000_000_00];
    let percent = proptest::option::of((0_u32..=10_000).prop_map(|basis_points| Discount::Percent { basis_points }));
    prop::collection::vec((0_i64..20_000, unit_price, some_class(), percent), 0..12).prop_map(|lines| {
        let numbered = lines.into_iter().enumerate();
        numbered
            .map(|(n, (quantity_milli, unit_price, tax_class, discount))| PricingLine {
                line_id: id(n),
                quantity_milli,
                unit_price,
                price_base_milli: if n % 5 == 4 { 10_000 } else { WHOLE_MILLI },
                tax_class,
                discount,
            })
            .collect()
    })
}

fn some_profile() -> impl Strategy<Value = TaxProfile> {
    let mode = prop_oneof![Just(TaxMode::Exclusive), Just(TaxMode::Inclusive)];
    let rounding = prop_oneof![Just(Rounding::HalfUp), Just(Rounding::HalfEven)];
    let rate = prop_oneof![Just(700_u32), 0_u32..=10_000];
    let charge = proptest::option::of(prop_oneof![Just(1_000_u32), 0_u32..=10_000]);
    (mode, rounding, rate, charge).prop_map(|(mode, rounding, standard_rate_basis_points, charge)| TaxProfile {
        mode,
        rounding,
        standard_rate_basis_points,
        service_charge: charge.map(|basis_points| ServiceCharge { basis_points }),
        ..TaxProfile::untaxed()
    })
}

fn some_order_discount() -> impl Strategy<Value = Option<Discount>> {
    proptest::option::of((0_u32..=10_000).prop_map(|basis_points| Discount::Percent { basis_points }))
}

/// Cuts every line at two places into three parts; parts that got nothing are dropped.
fn three_parts(priced: &Priced, cuts: &[(u8, u8)]) -> Vec<Vec<(LineId, i64)>> {
    let mut parts = vec![Vec::new(); 3];
    for (line, (a, b)) in priced.lines.iter().zip(cuts) {
        let at = |cut: u8| line.quantity_milli * i64::from(cut) / 255;
        let (low, high) = (at(*a.min(b)), at(*a.max(b)));
        for (part, quantity) in parts.iter_mut().zip([low, high - low, line.quantity_milli - high]) {
            if quantity > 0 {
                part.push((line.line_id, quantity));
            }
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_document_adds_up(lines in some_lines(), discount in some_order_discount(), adjustment in 0_i64..1_000_00, profile in some_profile()) {
        let priced = price(Currency::THB, &lines, discount.as_ref(), adjustment, &profile);
        holds(&priced.unwrap())?;
    }

    #[test]
    fn a_fixed_discount_is_taken_whole(lines in some_lines(), thousandth in 0_i64..=1_000, profile in some_profile()) {
        let before = price(Currency::THB, &lines, None, 0, &profile).unwrap();
        let goods: i64 = before.lines.iter().filter(|l| l.tax_class != TaxClass::Stated).map(|l| l.gross - l.discount).sum();
        let amount = goods / 1_000 * thousandth;
        let after = thb(&lines, Some(&Discount::Amount { amount }), &profile).unwrap();
        prop_assert_eq!(after.discount, before.discount + amount);
        holds(&after)?;
    }

    #[test]
    fn an_inclusive_rate_never_changes_the_total(lines in some_lines(), discount in some_order_discount(), rate in 0_u32..=10_000, profile in some_profile()) {
        let at = |standard_rate_basis_points| {
            let profile = TaxProfile { mode: TaxMode::Inclusive, standard_rate_basis_points, ..profile.clone() };
            thb(&lines, discount.as_ref(), &profile).unwrap()
        };
        let (taxed, untaxed) = (at(rate), at(0));
        prop_assert_eq!(of(&taxed, |l| l.total), of(&untaxed, |l| l.total));
        prop_assert_eq!(taxed.total, taxed.subtotal - taxed.discount + taxed.service_charge);
    }

    #[test]
    fn children_add_up_to_their_parent(lines in some_lines(), discount in some_order_discount(), adjusted in -1_000_i64..=1_000, profile in some_profile(), cuts in prop::collection::vec(any::<(u8, u8)>(), 12)) {
        let plain = thb(&lines, discount.as_ref(), &profile).unwrap();
        let adjustment = plain.total / 1_000 * adjusted;
        let parent = price(Currency::THB, &lines, discount.as_ref(), adjustment, &profile).unwrap();
        let parts = three_parts(&parent, &cuts);
        if parts.is_empty() {
            return Ok(());
        }
        let children = allocate_parts(&parent, &parts).unwrap();
        let sum = |figure: fn(&Priced) -> i64| children.iter().map(figure).sum::<i64>();
        prop_assert_eq!(sum(|c| c.total), parent.total);
        prop_assert_eq!(sum(|c| c.discount), parent.discount);
        prop_assert_eq!(sum(|c| c.adjustment), parent.adjustment);
        // Each child rounds its tax once, the parent once: at most half a unit each.
        let drift = (sum(|c| c.tax) - parent.tax).abs();
        prop_assert!(drift <= 2, "children's tax drifts by {}", drift);
        for (child, part) in children.iter().zip(&parts) {
            holds(child)?;
            let taken: Vec<_> = child.lines.iter().map(|l| (l.line_id, l.quantity_milli)).collect();
            prop_assert_eq!(&taken, part);
        }
    }

    #[test]
    fn a_bill_in_one_part_is_the_bill_itself(lines in some_lines(), discount in some_order_discount(), profile in some_profile()) {
        let lines: Vec<_> = lines.into_iter().map(|l| PricingLine { quantity_milli: l.quantity_milli + 1, ..l }).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let parent = thb(&lines, discount.as_ref(), &profile).unwrap();
        let whole: Vec<_> = lines.iter().map(|l| (l.line_id, l.quantity_milli)).collect();
        prop_assert_eq!(allocate_parts(&parent, &[whole]), Ok(vec![parent]));
    }

    #[test]
    fn cash_is_less_than_one_unit_away(total in -1_000_000_00_i64..1_000_000_00, unit in 1_i64..1_000, rounding in prop_oneof![Just(Rounding::HalfUp), Just(Rounding::HalfEven)]) {
        let due = |policy| TaxProfile { rounding, ..rounding_cash(policy, unit) }.cash_due(total);
        let [down, nearest, up] = [CashRoundingPolicy::Down, CashRoundingPolicy::Nearest, CashRoundingPolicy::Up].map(due);
        prop_assert!(down <= total && total <= up);
        prop_assert!(total - down < unit && up - total < unit && (nearest - total).abs() * 2 <= unit);
        prop_assert!([down, nearest, up].iter().all(|cash| cash % unit == 0));
    }

    #[test]
    fn no_input_panics(
        raw in prop::collection::vec((any::<i64>(), any::<i64>(), some_class(), any::<(bool, i64)>()), 0..6),
        small in any::<bool>(), discount in any::<(bool, i64)>(), adjustment in any::<i64>(), rates in any::<(u32, u32)>(), unit in any::<i64>(),
        mode in some_profile(), quantities in prop::collection::vec((0_usize..7, any::<i64>()), 0..6),
    ) {
        let discount_of = |(percent, n): (bool, i64)| {
            if percent { Discount::Percent { basis_points: u32::try_from(n % 11_000).unwrap_or(0) } } else { Discount::Amount { amount: n } }
        };
        // Half of the cases fold the input into bounds, so that sums rather than single figures overflow.
        let fold = |n: i64, by: i64| if small { n.unsigned_abs().cast_signed().max(0) % by } else { n };
        let lines: Vec<PricingLine> = raw.iter().enumerate().map(|(n, (quantity, unit_price, tax_class, discount))| PricingLine {
            line_id: id(n),
            quantity_milli: fold(*quantity, 2_000),
            unit_price: fold(*unit_price, i64::MAX),
            price_base_milli: fold(discount.1, 30_000),
            tax_class: *tax_class,
            discount: discount.0.then(|| discount_of(*discount)),
        }).collect();
        let (rate, charge) = if small { (rates.0 % 10_001, rates.1 % 10_001) } else { rates };
        let cash_rounding = CashRounding { policy: CashRoundingPolicy::Up, unit };
        let service_charge = Some(ServiceCharge { basis_points: charge });
        let profile = TaxProfile { standard_rate_basis_points: rate, service_charge, cash_rounding, ..mode };
        let _ = profile.cash_due(adjustment);
        let parts: Vec<_> = quantities.iter().map(|(n, quantity)| vec![(id(*n), *quantity)]).collect();
        let valid = TaxProfile { cash_rounding: CashRounding::NONE, ..profile.clone() };
        for profile in [profile, valid] {
            if let Ok(priced) = price(Currency::THB, &lines, Some(&discount_of(discount)), adjustment, &profile) {
                let _ = allocate_parts(&priced, &parts);
            }
        }
    }

    #[test]
    fn no_stored_figures_panic(figures in prop::collection::vec(any::<[i64; 7]>(), 1..4), folded in any::<bool>(), rate in any::<u32>(), profile in some_profile(), cut in any::<u8>()) {
        let fold = |n: i64| if folded { n.checked_abs().unwrap_or(0) / 4 } else { n };
        let lines: Vec<_> = figures.iter().enumerate().map(|(n, f)| PricedLine {
            line_id: id(n), quantity_milli: fold(f[0]), tax_class: TaxClass::Standard, gross: fold(f[1]), discount: fold(f[2]),
            service_charge: fold(f[3]), tax: fold(f[4]), net: fold(f[5]), total: fold(f[6]),
        }).collect();
        let total = lines.iter().fold(0_i64, |sum, l| sum.wrapping_add(l.total));
        let taxes = vec![TaxTotal { tax_class: TaxClass::Standard, rate_basis_points: rate, base: 0, tax: 0 }];
        let priced = Priced { currency: Currency::THB, mode: profile.mode, rounding: profile.rounding, subtotal: 0, discount: 0,
            service_charge: 0, tax: 0, adjustment: 0, total, lines, taxes };
        let share = |l: &PricedLine| l.quantity_milli.max(0) / 256 * i64::from(cut);
        let first = priced.lines.iter().map(|l| (l.line_id, share(l))).collect();
        let rest = priced.lines.iter().map(|l| (l.line_id, l.quantity_milli.wrapping_sub(share(l)))).collect();
        let _ = allocate_parts(&priced, &[first, rest]);
    }
}
