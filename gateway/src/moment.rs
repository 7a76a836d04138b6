//! Times on the wire, as far as they can be believed.

use chrono::{DateTime, Datelike as _, Utc};

/// A time that a provider can mean. ISO 8601 has years of six digits and years before our era: they can be written into the log,
/// and no reader that keeps times in PostgreSQL gets past them.
///
/// # Errors
/// What is wrong with it.
pub fn believable(at: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    if (1970..=9_999).contains(&at.year()) { Ok(at) } else { Err("a time out of range".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_that_no_clock_shows_are_not_believed() {
        let at = |text: &str| believable(text.parse().unwrap()).is_ok();
        assert!(at("1970-01-01T00:00:00Z") && at("2026-11-24T10:00:00Z") && at("9999-12-31T23:59:59Z"));
        assert!(!at("1969-12-31T23:59:59Z") && !at("+10000-01-01T00:00:00Z"));
        assert!(!at("+262142-12-31T23:59:59Z") && !at("-262143-01-01T00:00:00Z"));
    }
}
