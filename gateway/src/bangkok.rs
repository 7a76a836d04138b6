//! The banks' wall clock: Bangkok, seven hours ahead of UTC, without summer time.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, TimeDelta, Utc};

use crate::moment::believable;

/// Bangkok has no summer time.
const BANGKOK: FixedOffset = match FixedOffset::east_opt(7 * 3600) {
    Some(offset) => offset,
    None => panic!("seven hours are a valid offset"),
};

/// The day in Bangkok, by which the banks keep their books.
pub fn bangkok_date(at: DateTime<Utc>) -> NaiveDate {
    at.with_timezone(&BANGKOK).date_naive()
}

/// `2019-07-16T11:30:58.000+07:00`.
pub fn bangkok_text(at: DateTime<Utc>) -> String {
    at.with_timezone(&BANGKOK).format("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

/// ISO 8601; without an offset the bank means its own wall clock.
///
/// # Errors
/// What is wrong with the text, without the text.
pub fn read_bangkok(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return believable(at.with_timezone(&Utc));
    }
    NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .ok()
        .and_then(|local| local.and_utc().checked_sub_signed(TimeDelta::hours(7)))
        .ok_or_else(|| "a time that is not ISO 8601".to_owned())
        .and_then(believable)
}
