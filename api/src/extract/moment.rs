//! Moments in bodies and parameters.

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::auth::signature::MAX_SKEW_SECONDS;

/// A moment such as `2026-11-24T09:30:00+07:00`, in UTC. As with days, ISO 8601 knows some of years that no database holds; they are no
/// moments here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub DateTime<Utc>);

impl Moment {
    /// A time that was read otherwise, if it is a moment.
    pub fn of(at: DateTime<Utc>) -> Option<Self> {
        (1..=9_999).contains(&at.year()).then_some(Self(at))
    }

    /// Whether it has come, by a clock that is as far off as that of a signed request may be.
    pub fn has_come(self, now: DateTime<Utc>) -> bool {
        self.0 <= now + TimeDelta::seconds(MAX_SKEW_SECONDS)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(DateTime::<Utc>::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("the year must have four digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_a_year_of_four_digits_in_utc() {
        let moment = |text: &str| serde_json::from_value::<Moment>(text.into());
        let noon = "2026-11-24T05:00:00Z".parse::<DateTime<Utc>>().unwrap();
        assert_eq!(moment("2026-11-24T12:00:00+07:00").unwrap(), Moment(noon));
        assert!(moment("0001-01-01T00:00:00Z").is_ok() && moment("9999-12-31T23:59:59.999Z").is_ok());
        for bad in [
            "-0001-01-01T00:00:00Z",
            "-9999-01-01T00:00:00Z",
            "0000-12-31T23:59:59Z",
            "0001-01-01T00:00:00+07:00",
            "9999-12-31T23:59:59-07:00",
            "+10000-01-01T00:00:00Z",
            "+262142-12-31T00:00:00Z",
            "2026-11-24",
            "2026-11-24T12:00:00",
            "yesterday",
            "",
        ] {
            assert!(moment(bad).is_err(), "{bad} is a moment");
        }
    }

    #[test]
    fn a_moment_may_be_as_far_ahead_as_clocks_differ() {
        let now = "2026-11-24T05:00:00Z".parse::<DateTime<Utc>>().unwrap();
        let ahead = |seconds: i64| Moment(now + TimeDelta::seconds(seconds)).has_come(now);
        assert!(ahead(-86_400) && ahead(0) && ahead(300));
        assert!(!ahead(301));
    }
}
