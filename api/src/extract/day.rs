//! Calendar days in parameters.

use chrono::{Datelike as _, NaiveDate};
use serde::{Deserialize, Deserializer, de::Error as _};

/// A day such as `2026-11-24`. ISO 8601 also has years of six digits and years before our era, which no database holds; they are no
/// days here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day(pub NaiveDate);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let day = NaiveDate::deserialize(deserializer)?;
        if (1..=9_999).contains(&day.year()) { Ok(Self(day)) } else { Err(D::Error::custom("the year must have four digits")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_a_year_of_four_digits() {
        let day = |text: &str| serde_json::from_value::<Day>(text.into());
        assert_eq!(day("2026-11-24").unwrap(), Day(NaiveDate::from_ymd_opt(2026, 11, 24).unwrap()));
        assert!(day("0001-01-01").is_ok() && day("9999-12-31").is_ok());
        for bad in ["-262143-01-01", "+262142-12-31", "0000-01-01", "-0001-01-01", "2026-02-30", "yesterday", ""] {
            assert!(day(bad).is_err(), "{bad} is a day");
        }
    }
}
