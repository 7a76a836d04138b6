//! Cells as values: decimals, quantities and local times, read exactly or not at all.

use chrono::{DateTime, Datelike, Duration, NaiveDateTime, Timelike, Utc};
use domain::{
    decider::Aggregate,
    ids::{MerchantId, PspId, StoreId, Ulid},
    money::{Currency, Money},
    pricing::{TaxProfile, WHOLE_MILLI},
    store::{self, Store},
};
use rust_decimal::Decimal;
use serde::Deserialize;

use super::{card_cells::printable, mapping_rows::Sign, plan_rows::sign_of};

/// Which sign stands before the decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum DecimalSign {
    /// `38.70`
    #[default]
    #[serde(rename = ".")]
    Point,
    /// `38,70`
    #[serde(rename = ",")]
    Comma,
}

impl DecimalSign {
    /// The number as it is written with a decimal point. The other sign is refused, as no reading of it would be safe.
    fn pointed(self, text: &str) -> Result<String, String> {
        match self {
            Self::Point => Ok(text.to_owned()),
            Self::Comma if text.contains('.') => Err(format!("'{}' has a point, but the decimal sign is a comma", shown(text))),
            Self::Comma => Ok(text.replacen(',', ".", 1)),
        }
    }

    /// Decimal text in major units, as minor units of `currency`.
    pub(super) fn money(self, text: &str, currency: Currency) -> Result<i64, String> {
        let pointed = self.pointed(text)?;
        Money::parse_major(&pointed, currency).map(|money| money.amount).map_err(|error| error.to_string())
    }

    /// Decimal text in major units with at most `decimals` decimals, as minor units for a quantity in thousandths: one piece
    /// where the currency has as many decimals, ten, a hundred … pieces where the price is finer.
    pub(super) fn price(self, text: &str, currency: Currency, decimals: u32) -> Result<(i64, i64), String> {
        let bad = || format!("'{}' is not a decimal amount with at most {decimals} decimals", shown(text));
        let value = plain_decimal(&self.pointed(text)?).ok_or_else(bad)?.normalize();
        let finer = value.scale().saturating_sub(currency.exponent());
        if value.scale() > decimals.max(currency.exponent()) || finer > FINEST {
            return Err(bad());
        }
        let units = value.checked_mul(Decimal::from(10_i64.pow(currency.exponent() + finer))).ok_or_else(bad)?;
        Ok((i64::try_from(units).map_err(|_| bad())?, WHOLE_MILLI * 10_i64.pow(finer)))
    }

    /// The sign of a number, whatever its decimals.
    pub(super) fn sign(self, text: &str) -> Option<Sign> {
        let value = plain_decimal(&self.pointed(text).ok()?)?;
        Some(sign_of(value.mantissa()))
    }

    /// Decimal text with at most three decimals, as thousandths.
    pub(super) fn milli(self, text: &str) -> Result<i64, String> {
        let bad = || format!("'{}' is not a quantity with at most 3 decimals", shown(text));
        let pointed = self.pointed(text)?;
        let value = plain_decimal(&pointed).ok_or_else(bad)?;
        let milli = value.checked_mul(Decimal::ONE_THOUSAND).ok_or_else(bad)?.normalize();
        if milli.scale() != 0 {
            return Err(bad());
        }
        i64::try_from(milli).map_err(|_| bad())
    }
}

/// Most decimals of a price beyond those of the currency.
pub(super) const FINEST: u32 = 6;

/// A number of digits and perhaps a point, with perhaps a minus before it; nothing else is safe to read.
fn plain_decimal(pointed: &str) -> Option<Decimal> {
    let digits = pointed.strip_prefix('-').unwrap_or(pointed);
    let plain = digits.starts_with(|c: char| c.is_ascii_digit()) && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain && !digits.ends_with('.') { Decimal::from_str_exact(pointed).ok() } else { None }
}

/// Text of a cell in a message: short, without line breaks.
pub(super) fn shown(text: &str) -> String {
    printable(text).chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Turns wall-clock time of one zone into instants.
///
/// The zone's rules are asked of the domain ([`store::Opened::business_date`]), so that an import and a shop never
/// disagree about local time.
#[derive(Debug, Clone)]
pub struct LocalClock {
    shop: store::Opened,
}

/// Offsets from UTC lie between these, in hours; Kiribati is at +14, Baker Island at -12.
const EARLIEST_HOURS: i64 = 15;
const LATEST_HOURS: i64 = 13;
/// Offsets in use are multiples of this many minutes.
const STEP_MINUTES: i64 = 15;

impl LocalClock {
    /// The clock of an IANA zone.
    ///
    /// # Errors
    /// The zone is not known.
    pub fn new(zone: &str) -> Result<Self, String> {
        let nobody = Ulid::from_parts(0, 0);
        let shop = store::Opened {
            store_id: StoreId(nobody),
            merchant_id: MerchantId(nobody),
            psp_id: PspId(nobody),
            code: "clock".to_owned(),
            name: "clock".to_owned(),
            currency: Currency::THB,
            tax_profile: TaxProfile::untaxed(),
            zone: zone.to_owned(),
            day_starts_at_minute: 0,
        };
        let command = store::Command::Open(Box::new(shop.clone()));
        Store::decide(&store::State::default(), command).map_err(|rejection| rejection.to_string())?;
        Ok(Self { shop })
    }

    /// Reads wall-clock text by a `strftime` format.
    ///
    /// # Errors
    /// The text does not follow the format, or its year is not one of 1900 to 2999.
    pub fn read(&self, text: &str, format: &str) -> Result<DateTime<Utc>, String> {
        let local = NaiveDateTime::parse_from_str(text, format).map_err(|_| format!("'{}' is not a time like {format}", shown(text)))?;
        if (1900..=2999).contains(&local.year()) {
            Ok(self.instant(local))
        } else {
            Err(format!("the year of '{}' is out of range", shown(text)))
        }
    }

    /// The first instant at which the zone's clocks show `local` or later.
    ///
    /// So a time that occurs twice (clocks set back) is its first occurrence, and a time that does not occur (clocks set
    /// forward) is the moment of the change. Seconds are kept in every case.
    fn instant(&self, local: NaiveDateTime) -> DateTime<Utc> {
        let minute = local.hour() * 60 + local.minute();
        let mut shop = self.shop.clone();
        // A business day that begins at this very minute has come to this date once the clocks show it.
        shop.day_starts_at_minute = u16::try_from(minute).unwrap_or(0);
        let reached = |at: DateTime<Utc>| shop.business_date(at) >= local.date();
        let whole = local.and_utc() - Duration::seconds(i64::from(local.second())) - Duration::nanoseconds(i64::from(local.nanosecond()));
        // The first step that has come so far; later ones all have, so halving finds it.
        let at = |step: i64| whole + Duration::minutes(step * STEP_MINUTES);
        let (mut before, mut first) = (-EARLIEST_HOURS * 60 / STEP_MINUTES - 1, LATEST_HOURS * 60 / STEP_MINUTES);
        while first - before > 1 {
            let middle = (before + first).div_euclid(2);
            if reached(at(middle)) { first = middle } else { before = middle }
        }
        let coarse = at(first);
        // Inside a gap the steps may land a little after the change: go back to it minute by minute.
        let exact = (1..STEP_MINUTES).map(|minutes| coarse - Duration::minutes(minutes)).take_while(|at| reached(*at)).last();
        exact.unwrap_or(coarse) + (local.and_utc() - whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(zone: &str, local: &str) -> String {
        let instant = LocalClock::new(zone).unwrap().read(local, "%Y-%m-%d %H:%M:%S").unwrap();
        instant.format("%Y-%m-%d %H:%M:%S").to_string()
    }

    #[test]
    fn decimals_are_exact_with_either_sign() {
        let thb = Currency::THB;
        assert_eq!(DecimalSign::Point.money("38.7", thb), Ok(38_70));
        assert_eq!(DecimalSign::Point.money("-0.01", thb), Ok(-1));
        assert_eq!(DecimalSign::Comma.money("38,70", thb), Ok(38_70));
        assert_eq!(DecimalSign::Comma.money("40", thb), Ok(40_00));
        for bad in ["", "38,7", "1e2", "0.001", "NaN", "1 000.00", "1.2.3", "$5"] {
            assert!(DecimalSign::Point.money(bad, thb).is_err(), "{bad} was accepted");
        }
        for bad in ["38.70", "1,000,00", "1.000,00"] {
            assert!(DecimalSign::Comma.money(bad, thb).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_price_finer_than_the_minor_unit_is_for_more_pieces() {
        let gbp = "GBP".parse().unwrap();
        assert_eq!(DecimalSign::Point.price("0.001", gbp, 3), Ok((1, 10_000)));
        assert_eq!(DecimalSign::Point.price("1.6590", gbp, 4), Ok((1_659, 10_000)));
        assert_eq!(DecimalSign::Comma.price("2,50", gbp, 3), Ok((2_50, 1_000)));
        assert_eq!(DecimalSign::Point.price("-0.0001", gbp, 4), Ok((-1, 100_000)));
        assert_eq!(DecimalSign::Point.price("7", gbp, 0), Ok((7_00, 1_000)));
        for bad in ["0.0001", "", "1e3", ".5", "99999999999999999999.99"] {
            assert!(DecimalSign::Point.price(bad, gbp, 3).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn quantities_have_three_decimals() {
        assert_eq!(DecimalSign::Point.milli("1"), Ok(1_000));
        assert_eq!(DecimalSign::Point.milli("-2"), Ok(-2_000));
        assert_eq!(DecimalSign::Comma.milli("0,125"), Ok(125));
        for bad in ["", "-", "1.", ".5", "0.0001", "1_000", "one", "99999999999999999999"] {
            assert!(DecimalSign::Point.milli(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn local_times_follow_the_zone_in_winter_and_summer() {
        assert_eq!(utc("Europe/Kyiv", "2024-03-01 10:15:00"), "2024-03-01 08:15:00");
        assert_eq!(utc("Europe/Kyiv", "2024-07-01 10:15:07"), "2024-07-01 07:15:07");
        assert_eq!(utc("Asia/Bangkok", "2024-07-01 00:00:00"), "2024-06-30 17:00:00");
        assert_eq!(utc("Asia/Kathmandu", "2024-07-01 12:00:59"), "2024-07-01 06:15:59");
        assert_eq!(utc("America/New_York", "2018-12-31 23:59:59"), "2019-01-01 04:59:59");
        assert_eq!(utc("Pacific/Kiritimati", "2024-01-01 00:00:00"), "2023-12-31 10:00:00");
        assert_eq!(utc("Pacific/Pago_Pago", "2024-01-01 00:00:00"), "2024-01-01 11:00:00");
        assert_eq!(utc("UTC", "2024-01-01 00:00:00"), "2024-01-01 00:00:00");
    }

    #[test]
    fn a_time_that_does_not_occur_is_the_moment_of_the_change() {
        // Kyiv goes from 03:00 to 04:00 on 2024-03-31, at 01:00 UTC.
        assert_eq!(utc("Europe/Kyiv", "2024-03-31 02:59:59"), "2024-03-31 00:59:59");
        assert_eq!(utc("Europe/Kyiv", "2024-03-31 03:00:00"), "2024-03-31 01:00:00");
        assert_eq!(utc("Europe/Kyiv", "2024-03-31 03:37:00"), "2024-03-31 01:00:00");
        assert_eq!(utc("Europe/Kyiv", "2024-03-31 04:00:00"), "2024-03-31 01:00:00");
        assert_eq!(utc("Europe/Kyiv", "2024-03-31 04:01:00"), "2024-03-31 01:01:00");
    }

    #[test]
    fn a_time_that_occurs_twice_is_its_first_occurrence() {
        // Kyiv goes from 04:00 back to 03:00 on 2024-10-27, at 01:00 UTC.
        assert_eq!(utc("Europe/Kyiv", "2024-10-27 02:59:00"), "2024-10-26 23:59:00");
        assert_eq!(utc("Europe/Kyiv", "2024-10-27 03:00:00"), "2024-10-27 00:00:00");
        assert_eq!(utc("Europe/Kyiv", "2024-10-27 03:57:30"), "2024-10-27 00:57:30");
        assert_eq!(utc("Europe/Kyiv", "2024-10-27 04:00:00"), "2024-10-27 02:00:00");
    }

    #[test]
    fn text_that_is_no_time_is_refused() {
        let clock = LocalClock::new("Europe/Kyiv").unwrap();
        for bad in ["", "2024-02-30 10:00:00", "2024-03-01", "2024-03-01 25:00:00", "+262142-12-31 23:59:59", "0001-01-01 00:00:00"] {
            assert!(clock.read(bad, "%Y-%m-%d %H:%M:%S").is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn an_unknown_zone_is_refused() {
        assert!(LocalClock::new("Europe/Vinnytsia").unwrap_err().contains("Europe/Vinnytsia"));
    }
}
