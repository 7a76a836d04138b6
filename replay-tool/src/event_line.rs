//! One event as a line: for people, and as JSON; and the ends of ranges on the command line.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};
use domain::envelope::RecordedEvent;
use projections::{
    masking,
    search::{StreamName, position_before},
};
use serde_json::{Value, json};
use sqlx::PgPool;

/// An event as JSON: ids in their public form, payload and meta as JSON where they are, tokens of cards masked, personal data as
/// ciphertext in hex.
pub fn value(event: &RecordedEvent) -> Value {
    let json_or_hex = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_else(|_| json!({"not_json_hex": hex::encode(bytes)}));
    json!({
        "position": event.pos,
        "tenant": event.stream.tenant,
        "stream": StreamName::of(&event.stream).to_string(),
        "stream_type": event.stream.stream_type.as_str(),
        "version": event.version,
        "type": event.event_type,
        "schema_version": event.schema_version,
        "slice": event.slice,
        "occurred_at": time(event.occurred_at),
        "recorded_at": time(event.recorded_at),
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "actor": event.actor,
        "meta": json_or_hex(&event.meta),
        "payload": masking::payload_json(event),
        "pii": event.pii.as_ref().map(hex::encode),
        "hash": hex::encode(event.hash),
    })
}

/// An event as text; its payload as it is stored, but for tokens of cards.
pub fn text(event: &RecordedEvent) -> String {
    format!(
        "{:>9}  {}  {} v{}  {}  by {}\n           {}",
        event.pos,
        time(event.recorded_at),
        StreamName::of(&event.stream),
        event.version,
        event.event_type,
        event.actor,
        masking::payload_text(event)
    )
}

/// Microseconds, always six digits, so that columns stand under each other.
pub fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// One end of a range: a position, or a time (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Inclusive, at both ends.
    Position(i64),
    /// By `recorded_at`; inclusive as the beginning, exclusive as the end.
    Time(DateTime<Utc>),
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(position) = text.parse::<i64>() {
            return if position > 0 { Ok(Self::Position(position)) } else { Err("positions begin at 1".to_owned()) };
        }
        moment(text)
            .map(Self::Time)
            .map_err(|_| "neither a position, nor a date (2026-05-01), nor a time (2026-05-01T10:00:00Z)".to_owned())
    }
}

/// A time, or the beginning of a day (UTC).
///
/// # Errors
/// What it should be.
pub fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let day = || text.parse::<NaiveDate>().map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.with_timezone(&Utc)).or_else(|_| day());
    time.map_err(|_| "neither a date (2026-05-01) nor a time (2026-05-01T10:00:00Z)".to_owned())
}

/// The positions of a range: after the first, up to and including the second.
///
/// # Errors
/// The database fails.
pub async fn positions(pool: &PgPool, from: Option<Bound>, to: Option<Bound>) -> Result<(i64, Option<i64>), projections::Error> {
    let after = match from {
        None => 0,
        Some(Bound::Position(position)) => position - 1,
        Some(Bound::Time(time)) => position_before(pool, time).await?,
    };
    let until = match to {
        None => None,
        Some(Bound::Position(position)) => Some(position),
        Some(Bound::Time(time)) => Some(position_before(pool, time).await?),
    };
    Ok((after, until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_position_or_a_time() {
        assert_eq!("17".parse(), Ok(Bound::Position(17)));
        assert_eq!("2026-05-01".parse::<Bound>(), "2026-05-01T07:00:00+07:00".parse());
        for bad in ["0", "-3", "yesterday", "2026-13-01", "", "99999999999999999999"] {
            assert!(bad.parse::<Bound>().is_err(), "{bad}");
        }
    }
}
